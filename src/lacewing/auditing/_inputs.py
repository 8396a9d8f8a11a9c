"""The user's records in any common form: read into arrays, checked, and given back to user code in their own form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing import _items, _levels, _stream
from lacewing.auditing._classes import Classes
from lacewing.auditing._form import Array, Form, as_array, is_polars, is_tensor
from lacewing.auditing._stream import Streamed
from lacewing.auditing._tasks import checked_labels
from lacewing.data import NO_ID, group_codes, row_hashes
from lacewing.errors import UsageError
from lacewing.metrics import Bools

LEAST = 10  # records of a kind
_AGAIN = 64  # records that are read a second time


@dataclass(frozen=True, eq=False)
class Reading:
    """What the model that is asked decides about how its records are read."""

    words: bool = False  # it may take words, dates and, in frames, missing values
    missing: bool = False  # it may take missing values in arrays
    takes: frozenset[str] | None = None  # the names of its arguments; None: one argument, whatever is given
    classes: Classes | None = None  # None: labels are whole numbers from 0
    collate: Callable[[list[Any]], Any] | None = None  # makes a padded batch of a list of items
    stream: Callable[[str], None] | None = None  # told of progress; None: all records are held
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Tell something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


@dataclass(frozen=True, eq=False)
class RawData:
    """N labelled records; ``x`` keeps the dtype that it was given in, so that token ids stay whole numbers."""

    x: Any  # an array, or `Streamed`, which reads them when they are asked for
    y: Array  # (N,) int64 classes, (N, L) int64 of 0 and 1, or (N, D) float64 quantities
    form: Form

    def __len__(self) -> int:
        return len(self.y)

    def at(self, rows: npt.NDArray[Any]) -> RawData:
        """The records that ``rows`` (indices or flags) picks."""
        x = self.x.at(rows) if isinstance(self.x, Streamed) else self.x[rows]
        return RawData(x, self.y[rows], self.form)

    def hashes(self) -> list[bytes]:
        """Of each record, see `row_hashes`."""
        return self.x.hash_N.tolist() if isinstance(self.x, Streamed) else row_hashes(self.x)

    def copies(self) -> npt.NDArray[np.int64]:
        """(N,) codes that equal records share."""
        return group_codes(self.hashes())


def read(
    given: Any, name: str, task: Task = "classification", *, least: int = LEAST, reading: Reading | None = None
) -> RawData:
    """Labelled records from ``(x, y)`` of arrays, tensors, frames, texts or dicts, a data set, or a data loader.

    Raises `UsageError` that names the argument ``name``: not of these forms, lengths that differ, values that are no
    finite numbers, labels that are not of the task, fewer than ``least`` records.
    """
    return read_all({name: given}, task, least=least, reading=reading)[name]


def read_all(
    parts: Mapping[str, Any], task: Task, *, least: int = LEAST, reading: Reading | None = None
) -> dict[str, RawData]:
    """Several parts, read alike: ``collate`` pads all of them to one length. Arguments and errors as for `read`."""
    reading = reading or Reading()
    pairs: dict[str, tuple[Any, Any]] = {}
    streams: dict[str, RawData] = {}
    items: dict[str, list[Any]] = {}
    collate = None
    for name, given in parts.items():
        source, own = _items.opened(given, name)
        own = reading.collate or own
        if isinstance(source, tuple | list) and len(source) == 2 and reading.collate is None:
            pairs[name] = (source[0], source[1])
        elif isinstance(source, tuple | list) and len(source) == 2:
            items[name], collate = _items.zipped(source[0], source[1], name), own
        elif isinstance(source, Mapping):
            pairs[name] = _items.parted(source, None, name)
        elif _items.is_data_set(source):
            n = _items.count(source, name)
            if n < least:
                raise UsageError(f"{name} holds {n} records: at least {least} are needed.")
            if own is None and (stream := _stream_of_items(source, n, name, task, reading)) is not None:
                streams[name] = stream
                continue
            items[name], collate = _items.fetched(source, range(n), name), own
        else:
            raise UsageError(
                f"{name} is a {type(given).__name__}: give (x, y) of arrays, tensors or frames, or an indexable torch "
                "data set of (x, y)."
            )
    if collate is None:
        pairs |= {name: _items.batch_of(each, None, name) for name, each in items.items()}
    elif items:
        together = _items.batch_of([item for each in items.values() for item in each], collate, " and ".join(items))
        ends = np.cumsum([len(each) for each in items.values()])
        for name, end in zip(items, ends, strict=True):
            rows = slice(int(end) - len(items[name]), int(end))
            pairs[name] = (_cut(together[0], rows), _cut(together[1], rows))
    for name in [name for name in pairs if isinstance(pairs[name][0], np.memmap)]:
        if (stream := _stream_of_map(*pairs[name], name, task, reading)) is not None:
            streams[name] = stream
    return {
        name: streams[name] if name in streams else _raw(*pairs[name], name, task, least, reading) for name in parts
    }


def _stream_of_items(source: Any, n: int, name: str, task: Task, reading: Reading) -> RawData | None:
    """The records of a data set as a stream; None where they can be held."""

    def read(rows: Array) -> tuple[Array, tuple[Array, Form]]:
        x, y = _items.batch_of(_items.fetched(source, rows, name), None, name)
        array, form = _inputs(x, name, reading)
        return array, (as_array(_items.stacked(y, name, "labels"), f"{name}: y"), form)

    if reading.stream is None:
        return None
    some = _items.fetched(source, range(min(n, LEAST)), name)
    if len({_items.size(item) for item in some}) > 1 or n * _items.size(some[0]) <= _stream.HELD:
        return None
    x, beside = _stream.scanned(read, n, name, reading.stream)
    return _streamed(x, np.concatenate([y for y, _ in beside]), beside[0][1], name, task, reading)


def _stream_of_map(x: Any, y: Any, name: str, task: Task, reading: Reading) -> RawData | None:
    """The records of a memory-mapped array as a stream; None where they can be held."""
    if reading.stream is None or x.nbytes <= _stream.HELD or x.ndim < 2:
        return None

    def read(rows: Array) -> tuple[Array, Form]:
        return _inputs(np.array(x[rows]), name, reading)

    streamed, forms = _stream.scanned(read, len(x), name, reading.stream)
    return _streamed(streamed, as_array(y, f"{name}: y"), forms[0], name, task, reading)


def _streamed(x: Streamed, y: Array, form: Form, name: str, task: Task, reading: Reading) -> RawData:
    if form.levels:
        raise UsageError(f"{name} are too many to be held, and words are not read as a stream: give fewer records.")
    labels, form = _labels(y, form, name, task, reading)
    if len(x) != len(labels):
        raise UsageError(f"{name} holds {len(x)} records and {len(labels)} labels: give one label a record.")
    if task not in CLASSES:
        form = replace(form, label_dtype=y.dtype.str, flat_labels=y.ndim == 1)
    return RawData(x, labels, form)


def _cut(values: Any, rows: slice) -> Any:
    return {key: value[rows] for key, value in values.items()} if isinstance(values, dict) else values[rows]


def _raw(x: Any, y: Any, name: str, task: Task, least: int, reading: Reading) -> RawData:
    inputs, form = _inputs(x, name, reading)
    given_labels = as_array(_items.stacked(y, name, "labels"), f"{name}: y")
    labels, form = _labels(given_labels, form, name, task, reading)
    if task not in CLASSES:
        form = replace(form, label_dtype=given_labels.dtype.str, flat_labels=given_labels.ndim == 1)
    if labels.ndim == 2 and getattr(y, "columns", None) is not None:
        form = replace(form, label_columns=tuple(y.columns))
    if len(inputs) != len(labels):
        raise UsageError(f"{name} holds {len(inputs)} records and {len(labels)} labels: give one label a record.")
    if len(labels) < least:
        raise UsageError(f"{name} holds {len(labels)} records: at least {least} are needed.")
    return RawData(inputs, labels, form)


def _labels(given: Array, form: Form, name: str, task: Task, reading: Reading) -> tuple[Array, Form]:
    classes = reading.classes
    if classes is None or task not in CLASSES:
        return checked_labels(given, task, f"{name}: y"), form
    labels, new = classes.coded(given, f"{name}: y", known=name == "members")
    if new:
        reading.note(
            f"{name} have labels of {new} class{'es' * (new > 1)} that {'are' if new > 1 else 'is'} not among "
            f"{classes.source}: the model gives {'these' if new > 1 else 'it'} a probability of one in a million."
        )
    if task == "binary" and len(classes.names) > 2:
        raise UsageError(f"{name}: y holds {len(classes.names)} classes, and a binary task has two.")
    named = given.dtype.kind not in "iuU" or tuple(classes.names) != tuple(range(len(classes.names)))
    dtype = given.dtype.str if named and given.dtype.kind != "U" else ""  # of words any length may come
    return labels, replace(form, classes=tuple(classes.names), label_dtype=dtype)


def alike(parts: Mapping[str, RawData]) -> dict[str, RawData]:
    """The parts in the form of the first one.

    Raises `UsageError` where records differ in shape, in whether they are whole numbers, or in columns and their types.
    """
    (first_name, first), *others = parts.items()
    for name, part in others:
        if part.form.is_dict != first.form.is_dict or (first.form.is_dict and part.form.columns != first.form.columns):
            raise UsageError(f"{name} and {first_name} have other fields: give the same.")
        if part.x.shape[1:] != first.x.shape[1:] or part.form.shapes != first.form.shapes:
            raise UsageError(
                f"{name} holds records of shape {part.x.shape[1:]} and {first_name} of {first.x.shape[1:]}: "
                "give records of one shape."
            )
        if part.form.columns and first.form.columns and part.form.columns != first.form.columns:
            raise UsageError(f"{name} and {first_name} have other columns, or in another order: give the same.")
        for column, own, its in zip(first.form.columns, first.form.dtypes, part.form.dtypes, strict=False):
            if own != its:
                raise UsageError(f"{name}: {column!r} has dtype {its}, and {own} in {first_name}: give one dtype.")
        if (part.x.dtype.kind == "f") != (first.x.dtype.kind == "f") and not first.form.columns:
            raise UsageError(
                f"{name} holds records of dtype {part.x.dtype} and {first_name} of {first.x.dtype}: give one dtype."
            )
    if any(isinstance(part.x, Streamed) for part in parts.values()):
        return dict(parts)  # of numbers alone
    forms = _levels.same_levels([(name, part.x, part.form) for name, part in parts.items()])
    names = max((part.form.classes for part in parts.values()), key=len)
    return {
        name: RawData(x, parts[name].y, replace(form, classes=names))
        for name, (x, form) in zip(parts, forms, strict=True)
    }


def join(parts: Mapping[str, RawData]) -> RawData:
    """All records in one, in order and in the form of the first part; errors as for `alike`."""
    same = list(alike(parts).values())
    xs = [part.x for part in same]
    x = _stream.joined(xs) if any(isinstance(each, Streamed) for each in xs) else np.concatenate(xs)
    return RawData(x, np.concatenate([part.y for part in same]), same[0].form)


def varies(given: Any, read_before: RawData, name: str, task: Task, reading: Reading) -> bool:
    """Whether a data set hands out other inputs when some records are read again, as one with a random transform does.

    Raises `UsageError` where it hands out other labels, which no audit allows.
    """
    source, own = _items.opened(given, name)
    if not _items.is_data_set(source):
        return False
    rows = np.sort(np.random.default_rng(304).permutation(len(read_before))[:_AGAIN])
    collate = reading.collate or own

    def again() -> RawData:
        x, y = _items.batch_of(_items.fetched(source, rows, name), collate, name)
        return _raw(x, y, name, task, 0, reading)

    second = again()
    if not np.array_equal(second.y.reshape(len(rows), -1), read_before.y[rows].reshape(len(rows), -1)):
        raise UsageError(f"{name} hands out other labels when records are read again: give each record one label.")
    if isinstance(read_before.x, Streamed):
        return second.hashes() != read_before.at(rows).hashes()
    # A batch of fewer records may be padded less: it is compared with one of the same records.
    first = read_before.at(rows) if collate is None else again()
    same = alike({name: first, f"{name} again": second}).values()
    one, other = (part.x for part in same)
    return one.shape != other.shape or not np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def transform_of(given: Any) -> Any:
    """The transform that a data set, or one that it is a subset of, applies to its records; None: not known."""
    given, _ = _items.opened(given, "members")
    while given is not None:
        for attribute in ("transforms", "transform"):
            if (found := getattr(given, attribute, None)) is not None:
                return found
        given = getattr(given, "dataset", None)
    return None


def shared(a: RawData, b: RawData) -> int:
    """How many records of ``b`` stand in ``a`` as well, value for value."""
    if isinstance(a.x, Streamed) or isinstance(b.x, Streamed):
        known = set(a.hashes())
        return sum(row in known for row in b.hashes())
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


def _inputs(x: Any, name: str, reading: Reading) -> tuple[Array, Form]:
    """Records as an array (N, ...), and their form."""
    if isinstance(x, dict):
        x = _arguments({key: _items.stacked(value, f"{name}: '{key}'") for key, value in x.items()}, name, reading)
        if isinstance(x, dict):
            array, form = _levels.of_fields(x, name)
            return _checked(array, form, name, reading)
    form = Form()
    if is_tensor(x):
        return _checked(as_array(x, f"{name}: x"), Form("tensor"), name, reading)
    if (hasattr(x, "iloc") and hasattr(x, "columns")) or (is_polars(x) and hasattr(x, "columns")):
        return _checked(*_levels.of_frame(x, name), name, reading)
    x = _items.stacked(x, name) if isinstance(x, list) and x and is_tensor(x[0]) else x
    try:
        array = as_array(x, f"{name}: x")
    except ValueError:
        if not isinstance(x, list):
            raise UsageError(
                f"{name} is read as (x, y), and x is a {type(x).__name__} of parts that differ in shape: give one row "
                "of values a record; of pairs, x and y apart."
            ) from None
        x = _items.stacked(x, name)
        array = as_array(x, f"{name}: x")
    if array.ndim == 2 and hasattr(x, "columns"):
        form = Form("frame", tuple(x.columns), tuple(str(dtype) for dtype in x.dtypes))
    if array.dtype.kind in "UOT" and reading.words and len(array):
        return _levels.of_words(x, name)
    return _checked(array, form, name, reading)


def _checked(array: Array, form: Form, name: str, reading: Reading) -> tuple[Array, Form]:
    if array.dtype.kind not in "buif" or (form.levels and not reading.words):
        dtype = array.dtype if not form.levels else "object"
        raise UsageError(f"{name}: x has dtype {dtype}, which is not one of numbers: encode it as numbers first.")
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise UsageError(f"{name}: x has shape {array.shape}: give one row of values a record.")
    lost = array.dtype.kind == "f" and not form.levels and bool(np.isnan(array).any())
    if not (lost and (reading.missing or (reading.words and form.columns))):
        if not form.levels:
            _levels.finite_or_refuse(array, f"{name}: x")
        return array, form
    if np.isinf(array).any():
        raise UsageError(f"{name}: x holds infinite values: drop these records or fill in the values.")
    return array, replace(form, missing=True)


def _arguments(given: dict[str, Any], name: str, reading: Reading) -> Any:
    """The fields that a module's forward takes by name, or its one input."""
    if not given:
        raise UsageError(f"{name} has a label and no other field: give the records too.")
    if reading.takes is None:
        return given
    taken = {key: value for key, value in given.items() if key in reading.takes}
    left = [key for key in given if key not in taken]
    if not taken and len(given) == 1:
        return next(iter(given.values()))
    if not taken:
        raise UsageError(
            f"{name} has the fields {', '.join(given)}, and forward of the model takes "
            f"{', '.join(sorted(reading.takes))}: name the fields as its arguments, or give (x, y)."
        )
    if left:
        reading.note(f"The fields {', '.join(left)} were left out, since forward of the model takes no such argument.")
    return taken
