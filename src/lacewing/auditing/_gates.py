"""Gates for CI: ``lira.tpr@0.01 > 0.05`` fails an audit whose leakage is established above a bound."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from lacewing import attacks as registry
from lacewing import metrics
from lacewing.auditing._result import Audit
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Estimate
from lacewing.results import AttackResult
from lacewing.support.loading import ATTACKS, installed, is_path

Side = Literal["low", "value", "high"]
METRICS = ("auc", "advantage", "balanced_accuracy", "epsilon", "tpr@FPR")
MOST_EPSILON = 1_000  # that is asked about; no sample tells one above the logarithm of its size
EXAMPLE = "lira.tpr@0.01 > 0.05"
_OPERATORS = {">": operator.gt, ">=": operator.ge}
_FORM = re.compile(
    r"\s*(?P<attack>[\w-]+(?:(?:\.\w+)*:\w+)?)"  # a user's own is package.module:name
    r"\.(?P<metric>[a-z_]+)(?:@(?P<fpr>\d*\.?\d+(?:e-?\d+)?))?(?:\.(?P<side>[a-z]+))?"
    r"\s*(?P<op>>=|>)\s*(?P<bound>[-+]?\d*\.?\d+(?:e-?\d+)?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Gate:
    """``ATTACK.METRIC[.SIDE] > NUMBER``: the audit fails where this is true."""

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
    failed: bool
    sentence: str


def parse(text: str) -> Gate:
    """The gate that ``text`` declares.

    ATTACK is an attack's name, the beginning of several names ("lira"), "scores", or "any"; METRIC one of auc,
    advantage, balanced_accuracy, epsilon, tpr@FPR; SIDE (default low) is the end of the metric's 95 % interval that is
    compared: low, value or high; the operator is > or >=. Raises `UsageError` that names the part which is wrong.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(f"--fail-if {text!r} must read ATTACK.METRIC > NUMBER, e.g. {EXAMPLE!r}.")
    attack, metric, fpr, side = found["attack"], found["metric"], found["fpr"], found["side"] or "low"
    names = {name.partition("@")[0] for name in METRICS}
    if metric not in names:
        raise UsageError(f"--fail-if {text!r}: there is no metric '{metric}': {did_you_mean(metric, names)}")
    if (metric == "tpr") != (fpr is not None):
        raise UsageError(f"--fail-if {text!r}: a false-positive rate goes with tpr, and only there: tpr@0.001.")
    if fpr is not None and not 0.0 < float(fpr) < 1.0:
        raise UsageError(f"--fail-if {text!r}: the false-positive rate {fpr} must lie between 0 and 1.")
    if side not in ("low", "value", "high"):
        raise UsageError(f"--fail-if {text!r}: '.{side}' is not an end of the interval: give low, value or high.")
    if metric == "epsilon" and side != "low":
        raise UsageError(f"--fail-if {text!r}: epsilon is a lower bound, which has no '{side}': leave it out.")
    most = MOST_EPSILON if metric == "epsilon" else 1
    if not -1 <= float(found["bound"]) <= most:
        raise UsageError(f"--fail-if {text!r}: {metric} lies between -1 and {most:,}, so this is never or always true.")
    _known(attack, text, ())
    return Gate(
        text=text.strip(),
        attack=attack,
        metric=metric,
        fpr=None if fpr is None else float(fpr),
        side=cast(Side, side),
        op=found["op"],
        bound=float(found["bound"]),
    )


def check(gates: Iterable[Gate], audit: Audit) -> tuple[Verdict, ...]:
    """What each gate finds in the audit; a gate on several attacks fails where one of them is over the bound.

    Raises `UsageError` (nothing passes unmeasured) where the attack did not run, makes no decisions and the metric
    needs some, the FPR is below 1/non-members, or the lower end of the TPR at that FPR is 0 whatever the scores are, so
    that the gate could never fail (`metrics.least_nonmembers`).
    """
    return tuple(_verdict(gate, audit) for gate in gates)


def _verdict(gate: Gate, audit: Audit) -> Verdict:
    numbers: dict[str, float] = {}
    without = []
    for result in _meant(gate, audit):
        number = _number(gate, result, audit)
        if number is None:
            without.append(result.attack)
        else:
            numbers[result.attack] = number
    if not numbers:
        raise UsageError(
            f"--fail-if {gate.text!r}: {', '.join(without)} made no decisions, since there was no shadow or reference "
            f"to take a threshold from, so that there is no {gate.metric}: ask for auc or tpr@FPR."
        )
    over = {name: number for name, number in numbers.items() if _OPERATORS[gate.op](number, gate.bound)}
    what = (
        "lower bound" if gate.metric == "epsilon" else {"low": "lower end", "high": "upper end"}.get(gate.side, "value")
    )
    shown = over or {max(numbers, key=lambda name: numbers[name]): max(numbers.values())}
    listed = ", ".join(f"{name} {number:.4g}" for name, number in shown.items())
    passed_over = f"; not compared, since without decisions: {', '.join(without)}" if without else ""
    if gate.attack != "any" and (absent := _absent(gate, audit)):
        passed_over += f"; did not run: {', '.join(absent)}"
    return Verdict(gate.text, bool(over), f"{gate.text}: {what} {'of' if over else 'at most'} {listed}{passed_over}.")


def _meant(gate: Gate, audit: Audit) -> list[AttackResult]:
    """The results that the gate is about: the attack of that very name, else those whose names begin so."""
    ran = {result.attack: result for result in audit.attacks}
    names = _known(gate.attack, gate.text, (*ran, *audit.refused))
    found = [ran[name] for name in names if name in ran]
    if not found:
        why = "; ".join(f"{name}: {audit.refused[name]}" for name in names if name in audit.refused)
        raise UsageError(f"--fail-if {gate.text!r}: the attack did not run. {why or 'Name it with --attack.'}")
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
        raise UsageError(f"--fail-if {text!r}: there is no attack '{attack}': {did_you_mean(attack, {*every, 'any'})}")
    return begun


def _number(gate: Gate, result: AttackResult, audit: Audit) -> float | None:
    if gate.metric == "epsilon":
        return audit.epsilon[result.attack]
    found: Estimate | None
    if gate.fpr is not None:
        least = metrics.least_nonmembers(gate.fpr)
        if gate.side == "low" and result.n_nonmembers < least:
            raise UsageError(
                f"--fail-if {gate.text!r}: with fewer than {least:,} non-members, and there are "
                f"{result.n_nonmembers:,}, the lower end of a TPR at an FPR of {gate.fpr:g} is 0, so that this gate "
                "could never fail: give more non-members or a higher rate, or compare .value or .high."
            )
        try:
            found = metrics.tpr_at_fpr(result.score_N, result.member_N, gate.fpr, form="valid")
        except UsageError as error:
            raise UsageError(f"--fail-if {gate.text!r}: {error}") from error
    else:
        found = result.metrics[gate.metric]
    return None if found is None else cast(float, getattr(found, gate.side))
