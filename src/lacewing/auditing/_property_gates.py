"""Gates on what networks tell of a property: ``mask.accuracy > 0.6`` fails an audit that establishes more.

A gate that cannot be judged never passes: of an attack that did not run, of networks that learned nothing, at so few
networks that it could not fail.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from lacewing.auditing._gates import Gate, Side, Verdict
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import clopper_pearson
from lacewing.property import ATTACKS, PropertyRow, n_leaked

if TYPE_CHECKING:
    from lacewing.auditing._property_result import PropertyAudit

METRICS = ("accuracy", "auc", "n_leaked")
EXAMPLE = "mask.accuracy > 0.6"
_OPERATORS = {">": operator.gt, ">=": operator.ge}
_FORM = re.compile(
    r"\s*(?:(?P<attack>[a-z-]+)\.)?(?P<metric>[a-z_]+)(?:\.(?P<side>[a-z]+))?\s*"
    r"(?P<op>>=|>)\s*(?P<bound>\d*\.?\d+(?:e-?\d+)?)\s*"
)


def parse(text: str) -> Gate:
    """The gate that ``text`` declares: ``[ATTACK.]METRIC[.SIDE] > NUMBER``.

    ATTACK is an attack's name, or left out for any; METRIC one of accuracy, auc, n_leaked; SIDE (default low) the end
    of the 95 % interval that is compared: low, value or high; the operator is > or >=. Raises `UsageError` that names
    the part which is wrong.
    """
    if not isinstance(text, str):
        raise UsageError(f"the gate {text!r} is no text: give one such as {EXAMPLE!r}.")
    begun = re.match(r"\s*(\w+)(?:\.(\w+))?", text)
    alone = begun is not None and begun[1] in METRICS and begun[2] not in METRICS
    found = _FORM.fullmatch(f"any.{text.lstrip()}" if alone else text)
    if not found or found["attack"] is None:
        raise UsageError(
            f"gate {text!r} must read ATTACK.METRIC > NUMBER, e.g. {EXAMPLE!r}, or METRIC > NUMBER for any attack; the "
            f"metrics are {', '.join(METRICS)}."
        )
    attack, metric, side = found["attack"], found["metric"], found["side"] or "low"
    if attack != "any" and attack not in ATTACKS:
        raise UsageError(f"gate {text!r}: there is no attack '{attack}': {did_you_mean(attack, {*ATTACKS, 'any'})}")
    if metric not in METRICS:
        raise UsageError(f"gate {text!r}: there is no metric '{metric}': {did_you_mean(metric, METRICS)}")
    if side not in ("low", "value", "high"):
        raise UsageError(f"gate {text!r}: '.{side}' is not an end of the interval: give low, value or high.")
    bound = float(found["bound"])
    if metric != "n_leaked" and not _OPERATORS[found["op"]](1, bound):
        raise UsageError(f"gate {text!r}: {metric} is at most 1, so this is never true.")
    return Gate(text.strip(), attack, metric, None, cast(Side, side), found["op"], bound)


def judge(gates: Iterable[Gate], audit: PropertyAudit) -> tuple[Verdict, ...]:
    """What each gate finds in the audit, or why it cannot be judged."""
    found = []
    for gate in gates:
        try:
            found.append(_verdict(gate, audit))
        except UsageError as error:
            found.append(Verdict(gate.text, None, str(error)))
    return tuple(found)


def _verdict(gate: Gate, audit: PropertyAudit) -> Verdict:
    rows = [row for row in audit.rows if gate.attack in ("any", row.attack)]
    if not rows:
        raise UsageError(f"gate {gate.text!r}: {_why_not(gate.attack)}")
    _refuse_never(gate, rows)
    values = {row.attack: value for row in rows if (value := _number(gate, row)) is not None}
    if not values:
        raise UsageError(
            f"gate {gate.text!r}: with one draw of the pools the AUC has no interval: compare auc.value, or give two "
            "pools or more."
        )
    over = {name: value for name, value in values.items() if _OPERATORS[gate.op](value, gate.bound)}
    if not over and audit.learned.doubt:
        raise UsageError(f"gate {gate.text!r} cannot be judged. {audit.learned.doubt}")
    shown = over or {max(values, key=lambda name: values[name]): max(values.values())}
    listed = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    end = {"low": "lower end", "value": "value", "high": "upper end"}[gate.side]
    return Verdict(gate.text, bool(over), f"{gate.text}: {end} {'of' if over else 'at most'} {listed}.")


def _why_not(attack: str) -> str:
    known = ATTACKS[attack]
    if known.poisons:
        return f"'{attack}' did not run, since nobody poisons: give poison and poison_label."
    return f"'{attack}' did not run: these networks have no {'weights to read' if attack != 'mask' else 'mask'}."


def _refuse_never(gate: Gate, rows: Iterable[PropertyRow]) -> None:
    """Refuse a gate that not even an attack which names every world could fail with so many networks."""
    most = 0.0
    for row in rows:
        best = clopper_pearson(row.attacked, row.attacked)[0] if gate.side == "low" and gate.metric != "auc" else 1.0
        most = max(most, n_leaked(best, row.first, row.second) if gate.metric == "n_leaked" else best)
    if not _OPERATORS[gate.op](most, gate.bound):
        raise UsageError(
            f"gate {gate.text!r}: with so few attacked networks the lower end is at most {most:.4g}, even of an attack "
            "that names every world, so that this gate could never fail: give more networks or a lower bound."
        )


def _number(gate: Gate, row: PropertyRow) -> float | None:
    if gate.metric == "n_leaked":
        ends = {"low": row.n_leaked_low, "value": row.n_leaked, "high": row.n_leaked_high}
        found = ends[gate.side]
        return math.inf if found is None else found
    if gate.metric == "auc":
        return {"low": row.auc_low, "value": row.auc, "high": row.auc_high}[gate.side]
    return {"low": row.low, "value": row.accuracy, "high": row.high}[gate.side]
