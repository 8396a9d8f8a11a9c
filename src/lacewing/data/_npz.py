"""A user's own data: the arrays ``x`` and ``y`` of an .npz or of a function, checked before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset, Inputs, Labels, make_dataset
from lacewing.errors import DataError, UsageError
from lacewing.support.formats import array_names, read_arrays

_CHANNELS = (1, 3, 4)
_SAVE = "write it with numpy.savez_compressed(path, x=x, y=y)"


def read_npz(path: Path, name: str | None = None) -> Dataset:
    """The data set in ``path``; its name is the file's (no folder), unless ``name`` is given.

    ``x``: (N, D); (N, H, W), which becomes (N, 1, H, W); (N, C, H, W) with C in 1, 3, 4; or (N, H, W, C) when it can
    be nothing else. Integers in 0..255 (and booleans) become uint8, all other numbers float32. ``y``: (N,) integers
    0..K-1, each class present. Raises DataError, which names the file, the array and the mend.
    """
    x, y = _arrays(path)
    return checked(x, y, str(path), name or path.name)


def checked(x: npt.NDArray[Any], y: npt.NDArray[Any], where: str, name: str) -> Dataset:
    """The data set of two arrays, which are checked and brought into form as `read_npz` says.

    ``where`` says where they are from, and begins the sentence of each DataError.
    """
    labels = _labels(y, where)
    inputs = _numbers(_layout(x, where), where)
    if len(inputs) != len(labels):
        raise DataError(f"{where}: x holds {len(inputs)} records and y {len(labels)} labels: they must be as many.")
    if np.array_equal(inputs[0], inputs[-1]) and (inputs == inputs[0]).all():
        raise DataError(f"{where}: all {len(inputs)} records of x are the same: was x rounded, or left unfilled?")
    return make_dataset(name, inputs, labels, int(labels.max()) + 1)


def _arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; data.dataset takes the path of an .npz with x and y.")
    try:
        names = array_names(path)
        missing = [key for key in ("x", "y") if key not in names]
        if missing:
            found = ", ".join(names) or "nothing"
            raise DataError(f"{path}: lacks the array {' and '.join(missing)} (it holds {found}); {_SAVE}.")
        arrays = read_arrays(path, only=("x", "y"))
    except DataError:
        raise
    except UsageError as error:
        raise DataError(str(error)) from None
    return arrays["x"], arrays["y"]


def _numbers(x: npt.NDArray[Any], where: str) -> Inputs:
    if x.dtype.kind not in "buif":
        raise DataError(f"{where}: x has dtype {x.dtype}, which is not one of real numbers: convert it to float32.")
    if x.size == 0:
        raise DataError(f"{where}: x is empty (shape {x.shape}): it must hold at least one record with one feature.")
    if x.dtype.kind == "b" or (x.dtype.kind in "ui" and x.min() >= 0 and x.max() <= 255):
        return x.astype(np.uint8, copy=False)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = np.unique(np.nonzero(~np.isfinite(x))[0])
        raise DataError(
            f"{where}: x holds NaN or Inf in {len(bad)} of {len(x)} records (the first is record {bad[0]}): drop those "
            "records or fill in their values."
        )
    with np.errstate(over="ignore"):  # what is too large becomes Inf, and is reported below
        small = x.astype(np.float32, copy=False)
    if not np.isfinite(small).all():
        raise DataError(f"{where}: x holds values beyond float32 (largest {np.abs(x).max():g}): rescale its features.")
    return small


def _layout(x: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
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


def _labels(y: npt.NDArray[Any], where: str) -> Labels:
    if y.dtype.kind not in "ui":
        raise DataError(f"{where}: y has dtype {y.dtype}, but labels must be integers: y.astype('int64') if they are.")
    if y.ndim != 1:
        raise DataError(
            f"{where}: y has shape {y.shape}, but labels must be one integer a record, shape (N,): "
            "y.argmax(axis=1) if they are one-hot, y.ravel() if it is a column."
        )
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
