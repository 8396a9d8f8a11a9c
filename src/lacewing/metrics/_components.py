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
    sd_between: float | None  # of the groups' true means; None: one group
    sd_within: float | None  # of values about their group's mean; None: no group has two
    df_between: int  # S - 1
    df_within: int  # values - S


def variance_components(values: Sequence[npt.ArrayLike]) -> Components:
    """The ANOVA (method of moments) estimator of the one-way random-effects model, groups of unequal size included.

    With S groups of n_i values, N in all, and mean squares MSB and MSW between and within them, the variance within is
    MSW and the variance between max(0, (MSB - MSW)/n0) with n0 = (N - sum n_i^2/N)/(S - 1) (Searle, Casella, McCulloch,
    Variance Components, 1992, section 3.6). Where no group has two values the spread between cannot be told from that
    within, and both are None.

    Args:
        values: of each group, at least one.

    Raises:
        UsageError: no group, an empty one, or a value that is not finite.
    """
    groups = [np.asarray(group, np.float64) for group in values]
    if not groups or not all(group.ndim == 1 and group.size and np.isfinite(group).all() for group in groups):
        raise UsageError("values: give at least one group, and finite numbers in each.")
    sizes = np.array([group.size for group in groups], np.float64)
    means = np.array([group.mean() for group in groups])
    total, count = float(sizes.sum()), len(groups)
    df_between, df_within = count - 1, int(total) - count
    if not df_within:
        return Components(float(means.mean()), None, None, df_between, df_within)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / df_within
    if not df_between:
        return Components(float(means.mean()), None, math.sqrt(within), df_between, df_within)
    grand = float((sizes * means).sum()) / total
    mean_square = float((sizes * (means - grand) ** 2).sum()) / df_between
    per_group = (total - float((sizes**2).sum()) / total) / df_between
    between = max(0.0, (mean_square - within) / per_group)
    return Components(float(means.mean()), math.sqrt(between), math.sqrt(within), df_between, df_within)
