"""Tensors on disk: weights, masks, and the checkpoints of interrupted trainings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from lacewing.errors import UsageError
from lacewing.results import Epoch
from lacewing.support.files import write_atomically
from lacewing.support.formats import parse_json, read_tensors
from lacewing.training.loop import TrainingState

_SEAL = "sha256"  # metadata key of the checksum of everything else in the file
_OLDER = {"momentum": "momentum_buffer"}  # what earlier versions, whose only optimiser was SGD, called its state


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically.

    The metadata get a checksum of the content, which `load_sealed` checks.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    about = metadata or {}
    write_atomically(path, save(plain, {**about, _SEAL: _digest(plain, about)}))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file. Raises `UsageError` where it is not such a file."""
    return read_tensors(path)[0]


def load_sealed(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata that ``save_tensors`` wrote.

    Raises:
        UsageError: the file is damaged or was altered.
        OSError: the file cannot be read.
    """
    tensors, metadata = read_tensors(path)
    if metadata.pop(_SEAL, None) != _digest(tensors, metadata):
        raise UsageError(f"{path} is damaged or was altered: its content does not match its checksum.")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save_checkpoint(folder: Path, progress: TrainingState, *, job: str, epochs: int) -> None:
    """Write the training state, and progress.json for ``lacewing status``."""
    tensors = {f"model|{name}": t for name, t in progress.model.items()}
    tensors |= {f"{kind}|{name}": t for kind, held in progress.optimizer.items() for name, t in held.items()}
    curve = json.dumps([dataclasses.asdict(epoch) for epoch in progress.curve])
    save_tensors(folder / "checkpoint.safetensors", tensors, {"curve": curve, "seconds": str(progress.seconds)})
    where = {"job": job, "epoch": len(progress.curve), "epochs": epochs, "seconds": round(progress.seconds, 2)}
    write_atomically(folder / "progress.json", json.dumps({**where, "saved": time.time()}))


def load_checkpoint(folder: Path) -> TrainingState | None:
    """The state of an interrupted training; None where there is none.

    Raises:
        UsageError: the state is damaged or was altered.
    """
    path = folder / "checkpoint.safetensors"
    try:
        tensors, metadata = load_sealed(path)
        curve = [Epoch(**epoch) for epoch in parse_json(metadata["curve"], str(path))]
        seconds = float(metadata["seconds"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not the saved state of a training ({error}).") from None
    split: dict[str, dict[str, Tensor]] = {"model": {}}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("|")
        split.setdefault(_OLDER.get(kind, kind), {})[name] = tensor
    return TrainingState(curve, split.pop("model"), split, seconds)
