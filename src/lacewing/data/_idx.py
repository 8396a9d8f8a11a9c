"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) from its four IDX files, compressed or not."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lacewing.data._bytes import read_maybe_gz, verify
from lacewing.data._dataset import Inputs, Labels
from lacewing.errors import DataError

FOLDERS = ("", "FashionMNIST/raw", "fashion-mnist")  # under the data root, in this order


class IdxFile(NamedTuple):
    """An IDX file of unsigned bytes: its name without .gz, its shape, its checksum uncompressed where known."""

    name: str
    shape: tuple[int, ...]
    checksum: str | None = None


FASHION_MNIST = (  # images and labels, train then test
    IdxFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    IdxFile(
        "train-labels-idx1-ubyte", (60_000,), "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte", (10_000,), "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
)


def read_fashion_mnist(root: Path, mend: str, files: tuple[IdxFile, ...] = FASHION_MNIST) -> tuple[Inputs, Labels]:
    """Images (N, 1, H, W) uint8 and labels (N,) int64, train then test, in file order.

    The first of ``FOLDERS`` under ``root`` that holds all four files is read; a file and its .gz are the same.
    Raises DataError for missing, truncated or altered files.
    """
    train_x, train_y, test_x, test_y = (read_idx(path, file, mend) for path, file in _find(root, files))
    images = np.concatenate([train_x, test_x])
    return images[:, None], np.concatenate([train_y, test_y]).astype(np.int64)


def read_idx(path: Path, file: IdxFile, mend: str) -> Inputs:
    """The array of unsigned bytes in an IDX file (LeCun's format: magic, sizes, then the bytes), .gz or not."""
    head = struct.pack(f">{1 + len(file.shape)}I", 0x0800 + len(file.shape), *file.shape)
    size = len(head) + int(np.prod(file.shape))
    data = read_maybe_gz(path, size + 100_000, mend)
    verify(data, str(path), mend, size=size, checksum=file.checksum)
    if not data.startswith(head):
        raise DataError(f"{path}: is altered (its header is not that of {file.shape} unsigned bytes); {mend}")
    return np.frombuffer(data, np.uint8, offset=len(head)).reshape(file.shape)


def _find(root: Path, files: tuple[IdxFile, ...]) -> list[tuple[Path, IdxFile]]:
    partial = ""
    for folder in (root / name for name in FOLDERS):
        found: list[tuple[Path, IdxFile]] = []
        for file in files:
            either = (folder / file.name, folder / f"{file.name}.gz")
            found.extend([(path, file) for path in either if path.is_file()][:1])
        if len(found) == len(files):
            return found
        if found:
            held = {file.name for _, file in found}
            partial = f" ({folder} lacks {', '.join(file.name for file in files if file.name not in held)})"
    raise DataError(
        f"fashion-mnist: not found in {root}{partial}: put {', '.join(file.name for file in files)} (each as it is or "
        f"as .gz) into {root / FOLDERS[1]}, or name where they are with --data-root, or run "
        "`lacewing data fetch fashion-mnist`."
    )
