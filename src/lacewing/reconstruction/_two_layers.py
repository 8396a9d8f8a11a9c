"""A user's perceptron of two layers for two classes, as the attack by stationarity needs it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.gradients import measuring
from lacewing.reconstruction._layer import first_layer
from lacewing.reconstruction._stationarity import Network


def two_layers(model: nn.Module, records: Tensor) -> Network:
    """The network as relu(first(x)) second, its zeros as a mask.

    An intercept of the second layer is left out: the conditions on the other weights hold without it. Two logits are
    trained as their difference: with second = (w1 - w0) / sqrt 2 both layers have the same multipliers, since ReLU is
    positively homogeneous and each logit moves by half of the difference.

    Args:
        model: with one logit, of class 1, or two; its mode does not change.
        records: a few, as the model takes them.

    Raises:
        UsageError: it is no such network.
    """
    owners: list[Any] = [module for module in model.modules() if [*module.parameters(recurse=False)]]
    if len(owners) != 2 or not all(isinstance(module, nn.Linear) for module in owners):
        raise UsageError(
            f"it has {len(owners)} layers with weights: stationarity needs two, torch.nn.Linear, with ReLU between."
        )
    first_layer(model, records)
    first, second = owners
    with torch.no_grad(), measuring(model):
        answer = model(records).reshape(len(records), -1)
        here = second(torch.relu(first(records.flatten(1))))
    if here.shape != answer.shape or not torch.allclose(here, answer, rtol=1e-4, atol=1e-5):
        raise UsageError("its answers are not second(relu(first(record))): stationarity needs a perceptron with ReLU.")
    if not isinstance(first, nn.Linear) or len(answer.T) > 2:
        raise UsageError(f"it tells {len(answer.T)} classes: stationarity needs two.")
    weight = torch.as_tensor(second.weight).detach().float().cpu()
    own = nn.Linear(first.in_features, first.out_features, bias=first.bias is not None)
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            parameter.copy_(getattr(first, name))
    zero = own.weight.detach() == 0
    return Network(
        own,
        weight[0] if len(weight) == 1 else (weight[1] - weight[0]) / math.sqrt(2),
        (~zero).float() if zero.any() else None,
    )
