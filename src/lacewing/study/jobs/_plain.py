"""A trained network as plain torch knows it, for export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacewing import models
from lacewing.config import Butterfly, Study, chain_settings
from lacewing.study.plan import NetworkJob
from lacewing.study.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn


def plain_state(
    store: Store, job: NetworkJob, study: Study, *, shape: tuple[int, ...], classes: int
) -> dict[str, Tensor]:
    """A trained network's weights as the plain torch model loads them: butterfly layers composed."""
    import torch

    from lacewing.sparsify import butterfly, composed_state
    from lacewing.training.checkpoints import load_tensors

    state = load_tensors(store.need(job.key, "model.safetensors"))
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
