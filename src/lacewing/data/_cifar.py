"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their official files, binary or python, folder or tar.gz."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lacewing.data._bytes import read_limited, verify
from lacewing.data._dataset import Inputs, Labels
from lacewing.data._pickles import load_plain
from lacewing.errors import DataError

PIXELS = 3 * 32 * 32  # red, green and blue planes


@dataclass(frozen=True)
class Batch:
    """One official file of ``count`` images: its names in the two layouts, and its checksums where known."""

    binary: str
    python: str
    count: int
    binary_sum: str | None = None
    python_sum: str | None = None


@dataclass(frozen=True)
class Files:
    """What the publisher ships. ``labels``: the label bytes that open a binary row, under their python names."""

    name: str
    binary_folder: str
    binary_tar: str
    python_folder: str
    python_tar: str
    labels: tuple[str, ...]
    batches: tuple[Batch, ...]


CIFAR10 = Files(
    "cifar10",
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    ("labels",),
    tuple(
        Batch(f"{stem}.bin", stem, 10_000, f"sha1:{sha1}", f"md5:{md5}")
        for stem, sha1, md5 in (
            ("data_batch_1", "aadd24acce27caa71bf4b10992e9e7b2d74c2540", "c99cafc152244af753f735de768cd75f"),
            ("data_batch_2", "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795", "d4bba439e000b95fd0a9bffe97cbabec"),
            ("data_batch_3", "1dd00a74ab1d17a6e7d73e185b69dbf31242f295", "54ebc095f3ab1f0389bbae665268c751"),
            ("data_batch_4", "aab85764eb3584312d3c7f65fd2fd016e36a258e", "634d18415352ddfa80567beed471001a"),
            ("data_batch_5", "26e2849e66a845b7f1e4614ae70f4889ae604628", "482c414d41f54cd18b22e5b47cb7c3cb"),
            ("test_batch", "67eb016db431130d61cd03c7ad570b013799c88c", "40351d587109b95175f43aff81a1287e"),
        )
    ),
)
CIFAR100 = Files(
    "cifar100",
    "cifar-100-binary",
    "cifar-100-binary.tar.gz",
    "cifar-100-python",
    "cifar-100-python.tar.gz",
    ("coarse_labels", "fine_labels"),
    (
        Batch(
            "train.bin",
            "train",
            50_000,
            "sha1:e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
            "md5:16019d7e3df5f24257cddd939b257f8d",
        ),
        Batch(
            "test.bin",
            "test",
            10_000,
            "sha1:8fb6623e830365ff53cf14adec797474f5478006",
            "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
        ),
    ),
)


def read_cifar(files: Files, root: Path, labels: str, mend: str) -> tuple[Inputs, Labels]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64, train then test, in file order, whatever the layout.

    The first complete layout found is read: binary folder, python folder (each also when ``root`` is that folder),
    binary tar.gz, python tar.gz (members are read in memory, never extracted). ``labels`` is a name out of
    ``files.labels``. Raises DataError for missing, truncated or altered files.
    """
    place, binary = _find(files, root, mend)
    total = sum(batch.count for batch in files.batches)
    x, y = np.empty((total, PIXELS), np.uint8), np.empty(total, np.int64)
    starts = np.cumsum([0, *(batch.count for batch in files.batches)])
    row = len(files.labels) + PIXELS
    for index, data, where in _contents(files, place, binary, mend):
        batch, part = files.batches[index], slice(starts[index], starts[index + 1])
        if binary:
            verify(data, where, mend, size=batch.count * row, checksum=batch.binary_sum)
            rows = np.frombuffer(data, np.uint8).reshape(batch.count, row)
            x[part], y[part] = rows[:, len(files.labels) :], rows[:, files.labels.index(labels)]
        else:
            verify(data, where, mend, checksum=batch.python_sum)
            x[part], y[part] = _from_pickle(data, batch.count, labels, where, mend)
    return x.reshape(total, 3, 32, 32), y


def _find(files: Files, root: Path, mend: str) -> tuple[Path, bool]:
    """The first complete layout under ``root``: a folder or an archive, and whether it is the binary one."""
    incomplete = ""
    for folder, binary in (
        (root, True),
        (root, False),
        (root / files.binary_folder, True),
        (root / files.python_folder, False),
    ):
        wanted = [batch.binary if binary else batch.python for batch in files.batches]
        missing = [name for name in wanted if not (folder / name).is_file()]
        if not missing:
            return folder, binary
        if folder != root and folder.is_dir():
            incomplete = f" ({folder} lacks {', '.join(missing)})"
    for archive, binary in ((root / files.binary_tar, True), (root / files.python_tar, False)):
        if archive.is_file():
            return archive, binary
    raise DataError(
        f"{files.name}: not found in {root}{incomplete}: put {files.binary_tar} or {files.python_tar}, or the folder "
        f"{files.binary_folder} or {files.python_folder} that they hold, there, or name where it is with --data-root, "
        f"or run `lacewing data fetch {files.name}`."
    )


def _contents(files: Files, place: Path, binary: bool, mend: str) -> Iterator[tuple[int, bytes, str]]:
    """Index of the batch, bytes and printable place of each official file, in the order they are stored."""
    names = [batch.binary if binary else batch.python for batch in files.batches]
    # A pickle holds file names and labels beside the pixels, and never as much again.
    limits = [batch.count * (PIXELS + len(files.labels)) * (1 if binary else 2) + 100_000 for batch in files.batches]
    if place.is_dir():
        for index, (name, limit) in enumerate(zip(names, limits, strict=True)):
            path = place / name
            with path.open("rb") as stream:
                yield index, read_limited(stream, limit, str(path), mend), str(path)
        return
    folder, total = files.binary_folder if binary else files.python_folder, 0
    waiting = {f"{folder}/{name}": index for index, name in enumerate(names)}
    try:
        with tarfile.open(place, "r:gz") as tar:
            for member in tar:
                total += member.size
                if total > 2 * sum(limits):
                    raise DataError(f"{place}: is altered (larger than the official archive); {mend}")
                index = waiting.pop(member.name.removeprefix("./"), -1) if member.isreg() else -1
                stream_or_none = tar.extractfile(member) if index >= 0 else None
                if stream_or_none is not None:
                    where = f"{place}: {member.name}"
                    with stream_or_none as stream:
                        yield index, read_limited(stream, limits[index], where, mend), where
                if not waiting:
                    return
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{place}: is truncated or altered ({error}); {mend}") from None
    raise DataError(f"{place}: is truncated or altered (it lacks {', '.join(waiting)}); {mend}")


def _from_pickle(data: bytes, count: int, labels: str, where: str, mend: str) -> tuple[Inputs, Labels]:
    content = load_plain(data, where, mend)
    pixels, numbers = _item(content, "data", where, mend), _item(content, labels, where, mend)
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (count, PIXELS)):
        raise DataError(f"{where}: 'data' is not an array of {count} x {PIXELS} bytes; {mend}")
    if not (isinstance(numbers, list) and len(numbers) == count and all(type(n) is int for n in numbers)):
        raise DataError(f"{where}: '{labels}' is not a list of {count} integers; {mend}")
    return pixels, np.array(numbers, np.int64)


def _item(content: Any, key: str, where: str, mend: str) -> Any:
    """``content[key]``, where the key may be text or, as Python 2 wrote it, bytes."""
    if isinstance(content, dict):
        for spelt in (key.encode(), key):
            if spelt in content:
                return content[spelt]
    raise DataError(f"{where}: the pickle holds no '{key}'; {mend}")
