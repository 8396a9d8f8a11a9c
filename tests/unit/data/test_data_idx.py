"""Fashion-MNIST's IDX files: every place and compression gives the same arrays; broken ones are named."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from lacewing.data._idx import FASHION_MNIST, FOLDERS, IdxFile, read_fashion_mnist
from lacewing.errors import DataError

RNG = np.random.default_rng(3)
SMALL = tuple(
    IdxFile(file.name, (size, 5, 4) if len(file.shape) == 3 else (size,))
    for file, size in zip(FASHION_MNIST, (7, 7, 3, 3), strict=True)
)
ARRAYS = [RNG.integers(10, size=file.shape, dtype=np.uint8) for file in SMALL]


def encoded(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def write(folder: Path, gz: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(SMALL, ARRAYS, strict=True):
        if gz:
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(encoded(array)))
        else:
            (folder / file.name).write_bytes(encoded(array))


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("gz", [True, False])
def test_every_place_and_compression_is_read(tmp_path: Path, folder: str, gz: bool) -> None:
    write(tmp_path / folder, gz)
    x, y = read_fashion_mnist(tmp_path, "mend", SMALL)
    np.testing.assert_array_equal(x, np.concatenate([ARRAYS[0], ARRAYS[2]])[:, None])
    np.testing.assert_array_equal(y, np.concatenate([ARRAYS[1], ARRAYS[3]]))
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)


def test_missing_files_are_named_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images.*t10k-labels.*--data-root.*lacewing data fetch fashion-mnist"):
        read_fashion_mnist(tmp_path, "mend", SMALL)
    write(tmp_path / "FashionMNIST/raw", True)
    (tmp_path / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"raw lacks t10k-labels-idx1-ubyte\)"):
        read_fashion_mnist(tmp_path, "mend", SMALL)


def test_broken_files_are_named(tmp_path: Path) -> None:
    name = SMALL[0].name
    whole = encoded(ARRAYS[0])
    for data in (whole[:-1], whole + b"\0", b"", bytes([0, 0, 9]) + whole[3:]):
        write(tmp_path, False)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: is (truncated|altered) .*mend"):
            read_fashion_mnist(tmp_path, "mend", SMALL)
    (tmp_path / name).unlink()
    for data in (gzip.compress(whole)[:-9], gzip.compress(whole)[:-4] + b"abcd", b"no gzip"):
        (tmp_path / f"{name}.gz").write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}\.gz: is truncated or altered .*mend"):
            read_fashion_mnist(tmp_path, "mend", SMALL)


def test_an_altered_byte_fails_the_checksum(tmp_path: Path) -> None:
    write(tmp_path, True)
    strict = (SMALL[0]._replace(checksum="sha256:" + 64 * "0"), *SMALL[1:])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: is truncated or altered \(SHA256"):
        read_fashion_mnist(tmp_path, "mend", strict)


def test_a_bomb_is_not_decompressed(tmp_path: Path) -> None:
    write(tmp_path, True)
    (tmp_path / f"{SMALL[1].name}.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(DataError, match=r"train-labels.*too large"):
        read_fashion_mnist(tmp_path, "mend", SMALL)
