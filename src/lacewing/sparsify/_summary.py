"""What a sparse network stores, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify.effective import effective
from lacewing.sparsify.masks import check_masks


@dataclass(frozen=True, slots=True)
class Layer:
    """A prunable weight.

    Args:
        name: of the parameter; of a butterfly layer, its module.
        shape: of the (dense) weight.
        parameters: of the (dense) weight.
        nonzero: that are stored: kept weights, entries of factors.
        note: a chain's patterns, or why a layer stayed dense.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    nonzero: int
    note: str = ""

    @property
    def density(self) -> float:
        """Stored / dense."""
        return self.nonzero / self.parameters


@dataclass(frozen=True, slots=True)
class Summary:
    """A network's layers, and the whole.

    Args:
        layers: the prunable ones.
        parameters: of the dense network, biases and batch norm counted.
        nonzero: of them that are stored and not pruned.
    """

    layers: tuple[Layer, ...]
    parameters: int
    nonzero: int

    @property
    def density(self) -> float:
        """Over all parameters of the dense network."""
        return self.nonzero / self.parameters

    @property
    def density_prunable(self) -> float:
        """Over the prunable weights alone; 1 where there is none."""
        weights = sum(layer.parameters for layer in self.layers)
        return sum(layer.nonzero for layer in self.layers) / weights if weights else 1.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "parameters": self.parameters,
            "nonzero": self.nonzero,
            "density": self.density,
            "density_prunable": self.density_prunable,
            "layers": [{**asdict(layer), "density": layer.density} for layer in self.layers],
        }

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=5)
        head = f"{'layer':<{width}}  {'shape':<18} {'parameters':>12} {'non-zero':>12} {'density':>8}"
        rows = [
            f"{layer.name:<{width}}  {'x'.join(map(str, layer.shape)):<18} {layer.parameters:>12,} "
            f"{layer.nonzero:>12,} {layer.density:>8.2%}  {layer.note}".rstrip()
            for layer in self.layers
        ]
        total = (
            f"{'all':<{width}}  {'':<18} {self.parameters:>12,} {self.nonzero:>12,} {self.density:>8.2%}  "
            f"(prunable weights alone: {self.density_prunable:.2%})"
        )
        return "\n".join([head, *rows, total])


def summary(
    model: nn.Module, masks: Mapping[str, Tensor] | None = None, *, notes: Mapping[str, str] | None = None
) -> Summary:
    """Count what a network stores, against the dense network: masks, butterfly factors, or both.

    A weight with a mask of ``torch.nn.utils.prune``, weight norm, spectral norm or another parametrisation counts as
    the weight that is made, with its values that are not zero (on the device 'meta', which has no values, with all);
    the parameters that it is made of do not count.

    Args:
        model: the network.
        masks: by parameter name, True for a kept weight; without masks every plain weight counts as kept, even if zero.
        notes: text to show beside layers, by layer name.

    Raises:
        UsageError: masks of another model, or of a parameter of which another weight is made.
    """
    masks, notes = masks or {}, notes or {}
    check_masks(model, masks)
    kept: dict[int, Tensor] = {}  # by identity: a shared weight may be masked under any of its names
    for name, mask in masks.items():
        identity = id(model.get_parameter(name))
        kept[identity] = mask & kept[identity] if identity in kept else mask
    owners = {
        f"{path}.{factor}" if path else factor: (path, module)
        for path, module in model.named_modules()
        if hasattr(module, "saved_parameters")
        for factor in module.prunable_parameters()
    }
    weights = effective(model)
    plain = {id(model.get_parameter(name)) for name, found in weights.items() if not found.made}
    if lost := [name for name in masks if id(model.get_parameter(name)) not in plain]:
        raise UsageError(
            f"there is a mask for '{lost[0]}', of which the network makes another weight; remove that mask."
        )
    rows: dict[str, Layer] = {}
    parameters = nonzero = 0
    for name, found in weights.items():
        weight = found.tensor
        if found.made:
            stored = weight.numel() if weight.is_meta else int(torch.count_nonzero(weight))
        else:
            identity = id(model.get_parameter(name))
            stored = int(kept[identity].sum()) if identity in kept else weight.numel()
        parameters, nonzero = parameters + weight.numel(), nonzero + stored
        if not found.prunable:
            continue
        if name not in owners:
            rows[name] = Layer(name, tuple(weight.shape), weight.numel(), stored, notes.get(name, ""))
        else:  # a factor: its layer is the row
            path, layer = owners[name]
            before = rows[path].nonzero if path in rows else 0
            rows[path] = Layer(
                path, layer.weight_shape, math.prod(layer.weight_shape), before + stored, notes.get(path, "")
            )
    saved = sum(getattr(module, "saved_parameters", 0) for module in model.modules())
    return Summary(tuple(rows.values()), parameters + saved, nonzero)
