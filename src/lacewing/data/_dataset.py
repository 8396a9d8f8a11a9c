"""A data set in memory, and the digest that identifies its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.support.mapped import Mapped, Stored, blocks

Pixels = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.uint8 | np.int32 | np.float32] | Mapped
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All records of a data set, N of them.

    ``x`` is (N, C, H, W) for images or (N, D) for tabular data, uint8 or float32, or token ids (N, T), int32; in memory
    or left in its file (`Mapped`). ``y`` is (N,) int64 in 0..classes-1; ``digest`` is the SHA-256 (hexadecimal) of
    dtype, shape and bytes of both. ``groups`` has by name arrays (N,) of whole numbers or words that say whose each
    record is: ids of patients, users, near-duplicates. ``declared``: its records are not here, and a study of it can be
    planned alone. ``columns`` has by name of a table's column its places in the second axis of ``x``, several of a
    category. ``values`` has by name of such a category its values, in the order of their places; None: missing ones.
    ``notes``: what a person should know of it, a sentence or two each.
    """

    name: str
    x: Inputs
    y: Labels
    classes: int
    class_names: tuple[str, ...] | None
    digest: str
    groups: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    declared: bool = False
    columns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record, e.g. (3, 32, 32)."""
        return self.x.shape[1:]

    def __len__(self) -> int:
        return len(self.y)


def make_dataset(
    name: str, x: Inputs, y: npt.NDArray[np.integer[Any]], classes: int, class_names: tuple[str, ...] | None = None
) -> Dataset:
    """The data set with labels as int64, arrays contiguous, and its digest derived from them."""
    x = x if isinstance(x, Mapped) else np.ascontiguousarray(x)
    labels = np.ascontiguousarray(y, dtype=np.int64)
    return Dataset(name, x, labels, classes, class_names, digest_of(x, labels))


def digest_of(*arrays: Stored) -> str:
    """SHA-256 (hexadecimal) over dtype, shape and bytes of the arrays, the same on every machine, held or mapped."""
    sha = hashlib.sha256()
    for array in arrays:
        little = array.dtype.newbyteorder("<")
        sha.update(f"{little.str} {array.shape}\n".encode())
        for block in blocks(array) if isinstance(array, Mapped) else (array,):
            sha.update(np.ascontiguousarray(block, dtype=little).data)
    return sha.hexdigest()
