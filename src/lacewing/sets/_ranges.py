"""Is any record within a range a member? Boxes of feature values, points drawn in them, and scores put together.

Tao and Shokri, "Range membership inference attacks" (arXiv 2408.05131): an attacker knows a record up to a range, asks
about points within it, and takes a trimmed mean of their membership scores. Ours: ranges are boxes of a class, points
are drawn uniformly, and the mean is that of the upper half of the scores.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats
from lacewing.sets import _checked

_ROWS = 4_000_000  # comparisons at once


def truth(
    low_RD: npt.ArrayLike,
    high_RD: npt.ArrayLike,
    label_R: npt.ArrayLike,
    x_ND: npt.ArrayLike,
    y_N: npt.ArrayLike,
    member_N: Bools,
) -> tuple[Bools, npt.NDArray[np.int64]]:
    """(R,) whether any record within the range, of its class, is a member; and (R,) how many records lie within.

    Both ends belong to a range.

    Raises:
        UsageError: shapes do not fit, ends are not finite or in the wrong order, or a range holds no record at all: of
            such a one nothing is known.
    """
    low, high, label = _checked.numbers(low_RD, "low"), _checked.numbers(high_RD, "high"), np.asarray(label_R)
    x, y = np.asarray(x_ND, np.float64), np.asarray(y_N)
    if x.ndim != 2 or low.shape != high.shape or low.ndim != 2 or low.shape[1] != x.shape[1]:
        raise UsageError(
            f"low has shape {low.shape} and high {high.shape} beside records {x.shape}: give (ranges, columns) twice, "
            "of a table."
        )
    if label.shape != (len(low),) or not len(low):
        raise UsageError(f"label has shape {label.shape} beside {len(low)} ranges: give the class of each range.")
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise UsageError("low and high must be finite, and low at most high in every column.")
    member, size = np.zeros(len(low), bool), np.zeros(len(low), np.int64)
    for part in np.array_split(np.arange(len(low)), max(1, -(-len(low) * x.size // _ROWS))):
        within = (x[None] >= low[part, None]) & (x[None] <= high[part, None])
        held = within.all(axis=2) & (y[None] == label[part, None])
        member[part], size[part] = (held & member_N[None]).any(axis=1), held.sum(axis=1)
    if (empty := np.flatnonzero(size == 0)).size:
        raise UsageError(
            f"ranges: {empty.size} of {len(low)} hold no record of their class, such as range {empty[0]}: widen them, "
            "or leave them out."
        )
    return member, size


def distinct(low_RD: npt.ArrayLike, high_RD: npt.ArrayLike, label_R: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Places of the first of all ranges that are equal in both ends and the class, in order: a copy is no evidence."""
    rows = np.column_stack([np.asarray(low_RD, np.float64), np.asarray(high_RD, np.float64)]) + 0.0  # of -0.0 as well
    _, label = np.unique(np.asarray(label_R), return_inverse=True)
    _, first = np.unique(np.column_stack([rows, label]), axis=0, return_index=True)
    return np.sort(first)


def sampled(low_RD: npt.ArrayLike, high_RD: npt.ArrayLike, whole_D: Bools, points: int, *, seed: int) -> Floats:
    """(R, Q, D) points drawn uniformly within each range; whole numbers in the columns ``whole_D``.

    The first point is the middle. A column of whole numbers whose range holds none keeps the rounded middle. Draws
    depend on ``seed`` and the range's place. Raises `UsageError` for fewer than one point.
    """
    low, high = np.asarray(low_RD, np.float64), np.asarray(high_RD, np.float64)
    if points < 1:
        raise UsageError(f"points = {points}: give at least 1, such as 32.")
    share = np.stack([np.random.default_rng([seed, 601, r]).random((points, low.shape[1])) for r in range(len(low))])
    share[:, 0] = 0.5
    drawn = low[:, None] + share * (high - low)[:, None]
    first, last = np.ceil(low)[:, None], np.floor(high)[:, None]
    counted = np.minimum(first + np.floor(share * (last - first + 1)), last)
    counted = np.where(last >= first, counted, np.round((low + high) / 2)[:, None])
    return np.where(whole_D, counted, drawn)


def range_scores(score_RQ: npt.ArrayLike) -> Floats:
    """(R,) the mean of the upper half of the scores of each range's points. Raises `UsageError` for other shapes."""
    score = _checked.numbers(score_RQ, "scores")
    if score.ndim != 2 or not score.size or not np.isfinite(score).all():
        raise UsageError(f"scores have shape {score.shape}: give finite ones, (ranges, points).")
    half = -(-score.shape[1] // 2)
    return np.asarray(np.sort(score, axis=1)[:, -half:].mean(axis=1))
