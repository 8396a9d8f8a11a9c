"""Records as token ids: rows of whole numbers that are names, so that nothing standardises or shifts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset
from lacewing.errors import DataError

_MOST_AS_FLOAT = 2**24  # whole numbers from here on are not all float32 numbers


def as_tokens(dataset: Dataset) -> Dataset:
    """The data set with ``x`` (N, L) as int32, the dtype that says that records are token ids. Its digest is kept.

    Raises:
        DataError: records are no rows, or hold numbers that are not whole, negative, or too large.
    """
    x, where = dataset.x, f"data.tokens: {dataset.name}"
    if x.ndim != 2:
        raise DataError(
            f"{where} has records of shape {x.shape[1:]}, and token ids are rows, x of (N, L): leave data.tokens "
            "out, or give rows of ids."
        )
    if x.dtype == np.int32:
        ids: npt.NDArray[Any] = x
    else:
        wrong = _first(x != np.floor(x)) if x.dtype.kind == "f" else None
        if wrong is not None:
            raise DataError(
                f"{where} holds numbers that are not whole (the first in record {wrong}), and token ids are whole "
                "numbers from 0: leave data.tokens out for a table of numbers."
            )
        if x.max() >= _MOST_AS_FLOAT:
            raise DataError(
                f"{where} holds the id {int(x.max()):,}: ids below {_MOST_AS_FLOAT:,} are read; renumber them."
            )
        ids = x
    if (wrong := _first(ids < 0)) is not None:
        raise DataError(
            f"{where} holds ids below 0 (the first in record {wrong}), and ids count from 0: give padding an id of its "
            "own, such as 0, and raise the others by one."
        )
    return replace(dataset, x=ids.astype(np.int32, copy=False))


def _first(found_ND: npt.NDArray[np.bool_]) -> int | None:
    """The first row that has any; None: no row has."""
    rows = np.flatnonzero(found_ND.any(axis=1))
    return int(rows[0]) if len(rows) else None
