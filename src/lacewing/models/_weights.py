"""A network's weights from a user's file, whatever the training wrapped the network in before it was saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacewing.errors import UsageError
from lacewing.support.formats import read_state

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_PREFIXES = ("module.", "_module.", "_orig_mod.", "model.", "net.", "network.")  # of wrappers, and of Lightning modules
_WITHIN = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # that also wrap single layers
_COUNTER = "n_averaged"  # of torch's AveragedModel
_MADE = {  # part of a name: what it belongs to, and how its weight becomes plain
    ".parametrizations.": ("a parametrisation", "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"),
    "_orig": ("spectral norm or a mask of torch.nn.utils.prune", "torch.nn.utils.prune.remove(layer, 'weight')"),
    "_g": ("weight norm", "torch.nn.utils.remove_weight_norm(layer)"),
}


def load_weights(network: Any, path: Path) -> None:
    """Load a state_dict into the network, executing nothing. Raises `UsageError` where the file does not fit it.

    Names may have the prefixes of DataParallel, torch.compile, Opacus, an average or a Lightning module; weights may be
    given as ``weight_orig`` and ``weight_mask``; of tied weights one name is enough.
    """
    if not path.is_file():
        raise UsageError(f"weights: there is no file {path}.")
    if path.suffix not in _SUFFIXES:
        known = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
        raise UsageError(f"weights: {path.name} must be a {known} file with a state_dict.")
    try:
        state = read_state(path)
    except UsageError as error:
        raise UsageError(
            f"weights: {error} Save it with safetensors.torch.save_file(model.state_dict(), path)."
        ) from None
    try:
        _check_readable(state)
        # Infinity is what some models mask with.
        if bad := [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.isnan().any()]:
            raise UsageError(f"holds NaN in {bad[0]!r}: give the weights of a trained network.")
        load_state(network, state)
    except UsageError as error:
        raise UsageError(f"weights: {path} {error}") from error


def load_state(network: Any, state: Mapping[str, Tensor]) -> None:
    """Load a state_dict into a torch module, under the names of `load_weights`.

    Raises:
        UsageError: it does not fit; a sentence that goes on after a name of the state_dict.
    """
    _check_readable(state)
    wanted = network.state_dict(keep_vars=True)
    found = next((fit for named in _renamed(state, wanted) if (fit := _fitted(named, wanted)) is not None), state)
    for name, tensor in found.items():
        there = wanted.get(name)
        if hasattr(there, "is_floating_point") and there.is_floating_point() and not tensor.is_floating_point():
            raise UsageError(
                f"holds {str(tensor.dtype).removeprefix('torch.')} in '{name}', where the network has "
                "floating-point numbers: give weights that are not quantised."
            )
    try:
        network.load_state_dict(found)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(
            f"does not fit the factory's network: {' '.join(str(error).split())}{_mend(state, wanted)}"
        ) from error


def _check_readable(state: Mapping[str, Tensor]) -> None:
    """Refuse tensors without values, and those in a layout that few operations know."""
    for name, tensor in state.items():
        if getattr(tensor, "is_meta", False):
            raise UsageError(f"holds '{name}' on the device 'meta', without values: save the network that was trained.")
        if (layout := str(getattr(tensor, "layout", "torch.strided"))) != "torch.strided":
            raise UsageError(f"holds '{name}' in the layout {layout}: save its .to_dense() instead.")


def _renamed(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """The state_dict as it is, and with the names that it would have without wrappers, or within the network's.

    Raises `UsageError`: two names of different values become one.
    """
    named = dict(state)
    yield named
    if _COUNTER not in wanted:
        named.pop(_COUNTER, None)
    for part in _WITHIN:
        named = _without(part, named)
    yield named
    for wrapper in {name.partition(".")[0] + "." for name in wanted} & set(_PREFIXES):
        yield {wrapper + name: tensor for name, tensor in named.items()}
    while prefix := next((p for p in _PREFIXES if named and all(name.startswith(p) for name in named)), ""):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
        yield named


def _without(part: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in named.items():
        short = name.replace(part, "")
        if short in found and not _equal(found[short], tensor):
            raise UsageError(
                f"holds different values for '{origin[short]}' and '{name}', which are one weight without '{part}': "
                "save the state_dict of one network."
            )
        found[short], origin[short] = tensor, name
    return found


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.equal(other)


def _fitted(named: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The entries under the network's names; None where these are others.

    Raises `UsageError`: two names of one weight of the network have different values, or a mask is no mask.
    """
    found = dict(named)
    for name in [name for name in found if name.endswith("_mask") and name not in wanted]:
        plain = name.removesuffix("_mask")
        if f"{plain}_orig" in found and plain in wanted and found[name].shape == found[f"{plain}_orig"].shape:
            original, mask = found.pop(f"{plain}_orig"), found.pop(name)
            if not ((mask == 0) | (mask == 1)).all():
                raise UsageError(f"holds values other than 0 and 1 in '{name}': save the masks that were applied.")
            masked = original * mask.to(original.dtype)
            if plain in found and not _equal(found[plain], masked):
                raise UsageError(
                    f"holds '{plain}' beside '{plain}_orig' and '{name}', whose product it is not: save the state_dict "
                    "of one network."
                )
            found[plain] = masked
    names: dict[int, list[str]] = {}
    for name, tensor in wanted.items():
        names.setdefault(id(tensor), []).append(name)
    for tied in names.values():
        given = [name for name in tied if name in found]
        if any(not found[given[0]].equal(found[name]) for name in given[1:]):
            raise UsageError(
                f"holds different values for '{given[0]}' and '{given[1]}', which are one weight in the factory's "
                "network: give the weights of a network that ties them, or a factory that does not."
            )
        found |= {name: found[given[0]] for name in tied if given}
    return found if found.keys() == wanted.keys() else None


def _mend(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> str:
    """What to do about weights that one side makes of others, where that is why they do not fit."""
    for side, others in ((state, wanted), (wanted, state)):
        for name in side:
            for part, (what, plainly) in _MADE.items():
                if name in others or not (part in name if part.startswith(".") else name.endswith(part)):
                    continue
                if side is state:
                    return (
                        f" The file holds '{name}', of which {what} makes a weight: let the factory do the same to its "
                        f"network, or save the weights after {plainly}."
                    )
                return (
                    f" The factory's network makes a weight of '{name}' ({what}), and the file holds plain weights: "
                    "give a factory of the plain network."
                )
    return ""
