"""Gates for CI: ``lira.tpr@0.01 > 0.05`` fails an audit whose leakage is established above a bound.

A gate that cannot be judged never passes: where a self-check failed without which there is no answer, of an attack that
did not run, at an n at which it could not fail.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from lacewing import attacks as registry
from lacewing import metrics
from lacewing.auditing import _answer
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Estimate
from lacewing.results import AttackResult
from lacewing.support.loading import ATTACKS, installed, is_path

if TYPE_CHECKING:
    from lacewing.auditing._result import Audit

Side = Literal["low", "value", "high"]
METRICS = ("auc", "advantage", "balanced_accuracy", "epsilon", "tpr@FPR")
MOST_EPSILON = 1_000  # that is asked about; no sample tells one above the logarithm of its size
EXAMPLE = "lira.tpr@0.01 > 0.05"
_DECIDED = ("advantage", "balanced_accuracy")  # metrics of decisions
_OPERATORS = {">": operator.gt, ">=": operator.ge}
_FORM = re.compile(
    r"\s*(?:(?P<attack>[\w-]+(?:(?:\.\w+)*:\w+)?)\.)?"  # a user's own is package.module:name
    r"(?P<metric>[a-z_]+)(?:@(?P<fpr>\d*\.?\d+(?:e-?\d+)?))?(?:\.(?P<side>[a-z]+))?"
    r"\s*(?P<op>>=|>)\s*(?P<bound>[-+]?\d*\.?\d+(?:e-?\d+)?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Gate:
    """``[ATTACK.]METRIC[.SIDE] > NUMBER``: the audit fails where this is true."""

    text: str
    attack: str  # a name of the registry, the beginning of several, "scores", or "any"
    metric: str  # "auc", "advantage", "balanced_accuracy", "epsilon", "tpr"
    fpr: float | None  # of "tpr" alone
    side: Side  # of the 95 % interval; low: the leak is established
    op: str
    bound: float


@dataclass(frozen=True)
class Verdict:
    """What a gate found."""

    gate: str
    failed: bool | None  # None: it cannot be judged
    sentence: str


def parse(text: str) -> Gate:
    """The gate that ``text`` declares.

    ATTACK is an attack's name, the beginning of several names ("lira"), "scores", or "any", which may be left out;
    METRIC one of auc, advantage, balanced_accuracy, epsilon, tpr@FPR; SIDE (default low) is the end of the metric's
    95 % interval that is compared: low, value or high; the operator is > or >=. Raises `UsageError` that names the part
    which is wrong.
    """
    if not isinstance(text, str):
        raise UsageError(f"the gate {text!r} is no text: give one such as {EXAMPLE!r}.")
    names = {name.partition("@")[0] for name in METRICS}
    begun = re.match(r"\s*(\w+)(?:\.(\w+))?", text)
    alone = begun is not None and begun[1] in names and begun[2] not in names
    found = _FORM.fullmatch(f"any.{text.lstrip()}" if alone else text)
    if not found or found["attack"] is None:
        raise UsageError(
            f"gate {text!r} must read ATTACK.METRIC > NUMBER, e.g. {EXAMPLE!r}, or METRIC > NUMBER for any attack; the "
            f"metrics are {', '.join(METRICS)}."
        )
    attack, metric, fpr, side = found["attack"], found["metric"], found["fpr"], found["side"] or "low"
    if metric not in names:
        raise UsageError(f"gate {text!r}: there is no metric '{metric}': {did_you_mean(metric, names)}")
    if (metric == "tpr") != (fpr is not None):
        raise UsageError(f"gate {text!r}: a false-positive rate goes with tpr, and only there: tpr@0.001.")
    if fpr is not None and not 0.0 < float(fpr) < 1.0:
        raise UsageError(f"gate {text!r}: the false-positive rate {fpr} must lie between 0 and 1.")
    if side not in ("low", "value", "high"):
        raise UsageError(f"gate {text!r}: '.{side}' is not an end of the interval: give low, value or high.")
    if metric == "epsilon" and side != "low":
        raise UsageError(f"gate {text!r}: epsilon is a lower bound, which has no '{side}': leave it out.")
    most, bound = MOST_EPSILON if metric == "epsilon" else 1, float(found["bound"])
    if not -1 <= bound <= most or not _OPERATORS[found["op"]](most, bound):
        raise UsageError(f"gate {text!r}: {metric} lies between -1 and {most:,}, so this is never or always true.")
    _known(attack, text, ())
    return Gate(
        text=text.strip(),
        attack=attack,
        metric=metric,
        fpr=None if fpr is None else float(fpr),
        side=cast(Side, side),
        op=found["op"],
        bound=bound,
    )


def judge(gates: Iterable[Gate], audit: Audit) -> tuple[Verdict, ...]:
    """What each gate finds in the audit, or why it cannot be judged; see `check`."""
    found = []
    for gate in gates:
        try:
            found.append(_verdict(gate, audit))
        except UsageError as error:
            found.append(Verdict(gate.text, None, str(error)))
    return tuple(found)


def check(gates: Iterable[Gate], audit: Audit) -> tuple[Verdict, ...]:
    """What each gate finds in the audit; a gate on several attacks fails where one of them is over the bound.

    Raises `UsageError` (nothing passes unmeasured) where a self-check failed that decides, the attack did not
    run, it makes no decisions and the metric needs some, the FPR is below 1/non-members, or the gate could not fail
    at this n, whatever the scores are.
    """
    found = judge(gates, audit)
    if unknown := unjudged(found):
        raise UsageError(unknown)
    return found


def unjudged(found: Iterable[Verdict]) -> str:
    """Why gates cannot be judged, one sentence or more; empty where all are."""
    return " ".join(dict.fromkeys(verdict.sentence for verdict in found if verdict.failed is None))


def _verdict(gate: Gate, audit: Audit) -> Verdict:
    failed = _answer.deciding(audit.selfchecks)
    if of_all := [check.sentence for check in failed if check.decides == "every attack"]:
        raise UsageError(f"gate {gate.text!r} cannot be judged. {' '.join(of_all)}")
    meant = _meant(gate, audit)
    _refuse_never(gate, meant[0], audit)
    numbers: dict[str, float] = {}
    without = []
    for result in meant:
        number = _number(gate, result, audit)
        if number is None:
            without.append(result.attack)
        else:
            numbers[result.attack] = number
    if not numbers:
        raise UsageError(
            f"gate {gate.text!r}: {', '.join(without)} made no decisions, since there was no shadow or reference "
            f"to take a threshold from, so that there is no {gate.metric}: ask for auc or tpr@FPR."
        )
    doubted = [name for name in numbers if failed and _rests_on_references(gate, name)]
    over = {name: number for name, number in numbers.items() if name not in doubted and over_bound(gate, number)}
    if doubted and not over:  # what other attacks establish stands
        raise UsageError(
            f"gate {gate.text!r} cannot be judged, since {', '.join(doubted)} rest{'s' * (len(doubted) == 1)} on "
            f"references. {' '.join(check.sentence for check in failed)}"
        )
    shown = over or {max(numbers, key=lambda name: numbers[name]): max(numbers.values())}
    listed = ", ".join(f"{name} {number:.4g}" for name, number in shown.items())
    passed_over = f"; not compared, since without decisions: {', '.join(without)}" if without else ""
    if gate.attack != "any" and (absent := _absent(gate, audit)):
        passed_over += f"; did not run: {', '.join(absent)}"
    return Verdict(
        gate.text, bool(over), f"{gate.text}: {_end(gate)} {'of' if over else 'at most'} {listed}{passed_over}."
    )


def over_bound(gate: Gate, number: float) -> bool:
    """Whether the number makes the gate true, so that it fails."""
    return bool(_OPERATORS[gate.op](number, gate.bound))


def _rests_on_references(gate: Gate, attack: str) -> bool:
    """Whether the number does: where the attack does, and decisions of any attack, whose threshold comes from them."""
    return attack != "scores" and (gate.metric in _DECIDED or _answer.rests_on_references(attack))


def _end(gate: Gate) -> str:
    if gate.metric == "epsilon":
        return "lower bound"
    return {"low": "lower end", "value": "value", "high": "upper end"}[gate.side]


def _refuse_never(gate: Gate, result: AttackResult, audit: Audit) -> None:
    """Refuse a gate that not even an attack which tells every member from every non-member could fail at this n."""
    m, n = result.n_members, result.n_nonmembers
    if gate.fpr is not None and gate.side == "low" and n < (least := metrics.least_nonmembers(gate.fpr)):
        raise UsageError(
            f"gate {gate.text!r}: with fewer than {least:,} non-members, and there are {n:,}, the lower end of a TPR "
            f"at an FPR of {gate.fpr:g} is 0, so that this gate could never fail: give more non-members or a higher "
            "rate, or compare .value or .high."
        )
    member = np.arange(m + n) < m
    scores = np.arange(m + n, 0, -1.0)
    if gate.metric == "epsilon":
        most = float(metrics.epsilon_lower_bound(scores, member, delta=audit.delta))
    else:
        best = metrics.summary(scores, member, member, fprs=() if gate.fpr is None else (gate.fpr,))
        found = best[gate.metric if gate.fpr is None else f"tpr_at_fpr_{gate.fpr:g}"]
        if found is None:
            return  # the FPR is below 1/non-members, which is told where it is measured
        most = cast(float, getattr(found, gate.side))
    if not _OPERATORS[gate.op](most, gate.bound):
        raise UsageError(
            f"gate {gate.text!r}: with {m:,} members and {n:,} non-members the {_end(gate)} is at most {most:.4g}, "
            "even of an attack that tells them all apart, so that this gate could never fail: give more records or a "
            "lower bound."
        )


def _meant(gate: Gate, audit: Audit) -> list[AttackResult]:
    """The results that the gate is about: the attack of that very name, else those whose names begin so."""
    ran = {result.attack: result for result in audit.attacks}
    names = _known(gate.attack, gate.text, (*ran, *audit.refused))
    found = [ran[name] for name in names if name in ran]
    if not found:
        why = "; ".join(f"{name}: {audit.refused[name]}" for name in names if name in audit.refused)
        raise UsageError(f"gate {gate.text!r}: the attack did not run. {why or 'Name it with --attack.'}")
    return found


def _absent(gate: Gate, audit: Audit) -> list[str]:
    ran = {result.attack for result in audit.attacks}
    return [name for name in _known(gate.attack, gate.text, tuple(audit.refused)) if name not in ran]


def _known(attack: str, text: str, others: tuple[str, ...]) -> list[str]:
    every = list(dict.fromkeys((*others, "scores", *registry.ATTACKS, *installed(ATTACKS))))
    if attack == "any":
        return every
    if attack in every or is_path(attack):
        return [attack]
    begun = [name for name in every if name.startswith(attack)]
    if not begun:
        every += [name.partition("-")[0] for name in every]
        raise UsageError(f"gate {text!r}: there is no attack '{attack}': {did_you_mean(attack, {*every, 'any'})}")
    return begun


def _number(gate: Gate, result: AttackResult, audit: Audit) -> float | None:
    if gate.metric == "epsilon":
        return audit.epsilon[result.attack]
    found: Estimate | None
    if gate.fpr is not None:
        try:
            found = metrics.tpr_at_fpr(result.score_N, result.member_N, gate.fpr, form="valid")
        except UsageError as error:
            raise UsageError(f"gate {gate.text!r}: {error}") from error
    else:
        found = result.metrics[gate.metric]
    return None if found is None else cast(float, getattr(found, gate.side))
