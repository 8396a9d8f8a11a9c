"""The difference in leak of two families of recipes at equal accuracy: one fit over all recipes, averaged over seeds.

Pure functions on arrays. S seeds (or cuts, where seeds share one), J recipes of both families. Comparing noisy points
one by one, or the least of many noisy points, finds differences where there are none; so does a curve that is fitted to
each seed's own noisy accuracies. Averaging recipes over seeds first and a jackknife over seeds do not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Bools, Estimate, Floats

CALIPER = 0.02  # in accuracy: how near the other family's recipes must lie on either side
_LEVEL = 0.975  # of the quantile of both 95 % intervals


class Shape(NamedTuple):
    """The difference by one shape of the common curve: estimate and standard error of S - 1 degrees."""

    delta: float
    error: float


class Equal(NamedTuple):
    """The difference in leak, first family - second, at equal accuracy, from both shapes of the curve."""

    estimate: Estimate  # the quadratic's difference with the hull of both 95 % intervals
    p: float  # two-sided: below 0.05 where the hull leaves out 0
    p_less: float  # one-sided that the first family leaks less, the larger of both shapes
    p_more: float  # the same that it leaks more
    sd: float  # of the jackknife's pseudo-values over seeds, the larger of both shapes


class Kept(NamedTuple):
    """Which recipes enter the fit."""

    kept_J: Bools
    bracketed: int
    enough: bool  # whether they make a fit


def common(accuracy_J: Floats, first_J: Bools, caliper: float = CALIPER) -> Kept:
    """The recipes of both families in their common range of accuracy.

    A recipe is bracketed if the other family has one at most ``caliper`` below it and one at most ``caliper`` above it;
    an equal one is both. Kept are bracketed recipes and those of the other family within ``caliper`` of one. Two must
    be bracketed, two kept in each family and six in all.

    Args:
        accuracy_J: accuracies that decide, means over seeds: of shadow networks where there are some, else of targets.
        first_J: whether a recipe is of the first family.
        caliper: in units of accuracy.
    """
    gap_JJ = accuracy_J[None, :] - accuracy_J[:, None]  # the other minus this one
    other_JJ = first_J[None, :] != first_J[:, None]
    slack = caliper + 1e-12
    below = (other_JJ & (gap_JJ <= 0) & (gap_JJ >= -slack)).any(axis=1)
    above = (other_JJ & (gap_JJ >= 0) & (gap_JJ <= slack)).any(axis=1)
    bracketed = below & above
    near = (other_JJ & (np.abs(gap_JJ) <= slack) & bracketed[None, :]).any(axis=1)
    kept = bracketed | near
    enough = bracketed.sum() >= 2 and min(kept[first_J].sum(), kept[~first_J].sum()) >= 2 and kept.sum() >= 6
    return Kept(kept, int(bracketed.sum()), bool(enough))


def difference(accuracy_SJ: Floats, leak_SJ: Floats, first_J: Bools) -> Equal | str:
    """The difference in leak, first family - second, at equal accuracy; a sentence where it cannot be had.

    leak = curve(accuracy) + delta [first family], least squares over recipes averaged over seeds, once with a
    quadratic and once with a line broken at thirds of the range. The standard error is the jackknife's over seeds, with
    the same recipes throughout; the interval Student's t with S - 1 degrees.

    Args:
        accuracy_SJ: of the kept recipes, one row a seed.
        leak_SJ: the same for the attack's metric.
        first_J: whether a recipe is of the first family.
    """
    from scipy.special import stdtr, stdtrit

    seeds = len(accuracy_SJ)
    if seeds < 2:
        return "one seed leaves no spread over seeds"
    shapes = [_jackknife(accuracy_SJ, leak_SJ, first_J, knots) for knots in (False, True)]
    if any(shape is None for shape in shapes):
        return "the accuracies of the kept recipes do not determine a curve"
    found = [shape for shape in shapes if shape is not None]
    if min(shape.error for shape in found) <= 1e-9 * float(np.abs(leak_SJ).max()):
        return "the seeds do not differ, which leaves no spread to test"
    quantile = float(stdtrit(seeds - 1, _LEVEL))
    low = min(shape.delta - quantile * shape.error for shape in found)
    high = max(shape.delta + quantile * shape.error for shape in found)
    t = [shape.delta / shape.error for shape in found]
    p_less, p_more = (max(float(stdtr(seeds - 1, sign * each)) for each in t) for sign in (1, -1))
    sd = max(shape.error for shape in found) * math.sqrt(seeds)
    return Equal(Estimate(found[0].delta, low, high), min(1.0, 2 * min(p_less, p_more)), p_less, p_more, sd)


def _jackknife(accuracy_SJ: Floats, leak_SJ: Floats, first_J: Bools, knots: bool) -> Shape | None:
    """delta and its standard error over seeds; None where a fit has no unique solution."""
    seeds = len(accuracy_SJ)
    whole = _shift(accuracy_SJ.mean(axis=0), leak_SJ.mean(axis=0), first_J, knots)
    total_J, leaks_J = accuracy_SJ.sum(axis=0), leak_SJ.sum(axis=0)
    without = [
        _shift((total_J - accuracy_SJ[s]) / (seeds - 1), (leaks_J - leak_SJ[s]) / (seeds - 1), first_J, knots)
        for s in range(seeds)
    ]
    if whole is None or any(each is None for each in without):
        return None
    left_out = np.array(without, np.float64)
    error = math.sqrt((seeds - 1) / seeds * float(((left_out - left_out.mean()) ** 2).sum()))
    return Shape(whole, error)


def _shift(accuracy_J: Floats, leak_J: Floats, first_J: npt.NDArray[np.bool_], knots: bool) -> float | None:
    span = float(np.ptp(accuracy_J))
    if span <= 0:
        return None
    u = (accuracy_J - accuracy_J.min()) / span
    bends = [np.maximum(u - 1 / 3, 0), np.maximum(u - 2 / 3, 0)] if knots else [u * u]
    columns = np.stack([np.ones_like(u), u, *bends, first_J.astype(np.float64)], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(columns, leak_J, rcond=1e-9)
    return float(solution[-1]) if rank == columns.shape[1] else None
