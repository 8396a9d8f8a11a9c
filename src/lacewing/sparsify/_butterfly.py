"""Butterfly networks: replace layers of any model by chains of Kronecker-sparse factors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify._allocate import allocate
from lacewing.sparsify._attention import KSMultiheadAttention, KSProjection
from lacewing.sparsify._summary import Summary, summary
from lacewing.sparsify.chain import Chain
from lacewing.sparsify.layers import Columns, KSConv2d, KSLayer, KSLinear
from lacewing.sparsify.masks import Ignore, join, plain_weights, prunable, walk


@dataclass(frozen=True, slots=True)
class Replaced:
    """What ``butterfly`` did; prints as a table, layer by layer.

    Args:
        chains: the chains of the replaced layers, by module name.
        dense: the reason why each other prunable weight stayed as it was, by parameter name; of butterfly layers that
            the model had before, by module name.
        summary: sizes and densities.
    """

    chains: dict[str, Chain]
    dense: dict[str, str]
    summary: Summary

    def __str__(self) -> str:
        return str(self.summary)


Layers = Literal["all", "linear", "conv"]
_SPOKEN = {"all": "layer", "linear": "linear layer", "conv": "convolution"}
_DEPTHWISE = "depthwise: one channel a group has no chain"
_ALREADY = "butterfly already"
_NAMED = 5  # layers that an error names
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")  # of a torch module


def butterfly(
    model: nn.Module,
    *,
    density: float | None = None,
    segments: int | None = None,
    factors: int | None = None,
    ignore: Ignore = (),
    layers: Layers = "all",
    columns: Columns = "channel-first",
    projected: bool = False,
) -> Replaced:
    """Replace linear and convolutional layers, in place, by chains of Kronecker-sparse factors.

    With ``density``, every linear layer, convolution and input projection of attention between the first and the
    last weight of the model gets a chain, so that the model comes as close to this density as possible without
    exceeding it. With ``segments``, the paper's rule for ResNets: all spatial convolutions of the last segments (those
    with the same number of outputs) get the cheapest chain of ``factors`` factors; stem, 1x1 convolutions (shortcuts,
    and those of bottlenecks), depthwise convolutions and classifier stay dense.

    Args:
        model: changed in place; unchanged after an error. Factors are drawn from torch's global random state.
        density: stored parameters / all parameters of the dense network, including biases and batch norm.
        segments: number of segments, counted from the output.
        factors: per chain; by default 2 with ``segments``, and 2 to 4 with ``density``.
        ignore: layers to leave dense, see ``prunable``; with ``density`` it replaces the rule on the first and the
            last weight, so that ``ignore=["head"]`` lets the first one be replaced.
        layers: with ``density``, which kind may be replaced: "linear" (linear layers and input projections of
            attention), "conv" (convolutions, 1x1 included) or "all".
        columns: see ``KSConv2d``.
        projected: start from the layers' own weights, projected onto the chains, instead of new random factors.

    Raises:
        UsageError: not exactly one of density and segments; a density that no chains reach (the message names
            the nearest); too few segments, or all of their convolutions depthwise; no layer of the kind ``layers``;
            ``layers`` with ``segments``, which are of convolutions; with ``segments``, a layer without a chain of that
            many factors or one that cannot be replaced (with ``density`` it stays dense, and the table says why).
    """
    if layers not in get_args(Layers):
        raise UsageError(f"layers {layers!r} must be 'all', 'linear' or 'conv'.")
    if (density is None) == (segments is None):
        raise UsageError("give exactly one of density and segments.")
    if columns not in ("channel-first", "kernel-first"):
        raise UsageError(f"columns {columns!r} must be 'channel-first' or 'kernel-first'.")
    if segments is not None:
        if layers != "all":
            raise UsageError(f"layers = '{layers}' goes with density: segments are of convolutions; leave it out.")
        chains, dense = _by_segments(model, segments, 2 if factors is None else factors, ignore)
    else:
        assert density is not None
        chains, dense = _by_density(model, density, factors, ignore, layers)
    made: dict[str, nn.Module] = {}
    for name, chain in chains.items():
        plain = model.get_submodule(name)
        try:
            if isinstance(plain, nn.Conv2d):
                made[name] = KSConv2d.like(plain, chain, columns, projected=projected)
            elif isinstance(plain, nn.Linear):
                made[name] = KSLinear.like(plain, chain, projected=projected)
            elif isinstance(plain, nn.MultiheadAttention):
                made[name] = KSMultiheadAttention.like(plain, chain, projected=projected)
        except UsageError as error:
            raise UsageError(f"butterfly layer '{name}': {error}") from None
    _replace(model, made)  # only now, so that an error leaves the model as it was
    notes = dict(dense)
    for name, chain in chains.items():
        holder = f"{name}.in_proj" if isinstance(made[name], KSMultiheadAttention) else name
        notes[holder] = " ".join(str(tuple(p)) for p in chain.patterns)
    return Replaced(chains, dense, summary(model, notes=notes))


def _by_segments(
    model: nn.Module, segments: int, factors: int, ignore: Ignore
) -> tuple[dict[str, Chain], dict[str, str]]:
    wanted, names = set(prunable(model, ignore)), plain_weights(model)
    convolutions = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1
    }
    body = dict(list(convolutions.items())[1:])
    widths = list(dict.fromkeys(conv.out_channels for conv in body.values()))
    if not widths:
        raise UsageError(
            "butterfly needs spatial convolutions after the first one, and the model has none; give a density instead."
        )
    if not 1 <= segments <= len(widths):
        raise UsageError(
            f"segments = {segments}, but the model has {len(widths)} segments of spatial convolutions after its stem; "
            f"give 1 to {len(widths)}."
        )
    chains: dict[str, Chain] = {}
    before = _factors(model)
    dense = {name: _outside(model, name) if name in wanted else "ignored" for name in names if name not in before}
    dense |= dict.fromkeys(before.values(), _ALREADY)
    for name, conv in body.items():
        weight = f"{name}.weight"
        if conv.out_channels in widths[-segments:] and weight in wanted:
            if why := _irreplaceable(model, weight):
                raise UsageError(f"butterfly layer '{name}' must stay dense ({why}): ignore=['{name}'].")
            if _depthwise(conv):
                dense[weight] = _DEPTHWISE
                continue
            try:
                chains[name] = Chain.cheapest(*_matrix(conv)[:2], factors)
            except UsageError as error:
                raise UsageError(f"butterfly layer '{name}': {error}") from None
            del dense[weight]
    if not chains and _DEPTHWISE in dense.values():
        raise UsageError(
            "all spatial convolutions of these segments are depthwise and stay dense; give a density instead."
        )
    return chains, dense


def _outside(model: nn.Module, name: str) -> str:
    """Why a weight is in no segment, or not in those that were asked for."""
    layer = model.get_submodule(name.rpartition(".")[0])
    if not isinstance(layer, nn.Conv2d):
        return "no convolution"
    return "not in these segments" if math.prod(layer.kernel_size) > 1 else "1x1, not a spatial convolution"


def _by_density(
    model: nn.Module, density: float, factors: int | None, ignore: Ignore, layers: Layers
) -> tuple[dict[str, Chain], dict[str, str]]:
    wanted, names = prunable(model, ignore), plain_weights(model)
    if not names:
        raise UsageError("the model has no convolution or linear weight to make butterfly.")
    if layers != "all" and not any(_kind(model, name) == layers for name in names):
        raise UsageError(f"layers = '{layers}': the model has no {_SPOKEN[layers]}; give layers = 'all'.")
    kept = set(wanted if ignore else names[1:-1])
    dense = {join(path, attribute): "ignored" for path, _, attribute in walk(model, ())[1]}  # no plain parameters
    before = _factors(model)
    matrices: dict[str, tuple[int, int, int]] = {}
    for name in names:
        if name in before:
            dense[before[name]] = _ALREADY
        elif name not in kept:
            dense[name] = "ignored" if ignore else "first weight" if name == names[0] else "last weight"
        elif why := _irreplaceable(model, name):
            dense[name] = why
        elif layers not in ("all", _kind(model, name)):
            dense[name] = f"not asked for: layers = '{layers}'"
        else:
            path = name.rpartition(".")[0]
            matrices[path] = _matrix(model.get_submodule(path))
    if not matrices:
        own = [name for name in dense if layers == "all" or _kind(model, name) == layers]
        found = [f"{name.removesuffix('.weight')} ({dense[name]})" for name in own[:_NAMED]]
        found += [f"{len(own) - _NAMED:,} more"] * (len(own) > _NAMED)
        raise UsageError(f"no {_SPOKEN[layers]} is left to make butterfly: {', '.join(found)}.")
    elsewhere = sum(p.numel() for p in model.parameters())
    elsewhere -= sum(rows * columns * count for rows, columns, count in matrices.values())
    saved = sum(getattr(module, "saved_parameters", 0) for module in model.modules())
    chains = allocate(matrices, elsewhere, density, factors, saved=saved)
    for name in names:
        path = name.rpartition(".")[0]
        if path in matrices and path not in chains:
            dense[name] = _DEPTHWISE if _depthwise(model.get_submodule(path)) else "no chain of its shape is cheaper"
    return chains, dense


def _factors(model: nn.Module) -> dict[str, str]:
    """The names of factors that the model has, with the paths of their layers."""
    return {
        join(path, name): path
        for path, module in model.named_modules()
        if isinstance(module, KSLayer)
        for name in module.prunable_parameters()
    }


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.out_channels == layer.groups > 1


def _kind(model: nn.Module, name: str) -> str | None:
    """Of the layer that holds this weight: "conv", "linear", or None where chains can replace neither."""
    layer = model.get_submodule(name.rpartition(".")[0])
    if isinstance(layer, nn.Conv2d):
        return "conv"
    return "linear" if isinstance(layer, nn.Linear | nn.MultiheadAttention) else None


def _irreplaceable(model: nn.Module, name: str) -> str | None:
    """Why the layer of this weight has to stay dense, if it has to."""
    module, weight = model.get_submodule(name.rpartition(".")[0]), model.get_parameter(name)
    attention = isinstance(module, nn.MultiheadAttention) and name.endswith("in_proj_weight")
    if not (attention or type(module).forward in (nn.Linear.forward, nn.Conv2d.forward)):  # nor a forward of its own
        return f"no layer that chains can replace ({type(module).__name__})"
    if sum(parameter is weight for _, parameter in model.named_parameters(remove_duplicate=False)) > 1:
        return "shared by several layers"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"padded with {module.padding_mode}"
    if not attention and _hooked(module):  # of attention a new layer keeps them
        return "it has hooks, which a new layer would lose: remove them, and register them afterwards"
    return None


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in _HOOKS)


def _matrix(layer: nn.Module) -> tuple[int, int, int]:
    """Rows and columns of a layer's matrix, and how many there are: groups, or query, key and value."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.embed_dim, layer.embed_dim, 3
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return layer.weight.shape[0] // groups, math.prod(layer.weight.shape[1:]), groups


def _replace(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.train(model.get_submodule(name).training))


def densify(model: nn.Module) -> None:
    """Replace, in place, each butterfly layer by a plain layer with the composed weight, for deployment.

    Raises:
        UsageError: the model itself is a butterfly layer, or a layer has hooks, which the plain layer would lose.
    """
    kinds = (KSLinear, KSConv2d, KSMultiheadAttention)
    if isinstance(model, kinds):
        raise UsageError("the model itself is a butterfly layer, which cannot be replaced in place; use its plain().")
    for name, layer in model.named_modules():
        if isinstance(layer, KSLinear | KSConv2d) and _hooked(layer):
            raise UsageError(
                f"layer '{name}' has hooks, which the plain layer would lose: remove them, and register them again "
                "afterwards."
            )
    plain = {layer: layer.plain() for layer in model.modules() if isinstance(layer, kinds)}
    found = model.named_modules(remove_duplicate=False)
    _replace(model, {name: plain[layer] for name, layer in found if isinstance(layer, kinds)})


def composed_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the plain network that computes the same, with each chain composed to a dense weight."""
    state = dict(model.state_dict())
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, KSLayer):
            inside = f"{path}." if path else ""
            for key in [k for k in state if k.startswith(f"{inside}factors.")]:
                del state[key]
            attribute = f"{path}_weight" if isinstance(module, KSProjection) else f"{inside}weight"
            state[attribute] = module.composed().detach().contiguous()
    return state


def decay_groups(model: nn.Module, weight_decay: float, *, factors: bool = True) -> list[dict[str, object]]:
    """Parameter groups for an optimiser, with or without weight decay on butterfly factors.

    Decay of each factor differs from decay of their product. ``factors=True`` decays every parameter, including the
    factors, as the studies do. ``factors=False`` excludes the factors; add ``weight_decay / 2 * product_norm(model)``
    to the loss for the decay of a dense network.
    """
    entries = {id(f) for m in model.modules() if isinstance(m, KSLayer) for f in m.factors}
    spared = [p for p in model.parameters() if id(p) in entries and not factors]
    others = [p for p in model.parameters() if id(p) not in entries or factors]
    groups: list[dict[str, object]] = [{"params": others, "weight_decay": weight_decay}]
    return groups + [{"params": spared, "weight_decay": 0.0}] * bool(spared)


def product_norm(model: nn.Module) -> Tensor:
    """The sum of squares of all composed weights of butterfly layers, differentiable.

    Raises:
        UsageError: the model has no butterfly layer.
    """
    squares = [m.composed().square().sum() for m in model.modules() if isinstance(m, KSLayer)]
    if not squares:
        raise UsageError("the model has no butterfly layer, so there is no product to decay.")
    return sum(squares[1:], squares[0])
