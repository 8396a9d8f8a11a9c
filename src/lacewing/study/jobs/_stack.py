"""Train the networks of a stack: one sequence for several seeds and inits, level by level, all of a level at once."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lacewing.errors import BudgetSpent, DivergedError
from lacewing.study.jobs import _networks as single
from lacewing.study.jobs._observe import members, publish
from lacewing.study.jobs._progress import FILES, trained
from lacewing.study.jobs._weights import load_weights
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.plan import NetworkJob

if TYPE_CHECKING:
    from torch import nn

    from lacewing.sparsify.guard import Guard
    from lacewing.training.loop import TrainingState


def run_stack(work: Workspace, sequences: Sequence[Sequence[NetworkJob]]) -> None:
    """Train and observe what the store does not hold yet of the sequences of a stack.

    Networks of one level begin together and are published one after another; where some of them are missing, the level
    is trained again for all, to the same bits. A stack that is not full is filled up with copies, so that a study to
    which seeds are added keeps its networks.

    Raises:
        DivergedError: losses became NaN; the rest of their sequences is not trained, that of the others is.
        BudgetSpent: ``work.stop`` said so; the state is saved.
        FolderError: see ``run_sequence``.
    """
    for job in itertools.chain.from_iterable(sequences):
        single.probe_stored(work, job)
    heads, *rest = zip(*sequences, strict=True)
    rewinds = single.rewinds(jobs[0] for jobs in rest)
    pruned = [[heads, *levels] for _, levels in itertools.groupby(rest, key=lambda jobs: jobs[0].spec)]
    dead: dict[int, str] = {}  # by place in the stack
    if not all(trained(work.store, job) for job in heads):
        _train(work, heads, *_begun(work, heads), dead, rewinds)
    for levels in pruned:
        _prune(work, levels, dead, rewinds)
    for sequence in sequences:
        single.drop_weights(work, sequence)
    if dead:
        raise DivergedError(" ".join(dead.values()))


def _prune(work: Workspace, levels: Sequence[Sequence[NetworkJob]], dead: dict[int, str], rewinds: list[int]) -> None:
    """The IMP pruned from the highest level whose weights and masks the store holds for every network."""
    from lacewing.sparsify.masks import unpack
    from lacewing.training.checkpoints import load_tensors

    heads = levels[0]
    if all(trained(work.store, job) for jobs in levels[1:] for job in jobs):
        return
    spec = levels[1][0].spec
    origin = max(spec.keeps, default=0)
    files = ["model.safetensors", *([f"rewind-{origin}.safetensors"] if origin else [])]
    if not all(work.store.done(job.key, *files) for place, job in enumerate(heads) if place not in dead):
        _train(work, heads, *_begun(work, heads), dead, rewinds, files)
    start = max(
        number
        for number, jobs in enumerate(levels)
        if number == 0 or all(work.store.done(job.key, "model.safetensors", "masks.safetensors") for job in jobs)
    )
    models, guards = [], []
    for place, (head, job) in enumerate(zip(heads, levels[start], strict=True)):
        model = single.build(work, head)
        guard = spec.guard(model)
        if place not in dead:
            guard.origin = single.rewind_point(work, head, origin)
            load_weights(work.store, job, model)
            if start:
                guard.masks = unpack(load_tensors(work.store.need(job.key, "masks.safetensors")))
        models.append(model)
        guards.append(guard)
    for jobs in levels[start + 1 :]:
        for place, guard in enumerate(guards):
            if place not in dead:
                spec.next_level(guard)
        _train(work, jobs, models, guards, dead, [])


def _begun(work: Workspace, heads: Sequence[NetworkJob]) -> tuple[list[nn.Module], list[Guard | None]]:
    """The first networks of a stack as their training begins, with the guards of those that have masks."""
    begun = [job.spec.begin(single.NetworksOfEntry(work, [job])) for job in heads]
    return [model for model, _ in begun], [guard for _, guard in begun]


def _train(
    work: Workspace,
    jobs: Sequence[NetworkJob],
    models: Sequence[nn.Module],
    guards: Sequence[Guard | None],
    dead: dict[int, str],
    rewinds: Sequence[int],
    files: Sequence[str] = (),
) -> None:
    """Train a level from its last checkpoint, and publish the networks that the store does not hold with ``files``.

    What diverges is noted in ``dead``, by its place; it stays in the stack, where it disturbs nobody.
    """
    from lacewing.training.checkpoints import save_checkpoint, save_tensors
    from lacewing.training.loop import stream
    from lacewing.training.stack import StackTrainer, train_stack

    saved = time.monotonic()
    train, size = jobs[0].train, jobs[0].train.stack
    places = [min(place, len(jobs) - 1) for place in range(size)]  # filled up with copies of the last
    stacked = [models[place] if slot == place else copy.deepcopy(models[place]) for slot, place in enumerate(places)]

    def on_epoch(states: list[TrainingState]) -> None:
        nonlocal saved
        epoch = states[0].curve[-1].epoch
        work.check_data()  # before anything of this epoch is kept
        for job, state in zip(jobs, states, strict=False):
            work.report(job, state.curve[-1])
        stopping = work.stop()
        saving = stopping or time.monotonic() - saved > single.CHECKPOINT_EVERY
        for job, state in zip(jobs, states, strict=False):
            folder = work.store.work(job.key)
            if epoch in rewinds:
                save_tensors(folder / f"rewind-{epoch}.safetensors", dict(state.model))
            if saving:
                save_checkpoint(folder, state, job=job.id, epochs=train.epochs)
        if saving:
            saved = time.monotonic()
        if stopping:
            raise BudgetSpent(f"stopped {jobs[0].id} and its stack after epoch {epoch} of {train.epochs}.")

    states = _checkpoints(work, jobs, models)
    members_KM = np.stack([members(work, jobs[place])[0] for place in places])
    records = work.records_of(jobs[0])  # a stack of [property] is of one seed
    trainer = jobs[0].spec.trainer(train, members_KM.shape[1])
    assert trainer is None or isinstance(trainer, StackTrainer)  # of a method that is stackable
    found = train_stack(
        stacked,  # type: ignore[arg-type]
        records.x,
        records.y,
        members_KM,
        train,
        normalisation=work.normalisation,
        seeds=[stream(*jobs[place].stream("train")) for place in places],
        masks=[{} if (guard := guards[place]) is None else guard.masks for place in places],
        progress=None if states is None else [copy.deepcopy(states[place]) for place in places],
        on_epoch=on_epoch,
        trainer=trainer,
    )
    for place, job in enumerate(jobs):
        if place in dead or work.store.done(job.key, *FILES, *files):
            work.store.drop_work(job.key)
            continue
        bad = next((epoch for epoch in found[place].curve if not math.isfinite(epoch.loss)), None)
        if bad is not None:
            dead[place] = f"{job.id}: the loss became {bad.loss} in epoch {bad.epoch}; try a smaller train.lr."
            continue
        publish(
            work,
            job,
            models[place],
            found[place].curve,
            guard=guards[place],
            rewinds=rewinds,
            seconds=found[place].seconds * size / len(jobs),  # the copies take time too
        )


def _checkpoints(
    work: Workspace, jobs: Sequence[NetworkJob], models: Sequence[nn.Module]
) -> list[TrainingState] | None:
    """The states of an interrupted level, all after the same epoch, or None."""
    found = [single.saved_state(work, job, model) for job, model in zip(jobs, models, strict=True)]
    states = [state for state in found if state is not None]
    same = len({len(state.curve) for state in states}) == 1
    return states if len(states) == len(jobs) and same else None
