"""Whether the audited model stays what it was while references are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lacewing.attacks._types import Task
from lacewing.auditing._call import Model, alike, answered
from lacewing.auditing._inputs import RawData

_ASKED = 2000  # records, at most, that a function is asked again


def watch(model: Model, records: RawData, task: Task) -> Callable[[], bool]:
    """A function that says whether the model is still what it was: a module by its state, a function by its answers."""
    if isinstance(model, nn.Module):
        before = _digest(model)
        return lambda: _digest(model) == before
    some = records.at(np.unique(np.linspace(0, len(records) - 1, _ASKED).astype(int)))
    answers = answered(model, some, "model", task)
    return lambda: alike(answers, answered(model, some, "model", task), model)


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            if tensor.layout is not torch.strided:
                tensor = tensor.to_dense()
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
