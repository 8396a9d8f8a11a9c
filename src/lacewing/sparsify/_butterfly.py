"""Butterfly networks: the convolutions of the last segments replaced by chains of Kronecker-sparse factors."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify.chain import Chain
from lacewing.sparsify.layers import Columns, KSConv2d


def butterfly(model: nn.Module, *, segments: int, factors: int, columns: Columns = "channel-first") -> dict[str, Chain]:
    """Replace, in place, every spatial convolution of the last segments by the cheapest chain of its shape.

    A segment is the convolutions with the same number of outputs; the first convolution of the network (its stem),
    1x1 shortcuts, batch norm and the classifier stay dense. For ResNet-20 these are its three segments.

    Args:
        model: changed in place; replaced layers get a fresh initialisation from the ambient torch seed.
        segments: how many, counted from the output.
        factors: of each chain.
        columns: see ``KSConv2d``.

    Returns:
        The chain of every replaced layer, by module name.

    Raises:
        UsageError: the model has fewer segments, or a layer has no chain of that many factors.
    """
    convolutions = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1
    }
    body = dict(list(convolutions.items())[1:])
    widths = list(dict.fromkeys(conv.out_channels for conv in body.values()))
    if not widths:
        raise UsageError("butterfly needs spatial convolutions behind the first one, and the model has none.")
    if not 1 <= segments <= len(widths):
        raise UsageError(
            f"segments = {segments}, but the model has {len(widths)} segments of spatial convolutions behind its stem; "
            f"ask for 1 to {len(widths)}."
        )
    layers: dict[str, KSConv2d] = {}
    for name, conv in body.items():
        if conv.out_channels in widths[-segments:]:
            try:
                chain = Chain.cheapest(conv.out_channels, math.prod(conv.weight.shape[1:]), factors)
                layers[name] = KSConv2d(conv, chain, columns)
            except UsageError as error:
                raise UsageError(f"butterfly layer '{name}': {error}") from None
    for name, layer in layers.items():  # only now, so that an error leaves the model as it was
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return {name: layer.chain for name, layer in layers.items()}


def composed_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the ordinary network that computes the same: each chain as the dense kernel it composes to."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, KSConv2d):
            for key in [k for k in state if k.startswith(f"{name}.factors.")]:
                del state[key]
            state[f"{name}.weight"] = module.weight.detach().contiguous()
    return state
