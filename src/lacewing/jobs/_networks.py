"""Train the networks of a chain, each from what is already there."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import data, models
from lacewing.attacks import ATTACKS
from lacewing.config import Butterfly, EarlyStopped, Imp, Study, chain_settings
from lacewing.errors import BudgetSpent, DivergedError, FolderError, LacewingError
from lacewing.jobs._workspace import Workspace
from lacewing.plan import NetworkJob, probe_settings
from lacewing.results import Epoch, NetworkResult
from lacewing.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.guard import Guard
    from lacewing.train import Progress

# Seconds between checkpoints, each at an epoch's end.
CHECKPOINT_EVERY = float(os.environ.get("LACEWING_CHECKPOINT_EVERY", "15"))
FILES = ("metrics.json", "signals.npz")  # what a trained network leaves for good


def run_chain(work: Workspace, chain: Sequence[NetworkJob]) -> None:
    """Train and observe every network of a chain that the store does not hold yet.

    Raises:
        DivergedError: a loss became NaN; the rest of the chain is not trained.
        BudgetSpent: ``work.stop`` said so; the state is saved.
        FolderError: a network was trained, its weights are gone, and an attack needs to ask it more.
    """
    for job in chain:
        if trained(work.store, job) and not finished(work.store, job):
            probe_stored(work, job)
    head, *rest = chain
    if head.imposed is not None:
        if not trained(work.store, head):
            _run_imposed(work, head)
        return drop_weights(work, chain)
    rewinds = sorted({job.spec.rewind_epoch for job in rest if isinstance(job.spec, Imp)})
    stops = [job for job in rest if isinstance(job.spec, EarlyStopped)]
    pruned = [job for job in rest if isinstance(job.spec, Imp)]
    if not trained(work.store, head):
        _train_and_publish(work, head, build(work, head), rewinds=rewinds, stops=stops)
    while missing := [job for job in stops if not trained(work.store, job)]:
        last = max(missing, key=lambda job: job.last_epoch)
        _train_and_publish(work, last, build(work, head), stops=[job for job in missing if job is not last])
    for _, levels in itertools.groupby(pruned, key=lambda job: job.spec):
        _run_imp(work, head, list(levels))
    drop_weights(work, chain, rewinds)


def trained(store: Store, job: NetworkJob) -> bool:
    """Whether a network's results are there, unaltered; its weights may have been dropped."""
    return store.done(job.key, *FILES)


def finished(store: Store, job: NetworkJob) -> bool:
    """Whether a network is trained and was asked everything that the study's attacks need."""
    return trained(store, job) and (job.probe is None or store.done(job.probe, "probe.npz"))


def own_epochs(chain: Sequence[NetworkJob], trained: Container[str]) -> dict[str, int]:
    """By key: the epochs that are trained for each network of a chain, some of which are ``trained`` already.

    None for one that is stopped early, which is a state of its dense network on the way; unless that was trained before
    the stop was asked for: then it is trained again, up to the last stop that lacks.
    """
    epochs = {job.key: job.train.epochs if job.stop is None else 0 for job in chain}
    missing = [job for job in chain if job.stop is not None and job.key not in trained]
    if missing and chain[0].key in trained:
        last = max(missing, key=lambda job: job.last_epoch)
        epochs[last.key] = last.last_epoch
    return epochs


def reached(
    chains: Iterable[Sequence[NetworkJob]],
    trained: Container[str],
    saved: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[int, int]]:
    """By key of a network: its epochs that are ``trained`` or ``saved``, and all that are to be trained for it."""
    found = {}
    for chain in chains:
        for key, epochs in own_epochs(chain, trained).items():
            at = epochs if key in trained else int(saved.get(key, {}).get("epoch", 0))
            found[key] = min(at, epochs), epochs
    return found


def drop_weights(work: Workspace, chain: Sequence[NetworkJob], rewinds: Sequence[int] = ()) -> None:
    """With ``--keep signals``: remove weights; masks stay where another network is to be trained under them."""
    if work.keep != "signals":
        return
    names = ["model.safetensors", *(f"rewind-{epoch}.safetensors" for epoch in rewinds)]
    if not any("imposed-shadow" in ATTACKS[name].needs for name in work.study.attacks.names):
        names.append("masks.safetensors")
    for job in chain:
        for name in names:
            work.store.drop_file(job.key, name)


def _run_imposed(work: Workspace, job: NetworkJob) -> None:
    """Train a shadow from its own rewind point under the target's mask."""
    from lacewing.checkpoints import load_tensors
    from lacewing.guard import Guard
    from lacewing.masks import unpack

    assert job.imposed is not None
    assert isinstance(job.spec, Imp)
    mask, origin = job.imposed.mask, job.imposed.origin
    stored = work.store.file(mask.key, "masks.safetensors")
    if stored is None:
        raise FolderError(f"the mask of {mask.id} was dropped, and {job.id} needs it; give --out another folder.")
    model = build(work, origin)
    guard = Guard(model, job.spec.rewind)
    guard.origin = rewind_point(work, origin, job.spec.rewind_epoch)
    guard.masks = unpack(load_tensors(stored))
    guard.rewind()
    _train_and_publish(work, job, model, guard=guard)


def _run_imp(work: Workspace, head: NetworkJob, levels: Sequence[NetworkJob]) -> None:
    """The IMP sequence from the highest level whose weights and masks the store holds."""
    from lacewing.checkpoints import load_tensors
    from lacewing.guard import Guard
    from lacewing.masks import unpack
    from lacewing.sparsify import imp

    if all(trained(work.store, job) for job in levels):
        return
    sequence = [head, *levels]
    done = itertools.takewhile(lambda job: trained(work.store, job), sequence)
    needed = {job.key: ("model.safetensors", "masks.safetensors") if job.level else () for job in sequence}
    start = max(job.level for job in done if work.store.done(job.key, *needed[job.key]))
    spec = levels[0].spec
    assert isinstance(spec, Imp)
    model = build(work, head)
    guard = Guard(model, spec.rewind)
    guard.origin = rewind_point(work, head, spec.rewind_epoch)
    if start:
        key = sequence[start].key
        model.load_state_dict(load_tensors(work.store.job(key) / "model.safetensors"))
        guard.masks = unpack(load_tensors(work.store.job(key) / "masks.safetensors"))
    current = itertools.count(start + 1 if start else 0)

    def fit(model: nn.Module, guard: Guard) -> None:
        job = sequence[next(current)]
        if job is head:
            _load_or_retrain(work, head, model)
        else:
            _train_and_publish(work, job, model, guard=guard)

    for level in imp(model, fit, levels=len(levels), fraction=spec.fraction, guard=guard, start=start):
        if level.number > 1:
            drop_weights(work, sequence[level.number - 1 : level.number])


def _load_or_retrain(work: Workspace, job: NetworkJob, model: nn.Module) -> None:
    """The weights of a finished level-0 network: from the store or, if they were dropped, by training again."""
    from lacewing.checkpoints import load_tensors

    stored = work.store.file(job.key, "model.safetensors")
    if stored is not None:
        model.load_state_dict(load_tensors(stored))
    else:
        _train(work, job, model)


def rewind_point(work: Workspace, head: NetworkJob, epoch: int) -> dict[str, Tensor]:
    """The state after ``epoch`` epochs of the dense training; trained again where it was not kept."""
    from lacewing.checkpoints import load_tensors

    stored = work.store.file(head.key, f"rewind-{epoch}.safetensors")
    if stored is not None:
        return load_tensors(stored)
    if epoch and head.stack is not None:
        raise FolderError(f"the rewind point of {head.id} was dropped (--keep signals); give --out another folder.")
    model = build(work, head)
    if epoch:
        _train(work, head, model, stop_after=epoch)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def build(work: Workspace, job: NetworkJob) -> nn.Module:
    import torch

    from lacewing.sparsify import butterfly
    from lacewing.train import stream

    torch.manual_seed(stream(job.seed, job.role, "init"))
    model = models.build(work.study.model, work.dataset.shape, work.dataset.classes)
    if isinstance(job.spec, Butterfly):
        butterfly(model, **chain_settings(job.spec))
    return model.to(work.device)


def members(
    work: Workspace, job: NetworkJob
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], data.Split | data.Halves]:
    """Records that the network trains on, those held out of them for tuning, and the whole split."""
    split = work.split(job.seed)
    kept, held = data.holdout(split.members(job.role), job.train.holdout, job.seed)
    return kept, held, split


def _train(
    work: Workspace,
    job: NetworkJob,
    model: nn.Module,
    *,
    guard: Guard | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[Progress], None] = lambda _: None,
    stop_after: int | None = None,
) -> Progress:
    from lacewing.train import stream, train

    kept, _, _ = members(work, job)
    return train(
        model,
        work.records.x[kept],
        work.records.y[kept],
        job.train,
        normalisation=work.normalisation,
        seed=stream(job.seed, job.role, "train"),
        guard=guard,
        progress=progress,
        on_epoch=on_epoch,
        stop_after=stop_after,
        recordings=work.recordings,
    )


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
        DivergedError, BudgetSpent: see ``run_chain``.
    """
    from lacewing.checkpoints import load_checkpoint, save_checkpoint, save_tensors

    folder = work.store.work(job.key)
    saved, aside = time.monotonic(), 0.0  # seconds spent on observing its stops, by this process

    def on_epoch(progress: Progress) -> None:
        nonlocal saved, aside
        epoch = progress.curve[-1]
        work.report(job, epoch)
        if epoch.epoch in rewinds:
            save_tensors(folder / f"rewind-{epoch.epoch}.safetensors", progress.model)
        for stopped in (other for other in stops if other.stop == epoch.epoch and not trained(work.store, other)):
            begun = time.monotonic()
            publish(work, stopped, model, progress.curve, guard=None, rewinds=(), seconds=0.0)
            aside += time.monotonic() - begun
        stopping = work.stop()  # at the last epoch too: to observe a large network takes minutes
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
            progress=load_checkpoint(folder, set(model.state_dict())),
            on_epoch=on_epoch,
            stop_after=job.stop,
        )
    except LacewingError as error:
        raise type(error)(f"{job.id}: {error}") from None
    publish(work, job, model, progress.curve, guard=guard, rewinds=rewinds, seconds=progress.seconds - aside)


def publish(
    work: Workspace,
    job: NetworkJob,
    model: nn.Module,
    curve: Sequence[Epoch],
    *,
    guard: Guard | None,
    rewinds: Sequence[int],
    seconds: float,
) -> None:
    """Observe a trained network, publish what it leaves, and ask it what the study's attacks need.

    Raises:
        DivergedError: it answers with NaN or infinity.
    """
    from lacewing.checkpoints import save_tensors
    from lacewing.masks import pack

    folder = work.store.work(job.key)
    result, arrays = _observe(work, job, model, tuple(curve), guard)

    def write(folder_: Path) -> None:
        save_tensors(folder_ / "model.safetensors", model.state_dict())
        if guard is not None:
            save_tensors(folder_ / "masks.safetensors", pack(guard.masks))
        for name in (f"rewind-{epoch}.safetensors" for epoch in rewinds):
            if (folder / name).is_file():
                (folder_ / name).write_bytes((folder / name).read_bytes())
        np.savez_compressed(folder_ / "signals.npz", **arrays)  # type: ignore[arg-type]
        (folder_ / "metrics.json").write_text(json.dumps(dataclasses.asdict(result), indent=1))

    work.store.publish(job.key, {**_facts(work, job.id), "seconds": round(seconds, 2)}, write)
    work.store.drop_work(job.key)
    _probe(work, job, model, guard.masks if guard is not None else {})


def probe_stored(work: Workspace, job: NetworkJob) -> None:
    """Ask a network that was trained before; its weights must be there."""
    from lacewing.checkpoints import load_tensors
    from lacewing.masks import unpack

    weights = work.store.file(job.key, "model.safetensors")
    if weights is None:
        raise FolderError(
            f"the weights of {job.id} were dropped (--keep signals), and an attack needs to ask it more: give --out "
            "another folder."
        )
    model = build(work, job)
    model.load_state_dict(load_tensors(weights))
    masks = work.store.file(job.key, "masks.safetensors")
    _probe(work, job, model, unpack(load_tensors(masks)) if masks is not None else {})


def _probe(work: Workspace, job: NetworkJob, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Ask a network what the study's attacks need beyond plain outputs and sensitivity, and publish the answers."""
    from lacewing.signals import compact, observe, probe

    settings = probe_settings(work.study)
    if job.probe is None or settings is None or work.store.done(job.probe, "probe.npz"):
        return
    kept, _, split = members(work, job)
    audited = np.zeros(len(work.records), bool)
    audited[np.concatenate([kept, split.nonmembers(job.role)])] = True
    sizes = settings.get("noise_sizes", ())
    found = probe(
        model,
        work.records.x,
        work.records.y,
        normalisation=work.normalisation,
        of=audited & bool(sizes or settings["gradients"]),
        queries=settings["queries"],
        noise_sizes=tuple(sizes),
        noise_draws=settings.get("noise_draws", 1),
        gradients=settings["gradients"],
        masks=masks,
    )
    if not np.isfinite(found.phi_NQ).all():
        raise DivergedError(f"{job.id}: the trained network answers with NaN or infinity; try a smaller train.lr.")
    arrays: dict[str, npt.NDArray[Any]] = {
        "phi_NQ": np.clip(found.phi_NQ, -60000, 60000).astype(np.float16),
        "right_NQ": found.right_NQ,
    }
    if sizes:
        arrays["right_NS"] = found.right_NS
    if settings["gradients"]:
        arrays["gradient_N2"] = found.gradient_N2
    if len(work.population):
        x = work.dataset.x[work.population]
        logits, _ = observe(model, x, normalisation=work.normalisation, sensitivity_of=np.zeros(len(x), bool), draws=1)
        arrays |= {"population_logits_ZC": compact(logits), "population_label_Z": work.dataset.y[work.population]}

    def write(folder: Path) -> None:
        np.savez_compressed(folder / "probe.npz", **arrays)  # type: ignore[arg-type]

    work.store.publish(job.probe, _facts(work, f"probe of {job.id}"), write)


def _facts(work: Workspace, name: str) -> dict[str, Any]:
    """What job.json records beside the digests: times and machine, which results.csv never holds."""
    import torch

    device = torch.cuda.get_device_name() if work.device == "cuda" else platform.machine()
    if work.recordings is not None:
        device += f", {work.recordings.way} steps"
    return {"job": name, "device": f"{work.device} ({device})", "torch": torch.__version__, "finished": time.time()}


def _observe(
    work: Workspace, job: NetworkJob, model: nn.Module, curve: tuple[Epoch, ...], guard: Guard | None
) -> tuple[NetworkResult, dict[str, npt.NDArray[Any]]]:
    from lacewing.accounting import dense_model, describe
    from lacewing.signals import compact, observe

    kept, held, split = members(work, job)
    outside = split.nonmembers(job.role)
    member = np.zeros(len(work.records), bool)
    member[kept] = True
    audited = member.copy()
    audited[outside] = True
    raw, sensitivity = observe(
        model,
        work.records.x,
        normalisation=work.normalisation,
        sensitivity_of=audited,
        noise=work.study.signals.noise,
        draws=work.study.signals.draws,
    )
    if not np.isfinite(raw).all():
        raise DivergedError(f"{job.id}: the trained network answers with NaN or infinity; try a smaller train.lr.")
    logits = compact(raw)
    right = logits.argmax(1) == work.records.y
    clean = logits.argmax(1) == work.records.clean_y
    dense = dense_model(work.study, work.dataset.shape, work.dataset.classes)
    counts = describe(model, dense, guard.masks if guard else {})
    result = NetworkResult(
        network=job.network,
        method=job.method,
        role=job.role,
        seed=job.seed,
        **counts,
        train_accuracy=float(right[kept].mean()),
        test_accuracy=float(right[outside].mean()),
        clean_test_accuracy=float(clean[outside].mean()) if work.study.data.label_noise else None,
        holdout_accuracy=float(right[held].mean()) if len(held) else None,
        curve=curve,
    )
    arrays = {
        "part_N": split.part_N(len(work.records)),
        "member_N": member,
        "audited_N": audited,
        "label_N": work.records.y.astype(np.int32),
        "record_N": work.records.id.astype(np.int32),
        "logits_NC": logits,
        "sensitivity_N": sensitivity.astype(np.float32),
    }
    if work.records.canary_N.any():
        arrays["canary_N"] = work.records.canary_N
    return result, arrays


def plain_state(
    store: Store, job: NetworkJob, study: Study, *, shape: tuple[int, ...], classes: int
) -> dict[str, Tensor]:
    """A trained network's weights as the plain torch model loads them: butterfly layers composed."""
    import torch

    from lacewing.checkpoints import load_tensors
    from lacewing.sparsify import butterfly, composed_state

    state = load_tensors(store.job(job.key) / "model.safetensors")
    if isinstance(job.spec, Butterfly):
        with torch.random.fork_rng(devices=[]):
            model = models.build(study.model, shape, classes)
            butterfly(model, **chain_settings(job.spec))
        model.load_state_dict(state)
        state = composed_state(model)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def plain_model(store: Store, job: NetworkJob, study: Study, *, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A trained network as the plain torch model, in evaluation mode. Runs the factory, if the study names one."""
    import torch

    state = plain_state(store, job, study, shape=shape, classes=classes)
    with torch.random.fork_rng(devices=[]):
        model = models.build(study.model, shape, classes)
    model.load_state_dict(state)
    return model.eval()
