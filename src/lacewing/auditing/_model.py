"""The audit of a user's own model: its members, its non-members and, where given, the function that trains it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lacewing.attacks._types import Task
from lacewing.auditing import _pool, _records, _result
from lacewing.auditing._attacks import Attacks
from lacewing.auditing._gather import checked, gather, nowhere, to_stderr
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._records import Records
from lacewing.auditing._result import Audit
from lacewing.errors import UsageError


def audit(
    model: Any,
    members: Any,
    nonmembers: Any,
    *,
    refit: Callable[[Any, Any, int], Any] | None = None,
    references: int = 0,
    population: Any = None,
    attacks: Attacks = "all",
    out: Path | str | None = None,
    seed: int = 0,
    queries: int = 1,
    delta: float = _result.DELTA,
    version: str | None = None,
    processes: int | None = None,
    progress: bool = True,
    task: Task = "classification",
    outputs: Outputs | None = None,
    groups: Any = None,
    augmented: bool = False,
    checkpoints: Sequence[Any] = (),
    initial: Any = None,
    classes: Any = None,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Audit:
    """What ``model`` gives away about the records that it was trained on.

    Args:
        model: a torch module (asked in evaluation mode and fp32); an estimator with ``predict_proba``, else
            ``decision_function`` (of a regression: ``predict``); the path of an ``.onnx`` file; or any function from
            records to logits or probabilities. Of an answer with "logits" these are taken; of a tuple or dict the one
            part of shape (N, C), with a note.
        members: the records it was trained on, ``(x, y)`` of arrays, tensors, pandas or polars objects, texts, or a
            dict of the model's arguments; or an indexable data set of (x, y), (x, y, index) or dicts with a label, or
            a ``DataLoader`` of it that does not shuffle; y as ``task`` says. A function is given x in the form that
            members have.
        nonmembers: records of the same source that it never saw, read in the same way.
        refit: trains a new model the way ``model`` was: ``refit(x, y, seed) -> model``, with its own optimiser,
            augmentation and pruning. numpy, torch and random are seeded with ``seed`` before.
        references: K, how many models ``refit`` trains, each on a random half of all audited records, every odd one on
            the complement of the one before it; at least 2, and at least 4 for thresholds of attacks with references.
            The first one also serves as the shadow network, from which thresholds and learned attacks come.
        population: further records that neither ``model`` nor a reference trains on and nobody audits. None: where an
            attack needs some, 20 % of the non-members, at least 100, are set aside.
        attacks: ``"all"``: those that cannot run stand in ``Audit.refused``; or what must run, one or several: names,
            ``"package.module:name"``, an ``Attack``, or a function of the ``Evidence`` that gives one score a record,
            higher for members, and may take ``seed``. The decisions of such scores come from the shadow network.
        out: folder for the report and for the answers of finished references, which a later call with equal records,
            seed and refit reuses. None: nothing is kept.
        seed: of the draws, of ``refit`` (reference k gets ``1000 * seed + k``) and of attacks that learn.
        queries: Q, fixed variants of each record (mirrored, shifted or jittered copies, the record itself first) that
            LiRA and the discriminator over several queries see. Worth more than 1 for a torch module that was trained
            with such augmentations; for others the copies dilute what the record itself tells.
        delta: of the epsilon bounds.
        version: part of what cached references are known by, beside ``refit`` itself: its code, constants, defaults
            and closure, and what it refers to. Change it when files or settings change that ``refit`` reads as it runs.
            What cannot be identified (a note names it) is cached only with a version.
        processes: worker processes for references; default one a core, one where the model is on a GPU.
        progress: tell on standard error how long references will take.
        task: ``"classification"``: y (N,) whole numbers from 0, answers (N, C). ``"binary"``: y 0 or 1, answers (N,),
            (N, 1) of class 1, or (N, 2). ``"multi-label"``: y (N, L) of 0 and 1, answers (N, L). ``"regression"``: y
            and answers (N,) or (N, D). Attacks that need class probabilities are refused for the last two.
        outputs: what the answers are: ``"logits"``, ``"probabilities"``, ``"log-probabilities"`` or ``"sigmoid"``
            (each column between 0 and 1 by itself). None: rows that sum to 1 count as probabilities; answers that
            may be something else than logits are refused.
        groups: (ids of the members, ids of the nonmembers), whole numbers or words, one a record: patients, users,
            near-duplicates. Halves and population hold whole groups, a group counts as one unit, whose score is the
            mean of its records' scores, and n counts groups. None: exact copies that stand on one side count once.
        augmented: members and nonmembers are data sets with one random transform, or the model answers at random, and
            that is meant: each record is asked 8 times, and the mean of the answers is audited. Else what differs
            from one time to the next is refused.
        checkpoints: earlier states of the training of ``model``, the earliest first, each a model or, of a torch
            module, a state_dict. `trajectory-checkpoints` learns how the log-odds of members move over them, on those
            of the shadow network: ``refit`` must then return ``(model, checkpoints)``, from the same epochs.
        initial: what training began with: the network before it, its state_dict, or the weights of its first layer
            (units, inputs). The span attacks then know it, and run with "all", too: perceptrons with fewer members,
            which must be all training records, than inputs.
        classes: the labels of the classes, in the order of the model's answers, where y holds names. None: those of
            an estimator's ``classes_``; else y holds whole numbers from 0.
        collate: makes one padded batch, (x, y) or a dict, of a list of items, where these have several lengths.

    Raises:
        UsageError: an argument is not as described, or a named attack cannot run; the sentence names the argument.
    """
    if os.environ.get(_pool.WORKING):
        raise UsageError(
            "audit was called while a worker imports this module: put it under `if __name__ == '__main__':`."
        )
    from lacewing.auditing import _call

    _call.check_model(model, "model")
    settings = checked(
        refit=refit,
        references=references,
        attacks=attacks,
        out=out,
        seed=seed,
        queries=queries,
        delta=delta,
        version=version,
        processes=processes,
        progress=progress,
        task=task,
        outputs=outputs,
        augmented=augmented,
        checkpoints=checkpoints,
        initial=initial,
    )
    notes: list[str] = []

    def read(said: list[str]) -> Records:
        return _records.read(
            members,
            nonmembers,
            population,
            groups=groups,
            task=settings.task,
            chosen=settings.chosen.attacks,
            seed=settings.seed,
            augmented=augmented,
            reading=_call.reading(
                model,
                classes=classes,
                collate=collate,
                task=settings.task,
                stream=None if refit is not None or augmented else (to_stderr if progress else nowhere),
                notes=said,
            ),
            notes=said,
        )

    gathered = gather(model, read(notes), read, settings)
    return _result.build(
        gathered.evidence,
        gathered.network,
        attacks=settings.chosen,
        delta=delta,
        notes=[*notes, *gathered.notes],
        folder=settings.folder,
        seed=settings.seed,
        refused=gathered.refused,
        checks=gathered.checks,
    )
