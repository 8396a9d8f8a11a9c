"""A user's data in a file, as the command line names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from lacewing.errors import UsageError, did_you_mean
from lacewing.support.formats import array_names, read_arrays

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
