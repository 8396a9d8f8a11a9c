"""The answer of an audit in one sentence: was leakage found, by which attack, and at which n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lacewing import metrics
from lacewing.attacks._fit import CAUSES, Fit
from lacewing.errors import UsageError
from lacewing.metrics import Estimate
from lacewing.results import REALISED, AttackResult, NetworkResult, by_realised_fpr, strongest_first

TAIL = 0.01  # the false-positive rate at which the tail is tested
_TAIL = "tpr_at_fpr_0.01"
_NAMED = 4  # attacks that a line lists by name; more are counted
_ERROR = 0.05  # chance of finding leakage somewhere where there is none


def strongest(results: Sequence[AttackResult]) -> AttackResult:
    """The result of the highest AUC. Raises `UsageError` where there is none."""
    if not results:
        raise UsageError("The audit holds no attack: there is no strongest one.")
    return strongest_first(results)[0]


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


def sentence(results: Sequence[AttackResult], fit: Fit | None = None) -> str:
    """What was found, never that nothing could be: leakage with the strongest attack's numbers, or the bound above
    which none was found.

    Leakage counts as found where the AUC of one of the m attacks lies above 0.5, or more members than chance allows
    stand above 99 % of the non-members; each of the 2 m looks at 0.05/(2 m) (Bonferroni). Each number is that of the
    strongest attack by this number. Of a model that is at chance on its own members there is no bound: the answer says
    that the audit cannot tell.

    Args:
        results: of the attacks that ran.
        fit: how well the model answers its members; None: not known, since only scores were given.
    """
    best, m = strongest(results), len(results)
    share = _ERROR / (2 * m)
    n = f"n = {best.n_members} members and {best.n_nonmembers} non-members"
    by_area = [r for r in results if metrics.auc(r.score_N, r.member_N, 1.0 - 2.0 * share).low > 0.5]
    by_tail = [r for r in results if tail_p_value(r) < share]
    doubt = "" if fit is None or fit.above_chance else _doubt(fit)
    if by_area:
        shown = strongest(by_area)
        which = "the given scores tell" if _given(shown) else f"the attack '{shown.attack}' tells"
        of = _rank(shown is best, m)
        return (
            f"Leakage found: {which} members from non-members{of} with an AUC of {_auc(shown).text()}"
            f"{_tail(results, shown)}; {n}.{doubt}"
        )
    if by_tail:
        shown = max(by_tail, key=_rate)
        which = "the given scores find" if _given(shown) else f"the attack '{shown.attack}' finds"
        of = _rank(shown is max(results, key=_rate), m)
        return (
            f"Leakage found at low false-positive rates: {which} {_share(shown)} of the members at a false-positive "
            f"rate of 1 %{of}; its AUC is {_auc(shown).text()}; {n}.{doubt}"
        )
    if fit is not None and not fit.above_chance:
        return (
            f"This audit cannot say what the model leaks: {fit.chance}. {CAUSES} No attack told members from "
            f"non-members; {n}."
        )
    bound = max(0.5, *(_auc(result).high for result in results))
    looks = "the given scores'" if m == 1 and _given(best) else f"of {m} attack{'s' * (m > 1)} the highest"
    return (
        f"No leakage found above an AUC of {bound:.3f} ({looks} upper end of a 95 % interval) at {n}; attacks that "
        f"were not run may find more.{_reversed(results, share)}"
    )


def _tail(results: Sequence[AttackResult], shown: AttackResult) -> str:
    """What the strongest attack at a false-positive rate of 1 % finds, as the end of a sentence about ``shown``."""
    best = max(results, key=_rate)
    if best.metrics.get(_TAIL) is None:
        return ""
    if _rate(shown) == _rate(best):
        best = shown
    if _rate(best) <= TAIL:
        return "; at a false-positive rate of 1 % no attack finds more than 1 % of the members, which is chance"
    if best is shown:
        return f", and find{'s' * (not _given(shown))} {_share(best)} of the members at a false-positive rate of 1 %"
    which = "the given scores find" if _given(best) else f"'{best.attack}' finds"
    return f"; at a false-positive rate of 1 % {which} the most members, {_share(best)}"


def _rank(first: bool, m: int) -> str:
    return "" if m == 1 else f" (strongest of {m})" if first else f" (strongest of the established ones among {m})"


def _doubt(fit: Fit) -> str:
    return f" But {fit.chance}: this may be no leak of the model that is meant."


def _given(result: AttackResult) -> bool:
    return result.attack == "scores"


def _rate(result: AttackResult) -> float:
    found = result.metrics.get(_TAIL)
    return -1.0 if found is None else found.value


def _share(result: AttackResult) -> str:
    return metrics.tpr_at_fpr(result.score_N, result.member_N, TAIL).text(".1f", percent=True)


def accuracy(network: NetworkResult, fit: Fit | None) -> str:
    """The model's own success on members and non-members, in one line; the first thing to look at."""
    if fit is None:
        return "accuracy: not known, since only scores were given"
    if fit.task == "regression":
        return f"R²: {network.train_accuracy:.3f} on members, {network.test_accuracy:.3f} on non-members"
    if fit.frequent_members is None or fit.frequent_nonmembers is None:
        return (
            f"share of labels right: {_percent(network.train_accuracy)} of members', "
            f"{_percent(network.test_accuracy)} of non-members'"
        )
    inside, outside = fit.right_members / fit.n_members, fit.right_nonmembers / fit.n_nonmembers
    frequent = (fit.frequent_members / fit.n_members, fit.frequent_nonmembers / fit.n_nonmembers)
    return (
        f"accuracy: members {_percent(inside)} ({fit.right_members} of {fit.n_members}), non-members "
        f"{_percent(outside)} ({fit.right_nonmembers} of {fit.n_nonmembers}); always answering the most frequent "
        f"class: {' and '.join(map(_percent, frequent))}"
    )


def accuracies(network: NetworkResult, fit: Fit | None) -> list[dict[str, Any]]:
    """What `accuracy` says, as a row for members and one for non-members; none where it is not known."""
    if fit is None:
        return []
    rows = []
    for side, n, right, frequent, share in (
        ("members", fit.n_members, fit.right_members, fit.frequent_members, network.train_accuracy),
        ("non-members", fit.n_nonmembers, fit.right_nonmembers, fit.frequent_nonmembers, network.test_accuracy),
    ):
        row = {"records": side, "n": n, "right": right, "most_frequent": frequent, "accuracy": share}
        rows.append({**row, "task": fit.task})
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


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
