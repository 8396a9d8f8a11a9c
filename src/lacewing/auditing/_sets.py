"""Audits of sets of records of a user's model: ranges of a table, and how many of a data set were used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lacewing import sets
from lacewing.attacks._logits import phi
from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing import _cache, _inputs, _outputs, _pool, _refit, _work
from lacewing.auditing._inputs import RawData
from lacewing.auditing._outputs import Outputs
from lacewing.data import duplicate_groups
from lacewing.errors import UsageError
from lacewing.metrics import Floats
from lacewing.sets import SetResult, Usage
from lacewing.support import numbers
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
) -> SetResult:
    """Is any record within a range a member? For an attacker who knows records of a table up to ranges.

    The model is asked about points that are drawn within each range, and the mean of the upper half of their scores is
    the range's (Tao and Shokri, arXiv 2408.05131; see `lacewing.sets`). The score of a point is the log-odds of the
    range's class, less their mean under ``others``.

    Args:
        model: as for `lacewing.audit`, of task "classification" or "binary".
        members: the table it was trained on, ``(x, y)``, x (N, D).
        nonmembers: records of the same source that it never saw.
        low, high: (R, D) the ends of R ranges; equal where the attacker knows a value. A range with a member in it is
            one of those to be found; one with non-members alone is not. Both kinds must be made in the same way, such
            as around records of either side, or what differs is told instead of membership.
        label: (R,) the class of each range: records of other classes do not count.
        points: Q, drawn within each range, the middle first.
        others: models of the same recipe that trained on none of these records, by which points are compared.
        seed: of the draws.
        task, outputs: see `lacewing.audit`.

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
    parts = {
        "members": _inputs.read(members, "members", task),
        "nonmembers": _inputs.read(nonmembers, "nonmembers", task),
    }
    records = _inputs.join(parts)
    if records.x.ndim != 2:
        raise UsageError(
            f"members: x has shape {records.x.shape}, and ranges are of columns of a table: give x (N, D)."
        )
    member = np.arange(len(records)) < len(parts["members"])
    holds, size = sets.truth(low, high, label, records.x, records.y, member)
    whole = (records.x == np.floor(records.x)).all(axis=0)
    drawn = sets.sampled(low, high, whole, points, seed=seed)
    classes = np.repeat(np.asarray(label, np.int64), points)
    asked = RawData(drawn.reshape(-1, drawn.shape[2]).astype(records.x.dtype), classes, records.form)
    score = _log_odds(model, asked, "model", task, outputs)
    if others:
        beside = [_log_odds(one, asked, f"others[{i}]", task, outputs) for i, one in enumerate(others)]
        for i, each in enumerate(beside):
            if np.array_equal(each, score):
                raise UsageError(f"others[{i}] answers as the model does: give models that trained on other records.")
        score = score - np.mean(beside, axis=0)
    variant = f"mean of the upper half of {points} points' log-odds"
    variant += f", less those of {len(others)} other models" if others else ""
    return sets.of_sets("ranges", variant, sets.range_scores(score.reshape(-1, points)), holds, size)


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
) -> Usage:
    """How many of ``records`` was ``model`` trained on? For the owner of a data set who does not know which.

    References are trained on random halves of the records. The score of a record is its log-odds, less their mean under
    the references that did not train on it; those of each reference come from the others. `lacewing.sets.usage` turns
    scores into a share with an interval, calibrated on the references.

    Args:
        model: as for `lacewing.audit`, of task "classification" or "binary".
        records: ``(x, y)``; any number of them may have been used.
        refit, references, out, seed, version, processes, progress: as for `lacewing.audit`; at least 4 references.
        task, outputs: see `lacewing.audit`.

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
    numbers.whole("references", references, _LEAST_REFERENCES, 1_024, why="since fewer tell too little of their spread")
    seed = numbers.seed(seed)
    read = _inputs.read(records, "records", task)
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
    found, _ = _refit.references(
        work,
        asked.answers,
        unchanged=watch(model, read, task),
        folder=None if out is None else Path(out),
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
    return sets.usage(phi(asked.answers.logits_NC, read.y) - _out_mean(odds_KN, work.in_KN), known)


def _out_mean(odds_KN: Floats, in_KN: Any) -> Floats:
    """(N,) the mean log-odds under the networks that did not train on a record: at least one of every pair did not."""
    outside = ~in_KN
    return np.asarray((odds_KN * outside).sum(axis=0) / outside.sum(axis=0))


def _log_odds(model: Any, asked: RawData, who: str, task: Task, outputs: Outputs | None) -> Floats:
    from lacewing.auditing import _call

    answers = _call.answered(model, asked, who, task)
    logits, _, _ = _outputs.as_logits(answers, task, outputs, f"the answers of {who}")
    if asked.y.min() < 0 or asked.y.max() >= logits.shape[1]:
        raise UsageError(
            f"label holds {asked.y.max()}, and {who} answers {logits.shape[1]} classes: give whole numbers below."
        )
    return phi(logits, asked.y)


def _check_task(task: Task, outputs: Outputs | None) -> None:
    _outputs.check(task, outputs)
    if task not in CLASSES:
        raise UsageError(f"task='{task}' has no class probabilities: this audit needs a classifier.")
