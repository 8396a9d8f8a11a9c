"""Purchase-100 and Texas-100, in the forms in which people have them; neither has an official download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Labels
from lacewing.errors import DataError, UsageError
from lacewing.support.formats import array_names, read_arrays

CLASSES = 100
_NAMES = (("features", "labels"), ("x", "y"))  # of arrays


@dataclass(frozen=True)
class Form:
    """A data set of records of 0 and 1: its size, and where its files may lie under the data root."""

    name: str
    records: int
    features: int
    texts: tuple[tuple[str, ...], ...]  # a file, label first, or those of features and of labels

    @property
    def places(self) -> str:
        """The files, for messages."""
        return " or ".join([f"{self.name}.npz", *(" with ".join(files) for files in self.texts)])


PURCHASE = Form("purchase100", 197_324, 600, (("dataset_purchase",), ("dataset_purchase.csv",), ("purchase100.csv",)))
TEXAS = Form("texas100", 67_330, 6_169, (("texas/100/feats", "texas/100/labels"), ("feats", "labels")))


def read_hundred(form: Form, root: Path) -> tuple[npt.NDArray[np.uint8], Labels]:
    """x (N, D) uint8 of 0 and 1, and y (N,) in 0..99.

    From ``root``, or a folder in it of the data set's name: the .npz of Jia et al. (MemGuard) and others, arrays
    ``features`` and ``labels``, or x and y, with labels one-hot or as numbers; or the text files of Shokri et al.,
    separated by commas, with labels 1 to 100.

    Raises:
        DataError: there is no such file, or it has another shape, other values than 0 and 1, or not 100 classes.
    """
    for folder in (root, root / form.name):
        archive = folder / f"{form.name}.npz"
        if archive.is_file():
            return _checked(form, *_arrays(archive), str(archive))
        for names in form.texts:
            files = [folder / name for name in names]
            if all(file.is_file() for file in files):
                x, y = _texts(files, form)
                return _checked(form, x, y, str(files[0]))
    raise DataError(
        f"{form.name}: not found: put {form.places} into {root}, or name its folder with --data-root; it has no "
        f"official download, so `lacewing data fetch {form.name}` cannot get it."
    )


def _arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        there = array_names(path)
        found = [names for names in _NAMES if set(names) <= {*there}]
        if not found:
            raise DataError(f"{path}: lacks the arrays features and labels, or x and y (it holds {', '.join(there)}).")
        arrays = read_arrays(path, only=found[0])
    except DataError:
        raise
    except UsageError as error:
        raise DataError(str(error)) from None
    x, y = (arrays[name] for name in found[0])
    return x, y


def _texts(files: Sequence[Path], form: Form) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    arrays = []
    for file in files:
        try:
            arrays.append(np.loadtxt(file, np.uint8, delimiter=",", comments=None, ndmin=2))
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: is no table of whole numbers separated by commas ({error}).") from None
    if len(arrays) == 1:
        (both,) = arrays
        return both[:, 1:], both[:, 0]
    return arrays[0], arrays[1].ravel()


def _checked(form: Form, x: npt.NDArray[Any], y: npt.NDArray[Any], where: str) -> tuple[npt.NDArray[np.uint8], Labels]:
    if x.shape != (form.records, form.features):
        raise DataError(
            f"{where}: {form.name} has {form.records:,} records of {form.features:,} features, and the file {x.shape}: "
            f"get an unaltered one, or give its path as data.dataset to use it as data of your own."
        )
    if not ((x == 0) | (x == 1)).all():
        raise DataError(f"{where}: {form.name} holds features that are neither 0 nor 1: get an unaltered file.")
    if y.ndim == 2 and y.shape == (form.records, CLASSES) and (np.count_nonzero(y, axis=1) == 1).all():
        y = y.argmax(axis=1)
    y = y.reshape(-1) if y.shape == (form.records, 1) else y
    found = np.unique(y)
    if (
        y.shape != (form.records,)
        or len(found) != CLASSES
        or found[-1] - found[0] != CLASSES - 1
        or found[0] not in (0, 1)
        or (found != np.floor(found)).any()
    ):
        raise DataError(
            f"{where}: {form.name} has labels of shape {y.shape} with {len(found)} values, and must have one of the "
            f"{CLASSES} classes a record, 1 to {CLASSES}, from 0, or one-hot: get an unaltered file."
        )
    return x.astype(np.uint8), (y - found[0]).astype(np.int64)
