"""The slope of gain on loss: mean gain over mean loss, with Fieller's set over seeds.

Least squares through the origin takes the loss as exact. The loss is noisy, so that this slope is biased toward zero,
and more seeds do not help (errors in variables). A ratio of means has no such bias.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lacewing.metrics import (
    Estimate,
    Floats,
    Ratio,
    Units,
    fieller,
    mean_over_seeds,
    p_of_mean,
    ratio_of_means,
    shared,
    spread,
)
from lacewing.tradeoff._draws import Draws
from lacewing.tradeoff._types import (
    NO_INTERVAL,
    NO_SPREAD,
    NOT_TESTED,
    PAPER_SLOPE,
    SHORT,
    Pair,
    Slope,
    Verdict,
    show_ratio,
)

_NORMAL = 1.959963984540054  # the .975 quantile


@dataclass(frozen=True)
class _Means:
    """Mean gain and loss of the same networks in each seed."""

    gain: Mapping[int, float]
    loss: Mapping[int, float]

    @classmethod
    def of(cls, pairs: Sequence[Pair], rows: Sequence[int]) -> _Means:
        by_seed: dict[int, list[Pair]] = {}
        for i in rows:
            by_seed.setdefault(pairs[i].seed, []).append(pairs[i])
        return cls(
            {s: math.fsum(p.relative_gain for p in of) / len(of) for s, of in by_seed.items()},
            {s: math.fsum(p.relative_loss for p in of) / len(of) for s, of in by_seed.items()},
        )

    def ratio(self, seed: int) -> float | None:
        """The slope of one seed, where it lost accuracy."""
        return self.gain[seed] / self.loss[seed] if self.loss[seed] > 0 else None


def slope_of(
    method: str,
    among: Collection[str],
    pairs: Sequence[Pair],
    draws: Draws | None,
    a0: Estimate | None,
    units: Units,
    band: tuple[float, float],
    *,
    finished: bool = True,
) -> Slope:
    """The slope of one method, or of "all", over the networks of the band that every seed has.

    Args:
        method: "all", or the method.
        among: names of the networks that it is over: those of the method, or every sparse one.
        pairs: every network beside the dense one of its seed.
        draws: bootstrap draws of the pairs over records, for studies with fewer than three seeds; None: none at hand.
        a0: the attack's balanced accuracy on the dense networks.
        units: the seeds that have a dense network.
        band: of densities.
        finished: whether every planned network was attacked; else nothing is tested.
    """
    rows, networks = _in_every_seed(pairs, among)
    means = _Means.of(pairs, rows)
    units = units.within(means.gain)
    by_seed = {s: means.ratio(s) for s in means.gain}
    if not rows or a0 is None:
        return _undefined(method, networks, by_seed, units, band)
    gains, losses = units.average(means.gain), units.average(means.loss)
    found = _measured(gains, losses, pairs, rows, draws, units)
    found, verdict, said = _judged(found, gains, losses, a0, units, finished=finished)
    sentence = f"{said} ({len(networks)} network{'s' * (len(networks) != 1)}, {units.text}; {found.interval})."
    beside, p_paper = None, None
    if verdict in ("no loss measured", "slope not resolved", "slope resolved"):
        beside, p_paper, said = _beside_paper(gains, losses, a0)
        sentence += said
    return Slope(
        method=method,
        **found._asdict(),
        beside_paper=beside,
        p_paper=p_paper,
        least_squares=_through_origin(pairs, among),
        by_seed=by_seed,
        networks=networks,
        seeds=len(units),
        verdict=verdict,
        sentence=sentence,
    )


def _undefined(
    method: str,
    networks: tuple[str, ...],
    by_seed: Mapping[int, float | None],
    units: Units,
    band: tuple[float, float],
) -> Slope:
    """What stands for a slope where no network of the band has a dense one of its seed."""
    sentence = (
        f"No seed has both a dense network and a sparse one with a density of {band[0]:.1%} to {band[1]:.1%}, the "
        "range in which the slope is measured."
    )
    return Slope(
        method, None, "", None, None, None, None, None, by_seed, networks, len(units), "no network in the band",
        sentence,
    )  # fmt: skip


class _Measured(NamedTuple):
    """A ratio with what its set is over, and both means behind it: fields of a `Slope`."""

    ratio: Ratio
    interval: str
    mean_loss: Estimate | None
    mean_gain: Estimate | None


def _measured(
    gains: Floats, losses: Floats, pairs: Sequence[Pair], rows: Sequence[int], draws: Draws | None, units: Units
) -> _Measured:
    if units.enough:
        ratio, over = ratio_of_means(gains, losses), f"Fieller's set over {units.text}"
        return _Measured(ratio, over, mean_over_seeds(losses), mean_over_seeds(gains))
    weights = units.rows([pairs[i].seed for i in rows])
    ratio, gain, loss = _over_records(gains, losses, rows, weights, draws)
    over = NO_INTERVAL if draws is None else "over records, the spread over seeds left out"
    return _Measured(ratio, over, loss, gain)


def _judged(
    found: _Measured, gains: Floats, losses: Floats, a0: Estimate, units: Units, *, finished: bool
) -> tuple[_Measured, Verdict, str]:
    """What the seeds allow to say of a ratio, and the ratio without a set where they allow none."""
    ratio = found.ratio
    verdict, said = _verdict(ratio, found.mean_loss, a0, units)
    same = ratio.value is not None and units.enough and not spread(gains - ratio.value * losses)
    if same and verdict != "no trade-off measurable":
        said = f"slope {ratio.value:.3g} in every {units.unit}, which leaves no spread to test"
        verdict, found = "slope not resolved", found._replace(ratio=Ratio(ratio.value, None, None), interval=NO_SPREAD)
    if not finished:
        so_far = "no slope yet" if ratio.value is None else f"slope {ratio.value:.3g} so far"
        verdict, said, found = "not finished", f"not finished: {so_far}", found._replace(interval=NOT_TESTED)
    return found, verdict, said


def _beside_paper(gains: Floats, losses: Floats, a0: Estimate) -> tuple[Estimate | None, float | None, str]:
    """gain - 3.6 loss with its p, and a sentence; the cap of the gain may put 3.6 out of reach."""
    cap = (a0.value - 0.5) / (1 - a0.value) if a0.value < 1 else math.inf
    if PAPER_SLOPE * float(losses.mean()) > cap:
        return (
            None,
            None,
            (
                f" The paper's {PAPER_SLOPE} cannot be reached here: even with no leak at all the relative gain is "
                f"{cap:.3g}."
            ),
        )
    apart = gains - PAPER_SLOPE * losses
    beside, p = mean_over_seeds(apart), p_of_mean(apart)
    if beside is None or p is None or not spread(apart):
        return None, None, ""
    said = f"do not exclude {PAPER_SLOPE} at the level of 5 %."
    if p < 0.05:
        side = "more" if beside.value > 0 else "less"
        said = f"exclude {PAPER_SLOPE} at the level of 5 %: the gain is {side} than {PAPER_SLOPE} times the loss."
    sentence = (
        f" Compared with the paper's slope of {PAPER_SLOPE}, at which gain - {PAPER_SLOPE} x loss is 0: it is "
        f"{beside.text(SHORT)}, p = {p:.2g}, so these results {said}"
    )
    return beside, p, sentence


def _in_every_seed(pairs: Sequence[Pair], among: Collection[str]) -> tuple[list[int], tuple[str, ...]]:
    """Rows of the networks in the band that every seed with such a network has, and their names."""
    seeds_of: dict[str, set[int]] = {}
    for p in pairs:
        if p.in_band and p.network in among:
            seeds_of.setdefault(p.network, set()).add(p.seed)
    everywhere = set().union(*seeds_of.values())
    names = tuple(name for name, seeds in seeds_of.items() if seeds == everywhere)
    if not names and seeds_of:  # an unfinished study: the networks of most seeds, over the seeds that have all of them
        most = max(len(seeds) for seeds in seeds_of.values())
        names = tuple(name for name, seeds in seeds_of.items() if len(seeds) == most)
    kept = set(shared([seeds_of[name] for name in names]))
    return [i for i, p in enumerate(pairs) if p.network in names and p.seed in kept and p.in_band], names


def _over_records(
    gains: Floats, losses: Floats, rows: Sequence[int], weights: Floats, draws: Draws | None
) -> tuple[Ratio, Estimate | None, Estimate | None]:
    """The ratio with Fieller's set, and both means, by the covariance of bootstrap draws over the records."""
    gain, loss = float(gains.mean()), float(losses.mean())
    value = gain / loss if loss > 0 else None
    if draws is None:
        return Ratio(value, None, None), None, None
    drawn_2B = np.stack([draws.gain_BP[:, rows] @ weights, draws.loss_BP[:, rows] @ weights])
    drawn_2B = drawn_2B[:, np.isfinite(drawn_2B).all(axis=0)]
    ends = np.quantile(drawn_2B, (0.025, 0.975), axis=1)
    both = [Estimate(v, float(low), float(high)) for v, low, high in zip((gain, loss), *ends, strict=True)]
    return fieller(gain, loss, np.cov(drawn_2B), critical=_NORMAL), both[0], both[1]


def _verdict(ratio: Ratio, mean_loss: Estimate | None, a0: Estimate, units: Units) -> tuple[Verdict, str]:
    if not a0.low > 0.5:
        return (
            "no trade-off measurable",
            f"no trade-off measurable: the attack's accuracy on the dense network, {a0.text(SHORT)}, may be 1/2, as by "
            "guessing",
        )
    if not units.enough:
        shown = "no slope, since no accuracy is lost" if ratio.value is None else f"slope {ratio.value:.3g}"
        ends = f" [{show_ratio(ratio).partition('[')[2]}" if mean_loss is not None and ratio.value is not None else ""
        return "fewer than three seeds", f"{shown}{ends}, without a verdict: fewer than three {units.unit}s"
    if mean_loss is not None and mean_loss.high < 0:
        return (
            "no loss measured",
            f"no loss in accuracy measured: accuracy rose (the mean relative loss is {mean_loss.text(SHORT)}), so "
            "there is no slope, gain divided by loss",
        )
    if not ratio.bounded:
        loss = "" if mean_loss is None else f": the mean relative loss, {mean_loss.text(SHORT)}, may be 0"
        least = "has no bound" if ratio.low is None else f"is at least {ratio.low:.3g} and has no upper bound"
        return "no loss measured", f"no loss in accuracy measured{loss}, so the slope, gain divided by loss, {least}"
    assert ratio.low is not None  # of a bounded set
    assert ratio.high is not None
    if ratio.low <= 0 <= ratio.high:
        return "slope not resolved", f"slope not resolved: {show_ratio(ratio)} includes 0, which is no gain"
    return "slope resolved", f"slope {show_ratio(ratio)}"


def _through_origin(pairs: Sequence[Pair], among: Collection[str]) -> float | None:
    used = [p for p in pairs if p.in_band and p.network in among]
    square = math.fsum(p.relative_loss**2 for p in used)
    return math.fsum(p.relative_loss * p.relative_gain for p in used) / square if square > 0 else None
