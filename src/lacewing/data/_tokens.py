"""Records as token ids: rows of whole numbers that are names, so that nothing standardises or shifts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset
from lacewing.errors import DataError
from lacewing.support.mapped import Stored, blocks

_MOST_AS_FLOAT = 2**24  # whole numbers from here on are not all float32 numbers


def as_tokens(dataset: Dataset) -> Dataset:
    """The data set with ``x`` (N, L) as int32, the dtype that says that records are token ids. Its digest is kept.

    Raises:
        DataError: records are no rows, or hold numbers that are not whole, negative, or too large.
    """
    x, where = dataset.x, f"data.tokens: {dataset.name}"
    if x.ndim != 2:
        raise DataError(
            f"{where} has records of shape {x.shape[1:]}, and token ids are rows, x of (N, L): give rows of ids, or "
            "neither data.tokens nor the model 'transformer'."
        )
    if x.dtype.kind == "f" and (wrong := _first(x, lambda block: block != np.floor(block))) is not None:
        raise DataError(
            f"{where} holds numbers that are not whole (the first in record {wrong}), and token ids are whole "
            "numbers from 0: give neither data.tokens nor the model 'transformer' for a table of numbers."
        )
    largest = max(block.max() for block in blocks(x))
    if x.dtype != np.int32 and largest >= _MOST_AS_FLOAT:
        raise DataError(f"{where} holds the id {int(largest):,}: ids below {_MOST_AS_FLOAT:,} are read; renumber them.")
    if (wrong := _first(x, lambda block: block < 0)) is not None:
        raise DataError(
            f"{where} holds ids below 0 (the first in record {wrong}), and ids count from 0: give padding an id of its "
            "own, such as 0, and raise the others by one."
        )
    return replace(dataset, x=x.astype(np.int32, copy=False))


def _first(x: Stored, wrong: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]) -> int | None:
    """The first record (D,) with a number that is wrong; None: there is none."""
    start = 0
    for block in blocks(x):
        if len(rows := np.flatnonzero(wrong(block).any(axis=1))):
            return start + int(rows[0])
        start += len(block)
    return None
