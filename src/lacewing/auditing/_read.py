"""Scores and outputs from a file or a mapping: arrays by known names, nothing pickled, nothing unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError, did_you_mean
from lacewing.support.formats import Arrays, is_number, read_arrays, read_csv, read_plain_csv

Cells = list[str] | npt.NDArray[np.float64]  # of a column: as they are written, or as numbers

NAMES = (  # of arrays; a .csv holds the first nine, logits and phi as columns logit_0, phi_0 ..
    "score",
    "member",
    "logits",
    "label",
    "class",
    "id",
    "group",
    "sensitivity",
    "phi",
    "reference_logits",
    "reference_in",
    "reference_phi",
    "reference_sensitivity",
    "population_logits",
    "population_label",
    "population_reference_logits",
)
_TABLES = {"logit": "logits", "phi": "phi", "label": "label"}  # prefix of numbered columns -> array
_COLUMNS = ("score", "member", "label", "class", "id", "group", "sensitivity")
_TEXT = ("class", "id", "group")  # may hold words
_LARGEST = float(np.finfo(np.float32).max)
_TRUTH = {"true": "1", "false": "0"}
_BOOLEAN = ("member", "label")  # columns that may hold them


def read(source: Path | str | Mapping[str, npt.ArrayLike]) -> Arrays:
    """The arrays of an ``.npz`` (nothing pickled), a ``.csv``, or a mapping. Raises `UsageError` that names what is
    wrong: no such file, not of its kind, empty, an unknown name, a cell that is no number.
    """
    if isinstance(source, Mapping):
        arrays = {str(name): np.asarray(values) for name, values in source.items()}
    else:
        path = Path(source)
        if path.suffix not in (".npz", ".csv"):
            raise UsageError(f"{path} is neither .npz nor .csv: give scores in one of these.")
        if not path.is_file():
            raise UsageError(f"There is no file {path}.")
        if path.stat().st_size == 0:
            raise UsageError(f"{path} is empty.")
        arrays = read_arrays(path) if path.suffix == ".npz" else _csv(path)
    for name, values in arrays.items():
        if name not in NAMES:
            raise UsageError(f"Unknown array '{name}': {did_you_mean(name, NAMES)}")
        if name in _TEXT and values.dtype.kind not in "iuU":
            arrays[name] = _words(name, values)
            continue
        if name not in _TEXT and values.dtype.kind not in "biuf":
            raise UsageError(f"{name} holds {values.dtype} values: give numbers.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise UsageError(f"{name} holds {bad} NaN or infinite value{'s' * (bad > 1)}: give finite numbers.")
        if name != "score" and values.dtype.kind == "f" and values.size and np.abs(values).max() > _LARGEST:
            raise UsageError(f"{name} holds values beyond the range of float32: give them as a network answers them.")
    return arrays


def _csv(path: Path) -> Arrays:
    if plain := read_plain_csv(path, words=_TEXT):  # of names the writing counts
        header = _header(path, plain[0])
        return _arrays(path, dict(zip(header, plain[1].T, strict=True)))
    rows = read_csv(path)
    if len(rows) < 2:
        raise UsageError(f"{path} has {len(rows)} line{'s' * (len(rows) != 1)}: give a header and a line a record.")
    header = _header(path, rows[0])
    if set(map(len, rows)) != {len(header)}:
        number, row = next((number, row) for number, row in enumerate(rows, start=1) if len(row) != len(header))
        raise UsageError(f"{path}: line {number} has {len(row)} cells, the header has {len(header)}.")
    del rows[0]
    columns = {name: list(map(str.strip, map(itemgetter(at), rows))) for at, name in enumerate(header)}
    del rows  # what follows needs its memory
    return _arrays(path, columns)


def _header(path: Path, cells: list[str]) -> list[str]:
    """The names in the first line."""
    header = [name.strip() for name in cells]
    if any(map(is_number, header)):
        raise UsageError(f"{path}: the first line holds numbers, so that it is no header: give the names of columns.")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"{path} has two columns '{twice}'; give each once.")
    return header


def _arrays(path: Path, columns: Mapping[str, Cells]) -> Arrays:
    """Columns of cells by name to arrays by name; numbered columns are joined."""
    numbered: dict[str, dict[int, npt.NDArray[Any]]] = {}
    arrays: Arrays = {}
    for name, cells in columns.items():
        found = re.fullmatch(r"(logit|phi|label)_([0-9]{1,9})", name)
        if found:
            table, at = numbered.setdefault(found[1], {}), int(found[2])
            if at in table:
                twice = next(other for other in columns if re.fullmatch(f"{found[1]}_0*{at}", other))
                raise UsageError(f"{path}: the columns '{twice}' and '{name}' have one number; give each once.")
            table[at] = _numbers(name, cells)
        elif name in _COLUMNS:
            arrays[name] = _words_or_numbers(name, cast("list[str]", cells)) if name in _TEXT else _numbers(name, cells)
        elif re.fullmatch(r"(p|prob|proba|probs|probability|softmax|sigmoid|output)_?\d+", name.lower()):
            raise UsageError(
                f"Unknown column '{name}': name the model's outputs logit_0, logit_1, ..., and say what they are, "
                "outputs='probabilities' or 'sigmoid'."
            )
        else:
            raise UsageError(f"Unknown column '{name}': {did_you_mean(name, (*_COLUMNS, 'logit_0', 'phi_0'))}")
    for prefix, table in numbered.items():
        lacking = next((at for at in range(len(table)) if at not in table), None)
        if lacking is not None:
            raise UsageError(f"{path}: the column '{prefix}_{lacking}' is missing: number them from 0 without a gap.")
        if _TABLES[prefix] in arrays:
            raise UsageError(
                f"{path} has the column '{prefix}' beside '{prefix}_0': give one column, or numbered ones."
            )
        arrays[_TABLES[prefix]] = np.stack([table[at] for at in range(len(table))], axis=1)
    return arrays


def _words(name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    """Names of classes or records: text, or what Python objects say of themselves where a mapping gives such."""
    if values.dtype.kind not in "SOfb" or any(type(value) in (dict, list, tuple) for value in values.flat):
        raise UsageError(f"{name} holds {values.dtype} values: give whole numbers or words.")
    try:
        return values.astype(np.str_)
    except (UnicodeDecodeError, ValueError, TypeError):
        raise UsageError(f"{name} holds a value that is not text: give whole numbers or words.") from None


def _numbers(name: str, cells: Cells) -> npt.NDArray[np.float64]:
    if isinstance(cells, np.ndarray):
        return np.ascontiguousarray(cells)
    every = "".join(cells)
    if every.isascii() and "_" not in every:
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass  # the cells one by one: a truth value, or which line it is
    values = np.empty(len(cells))
    for at, cell in enumerate(cells):
        try:
            if "_" in cell or not cell.isascii():  # float takes 1_0 as 10, and the digits of every script
                raise ValueError
            values[at] = float(_TRUTH.get(cell.lower(), cell) if name.partition("_")[0] in _BOOLEAN else cell)
        except ValueError:
            what = "holds a word" if cell else "is empty"  # never the value, which may be private
            raise UsageError(f"{name}: line {at + 2} {what}: give a number.") from None
    return values


def _words_or_numbers(name: str, cells: list[str]) -> npt.NDArray[Any]:
    """Whole numbers where all cells are written as such; else words, so that 7 and 007 stay two names."""
    if "" in cells:
        raise UsageError(f"{name}: line {cells.index('') + 2} is empty: give each record its {name}.")
    plain = all(re.fullmatch("0|-?[1-9][0-9]{0,17}", cell) for cell in cells)
    return np.array([int(cell) for cell in cells] if plain else cells)
