"""The first layer of a network, if it is fully connected to its records: what span attacks look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.gradients import evaluation


def first_layer(model: nn.Module, records: Tensor) -> str:
    """The name of the linear layer that sees all values of a record, before any other weight.

    Args:
        model: its mode and buffers do not change.
        records: a few, as the model takes them.

    Raises:
        UsageError: the first layer with weights is no ``nn.Linear``, or what it sees is not the record.
    """
    owners = [(name, module) for name, module in model.named_modules() if [*module.parameters(recurse=False)]]
    name, layer = owners[0] if owners else ("", model)
    if not isinstance(layer, nn.Linear):
        kind = type(layer).__name__ if owners else "none"
        raise UsageError(f"the first layer with weights must be torch.nn.Linear, and it is {kind}.")
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad(), evaluation(model):
            model(records)
    finally:
        hook.remove()
    flat = records.flatten(1)
    if not seen or seen[0].shape != flat.shape or not torch.equal(seen[0].to(flat.dtype), flat):
        raise UsageError(f"the first linear layer '{name}' does not see the record itself, but what is made of it.")
    return name
