"""Two networks attacked on the same records: the difference of their metrics, with a paired bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics._checks import Bools, Estimate, Floats, check_confidence, checked
from lacewing.metrics._decisions import balanced_accuracy
from lacewing.metrics._roc import auc, tpr_at_fpr

Metric = Literal["auc", "balanced_accuracy", "tpr_at_fpr"]
_CELLS = 4_000_000  # drawn records held in memory at once: some 100 MB

# From how often each member and non-member was drawn, (B, m) and (B, n), to the metric of each of B draws.
_Drawn = Callable[[Floats, Floats], Floats]


class Paired(NamedTuple):
    """A metric of two networks on the same records, each the mean over seeds, and the difference first - second."""

    difference: Estimate
    first: float
    second: float
    n_members: int  # over all seeds
    n_nonmembers: int
    seeds: int


def paired(
    first: npt.ArrayLike | Sequence[npt.ArrayLike],
    second: npt.ArrayLike | Sequence[npt.ArrayLike],
    member: npt.ArrayLike | Sequence[npt.ArrayLike],
    metric: Metric = "auc",
    *,
    fpr: float = 0.01,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Paired:
    """The difference of a metric of two networks on the same records, with its percentile bootstrap interval.

    Args:
        first: N scores of the first network (decisions, 0 or 1, for ``balanced_accuracy``), or a sequence of such
            arrays, one a seed.
        second: the same of the second network: the same seeds, the same records in the same order.
        member: the same for membership, which both networks share.
        metric: ``auc``, ``balanced_accuracy`` (of decisions) or ``tpr_at_fpr``.
        fpr: of ``tpr_at_fpr``; the empirical FPR of each draw is at most this.
        confidence: of the interval.
        resamples: bootstrap draws B.
        seed: of the draws; equal seeds give equal intervals.

    Members and non-members are drawn apart, the same rows for both networks (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993, ch. 13). With several seeds a draw first takes seeds with replacement, then the records of
    each (two-stage bootstrap: Davison and Hinkley, Bootstrap Methods, 1997, section 3.8), and the percentiles are
    those of the expanded interval, since a bootstrap of few seeds is too narrow (Hesterberg, The American Statistician
    69, 2015). The interval is then wide where records, not seeds, make the noise: part of it counts twice. Two or
    three seeds can still miss a spread that is far larger than the records' noise.

    Raises:
        UsageError: lengths or seeds differ, bad values, an unknown metric, fewer non-members than ``fpr`` needs.
    """
    known = ("auc", "balanced_accuracy", "tpr_at_fpr")
    if metric not in known:
        raise UsageError(f"metric = '{metric}' is unknown: {did_you_mean(metric, known)}")
    if resamples < 100:
        raise UsageError(f"resamples = {resamples}: give at least 100.")
    check_confidence(confidence)
    firsts, seconds, members = (_by_seed(values) for values in (first, second, member))
    if not len(firsts) == len(seconds) == len(members):
        raise UsageError(
            f"first has {len(firsts)} seeds, second {len(seconds)}, member {len(members)}: give the same seeds to each."
        )
    values_S2, drawn_S = [], []
    for a, b, kinds in zip(firsts, seconds, members, strict=True):
        pair = [checked(scores, kinds) for scores in (a, b)]
        values_S2.append([_value(metric, scores, is_member, fpr) for scores, is_member in pair])
        drawn_S.append(([_drawn(metric, scores, is_member, fpr) for scores, is_member in pair], pair[0][1]))
    rng = np.random.default_rng(seed)
    seeds = len(drawn_S)
    chosen_BS = rng.integers(seeds, size=(resamples, seeds)) if seeds > 1 else np.zeros((resamples, 1), np.int64)
    difference_BS = np.zeros((resamples, seeds))
    for s, (of_pair, is_member) in enumerate(drawn_S):
        wanted = chosen_BS == s
        difference_BS[wanted] = _differences(of_pair, is_member, int(wanted.sum()), rng)
    tail = _tail(confidence, seeds)
    low, high = np.quantile(difference_BS.mean(axis=1), (tail, 1.0 - tail))
    one, two = (math.fsum(column) / seeds for column in zip(*values_S2, strict=True))
    n_members = sum(int(is_member.sum()) for _, is_member in drawn_S)
    n_nonmembers = sum(int((~is_member).sum()) for _, is_member in drawn_S)
    return Paired(Estimate(one - two, float(low), float(high)), one, two, n_members, n_nonmembers, seeds)


def _tail(confidence: float, seeds: int) -> float:
    """The share of draws beyond each end. For S seeds Hesterberg's Phi(-sqrt(S/(S - 1)) t), t of S - 1 degrees."""
    from scipy.special import ndtr, stdtrit

    tail = (1.0 - confidence) / 2
    if seeds == 1:
        return tail
    return float(ndtr(math.sqrt(seeds / (seeds - 1)) * stdtrit(seeds - 1, tail)))


def _by_seed(values: npt.ArrayLike | Sequence[npt.ArrayLike]) -> list[npt.ArrayLike]:
    """A list of arrays, one a seed; a plain array of numbers is that of one seed."""
    if isinstance(values, list | tuple) and len(values) and np.ndim(values[0]) > 0:
        return list(values)
    return [np.asarray(values)]


def _value(metric: Metric, scores: Floats, member: Bools, fpr: float) -> float:
    if metric == "auc":
        return auc(scores, member).value
    if metric == "tpr_at_fpr":
        return tpr_at_fpr(scores, member, fpr).value
    return balanced_accuracy(scores, member).value


def _drawn(metric: Metric, scores: Floats, member: Bools, fpr: float) -> _Drawn:
    x, y = scores[member], scores[~member]
    if metric == "auc":
        return _drawn_auc(x, y)
    if metric == "tpr_at_fpr":
        return _drawn_tpr(x, y, fpr)
    return lambda drawn_m, drawn_n: (drawn_m @ x / len(x) + drawn_n @ (1.0 - y) / len(y)) / 2


def _drawn_auc(x: Floats, y: Floats) -> _Drawn:
    """A member beats the non-members drawn below it, and half of those drawn level with it."""
    order = np.argsort(y, kind="stable")
    below, upto = np.searchsorted(y[order], x, "left"), np.searchsorted(y[order], x, "right")

    def of(drawn_m: Floats, drawn_n: Floats) -> Floats:
        beaten = np.zeros((len(drawn_n), len(y) + 1))
        np.cumsum(drawn_n[:, order], axis=1, out=beaten[:, 1:])
        wins = np.einsum("bm,bm->b", drawn_m, beaten[:, below] + beaten[:, upto])
        found: Floats = wins / (2.0 * len(x) * len(y))
        return found

    return of


def _drawn_tpr(x: Floats, y: Floats, fpr: float) -> _Drawn:
    """The lowest threshold that at most ``fpr`` of the drawn non-members reach, and the drawn members that reach it."""
    thresholds = np.unique(np.append(x, y))[::-1]
    order_x, order_y = np.argsort(-x, kind="stable"), np.argsort(-y, kind="stable")
    reach_x = np.searchsorted(-x[order_x], -thresholds, "right")  # members at or above each threshold
    reach_y = np.searchsorted(-y[order_y], -thresholds, "right")
    allowed = math.floor(fpr * len(y) + 1e-9)

    def of(drawn_m: Floats, drawn_n: Floats) -> Floats:
        drawn_above = np.cumsum(drawn_n[:, order_y], axis=1)
        # Records in falling order whose drawn copies still fit, then the thresholds that reach no further.
        fits = (drawn_above <= allowed).sum(axis=1)
        step = np.searchsorted(reach_y, fits, "right")
        found = np.append(0, reach_x)[step]
        members_above = np.zeros((len(drawn_m), len(x) + 1))
        np.cumsum(drawn_m[:, order_x], axis=1, out=members_above[:, 1:])
        rate: Floats = members_above[np.arange(len(found)), found] / len(x)
        return rate

    return of


def _differences(pair: Sequence[_Drawn], member: Bools, draws: int, rng: np.random.Generator) -> Floats:
    m, n = int(member.sum()), int((~member).sum())
    found = [np.zeros(0)]
    for start in range(0, draws, chunk := max(1, _CELLS // (m + n))):
        rows = min(chunk, draws - start)
        drawn_m, drawn_n = _counts(m, rows, rng), _counts(n, rows, rng)
        found.append(pair[0](drawn_m, drawn_n) - pair[1](drawn_m, drawn_n))
    return np.concatenate(found)


def _counts(n: int, rows: int, rng: np.random.Generator) -> Floats:
    """How often each of n records is drawn in each of ``rows`` draws of n with replacement."""
    drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
