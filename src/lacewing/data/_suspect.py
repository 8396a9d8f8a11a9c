"""What of a table's columns looks like something else than features: badly written numbers, ids, copies of labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._columns import Column, listed
from lacewing.support.formats import is_number

_LEAST = 20  # records, of which different numbers are more than chance
_FEW = 200
_MONEY = r"(?:[$€£¥]|USD|EUR|GBP|CHF)"
_NUMBER = re.compile(rf"['\"]?[-+−(]?{_MONEY}?\s*[-+−]?\d[\d.,' \u00a0\u202f]*(?:%|{_MONEY})?\)?['\"]?", re.IGNORECASE)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"(?:\d{1,4}([-/.])\d{1,2}\1\d{1,4}|\d{4}[-/](?:0[1-9]|1[0-2])"
    rf"|\d{{1,2}}[. -]*{_MONTH}[ ,-]*\d{{2,4}}|{_MONTH} *\d{{1,2}},? *\d{{4}})(?:[T ].*)?"
    r"|\d{1,2}:\d{2}(?::\d{2}.*)?",
    re.IGNORECASE,
)
_ID = re.compile(
    r"(?i:(?:.*[\s_.-])?(?:id|ids|idx|uid|uuid|guid)|index|(?:row|record)[\s_.-]?(?:index|number|no|nr))|.*[a-z]I[dD]"
)
_LIST = re.compile(r"[\[(]\s*[-\d.]+(?:[,;\s]+[-\d.]+)+\s*[\])]")


def no_words(words: Collection[str]) -> str | None:
    """What most of the different words of a column are, where it is no word: "dates", ...; None: they are words."""
    for what, is_so in (
        ("dates or times", _DATE.fullmatch),
        ("lists of numbers", _LIST.fullmatch),
        ("numbers written as words", lambda word: is_number(word) or _NUMBER.fullmatch(word)),
    ):
        if 2 * sum(1 for word in words if is_so(word.strip())) > len(words):
            return what
    return None


def are_ids(values: npt.NDArray[np.float64]) -> bool:
    """Whether whole numbers are a, a + k, a + 2k, ... in any order, which no measured column is."""
    if not _all_different(values):
        return False
    steps = np.diff(np.sort(values))
    return bool((steps == steps[0]).all())


def notes_on(columns: Mapping[str, Column], categories: Iterable[str], y: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """What a person must know of the columns that are features, a sentence or two each.

    Args:
        columns: by name, numbers or words.
        categories: names of numbers that are read as words.
        y: (N,) classes.
    """
    numbers = {n: c.values for n, c in columns.items() if c.kind == "numbers" and n not in categories}
    features = {name: column for name, column in columns.items() if name not in categories}
    ids = [f"{name} ({sign})" for name, column in features.items() if (sign := _sign_of_ids(name, column))]
    telling = [name for name, column in columns.items() if _tells(column, y)]
    rounded = [f"{name} ({lost})" for name, values in numbers.items() if (lost := _rounded(values))]
    return _said(ids, telling, rounded, "set data.ignore, or data.groups", "Set data.ignore")


def notes_on_array(x: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """What a person must know of records (N, D) of numbers without names: columns of ids, and such that tell y (N,)."""
    ids, rounded = [], []
    # Few columns have to be sorted: of less than N whole numbers some are equal, those that float32 merges are close
    # beside their size, and those that tell the label do so in a few records.
    for k, (low, high) in enumerate(zip(x.min(axis=0).tolist(), x.max(axis=0).tolist(), strict=True)):
        if high - low >= len(x) - 1 and _all_different(x[:, k]):
            ids.append(f"x[:, {k}] (another whole number in each record)")
        close = x.dtype.itemsize > 4 and high - low < 10 * len(x) * max(-low, high) * 2.0**-23
        if close and (lost := _rounded(x[:, k])):
            rounded.append(f"x[:, {k}] ({lost})")
    few = np.linspace(0, len(x) - 1, min(len(x), _FEW)).astype(np.int64)
    _, first, place = np.unique(y[few], return_index=True, return_inverse=True)
    each = x[few[first]]  # a record of each class
    may_tell = (x[few] == each[place]).all(axis=0) & (each[0] != each[-1])
    telling = [f"x[:, {k}]" for k in np.flatnonzero(may_tell) if _tells(Column("numbers", x[:, k]), y)]
    return _said(ids, telling, rounded, "take it out of x, or set data.groups", "Take it out of x")


def _said(ids: list[str], telling: list[str], rounded: list[str], of_ids: str, of_labels: str) -> tuple[str, ...]:
    """A note for each kind of columns of which there are any; ``of_ids`` and ``of_labels`` are the mends."""
    said = []
    if ids:
        said.append(f"Perhaps ids: {listed(ids)}. If it identifies records, {of_ids}.")
    if telling:
        said.append(
            f"Labels among the features: {listed(telling)} has one value for each class, and tells the label. "
            f"{of_labels}, unless a network is to know it."
        )
    if rounded:
        said.append(
            f"Rounded to float32: {listed(rounded)} has fewer different values then. Subtract a common offset before."
        )
    return tuple(said)


def alike(names: Iterable[str]) -> tuple[str, ...]:
    """A note on classes whose names differ in capitals alone; nothing where there are none."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.casefold(), []).append(name)
    pairs = [" and ".join(map(repr, each)) for each in found.values() if len(each) > 1]
    return (f"Classes differ in capitals alone: {listed(pairs)}. Mend the labels if they are one class.",) * bool(pairs)


def _sign_of_ids(name: str, column: Column) -> str:
    """What says that the column is one of ids or an index; empty: nothing."""
    if column.kind == "numbers" and _all_different(column.values):
        return "another whole number in each record"
    if column.kind == "numbers" and _begins_again(column.values):
        return "it counts up and begins again, as the ids of tables that were joined do"
    return "by its name" if _ID.fullmatch(name) else ""


def _begins_again(values: npt.NDArray[np.float64]) -> bool:
    """Whether whole numbers are those of several counters, one after another or in any order with the same first.

    Of more counters than each has numbers they are no joined tables: hours of many days count so, too.
    """
    if (values != np.floor(values)).any():
        return False
    found, counts = np.unique(values, return_counts=True)
    if len(found) < _LEAST:
        return False
    steps, sizes = np.unique(np.diff(values), return_counts=True)
    step, runs = steps[sizes.argmax()], len(values) - int(sizes.max())
    if step != 0 and max(_LEAST, runs) * runs <= len(values):
        return True
    even, tables = len(np.unique(np.diff(found))) == 1, int(counts.max())
    return even and max(_LEAST, tables) * tables <= len(values) and bool((np.diff(counts) <= 0).all())


def _all_different(values: npt.NDArray[np.float64]) -> bool:
    """Whether each of at least 20 records holds another whole number."""
    if len(values) < _LEAST or not (values == np.floor(values)).all():
        return False
    return len(np.unique(values)) == len(values)


def _tells(column: Column, y: npt.NDArray[np.int64]) -> bool:
    """Whether each class has one value of the column, and no other class has it."""
    if len(y) < _LEAST:
        return False
    kept: Any = column.values if column.kind == "numbers" else np.array([str(word) for word in column.values])
    values, code = np.unique(kept, return_inverse=True)
    if len(values) != int(y.max()) + 1:
        return False
    return len(np.unique(np.stack([code.reshape(-1), y]), axis=1).T) == len(values)


def _rounded(values: npt.NDArray[np.float64]) -> str:
    """How many different values are left of how many in float32; empty: less than a tenth are lost."""
    with np.errstate(over="ignore"):  # what is too large is refused elsewhere
        single = values.astype(np.float32)
    before, after = len(np.unique(values)), len(np.unique(single))
    return f"{after:,} of {before:,}" if 10 * after < 9 * before else ""
