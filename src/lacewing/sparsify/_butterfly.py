"""Butterfly networks: replace layers of any model by chains of Kronecker-sparse factors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify._allocate import allocate
from lacewing.sparsify._attention import KSMultiheadAttention, KSProjection
from lacewing.sparsify._summary import Summary, summary
from lacewing.sparsify.chain import Chain
from lacewing.sparsify.layers import Columns, KSConv2d, KSLayer, KSLinear
from lacewing.sparsify.masks import Ignore, plain_weights, prunable


@dataclass(frozen=True, slots=True)
class Replaced:
    """What ``butterfly`` did; prints as a table, layer by layer.

    Args:
        chains: the chains of the replaced layers, by module name.
        dense: the reason why each other prunable weight stayed dense, by parameter name.
        summary: sizes and densities.
    """

    chains: dict[str, Chain]
    dense: dict[str, str]
    summary: Summary

    def __str__(self) -> str:
        return str(self.summary)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")  # of a torch module


def butterfly(
    model: nn.Module,
    *,
    density: float | None = None,
    segments: int | None = None,
    factors: int | None = None,
    ignore: Ignore = (),
    columns: Columns = "channel-first",
    projected: bool = False,
) -> Replaced:
    """Replace linear and convolutional layers, in place, by chains of Kronecker-sparse factors.

    With ``density``, every linear layer, convolution and input projection of attention between the first and the
    last weight of the model gets a chain, so that the model comes as close to this density as possible without
    exceeding it. With ``segments``, the paper's rule for ResNets: all spatial convolutions of the last segments (those
    with the same number of outputs) get the cheapest chain of ``factors`` factors; stem, 1x1 shortcuts and classifier
    stay dense.

    Args:
        model: changed in place; unchanged after an error. Factors are drawn from torch's global random state.
        density: stored parameters / all parameters of the dense network, including biases and batch norm.
        segments: number of segments, counted from the output.
        factors: per chain; by default 2 with ``segments``, and 2 to 4 with ``density``.
        ignore: layers to leave dense, see ``prunable``; with ``density`` it replaces the rule on the first and the
            last weight, so that ``ignore=["head"]`` lets the first one be replaced.
        columns: see ``KSConv2d``.
        projected: start from the layers' own weights, projected onto the chains, instead of new random factors.

    Raises:
        UsageError: not exactly one of density and segments; a density that no chains reach (the message names
            the nearest); too few segments; with ``segments``, a layer without a chain of that many factors or one that
            cannot be replaced (with ``density`` it stays dense, and the table says why).
    """
    if (density is None) == (segments is None):
        raise UsageError("give exactly one of density and segments.")
    if columns not in ("channel-first", "kernel-first"):
        raise UsageError(f"columns {columns!r} must be 'channel-first' or 'kernel-first'.")
    if segments is not None:
        chains, dense = _by_segments(model, segments, 2 if factors is None else factors, ignore)
    else:
        assert density is not None
        chains, dense = _by_density(model, density, factors, ignore)
    layers: dict[str, nn.Module] = {}
    for name, chain in chains.items():
        plain = model.get_submodule(name)
        try:
            if isinstance(plain, nn.Conv2d):
                layers[name] = KSConv2d.like(plain, chain, columns, projected=projected)
            elif isinstance(plain, nn.Linear):
                layers[name] = KSLinear.like(plain, chain, projected=projected)
            elif isinstance(plain, nn.MultiheadAttention):
                layers[name] = KSMultiheadAttention.like(plain, chain, projected=projected)
        except UsageError as error:
            raise UsageError(f"butterfly layer '{name}': {error}") from None
    _replace(model, layers)  # only now, so that an error leaves the model as it was
    notes = dict(dense)
    for name, chain in chains.items():
        holder = f"{name}.in_proj" if isinstance(layers[name], KSMultiheadAttention) else name
        notes[holder] = " ".join(str(tuple(p)) for p in chain.patterns)
    return Replaced(chains, dense, summary(model, notes=notes))


def _by_segments(
    model: nn.Module, segments: int, factors: int, ignore: Ignore
) -> tuple[dict[str, Chain], dict[str, str]]:
    wanted = set(prunable(model, ignore))
    convolutions = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1
    }
    body = dict(list(convolutions.items())[1:])
    widths = list(dict.fromkeys(conv.out_channels for conv in body.values()))
    if not widths:
        raise UsageError("butterfly needs spatial convolutions after the first one, and the model has none.")
    if not 1 <= segments <= len(widths):
        raise UsageError(
            f"segments = {segments}, but the model has {len(widths)} segments of spatial convolutions after its stem; "
            f"give 1 to {len(widths)}."
        )
    chains: dict[str, Chain] = {}
    dense = dict.fromkeys(plain_weights(model), "not in these segments")
    for name, conv in body.items():
        weight = f"{name}.weight"
        if conv.out_channels in widths[-segments:] and weight in wanted:
            if why := _irreplaceable(model, weight):
                raise UsageError(f"butterfly layer '{name}' must stay dense ({why}): ignore=['{name}'].")
            try:
                chains[name] = Chain.cheapest(*_matrix(conv)[:2], factors)
            except UsageError as error:
                raise UsageError(f"butterfly layer '{name}': {error}") from None
            del dense[weight]
    return chains, dense


def _by_density(
    model: nn.Module, density: float, factors: int | None, ignore: Ignore
) -> tuple[dict[str, Chain], dict[str, str]]:
    wanted, names = prunable(model, ignore), plain_weights(model)
    if not names:
        raise UsageError("the model has no convolution or linear weight to make butterfly.")
    kept = set(wanted if ignore else names[1:-1])
    dense: dict[str, str] = {}
    matrices: dict[str, tuple[int, int, int]] = {}
    for name in names:
        if name not in kept:
            dense[name] = "ignored" if ignore else "first weight" if name == names[0] else "last weight"
        elif why := _irreplaceable(model, name):
            dense[name] = why
        else:
            path = name.rpartition(".")[0]
            matrices[path] = _matrix(model.get_submodule(path))
    total = sum(p.numel() for p in model.parameters())
    total += sum(getattr(module, "saved_parameters", 0) for module in model.modules())
    elsewhere = total - sum(rows * columns * count for rows, columns, count in matrices.values())
    chains = allocate(matrices, elsewhere, density, factors)
    for name in names:
        if name.rpartition(".")[0] in matrices and name.rpartition(".")[0] not in chains:
            dense[name] = "no chain of its shape is cheaper"
    return chains, dense


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
