"""By how much two networks differ in what they give away of the same records: each attack's paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lacewing import metrics
from lacewing.attacks._measure import graded
from lacewing.attacks._types import Observed
from lacewing.auditing._answer import TAIL
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats
from lacewing.results import AttackResult

ERROR = 0.05  # chance that a comparison of two networks that leak alike establishes a difference
METRICS = ("auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001")
_LOOKED_AT = ("auc", "tpr_at_fpr_0.01")  # metrics of each attack that share the chance of error
RESAMPLES = 2000  # at least
_BEYOND = 10  # draws that lie beyond each end of an interval, at least


@dataclass(frozen=True)
class PairedDifference:
    """One metric of one attack on both networks, and the difference sparse - dense with its interval over records."""

    attack: str
    metric: str  # "auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001"
    dense: float
    sparse: float
    difference: Estimate  # 95 %, by itself
    # Whether the interval that is corrected for all looks of the comparison leaves out 0. None: it does not, or the
    # metric is not among those that are looked at.
    established: Literal["less", "more"] | None

    @property
    def fpr(self) -> float | None:
        """The false-positive rate of a TPR; None: an AUC."""
        return None if self.metric == "auc" else float(self.metric.removeprefix("tpr_at_fpr_"))


def differences(
    dense: Sequence[AttackResult], sparse: Sequence[AttackResult], *, seed: int = 0
) -> tuple[PairedDifference, ...]:
    """The difference of the AUC and of the TPR at 1 % and 0.1 % FPR for each attack that ran on both networks.

    Intervals are the paired percentile bootstrap of `metrics.paired` over records, or groups of records: they are about
    these two networks alone. With m attacks there are 2 m looks, at the AUC and at the TPR at 1 %. A difference is
    established where the interval at 1 - 0.05/(2 m) leaves out 0 too (Bonferroni). Of that one there are as many draws
    as put 10 beyond either end, or 2,000.

    The attack that is strongest on either network comes first.

    Args:
        dense: results of attacks on the dense network.
        sparse: of attacks on the sparse one, on the same records in the same order; attacks that ran on one network
            alone are left out.
        seed: of the bootstrap.

    Raises:
        UsageError: an attack was run on other records of one network than of the other.
    """
    of_dense = {result.attack: result for result in dense}
    both = [(of_dense[result.attack], result) for result in sparse if result.attack in of_dense]
    both.sort(key=lambda pair: -max(_auc(result) for result in pair))
    found = []
    for first, second in both:
        same = np.array_equal(first.record_N, second.record_N) and np.array_equal(first.member_N, second.member_N)
        if not same:
            raise UsageError(
                f"The attack '{first.attack}' was run on other records of the dense network than of the sparse one: "
                "audit both on the same records."
            )
        for metric in METRICS:
            if first.metrics.get(metric) is not None and second.metrics.get(metric) is not None:
                found.append(_difference(first, second, metric, len(_LOOKED_AT) * len(both), seed))
    return tuple(found)


def _auc(result: AttackResult) -> float:
    found = result.metrics["auc"]
    assert found is not None  # every attack ranks the records
    return found.value


def _difference(dense: AttackResult, sparse: AttackResult, metric: str, looks: int, seed: int) -> PairedDifference:
    fpr = TAIL if metric == "auc" else float(metric.removeprefix("tpr_at_fpr_"))

    def measured(error: float) -> metrics.Paired:
        confidence, resamples = _ends(error)
        return metrics.paired(
            sparse.score_N,
            dense.score_N,
            dense.member_N,
            "auc" if metric == "auc" else "tpr_at_fpr",
            fpr=fpr,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )

    found = measured(ERROR)
    established: Literal["less", "more"] | None = None
    if metric in _LOOKED_AT and _side(found.difference) is not None:
        established = _side(measured(ERROR / looks).difference)
    return PairedDifference(dense.attack, metric, found.second, found.first, found.difference, established)


def _ends(error: float) -> tuple[float, int]:
    """(confidence, draws) of a percentile interval that both its ends leave out with chance ``error`` together.

    Of B draws the quantile at q lies between two of them, beyond which q (B - 1) + 1 of B + 1 are expected (Hyndman and
    Fan, The American Statistician 50, 1996, definition 7): more than q B, so that few draws make intervals too narrow.
    The quantile that is asked for is the one beyond which error/2 is expected.
    """
    draws = max(RESAMPLES, math.ceil(2 * _BEYOND / error))
    return 1.0 - 2 * (error / 2 * (draws + 1) - 1) / (draws - 1), draws


def _side(difference: Estimate) -> Literal["less", "more"] | None:
    """Where an interval leaves out 0."""
    return "less" if difference.high < 0 else "more" if difference.low > 0 else None


@dataclass(frozen=True)
class AccuracyDifference:
    """How well both networks answer the records of one side, and the difference sparse - dense."""

    records: Literal["members", "non-members"]
    n: int  # records, or groups of records
    dense: float
    sparse: float
    difference: Estimate  # 95 %, over records


def accuracies(dense: Observed, sparse: Observed) -> tuple[AccuracyDifference, AccuracyDifference]:
    """The accuracy of both networks on members and on non-members, with paired intervals over records.

    Of single records that are right or wrong: Bonett and Price's adjusted interval for a difference of paired shares
    (Journal of Educational and Behavioral Statistics 37, 2012). Of groups, whose records are averaged, and of several
    labels (mean AUC): Student's t of the units' differences.
    """
    member = dense.member_N
    return (
        _accuracy("members", dense, sparse, member),
        _accuracy("non-members", dense, sparse, ~member),
    )


def _accuracy(
    records: Literal["members", "non-members"], dense: Observed, sparse: Observed, of: Bools
) -> AccuracyDifference:
    group = None if dense.group_N is None else dense.group_N[of]
    first, second = (_by_group(graded(seen)[of], group) for seen in (dense, sparse))
    return AccuracyDifference(
        records, len(first), float(first.mean()), float(second.mean()), paired_shares(second, first)
    )


def _by_group(values: Floats, group: np.ndarray | None) -> Floats:
    if group is None:
        return values
    _, code = np.unique(group, return_inverse=True)
    return np.asarray(np.bincount(code, values) / np.bincount(code))


def paired_shares(first_N: Floats, second_N: Floats) -> Estimate:
    """The difference of the means of two values of the same N units, first - second, with its 95 % interval.

    Of values that are all 0 or 1 after Bonett and Price: with b units 1 in the first alone, c in the second alone,
    p = (b + 1)/(N + 2) and q = (c + 1)/(N + 2) it is p - q +- 1.96 sqrt((p + q - (p - q)^2)/(N + 2)); else Student's t.
    """
    from scipy.special import ndtri, stdtrit

    n, value = len(first_N), float(first_N.mean() - second_N.mean())
    if np.isin(first_N, (0, 1)).all() and np.isin(second_N, (0, 1)).all():
        p, q = ((float((a > b).sum()) + 1) / (n + 2) for a, b in ((first_N, second_N), (second_N, first_N)))
        half = float(ndtri(0.975)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
        return Estimate(value, max(-1.0, p - q - half), min(1.0, p - q + half))
    half = float(stdtrit(n - 1, 0.975)) * float((first_N - second_N).std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(value, value - half, value + half)
