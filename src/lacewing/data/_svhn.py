"""SVHN (Netzer et al. 2011), cropped digits, from its official .mat files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lacewing.data._bytes import read_limited, verify
from lacewing.data._dataset import Labels, Pixels
from lacewing.errors import DataError


class Part(NamedTuple):
    """One official file of so many images. The publisher states no checksum; these are torchvision's."""

    name: str
    images: int
    size: int
    md5: str


PARTS = (
    Part("train_32x32.mat", 73_257, 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    Part("test_32x32.mat", 26_032, 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
)


def read_svhn(root: Path, mend: str) -> tuple[Pixels, Labels]:
    """Images (99,289, 3, 32, 32) uint8 and digits (N,) int64, train then test; label 10 of the files is the digit 0.

    The files are in ``root`` or in a folder ``svhn`` or ``SVHN`` there. Nothing of a file is decoded before its size
    and checksum are right. Raises DataError for missing, truncated or altered files.
    """
    from scipy.io import loadmat  # slow to import

    names = [part.name for part in PARTS]
    places = [root, root / "svhn", root / "SVHN"]
    place = next((each for each in places if all((each / name).is_file() for name in names)), None)
    if place is None:
        raise DataError(
            f"svhn: not found in {root}: put {' and '.join(names)} there, or name where they are with --data-root, or "
            "run `lacewing data fetch svhn`."
        )
    images, digits = [], []
    for part in PARTS:
        path = place / part.name
        with path.open("rb") as stream:
            content = read_limited(stream, part.size, str(path), mend)
        verify(content, str(path), mend, size=part.size, checksum=f"md5:{part.md5}")
        found = loadmat(io.BytesIO(content))
        x, y = found["X"], found["y"]  # (height, width, channel, N), (N, 1) with labels 1 to 10
        if x.shape != (32, 32, 3, part.images) or x.dtype != np.uint8 or y.shape != (part.images, 1):
            raise DataError(f"{path}: X has shape {x.shape} and y {y.shape}, which are not those of SVHN; {mend}")
        images.append(np.ascontiguousarray(x.transpose(3, 2, 0, 1)))
        digits.append(y[:, 0].astype(np.int64) % 10)
    return np.concatenate(images), np.concatenate(digits)
