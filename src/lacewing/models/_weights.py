"""A network's weights from a user's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lacewing.errors import UsageError
from lacewing.support.formats import read_state


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
