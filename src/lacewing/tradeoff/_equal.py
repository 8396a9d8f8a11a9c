"""The difference in leak of two families of recipes at equal accuracy: one fit over all recipes, averaged over seeds.

Pure functions on arrays. S seeds (or cuts, where seeds share one), J recipes of both families. Comparing noisy points
one by one, or the least of many noisy points, finds differences where there are none; so does a curve that is fitted to
each seed's own noisy accuracies. Averaging recipes over seeds first and a jackknife over seeds do not.

Where accuracy saturates, or falls again while the leak rises on (longer and longer training), leak is no function of
accuracy: the fit then finds differences between two samples of one family. So it is asked whether the curve fits; where
it may not, accuracy has to differ at equal leak too, by lines between neighbouring recipes, which follow any bend.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Bools, Estimate, Floats

Direction = Literal["leak", "both", "neither"]

CALIPER = 0.02  # in accuracy: how near the other family's recipes must lie on either side
_LEVEL = 0.975  # of the quantile of both 95 % intervals
# p of the lack of fit from which a direction counts as a function. Leak over accuracy has to fit as well as the best
# fifth of true curves do: a fold that noise hides makes false differences. The other direction only backs these up.
_LEAK_FITS, _ACCURACY_FITS = 0.8, 0.05
_EXTRAPOLATED = 2.0  # times p, where families without a common leak are compared by a curve alone (docs/statistics.md)


class Shape(NamedTuple):
    """The difference by one shape of the common curve: estimate and standard error of S - 1 degrees."""

    delta: float
    error: float
    fit: float  # p of the lack of fit; 0 where as many coefficients as recipes leave nothing to see it by


class Equal(NamedTuple):
    """The difference in leak, first family - second, at equal accuracy, from both shapes of the curve."""

    estimate: Estimate  # the quadratic's difference with the hull of both 95 % intervals, see `direction`
    p: float  # two-sided: below 0.05 where the hull leaves out 0
    p_less: float  # one-sided that the first family leaks less, the largest of what was tested
    p_more: float  # the same that it leaks more
    # "leak": leak is a function of accuracy. "both": it may not be, and accuracy at equal leak was tested too.
    # "neither": it may not be, and accuracy is no function of leak: every p is 1. In the last two the hull reaches
    # to 0 where p does not leave it out.
    direction: Direction
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

    A shape fits if the residuals of the averaged recipes are no larger than the jackknife's error of them: F = (sum of
    squared residuals) / (sum of their variances) with J - c and (J - c)(S - 1) degrees, c coefficients. Where neither
    shape fits with p of 0.8, the accuracies at equal leak are compared too, see `_at_equal_leak`, and each one-sided p
    is the larger of both directions: leaking less is being more accurate at equal leak. Where the leaks of the families
    do not overlap, accuracy = curve(leak) + delta' [first family] is fitted instead and p doubled; where neither of its
    shapes fits with p of 0.05, nothing is established.

    Args:
        accuracy_SJ: of the kept recipes, one row a seed.
        leak_SJ: the same for the attack's metric.
        first_J: whether a recipe is of the first family.
    """
    from scipy.special import stdtr, stdtrit

    seeds = len(accuracy_SJ)
    if seeds < 2:
        return "one seed leaves no spread over seeds"
    found = _shapes(accuracy_SJ, leak_SJ, first_J)
    if found is None:
        return "the accuracies of the kept recipes do not determine a curve"
    if min(shape.error for shape in found) <= 1e-9 * float(np.abs(leak_SJ).max()):
        return "the seeds do not differ, which leaves no spread to test"
    quantile = float(stdtrit(seeds - 1, _LEVEL))
    low = min(shape.delta - quantile * shape.error for shape in found)
    high = max(shape.delta + quantile * shape.error for shape in found)
    t = [shape.delta / shape.error for shape in found]
    errors = [shape.error for shape in found]
    direction: Direction = "leak"
    times = 1.0
    if max(shape.fit for shape in found) < _LEAK_FITS:
        turned, times = _turned(accuracy_SJ, leak_SJ, first_J)
        direction = "both" if turned else "neither"
        t += [-delta / error for delta, error in turned]
        slope = _slope(leak_SJ.mean(axis=0), accuracy_SJ.mean(axis=0), first_J)
        errors += [error / slope for _, error in turned if slope > 0]
    p_less, p_more = (min(1.0, times * max(float(stdtr(seeds - 1, sign * each)) for each in t)) for sign in (1, -1))
    if direction == "neither":
        p_less = p_more = 1.0
    p = min(1.0, 2 * min(p_less, p_more))
    if direction != "leak" and p > 2 * (1 - _LEVEL):
        low, high = min(low, 0.0), max(high, 0.0)
    sd = max(errors) * math.sqrt(seeds)
    return Equal(Estimate(found[0].delta, low, high), p, p_less, p_more, direction, sd)


def _shapes(x_SJ: Floats, y_SJ: Floats, first_J: Bools, *, slopes: bool = False) -> list[Shape] | None:
    """y by the quadratic and by the broken line of x; None where one of them is not determined.

    With ``slopes`` the lack of fit is that of families with a slope each.
    """
    shapes = [_jackknife(x_SJ, y_SJ, first_J, knots, slopes) for knots in (False, True)]
    known = [shape for shape in shapes if shape is not None]
    return known if len(known) == len(shapes) else None


def _jackknife(x_SJ: Floats, y_SJ: Floats, first_J: Bools, knots: bool, slopes: bool) -> Shape | None:
    """delta, its standard error over seeds and the lack of fit; None where a fit has no unique solution."""
    fitted = _left_out(x_SJ, y_SJ, first_J, knots, slopes=False)
    if fitted is None:
        return None
    deltas, _ = fitted
    described = _left_out(x_SJ, y_SJ, first_J, knots, slopes=True) if slopes else fitted
    fit = _fit(described[1], 4 + knots + slopes) if described is not None else 0.0
    return Shape(float(deltas[0]), math.sqrt(_variance(deltas)), fit)


def _left_out(x_SJ: Floats, y_SJ: Floats, first_J: Bools, knots: bool, *, slopes: bool) -> tuple[Floats, Floats] | None:
    """delta (1 + S,) and residuals (1 + S, J): of the mean over all seeds, then without each; None where not unique."""
    seeds, x_J, y_J = len(x_SJ), x_SJ.sum(axis=0), y_SJ.sum(axis=0)
    found = [_shift(x_J / seeds, y_J / seeds, first_J, knots, slopes)]
    found += [
        _shift((x_J - x_SJ[s]) / (seeds - 1), (y_J - y_SJ[s]) / (seeds - 1), first_J, knots, slopes)
        for s in range(seeds)
    ]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return None
    return np.array([delta for delta, _ in known]), np.stack([residual_J for _, residual_J in known])


def _turned(accuracy_SJ: Floats, leak_SJ: Floats, first_J: Bools) -> tuple[list[tuple[float, float]], float]:
    """Differences in accuracy at equal leak and their errors, and what p is multiplied by; none: it cannot be told."""
    lines = _at_equal_leak(accuracy_SJ, leak_SJ, first_J)
    if lines is not None:
        return lines, 1.0
    # The families may differ in slope: a constant difference in leak is no constant one in accuracy on a bend.
    shapes = _shapes(leak_SJ, accuracy_SJ, first_J, slopes=True)
    if shapes is None or max(s.fit for s in shapes) < _ACCURACY_FITS or min(s.error for s in shapes) <= 0:
        return [], 1.0
    return [(shape.delta, shape.error) for shape in shapes], _EXTRAPOLATED


def _at_equal_leak(accuracy_SJ: Floats, leak_SJ: Floats, first_J: Bools) -> list[tuple[float, float]] | None:
    """Accuracy at equal leak, first family - second, and its error; None where the families' leaks do not overlap.

    Two of them: the second family is interpolated linearly at the leaks of the first, and the other way round, each
    averaged over the recipes within the other family's range. The error is the jackknife's over seeds. Where the common
    curve bends one way, lines between its points lie on one side of it: one of the two differences is then too large
    and the other too small, so that both agree only where there is a difference, at corners too.
    """
    leaks, accuracies = _means(leak_SJ), _means(accuracy_SJ)
    found = []
    for of, sign in ((first_J, 1), (~first_J, -1)):
        other = leaks[0, ~of]
        inside = of & (leaks[0] >= other.min()) & (leaks[0] <= other.max())
        if not inside.any():
            return None
        differences = []
        for x_J, y_J in zip(leaks, accuracies, strict=True):
            order = np.argsort(x_J[~of])
            there = np.interp(x_J[inside], x_J[~of][order], y_J[~of][order])
            differences.append(sign * float((y_J[inside] - there).mean()))
        error = math.sqrt(_variance(np.array(differences)))
        if error <= 0:
            return None
        found.append((differences[0], error))
    return found


def _slope(leak_J: Floats, accuracy_J: Floats, first_J: Bools) -> float:
    """How much more accurate the recipes are per unit of leak, by a line with a step between the families."""
    columns = np.stack([leak_J, np.ones_like(leak_J), first_J.astype(np.float64)], axis=1)
    return float(np.linalg.lstsq(columns, accuracy_J, rcond=None)[0][0])


def _means(of_SJ: Floats) -> Floats:
    """(1 + S, J): over all seeds, then without each."""
    seeds, total_J = len(of_SJ), of_SJ.sum(axis=0)
    return np.concatenate([total_J[None] / seeds, (total_J - of_SJ) / (seeds - 1)])


def _variance(whole_and_without: Floats) -> float:
    """Of an estimate, by the jackknife; summed over columns."""
    without = whole_and_without[1:]
    seeds = len(without)
    return (seeds - 1) / seeds * float(((without - without.mean(axis=0)) ** 2).sum())


def _fit(residuals: Floats, coefficients: int) -> float:
    """p of the lack of fit."""
    from scipy.special import fdtrc

    seeds, left = len(residuals) - 1, residuals.shape[1] - coefficients
    noise = _variance(residuals)
    if left < 1 or noise <= 0:
        return 0.0
    return float(fdtrc(left, left * (seeds - 1), float((residuals[0] ** 2).sum()) / noise))


def _shift(
    x_J: Floats, y_J: Floats, first_J: npt.NDArray[np.bool_], knots: bool, slopes: bool
) -> tuple[float, Floats] | None:
    """delta, and the residuals."""
    span = float(np.ptp(x_J))
    if span <= 0:
        return None
    u = (x_J - x_J.min()) / span
    bends = [np.maximum(u - 1 / 3, 0), np.maximum(u - 2 / 3, 0)] if knots else [u * u]
    if slopes:
        bends.append(u * first_J)
    columns = np.stack([np.ones_like(u), u, *bends, first_J.astype(np.float64)], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(columns, y_J, rcond=1e-9)
    return (float(solution[-1]), y_J - columns @ solution) if rank == columns.shape[1] else None
