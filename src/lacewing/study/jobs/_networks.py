"""Train the networks of a sequence, each from what is already there."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lacewing import models
from lacewing.errors import BudgetSpent, FolderError, LacewingError, UsageError, UserCodeError
from lacewing.methods import built
from lacewing.study.jobs._observe import members, probe, publish
from lacewing.study.jobs._progress import finished, missing_stops, trained
from lacewing.study.jobs._weights import check_fits, load_weights, mask_file
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.plan import NetworkJob
from lacewing.support.mapped import take

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.sparsify.guard import Guard
    from lacewing.sparsify.masks import Masks
    from lacewing.training.loop import TrainingState

# Seconds between checkpoints, each at an epoch's end.
CHECKPOINT_EVERY = float(os.environ.get("LACEWING_CHECKPOINT_EVERY", "15"))


def run_sequence(work: Workspace, sequence: Sequence[NetworkJob]) -> None:
    """Train and observe every network of a sequence that the store does not hold yet.

    Raises:
        DivergedError: a loss became NaN; the rest of the sequence is not trained.
        BudgetSpent: ``work.stop`` said so; the state is saved.
        FolderError: a network was trained, its weights are gone, and an attack needs to ask it more.
    """
    for job in sequence:
        probe_stored(work, job)
    head, *rest = sequence
    if head.imposed:
        if not trained(work.store, head):
            _run_imposed(work, head)
        return drop_weights(work, sequence)
    stops = [job for job in rest if job.stop is not None]
    others = [job for job in rest if job.stop is None]
    if not trained(work.store, head):
        _train_entry(work, head, [], rewinds=rewinds(sequence), stops=stops)
    while missing := missing_stops(stops, {job.key for job in stops if trained(work.store, job)}):
        *before, last = missing
        _train_and_publish(work, last, build(work, head), stops=before)
    for _, jobs in itertools.groupby(others, key=lambda job: job.spec):
        _train_entry(work, head, list(jobs))
    drop_weights(work, sequence)


def rewinds(sequence: Iterable[NetworkJob]) -> list[int]:
    """The epochs of the first network's training whose states the others of a sequence need."""
    return sorted({epoch for job in sequence for epoch in job.spec.keeps})


def drop_weights(work: Workspace, sequence: Sequence[NetworkJob]) -> None:
    """With ``--keep signals``: remove weights; masks stay where others train under them, or inits are compared."""
    if work.keep != "signals":
        return
    names = ["model.safetensors", *(f"rewind-{epoch}.safetensors" for epoch in rewinds(sequence))]
    imposed = any("imposed-shadow" in attack.needs for attack in work.attacks.values())
    taken = {network.mask_of for network in work.study.networks}
    for job in sequence:
        for name in names:
            work.store.drop_file(job.key, name)
        if not imposed and job.network not in taken and work.study.run.inits == 1:
            work.store.drop_file(job.key, "masks.safetensors")


def _run_imposed(work: Workspace, job: NetworkJob) -> None:
    """Train a shadow from its own rewind point under the target's mask."""
    assert job.origin is not None
    masks = mask_taken(work, job)
    model = build(work, job.origin)
    guard = job.spec.guard(model)
    guard.origin = rewind_point(work, job.origin, max(job.spec.keeps, default=0))
    guard.masks = masks
    guard.rewind()
    _train_and_publish(work, job, model, guard=guard)


def mask_taken(work: Workspace, job: NetworkJob) -> Masks:
    """The trained mask of another network that a network is trained under, or that its own is made from.

    Raises:
        UsageError: it takes none.
        FolderError: that mask was dropped.
    """
    from lacewing.sparsify.masks import unpack
    from lacewing.training.checkpoints import load_tensors

    if job.mask is None:
        raise UsageError("mask() needs the name of the network whose mask it is: let mask_of return it.")
    return unpack(load_tensors(mask_file(work.store, job, job.mask)))


def _train_entry(
    work: Workspace,
    head: NetworkJob,
    followers: Sequence[NetworkJob],
    *,
    rewinds: Sequence[int] = (),
    stops: Sequence[NetworkJob] = (),
) -> None:
    """Have a method train what is missing of its networks: the first of a sequence, or some that follow it."""
    if followers and all(trained(work.store, job) for job in followers):
        return
    jobs = [head, *followers]
    spec = jobs[-1].spec
    training = NetworksOfEntry(work, jobs, rewinds, stops)
    spec.train_networks(training)
    if missing := [job.id for job in jobs if not trained(work.store, job)]:
        raise UserCodeError(f"{missing[0]}: method {spec.method} did not train it; call fit once for each network.")


class NetworksOfEntry:
    """See `lacewing.methods.Training`: the networks of one entry and seed, some of which the store may hold."""

    def __init__(
        self,
        work: Workspace,
        jobs: Sequence[NetworkJob],
        rewinds: Sequence[int] = (),
        stops: Sequence[NetworkJob] = (),
    ) -> None:
        from lacewing.training.loop import stream

        self._work, self._jobs, self._rewinds, self._stops = work, jobs, rewinds, stops
        self.levels = len(jobs) - 1
        self.start = self._at_hand()
        self.seed = stream(*jobs[0].stream("method"))
        self._next = self.start + 1 if self.start else 0

    def _at_hand(self) -> int:
        """The last network whose weights, and masks, the store holds, with those before it trained."""
        store, jobs = self._work.store, self._jobs
        done = [*itertools.takewhile(lambda number: trained(store, jobs[number]), range(len(jobs)))]
        files = ("model.safetensors", "masks.safetensors") if jobs[-1].spec.masked else ("model.safetensors",)
        return max((number for number in done if number and store.done(jobs[number].key, *files)), default=0)

    def model(self, seed: int | None = None) -> nn.Module:
        return build(self._work, self._jobs[0], seed)

    def mask(self) -> Masks:
        return mask_taken(self._work, self._jobs[0])

    def state(self, epoch: int) -> dict[str, Tensor]:
        return rewind_point(self._work, self._jobs[0], epoch)

    def resume(self, model: nn.Module, guard: Guard | None) -> None:
        from lacewing.sparsify.masks import unpack
        from lacewing.training.checkpoints import load_tensors

        if not self.start:
            return
        store, job = self._work.store, self._jobs[self.start]
        load_weights(store, job, model)
        if guard is not None:
            guard.masks = unpack(load_tensors(store.need(job.key, "masks.safetensors")))

    def fit(self, model: nn.Module, guard: Guard | None = None) -> None:
        work, number = self._work, self._next
        if number > self.levels:
            raise UserCodeError(
                f"{self._jobs[-1].id}: its method calls fit more than {self.levels + 1:,} times; call it once for each "
                "network."
            )
        job = self._jobs[number]
        if job.spec.source is not None:
            _check_own(work, job, model, guard)
        self._next += 1
        if number == 0 and trained(work.store, job):
            _load_or_retrain(work, job, model, guard if guard is not None and guard.masks else None)
            if guard is not None:
                guard.trained = True
        elif number == 0:
            _train_and_publish(work, job, model, guard=guard, rewinds=self._rewinds, stops=self._stops)
        else:
            _train_and_publish(work, job, model, guard=guard)
            if number > 1:
                drop_weights(work, self._jobs[number - 1 : number])


def _check_own(work: Workspace, job: NetworkJob, model: nn.Module, guard: Guard | None) -> None:
    """Refuse to train a network of a user's method that is not what the method says of it."""
    from lacewing.study.accounting import dense_model, nonzero

    if guard is not None and guard.model is not model:
        raise UserCodeError(f"{job.id}: method {job.method} gives fit a guard of another model; make it of the same.")
    masks = guard.masks if guard is not None else {}
    pruned = job.spec.has_mask(job.step, job.train)
    if (masks and not job.spec.masked) or (pruned and not masks):
        mend = "set masked = True in its class" if masks else "give fit a guard with masks, or leave masked out"
        raise UserCodeError(f"{job.id}: method {job.method} trains it {'under' if masks else 'without'} masks; {mend}.")
    there = sum(p.numel() for p in model.parameters()) - sum(int((~mask).sum()) for mask in masks.values())
    said = nonzero(job, dense_model(job.model, work.dataset.shape, work.dataset.classes))
    if there != said:
        raise UserCodeError(
            f"{job.id}: method {job.method} trains {there:,} parameters that are not zero, and its count says "
            f"{said:,}; make them equal."
        )


def _load_or_retrain(work: Workspace, job: NetworkJob, model: nn.Module, guard: Guard | None) -> None:
    """The weights of a finished first network: from the store or, if they were dropped, by training it again."""
    if work.store.file(job.key, "model.safetensors") is not None:
        load_weights(work.store, job, model)
    else:
        _train(work, job, model, guard=guard)


def rewind_point(work: Workspace, head: NetworkJob, epoch: int) -> dict[str, Tensor]:
    """The state after ``epoch`` epochs of the dense training; trained again where it was not kept."""
    from lacewing.training.checkpoints import load_tensors

    stored = work.store.file(head.key, f"rewind-{epoch}.safetensors")
    if stored is not None:
        return load_tensors(stored)
    if epoch and head.stack is not None:
        raise FolderError(f"the rewind point of {head.id} was dropped (--keep signals); give --out another folder.")
    model = build(work, head)
    if epoch:
        _train(work, head, model, stop_after=epoch)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def build(work: Workspace, job: NetworkJob, seed: int | None = None) -> nn.Module:
    """The job's network at its initialisation, or drawn anew from another ``seed``, on the study's device."""
    import torch

    from lacewing.training.loop import stream

    torch.manual_seed(stream(*job.stream("init")) if seed is None else seed)
    model = models.build(job.model, work.dataset.shape, work.dataset.classes, dropout=job.train.dropout)
    if job.spec.reshapes:
        model = built(job.spec, model)
    return model.to(work.device)


def probe_stored(work: Workspace, job: NetworkJob) -> None:
    """Ask a network that was trained before what it has not been asked yet; its weights must be there.

    Raises:
        BudgetSpent: ``work.stop`` said so.
        FolderError: the weights are gone.
    """
    from lacewing.sparsify.masks import unpack
    from lacewing.training.checkpoints import load_tensors
    from lacewing.training.loop import lay_out

    if not trained(work.store, job) or finished(work.store, job):
        return
    if work.stop():
        raise BudgetSpent(f"stopped before the questions to {job.id}; what others answered is saved.")
    if work.store.file(job.key, "model.safetensors") is None:
        raise FolderError(
            f"the weights of {job.id} were dropped (--keep signals), and an attack needs to ask it more: give --out "
            "another folder."
        )
    model = build(work, job)
    load_weights(work.store, job, model)
    lay_out(model, work.records.x.ndim, job.train.channels_last)  # as it was when training ended: the same bits
    masks = work.store.file(job.key, "masks.safetensors")
    probe(work, job, model, unpack(load_tensors(masks)) if masks is not None else {})


def saved_state(work: Workspace, job: NetworkJob, model: nn.Module) -> TrainingState | None:
    """What an interrupted training goes on from; None where there is nothing, or where it is damaged, which is told.

    Raises:
        FolderError: the model that is built now is not the one that was being trained.
    """
    from lacewing.training.checkpoints import load_checkpoint

    folder = work.store.work(job.key)
    try:
        found = load_checkpoint(folder)
    except UsageError:
        work.store.damaged.add((job.key, f"work/{job.key}/checkpoint.safetensors"))
        return None
    if found is not None:
        check_fits(job, model, found.model)
    return found


def _train(
    work: Workspace,
    job: NetworkJob,
    model: nn.Module,
    *,
    guard: Guard | None = None,
    progress: TrainingState | None = None,
    on_epoch: Callable[[TrainingState], None] = lambda _: None,
    stop_after: int | None = None,
) -> TrainingState:
    from lacewing.training.loop import stream, train
    from lacewing.training.own_loop import train_by

    kept, _, _ = members(work, job)
    records, seed = work.records_of(job), stream(*job.stream("train"))
    common: dict[str, Any] = {
        "normalisation": work.normalisation,
        "seed": seed,
        "guard": guard,
        "on_epoch": on_epoch,
        "stop_after": stop_after,
    }
    x, y = take(records.x, kept), records.y[kept]
    if job.train.fit is not None:
        return train_by(model, x, y, job.train, **common)
    trainer = job.spec.trainer(job.train, len(kept))
    return train(model, x, y, job.train, progress=progress, recordings=work.recordings, trainer=trainer, **common)


def _train_and_publish(
    work: Workspace,
    job: NetworkJob,
    model: nn.Module,
    *,
    guard: Guard | None = None,
    rewinds: Sequence[int] = (),
    stops: Sequence[NetworkJob] = (),
) -> None:
    """Train from the last checkpoint, observe, publish; on the way, observe and publish its ``stops``.

    Raises:
        DivergedError, BudgetSpent: see ``run_sequence``.
    """
    from lacewing.training.checkpoints import save_checkpoint, save_tensors

    folder, own = work.store.work(job.key), job.train.fit is not None
    saved, aside = time.monotonic(), 0.0  # seconds spent on observing its stops, by this process

    def on_epoch(progress: TrainingState) -> None:
        nonlocal saved, aside
        epoch = progress.curve[-1]
        work.check_data()  # before anything of this epoch is kept
        work.report(job, epoch)
        if epoch.epoch in rewinds:
            save_tensors(folder / f"rewind-{epoch.epoch}.safetensors", progress.model)
        for stopped in (other for other in stops if other.stop == epoch.epoch and not trained(work.store, other)):
            begun = time.monotonic()
            publish(work, stopped, model, progress.curve, guard=None, rewinds=(), seconds=0.0)
            aside += time.monotonic() - begun
        stopping = work.stop()  # at the last epoch too: to observe a large network takes minutes
        if own:  # whose state is not known
            if stopping and epoch.epoch < job.last_epoch:
                raise BudgetSpent(f"stopped {job.id} after epoch {epoch.epoch}; train.fit begins it anew.")
            return
        if stopping or time.monotonic() - saved > CHECKPOINT_EVERY:
            save_checkpoint(folder, progress, job=job.id, epochs=job.last_epoch)
            saved = time.monotonic()
        if stopping:
            raise BudgetSpent(f"stopped {job.id} after epoch {epoch.epoch} of {job.last_epoch}; its state is saved.")

    try:
        progress = _train(
            work,
            job,
            model,
            guard=guard,
            progress=None if own else saved_state(work, job, model),
            on_epoch=on_epoch,
            stop_after=job.stop,
        )
    except LacewingError as error:
        raise type(error)(f"{job.id}: {error}") from None
    publish(work, job, model, progress.curve, guard=guard, rewinds=rewinds, seconds=progress.seconds - aside)
