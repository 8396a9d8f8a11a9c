"""The answer of an audit in one sentence: was leakage found, by which attack, and at which n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lacewing import attacks as registry
from lacewing import metrics
from lacewing.attacks._deciding import ERROR, LOOKS, SelfCheck
from lacewing.attacks._fit import Fit
from lacewing.attacks._types import CLASSES
from lacewing.errors import UsageError
from lacewing.metrics import Estimate
from lacewing.results import REALISED, AttackResult, NetworkResult, by_realised_fpr, strongest_first

TAIL = 0.01  # the false-positive rate at which the tail is tested
_TAIL = "tpr_at_fpr_0.01"
_NAMED = 4  # attacks that a line lists by name; more are counted
_WITH_REFERENCES = frozenset({"shadow", "references", "in-references"})


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


def sentence(results: Sequence[AttackResult], checks: Sequence[SelfCheck] = (), records: int | None = None) -> str:
    """What was found, never that nothing could be: leakage with the strongest attack's numbers, or the bound above
    which none was found.

    Leakage counts as found (established) where the AUC of one of the m attacks lies above 0.5, or more members than
    chance allows stand above 99 % of the non-members; an AUC below 0.5 fails a self-check. Each of the 3 m looks is at
    0.05/(3 m) (Bonferroni). The attack shown is the one of the highest AUC among those that are established. Where a
    self-check failed that decides about every attack, there is no bound: the answer says that the audit cannot tell,
    and why.

    Args:
        results: of the attacks that ran.
        checks: the self-checks.
        records: how many records there are, where n counts groups of them; None: n counts records.
    """
    best, m = strongest(results), len(results)
    share = ERROR / (LOOKS * m)
    n = f"n = {best.n_members} members and {best.n_nonmembers} non-members{counted(records)}"
    by_area = [r for r in results if metrics.auc(r.score_N, r.member_N, 1.0 - 2.0 * share).low > 0.5]
    by_tail = [r for r in results if tail_p_value(r) < share]
    if by_area:
        shown = strongest(by_area)
        which = "the given scores tell" if _given(shown) else f"the attack '{shown.attack}' tells"
        rule = "strongest of those established above 0.5"
        of = _rank(shown is best, m, rule)
        return (
            f"Leakage found: {which} members from non-members{of} with an AUC of {_auc(shown).text()}"
            f"{_tail(results, shown)}; {n}.{_doubts(checks, shown)}"
        )
    if by_tail:
        shown = max(by_tail, key=_rate)
        which = "the given scores find" if _given(shown) else f"the attack '{shown.attack}' finds"
        of = _rank(shown is max(results, key=_rate), m, "strongest of those established above 1 %")
        return (
            f"Leakage found at low false-positive rates: {which} {_share(shown)} of the members at a false-positive "
            f"rate of 1 %{of}; its AUC is {_auc(shown).text()}; {n}.{_doubts(checks, shown)}"
        )
    failed = deciding(checks)
    if of_all := [check.sentence for check in failed if check.decides == "every attack"]:
        why = " ".join(of_all)
        return (
            f"This audit cannot say what the model leaks: {_lower(why)} No attack told members from non-members; {n}."
        )
    bound = max(0.5, *(_auc(result).high for result in results))
    looks = "the given scores'" if m == 1 and _given(best) else f"of {m} attack{'s' * (m > 1)} the highest"
    return (
        f"No leakage found above an AUC of {bound:.3f} ({looks} upper end of a 95 % interval) at {n}; attacks that "
        f"were not run may find more.{_missed(failed)}"
    )


def deciding(checks: Sequence[SelfCheck]) -> list[SelfCheck]:
    """The self-checks that failed and without which there is no answer; see `SelfCheck.decides`."""
    return [check for check in checks if not check.passed and check.decides != "nothing"]


def rests_on_references(attack: str) -> bool:
    """Whether a result of this name needs a shadow network or references; of a user's own attack this is assumed."""
    known = registry.ATTACKS.get(attack)
    return attack != "scores" if known is None else bool(known.needs & _WITH_REFERENCES)


def counted(records: int | None) -> str:
    """What n counts, in brackets, where these are not records."""
    return "" if records is None else f" (n counts groups, of {records} records)"


def _doubts(checks: Sequence[SelfCheck], shown: AttackResult) -> str:
    """The failed self-checks that the finding of ``shown`` rests on, as further sentences."""
    about = [c for c in deciding(checks) if c.decides == "every attack" or rests_on_references(shown.attack)]
    if not about:
        return ""
    why = " ".join(check.sentence for check in about)
    return f" But this may be no leak of the model that is meant: {_lower(why)}"


def _missed(failed: Sequence[SelfCheck]) -> str:
    """What the attacks with references may have missed, as further sentences; the other attacks' bound stands."""
    why = " ".join(check.sentence for check in failed)
    return f" But attacks with references may have missed some: {_lower(why)}" if why else ""


def _lower(text: str) -> str:
    return f"{text[0].lower()}{text[1:]}"


def _tail(results: Sequence[AttackResult], shown: AttackResult) -> str:
    """What the strongest attack at a false-positive rate of 1 % finds, as the end of a sentence about ``shown``."""
    best = max(results, key=_rate)
    if best.metrics.get(_TAIL) is None:
        return ""
    if _rate(shown) == _rate(best):
        best = shown
    if _rate(best) <= TAIL:
        return "; at a false-positive rate of 1 % no attack finds more than 1 % of the members"
    if best is shown:
        return f", and find{'s' * (not _given(shown))} {_share(best)} of the members at a false-positive rate of 1 %"
    which = "the given scores find" if _given(best) else f"'{best.attack}' finds"
    return f"; at a false-positive rate of 1 % {which} the most members, {_share(best)}"


def _rank(first: bool, m: int, rule: str) -> str:
    return "" if m == 1 else f" (strongest of {m})" if first else f" ({rule}, of {m} attacks)"


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
    if fit.task not in CLASSES:
        return (
            f"share of labels right: {_percent(network.train_accuracy)} of members', "
            f"{_percent(network.test_accuracy)} of non-members'"
        )
    return of_classes(fit)


def of_classes(fit: Fit) -> str:
    """`accuracy` of a classifier."""
    assert fit.frequent_members is not None
    assert fit.frequent_nonmembers is not None
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
        row: dict[str, Any] = {"records": side, "n": n, "task": fit.task}
        if fit.task == "regression":
            rows.append({**row, "r_squared": share})
        elif fit.task == "multi-label":
            rows.append({**row, "share_of_labels_right": share})
        else:
            rows.append({**row, "right": right, "most_frequent": frequent, "accuracy": share})
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


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
