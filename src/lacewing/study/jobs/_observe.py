"""Observe a trained network: what it leaves for good, and what attacks ask it."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import data
from lacewing.errors import DivergedError, UsageError
from lacewing.results import Epoch, NetworkResult, Privacy
from lacewing.study.jobs._columns import guess_columns
from lacewing.study.jobs._stored import POPULATION
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.jobs._worlds import observe_world, world_members
from lacewing.study.plan import NetworkJob
from lacewing.support.mapped import take

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.sparsify.guard import Guard

Arrays = Mapping[str, npt.NDArray[Any]]


def members(
    work: Workspace, job: NetworkJob
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], data.Split | data.Halves]:
    """Records that the network trains on, those held out of them for tuning, and the whole split.

    Those of a network of [property] are indices into `Workspace.records_of`, and no part of the split.
    """
    split = work.split(job.seed)
    if job.world is not None:
        kept, held = data.holdout(world_members(work, job), job.train.holdout, job.seed)
        return kept, held, split
    inside, codes = split.members(job.role), work.records.group_N
    groups = None if codes is None else codes[inside]
    kept, held = data.holdout(inside, job.train.holdout, job.seed, groups=groups)
    return kept, held, split


def guarantee(work: Workspace, job: NetworkJob) -> Privacy | None:
    """What the network's training guarantees each record; None: it is not trained by DP-SGD.

    Raises:
        UsageError: its settings cannot be met with so many records.
    """
    if not job.spec.accounted:
        return None  # without the split of its seed, which may take a second
    try:
        return job.spec.privacy(job.train, len(members(work, job)[0]), job.step)
    except UsageError as error:
        raise type(error)(f"network '{job.network}': {error}") from None


def _audited(work: Workspace, job: NetworkJob) -> npt.NDArray[np.bool_]:
    """(N,) the records on which the network is attacked: those it trains on, and its test set."""
    kept, _, split = members(work, job)
    audited = np.zeros(len(work.records), bool)
    audited[np.concatenate([kept, split.nonmembers(job.role)])] = True
    return audited


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
    from lacewing.sparsify.masks import pack
    from lacewing.training.checkpoints import load_sealed, save_tensors

    work.spare_memory()  # what training freed
    folder = work.store.work(job.key)
    observed = _observe if job.world is None else observe_world
    result, arrays = observed(work, job, model, tuple(curve), guard)
    work.check_data()

    def write(folder_: Path) -> None:
        save_tensors(folder_ / "model.safetensors", model.state_dict())
        if guard is not None:
            save_tensors(folder_ / "masks.safetensors", pack(guard.masks))
        for name in (f"rewind-{epoch}.safetensors" for epoch in rewinds):
            with suppress(FileNotFoundError, UsageError):  # what is damaged is trained again when it is needed
                load_sealed(folder / name)
                (folder_ / name).write_bytes((folder / name).read_bytes())
        _save("signals.npz", arrays, folder_)
        (folder_ / "metrics.json").write_text(json.dumps(dataclasses.asdict(result), indent=1), encoding="utf-8")

    work.store.publish(job.key, {**_facts(work, job.id), "seconds": round(seconds, 2)}, write)
    work.store.drop_work(job.key)
    probe(work, job, model, guard.masks if guard is not None else {})
    work.spare_memory()


def probe(work: Workspace, job: NetworkJob, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Ask a network what the study's attacks need beyond plain outputs and sensitivity, and publish the answers.

    Raises:
        DivergedError: it answers with NaN or infinity.
    """
    missing = {kind: key for kind, key in job.probes if not work.store.done(key, "probe.npz")}
    if not missing:
        return
    answers = _answers(work, job, model, masks, missing)
    work.check_data()
    for kind, arrays in answers.items():
        write = partial(_save, "probe.npz", arrays)
        work.store.publish(missing[kind], _facts(work, f"probe ({kind}) of {job.id}"), write)


def _answers(
    work: Workspace, job: NetworkJob, model: nn.Module, masks: Mapping[str, Tensor], kinds: Collection[str]
) -> dict[str, Arrays]:
    """What the network answers to each kind of question."""
    from lacewing import signals

    settings, answers = work.study.signals, dict[str, Arrays]()
    audited = _audited(work, job)
    if "first-layer" in kinds:
        from lacewing.study.jobs._first_layer import observe_first_layer  # which trains, and so observes

        answers["first-layer"] = observe_first_layer(work, job, model, masks, audited)
    if "attribute" in kinds:
        answers["attribute"] = guess_columns(work, job, model, audited)
    if {"queries", "noise", "gradients"} & {*kinds}:
        found = signals.probe(
            model,
            work.records.x,
            work.records.y,
            normalisation=work.normalisation,
            of=audited & bool({"noise", "gradients"} & {*kinds}),
            queries=work.study.queries() if "queries" in kinds else 0,
            noise_sizes=settings.noise_sizes if "noise" in kinds else (),
            noise_draws=settings.noise_draws,
            gradients="gradients" in kinds,
            masks=masks,
        )
        _check_finite(job, found.phi_NQ, found.gradient_N2[audited & ("gradients" in kinds)])
        phi_NQ = np.clip(found.phi_NQ, -60000, 60000).astype(np.float16)
        answers["queries"] = {"phi_NQ": phi_NQ, "right_NQ": found.right_NQ}
        answers["noise"] = {"right_NS": found.right_NS}
        answers["gradients"] = {"gradient_N2": found.gradient_N2}
    if "boundary" in kinds:
        answers["boundary"] = _boundary(work, model, audited)
    if "layers" in kinds:
        answers["layers"] = {"layer_NF": _layers(work, model, masks, audited)}
        _check_finite(job, answers["layers"]["layer_NF"][audited])
    if "population" in kinds:
        x, y = take(work.dataset.x, work.population), work.dataset.y[work.population]
        none = np.zeros(len(x), bool)
        logits, _ = signals.observe(model, x, normalisation=work.normalisation, sensitivity_of=none, draws=1)
        _check_finite(job, logits)
        answers["population"] = {"population_logits_ZC": signals.compact(logits), "population_label_Z": y}
    return {kind: answers[kind] for kind in kinds}


def _boundary(work: Workspace, model: nn.Module, audited: npt.NDArray[np.bool_]) -> Arrays:
    from lacewing.probes import boundary

    found = boundary(
        model,
        work.records.x,
        work.records.y,
        normalisation=work.normalisation,
        of=audited,
        queries=work.study.signals.boundary_queries,
    )
    return {"boundary_N": found.boundary_N, "asked_N": found.asked_N}


def _layers(
    work: Workspace, model: nn.Module, masks: Mapping[str, Tensor], audited: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """(N, F), see `lacewing.probes.layer_features`; NaN where a record is not audited."""
    import torch

    from lacewing.gradients import device_of
    from lacewing.inputs import network_inputs
    from lacewing.probes import layer_features

    x, device = work.records.x, device_of(model)
    mean, std = (torch.from_numpy(a).to(device).view((1, -1) + (1,) * (x.ndim - 2)) for a in work.normalisation)
    parts = []
    for rows in np.array_split(np.flatnonzero(audited), -(-int(audited.sum()) // 1000)):
        inputs = network_inputs(torch.from_numpy(np.ascontiguousarray(x[rows])).to(device), mean, std)
        label = torch.from_numpy(np.ascontiguousarray(work.records.y[rows], np.int64)).to(device)
        parts.append(layer_features(model, inputs, label, masks=masks))
    found = np.full((len(x), parts[0].shape[1]), np.nan, np.float32)
    found[audited] = np.concatenate(parts)
    return found


def _check_finite(job: NetworkJob, *answers: npt.NDArray[np.floating]) -> None:
    if not all(np.isfinite(values).all() for values in answers):
        raise DivergedError(f"{job.id}: the trained network answers with NaN or infinity; try a smaller train.lr.")


def _save(name: str, arrays: Arrays, folder: Path) -> None:
    np.savez_compressed(folder / name, **arrays)  # type: ignore[arg-type]


def _facts(work: Workspace, name: str) -> dict[str, Any]:
    """What job.json records beside the digests: times and machine, which results.csv never holds."""
    import torch

    device = torch.cuda.get_device_name() if work.device == "cuda" else platform.machine()
    if work.recordings is not None:
        device += f", {work.recordings.way} steps"
    return {"job": name, "device": f"{work.device} ({device})", "torch": torch.__version__, "finished": time.time()}


def _observe(
    work: Workspace, job: NetworkJob, model: nn.Module, curve: tuple[Epoch, ...], guard: Guard | None
) -> tuple[NetworkResult, Arrays]:
    from lacewing import signals
    from lacewing.study.accounting import dense_model, describe

    kept, held, split = members(work, job)
    outside = split.nonmembers(job.role)
    member = np.zeros(len(work.records), bool)
    member[kept] = True
    audited = _audited(work, job)
    raw, sensitivity = signals.observe(
        model,
        work.records.x,
        normalisation=work.normalisation,
        sensitivity_of=audited,
        noise=work.study.signals.noise,
        draws=work.study.signals.draws,
    )
    _check_finite(job, raw)
    logits = signals.compact(raw)
    right = logits.argmax(1) == work.records.y
    clean = logits.argmax(1) == work.records.clean_y
    parts = split.part_N(len(work.records))
    aside = parts == POPULATION
    shape, classes = work.dataset.shape, work.dataset.classes
    dense = dense_model(work.study.model, shape, classes)
    own = dense if job.model == work.study.model else dense_model(job.model, shape, classes)
    counts = describe(model, dense, own, guard.masks if guard else {})
    privacy = guarantee(work, job)
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
        population_accuracy=float(right[aside].mean()) if aside.any() else None,
        family=job.family,
        kind=job.kind,
        init=job.init,
        dp_noise=privacy.noise if privacy is not None else None,
        epsilon=privacy.epsilon if privacy is not None else None,
        delta=privacy.delta if privacy is not None else None,
        dp_trainings=privacy.trainings if privacy is not None else 1,
        curve=curve,
    )
    arrays = {
        "part_N": parts,
        "member_N": member,
        "audited_N": audited,
        "label_N": work.records.y.astype(np.int32),
        "record_N": work.records.id.astype(np.int32),
        "logits_NC": logits,
        "sensitivity_N": sensitivity.astype(np.float32),
    }
    if work.records.canary_N.any():
        arrays["canary_N"] = work.records.canary_N
    if work.study.data.label_noise:
        arrays["redrawn_N"] = work.records.y != work.records.clean_y
    if work.records.group_N is not None:
        arrays["group_N"] = work.records.group_N.astype(np.int32)
    return result, arrays
