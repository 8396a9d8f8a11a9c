"""Intervals over the records of one network: AUC, balanced accuracy, TPR at an FPR; and two networks side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from lacewing import metrics
from lacewing.metrics import Bools, Estimate, Floats, Metric
from simulations.figures import COVERS, EXACT, MISSES, Figure, share, tidy

SIZES = (1000, 3000)
Values = npt.NDArray[Any]  # scores, or decisions


@dataclass(frozen=True)
class Scores:
    """Scores of members, ``shift`` above those of non-members, both normal; what a network does to them.

    Rounded scores are equal in places, saturated ones (probabilities of 1) equal at the top.
    """

    name: str
    shift: float
    step: float = 0.0  # scores are rounded to multiples of it
    top: float = math.inf  # and cut off here

    def draw(self, rng: np.random.Generator, member_N: Bools) -> Floats:
        """One score a record."""
        scores = rng.standard_normal(len(member_N)) + self.shift * member_N
        if self.step:
            scores = self.step * np.round(scores / self.step)
        return np.minimum(scores, self.top)

    def tpr(self, fpr: float) -> float:
        """The largest share of members above a threshold that at most a share ``fpr`` of non-members reaches."""
        threshold = float(-ndtri(fpr))
        if self.step:  # a score of k steps or more comes from k - 1/2 steps on
            threshold = (math.ceil(threshold / self.step - 0.5) + 0.5) * self.step
        if threshold > self.top - self.step / 2:
            return 0.0
        return float(ndtr(self.shift - threshold))

    def auc(self) -> float:
        """Of scores without ties."""
        return float(ndtr(self.shift / math.sqrt(2)))


NORMAL = (Scores("no leak", 0.0), Scores("members 1 sd higher", 1.0), Scores("members 2 sd higher", 2.0))
EQUAL = (Scores("members 1 sd higher, equal scores", 1.0, step=0.1), Scores("saturated scores", 1.5, top=2.2))


def one_network(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """AUC, balanced accuracy and TPR at an FPR with their intervals over records."""
    for n in (808, *SIZES):
        for scores in (*NORMAL, Scores("members 3.3 sd higher", 3.3)):
            yield from _single("AUC", scores.name, n, studies, scores.draw, metrics.auc, scores.auc(), COVERS)
    for n in (808, *SIZES):
        for tpr, tnr in ((0.5, 0.5), (0.69, 0.69), (0.95, 0.4), (0.99, 0.3), (0.97, 0.97)):
            draw = _decisions(tpr, tnr)
            name = f"TPR {tidy(tpr)}, TNR {tidy(tnr)}"
            yield from _single(
                "balanced accuracy", name, n, studies, draw, metrics.balanced_accuracy, (tpr + tnr) / 2, COVERS
            )
    for fpr in (0.01, 0.001):
        what = f"TPR at FPR {tidy(fpr)}"
        for n in SIZES:
            for scores in (*NORMAL, *EQUAL):
                of = _tpr(fpr, "valid")
                yield from _single(what, scores.name, n, studies, scores.draw, of, scores.tpr(fpr), EXACT, low=True)
        for n in SIZES if fpr == 0.01 else (10_000,):
            for scores in NORMAL:
                of = _tpr(fpr, "narrow")
                name = f"{what}, narrow form"
                yield from _single(name, scores.name, n, studies, scores.draw, of, scores.tpr(fpr), COVERS, low=True)


def _tpr(fpr: float, form: Literal["valid", "narrow"]) -> Callable[[Values, Bools], Estimate]:
    return lambda scores, member: metrics.tpr_at_fpr(scores, member, fpr, form=form)


def _decisions(tpr: float, tnr: float) -> Callable[[np.random.Generator, Bools], Bools]:
    return lambda rng, member: rng.random(len(member)) < np.where(member, tpr, 1 - tnr)


def _single(
    what: str,
    simulated: str,
    n: int,
    studies: int,
    draw: Callable[[np.random.Generator, Bools], Values],
    of: Callable[[Values, Bools], Estimate],
    truth: float,
    wanted: tuple[float, float],
    *,
    low: bool = False,
) -> Iterator[Figure]:
    rng = np.random.default_rng([4, n, *f"{what}{simulated}".encode()])
    member = np.arange(2 * n) < n
    found = [of(draw(rng, member), member) for _ in range(studies)]
    inside = share([e.low <= truth <= e.high for e in found])
    width = float(np.median([e.high - e.low for e in found]))
    yield Figure(what, simulated, n, 1, "covers (median width)", inside, studies, wanted, width)
    if low:
        missed = share([e.low > truth for e in found])
        yield Figure(what, simulated, n, 1, "lower end above the truth", missed, studies, MISSES)


def two_networks(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """`metrics.paired`: the same records, two recipes, seeds whose leaks wobble."""
    alike, apart = (0.9, 0.9), (0.9, 0.6)
    every = (2, 3) if quick else (2, 3, 5, 8, 16)
    cells: tuple[tuple[Metric, int, tuple[float, float], tuple[int, ...]], ...] = (
        ("auc", 1000, alike, every),
        ("auc", 1000, apart, () if quick else (2, 3, 8)),
        ("auc", 3000, alike, () if quick else (3, 8)),
        ("balanced_accuracy", 1000, alike, every),
        ("balanced_accuracy", 1000, apart, every),
        ("balanced_accuracy", 3000, alike, (3,) if quick else (3, 8)),
        ("tpr_at_fpr", 1000, alike, (3,) if quick else (2, 3, 8)),
    )
    for metric, n, shifts, of in cells:
        for seeds in of:
            yield _paired(metric, n, seeds, shifts, studies)


def _paired(metric: Metric, n: int, seeds: int, shifts: tuple[float, float], studies: int) -> Figure:
    """Members' shift of a seed is normal about each of ``shifts``; half of a score's noise is the record's own."""
    wobble, threshold = 0.05, 0.45
    rng = np.random.default_rng([5, n, seeds, *metric.encode(), round(10 * shifts[1])])
    member = np.arange(2 * n) < n
    spread = math.sqrt(1 + wobble**2)
    means = {
        "auc": [ndtr(shift / math.sqrt(2 + wobble**2)) for shift in shifts],
        "balanced_accuracy": [(ndtr((shift - threshold) / spread) + ndtr(threshold)) / 2 for shift in shifts],
        "tpr_at_fpr": [ndtr((shift + ndtri(0.01)) / spread) for shift in shifts],
    }
    truth = float(means[metric][0] - means[metric][1])
    found = []
    for _ in range(studies):
        sides: tuple[list[Values], list[Values]] = ([], [])
        for _ in range(seeds):
            record = rng.standard_normal(2 * n)
            for side, shift in zip(sides, shifts, strict=True):
                own = rng.standard_normal(2 * n)
                scores = math.sqrt(0.5) * (record + own) + (shift + wobble * rng.standard_normal()) * member
                side.append(scores > threshold if metric == "balanced_accuracy" else scores)
        found.append(metrics.paired(*sides, [member] * seeds, metric).difference)
    inside = share([e.low <= truth <= e.high for e in found])
    width = float(np.median([e.high - e.low for e in found]))
    what = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "tpr_at_fpr": "TPR at FPR .01"}[metric]
    simulated = (
        "two recipes that leak alike" if shifts[0] == shifts[1] else f"two recipes, {tidy(round(truth, 2))} apart"
    )
    return Figure(
        f"paired difference, {what}", simulated, n, seeds, "covers (median width)", inside, studies, COVERS, width
    )
