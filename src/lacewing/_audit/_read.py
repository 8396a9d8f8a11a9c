"""Scores and outputs from a file or a mapping: arrays by known names, nothing pickled, nothing unknown."""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError, did_you_mean

Arrays = dict[str, npt.NDArray[Any]]

NAMES = (  # of arrays; a .csv holds the first eight, logits and phi as columns logit_0, phi_0 ..
    "score",
    "member",
    "logits",
    "label",
    "class",
    "id",
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
_TABLES = {"logit": "logits", "phi": "phi"}  # prefix of numbered columns -> array
_COLUMNS = ("score", "member", "label", "class", "id", "sensitivity")
_TEXT = ("class", "id")  # may hold words
_TRUTH = {"true": "1", "false": "0"}


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
        arrays = _npz(path) if path.suffix == ".npz" else _csv(path)
    for name, values in arrays.items():
        if name not in NAMES:
            raise UsageError(f"Unknown array '{name}': {did_you_mean(name, NAMES)}")
        if not isinstance(values, np.ndarray):  # bytes: an .npz may hold any file
            raise UsageError(f"{name} is no array: write the file with numpy.savez.")
        if name in _TEXT and values.dtype.kind not in "iuU":
            arrays[name] = values.astype(np.str_)
            continue
        if name not in _TEXT and values.dtype.kind not in "biuf":
            raise UsageError(f"{name} holds {values.dtype} values: give numbers.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise UsageError(f"{name} holds {bad} NaN or infinite value{'s' * (bad > 1)}: give finite numbers.")
    return arrays


def _npz(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is no .npz file: write it with numpy.savez.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} cannot be read ({error}): write plain arrays with numpy.savez.") from error


def _csv(path: Path) -> Arrays:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no .csv file ({error}).") from error
    if len(rows) < 2:
        raise UsageError(f"{path} has {len(rows)} line{'s' * (len(rows) != 1)}: give a header and a line a record.")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UsageError(f"{path}: line {number} has {len(row)} cells, the header has {len(header)}.")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"{path}: the column '{twice}' stands twice.")
    columns = {name: [row[at].strip() for row in rows[1:]] for at, name in enumerate(header)}
    numbered: dict[str, dict[int, npt.NDArray[Any]]] = {}
    arrays: Arrays = {}
    for name, cells in columns.items():
        found = re.fullmatch(r"(logit|phi)_(\d+)", name)
        if found:
            numbered.setdefault(found[1], {})[int(found[2])] = _numbers(name, cells)
        elif name in _COLUMNS:
            arrays[name] = _words_or_numbers(cells) if name in _TEXT else _numbers(name, cells)
        else:
            raise UsageError(f"Unknown column '{name}': {did_you_mean(name, (*_COLUMNS, 'logit_0', 'phi_0'))}")
    for prefix, table in numbered.items():
        lacking = next((at for at in range(len(table)) if at not in table), None)
        if lacking is not None:
            raise UsageError(f"{path}: the column '{prefix}_{lacking}' is missing: number them from 0 without a gap.")
        arrays[_TABLES[prefix]] = np.stack([table[at] for at in range(len(table))], axis=1)
    return arrays


def _numbers(name: str, cells: list[str]) -> npt.NDArray[np.float64]:
    values = np.empty(len(cells))
    for at, cell in enumerate(cells):
        try:
            values[at] = float(_TRUTH.get(cell.lower(), cell))
        except ValueError:
            raise UsageError(f"{name}: line {at + 2} holds {cell!r}, which is no number.") from None
    return values


def _words_or_numbers(cells: list[str]) -> npt.NDArray[Any]:
    try:
        return np.array([int(cell) for cell in cells])
    except ValueError:
        return np.array(cells)
