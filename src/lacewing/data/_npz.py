"""A user's own data: the arrays ``x`` and ``y`` of an .npz or of a function, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset, Inputs, Labels, make_dataset
from lacewing.data._groups import NO_ID
from lacewing.data._suspect import notes_on_array
from lacewing.errors import DataError, UsageError
from lacewing.support.formats import array_names, read_arrays
from lacewing.support.mapped import Mapped, Stored, blocks

_CHANNELS = (1, 3, 4)
_SAVE = "write it with numpy.savez_compressed(path, x=x, y=y)"


def read_npz(path: Path, name: str | None = None, groups: Iterable[str] = ()) -> Dataset:
    """The data set in ``path``; its name is the file's (no folder), unless ``name`` is given.

    ``x``: (N, D); (N, H, W), which becomes (N, 1, H, W); (N, C, H, W) with C in 1, 3, 4; or (N, H, W, C) when it can
    be nothing else. Integers in 0..255 (and booleans) become uint8, all other numbers float32. ``y``: (N,) integers
    0..K-1, each class present. ``groups`` names further arrays to read: (N,) integers or words, which are ids. Raises
    DataError, which names the file, the array and the mend.
    """
    arrays = _arrays(path, tuple(groups))
    return checked(arrays.pop("x"), arrays.pop("y"), str(path), name or path.name, arrays)


def checked(
    x: Stored,
    y: npt.NDArray[Any],
    where: str,
    name: str,
    groups: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    notes: tuple[str, ...] | None = None,
) -> Dataset:
    """The data set of these arrays, which are checked and brought into form as `read_npz` says.

    ``where`` says where they are from, and begins the sentence of each DataError. Records in a file stay there; they
    have their layout already. Without ``notes`` the columns of records (N, D) in memory are looked at for them.
    """
    labels = labels_of(y, where)
    inputs = numbers(x if isinstance(x, Mapped) else layout(x, where), where)
    if len(inputs) != len(labels):
        raise DataError(f"{where}: x holds {len(inputs)} records and y {len(labels)} labels: they must be as many.")
    first = inputs[0]
    if np.array_equal(first, inputs[-1]) and all((block == first).all() for block in blocks(inputs)):
        raise DataError(f"{where}: all {len(inputs)} records of x are the same: was x rounded, or left unfilled?")
    if notes is None:
        notes = notes_on_array(x, labels) if isinstance(x, np.ndarray) and x.ndim == 2 else ()
    made = make_dataset(name, inputs, labels, int(labels.max()) + 1)
    ids = {each: ids_of(values, len(made), where, each) for each, values in groups.items()}
    return replace(made, groups=ids, notes=notes)


def ids_of(ids: npt.NDArray[Any], records: int, where: str, name: str) -> npt.NDArray[Any]:
    """An array of ids, one a record. Raises DataError."""
    if ids.dtype.kind not in "iuSU":
        raise DataError(
            f"{where}: {name} has dtype {ids.dtype}, but ids of groups must be whole numbers or words: "
            f"{name}.astype('int64') or {name}.astype('str') if they are."
        )
    if ids.shape != (records,):
        raise DataError(f"{where}: {name} has shape {ids.shape}: give one id a record, shape ({records},).")
    if ids.dtype.kind in "SU":
        words = np.char.decode(ids, "latin-1") if ids.dtype.kind == "S" else ids
        stripped = np.char.strip(words)
        lost = np.isin(np.char.lower(stripped), NO_ID)
        if lost.any():
            raise DataError(
                f"{where}: {name} holds {str(stripped[lost][0])!r} as the id of {lost.sum()} records, which would be "
                "one group: give each of these records its own id, or drop them."
            )
        if len(np.unique(stripped)) < len(np.unique(words)):
            raise DataError(f"{where}: {name} holds ids that differ in spaces alone: {name} = np.char.strip({name}).")
    return ids


def _arrays(path: Path, groups: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; data.dataset takes the path of an .npz with x and y.")
    try:
        names = array_names(path)
        missing = [key for key in ("x", "y") if key not in names]
        if missing:
            found = ", ".join(names) or "nothing"
            raise DataError(f"{path}: lacks the array {' and '.join(missing)} (it holds {found}); {_SAVE}.")
        for name in groups:
            if name not in names:
                raise DataError(lacks_ids(str(path), name, (each for each in names if each not in ("x", "y"))))
        return read_arrays(path, only=("x", "y", *groups))
    except DataError:
        raise
    except UsageError as error:
        raise DataError(str(error)) from None


def lacks_ids(where: str, name: str, held: Iterable[str]) -> str:
    """The sentence for a study whose data.groups names no array of its data set."""
    found = ", ".join(held) or "none"
    return (
        f"data.groups: {where} has no array '{name}' beside x and y (others: {found}); name one of them, or give "
        '"duplicates" to keep records of equal x together.'
    )


def numbers(x: Stored, where: str) -> Inputs:
    """Records (N, ...) as uint8 or float32, see `read_npz`. Raises DataError."""
    if x.dtype.kind not in "buif":
        raise DataError(f"{where}: x has dtype {x.dtype}, which is not one of real numbers: convert it to float32.")
    if x.size == 0:
        raise DataError(f"{where}: x is empty (shape {x.shape}): it must hold at least one record with one feature.")
    if _are_bytes(x):
        return x.astype(np.uint8, copy=False)
    if x.dtype.kind == "f":
        bad = [start + np.unique(np.nonzero(~np.isfinite(block))[0]) for start, block in _numbered(x)]
        if lost := sum(map(len, bad)):
            raise DataError(
                f"{where}: x holds NaN or Inf in {lost} of {len(x)} records (the first is record "
                f"{np.concatenate(bad)[0]}): drop those records or fill in their values."
            )
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        largest = max(float(np.abs(block).max()) for block in blocks(x))
        with np.errstate(over="ignore"):  # what is too large becomes Inf
            if not np.isfinite(np.float32(largest)):
                raise DataError(f"{where}: x holds values beyond float32 (largest {largest:g}): rescale its features.")
    return x.astype(np.float32, copy=False)


def _are_bytes(x: Stored) -> bool:
    """Whether all numbers are whole and in 0 to 255."""
    if x.dtype.kind not in "bui" or x.dtype in (np.bool_, np.uint8):
        return x.dtype.kind in "bui"
    return all(block.min() >= 0 and block.max() <= 255 for block in blocks(x))


def _numbered(x: Stored) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The records in blocks, each with the place of its first."""
    start = 0
    for block in blocks(x):
        yield start, block
        start += len(block)


def layout(x: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """The array as records (N, D) or (N, C, H, W), see `read_npz`. Raises DataError."""
    if x.ndim == 2:
        return x
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[1] in _CHANNELS:
        return x
    if x.ndim == 4 and x.shape[3] in _CHANNELS:
        return x.transpose(0, 3, 1, 2)
    raise DataError(
        f"{where}: x has shape {x.shape}, which is none of (N, D), (N, H, W), (N, C, H, W) and (N, H, W, C) with C in "
        "1, 3, 4: reshape it."
    )


def labels_of(y: npt.NDArray[Any], where: str) -> Labels:
    """Labels (N,) as int64, see `read_npz`. Raises DataError."""
    if y.ndim != 1:
        raise DataError(
            f"{where}: y has shape {y.shape}, but labels must be one integer a record, shape (N,): "
            "y.argmax(axis=1) if they are one-hot, y.ravel() if it is a column."
        )
    if y.dtype.kind in "SU":
        raise DataError(
            f"{where}: y holds words, but labels must be integers: y = np.unique(y, return_inverse=True)[1] numbers "
            "them."
        )
    if y.dtype.kind not in "ui":
        raise DataError(f"{where}: y has dtype {y.dtype}, but labels must be integers: y.astype('int64') if they are.")
    found = np.unique(y)
    if len(found) < 2:
        raise DataError(f"{where}: y holds {len(found)} class(es): at least 2 are needed.")
    if found[0] != 0 or found[-1] != len(found) - 1:
        raise DataError(
            f"{where}: y: labels must be 0..K-1; found {len(found)} different values in {found[0]}..{found[-1]}: "
            "y = np.unique(y, return_inverse=True)[1] renumbers them."
        )
    if 2 * len(found) > len(y):
        raise DataError(
            f"{where}: y: {len(found)} classes of {len(y)} records: y must hold each record's class, not its number."
        )
    return y.astype(np.int64)
