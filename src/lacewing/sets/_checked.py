"""Checks of what users hand to the functions on sets: numbers, flags of membership, ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data import NO_ID, group_codes
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats


def numbers(values: npt.ArrayLike, name: str) -> Floats:
    """As float64, finite or not. Raises `UsageError`: they are no numbers."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is a {type(values).__name__} that holds no numbers alone: give numbers.") from None


def scores(values: npt.ArrayLike, name: str) -> Floats:
    """(N,) finite scores, one at least. Raises `UsageError`."""
    found = numbers(values, name)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise UsageError(f"{name} has shape {found.shape}: give one finite number a record.")
    return found


def flags(values: npt.ArrayLike, name: str) -> Bools:
    """Of 0 and 1, or False and True. Raises `UsageError` for anything else, such as words."""
    found = np.asarray(values)
    if found.dtype.kind not in "buif" or not np.isin(found, (0, 1)).all():
        raise UsageError(
            f"{name} holds values other than 0 and 1: give True or 1 for members, False or 0 for the rest."
        )
    return found.astype(bool)


def groups(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """(N,) codes of ids. Raises `UsageError` where one is missing: two persons without an id are not one."""
    found = np.asarray(values)
    missing = [str(each).strip().lower() in NO_ID for each in found.reshape(-1).tolist()]
    if any(missing):
        raise UsageError(f"group holds no id for {sum(missing)} of {len(missing)} records: give each record its group.")
    return group_codes(found.reshape(-1)).reshape(found.shape)
