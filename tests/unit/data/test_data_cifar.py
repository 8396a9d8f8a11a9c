"""All layouts of CIFAR give the same arrays; what is broken is refused and named."""

import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lacewing.data._cifar import CIFAR10, CIFAR100, PIXELS, Files, read_cifar
from lacewing.data._dataset import digest_of
from lacewing.errors import DataError

MEND = "fetch it again."


def small(files: Files) -> Files:
    """The same layout with a few images a batch and no checksums."""
    batches = (replace(b, count=3 + i, binary_sum=None, python_sum=None) for i, b in enumerate(files.batches))
    return replace(files, batches=tuple(batches))


def content(files: Files) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels and labels (one column a kind) of each batch."""
    rng = np.random.default_rng(7)
    return [
        (
            rng.integers(256, size=(b.count, PIXELS), dtype=np.uint8),
            rng.integers(10, size=(b.count, len(files.labels)), dtype=np.uint8),
        )
        for b in files.batches
    ]


def python2_pickle(pixels: np.ndarray, labels: dict[str, np.ndarray]) -> bytes:
    """The opcodes that Python 2's cPickle (protocol 2) and numpy 1 wrote into the official files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def numbers(values: np.ndarray) -> bytes:
        return b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"e"

    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    dtype += b"K\x00tb"
    raw = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01"
    array += b"K" + bytes([len(pixels)]) + b"M" + struct.pack("<H", PIXELS) + b"\x86" + dtype + b"\x89"
    array += b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    items = [text(b"batch_label") + text(b"training batch 1 of 5"), text(b"data") + array]
    items += [text(key.encode()) + numbers(values) for key, values in labels.items()]
    return b"\x80\x02}(" + b"".join(items) + b"u."


def members(files: Files, binary: bool) -> dict[str, bytes]:
    written = {}
    for batch, (pixels, labels) in zip(files.batches, content(files), strict=True):
        if binary:
            written[batch.binary] = np.concatenate([labels, pixels], axis=1).tobytes()
        else:
            written[batch.python] = python2_pickle(pixels, dict(zip(files.labels, labels.T, strict=True)))
    return written


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_tar(path: Path, folder: str, files: dict[str, bytes]) -> None:
    """As published, the members are in no particular order, beside others."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in reversed({"readme.html": b"<p>", **files}.items()):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(
    ("official", "key"), [(CIFAR10, "labels"), (CIFAR100, "fine_labels"), (CIFAR100, "coarse_labels")]
)
def test_all_layouts_give_the_same_arrays(tmp_path: Path, official: Files, key: str) -> None:
    files = small(official)
    binary, python = members(files, True), members(files, False)
    write_folder(tmp_path / "a" / files.binary_folder, binary)
    write_folder(tmp_path / "b" / files.python_folder, python)
    write_folder(tmp_path / "c", {})
    write_tar(tmp_path / "c" / files.binary_tar, files.binary_folder, binary)
    write_folder(tmp_path / "d", {})
    write_tar(tmp_path / "d" / files.python_tar, files.python_folder, python)
    expected_x = np.concatenate([pixels for pixels, _ in content(files)]).reshape(-1, 3, 32, 32)
    expected_y = np.concatenate([labels[:, files.labels.index(key)] for _, labels in content(files)])
    roots = [tmp_path / name for name in "abcd"]
    roots += [tmp_path / "a" / files.binary_folder, tmp_path / "b" / files.python_folder]
    digests = set()
    for root in roots:
        x, y = read_cifar(files, root, key, MEND)
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)
        digests.add(digest_of(x, y))
    assert len(digests) == 1
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [files.binary_tar]  # nothing is extracted


def test_an_incomplete_folder_gives_way_to_an_archive_and_is_named_without_one(tmp_path: Path) -> None:
    files = small(CIFAR10)
    binary = members(files, True)
    write_folder(tmp_path / files.binary_folder, {k: v for k, v in binary.items() if k != "data_batch_3.bin"})
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin.*--data-root.*lacewing data fetch cifar10"):
        read_cifar(files, tmp_path, "labels", MEND)
    write_tar(tmp_path / files.binary_tar, files.binary_folder, binary)
    x, _ = read_cifar(files, tmp_path, "labels", MEND)
    assert len(x) == sum(b.count for b in files.batches)


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_file_of_another_size_is_named_with_its_mend(tmp_path: Path, extra: int) -> None:
    files = small(CIFAR10)
    binary = members(files, True)
    binary["data_batch_2.bin"] = (binary["data_batch_2.bin"] + b"\0")[: len(binary["data_batch_2.bin"]) + extra]
    write_folder(tmp_path, binary)
    with pytest.raises(DataError, match=r"data_batch_2\.bin: is (truncated|altered) .*bytes.*fetch it again"):
        read_cifar(files, tmp_path, "labels", MEND)


def test_an_altered_file_is_refused_by_its_checksum(tmp_path: Path) -> None:
    files = small(CIFAR10)
    for binary in (True, False):
        written = members(files, binary)
        first = files.batches[0]
        sums = replace(first, binary_sum="sha1:" + 40 * "0", python_sum="md5:" + 32 * "0")
        write_folder(tmp_path / str(binary), written)
        with pytest.raises(DataError, match=r"data_batch_1(\.bin)?: is truncated or altered \((SHA1|MD5) "):
            read_cifar(replace(files, batches=(sums, *files.batches[1:])), tmp_path / str(binary), "labels", MEND)


@pytest.mark.parametrize("binary", [True, False])
def test_a_truncated_archive_is_refused(tmp_path: Path, binary: bool) -> None:
    files = small(CIFAR100)
    tar, folder = (files.binary_tar, files.binary_folder) if binary else (files.python_tar, files.python_folder)
    write_tar(tmp_path / tar, folder, members(files, binary))
    whole = (tmp_path / tar).read_bytes()
    for share in (0, 0.1, 0.5, 0.9):
        (tmp_path / tar).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=rf"{tar}: is truncated or altered.*fetch it again"):
            read_cifar(files, tmp_path, "fine_labels", MEND)


def test_archive_members_that_are_links_are_not_followed(tmp_path: Path) -> None:
    files = small(CIFAR100)
    secret = tmp_path / "secret"
    secret.write_bytes(members(files, True)["train.bin"])
    with tarfile.open(tmp_path / files.binary_tar, "w:gz") as tar:
        for name in ("train.bin", "test.bin"):
            link = tarfile.TarInfo(f"{files.binary_folder}/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(secret)
            tar.addfile(link)
    with pytest.raises(DataError, match=r"lacks .*train\.bin"):
        read_cifar(files, tmp_path, "fine_labels", MEND)


def test_a_pickle_without_the_right_arrays_is_refused(tmp_path: Path) -> None:
    files = small(CIFAR10)
    good = members(files, False)
    pixels = np.zeros((3, PIXELS), np.uint8)
    for bad, said in (
        (python2_pickle(pixels[:2], {"labels": np.arange(3)}), "'data' is not"),
        (python2_pickle(pixels, {"labels": np.arange(2)}), "'labels' is not a list of 3 integers"),
        (python2_pickle(pixels, {"fine_labels": np.arange(3)}), "holds no 'labels'"),
        (good["data_batch_1"][:-500], "no whole pickle"),
        (b"", "no whole pickle"),
    ):
        write_folder(tmp_path, {**good, "data_batch_1": bad})
        with pytest.raises(DataError, match=rf"data_batch_1: .*{said}"):
            read_cifar(files, tmp_path, "labels", MEND)
