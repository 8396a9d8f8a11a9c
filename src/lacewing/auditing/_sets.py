"""Audits of sets of records of a user's model: ranges of a table, and how many of a data set were used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing import sets
from lacewing.attacks._deciding import SelfCheck, fits_members, members_answered_better
from lacewing.attacks._fit import fit
from lacewing.attacks._logits import phi
from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing import _answer, _cache, _evidence, _inputs, _outputs, _pool, _refit, _tasks, _work
from lacewing.auditing._estimator import classes_of
from lacewing.auditing._form import as_array
from lacewing.auditing._inputs import RawData, Reading
from lacewing.auditing._outputs import Outputs
from lacewing.data import duplicate_groups
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats
from lacewing.sets import SetResult, Usage
from lacewing.support import numbers
from lacewing.support.files import out_folder
from lacewing.support.text import say

MOST_POINTS = 1_000
_LEAST_REFERENCES = 4  # with 2 the t interval holds nearly every share


def audit_ranges(
    model: Any,
    members: Any,
    nonmembers: Any,
    *,
    low: Any,
    high: Any,
    label: Any,
    points: int = 32,
    others: Sequence[Any] = (),
    seed: int = 0,
    task: Task = "classification",
    outputs: Outputs | None = None,
    classes: Any = None,
) -> SetResult:
    """Is any record within a range a member? For an attacker who knows records of a table up to ranges.

    The model is asked about points that are drawn within each range, and the mean of the upper half of their scores is
    the range's (Tao and Shokri, arXiv 2408.05131; see `lacewing.sets`). The score of a point is the log-odds of the
    range's class, less their mean under ``others``. The model is asked about the records as well: where it answers its
    members no better than one constant answer, the audit says that it cannot tell.

    Args:
        model: as for `lacewing.audit`, of task "classification" or "binary".
        members: the table it was trained on, ``(x, y)``, x (N, D).
        nonmembers: records of the same source that it never saw.
        low, high: (R, D) the ends of R ranges; equal where the attacker knows a value. A range with a member in it is
            one of those to be found; one with non-members alone is not. Both kinds must be made in the same way, such
            as around records of either side, or what differs is told instead of membership.
        label: (R,) the class of each range, as y has it: records of other classes do not count. Ranges that are equal
            in both ends and the class count once.
        points: Q, drawn within each range, the middle first.
        others: models of the same recipe that trained on none of these records, by which points are compared; each
            another one.
        seed: of the draws.
        task, outputs, classes: see `lacewing.audit`.

    Raises:
        UsageError: an argument is not as described, x is no table, or a range holds no record of its class.
    """
    from lacewing.auditing import _call

    if not isinstance(others, list | tuple):
        raise UsageError(f"others is a {type(others).__name__}: give a list of models, which may be empty.")
    for who, each in (("model", model), *((f"others[{i}]", one) for i, one in enumerate(others))):
        _call.check_model(each, who)
    _check_task(task, outputs)
    points = numbers.whole("points", points, 1, MOST_POINTS, why="each is a question to the model")
    seed = numbers.seed(seed)
    notes: list[str] = []
    # Ranges are of numbers: of columns of words, and where values are missing, there is nothing between two ends.
    reading = replace(_reading(model, classes, task, notes), words=False, missing=False)
    parts = _inputs.read_all({"members": members, "nonmembers": nonmembers}, task, reading=reading)
    records = _inputs.join(parts)
    if records.x.ndim != 2:
        raise UsageError(
            f"members: x has shape {records.x.shape}, and ranges are of columns of a table: give x (N, D)."
        )
    member = np.arange(len(records)) < len(parts["members"])
    code = _codes(label, reading, task)
    holds, size = sets.truth(low, high, code, records.x, records.y, member)
    first = sets.distinct(low, high, code)
    if len(first) < len(code):
        notes.append(
            f"{len(code) - len(first)} of the {len(code)} ranges are equal to another one, in both ends and the class: "
            "equal ranges count once."
        )
    low, high, code, holds, size = (np.asarray(each)[first] for each in (low, high, code, holds, size))
    whole = (records.x == np.floor(records.x)).all(axis=0)
    drawn = sets.sampled(low, high, whole, points, seed=seed)
    asked = RawData(
        np.concatenate([records.x, drawn.reshape(-1, drawn.shape[2]).astype(records.x.dtype)]),
        np.concatenate([records.y, np.repeat(code, points)]),
        records.form,
    )
    answers = _asked(model, asked, "model", task, outputs, notes)
    score = phi(answers, asked.y)[len(records) :]
    if others:
        score = score - _beside(others, model, asked, answers, task, outputs, notes)[len(records) :]
    checks, accuracy = _fit(answers[: len(records)], records, member, task)
    variant = f"mean of the upper half of {points} points' log-odds"
    variant += f", less those of {len(others)} other models" if others else ""
    found = sets.of_sets("ranges", variant, sets.range_scores(score.reshape(-1, points)), holds, size)
    return replace(found, selfchecks=checks, accuracy=accuracy, notes=tuple(notes))


def audit_usage(
    model: Any,
    records: Any,
    *,
    refit: Callable[[Any, Any, int], Any],
    references: int = 8,
    out: Path | str | None = None,
    seed: int = 0,
    version: str | None = None,
    processes: int | None = None,
    progress: bool = True,
    task: Task = "classification",
    outputs: Outputs | None = None,
    classes: Any = None,
) -> Usage:
    """How many of ``records`` was ``model`` trained on? For the owner of a data set who does not know which.

    References are trained on random halves of the records. The score of a record is its log-odds, less their mean under
    the references that did not train on it; those of each reference come from the others. `lacewing.sets.usage` turns
    scores into a share with an interval, calibrated on the references.

    Args:
        model: as for `lacewing.audit`, of task "classification" or "binary".
        records: ``(x, y)``; any number of them may have been used.
        refit, references, out, seed, version, processes, progress: as for `lacewing.audit`; at least 4 references.
        task, outputs, classes: see `lacewing.audit`.

    Raises:
        UsageError: an argument is not as described.
    """
    if os.environ.get(_pool.WORKING):
        raise UsageError(
            "audit_usage was called while a worker imports this module: put it under `if __name__ == ...`."
        )
    from lacewing.auditing import _ask, _call
    from lacewing.auditing._watch import watch

    _call.check_model(model, "model")
    _check_task(task, outputs)
    if not callable(refit):
        raise UsageError(f"refit is a {type(refit).__name__}: give a function (x, y, seed) -> model.")
    folder = out_folder(out, "references")
    numbers.whole("references", references, _LEAST_REFERENCES, 1_024, why="since fewer tell too little of their spread")
    seed = numbers.seed(seed)
    notes: list[str] = []
    read = _inputs.read(records, "records", task, reading=_reading(model, classes, task, notes))
    asked = _ask.ask(model, read, None, queries=1, signals=frozenset(), task=task, outputs=outputs)
    work = _work.Work(
        refit=refit,
        records=read,
        population=None,
        in_KN=_work.halves(duplicate_groups(read.x), references, seed),
        seed_K=tuple(1000 * seed + k for k in range(references)),
        queries=1,
        white_box=_ask.is_module(model),
        signals=(),
        size=_cache.size(model),
        task=task,
        outputs=outputs,
    )
    found, said = _refit.references(
        work,
        asked.answers,
        unchanged=watch(model, read, task),
        folder=folder,
        version=version,
        processes=numbers.processes(processes),
        say=(lambda text: say(text, sys.stderr)) if progress else (lambda _: None),
    )
    odds_KN = np.stack([phi(one.logits_NC, read.y) for one in found])
    calibrated = [
        odds - _out_mean(np.delete(odds_KN, k, axis=0), np.delete(work.in_KN, k, axis=0))
        for k, odds in enumerate(odds_KN)
    ]
    known = [sets.Known(score, inside) for score, inside in zip(calibrated, work.in_KN, strict=True)]
    share = sets.usage(phi(asked.answers.logits_NC, read.y) - _out_mean(odds_KN, work.in_KN), known)
    return replace(share, notes=tuple(dict.fromkeys([*notes, *asked.notes, *said])))


def _out_mean(odds_KN: Floats, in_KN: Any) -> Floats:
    """(N,) the mean log-odds under the networks that did not train on a record: at least one of every pair did not."""
    outside = ~in_KN
    return np.asarray((odds_KN * outside).sum(axis=0) / outside.sum(axis=0))


def _reading(model: Any, classes: Any, task: Task, notes: list[str]) -> Reading:
    from lacewing.auditing import _call

    return _call.reading(model, classes=classes, collate=None, task=task, stream=None, notes=notes)


def _codes(label: Any, reading: Reading, task: Task) -> npt.NDArray[np.int64]:
    """(R,) the classes of ranges as the records have them. Raises `UsageError`: one is none of the records' classes."""
    given = as_array(label)
    if reading.classes is None:
        return np.asarray(_tasks.checked_labels(given, task, "label"), np.int64)
    return reading.classes.coded(given, "label", known=True)[0]


def _asked(
    model: Any, records: RawData, who: str, task: Task, outputs: Outputs | None, notes: list[str]
) -> npt.NDArray[Any]:
    """(N, C) logits in the columns of the records' classes, of a model that answers alike when it is asked twice."""
    from lacewing.auditing import _ask

    found = _ask.ask(model, records, None, queries=1, signals=frozenset(), who=who, task=task, outputs=outputs)
    notes += [note for note in found.notes if note not in notes]
    return found.answers.logits_NC


def _beside(
    others: Sequence[Any],
    model: Any,
    asked: RawData,
    answers: npt.NDArray[Any],
    task: Task,
    outputs: Outputs | None,
    notes: list[str],
) -> Floats:
    """(N,) mean log-odds under the other models. Raises `UsageError`: one answers as the model or an earlier one."""
    from lacewing.auditing import _call

    columns = answers.shape[1]
    every = {"the model": answers}
    for i, one in enumerate(others):
        who, records = f"others[{i}]", asked
        if not asked.form.classes and classes_of(one):  # whose columns are its own classes'
            records = replace(asked, form=replace(asked.form, classes=tuple(range(columns))))
        found = _asked(one, records, who, task, outputs, notes)
        for name, earlier in every.items():
            if earlier.shape == found.shape and _call.alike(earlier, found, model):
                raise UsageError(f"{who} answers as {name} does: give models that trained on other records, each once.")
        every[who] = found
    return np.asarray(np.mean([phi(every[f"others[{i}]"], asked.y) for i in range(len(others))], axis=0))


def _fit(
    logits_NC: npt.NDArray[Any], records: RawData, member_N: Bools, task: Task
) -> tuple[tuple[SelfCheck, ...], str]:
    """The self-checks that this is the model of these members, and its accuracy in one line."""
    from lacewing.auditing import _ask

    seen = _evidence.of_network(_ask.Answers(logits_NC), records.y, member_N, task)
    checks = (fits_members(seen), members_answered_better(seen), *_tasks.checks(logits_NC, records.y, seen))
    return checks, _answer.of_classes(fit(seen))


def _check_task(task: Task, outputs: Outputs | None) -> None:
    _outputs.check(task, outputs)
    if task not in CLASSES:
        raise UsageError(f"task='{task}' has no class probabilities: this audit needs a classifier.")
