"""Observe a trained network: what it leaves for good, and what attacks ask it."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import data
from lacewing.errors import DivergedError
from lacewing.jobs._workspace import Workspace
from lacewing.plan import NetworkJob, probe_settings
from lacewing.results import Epoch, NetworkResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.guard import Guard


def members(
    work: Workspace, job: NetworkJob
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], data.Split | data.Halves]:
    """Records that the network trains on, those held out of them for tuning, and the whole split."""
    split = work.split(job.seed)
    kept, held = data.holdout(split.members(job.role), job.train.holdout, job.seed)
    return kept, held, split


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
    probe(work, job, model, guard.masks if guard is not None else {})


def probe(work: Workspace, job: NetworkJob, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Ask a network what the study's attacks need beyond plain outputs and sensitivity, and publish the answers."""
    from lacewing import signals

    settings = probe_settings(work.study)
    if job.probe is None or settings is None or work.store.done(job.probe, "probe.npz"):
        return
    kept, _, split = members(work, job)
    audited = np.zeros(len(work.records), bool)
    audited[np.concatenate([kept, split.nonmembers(job.role)])] = True
    sizes = settings.get("noise_sizes", ())
    found = signals.probe(
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
        logits, _ = signals.observe(
            model, x, normalisation=work.normalisation, sensitivity_of=np.zeros(len(x), bool), draws=1
        )
        arrays |= {
            "population_logits_ZC": signals.compact(logits),
            "population_label_Z": work.dataset.y[work.population],
        }

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
    from lacewing import signals
    from lacewing.accounting import dense_model, describe

    kept, held, split = members(work, job)
    outside = split.nonmembers(job.role)
    member = np.zeros(len(work.records), bool)
    member[kept] = True
    audited = member.copy()
    audited[outside] = True
    raw, sensitivity = signals.observe(
        model,
        work.records.x,
        normalisation=work.normalisation,
        sensitivity_of=audited,
        noise=work.study.signals.noise,
        draws=work.study.signals.draws,
    )
    if not np.isfinite(raw).all():
        raise DivergedError(f"{job.id}: the trained network answers with NaN or infinity; try a smaller train.lr.")
    logits = signals.compact(raw)
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
