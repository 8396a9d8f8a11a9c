"""Masks: which weights of a network are kept, by parameter name.

Masks are kept outside the module: its state_dict keys, ``deepcopy`` and pickling do not change. True keeps a weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from lacewing.errors import UsageError, did_you_mean
from lacewing.support.files import write_atomically
from lacewing.support.formats import read_tensors

Masks = dict[str, Tensor]
Ignore = str | type[nn.Module] | nn.Module | Sequence[str | type[nn.Module] | nn.Module]
NOTHING = "the model has no convolution or linear weight to prune."

_LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
    nn.Bilinear,
)
_NAMES_OF_LAYERS = frozenset({layer.__name__ for layer in _LAYERS} | {"Conv1D"})
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_RECURRENT = frozenset({"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"})


def prunable(model: nn.Module, ignore: Ignore | None = ()) -> list[str]:
    """Names of the weights that pruning may touch, in module order.

    These are the weights of convolutions, linear and recurrent layers, GPT-2's ``Conv1D``, the projections of
    attention, and the factors of butterfly layers. Biases, batch norm and embeddings are never pruned. A weight that
    two layers share counts once, under its first name, and is not pruned if either layer is ignored; one that a linear
    layer shares with an embedding is pruned unless one of both is ignored.

    Args:
        model: any module.
        ignore: what to leave out, one entry or several: a module of the model, a module type, or the name of a module
            or parameter, in which ``*`` matches anything (``"layer1.*.conv2"``). A module covers everything in it.
            None: none, and the caller has no such argument that an error could advise.

    Raises:
        UsageError: an entry of ``ignore`` matches nothing that pruning touches; the weight of a layer that is not
            ignored is not a plain parameter (weight norm, a mask of torch.nn.utils.prune, another parametrisation) or
            has a sparse layout; a lazy layer has no shape yet.
    """
    names, made = walk(model, () if ignore is None else ignore)
    if made:
        path, module, attribute = made[0]
        mend = f"make it plain first: {_plainly(module, attribute)}"
        mend += "" if ignore is None else f", or leave the layer out: ignore=['{path}']"
        raise UsageError(
            f"the weight of '{path}' is not a plain parameter (weight norm, a mask of torch.nn.utils.prune or another "
            f"parametrisation), so masks cannot prune it; {mend}."
        )
    for name in names:
        try:
            weight = model.get_parameter(name)
        except RuntimeError:  # of torch.jit
            raise UsageError(
                f"the model is a {type(model).__name__}, whose weights cannot be taken: give the module that it was "
                "scripted from."
            ) from None
        if weight.layout is not torch.strided:
            raise UsageError(
                f"'{name}' has one of torch's sparse layouts, which masks cannot prune: make it dense first, "
                "layer.weight = nn.Parameter(layer.weight.to_dense())."
            )
    return names


def plain_weights(model: nn.Module) -> list[str]:
    """As ``prunable``, without the weights that are not plain parameters."""
    return walk(model, ())[0]


def last_layer(model: nn.Module) -> str | None:
    """The path of the layer of the last weight, or the weight's own name where its layer holds several."""
    names, made = walk(model, ())
    order = {path: place for place, (path, _) in enumerate(model.named_modules(remove_duplicate=False))}
    holder = names[-1].rpartition(".")[0] if names else ""
    if made and (not names or order[made[-1][0]] > order[holder]):  # no plain parameter
        return made[-1][0]
    if not names:
        return None
    if isinstance(model.get_submodule(holder), nn.ParameterList):  # the factors of a butterfly layer
        return holder.rpartition(".")[0]
    return names[-1].removesuffix(".weight")


def walk(model: nn.Module, ignore: Ignore | None) -> tuple[list[str], list[tuple[str, nn.Module, str]]]:
    """Names of plain prunable weights, and the others: path, module and attribute; without the ignored ones.

    Raises:
        UsageError: an entry of ``ignore`` matches nothing, or a lazy layer has no shape yet.
    """
    check_shaped(model)
    if not isinstance(ignore, str | type | nn.Module | Iterable | None):
        raise UsageError(f"ignore is a {type(ignore).__name__}: give names, module types, or modules of the model.")
    entries = [ignore] if isinstance(ignore, str | type | nn.Module) else list(ignore or ())
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: dict[int, str] = {}  # by identity, so that a shared weight has one name
    made: list[tuple[str, nn.Module, str]] = []
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute in weights_of(module):
            name = join(path, attribute)
            if name in parameters:
                found.setdefault(id(parameters[name]), name)
            else:
                made.append((path, module, attribute))
    touched = {name: id(p) for name, p in parameters.items() if id(p) in found}  # an embedding that shares one as well
    touched |= {join(path, attribute): -1 for path, _, attribute in made}
    left_out: set[str] = set()
    for entry in entries:
        fitting = {name for name in touched if _fits(entry, model, name)}
        if not fitting:
            _refuse_entry(entry, model)
        left_out |= fitting
    identities = {touched[name] for name in left_out}
    kept = [name for identity, name in found.items() if identity not in identities]
    return kept, [one for one in made if join(one[0], one[2]) not in left_out]


def check_shaped(model: nn.Module) -> None:
    """Raise `UsageError` where a parameter has no shape yet, as in torch's lazy layers, or there is no module."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model is a {type(model).__name__}: give a torch module, the network itself.")
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise UsageError(
                f"'{name}' has no shape yet, as its layer is lazy and was never called: call the model once on a batch "
                "of records first."
            )


def check_values(model: nn.Module, names: Iterable[str]) -> None:
    """Raise `UsageError` where one of these parameters is on the device 'meta', and so has no values."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in names:
        if name in parameters and parameters[name].is_meta:
            raise UsageError(f"'{name}' is on the device 'meta', where it has no values: load the weights first.")


def join(path: str, attribute: str) -> str:
    """The name of what a module holds; the path of the model itself is empty."""
    return f"{path}.{attribute}" if path else attribute


def _refuse_entry(entry: object, model: nn.Module) -> NoReturn:
    """Raise the error of an entry of ``ignore`` that fits nothing."""
    if isinstance(entry, str):
        modules = [path for path, _ in model.named_modules() if path]
        raise UsageError(
            f"ignore: '{entry}' matches no prunable weight"
            + (
                ": nothing in it is pruned anyway; leave it out."
                if any(_matches(entry, path) for path in modules)
                else f"; {did_you_mean(entry, modules)}"
            )
        )
    if isinstance(entry, type):
        raise UsageError(f"ignore: the model has no {entry.__name__} whose weights could be pruned.")
    if isinstance(entry, nn.Module):
        raise UsageError(
            f"ignore: the {type(entry).__name__} given is no module of this model with a prunable weight; give one of "
            "the model's own, such as model.head, and not a copy."
        )
    raise UsageError(f"ignore holds a {type(entry).__name__}: give names, module types, or modules of the model.")


def _plainly(module: nn.Module, attribute: str) -> str:
    """How to make a weight a plain parameter again."""
    if is_parametrized(module, attribute):
        return f"torch.nn.utils.parametrize.remove_parametrizations(layer, '{attribute}')"
    if hasattr(module, f"{attribute}_mask"):
        return f"torch.nn.utils.prune.remove(layer, '{attribute}')"
    if hasattr(module, f"{attribute}_v"):
        norm = "weight_norm" if hasattr(module, f"{attribute}_g") else "spectral_norm"
        return f"torch.nn.utils.remove_{norm}(layer, '{attribute}')"
    return f"a Parameter '{attribute}' of the layer"


def weights_of(module: nn.Module) -> list[str]:
    """Attributes of a module (not of its children) that hold prunable weights."""
    if isinstance(module, torch.jit.ScriptModule):
        return _weights_of_script(module)
    if isinstance(module, _LAYERS) or _is_conv1d(module):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):  # its output projection is a child, and a Linear
        return [n for n in _PROJECTIONS if module._parameters.get(n) is not None or is_parametrized(module, n)]
    if isinstance(module, nn.RNNBase):  # its own list of names, which weight norm does not change
        return [name for name in module._flat_weights_names if name.startswith("weight_")]
    if isinstance(module, nn.RNNCellBase):
        return ["weight_ih", "weight_hh"]
    declared = getattr(module, "prunable_parameters", None)  # butterfly layers, and layers of users
    return list(declared()) if callable(declared) else []


def inputs_first(module: nn.Module) -> bool:
    """Whether the weight of a layer has shape (inputs, outputs, ...), other than that of ``nn.Linear``."""
    return _is_conv1d(module) or isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is the linear layer of GPT-2 in transformers, which is not imported for this."""
    return any(
        base.__name__ == "Conv1D" and base.__module__.startswith("transformers.") for base in type(module).__mro__
    )


def _weights_of_script(module: torch.jit.ScriptModule) -> list[str]:
    """As `weights_of`, of a scripted or traced layer, of which the name of its class is left."""
    kind = getattr(module, "original_name", "")
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if kind in _NAMES_OF_LAYERS:
        return [name for name in own if name == "weight"]
    if kind == "MultiheadAttention":
        return [name for name in own if name in _PROJECTIONS]
    return [name for name in own if name.startswith("weight_")] if kind in _RECURRENT else []


def _fits(entry: object, model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    holders = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    if isinstance(entry, str):
        return any(_matches(entry, holder) for holder in holders)
    modules = [model, *(model.get_submodule(holder) for holder in holders[:-1])]
    if isinstance(entry, type):
        return any(isinstance(module, entry) for module in modules)
    return any(module is entry for module in modules)


def _matches(entry: str, name: str) -> bool:
    return entry == name or fnmatchcase(name, entry)


def check_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Check that masks belong to this model.

    Raises:
        UsageError: a name that is not a parameter of the model, another shape, or values that are not bool.
    """
    if not isinstance(masks, Mapping):
        raise UsageError(f"masks is a {type(masks).__name__}: give a dict of masks by the name of the parameter.")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in parameters:
            raise UsageError(
                f"there is a mask for '{name}', which the model does not have; it belongs to another model."
            )
        if mask.shape != parameters[name].shape:
            raise UsageError(
                f"the mask of '{name}' has shape {tuple(mask.shape)} and the weight {tuple(parameters[name].shape)}; "
                "it belongs to another model."
            )
        if mask.dtype != torch.bool:
            raise UsageError(f"the mask of '{name}' holds {mask.dtype}; give torch.bool, True for a kept weight.")


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set pruned weights to zero once. During training a ``Guard`` keeps them there.

    Raises:
        UsageError: see ``check_masks``.
    """
    check_masks(model, masks)
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        parameter.masked_fill_(~mask.to(parameter.device), 0)


def pack(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks as tensors for a safetensors file: eight weights per byte, with the shape of each mask."""
    packed: dict[str, Tensor] = {}
    for name, mask in masks.items():
        packed[f"{name}|bits"] = torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))
        packed[f"{name}|shape"] = torch.tensor(mask.shape, dtype=torch.int64)
    return packed


def unpack(packed: Mapping[str, Tensor]) -> Masks:
    """The inverse of ``pack``."""
    masks: Masks = {}
    for key in packed:
        name, _, kind = key.rpartition("|")
        if kind == "bits":
            shape = tuple(packed[f"{name}|shape"].tolist())
            bits = np.unpackbits(packed[key].numpy(), count=int(np.prod(shape)))
            masks[name] = torch.from_numpy(bits.astype(bool)).view(shape)
    return masks


def save_masks(masks: Mapping[str, Tensor], path: str | Path) -> None:
    """Write masks to a safetensors file, eight weights per byte."""
    write_atomically(Path(path), save(pack(masks), {"format": "lacewing masks 1"}))


def load_masks(path: str | Path, model: nn.Module | None = None) -> Masks:
    """Read what ``save_masks`` wrote and, given a model, check that the masks belong to it.

    Raises:
        UsageError: the file holds no masks, or masks of another model.
        OSError: the file cannot be read.
    """
    packed, _ = read_tensors(Path(path))
    masks: Masks | None = None
    with suppress(KeyError, ValueError, RuntimeError, TypeError):
        masks = unpack(packed)
    if masks is None or len(packed) != 2 * len(masks):  # a dense network has no masks
        raise UsageError(f"{path} holds no masks; name a file that save_masks wrote.")
    if model is not None:
        check_masks(model, masks)
    return masks
