"""A data set in .npy files, ``x.npy`` and ``y.npy`` beside it, whose records stay in their file and are mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset, digest_of
from lacewing.data._npz import checked, ids_of, labels_of, lacks_ids, layout
from lacewing.errors import DataError
from lacewing.support.mapped import Mapped, open_map, settled

X, Y, CLASSES = "x.npy", "y.npy", "classes.txt"
_PARTS = (X, Y)
_FOUND: dict[str, tuple[str, str]] = {}  # digest and dtype of data sets that were read, by `_key`


def holds_npy(folder: Path) -> bool:
    """Whether a folder is a data set of .npy files."""
    return (folder / X).is_file()


def read_npy(path: Path, groups: Iterable[str] = ()) -> Dataset:
    """The data set of a folder with ``x.npy`` and ``y.npy``, or of the path of that ``x.npy``.

    Shapes and values are those of an .npz, see `read_npz`. The records are not read into memory but mapped: whatever
    asks for some of them reads these from the file. ``groups`` names arrays of ids, ``<name>.npy`` beside them;
    ``classes.txt`` may name the classes, one a line. The name of the data set is that of the folder.

    Raises:
        DataError: it names the file and the mend.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and path.name != X:
        raise DataError(f"{path}: data.dataset takes the path of {X} with {Y} beside it, or of their folder.")
    for part in _PARTS:
        if not (folder / part).is_file():
            raise DataError(f"{folder}: lacks {part}; data.dataset takes a folder with {X} (N, ...) and {Y} (N,).")
    where, name = str(folder), folder.resolve().name or X
    y = np.array(open_map(folder / Y))
    x = Mapped(folder / X, partial(layout, where=str(folder / X)))
    key = _key(x, y)
    if key in _FOUND:
        digest, dtype = _FOUND[key]
        labels = labels_of(y, where)
        made = Dataset(name, x.astype(np.dtype(dtype)), labels, int(labels.max()) + 1, None, digest)
    else:
        made = checked(x, y, where, name)
        if x.changed():
            raise DataError(f"{folder / X}: was changed while it was read: let what writes it end, and try again.")
        if settled(x.signature):
            _FOUND[key] = made.digest, made.x.dtype.str
    ids = {each: ids_of(_ids(folder, each), len(made), where, each) for each in groups}
    return replace(made, groups=ids, class_names=_class_names(folder / CLASSES, made.classes))


def _key(x: Mapped, y: npt.NDArray[Any]) -> str:
    return repr((str(x.path.resolve()), *x.signature, digest_of(y)))


def found() -> dict[str, tuple[str, str]]:
    """What this process found out about mapped data sets, for other processes: they need not read them whole again.

    An entry holds as long as size, times and inode of the file are what they were.
    """
    return dict(_FOUND)


def learn(entries: Mapping[str, Iterable[str]]) -> None:
    """Take over what another process of this run has `found`."""
    for key, entry in entries.items():
        digest, dtype = entry
        _FOUND[key] = digest, dtype


def _ids(folder: Path, name: str) -> npt.NDArray[Any]:
    path = folder / f"{name}.npy"
    if path.parent != folder or not path.is_file():
        held = sorted(each.stem for each in folder.glob("*.npy") if each.name not in _PARTS)
        raise DataError(lacks_ids(str(folder), name, held))
    return np.array(open_map(path))


def _class_names(path: Path, classes: int) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no text in UTF-8; write the name of one class a line, or delete it.") from None
    if len(names) != classes:
        raise DataError(f"{path}: names {len(names)} classes, and y holds {classes}: give each its own line.")
    if not all(name.strip() for name in names):
        raise DataError(f"{path}: a line is empty: write the name of one class a line, or delete it.")
    if same := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path}: names the class '{same[0]}' twice: give each class its own name.")
    return tuple(names)
