"""The weights that a network computes with, also where it makes them of others (masks, norms, parametrisations)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lacewing.sparsify.masks import weights_of
from lacewing.support.user_code import user_code


@dataclass(frozen=True, slots=True, eq=False)
class Effective:
    """A parameter, or a tensor that the network makes of parameters and computes with in their place.

    Args:
        tensor: its values, detached.
        prunable: whether pruning may touch such a weight, see ``prunable``.
        made: of other parameters.
    """

    tensor: Tensor
    prunable: bool
    made: bool


@torch.no_grad()
def effective(model: nn.Module) -> dict[str, Effective]:
    """What a network computes with in place of its parameters, by name, the prunable weights first, in module order.

    A weight with a mask of ``torch.nn.utils.prune``, with weight norm, spectral norm or any parametrisation counts as
    the weight that is made, and the parameters that it is made of do not count. What is shared counts once. A layer
    that makes its weight in another way counts with its parameters. The model is not changed.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    made: dict[str, Tensor] = {}
    inner: set[str] = set()  # of which weights are made
    for path, module in model.named_modules():
        for attribute, tensor, sources in _made(module):
            made[_join(path, attribute)] = tensor
            inner |= {_join(path, source) for source in sources}
    made = {name: tensor for name, tensor in made.items() if name not in inner}
    seen = {id(parameters[name]) for name in inner if name in parameters}
    found: dict[str, Effective] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name in (_join(path, attribute) for attribute in weights_of(module)):
            if name in made:
                found[name] = Effective(made[name], True, True)
            elif name in parameters and id(parameters[name]) not in seen:
                seen.add(id(parameters[name]))
                found[name] = Effective(parameters[name].detach(), True, False)
    for name, tensor in made.items():
        found.setdefault(name, Effective(tensor, False, True))
    for name, parameter in parameters.items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = Effective(parameter.detach(), False, False)
    return found


def nonzero(model: nn.Module) -> tuple[int, int, float]:
    """Parameters of a network, those that are not zero, and the share of these among its prunable weights.

    Weights count with the values that the network computes with, see ``effective``. The share is 1 where there is no
    prunable weight.
    """
    counts = [(w.tensor.numel(), int(torch.count_nonzero(w.tensor)), w.prunable) for w in effective(model).values()]
    total, kept = (sum(count[i] for count in counts) for i in (0, 1))
    whole, left = (sum(count[i] for count in counts if count[2]) for i in (0, 1))
    return total, kept, left / whole if whole else 1.0


def _join(path: str, attribute: str) -> str:
    return f"{path}.{attribute}" if path else attribute


def _made(module: nn.Module) -> Iterator[tuple[str, Tensor, list[str]]]:
    """Weights that a module (not its children) makes of others: attribute, value, names of its parameters."""
    if is_parametrized(module):
        for attribute, chain in module.parametrizations.items():  # type: ignore[union-attr, operator]
            sources = [f"parametrizations.{attribute}.{name}" for name, _ in chain.named_parameters()]
            if sources:  # none: a parametrised buffer
                modes = {part: part.training for part in chain.modules()}
                try:
                    chain.eval()  # spectral norm changes its buffers where it is training
                    with user_code(f"the parametrisation of '{attribute}'"):
                        yield attribute, chain().detach(), sources
                finally:
                    for part, mode in modes.items():
                        part.training = mode
    for hook in getattr(module, "_forward_pre_hooks", {}).values():
        if isinstance(hook, BasePruningMethod):
            name = hook._tensor_name
            yield name, hook.apply_mask(module), [f"{name}_orig"]  # type: ignore[no-untyped-call]
        elif isinstance(hook, WeightNorm):
            yield hook.name, hook.compute_weight(module), [f"{hook.name}_g", f"{hook.name}_v"]
        elif isinstance(hook, SpectralNorm):
            yield hook.name, hook.compute_weight(module, do_power_iteration=False), [f"{hook.name}_orig"]
