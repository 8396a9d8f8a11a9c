"""A method as a user writes it: tests import it by its name, ``own_method:Halved``, and copy it beside a study."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from lacewing.methods import Look, Method, Step, Training
from lacewing.sparsify import Masks, prunable


class Halved(Method):
    """A random half of each layer's weights, drawn before training."""

    look: ClassVar[Look] = Look("halved", "#cc79a7", "v")
    masked: ClassVar[bool] = True

    share: float = 0.5

    def count(self, model: nn.Module, step: Step) -> int:
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        return sum(sizes.values()) - sum(sizes[name] - round(self.share * sizes[name]) for name in prunable(model))

    def train_networks(self, training: Training) -> None:
        model = training.model()
        guard = self.guard(model)
        guard.masks = self._masks(model, training.seed)
        guard.rewind()
        training.fit(model, guard)

    def _masks(self, model: nn.Module, seed: int) -> Masks:
        draw = torch.Generator().manual_seed(seed)
        masks = {}
        for name in prunable(model):
            weight = model.get_parameter(name)
            order = torch.randperm(weight.numel(), generator=draw)
            masks[name] = (order < round(self.share * weight.numel())).view(weight.shape)
        return masks
