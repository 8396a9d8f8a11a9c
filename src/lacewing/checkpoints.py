"""Tensors on disk: weights, masks, and the checkpoint that an interrupted training goes on from."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from lacewing._files import write_atomically
from lacewing.results import Epoch
from lacewing.train import Progress


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically; each in its own contiguous memory, on the CPU."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_atomically(path, save(plain, metadata))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file."""
    return load_file(path)


def save_checkpoint(folder: Path, progress: Progress, *, job: str, epochs: int) -> None:
    """Write the state that training goes on from, and progress.json for ``lacewing status``."""
    tensors = {f"model|{name}": t for name, t in progress.model.items()}
    tensors |= {f"momentum|{name}": t for name, t in progress.momentum.items()}
    curve = json.dumps([dataclasses.asdict(epoch) for epoch in progress.curve])
    save_tensors(folder / "checkpoint.safetensors", tensors, {"curve": curve, "seconds": str(progress.seconds)})
    where = {"job": job, "epoch": len(progress.curve), "epochs": epochs, "seconds": round(progress.seconds, 2)}
    write_atomically(folder / "progress.json", json.dumps({**where, "saved": time.time()}))


def load_checkpoint(folder: Path, names: set[str]) -> Progress | None:
    """The state of an interrupted training; None where there is none or it cannot be read (training starts anew)."""
    try:
        with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
            curve = [Epoch(**epoch) for epoch in json.loads(file.metadata()["curve"])]
            seconds = float(file.metadata().get("seconds", 0.0))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    split: dict[str, dict[str, Any]] = {"model": {}, "momentum": {}}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("|")
        split.setdefault(kind, {})[name] = tensor
    return Progress(curve, split["model"], split["momentum"], seconds) if set(split["model"]) == names else None
