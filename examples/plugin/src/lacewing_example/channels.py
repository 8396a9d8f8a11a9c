"""A method: networks without a share of their channels, by Torch-Pruning (Fang et al., "DepGraph", CVPR 2023).

Channels are removed at the initialisation, and the smaller network is trained from there. Liu et al. ("Rethinking the
value of network pruning", ICLR 2019) found that to do as well as pruning a trained network and training on.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from lacewing.errors import UsageError
from lacewing.methods import Look, Method


class Channels(Method):
    """A network without a share of the channels of every layer, trained from its initialisation."""

    look: ClassVar[Look] = Look("fewer channels", "#cc79a7", "P")
    reshapes: ClassVar[bool] = True

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of the channels of each layer that are removed

    def default_name(self) -> str:
        """``channels-50``: half of them are removed."""
        return f"channels-{round(100 * self.share):02d}"

    def build(self, model: nn.Module) -> nn.Module:
        """Remove the channels of smallest L2 norm; the last linear layer keeps its outputs, one for each class."""
        import torch_pruning  # here, so that `lacewing list` works without it

        layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        if not layers or not isinstance(layers[-1], nn.Linear):
            raise UsageError(f"networks: '{self.entry}' needs a model whose last layer is linear; choose another.")
        if layers[0].weight.is_meta:  # to be counted: which channels go depends on the values, how many does not
            model = model.to_empty(device="cpu")
        with layers[0].weight.device:
            torch_pruning.BasePruner(
                model,
                _example(layers[0]),
                importance=torch_pruning.importance.MagnitudeImportance(p=2),
                pruning_ratio=self.share,
                ignored_layers=[layers[-1]],
            ).step()
        return model


def _example(first: nn.Conv2d | nn.Linear) -> torch.Tensor:
    """A record that the first layer takes, by which Torch-Pruning follows the network."""
    if isinstance(first, nn.Conv2d):
        return torch.zeros(1, first.in_channels, 32, 32)
    return torch.zeros(1, first.in_features)
