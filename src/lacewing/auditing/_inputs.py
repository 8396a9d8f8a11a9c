"""The user's records in any common form: read into arrays, checked, and given back to user code in their own form."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing._tasks import checked_labels
from lacewing.data import NO_ID, group_codes, row_hashes
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.support.user_code import user_code

LEAST = 10  # records of a kind
_AGAIN = 64  # records that are read a second time
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Form:
    """What user code takes records as: arrays, torch tensors or pandas frames."""

    kind: Literal["array", "tensor", "frame"] = "array"
    columns: tuple[str, ...] = ()  # of a frame
    dtypes: tuple[str, ...] = ()
    label_columns: tuple[str, ...] = ()  # of a frame of labels
    label_dtype: str = ""  # of labels that are no classes; classes are int64
    flat_labels: bool = True  # (N,), whatever `RawData.y` has

    def records(self, x: Array) -> Any:
        """``x`` (N, ...) in this form."""
        if self.kind == "tensor":
            import torch

            return torch.from_numpy(np.ascontiguousarray(x))
        if self.kind == "frame":
            frame = import_module("pandas").DataFrame(x, columns=list(self.columns))
            return frame.astype(dict(zip(self.columns, self.dtypes, strict=True)))
        return x

    def labels(self, y: Array) -> Any:
        """Labels of `RawData` in this form: classes (N,) int64, others in the shape and dtype that they had."""
        if self.label_dtype:
            y = (y[:, 0] if self.flat_labels and y.ndim == 2 else y).astype(self.label_dtype)
        if self.kind == "frame" and y.ndim == 1:
            return import_module("pandas").Series(y)
        if self.kind == "frame":
            return import_module("pandas").DataFrame(y, columns=list(self.label_columns) or None)
        return self.records(y)


@dataclass(frozen=True, eq=False)
class RawData:
    """N labelled records; ``x`` keeps the dtype that it was given in, so that token ids stay whole numbers."""

    x: Array
    y: Array  # (N,) int64 classes, (N, L) int64 of 0 and 1, or (N, D) float64 quantities
    form: Form

    def __len__(self) -> int:
        return len(self.y)

    def at(self, rows: npt.NDArray[Any]) -> RawData:
        """The records that ``rows`` (indices or flags) picks."""
        return RawData(self.x[rows], self.y[rows], self.form)


def read(given: Any, name: str, task: Task = "classification", *, least: int = LEAST) -> RawData:
    """Labelled records from ``(x, y)`` of arrays, tensors or pandas objects, or from a torch data set.

    Raises `UsageError` that names the argument ``name``: not of these forms, lengths that differ, values that are no
    finite numbers, labels that are not of the task, fewer than ``least`` records.
    """
    if isinstance(given, tuple | list) and len(given) == 2:
        x, y = given
    elif _is_data_set(given):
        x, y = _items(given, range(_count(given, name)), name)
    else:
        raise UsageError(
            f"{name} is a {type(given).__name__}: give (x, y) of arrays, tensors or frames, or an indexable torch "
            "data set of (x, y)."
        )
    inputs, form = _inputs(x, name)
    given_labels = _array(y)
    labels = checked_labels(given_labels, task, f"{name}: y")
    if task not in CLASSES:
        form = replace(form, label_dtype=given_labels.dtype.str, flat_labels=given_labels.ndim == 1)
    if labels.ndim == 2 and getattr(y, "columns", None) is not None:
        form = replace(form, label_columns=tuple(y.columns))
    if len(inputs) != len(labels):
        raise UsageError(f"{name} holds {len(inputs)} records and {len(labels)} labels: give one label a record.")
    if len(labels) < least:
        raise UsageError(f"{name} holds {len(labels)} records: at least {least} are needed.")
    return RawData(inputs, labels, form)


def join(parts: Mapping[str, RawData]) -> RawData:
    """All records in one, in order and in the form of the first part.

    Raises `UsageError` where records differ in shape, in whether they are whole numbers, or in a frame's columns.
    """
    (first_name, first), *others = parts.items()
    for name, part in others:
        if part.x.shape[1:] != first.x.shape[1:]:
            raise UsageError(
                f"{name} holds records of shape {part.x.shape[1:]} and {first_name} of {first.x.shape[1:]}: "
                "give records of one shape."
            )
        if (part.x.dtype.kind == "f") != (first.x.dtype.kind == "f"):
            raise UsageError(
                f"{name} holds records of dtype {part.x.dtype} and {first_name} of {first.x.dtype}: give one dtype."
            )
        if part.form.columns and first.form.columns and part.form.columns != first.form.columns:
            raise UsageError(f"{name} and {first_name} have other columns, or in another order: give the same.")
    x = np.concatenate([part.x for part in parts.values()])
    return RawData(x, np.concatenate([part.y for part in parts.values()]), first.form)


def varies(given: Any, read_before: RawData, name: str) -> bool:
    """Whether a data set hands out other inputs when some records are read again, as one with a random transform does.

    Raises `UsageError` where it hands out other labels, which no audit allows.
    """
    if not _is_data_set(given):
        return False
    rows = np.sort(np.random.default_rng(304).permutation(len(read_before))[:_AGAIN])
    x, y = _items(given, rows.tolist(), name)
    if not np.array_equal(_array(y).reshape(len(rows), -1), read_before.y[rows].reshape(len(rows), -1)):
        raise UsageError(f"{name} hands out other labels when records are read again: give each record one label.")
    return not np.array_equal(_inputs(x, name)[0], read_before.x[rows])


def transform_of(given: Any) -> Any:
    """The transform that a data set, or one that it is a subset of, applies to its records; None: not known."""
    while given is not None:
        for attribute in ("transforms", "transform"):
            if (found := getattr(given, attribute, None)) is not None:
                return found
        given = getattr(given, "dataset", None)
    return None


def shared(a: RawData, b: RawData) -> int:
    """How many records of ``b`` stand in ``a`` as well, value for value."""
    dtype = np.result_type(a.x, b.x)
    known = set(row_hashes(a.x.astype(dtype, copy=False)))
    return sum(row in known for row in row_hashes(b.x.astype(dtype, copy=False)))


def group_codes_of(ids: Iterable[Any], member_N: Bools, name: str) -> npt.NDArray[np.int64]:
    """(N,) codes of the user's ids of groups.

    Raises `UsageError` where ids are missing or differ in spaces alone, and where a group has members and non-members.
    """
    words = [str(each) for each in ids]
    lost = [word for word in words if word.strip().lower() in NO_ID]
    if lost:
        raise UsageError(
            f"{name}: {len(lost)} records have {lost[0]!r} as id, which would be one group: give each of these records "
            "its own id, or drop them."
        )
    if len({word.strip() for word in words}) < len(set(words)):
        raise UsageError(f"{name}: there are ids that differ in spaces alone: strip them.")
    codes = group_codes(words)
    if both := np.intersect1d(codes[member_N], codes[~member_N]).size:
        raise UsageError(
            f"{name}: {both} groups have members and nonmembers; a group that was trained on in part is no non-member: "
            "leave those records out of the non-members."
        )
    return codes


def check_enough_groups(group_N: npt.NDArray[np.int64] | None, member_N: Bools) -> None:
    """Raises `UsageError` where a side has fewer groups than `LEAST`."""
    if group_N is None:
        return
    for side, rows in (("members", member_N), ("non-members", ~member_N)):
        if (found := len(np.unique(group_N[rows]))) < LEAST:
            raise UsageError(
                f"The {rows.sum()} {side} form {found} groups or sets of copies, each of which counts once: at least "
                f"{LEAST} are needed."
            )


def _is_plain(given: Any) -> bool:
    """Whether it is an array or the like: records without labels."""
    return (
        isinstance(given, tuple | list | dict | str | bytes | np.ndarray)
        or hasattr(given, "to_numpy")
        or _is_tensor(given)
    )


def _is_tensor(given: Any) -> bool:
    torch = sys.modules.get("torch")  # who gives a tensor has loaded it
    return torch is not None and isinstance(given, torch.Tensor)


def _is_data_set(given: Any) -> bool:
    return hasattr(given, "__getitem__") and hasattr(given, "__len__") and not _is_plain(given)


def _count(given: Any, name: str) -> int:
    with user_code(f"{name}: its length"):
        return len(given)


def _items(given: Any, which: Iterable[int], name: str) -> tuple[Any, Any]:
    """(x, y) of a data set that hands out one (x, y) at a time."""
    xs, ys = [], []
    for index in which:
        with user_code(f"{name}: item {index}"):
            item = given[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"{name}[{index}] is a {type(item).__name__}: each item of a data set must be (x, y).")
        xs.append(item[0])
        ys.append(item[1])
    if not xs:
        raise UsageError(f"{name} holds 0 records: at least {LEAST} are needed.")
    if len({np.shape(x) for x in xs}) > 1:
        raise UsageError(f"{name} holds records of several shapes: pad or crop them to one.")
    if len({np.shape(y) for y in ys}) > 1:
        raise UsageError(f"{name} holds labels of several shapes: give each record as many.")
    y = np.array([label.detach().cpu().numpy() if _is_tensor(label) else label for label in ys])
    if _is_tensor(xs[0]):
        return sys.modules["torch"].stack(xs), y
    return np.stack([np.asarray(x) for x in xs]), y


def _inputs(x: Any, name: str) -> tuple[Array, Form]:
    form = Form()
    if _is_tensor(x):
        x, form = x.detach().cpu(), Form("tensor")
        array = np.asarray(x.float() if str(x.dtype) == "torch.bfloat16" else x)
    elif hasattr(x, "to_numpy"):
        array = x.to_numpy()
        if array.ndim == 2:
            form = Form("frame", tuple(x.columns), tuple(str(dtype) for dtype in x.dtypes))
    else:
        array = np.asarray(x)
    if array.dtype.kind not in "buif":
        raise UsageError(f"{name}: x has dtype {array.dtype}, which is not one of numbers: encode it as numbers first.")
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise UsageError(f"{name}: x has shape {array.shape}: give one row of values a record.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array.reshape(len(array), -1))).any(axis=1).sum())
        raise UsageError(f"{name}: x holds NaN or infinite values in {bad} records: drop these or fill in the values.")
    return array, form


def _array(y: Any) -> Array:
    if _is_tensor(y):
        y = y.detach().cpu()
    return np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
