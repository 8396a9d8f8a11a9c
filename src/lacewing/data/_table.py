"""A table as a data set: numbers as they are, categories one-hot, a column of labels, or a column of token ids."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._columns import MISSING, MOST_WHOLE, Column, listed, of_arrow, of_cells, words_of
from lacewing.data._dataset import Dataset, make_dataset
from lacewing.data._npz import checked
from lacewing.data._padded import empty_notes, of_lists
from lacewing.data._suspect import alike, are_ids, no_words, notes_on
from lacewing.errors import DataError, UsageError, did_you_mean
from lacewing.support.formats import is_number
from lacewing.support.tables import INDEX, csv_columns, parquet_table

LABELS = ("y", "label", "labels", "target")  # columns of labels, where the study names none
MOST_VALUES = 1000  # of a category
MOST_COLUMNS = 100_000
_LEAST = 20  # records, of which each holds another word, that make words no category


@dataclass(frozen=True)
class Table:
    """What [data] says of a table: the column of labels, columns to leave out, numbers that are categories.

    ``padding``: the id that fills up short records of token ids.
    """

    target: str | None = None
    ignore: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    padding: int | None = None

    def refuse(self, name: str) -> None:
        """Raise `DataError` where a study says something of columns, and its data set ``name`` has none."""
        for field in ("target", "ignore", "categories"):
            if getattr(self, field):
                raise DataError(f"data.{field}: {name} is no table with names of columns; leave it out.")


def read_table(path: Path, groups: Iterable[str], table: Table) -> Dataset:
    """The data set in a .csv or .parquet, see `of_columns`; its name is the file's.

    Raises:
        DataError: there is no such file, it is no table, or see `of_columns`.
    """
    where = str(path)
    if not path.is_file():
        raise DataError(f"{where}: there is no such file.")
    try:
        if path.suffix.lower() == ".csv":
            cells = csv_columns(path)
            if all(map(is_number, cells)):
                raise DataError(f"{where}: its first line holds numbers: give a header, the names of the columns.")
            return of_columns(
                {name: of_cells(each) for name, each in cells.items()}, tuple(groups), table, where, path.name
            )
        arrow, groups = parquet_table(path), tuple(groups)
        _refuse_index(arrow, (table.target, *table.ignore, *groups), where)
        return of_columns(of_arrow(arrow), groups, table, where, path.name)
    except DataError:
        raise
    except UsageError as error:
        raise DataError(str(error)) from None


def _refuse_index(arrow: Any, known: Collection[str | None], where: str) -> None:
    """Refuse a column that was the index of the pandas frame which a .parquet was written from."""
    for name in (arrow.schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(name, str) and name in arrow.column_names and name not in (*known, *INDEX):
            raise DataError(
                f"{where} has the column '{name}', which was the index of a frame: set data.ignore = ['{name}'], name "
                "it in data.groups, or write the file after reset_index() if it is a feature."
            )


def of_columns(
    columns: Mapping[str, Column],
    groups: Collection[str],
    table: Table,
    where: str,
    name: str,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """The data set of these columns, a row a record, in their order.

    A column of numbers is a column of x. Words and truth values, and numbers that ``table`` or their file calls
    categories, become a column of 0 and 1 for each of their values in alphabetical order; a missing word is a value of
    its own. One column of lists holds token ids instead: x (N, L) int32, short records filled up with
    ``table.padding``.

    Args:
        columns: by name.
        groups: columns of ids, which are no part of x.
        table: which columns are what.
        where: begins the sentence of an error.
        name: of the data set.
        class_names: of labels that are numbers from 0; None: classes are the labels in order.

    Raises:
        DataError: a column is not there, is of no such kind, or lacks values; it names the columns and the mend.
    """
    target = target_of(columns, table, where)
    said: dict[str, Collection[str]] = {"ignore": table.ignore, "categories": table.categories, "groups": groups}
    for field, of_field in said.items():
        for each in of_field:
            if each not in columns:
                raise DataError(f"data.{field}: {where} has no column '{each}'; {did_you_mean(each, columns)}")
            if each == target:
                raise DataError(f"data.{field}: '{each}' is the column of labels of {where}; leave it out there.")
    left = {n: c for n, c in columns.items() if n not in (target, *table.ignore, *groups)}
    for each in left:
        if each in INDEX:
            raise DataError(
                f"{where} has the column '{each}', as the index of a frame is called: write the file with index=False, "
                f"or set data.ignore = ['{each}']."
            )
    if not left:
        raise DataError(f"{where} has no column beside {listed([target, *table.ignore, *groups])}: give records too.")
    y, classes = labels_of(columns[target], class_names, f"{where}: '{target}'")
    ids = ids_of_groups(columns, groups, where)
    if any(column.kind == "lists" for column in left.values()):
        tokens = of_lists(left, table.padding, where)
        notes = (*alike(classes or ()), *empty_notes(tokens, table.padding))
        found = checked(tokens, y, where, name, ids, notes)
        made = make_dataset(name, tokens, found.y, found.classes, classes)
        return replace(made, groups=found.groups, notes=found.notes)
    categories = {*table.categories, *(each for each, column in left.items() if column.declared)}
    x, places, values = _features(left, categories, where)
    notes = (*alike(classes or ()), *notes_on(left, categories, y))
    return replace(checked(x, y, where, name, ids, notes), class_names=classes, columns=places, values=values)


def target_of(columns: Collection[str], table: Table, where: str) -> str:
    """The column of labels. Raises DataError where there is none of its name, or none is named."""
    there = f"its columns are {listed(list(columns))}"
    if table.target is not None:
        if table.target not in columns:
            raise DataError(f"data.target: {where} has no column '{table.target}'; {there}.")
        return table.target
    found = [name for name in LABELS if name in columns]
    if len(found) != 1:
        raise DataError(f"data.target: name the column of labels of {where}; {there}.")
    return found[0]


def labels_of(
    column: Column, class_names: tuple[str, ...] | None, where: str
) -> tuple[npt.NDArray[np.int64], tuple[str, ...] | None]:
    """(N,) classes from 0 in order of the labels, and their names; None where labels are 0, 1, ... themselves."""
    if column.kind not in ("numbers", "words"):
        what = {"mixed": "numbers and words", "lists": "lists"}.get(column.kind, column.what)
        raise DataError(f"data.target: {where} holds {what}: name a column with a class for each record.")
    values: Any = column.values
    if not len(values):
        raise DataError(f"data.target: {where} holds no record: give a table with rows.")
    if column.kind == "words":  # what stands for a missing number stands for a missing label
        values = np.array([None if value is None or value.lower() in MISSING else value for value in values], object)
    lost = np.isnan(values) if column.kind == "numbers" else np.array([value is None for value in values], bool)
    if lost.any():
        raise DataError(
            f"data.target: {where} has no label in {lost.sum()} of {len(values)} records (the first is record "
            f"{int(np.flatnonzero(lost)[0])}): drop these records, or write 'none' or 'NA' otherwise if it is a class."
        )
    if column.kind == "numbers" and not (np.abs(values) < MOST_WHOLE).all():
        raise DataError(
            f"data.target: {where} holds infinite labels or some from {MOST_WHOLE:,} on, which cannot be told apart: "
            "write classes as words or as whole numbers from 0."
        )
    if column.kind == "numbers" and (values != np.floor(values)).any():
        raise DataError(
            f"data.target: {where} holds {len(np.unique(values)):,} different numbers that are not whole, so that it "
            "is a quantity and no class: name another column, or cut it into classes before."
        )
    if len(set(values.tolist())) < 2:
        raise DataError(
            f"data.target: {where} holds one class, '{words_of(column)[0]}', in all records; at least 2 are needed."
        )
    kept = values.astype(np.int64 if column.kind == "numbers" else str)
    found, code = np.unique(kept, return_inverse=True)
    labels = np.asarray(code.reshape(-1), np.int64)
    if column.kind == "words":
        return labels, tuple(map(str, found))
    if class_names is not None and found[0] >= 0 and found[-1] < len(class_names):
        return labels, tuple(class_names[int(each)] for each in found)
    return labels, None if (found == np.arange(len(found))).all() else tuple(map(str, found.tolist()))


def ids_of_groups(columns: Mapping[str, Column], groups: Iterable[str], where: str) -> dict[str, npt.NDArray[Any]]:
    """The columns of ids of groups as words; a missing one is empty, which is refused where ids are read."""
    for name in groups:
        if columns[name].kind not in ("numbers", "words", "mixed"):
            raise DataError(f"data.groups: '{name}' of {where} holds {columns[name].what or 'lists'}: name ids.")
        if columns[name].words is not None:
            _refuse_spellings(columns[name], f"data.groups: '{name}' of {where}")
    found = {n: words_of(c) if c.words is None else c.words for n, c in columns.items() if n in groups}
    return {n: np.array(["" if word is None else word for word in words], str) for n, words in found.items()}


def _refuse_spellings(column: Column, where: str) -> None:
    """Refuse ids such as 7 and 07, which are one number, and may be one group or two."""
    seen: dict[float, str] = {}
    for value, word in zip(column.values.tolist(), column.words if column.words is not None else (), strict=True):
        if abs(value) < MOST_WHOLE and seen.setdefault(value, word) != word:
            raise DataError(
                f"{where} holds the ids '{seen[value]}' and '{word}', which are one number: write each id in one way, "
                "or begin ids that differ with a letter."
            )


def _features(
    columns: Mapping[str, Column], categories: Collection[str], where: str
) -> tuple[npt.NDArray[np.float64], dict[str, tuple[int, ...]], dict[str, tuple[str | None, ...]]]:
    """x (N, D), by column the places in x that it has, and by category the value of each of its places."""
    parts: list[npt.NDArray[Any]] = []
    places: dict[str, tuple[int, ...]] = {}
    values: dict[str, tuple[str | None, ...]] = {}
    _refuse(columns, categories, where)
    width = 0
    for name, column in columns.items():
        if column.kind == "numbers" and name not in categories:
            part = column.values[:, None]
        else:
            _refuse_numbers(column, f"{where}: column '{name}'", declared=name in categories)
            part, values[name] = _one_hot(words_of(column), f"{where}: column '{name}'")
        places[name] = tuple(range(width, width + part.shape[1]))
        width += part.shape[1]
        if width > MOST_COLUMNS:
            raise DataError(f"{where} makes more than {MOST_COLUMNS:,} columns of numbers: name some in data.ignore.")
        parts.append(part)
    return np.concatenate(parts, axis=1), places, values


def _refuse_numbers(column: Column, where: str, *, declared: bool) -> None:
    """Refuse words that are dates or numbers, unless the study or the file says that they are categories."""
    words = {word for word in column.values if word is not None} if column.kind == "words" and not declared else set()
    if (what := no_words(words)) is not None:
        raise DataError(
            f"{where} holds {what}, such as '{min(words)}': write them as plain numbers, or set data.ignore, or "
            "data.categories if each is a category."
        )


def _refuse(columns: Mapping[str, Column], categories: Collection[str], where: str) -> None:
    """Refuse columns that are neither numbers nor categories, all of a kind in one sentence."""
    kinds: list[tuple[Callable[[str, Column], bool], Callable[[Column], str], str]] = [
        (
            lambda name, column: column.kind == "other",
            lambda column: column.what,
            "make numbers or words of these columns",
        ),
        (
            lambda name, column: column.kind == "mixed" and name not in categories,
            lambda column: f"numbers, and a word in record {column.odd}",
            "mend these cells, name the column in data.categories",
        ),
        (
            lambda name, column: column.kind == "numbers" and name not in categories and np.isnan(column.values).any(),
            lambda column: f"no number in {np.isnan(column.values).sum():,} of {len(column.values):,} records",
            "fill in these values, drop these records",
        ),
        (
            lambda name, column: column.kind == "numbers" and np.isinf(column.values).any(),
            lambda column: "infinite values",
            "mend these values",
        ),
        (
            lambda name, column: column.kind == "numbers" and name not in categories and are_ids(column.values),
            lambda column: "the number of each record, as an index does",
            "take these columns out",
        ),
    ]
    for is_so, holds, mend in kinds:
        found = [f"'{name}' ({holds(column)})" for name, column in columns.items() if is_so(name, column)]
        if found:
            raise DataError(f"{where} has columns that cannot be read: {listed(found)}; {mend}, or set data.ignore.")


def _one_hot(words: npt.NDArray[Any], where: str) -> tuple[npt.NDArray[np.uint8], tuple[str | None, ...]]:
    """(N, V) 1 where a record has the value, and the V values: in alphabetical order, after them None if any lacks."""
    lost = np.array([word is None for word in words], bool)
    values = sorted(set(words[~lost].tolist()))
    if len(values) > MOST_VALUES or (len(words) >= _LEAST and 2 * len(values) > len(words)):
        raise DataError(
            f"{where} holds {len(values):,} different words in {len(words):,} records, which are no categories: set "
            "data.ignore; texts are given as token ids, a list of whole numbers a record, as a tokeniser makes them."
        )
    code = {value: place for place, value in enumerate(values)}
    place = np.array([len(values) if word is None else code[word] for word in words], np.int64)
    found = np.zeros((len(words), len(values) + int(lost.any())), np.uint8)
    found[np.arange(len(words)), place] = 1
    return found, (*values, *[None] * bool(lost.any()))
