"""Stored weights into a network that is built anew: what the model's code builds now must be what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lacewing import models
from lacewing.config import Model
from lacewing.errors import FolderError
from lacewing.study.jobs._stored import load_network
from lacewing.study.plan import NetworkJob
from lacewing.study.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn


def check_count(store: Store, job: NetworkJob, nonzero: int) -> None:
    """Refuse to reuse a trained network where its model, of the user's or of a package, has another size now.

    Its key holds the source of the module that defines the model, and not what that imports.

    Args:
        store: where the network is.
        job: the network.
        nonzero: its parameters that are not zero, as they would be now, see `lacewing.study.accounting.count_networks`.

    Raises:
        FolderError: it has more or fewer.
    """
    then = load_network(store, job).nonzero
    if then != nonzero:
        raise FolderError(
            f"{job.id} in {store.folder} has {then:,} parameters that are not zero, and {models.named(job.model)} "
            f"makes it {nonzero:,} now: {changed(job.model)}"
        )


def load_weights(store: Store, job: NetworkJob, model: nn.Module) -> None:
    """Load a trained network's weights. Raises `FolderError`, see `check_fits`, also where they are lost or damaged."""
    from lacewing.training.checkpoints import load_tensors

    state = load_tensors(store.need(job.key, "model.safetensors"))
    check_fits(job, model, state)
    model.load_state_dict(state)


def mask_file(store: Store, job: NetworkJob, of: NetworkJob) -> Path:
    """The file of the trained mask that ``job`` takes from another network. Raises `FolderError` if it was dropped."""
    path = store.file(of.key, "masks.safetensors")
    if path is None:
        raise FolderError(f"the mask of {of.id} was dropped, and {job.id} needs it; give --out another folder.")
    return path


def check_fits(job: NetworkJob, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raises `FolderError` unless the state has the names and shapes of the model that is built now."""
    now, then = ({name: tuple(tensor.shape) for name, tensor in s.items()} for s in (model.state_dict(), state))
    if now == then:
        return
    sizes = [sum(p.numel() for name, p in s.items()) for s in (state, model.state_dict())]
    other = next(name for name in {**now, **then} if now.get(name) != then.get(name))
    shapes = [f"of shape {found[other]}" if other in found else "not there" for found in (then, now)]
    raise FolderError(
        f"{job.id} was trained with {sizes[0]:,} numbers, and {models.named(job.model)} builds {sizes[1]:,} now "
        f"('{other}' was {shapes[0]} and is {shapes[1]}): {changed(job.model)}"
    )


def changed(model: Model) -> str:
    """What must have happened where a model is not what it was under one key, and the mend."""
    if model.factory is None:
        return (
            "the package that adds this model has changed; install the version of then, or give --out another folder."
        )
    return (
        'code outside the factory\'s module has changed. Restore it, or set model.version, e.g. "2", and give --out '
        "another folder, where every network is trained anew."
    )
