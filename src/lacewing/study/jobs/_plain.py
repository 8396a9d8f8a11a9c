"""A trained network as plain torch knows it, for export."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lacewing import models
from lacewing.methods import built
from lacewing.study.jobs._weights import load_weights
from lacewing.study.plan import NetworkJob
from lacewing.study.store import Store
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from torch import Tensor, nn


def plain_state(store: Store, job: NetworkJob, *, shape: tuple[int, ...], classes: int) -> dict[str, Tensor]:
    """A trained network's weights as a plain torch model loads them: butterfly layers composed.

    Runs the code of a user's method only where that changes the architecture, and then the model's factory too.
    """
    from lacewing.training.checkpoints import load_tensors

    if job.spec.reshapes:
        state = plain_model(store, job, shape=shape, classes=classes).state_dict()
    else:
        state = load_tensors(store.need(job.key, "model.safetensors"))
    return {name: tensor.clone().contiguous() for name, tensor in state.items()}  # names of tied weights share memory


def plain_model(store: Store, job: NetworkJob, *, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A trained network as a plain torch model, in evaluation mode. Runs the factory, if the study names one."""
    import torch

    spec = job.spec.loaded()
    with torch.random.fork_rng(devices=[]), user_code(f"networks: method {job.method}", own_frames=True):
        fresh = partial(models.build, job.model, shape, classes, dropout=job.train.dropout)
        dense = fresh()
        model = built(spec, fresh()) if spec.reshapes else dense
        load_weights(store, job, model)
        return spec.export(model, dense).eval()
