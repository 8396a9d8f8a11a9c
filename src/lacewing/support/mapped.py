"""Records in a .npy file that is larger than memory: read when they are asked for, from pages that processes share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import DataError
from lacewing.support.files import is_settled

Array = npt.NDArray[Any]
Layout = Callable[[Array], Array]

_BLOCK = 1 << 22  # bytes of records that are read together


class Mapped:
    """N records of a .npy file, indexed like an array; each indexing reads them into a new array.

    Nothing is held but the places of the records, so that memory stays flat. What would need all of them at once, such
    as ``numpy.asarray``, is refused.

    Args:
        path: the file.
        layout: a function of a module that brings the array of the file into the form (N, ...) of records, as a view.
        dtype: of the records as they are read; None: that of the file.
        rows: (N,) which records of the file these are; None: all.

    Raises:
        DataError: the file is gone, or is no .npy of numbers in the order of C.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        dtype: npt.DTypeLike | None = None,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.path, self.layout, self.rows = path, layout, rows
        self.signature = signature(path)
        self._view = layout(open_map(path))
        self.dtype: np.dtype[Any] = self._view.dtype if dtype is None else np.dtype(dtype)
        self.shape: tuple[int, ...] = (len(self._view) if rows is None else len(rows), *self._view.shape[1:])

    @property
    def ndim(self) -> int:
        """Dimensions, N among them."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all records, were they read."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        """The records that ``rows`` (a number, indices, flags or a slice) picks, read and contiguous."""
        chosen = self._view[rows if self.rows is None else self.rows[rows]]
        if chosen.flags.owndata:  # of indices and flags: it was read just now
            return np.ascontiguousarray(chosen, self.dtype)
        return np.array(chosen, self.dtype, order="C")

    def at(self, rows: Any) -> Mapped:
        """The records that ``rows`` (indices, flags or a slice) picks, not read yet."""
        own = np.arange(len(self)) if self.rows is None else self.rows
        return Mapped(self.path, self.layout, self.dtype, own[rows])

    def astype(self, dtype: npt.DTypeLike, copy: bool = False) -> Mapped:
        """The same records, read as numbers of another type."""
        return Mapped(self.path, self.layout, dtype, self.rows)

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError(f"the records of {self.path} are read in parts, and not all at once")

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"the records of {self.path} are not copied to other processes; give these the path")

    def changed(self) -> bool:
        """Whether the file is not the one that was opened, by its size, time and inode."""
        try:
            return signature(self.path)[:3] != self.signature[:3]
        except DataError:
            return True


Stored = Array | Mapped


def open_map(path: Path) -> Array:
    """The array of a .npy file, mapped for reading. Raises DataError, see `Mapped`."""
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, SyntaxError, TypeError) as error:  # no .npy, objects, or fewer bytes than it claims
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(
            f"{path}: is no complete .npy file of numbers ({said}); write it with "
            "numpy.save(path, x), x an array of numbers."
        ) from None
    held, claimed = path.stat().st_size, int(found.offset) + found.nbytes
    if held != claimed:
        raise DataError(
            f"{path}: holds {held:,} bytes, and its array of shape {found.shape} {claimed:,}; write it with "
            "numpy.save(path, x), once."
        )
    if found.ndim > 1 and not found.flags.c_contiguous:
        raise DataError(
            f"{path}: is in Fortran's order, in which records are scattered; write it with numpy.save(path, "
            "numpy.ascontiguousarray(x))."
        )
    return np.asarray(found)


def signature(path: Path) -> tuple[int, ...]:
    """Size, time of change in nanoseconds, inode and its time of change: what is new once a file is written again.

    Raises:
        DataError: there is no such file.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file.") from None
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def settled(sign: tuple[int, ...]) -> bool:
    """Whether a further change would alter this signature, since clocks of file systems tick rarely."""
    return is_settled(sign[1], sign[3])


def take(x: Stored, rows: Any) -> Stored:
    """The records that ``rows`` (indices, flags or a slice) picks; those of a file are not read yet."""
    return x.at(rows) if isinstance(x, Mapped) else x[rows]


def blocks(x: Stored, size: int | None = None) -> Iterator[Array]:
    """The records in order, ``size`` at a time (None: about 4 MB), as arrays."""
    each = max(1, x.nbytes // max(1, len(x)))
    step = size or max(1, _BLOCK // each)
    for start in range(0, len(x), step):
        yield x[start : start + step]


def held_bytes(x: Stored) -> int:
    """What the records take of a process's own memory: nothing where they stay in a file."""
    return 0 if isinstance(x, Mapped) else int(x.nbytes)
