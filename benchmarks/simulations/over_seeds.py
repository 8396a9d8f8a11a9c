"""Means over seeds, the smallest detectable difference, and the slope of gain on loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lacewing.metrics import Estimate, Floats, detectable, mean_over_seeds
from lacewing.tradeoff import PAPER_BAND, PAPER_SLOPE, Pair, Slope, Units
from lacewing.tradeoff._slope import slope_of
from simulations.draws import drawn
from simulations.figures import COVERS, FALSE, MISSES, Figure, share, tidy

MEASURED_LOSS = 0.03  # mean relative loss from which the slope's median must be right to 3 %


@dataclass(frozen=True)
class Shape:
    """Networks of a study that we ship: the dense one first, then the pruned ones of the band."""

    name: str
    accuracy_J: tuple[float, ...]
    leak_J: tuple[float, ...]
    halves: bool = False
    leak_spread: float | None = None

    def with_slope(self, slope: float) -> Shape:
        """The same losses with gains of exactly ``slope`` times the loss, in every network."""
        first = self.leak_J[0]
        leaks = [first - (1 - first) * slope * (1 - a / self.accuracy_J[0]) for a in self.accuracy_J]
        return Shape(self.name, self.accuracy_J, tuple(leaks), self.halves, self.leak_spread)

    def truth(self) -> tuple[float, float]:
        """The true slope, and the true mean loss."""
        gain, loss = relative(np.array(self.accuracy_J), np.array(self.leak_J))
        return float(gain.mean() / loss.mean()), float(loss.mean())


PAPER_SHORT = Shape("paper-short", (0.753, 0.739, 0.719, 0.709, 0.684), (0.693, 0.660, 0.641, 0.611, 0.583))
DIGITS_HALVES = Shape("digits-halves", (0.9142, 0.9051), (0.5685, 0.5393), halves=True, leak_spread=0.0096)
PAPER = Shape("paper", (0.85, 0.845, 0.841, 0.836, 0.830, 0.822, 0.813, 0.803, 0.792), (0.62,) * 9)


def slopes(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """The slope's set, its verdict and its test against 3.6."""
    spreads = (0.006,) if quick else (0.003, 0.006, 0.012)
    cells = [
        (PAPER_SHORT.with_slope(slope), n, spread)
        for slope in (PAPER_SLOPE, 0.0)
        for n in (1000, 3000)
        for spread in spreads
    ]
    cells += [(shape, 808, 0.003) for shape in (DIGITS_HALVES, DIGITS_HALVES.with_slope(0))]
    cells += [(PAPER.with_slope(PAPER_SLOPE), 15_000, 0.006)]
    for shape, n, spread in cells:
        for seeds in seeds_of:
            yield from _slope(shape, n, spread, seeds, studies)


def _slope(shape: Shape, n: int, spread: float, seeds: int, studies: int) -> Iterator[Figure]:
    trained = 2 * seeds if shape.halves else seeds
    data = drawn(
        np.random.default_rng([1, n, seeds, round(1e4 * spread)]),
        (studies, trained),
        shape.accuracy_J,
        shape.leak_J,
        n=n,
        spread=spread,
        leak_spread=shape.leak_spread,
        pairs=shape.halves,
    )
    units = Units.of(range(trained), halves=shape.halves)
    found = [_published(acc, leak, units) for acc, leak in zip(data.accuracy_RSJ, data.leak_RSJ, strict=True)]
    truth, loss = shape.truth()
    kind = "cuts of two seeds, " if shape.halves else ""
    simulated = f"{shape.name}, {kind}true slope {truth:.2g}, mean loss {loss:.1%}, spread {tidy(spread)}"

    def figure(what: str, name: str, value: float, **more: object) -> Figure:
        return Figure(what, simulated, n, seeds, name, value, studies, **more)  # type: ignore[arg-type]

    inside, widths, unbounded = [], [], 0
    for one in found:
        ratio = one.ratio
        assert ratio is not None
        inside.append((ratio.low is None or ratio.low <= truth) and (ratio.high is None or truth <= ratio.high))
        if ratio.low is not None and ratio.high is not None:
            widths.append(ratio.high - ratio.low)
        else:
            unbounded += 1
    width = float(np.median(widths)) if widths else math.nan
    yield figure("slope", "covers (median width where bounded)", share(inside), wanted=COVERS, beside=width)
    yield figure("slope", "sets without a bound", unbounded / studies)
    least = [one.ratio.low for one in found if one.ratio and one.ratio.high is None and one.ratio.low is not None]
    yield figure("slope", "'at least' above the truth", math.fsum(e > truth for e in least) / studies, wanted=MISSES)
    if truth:
        values = np.array([one.ratio.value for one in found if one.ratio and one.ratio.value is not None])
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)) / truth
        error = 1.2533 * (high - low) / 1.349 / math.sqrt(len(values))
        wanted = (-0.03, 0.03) if loss >= MEASURED_LOSS else None
        yield figure("slope", "median bias, share of the slope", middle - 1, wanted=wanted, error=error)
    resolved = share([one.verdict == "slope resolved" for one in found])
    yield figure("slope resolved", "power" if truth else "false verdicts", resolved, wanted=None if truth else FALSE)
    if truth in (0, PAPER_SLOPE) or math.isclose(truth, PAPER_SLOPE):
        excluded = share([one.p_paper is not None and one.p_paper < 0.05 for one in found])
        null = truth != 0
        yield figure("3.6 excluded", "false verdicts" if null else "power", excluded, wanted=FALSE if null else None)


def _published(accuracy_SJ: Floats, leak_SJ: Floats, units: Units) -> Slope:
    gain_SJ, loss_SJ = relative(accuracy_SJ, leak_SJ)
    pairs = [
        Pair(f"imp-{j}", "imp", s, 0.1, float(loss), float(gain), True)
        for s, (losses, gains) in enumerate(zip(loss_SJ, gain_SJ, strict=True))
        for j, (loss, gain) in enumerate(zip(losses, gains, strict=True))
    ]
    a0 = units.interval({s: float(leak) for s, leak in enumerate(leak_SJ[:, 0])})
    return slope_of("imp", {pair.network for pair in pairs}, pairs, None, a0, units, PAPER_BAND)


def relative(accuracy: Floats, leak: Floats) -> tuple[Floats, Floats]:
    """Relative gain in defence and relative loss in accuracy against the first recipe of the last axis."""
    gain = (leak[..., :1] - leak[..., 1:]) / (1 - leak[..., :1])
    return gain, 1 - accuracy[..., 1:] / accuracy[..., :1]


def means(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """A0, and with it each point's accuracy, loss, gain and density: a mean over seeds."""
    cells = [(PAPER_SHORT, n, 0.006) for n in (1000, 3000)] + [(DIGITS_HALVES, 808, 0.003)]
    for shape, n, spread in cells:
        for seeds in seeds_of:
            trained = 2 * seeds if shape.halves else seeds
            data = drawn(
                np.random.default_rng([2, n, seeds]),
                (studies, trained),
                shape.accuracy_J,
                shape.leak_J,
                n=n,
                spread=spread,
                leak_spread=shape.leak_spread,
                pairs=shape.halves,
            )
            units = Units.of(range(trained), halves=shape.halves)
            found = [units.interval(dict(enumerate(map(float, leaks)))) for leaks in data.leak_RSJ[:, :, 0]]
            kind = ", cuts of two seeds" if shape.halves else ""
            yield _covered("A0 and points, mean over seeds", f"{shape.name}{kind}", n, seeds, found, shape.leak_J[0])


def _covered(what: str, simulated: str, n: int, seeds: int, found: list[Estimate | None], truth: float) -> Figure:
    known = [e for e in found if e is not None]
    inside = share([e.low <= truth <= e.high for e in known])
    width = float(np.median([e.high - e.low for e in known]))
    return Figure(what, simulated, n, seeds, "covers (median width)", inside, len(known), COVERS, width)


def powers(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """The t test over seeds finds a true difference of the printed size in four of five studies."""
    sd, n = 0.01, 1000
    for seeds in seeds_of:
        difference = detectable(sd, seeds).difference
        values_RS = difference + sd * np.random.default_rng([3, seeds]).standard_normal((studies, seeds))
        tested = [mean_over_seeds(values) for values in values_RS]
        found = share([e is not None and e.low > 0 for e in tested])
        what, simulated = "smallest detectable difference", f"true difference of that size, sd {tidy(sd)} over seeds"
        yield Figure(what, simulated, n, seeds, "power (that size)", found, studies, (0.78, 0.82), difference)
