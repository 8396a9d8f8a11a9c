"""The weights that a network computes with, also where it makes them of others (masks, norms, parametrisations)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lacewing.errors import UsageError
from lacewing.sparsify.masks import NOTHING, Ignore, Masks, check_shaped, check_values, join, walk, weights_of
from lacewing.support.user_code import user_code

SPARSE = 0.01  # share of zeros among the prunable weights from which on a network counts as sparse; our choice


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

    Raises:
        UsageError: a layer has no shape yet (lazy layers), or a parametrisation of the user's fails.
    """
    check_shaped(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    made: dict[str, Tensor] = {}
    inner: set[str] = set()  # of which weights are made
    for path, module in model.named_modules():
        for attribute, tensor, sources in _made(module):
            made[join(path, attribute)] = tensor
            inner |= {join(path, source) for source in sources}
    made = {name: tensor for name, tensor in made.items() if name not in inner}
    seen = {id(parameters[name]) for name in inner if name in parameters}
    found: dict[str, Effective] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name in (join(path, attribute) for attribute in weights_of(module)):
            if name in made:
                found[name] = Effective(made[name], True, True)
            elif name in parameters and id(parameters[name]) not in seen:
                seen.add(id(parameters[name]))
                found[name] = Effective(_strided(parameters[name]), True, False)
    for name, tensor in made.items():
        found.setdefault(name, Effective(tensor, False, True))
    for name, parameter in parameters.items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = Effective(_strided(parameter), False, False)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Sparsity:
    """How sparse a network is, by the zeros of the weights that it computes with.

    Args:
        parameters: of the dense network: for a butterfly layer those of its matrix, biases and batch norm counted.
        nonzero: stored parameters that are not zero.
        density_prunable: the same share over the prunable weights alone; 1 where there is none.
        masks: by name, True where a prunable weight is not zero. A weight that is made of others (weight norm, a mask
            of ``torch.nn.utils.prune``) has the name of what is made, such as ``"0.weight"``.
    """

    parameters: int
    nonzero: int
    density_prunable: float
    masks: Masks

    @property
    def density(self) -> float:
        """Over all parameters of the dense network; 1 where there is none."""
        return self.nonzero / self.parameters if self.parameters else 1.0

    @property
    def sparse(self) -> bool:
        """Whether at least one in a hundred prunable weights is zero; fewer are no sign of pruning."""
        return self.density_prunable <= 1 - SPARSE

    @property
    def masked(self) -> bool:
        """Whether that is so of stored weights, which have a mask; a butterfly layer is sparse and has none."""
        stored = sum(mask.numel() for mask in self.masks.values())
        return sum(int((~mask).sum()) for mask in self.masks.values()) >= max(1.0, SPARSE * stored)


@torch.no_grad()
def sparsity(model: nn.Module) -> Sparsity:
    """Count what a network computes with, and read its masks from the zeros of its weights. It is not changed.

    Where no layer is one that this package can prune (an exported program), the parameters of two or more dimensions
    are looked at in place of the prunable weights.

    Raises:
        UsageError: a layer has no shape yet (lazy layers), or a parametrisation of the user's fails.
    """
    weights = effective(model)
    masks = {name: weight.tensor != 0 for name, weight in weights.items() if weight.prunable}
    if not masks:
        masks = {name: weight.tensor != 0 for name, weight in weights.items() if weight.tensor.ndim > 1}
    saved = sum(getattr(module, "saved_parameters", 0) for module in model.modules())
    kept = sum(int(torch.count_nonzero(weight.tensor)) for weight in weights.values())
    whole = sum(mask.numel() for mask in masks.values()) + saved
    left = sum(int(mask.sum()) for mask in masks.values())
    parameters = sum(weight.tensor.numel() for weight in weights.values()) + saved
    return Sparsity(parameters, kept, left / whole if whole else 1.0, masks)


def masks_from_zeros(model: nn.Module, ignore: Ignore | None = ()) -> Masks:
    """Masks of a network that is sparse already: True where a prunable weight is not zero.

    Args:
        model: any module; it is not changed. A weight that is made of others (weight norm, a mask of
            ``torch.nn.utils.prune``) counts with the values that the network computes with, and its mask has the name
            of the plain weight, such as ``"0.weight"``: make it plain before the mask is used for training.
        ignore: see ``prunable``; ignored weights get no mask. None: none are.

    Returns:
        A mask for each prunable weight, on its device; True everywhere for one without zeros.

    Raises:
        UsageError: there is no prunable weight, or no value of it, or an entry of ``ignore`` matches nothing.
    """
    plain, made = walk(model, ignore)
    check_values(model, plain)
    names = {*plain, *(join(path, attribute) for path, _, attribute in made)}
    masks = {name: weight.tensor != 0 for name, weight in effective(model).items() if name in names}
    if not masks:
        raise UsageError(NOTHING)
    return masks


def _strided(tensor: Tensor) -> Tensor:
    """The values, also of a tensor in one of torch's sparse layouts, which few operations know."""
    return tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()


def pruned_already(model: nn.Module, names: Sequence[str], *, mend: str) -> Masks:
    """Masks of a network that was pruned before, from its zeros, with a warning; none of one that was not.

    It was pruned where at least one in a hundred of its plain weights is zero. Weights that are zero throughout do not
    tell, since some layers begin so; where others do tell, they count as pruned.

    Args:
        model: the network.
        names: of its prunable weights, see ``prunable``.
        mend: what to do where the zeros are an initialisation, the end of the warning.
    """
    weights = {name: model.get_parameter(name).detach() for name in names}
    left = {name: int(torch.count_nonzero(weight)) for name, weight in weights.items()}
    telling = {name: weights[name].numel() for name in names if left[name]}
    zeros = sum(size - left[name] for name, size in telling.items())
    if not zeros or zeros < SPARSE * sum(telling.values()):
        return {}
    masks = {name: weight != 0 for name, weight in weights.items()}
    share = 1 - sum(left.values()) / sum(weight.numel() for weight in weights.values())
    warnings.warn(
        f"{share:.1%} of the prunable weights are zero: they count as pruned and stay zero. {mend}", stacklevel=3
    )
    return masks


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
