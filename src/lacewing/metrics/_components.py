"""Variance components: the spread between groups and within them, such as splits and initialisations on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError


class Components(NamedTuple):
    """What a one-way random-effects analysis of variance says of values in S groups."""

    mean: float  # over groups
    sd_between: float | None  # of the groups' true means; None: one group, or all share records
    sd_within: float | None  # of values about their group's mean; None: no group has two
    df_between: int  # independent groups - 1
    df_within: int  # values - S
    variance_between: float | None  # the estimate before it is cut at 0 for sd_between: means of it have no bias


def variance_components(values: Sequence[npt.ArrayLike], *, cut: Sequence[int] | None = None) -> Components:
    """The ANOVA (method of moments) estimator of the one-way random-effects model, groups of unequal size included.

    With S groups of n_i values, N in all, and mean squares MSB and MSW between and within them, the variance within is
    MSW and the variance between max(0, (MSB - MSW)/n0) with n0 = (N - sum n_i^2/N)/(S - 1) (Searle, Casella, McCulloch,
    Variance Components, 1992, section 3.6). Where no group has two values the spread between cannot be told from that
    within, and both are None.

    Groups of one cut are not independent. With ``cut`` the variance between is half the mean squared difference of two
    groups' means, over all pairs of groups of different cuts, minus MSW times the mean of 1/n_i. That has no bias
    whatever the correlation within a cut, equals the first estimate where each group is a cut of its own and all
    n_i are equal, and the degrees of freedom between are the number of cuts minus 1.

    Args:
        values: of each group, at least one.
        cut: of each group: which groups share one cut of the records; None: none do.

    Raises:
        UsageError: no group, an empty one, a value that is not finite, or cuts that are not one for each group.
    """
    groups = [np.asarray(group, np.float64) for group in values]
    if not groups or not all(group.ndim == 1 and group.size and np.isfinite(group).all() for group in groups):
        raise UsageError("values: give at least one group, and finite numbers in each.")
    if cut is not None and len(cut) != len(groups):
        raise UsageError(f"cut: give one number for each of the {len(groups)} groups; here are {len(cut)}.")
    sizes = np.array([group.size for group in groups], np.float64)
    means = np.array([group.mean() for group in groups])
    total, count = float(sizes.sum()), len(groups)
    df_between, df_within = (count if cut is None else len(set(cut))) - 1, int(total) - count
    if not df_within:
        return Components(float(means.mean()), None, None, df_between, df_within, None)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / df_within
    if not df_between:
        return Components(float(means.mean()), None, math.sqrt(within), df_between, df_within, None)
    if cut is None:
        grand = float((sizes * means).sum()) / total
        mean_square = float((sizes * (means - grand) ** 2).sum()) / df_between
        per_group = (total - float((sizes**2).sum()) / total) / df_between
        between = (mean_square - within) / per_group
    else:
        apart = np.not_equal.outer(np.asarray(cut), np.asarray(cut))
        between = float((np.subtract.outer(means, means)[apart] ** 2).mean()) / 2
        between -= within * float((np.add.outer(1 / sizes, 1 / sizes)[apart]).mean()) / 2
    sd = math.sqrt(max(0.0, between))
    return Components(float(means.mean()), sd, math.sqrt(within), df_between, df_within, between)
