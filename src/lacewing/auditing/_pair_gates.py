"""Gates on a dense and a sparse network: ``difference.auc > 0`` fails where the sparse one is shown to leak more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from lacewing.auditing import _answer, _gates
from lacewing.auditing._gates import Gate, Verdict
from lacewing.errors import UsageError

if TYPE_CHECKING:
    from lacewing.auditing._pair_difference import PairedDifference
    from lacewing.auditing._pair_result import PairAudit

Side = Literal["dense", "sparse", "difference", "together"]
_SIDES: tuple[Side, ...] = ("dense", "sparse", "difference", "together")


class PairGate(NamedTuple):
    """A gate, and which network it is about."""

    side: Side
    gate: Gate


def parse(text: str) -> PairGate:
    """The gate that ``[SIDE.]GATE`` declares, SIDE one of `Side`; without one it is about the sparse network.

    GATE is written as for `lacewing.auditing._gates.parse`; of a difference the metric is auc, tpr@0.01 or tpr@0.001.
    Raises `UsageError` that names the part which is wrong.
    """
    side, rest = "sparse", text
    if isinstance(text, str):
        word, dot, after = text.strip().partition(".")
        if dot and word in _SIDES:
            side, rest = word, after
    try:
        gate = _gates.parse(rest)
    except UsageError as error:
        raise UsageError(str(error).replace(repr(rest), repr(text), 1)) from None
    if side == "difference" and _column(gate) is None:
        raise UsageError(
            f"gate {text!r}: a difference is known of auc, tpr@0.01 and tpr@0.001: give one of them, or ask for "
            f"sparse.{gate.metric}."
        )
    return PairGate(cast(Side, side), replace(gate, text=text.strip()))


def judge(gates: Iterable[PairGate], pair: PairAudit) -> tuple[Verdict, ...]:
    """What each gate finds, or why it cannot be judged.

    That is so where it cannot be judged of one network (`lacewing.auditing._gates.check`), and a difference also where
    a self-check failed that decides, of either network, or the attack did not run on both.
    """
    found: list[Verdict] = []
    for side, gate in gates:
        if side != "difference":
            audit = {"dense": pair.dense, "sparse": pair.sparse, "together": pair.together}[side]
            if audit is not None:
                found += _gates.judge([gate], audit)
                continue
        try:
            if side == "together":
                why = next(iter(pair.refused.values()), "Name one of them in attacks.")
                raise UsageError(f"gate {gate.text!r}: no attack ran that queries both networks. {why}")
            found.append(_of_difference(gate, pair))
        except UsageError as error:
            found.append(Verdict(gate.text, None, str(error)))
    return tuple(found)


def _of_difference(gate: Gate, pair: PairAudit) -> Verdict:
    failed = [check for audit in (pair.dense, pair.sparse) for check in _answer.deciding(audit.selfchecks)]
    if of_all := [check.sentence for check in failed if check.decides == "every attack"]:
        raise UsageError(f"gate {gate.text!r} cannot be judged. {' '.join(of_all)}")
    meant = _meant(gate, pair)
    numbers = {d.attack: float(getattr(d.difference, gate.side)) for d in meant}
    doubted = [name for name in numbers if failed and _answer.rests_on_references(name)]
    over = {name: x for name, x in numbers.items() if name not in doubted and _gates.over_bound(gate, x)}
    if doubted and not over:
        raise UsageError(
            f"gate {gate.text!r} cannot be judged, since {', '.join(doubted)} rest{'s' * (len(doubted) == 1)} on "
            f"references. {' '.join(check.sentence for check in failed)}"
        )
    most = max(numbers, key=lambda name: numbers[name])
    shown = over or {most: numbers[most]}
    listed = ", ".join(f"{name} {number:+.4g}" for name, number in shown.items())
    end = {"low": "lower end", "value": "value", "high": "upper end"}[gate.side]
    sentence = f"{gate.text}: {end} of sparse - dense {'is' if over else 'is at most'} {listed}."
    return Verdict(gate.text, bool(over), sentence)


def _meant(gate: Gate, pair: PairAudit) -> list[PairedDifference]:
    column = _column(gate)
    of_metric = [d for d in pair.differences if d.metric == column]
    named = [d for d in of_metric if gate.attack in ("any", d.attack)]
    found = named or [d for d in of_metric if d.attack.startswith(gate.attack)]
    if found:
        return found
    if any(gate.attack == "any" or d.attack.startswith(gate.attack) for d in pair.differences):
        raise UsageError(
            f"gate {gate.text!r}: a TPR at an FPR of {gate.fpr:g} is not given with {pair.n_nonmembers:,} non-members: "
            "give more of them, or a higher rate."
        )
    raise UsageError(f"gate {gate.text!r}: the attack did not run on both networks, so there is no difference.")


def _column(gate: Gate) -> str | None:
    """The metric as `PairedDifference` names it; None: there is no difference of it."""
    if gate.metric == "auc":
        return "auc"
    return f"tpr_at_fpr_{gate.fpr:g}" if gate.metric == "tpr" and gate.fpr in (0.01, 0.001) else None
