"""Lists of token ids as rows of one length, filled up with the id of padding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lacewing.data._columns import Column, listed
from lacewing.errors import DataError

_IDS = ("input_ids", "ids", "tokens")  # of several columns of lists: the ids
_MASK = "attention_mask"  # 1 where an id is read, 0 where it is padding
_EMPTY = ("token_type_ids", "special_tokens_mask")  # may be left out where they are 0 everywhere


def of_lists(columns: Mapping[str, Column], padding: int | None, where: str) -> npt.NDArray[np.int32]:
    """(N, L) ids of the column of lists among these, the short records filled up at their ends.

    Beside the ids there may be an attention_mask, whose zeros must be padding, and token_type_ids that are all 0.

    Raises:
        DataError: there are other columns, records of other lengths without ``padding``, or an id is one of padding and
            of a token.
    """
    if padding is not None and not 0 <= padding <= np.iinfo(np.int32).max:
        raise DataError(f"data.padding = {padding}: ids lie in 0 to {np.iinfo(np.int32).max:,}.")
    lists = {name: column for name, column in columns.items() if column.kind == "lists"}
    named = [name for name in _IDS if name in lists] or [name for name in lists if name not in (_MASK, *_EMPTY)]
    if len(named) != 1:
        raise DataError(f"{where} has lists in the columns {listed(lists)}: set data.ignore for all but the token ids.")
    name, ids = named[0], lists[named[0]]
    beside = [other for other in columns if other not in (name, _MASK) and not _is_zero(other, columns[other])]
    if beside:
        raise DataError(
            f"{where} holds token ids ('{name}') beside the columns {listed(beside)}, which no model of tokens takes: "
            "set data.ignore."
        )
    if not len(ids.values) or (ids.lengths == 0).all():
        raise DataError(f"{where}: all records of '{name}' are empty: give token ids.")
    if ids.values.min() < 0 or ids.values.max() > np.iinfo(np.int32).max:
        raise DataError(f"{where}: '{name}' holds ids below 0 or above {np.iinfo(np.int32).max:,}: ids count from 0.")
    length = int(ids.lengths.max())
    at = np.arange(length)
    there = at < ids.lengths[:, None]
    if padding is None and not there.all():
        raise DataError(
            f"{where}: records of '{name}' hold {ids.lengths.min():,} to {length:,} ids: set data.padding to the id "
            "that fills up short ones, such as 0, and model.options.padding of 'transformer' to the same."
        )
    x = np.full(there.shape, padding or 0, np.int32)
    x[there] = ids.values
    kept = there.copy()
    if (mask := lists.get(_MASK)) is not None:
        if not np.array_equal(mask.lengths, ids.lengths):
            raise DataError(f"{where}: '{_MASK}' and '{name}' are of unequal lengths: write both again.")
        kept[there] = mask.values != 0
    if not kept.all() and (wrong := np.unique(x[~kept & there])).size and (padding is None or (wrong != padding).any()):
        raise DataError(
            f"{where}: '{_MASK}' hides the ids {listed(list(map(str, wrong)))}: set data.padding to the one id of "
            "padding and pad with it alone."
        )
    if padding is not None:
        _check_ends(x != padding, padding, f"{where}: '{name}'")
    return x


def empty_notes(x: npt.NDArray[np.int32], padding: int | None) -> tuple[str, ...]:
    """A note on records (N, L) that hold padding alone; nothing where there are none."""
    empty = 0 if padding is None else int((x == padding).all(axis=1).sum())
    return (f"Empty records: {empty:,} of {len(x):,} records hold no token id but padding. Drop them.",) * bool(empty)


def _is_zero(name: str, column: Column) -> bool:
    return name in _EMPTY and column.kind == "lists" and not column.values.any()


def _check_ends(token_NL: npt.NDArray[np.bool_], padding: int, where: str) -> None:
    """Refuse padding between tokens, where its id is that of a token as well."""
    edges = np.diff(token_NL.astype(np.int8), axis=1, prepend=0, append=0)
    if (inside := np.flatnonzero((edges == 1).sum(axis=1) > 1)).size:
        raise DataError(
            f"{where} holds data.padding = {padding} between other ids (the first in record {inside[0]}), so that "
            "it is a token as well: name an id that no record holds."
        )
