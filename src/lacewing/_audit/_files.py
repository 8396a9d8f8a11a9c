"""A user's model and data in files, as the command line names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from lacewing._formats import array_names, read_arrays, read_state
from lacewing.errors import UsageError, did_you_mean

_ARRAYS = ("x", "y", "member", "population_x", "population_y")


def arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """x, y, member and, where there is one, the population of an .npz. Raises `UsageError` that says what is wrong."""
    if not path.is_file():
        raise UsageError(f"data: there is no file {path}; give an .npz with x, y and member.")
    names = array_names(path)
    for name in names:
        if name not in _ARRAYS:
            raise UsageError(f"data: {path} holds '{name}'; {did_you_mean(name, _ARRAYS)}")
    wanted = ["x", "y", "member"]
    if "population_x" in names or "population_y" in names:
        wanted += ["population_x", "population_y"]
    if missing := [name for name in wanted if name not in names]:
        raise UsageError(f"data: {path} lacks {' and '.join(missing)}: it must hold {', '.join(wanted)}.")
    return read_arrays(path)


def load_weights(network: Any, path: Path) -> None:
    """Load a state_dict into the network, executing nothing. Raises `UsageError` where the file does not fit it."""
    if not path.is_file():
        raise UsageError(f"weights: there is no file {path}.")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"weights: {path.name} must be a .safetensors, .pt or .pth file with a state_dict.")
    try:
        state = read_state(path)
    except UsageError as error:
        raise UsageError(
            f"weights: {error} Save it with safetensors.torch.save_file(model.state_dict(), path)."
        ) from None
    # Infinity is what some models mask with.
    if bad := [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.isnan().any()]:
        raise UsageError(f"weights: {path} holds NaN in {bad[0]!r}: give the weights of a trained network.")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(
            f"weights: {path} does not fit the factory's network: {' '.join(str(error).split())}"
        ) from error
