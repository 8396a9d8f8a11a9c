"""Every metric of one attack on one set of records, under the names of results.csv."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy.typing as npt

from lacewing.metrics._checks import Bools, Estimate, Floats, checked
from lacewing.metrics._decisions import advantage, balanced_accuracy, best_threshold_accuracy, defence
from lacewing.metrics._roc import auc
from lacewing.metrics._tail import realised_fpr, resolves, tpr_at_fpr


def summary(
    scores_N: npt.ArrayLike,
    member_N: npt.ArrayLike,
    decision_N: npt.ArrayLike | None = None,
    *,
    fprs: Sequence[float] = (0.01, 0.001),
) -> dict[str, Estimate | None]:
    """Balanced accuracy, AUC, TPR at each FPR, defence, advantage and the oracle's balanced accuracy, with intervals.

    ``realised_fpr_X`` is the share of non-members at or above the threshold of ``tpr_at_fpr_X``. Both are None at an
    FPR below 1/non-members; metrics of decisions are None where there are none.
    """
    scores, member = checked(scores_N, member_N)
    nonmembers = int((~member).sum())
    accuracy = None if decision_N is None else balanced_accuracy(decision_N, member)

    def at(of: Callable[[Floats, Bools, float], Estimate], name: str) -> dict[str, Estimate | None]:
        return {f"{name}_{fpr:g}": of(scores, member, fpr) if resolves(fpr, nonmembers) else None for fpr in fprs}

    return {
        "balanced_accuracy": accuracy,
        "auc": auc(scores, member),
        **at(tpr_at_fpr, "tpr_at_fpr"),
        "defence": None if accuracy is None else defence(accuracy),
        "advantage": None if accuracy is None else advantage(accuracy),
        "oracle_balanced_accuracy": best_threshold_accuracy(scores, member),
        **at(realised_fpr, "realised_fpr"),
    }
