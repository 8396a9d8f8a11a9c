"""The difference of a metric between two networks attacked on the same records, with its interval."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics._checks import Bools, Estimate, Floats, check_confidence, checked
from lacewing.metrics._decisions import balanced_accuracy
from lacewing.metrics._roc import auc
from lacewing.metrics._seeds import mean_over_seeds
from lacewing.metrics._tail import allowed, tpr_at_fpr

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
    groups: int  # S of the interval: seeds, or groups of seeds; 1: the interval is over records
    over: Literal["records", "seeds", "groups"]  # what the interval is over


def paired(
    first: npt.ArrayLike | Sequence[npt.ArrayLike],
    second: npt.ArrayLike | Sequence[npt.ArrayLike],
    member: npt.ArrayLike | Sequence[npt.ArrayLike],
    metric: Metric = "auc",
    *,
    groups: Sequence[int] | None = None,
    same_records: Sequence[int] | None = None,
    fpr: float = 0.01,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Paired:
    """The difference of a metric of two networks on the same records, with its interval over seeds.

    Args:
        first: N scores of the first network (decisions, 0 or 1, for ``balanced_accuracy``), or a sequence of such
            arrays, one per seed.
        second: the same of the second network: the same seeds, the same records in the same order.
        member: the same for membership, which both networks share.
        metric: ``auc``, ``balanced_accuracy`` (of decisions) or ``tpr_at_fpr``.
        groups: a group number per seed; the differences within a group are averaged and count as one. For seeds that
            are not independent, such as two whose networks trained on the two halves of one cut.
        same_records: a number per seed; those of one number hold the same records in the same order, such as several
            initialisations on one split, and the bootstrap draws these records once for all of them.
        fpr: of ``tpr_at_fpr``; the empirical FPR of each seed, or draw, is at most this.
        confidence: of the interval.
        resamples: bootstrap draws B of the interval over records.
        seed: of the draws; equal seeds give equal intervals.

    With two or more seeds (or groups) the interval is Student's t of their S differences, S - 1 degrees of freedom:
    mean +- t sd/sqrt(S). It is about the two recipes and assumes independent seeds with nearly normal differences.

    With one, it is the percentile bootstrap over records, which is about these networks alone and does not cover
    the variation between seeds. Members and non-members are drawn apart, the same rows for both networks (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13), and separately for each seed of a group but for those
    of the ``same_records``.

    Raises:
        UsageError: lengths, seeds, groups or the membership of the same records differ, bad values, an unknown metric,
            too few non-members for ``fpr``.
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
    group_of = list(range(len(firsts))) if groups is None else list(groups)
    if len(group_of) != len(firsts):
        raise UsageError(f"groups has {len(group_of)} numbers for {len(firsts)} seeds: give one per seed.")
    records_of = list(range(len(firsts))) if same_records is None else list(same_records)
    if len(records_of) != len(firsts):
        raise UsageError(f"same_records has {len(records_of)} numbers for {len(firsts)} seeds: give one per seed.")
    values_S2, kept = [], []
    for a, b, kinds in zip(firsts, seconds, members, strict=True):
        pair = [checked(scores, kinds) for scores in (a, b)]
        values_S2.append([_value(metric, scores, is_member, fpr) for scores, is_member in pair])
        kept.append(pair)
    for number, pair in zip(records_of, kept, strict=True):
        if not np.array_equal(pair[0][1], kept[records_of.index(number)][0][1]):
            raise UsageError(f"same_records: the membership of two seeds numbered {number} differs: number them apart.")
    by_group: dict[int, list[int]] = {}
    for s, group in enumerate(group_of):
        by_group.setdefault(group, []).append(s)
    one_G, two_G = (
        [math.fsum(values_S2[s][side] for s in of) / len(of) for of in by_group.values()] for side in (0, 1)
    )
    one, two = (math.fsum(values_G) / len(by_group) for values_G in (one_G, two_G))
    over: Literal["records", "seeds", "groups"] = "seeds" if len(by_group) == len(firsts) else "groups"
    difference = mean_over_seeds([a - b for a, b in zip(one_G, two_G, strict=True)], confidence)
    if difference is None:  # a single group
        over = "records"
        low, high = _interval_over_records(kept, records_of, metric, fpr, confidence, resamples, seed)
        difference = Estimate(one - two, low, high)
    n_members = sum(int(pair[0][1].sum()) for pair in kept)
    n_nonmembers = sum(int((~pair[0][1]).sum()) for pair in kept)
    return Paired(difference, one, two, n_members, n_nonmembers, len(firsts), len(by_group), over)


def _interval_over_records(
    pairs: Sequence[Sequence[tuple[Floats, Bools]]],
    records_of: Sequence[int],
    metric: Metric,
    fpr: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean difference over ``pairs`` of (scores, membership)."""
    rng = np.random.default_rng(seed)
    drawn_B = np.zeros(resamples)
    for number in dict.fromkeys(records_of):
        state = copy.deepcopy(rng)
        for pair in (pair for pair, of in zip(pairs, records_of, strict=True) if of == number):
            rng = copy.deepcopy(state)  # the same draws of the same records
            of_pair = [_drawn(metric, scores, is_member, fpr) for scores, is_member in pair]
            drawn_B += _differences(of_pair, pair[0][1], resamples, rng) / len(pairs)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(drawn_B, (tail, 1.0 - tail))
    return float(low), float(high)


def _by_seed(values: npt.ArrayLike | Sequence[npt.ArrayLike]) -> list[npt.ArrayLike]:
    """A list of arrays, one per seed; a plain array of numbers is one seed."""
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
    most = allowed(fpr, len(y))

    def of(drawn_m: Floats, drawn_n: Floats) -> Floats:
        drawn_above = np.cumsum(drawn_n[:, order_y], axis=1)
        # Records in falling order whose drawn copies still fit, then the thresholds that reach no further.
        fits = (drawn_above <= most).sum(axis=1)
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
