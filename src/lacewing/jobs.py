"""What each kind of job does: train and observe the networks of a chain; attack one network."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing import data, models
from lacewing.config import Butterfly, Imp, Study
from lacewing.errors import BudgetSpent, DivergedError, LacewingError
from lacewing.plan import AttackJob, NetworkJob
from lacewing.results import AttackResult, Epoch, Estimate, NetworkResult
from lacewing.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.masks import Guard
    from lacewing.train import Progress

# Seconds between checkpoints, each at an epoch's end.
CHECKPOINT_EVERY = float(os.environ.get("LACEWING_CHECKPOINT_EVERY", "15"))

Keep = Literal["all", "signals"]
Report = Callable[[NetworkJob, Epoch], None]


@dataclass(frozen=True)
class Workspace:
    """What the jobs of one study share: the study, its records, the run folder, the device."""

    study: Study
    store: Store
    dataset: data.Dataset
    records: data.Records
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    device: str = "cpu"
    keep: Keep = "all"
    stop: Callable[[], bool] = lambda: False
    report: Report = lambda job, epoch: None

    @classmethod
    def open(cls, study: Study, folder: Path, data_root: Path | None, **options: Any) -> Workspace:
        """Load and draw the study's records.

        Raises:
            DataError: the data set is missing, altered, or too small.
        """
        dataset = data.load(study.data.dataset, data_root, labels=study.data.labels)
        drawn = study.data
        records = data.prepare(dataset, records=drawn.records, label_noise=drawn.label_noise, seed=drawn.seed)
        return cls(study, Store(folder), dataset, records, data.normalisation(records.x), **options)


# ---------------------------------------------------------------------------------------------------------- networks


def run_chain(work: Workspace, chain: Sequence[NetworkJob]) -> None:
    """Train and observe every network of a chain that the store does not hold yet.

    Raises:
        DivergedError: a loss became NaN; the rest of the chain is not trained.
        BudgetSpent: ``work.stop`` said so; the state is saved.
    """
    head, *rest = chain
    rewinds = sorted({job.spec.rewind_epoch for job in rest if isinstance(job.spec, Imp)})
    sequences = [list(levels) for _, levels in itertools.groupby(rest, key=lambda job: job.spec)]
    if not finished(work.store, head):
        _train_and_publish(work, head, _build(work, head), rewinds=rewinds)
    for levels in sequences:
        _run_imp(work, head, levels)
    if work.keep == "signals":
        for job in chain:
            for name in ("model.safetensors", "masks.safetensors", *(f"rewind-{r}.safetensors" for r in rewinds)):
                work.store.drop_file(job.key, name)


def finished(store: Store, job: NetworkJob) -> bool:
    """Whether a network's results are there, unaltered; its weights may have been dropped."""
    return store.done(job.key, "metrics.json", "signals.npz")


def _run_imp(work: Workspace, head: NetworkJob, levels: Sequence[NetworkJob]) -> None:
    """The IMP sequence from the highest level whose weights and masks the store holds."""
    from lacewing.checkpoints import load_tensors
    from lacewing.masks import Guard, unpack
    from lacewing.sparsify import imp

    if all(finished(work.store, job) for job in levels):
        return
    sequence = [head, *levels]
    done = itertools.takewhile(lambda job: finished(work.store, job), sequence)
    needed = {job.key: ("model.safetensors", "masks.safetensors") if job.level else () for job in sequence}
    start = max(job.level for job in done if work.store.done(job.key, *needed[job.key]))
    spec = levels[0].spec
    assert isinstance(spec, Imp)
    model = _build(work, head)
    guard = Guard(model, spec.rewind_epoch)
    guard.origin = _rewind_point(work, head, spec.rewind_epoch)
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
        if work.keep == "signals" and level.number > 1:
            for name in ("model.safetensors", "masks.safetensors"):
                work.store.drop_file(sequence[level.number - 1].key, name)


def _load_or_retrain(work: Workspace, job: NetworkJob, model: nn.Module) -> None:
    """The weights of a finished level-0 network: from the store or, if they were dropped, by training again."""
    from lacewing.checkpoints import load_tensors

    stored = work.store.file(job.key, "model.safetensors")
    if stored is not None:
        model.load_state_dict(load_tensors(stored))
    else:
        _train(work, job, model)


def _rewind_point(work: Workspace, head: NetworkJob, epoch: int) -> dict[str, Tensor]:
    """The state after ``epoch`` epochs of the dense training; trained again where it was not kept."""
    from lacewing.checkpoints import load_tensors

    stored = work.store.file(head.key, f"rewind-{epoch}.safetensors")
    if stored is not None:
        return load_tensors(stored)
    model = _build(work, head)
    if epoch:
        _train(work, head, model, stop_after=epoch)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _build(work: Workspace, job: NetworkJob) -> nn.Module:
    import torch

    from lacewing.sparsify import butterfly
    from lacewing.train import stream

    torch.manual_seed(stream(job.seed, job.role, "init"))
    model = models.build(work.study.model, work.dataset.shape, work.dataset.classes)
    if job.method == "butterfly":
        butterfly(model, **job.spec.model_dump(include={"segments", "factors", "columns"}))
    return model.to(work.device)


def _members(work: Workspace, job: NetworkJob) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], data.Split]:
    """Records that the network trains on, those held out of them for tuning, and the whole split."""
    split = data.four_way(len(work.records), job.seed)
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

    kept, _, _ = _members(work, job)
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
    )


def _train_and_publish(
    work: Workspace, job: NetworkJob, model: nn.Module, *, guard: Guard | None = None, rewinds: Sequence[int] = ()
) -> None:
    """Train from the last checkpoint, observe, publish.

    Raises:
        DivergedError, BudgetSpent: see ``run_chain``.
    """
    from lacewing.checkpoints import load_checkpoint, save_checkpoint, save_tensors
    from lacewing.masks import pack

    folder = work.store.work(job.key)
    started, saved = time.monotonic(), time.monotonic()

    def on_epoch(progress: Progress) -> None:
        nonlocal saved
        epoch = progress.curve[-1]
        work.report(job, epoch)
        if epoch.epoch in rewinds:
            save_tensors(folder / f"rewind-{epoch.epoch}.safetensors", progress.model)
        stopping = work.stop() and epoch.epoch < job.train.epochs
        if stopping or time.monotonic() - saved > CHECKPOINT_EVERY:
            save_checkpoint(folder, progress, job=job.id, epochs=job.train.epochs)
            saved = time.monotonic()
        if stopping:
            raise BudgetSpent(f"stopped {job.id} after epoch {epoch.epoch} of {job.train.epochs}; its state is saved.")

    try:
        progress = _train(
            work, job, model, guard=guard, progress=load_checkpoint(folder, set(model.state_dict())), on_epoch=on_epoch
        )
    except LacewingError as error:
        raise type(error)(f"{job.id}: {error}") from None
    seconds = time.monotonic() - started
    result, arrays = _observe(work, job, model, tuple(progress.curve), guard)

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


def _facts(work: Workspace, name: str) -> dict[str, Any]:
    """What job.json records beside the digests: times and machine, which results.csv never holds."""
    import torch

    device = torch.cuda.get_device_name() if work.device == "cuda" else platform.machine()
    return {"job": name, "device": f"{work.device} ({device})", "torch": torch.__version__, "finished": time.time()}


def _observe(
    work: Workspace, job: NetworkJob, model: nn.Module, curve: tuple[Epoch, ...], guard: Guard | None
) -> tuple[NetworkResult, dict[str, npt.NDArray[Any]]]:
    from lacewing.accounting import dense_model, describe
    from lacewing.signals import compact, observe

    kept, held, split = _members(work, job)
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
            butterfly(model, **job.spec.model_dump(include={"segments", "factors", "columns"}))
        model.load_state_dict(state)
        state = composed_state(model)
    return {name: tensor.contiguous() for name, tensor in state.items()}


# ----------------------------------------------------------------------------------------------------------- attacks


def run_attack(store: Store, job: AttackJob, *, classes: int) -> None:
    """Run an attack on the stored signals of its target and shadow, and publish metrics and scores. Needs no torch."""
    from lacewing.attacks import ATTACKS, Observed

    def observed(network: NetworkJob) -> Observed:
        with np.load(store.job(network.key) / "signals.npz", allow_pickle=False) as arrays:
            rows = arrays["audited_N"]
            return Observed(
                logits_NC=arrays["logits_NC"][rows],
                label_N=arrays["label_N"][rows],
                member_N=arrays["member_N"][rows],
                sensitivity_N=arrays["sensitivity_N"][rows],
                record_N=arrays["record_N"][rows],
            )

    target = load_network(store, job.target)
    result = ATTACKS[job.attack].function(
        target, observed(job.shadow), observed(job.target), classes=classes, seed=job.seed
    )
    plain = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    arrays = {name: plain.pop(name) for name in _ATTACK_ARRAYS}
    del plain["network"]

    def write(folder: Path) -> None:
        np.savez_compressed(folder / "scores.npz", **arrays)
        (folder / "metrics.json").write_text(json.dumps(plain, indent=1, default=_plain))

    store.publish(job.key, {"job": job.id, "finished": time.time()}, write)


def attacked(store: Store, job: AttackJob) -> bool:
    """Whether an attack's results are there, unaltered."""
    return store.done(job.key, "metrics.json", "scores.npz")


_ATTACK_ARRAYS = ("fpr", "tpr", "record_N", "member_N", "hit_N", "correct_N")


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else value.item()


# ----------------------------------------------------------------------------------------------- reading results back


def load_network(store: Store, job: NetworkJob) -> NetworkResult:
    """The result of a finished network job."""
    found = json.loads((store.job(job.key) / "metrics.json").read_text())
    curve = tuple(Epoch(**epoch) for epoch in found.pop("curve"))
    # The plan's name for it, which may be another than that under which it was trained.
    return NetworkResult(**{**found, "network": job.network, "method": job.method}, curve=curve)


def load_attack(store: Store, job: AttackJob) -> AttackResult:
    """The result of a finished attack job."""
    found = json.loads((store.job(job.key) / "metrics.json").read_text())
    metrics = {name: None if e is None else Estimate(*e) for name, e in found.pop("metrics").items()}
    with np.load(store.job(job.key) / "scores.npz", allow_pickle=False) as arrays:
        return AttackResult(
            network=load_network(store, job.target), metrics=metrics, **found, **{k: arrays[k] for k in _ATTACK_ARRAYS}
        )
