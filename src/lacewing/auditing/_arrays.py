"""Arrays of outputs as people give them, brought to what the attacks read: logits, labels, groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing import _outputs, _tasks
from lacewing.auditing._inputs import group_codes_of
from lacewing.auditing._outputs import Outputs
from lacewing.data import duplicate_groups, group_codes
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.support.formats import Arrays

Array = npt.NDArray[Any]
_LEAST_COPIED, _SHARED = 10, 0.01  # values that repeat, and the share of these on both sides, of copies
_AXES = {"logits": 2, "reference_logits": 3, "population_logits": 2, "population_reference_logits": 3}


def as_seen(
    arrays: Arrays, member: Bools, task: Task, outputs: Outputs | None, notes: list[str]
) -> tuple[Arrays, Array, Array, _tasks.Quality]:
    """The arrays with logits and labels as the attacks take them, of any task and form; the logits or quantities and
    the labels as they are; and how well the model answers.
    """
    n = len(member)
    if "label" not in arrays:
        raise UsageError("There is no 'label' beside logits: give the label of each record.")
    if task not in CLASSES and (phi := next((name for name in arrays if name.endswith("phi")), None)):
        raise UsageError(f"{phi} are log-odds of classes: leave them out for task='{task}'.")
    given = {name: arrays[name] for name in _AXES if name in arrays}
    given |= {name: values[..., None] for name, values in given.items() if values.ndim == _AXES[name] - 1}
    own = real("logits", given)
    if own.ndim != 2 or own.shape[1] < 1 or len(own) != n:
        raise UsageError(
            f"logits have shape {arrays['logits'].shape} beside {n} values of member: give (N, C), a row a record, a "
            "column a class or label."
        )
    _outputs.check_columns(own.shape[1], task, "logits")
    if (own == own[0]).all():
        raise UsageError(f"logits are the same for all {n} records: constant outputs distinguish nothing.")
    logits, form, note = _outputs.as_logits(own, task, outputs, "logits")
    notes += [note] if note else []
    y = _labels("label", arrays["label"], n, task, logits.shape[1])
    seen = dict(arrays)
    seen["logits"], seen["label"] = _tasks.scored(logits, y, task, "the model")
    fitted = _tasks.quality(logits, y, member, task)
    if fitted.benefit_N is not None:
        seen["benefit"] = fitted.benefit_N
    variance = y.var(axis=0) if task == "regression" else None
    of_population = None
    if "population_label" in arrays:
        of_population = _labels("population_label", arrays["population_label"], None, task, logits.shape[1])
    for name in [name for name in given if name != "logits"]:
        if given[name].shape[-1] != own.shape[-1]:
            raise UsageError(f"{name} has shape {arrays[name].shape}, and logits have {own.shape[1]} columns.")
        others, _, _ = _outputs.as_logits(real(name, given), task, outputs, name, form)
        labels = y if name == "reference_logits" else of_population
        if labels is None:
            continue  # told where the population is read
        if others.shape[-2] != len(labels):
            raise UsageError(f"{name} has shape {arrays[name].shape} beside {len(labels)} labels: give a row a record.")
        if name == "reference_logits" and "reference_in" in arrays and arrays["reference_in"].shape == others.shape[:2]:
            benefit = _tasks.benefits(others, y, arrays["reference_in"].astype(np.bool_), task)
            seen |= {} if benefit is None else {"reference_benefit": benefit}
        seen[name], label = _tasks.scored(others, labels, task, name, variance_D=variance)
        if name != "reference_logits":
            seen["population_label"] = label
    return seen, logits, y, fitted


def _labels(name: str, values: npt.NDArray[Any], n: int | None, task: Task, columns: int) -> npt.NDArray[Any]:
    """Checked labels of the task; whole numbers of any type are classes, since a .csv holds floats alone."""
    if n is not None and (values.ndim == 0 or len(values) != n):
        raise UsageError(f"{name} has shape {values.shape} beside {n} records: give one a record.")
    if task in CLASSES and values.ndim == 1 and values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    y = _tasks.checked_labels(values, task, name)
    if task in CLASSES and len(y) and y.max() >= columns:
        raise UsageError(f"{name} holds values that are no class: give whole numbers from 0 to {columns - 1}.")
    return y


def copies_of(values: Array, member: Bools, notes: list[str], *, tell: bool) -> npt.NDArray[np.int64] | None:
    """Groups of records of one side whose ``values`` (N, ...) are equal, where they are copies; None: each counts.

    Coarse outputs, such as votes or the answers of a tree, repeat as well, and they do so on both sides. Values are
    those of copies where at least `_LEAST_COPIED` repeat and nearly none of these stands on both sides.

    Args:
        values: the outputs and labels, or the scores.
        member: (N,) membership.
        notes: a sentence is added here where copies count once.
        tell: say it too where repeated values count each.
    """
    code = duplicate_groups(values)
    members, nonmembers = (np.bincount(code[kind], minlength=len(code)) for kind in (member, ~member))
    repeated = members + nonmembers > 1
    both = (members > 0) & (nonmembers > 0)
    further = [int(np.maximum(count - 1, 0).sum()) for count in (members, nonmembers)]
    if not any(further):
        return None
    said = (
        f"{further[0]} of the {member.sum()} members and {further[1]} of the {(~member).sum()} non-members have "
        f"exactly the {'outputs' if tell else 'score'} of another record of their side"
    )
    if repeated.sum() >= _LEAST_COPIED and both.sum() <= _SHARED * repeated.sum():
        notes.append(f"{said}, and hardly any on both sides: copies count once, so that n counts distinct records.")
        return group_codes(2 * code + member)
    if tell:
        notes.append(f"{said}: each counts. If they are copies, give 'group', so that copies count once.")
    return None


def group_of(arrays: Arrays, member: Bools) -> npt.NDArray[np.int64] | None:
    """Codes of the user's groups. Raises `UsageError` where one has members and non-members."""
    if "group" not in arrays:
        return None
    if arrays["group"].shape != member.shape:
        raise UsageError(
            f"group has shape {arrays['group'].shape} beside {len(member)} values of member: give one each."
        )
    return group_codes_of(arrays["group"].tolist(), member, "group")


def real(name: str, arrays: Arrays) -> npt.NDArray[np.floating]:
    values = arrays[name]
    return values if values.dtype.kind == "f" else values.astype(np.float64)
