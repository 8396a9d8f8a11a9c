"""The answer of an audit in one sentence: was leakage found, by which attack, and at which n."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics import Estimate
from lacewing.results import REALISED, AttackResult, by_realised_fpr

TAIL = 0.01  # the false-positive rate at which the tail is tested
_NAMED = 4  # attacks that a line lists by name; more are counted
_ERROR = 0.05  # chance of finding leakage somewhere where there is none


def strongest(results: Sequence[AttackResult]) -> AttackResult:
    """The result whose AUC interval lies highest. Raises `UsageError` where there is none."""
    if not results:
        raise UsageError("The audit holds no attack: there is no strongest one.")
    return max(results, key=lambda result: _auc(result).low)


def tail_p_value(result: AttackResult, fpr: float = TAIL) -> float:
    """P(a null attack puts at least so many members above so many non-members), exact; 1 where n is too small.

    With membership exchangeable, the members that score above all but f of the non-members follow a negative
    hypergeometric law: P(K >= k) = P(at most f non-members among the top k + f records), f = floor(fpr n) the false
    positives that the rate allows. Ties count against the attack.
    """
    scores, member = result.score_N, result.member_N
    n, f = result.n_nonmembers, math.floor(fpr * result.n_nonmembers + 1e-9)
    if f < 1 or len(scores) == 0:
        return 1.0
    bar = np.sort(scores[~member])[-(f + 1)] if f < n else -np.inf
    k = int((scores[member] > bar).sum())
    return _at_most(f, records=n + result.n_members, marked=n, drawn=k + f)


def sentence(results: Sequence[AttackResult]) -> str:
    """What was found, never that nothing could be: leakage with the strongest attack's numbers, or the bound above
    which none was found.

    Leakage counts as found where the AUC of one of the m attacks lies above 0.5, or more members than chance allows
    stand above 99 % of the non-members; each of the 2 m looks at 0.05/(2 m) (Bonferroni).
    """
    best, m = strongest(results), len(results)
    share = _ERROR / (2 * m)
    n = f"n = {best.n_members} members and {best.n_nonmembers} non-members"
    leaks = metrics.auc(best.score_N, best.member_N, 1.0 - 2.0 * share).low > 0.5
    by_tail = min(results, key=tail_p_value)
    if not leaks and tail_p_value(by_tail) >= share:
        bound = max(0.5, *(_auc(result).high for result in results))
        looks = (
            "the given scores'" if m == 1 and best.attack == "scores" else f"of {m} attack{'s' * (m > 1)} the highest"
        )
        return (
            f"No leakage found above an AUC of {bound:.3f} ({looks} upper end of a 95 % interval) at {n}; attacks that "
            f"were not run may find more.{_reversed(results, share)}"
        )
    if not leaks:
        best = by_tail
    tail = best.metrics.get("tpr_at_fpr_0.01")
    given = best.attack == "scores"
    rate = (
        f", and find{'s' * (not given)} {tail.text('.1f', percent=True)} of the members at a false-positive rate of 1 %"
        if tail is not None
        else ""
    )
    which = "the given scores tell" if given else f"the attack '{best.attack}' tells"
    of = f" (strongest of {m})" if m > 1 else ""
    where = "" if leaks else " at low false-positive rates"
    return f"Leakage found{where}: {which} members from non-members{of} with an AUC of {_auc(best).text()}{rate}; {n}."


def _reversed(results: Sequence[AttackResult], share: float) -> str:
    for result in results:
        found = metrics.auc(result.score_N, result.member_N, 1.0 - 2.0 * share)
        if found.high < 0.5:
            return (
                f" But '{result.attack}' ranks non-members above members (AUC {_auc(result).text()}): a score must be "
                "higher for members, and both kinds must come from one source."
            )
    return ""


def shown(estimate: Estimate | None) -> str:
    """``0.712 [0.690, 0.733]``, or an en dash where n or the attack does not allow the number."""
    return "–" if estimate is None else estimate.text()


def realised(results: Sequence[AttackResult]) -> list[str]:
    """A line a rate: which FPR the thresholds of TPR at FPR show among these non-members, and for which attacks."""
    lines = []
    for metric, rate in zip(REALISED, ("1 %", "0.1 %"), strict=True):
        shown = []
        for found, names in by_realised_fpr(results, metric):
            of = "" if len(names) == len(results) else f" ({_listed(names)})"
            shown.append(f"{found.text('.2f', percent=True)}{of}")
        if shown:
            lines.append(f"realised FPR of TPR at {rate} FPR: {'; '.join(shown)}")
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} attacks"


def _auc(result: AttackResult) -> Estimate:
    found = result.metrics["auc"]
    assert found is not None  # every attack ranks the records
    return found


def _at_most(f: int, *, records: int, marked: int, drawn: int) -> float:
    """P(at most f marked among ``drawn`` of ``records``), the hypergeometric law, by logarithms of factorials."""
    from scipy.special import betaln

    def log_choose(n: int, k: np.ndarray | int) -> np.ndarray:
        return np.asarray(-betaln(1 + n - np.asarray(k), 1 + np.asarray(k)) - math.log1p(n), np.float64)

    least = max(0, drawn - (records - marked))
    found = np.arange(least, min(f, marked, drawn) + 1)
    logs = log_choose(marked, found) + log_choose(records - marked, drawn - found) - log_choose(records, drawn)
    return float(min(1.0, np.exp(logs).sum()))
