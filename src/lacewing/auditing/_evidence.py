"""From the answers of the target and its references to what an attacker holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._references import by_side
from lacewing.attacks._types import Evidence, FirstLayer, Observed, Population, References, Task, spans_everything
from lacewing.auditing import _tasks
from lacewing.auditing._inputs import RawData
from lacewing.auditing._records import Records
from lacewing.metrics import Bools

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers
    from lacewing.auditing._work import Work


def of_target(answers: Answers, records: Records, task: Task) -> Evidence:
    """What the attacker of the target holds without references."""
    y = records.audited.y
    observed = of_network(answers, y, records.member_N, task)
    observed = replace(observed, group_N=records.group_N)
    return Evidence(
        observed,
        population=_population(answers, records.population, y, task),
        related=_earlier(answers, y, records.member_N, task),
    )


def _earlier(answers: Answers, y: npt.NDArray[Any], member_N: Bools, task: Task) -> tuple[Observed, ...]:
    """The checkpoints of a network, the earliest first."""
    before = () if answers.before_TNC is None else answers.before_TNC
    return tuple(of_network(type(answers)(logits), y, member_N, task) for logits in before)


def of_network(answers: Answers, y: npt.NDArray[Any], member_N: Bools, task: Task) -> Observed:
    logits, label = _tasks.scored(answers.logits_NC, y, task, "model")
    return Observed(
        logits_NC=logits,
        label_N=label,
        member_N=member_N,
        sensitivity_N=answers.sensitivity_N,
        record_N=np.arange(len(y)),
        phi_NQ=answers.phi_NQ,
        right_NQ=answers.right_NQ,
        right_NS=answers.right_NS,
        gradient_N2=answers.gradient_N2,
        boundary_N=answers.boundary_N,
        asked_N=answers.asked_N,
        layer_NF=answers.layer_NF,
        inputs_ND=answers.inputs_ND,
        first_layer=_first_layer(answers, member_N),
        task=task,
        benefit_N=_tasks.quality(answers.logits_NC, y, member_N, task).benefit_N,
    )


def _first_layer(answers: Answers, member_N: Bools) -> FirstLayer | None:
    """None also where so many records were trained on that their span tells nothing."""
    weights, kept, records = answers.weights_HD, answers.kept_HD, int(member_N.sum())
    if weights is None or kept is None or spans_everything(records, weights.shape[1]):
        return None
    return FirstLayer(weights, kept, records, answers.initial_HD)


def _population(answers: Answers, reserve: RawData | None, y: npt.NDArray[Any], task: Task) -> Population | None:
    if reserve is None or answers.logits_ZC is None:
        return None
    variance = y.var(axis=0) if task == "regression" else None
    return Population(*_tasks.scored(answers.logits_ZC, reserve.y, task, "model", variance_D=variance))


def with_references(evidence: Evidence, found: Sequence[Answers], work: Work, notes: list[str]) -> Evidence:
    """All references for the target; the first of them as shadow, with the others as its references."""
    y = work.records.y
    own = of_network(found[0], y, work.in_KN[0], work.task)
    own = replace(own, group_N=by_side(evidence.observed.group_N, work.in_KN[0]))
    rest = range(1, len(found))
    inside = work.in_KN[1:]
    covered = bool((inside.any(axis=0) & ~inside.all(axis=0)).all())
    if not covered:
        notes.append(
            f"With {len(found)} references the shadow network has too few of them: attacks with references rank "
            "records but make no decisions. Give references=4 or more."
        )
    shadow = Evidence(
        own,
        references=_stacked(found, rest, work) if covered else None,
        population=_reserve(_population(found[0], work.population, y, work.task), found, rest, work),
        related=_earlier(found[0], y, work.in_KN[0], work.task),
    )
    every = range(len(found))
    return Evidence(
        evidence.observed,
        references=_stacked(found, every, work),
        population=_reserve(evidence.population, found, every, work),
        related=evidence.related,
        shadow=shadow,
    )


def of_one(k: int, found: Sequence[Answers], group_N: npt.NDArray[np.integer] | None, work: Work) -> Evidence:
    """Network ``k`` as the attacked one, with the others of its recipe as references; there is no shadow."""
    y, inside = work.records.y, work.in_KN[k]
    rest = [other for other in range(len(found)) if other != k]
    own = _population(found[k], work.population, y, work.task)
    return Evidence(
        replace(of_network(found[k], y, inside, work.task), group_N=by_side(group_N, inside)),
        references=_stacked(found, rest, work),
        population=_reserve(own, found, rest, work),
    )


def _stacked(found: Sequence[Answers], which: Sequence[int], work: Work) -> References:
    phi = [found[k].phi_NQ for k in which]
    answers = np.stack([found[k].logits_NC for k in which])
    return References(
        logits_KNC=_tasks.scored(answers, work.records.y, work.task, "refit")[0],
        in_KN=work.in_KN[list(which)],
        name_K=tuple(f"reference {k + 1}" for k in which),
        phi_KNQ=np.stack([p for p in phi if p is not None]) if all(p is not None for p in phi) else None,
        benefit_KN=_tasks.benefits(answers, work.records.y, work.in_KN[list(which)], work.task),
    )


def _reserve(own: Population | None, found: Sequence[Answers], which: Sequence[int], work: Work) -> Population | None:
    if own is None or work.population is None:
        return None
    answers = [found[k] for k in which]
    each = [_population(one, work.population, work.records.y, work.task) for one in answers]
    return Population(own.logits_ZC, own.label_Z, np.stack([one.logits_ZC for one in each if one is not None]))
