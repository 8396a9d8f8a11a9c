"""A user's model and data in files, as the command line names them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError, did_you_mean

_ARRAYS = ("x", "y", "member", "population_x", "population_y")


def arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """x, y, member and, where there is one, the population of an .npz. Raises `UsageError` that says what is wrong."""
    if not path.is_file():
        raise UsageError(f"data: there is no file {path}; give an .npz with x, y and member.")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise UsageError(f"data: {path} is no whole .npz of plain arrays ({error}).") from error
    for name in found:
        if name not in _ARRAYS:
            raise UsageError(f"data: {path} holds '{name}'; {did_you_mean(name, _ARRAYS)}")
    wanted = ["x", "y", "member"]
    if "population_x" in found or "population_y" in found:
        wanted += ["population_x", "population_y"]
    if missing := [name for name in wanted if name not in found]:
        raise UsageError(f"data: {path} lacks {' and '.join(missing)}: it must hold {', '.join(wanted)}.")
    return found


def load_weights(network: Any, path: Path) -> None:
    """Load a state_dict into the network, executing nothing. Raises `UsageError` where the file does not fit it."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UsageError(f"weights: there is no file {path}.")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"weights: {path.name} must be a .safetensors, .pt or .pth file with a state_dict.")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UsageError(
            f"weights: {path} cannot be read as a state_dict of plain tensors ({type(error).__name__}): save it with "
            "safetensors.torch.save_file(model.state_dict(), path)."
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(
            f"weights: {path} does not fit the factory's network: {' '.join(str(error).split())}"
        ) from error
