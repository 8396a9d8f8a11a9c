"""Fields, frames and texts read into one array of numbers: words, dates and missing values by their levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.auditing._form import Array, Form, Kind, as_array, is_polars, is_tensor, objects
from lacewing.errors import UsageError
from lacewing.support.formats import is_number

_EXACT = 2**53  # whole numbers up to here are exact as float64


def of_fields(given: dict[str, Any], name: str) -> tuple[Array, Form]:
    """Fields (N, ...) of a dict, side by side; each a tensor, an array of numbers, or a list of texts."""
    tensors = all(is_tensor(value) for value in given.values() if not isinstance(value, list))  # a list: of texts
    values, shapes, dtypes, levels = [], [], [], []
    for key, field in given.items():
        array = as_array(field, f"{name}: '{key}'")
        if array.dtype.kind in "buif":
            finite_or_refuse(array, f"{name}: '{key}'")
            coded, of = array, None
        elif array.ndim == 1 and array.dtype.kind in "UO":
            coded, of = coded_levels(array, f"{name}: '{key}'")
        else:
            raise UsageError(
                f"{name}: '{key}' has dtype {array.dtype} and shape {array.shape}: give numbers of one shape a record "
                "(collate= pads), or words."
            )
        values.append(coded.reshape(len(coded), -1))
        shapes.append(tuple(coded.shape[1:]))
        dtypes.append(array.dtype.name if of is None else "object")
        levels.append(of)
    counts = {key: len(value) for key, value in zip(given, values, strict=True)}
    if len(set(counts.values())) > 1:
        raise UsageError(f"{name}: fields have different numbers of records: {counts}.")
    form = Form(
        "tensor dict" if tensors else "array dict",
        tuple(given),
        tuple(dtypes),
        shapes=tuple(shapes),
        levels=tuple(levels) if any(each is not None for each in levels) else (),
    )
    return _packed(values), form


def of_frame(frame: Any, name: str) -> tuple[Array, Form]:
    """A pandas or polars frame (N, D); words, dates and missing values by their levels."""
    polars = is_polars(frame)
    columns = tuple(frame.columns)
    if len(set(columns)) < len(columns):
        raise UsageError(f"{name}: x has two columns of one name: give each its own.")
    dtypes: list[Any] = [_dtype(dtype, polars=polars) for dtype in frame.dtypes]
    coded: list[Array] = []
    levels: list[tuple[Any, ...] | None] = []
    missing = False
    for at, dtype in enumerate(frame.dtypes):
        column = frame[:, at] if polars else frame.iloc[:, at]
        where = f"{name}: column {columns[at]!r}"
        if not polars and str(dtype).startswith("Sparse"):
            raise UsageError(f"{where} is sparse: give frame.sparse.to_dense().")
        if not polars and str(dtype) == "category":
            of = tuple(column.cat.categories.tolist())
            coded.append(np.asarray(column.cat.codes, np.int64))
            levels.append(of)
            dtypes[at] = "ordered category" if column.cat.ordered else "category"
            continue
        values = np.asarray(column.to_numpy())
        exact = values.dtype.kind in "bf" or (values.dtype.kind in "iu" and np.abs(values).max(initial=0) < _EXACT)
        nulls = polars and column.null_count() > 0
        if exact and not nulls:
            lost = values.dtype.kind == "f" and bool(np.isnan(values).any())
            if values.dtype.kind == "f" and np.isinf(values).any():
                raise UsageError(f"{where} holds infinite values: drop these records or fill in the values.")
            missing |= lost
            coded.append(values)
            levels.append(None)
            continue
        words, of = coded_levels(objects(column.to_list() if polars else column.tolist()), where)
        coded.append(words)
        levels.append(of)
    form = Form("polars" if polars else "frame", columns, tuple(dtypes), missing=missing)
    if any(each is not None for each in levels):
        form = replace(form, levels=tuple(levels))
    return _packed([each[:, None] for each in coded]), form


def of_words(given: Any, name: str) -> tuple[Array, Form]:
    """Texts (N,), or a table (N, D) of objects, each column by its levels."""
    series = hasattr(given, "to_list") and not is_polars(given)
    array = given if isinstance(given, np.ndarray) else objects(list(given))
    kind: Kind = "series" if series else "array" if isinstance(given, np.ndarray) else "list"
    if array.ndim == 1 and not all(isinstance(value, str) for value in array):
        raise UsageError(
            f"{name}: x holds {type(array[0]).__name__} objects: give one row of values, or a text, a record."
        )
    dtype = str(given.dtype) if series else "str" if array.dtype.kind in "UT" else "object"  # words of any length
    table = array[:, None] if array.ndim == 1 else array
    if array.ndim != 1 and array.ndim != 2:
        raise UsageError(
            f"{name}: x has dtype {array.dtype} and shape {array.shape}: give texts (N,) or a table (N, D)."
        )
    if array.ndim == 2 and not any(isinstance(value, str) and not is_number(value) for value in array.flat):
        raise UsageError(f"{name}: x has dtype {array.dtype}, and its values are numbers: give x.astype(float).")
    columns = tuple(range(array.shape[1])) if array.ndim == 2 else ()
    pairs = [coded_levels(table[:, at].astype(object), name) for at in range(table.shape[1])]
    return (
        np.stack([codes for codes, _ in pairs], axis=1),
        Form(kind, columns, (dtype,) * len(pairs), levels=tuple(levels for _, levels in pairs)),
    )


def coded_levels(values: Array, where: str) -> tuple[npt.NDArray[np.int64], tuple[Any, ...]]:
    """(N,) codes of any values, and the values that they stand for, in order of appearance. NaN is a value."""
    seen: dict[Any, int] = {}
    levels: list[Any] = []
    codes = np.empty(len(values), np.int64)
    for row, value in enumerate(values.tolist()):
        try:
            key = _key(value)
            code = seen.setdefault(key, len(seen))
        except TypeError:
            raise UsageError(
                f"{where} holds {type(value).__name__} objects: give numbers, words or dates, or leave it out."
            ) from None
        if code == len(levels):
            levels.append(value)
        codes[row] = code
    return codes, tuple(levels)


def same_levels(parts: Sequence[tuple[str, Array, Form]]) -> list[tuple[Array, Form]]:
    """The parts' arrays with one list of levels for each column: those of the first part, then what others add."""
    first = parts[0][2]
    if all(not form.levels for _, _, form in parts):
        missing = any(form.missing for _, _, form in parts)
        return [(x, replace(first, missing=missing)) for _, x, _ in parts]
    widths = [math.prod(shape) for shape in first.shapes] or [1] * (len(first.levels) or len(first.columns))
    starts = np.cumsum([0, *widths])
    arrays = [x.copy() for _, x, _ in parts]
    merged: list[tuple[Any, ...] | None] = []
    for place in range(len(widths)):
        each = [form.levels[place] if form.levels else None for _, _, form in parts]
        if all(one is None for one in each):
            merged.append(None)
            continue
        seen: dict[Any, int] = {}
        levels: list[Any] = []
        ordered = first.dtypes[place] == "ordered category"
        for (name, x, form), own, array in zip(parts, each, arrays, strict=True):
            column = x[:, starts[place]]
            if own is None:  # no value is missing here, and elsewhere one is
                codes, own = coded_levels(objects(_as_column(column, form.dtypes[place])), name)
                column = codes
            if ordered and levels and tuple(levels) != own:
                raise UsageError(
                    f"{name}: column {first.columns[place]!r} has other ordered categories: give the same."
                )
            for value in own:
                if (key := _key(value)) not in seen:
                    seen[key] = len(levels)
                    levels.append(value)
            to = np.array([*(seen[_key(value)] for value in own), -1], np.int64)  # -1 stays: missing in a category
            array[:, starts[place]] = to[column.astype(np.int64)]
        merged.append(tuple(levels))
    missing = any(form.missing for _, _, form in parts)
    return [(array, replace(first, levels=tuple(merged), missing=missing)) for array in arrays]


def finite_or_refuse(array: Array, where: str) -> None:
    """Raises `UsageError` where numbers are NaN or infinite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array.reshape(len(array), -1))).any(axis=1).sum())
        raise UsageError(f"{where} holds NaN or infinite values in {bad} records: drop these or fill in the values.")


def _packed(values: Sequence[Array]) -> Array:
    whole = [value.dtype.kind in "bui" for value in values]
    if all(whole):
        dtype: Any = np.int64 if len({value.dtype for value in values}) > 1 else values[0].dtype
    else:
        dtype = np.float64 if any(whole) else np.result_type(*values)
        for value in (each for each, is_whole in zip(values, whole, strict=True) if is_whole):
            if np.abs(value).max(initial=0) >= _EXACT:
                raise UsageError(
                    "whole numbers above 2**53 beside real numbers: give them as words or as real numbers."
                )
    return np.concatenate([value.astype(dtype, copy=False) for value in values], axis=1)


def _as_column(column: Array, dtype: Any) -> list[Any]:
    """Numbers that were stored without levels as the Python values that they were."""
    kind = str(dtype).lower()
    if kind.startswith("bool"):
        return [bool(value) for value in column.tolist()]
    return [int(value) for value in column.tolist()] if "int" in kind else [float(value) for value in column.tolist()]


def _key(value: Any) -> tuple[Any, Any]:
    """What tells two values apart: 1, 1.0 and True are three, NaN is one."""
    hash(value)
    try:
        same = bool(value == value)
    except TypeError:  # pandas.NA has no truth
        same = False
    return type(value), value if same else "missing"


def _dtype(dtype: Any, *, polars: bool) -> Any:
    """The name of a column's dtype, from which it can be made again; of others of polars the dtype itself."""
    if not polars:
        return str(dtype)
    return str(dtype) if str(dtype).isidentifier() and str(dtype) != "Enum" else dtype
