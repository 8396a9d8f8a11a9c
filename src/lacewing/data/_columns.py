"""Columns of tables as arrays: numbers, words, lists of token ids; from cells of a .csv, Arrow tables and frames."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing.errors import DataError
from lacewing.support.tables import number

MISSING = frozenset({"", "nan", "na", "n/a", "nat", "none", "null", "<na>"})  # cells of a column of numbers
MOST_WHOLE = 2**53  # whole numbers from here on are not all float64 numbers
_TRUTH = (bool, np.bool_)


@dataclass(frozen=True, eq=False)
class Column:
    """A column of N records.

    ``values``: of numbers (N,) float64, NaN where there is none; of words (N,) objects, str or None; of lists the ids
    of all records in a row, int64, with ``lengths`` (N,); of others nothing.
    """

    kind: Literal["numbers", "words", "mixed", "lists", "other"]
    values: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    what: str = ""  # of others: what it holds, for messages
    odd: int = -1  # of mixed: the first record that holds a word
    words: npt.NDArray[Any] | None = None  # of numbers: (N,) as they were written, where floats may lose it
    declared: bool = False  # of numbers and words: whether the file or frame calls them categories


def of_cells(cells: Sequence[str]) -> Column:
    """The column of these cells of a .csv: of numbers, of words, or mixed, where some cells are words."""
    found, odd, numbers = np.full(len(cells), np.nan), -1, 0
    for row, cell in enumerate(cells):
        if cell.lower() in MISSING:
            continue
        try:
            found[row] = number(cell)
            numbers += 1
        except ValueError:
            odd = row if odd < 0 else odd
    if odd < 0 and numbers:
        written = np.array([None if cell.lower() in MISSING else cell for cell in cells], object)
        return Column("numbers", found, words=written)
    words = np.array([cell if cell else None for cell in cells], object)
    return Column("mixed" if numbers else "words", words, odd=odd)


def of_arrow(table: Any) -> dict[str, Column]:
    """The columns of a ``pyarrow.Table``; files hold pandas' categorical numbers as plain ones, and say so."""
    written = (table.schema.pandas_metadata or {}).get("columns", ())
    declared = {each.get("name") for each in written if each.get("pandas_type") == "categorical"}
    found = {name: _of_arrow(table.column(name)) for name in table.column_names}
    return {name: as_category(column) if name in declared else column for name, column in found.items()}


def _of_arrow(column: Any) -> Column:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        found = _of_arrow(column.cast(kind.value_type))
        return as_category(found)
    if pa.types.is_integer(kind):
        return of_whole(column.to_pylist() if column.null_count else column.to_numpy())
    if pa.types.is_floating(kind):
        return Column("numbers", np.asarray(column.to_numpy(), np.float64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _of_lists(column.to_pylist())
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_view(pa, kind):
        return of_values(column.to_pylist())
    return Column("other", np.zeros(0), what=f"values of type {kind}")


def _is_view(pa: Any, kind: Any) -> bool:
    """Whether it is the type of strings that polars writes; older pyarrow has none."""
    return hasattr(pa.types, "is_string_view") and bool(pa.types.is_string_view(kind))


def is_frame(value: Any) -> bool:
    """Whether it is a frame of pandas or polars, neither of which is imported."""
    return type(value).__module__.partition(".")[0] in ("pandas", "polars") and hasattr(value, "columns")


def of_frame(frame: Any, where: str) -> dict[str, Column]:
    """The columns of a pandas or polars frame, each under its name as text. Raises DataError where two have one."""
    polars = type(frame).__module__.partition(".")[0] == "polars"
    found = {}
    for place, name in enumerate(frame.columns):
        if str(name) in found:
            raise DataError(f"{where}: the frame has two columns called '{name}': give each its own name.")
        column = frame[:, place] if polars else frame.iloc[:, place]
        found[str(name)] = of_series(column)
    return found


def of_series(column: Any) -> Column:
    """The column of a pandas or polars series."""
    kind = str(column.dtype).lower()
    if not kind.startswith(("int", "uint", "float")) or kind.startswith("interval"):
        found = of_values(column.to_list())
        return as_category(found) if kind.startswith(("category", "categorical", "enum")) else found
    if not kind.startswith("float"):
        return of_whole(column.to_list() if _missing_whole(column) else column.to_numpy())
    values = column.to_list() if _missing_whole(column) else column.to_numpy()
    return Column("numbers", np.array([np.nan if _none(value) else value for value in values], np.float64))


def _missing_whole(column: Any) -> bool:
    """Whether it may hold a missing value that is no NaN: of pandas' own dtypes, and of polars."""
    return not isinstance(column.dtype, np.dtype)


def as_category(column: Column) -> Column:
    """The column as its file or frame declares it: of categories."""
    return replace(column, declared=True) if column.kind in ("numbers", "words") else column


def of_whole(values: Sequence[Any] | npt.NDArray[Any]) -> Column:
    """The column of these whole numbers, None where there is none."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        floats = values.astype(np.float64)
        large = (np.abs(floats) >= MOST_WHOLE).any()
        return Column("numbers", floats, words=values.astype(str).astype(object) if large else None)
    kept = [None if _none(value) else int(value) for value in values]
    words = None
    if any(value is not None and abs(value) >= MOST_WHOLE for value in kept):
        words = np.array([None if value is None else str(value) for value in kept], object)
    return Column("numbers", np.array([np.nan if value is None else float(value) for value in kept]), words=words)


def of_values(values: Sequence[Any]) -> Column:
    """The column of these Python values; truth values are words."""
    kept = [None if _none(value) else value for value in values]
    there = [value for value in kept if value is not None]
    if there and all(isinstance(value, list | tuple | np.ndarray) for value in there):
        return _of_lists(kept)
    if there and all(isinstance(value, int | float | np.number) and not isinstance(value, _TRUTH) for value in there):
        if any(isinstance(value, int) and abs(value) > sys.float_info.max for value in there):
            return Column("other", np.zeros(0), what="whole numbers beyond float64")
        if all(isinstance(value, int | np.integer) for value in there):
            return of_whole(kept)
        return Column("numbers", np.array([np.nan if value is None else float(value) for value in kept]))
    others = [value for value in there if not isinstance(value, str | int | float | np.number | np.bool_)]
    if others:
        return Column("other", np.zeros(0), what=f"{type(others[0]).__name__} objects")
    words = np.array([None if value is None else _word(value) for value in kept], object)
    strange = [row for row, value in enumerate(kept) if isinstance(value, int | float | np.number)]
    plain = [row for row in strange if not isinstance(kept[row], _TRUTH)]
    if plain and len(plain) < len(there):
        odd = (row for row, value in enumerate(kept) if isinstance(value, (str, *_TRUTH)))
        return Column("mixed", words, odd=next(odd))
    return Column("words", words)


def words_of(column: Column) -> npt.NDArray[Any]:
    """(N,) a column of numbers or words as words, None where there is none."""
    if column.kind != "numbers":
        return column.values
    if column.words is not None and (np.abs(column.values) >= MOST_WHOLE).any():
        return column.words
    return np.array([None if np.isnan(value) else _word(float(value)) for value in column.values], object)


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _none(value: Any) -> bool:
    """Whether it is None, NaN, or the missing value of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _of_lists(lists: Sequence[Any]) -> Column:
    """The column of lists of token ids; of other lists "other"."""
    if any(each is None for each in lists):
        return Column("other", np.zeros(0), what="lists, and none in some records")
    try:
        arrays = [np.asarray(each) for each in lists]
    except ValueError:  # lists of lists of unequal lengths
        return Column("other", np.zeros(0), what="lists of what is no whole number")
    if any(each.ndim != 1 or (len(each) and each.dtype.kind not in "iu") for each in arrays):
        return Column("other", np.zeros(0), what="lists of what is no whole number")
    lengths = np.array([len(each) for each in arrays], np.int64)
    return Column("lists", np.concatenate(arrays).astype(np.int64) if lengths.sum() else np.zeros(0, np.int64), lengths)


def listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    """Names of columns for a message, the first twelve."""
    shown = list(names)
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
