"""CINIC-10 (Darlow et al. 2018) from its folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lacewing.data import _names
from lacewing.data._dataset import Labels, Pixels
from lacewing.data._images import find, pixels
from lacewing.errors import DataError

PARTS = ("train", "valid", "test")
EACH = 9_000  # images of a class in a part


def read_cinic10(root: Path) -> tuple[Pixels, Labels]:
    """Images (270,000, 3, 32, 32) uint8 and labels (N,) int64 by part (train, valid, test), class and name.

    The folders train, valid and test are in ``root`` or in ``CINIC-10`` there. Their publisher states no digest of the
    records, so that counts, classes and the size of every image are checked. Raises DataError.
    """
    place = next((each for each in (root / "CINIC-10", root) if all((each / part).is_dir() for part in PARTS)), None)
    if place is None:
        raise DataError(
            f"cinic10: not found in {root}: put the folders {', '.join(PARTS)} into {root / 'CINIC-10'}, or name where "
            "that is with --data-root; `lacewing data fetch cinic10` gets CINIC-10.tar.gz, to be unpacked with "
            f"`mkdir {root / 'CINIC-10'}; tar -xzf {root / 'CINIC-10.tar.gz'} -C {root / 'CINIC-10'}`."
        )
    files = find(place, PARTS)
    counts = np.bincount(files.y, minlength=len(files.classes))
    if files.classes != _names.CIFAR10 or (counts != EACH * len(PARTS)).any():
        raise DataError(
            f"{place}: holds {len(files.paths):,} images of {len(files.classes)} classes, and CINIC-10 has {EACH:,} of "
            f"each of {', '.join(_names.CIFAR10)} in each of {', '.join(PARTS)}: unpack it again."
        )
    x = pixels(place, files, mode="RGB")
    if x.shape[1:] != (3, 32, 32):
        raise DataError(f"{place}: images are {x.shape[3]} x {x.shape[2]}, and those of CINIC-10 32 x 32.")
    return x, files.y
