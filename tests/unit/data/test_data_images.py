"""Folders of images by class, packed ones, CINIC-10 and SVHN, against the arrays that they were written from."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lacewing import cli, data
from lacewing.data import _cinic, _svhn
from lacewing.data._names import CIFAR10
from lacewing.errors import DataError, UsageError
from lacewing.support.mapped import Mapped

RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)  # (N, H, W, C)


def folder_of(place, images=COLOURED, classes=("cat", "ant"), parts=("",)):
    """Images in turn: part, class, number. A .png keeps every pixel."""
    each = len(images) // len(classes) // len(parts)
    rest = iter(images)
    for part in parts:
        for name in sorted(classes):
            (place / part / name).mkdir(parents=True)
            for number in range(each):
                Image.fromarray(next(rest)).save(place / part / name / f"{number:02d}.png")
    return place


@pytest.mark.parametrize("parts", [("",), ("train", "test"), ("train", "valid", "test")])
def test_images_are_read_by_part_class_and_name(parts, tmp_path):
    folder = folder_of(tmp_path / "own", parts=parts)
    (folder / ".hidden").write_text("x")
    (folder / parts[0] / "ant" / "Thumbs.db").write_text("x")
    found = data.load(str(folder))
    np.testing.assert_array_equal(found.x, COLOURED.transpose(0, 3, 1, 2))
    half = 6 // len(parts)
    np.testing.assert_array_equal(found.y, np.tile(np.repeat([0, 1], half), len(parts)))
    assert (found.name, found.class_names) == ("own", ("ant", "cat"))


def test_grey_images_have_a_channel_and_among_coloured_ones_three(tmp_path):
    grey = COLOURED[..., 0]
    folder = folder_of(tmp_path / "grey", grey)
    np.testing.assert_array_equal(data.load(str(folder)).x, grey[:, None])
    Image.fromarray(COLOURED[0]).save(folder / "ant" / "00.png")
    found = data.load(str(folder)).x
    assert found.shape == (12, 3, 5, 6)
    np.testing.assert_array_equal(found[0], COLOURED[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(found[5], np.stack([grey[5]] * 3))


def test_a_packed_folder_is_the_same_data_set_in_a_map(tmp_path, monkeypatch, capsys):
    folder = folder_of(tmp_path / "own", parts=("train", "test"))
    monkeypatch.setattr(sys, "argv", ["lacewing", "data", "pack", str(folder), str(tmp_path / "packed")])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "packed"),
        "12 records of 3 x 5 x 6, 2 classes, 1,080 bytes of images",
    ]
    packed, held = data.load(str(tmp_path / "packed")), data.load(str(folder))
    assert isinstance(packed.x, Mapped)
    assert (packed.digest, packed.class_names) == (held.digest, held.class_names)
    assert sorted(each.name for each in (tmp_path / "packed").iterdir()) == ["classes.txt", "x.npy", "y.npy"]
    with pytest.raises(UsageError, match=r"packed holds x\.npy already"):
        data.pack(folder, tmp_path / "packed")


def test_packing_brings_images_to_one_size_by_their_middle_square(tmp_path):
    tall = RNG.integers(0, 256, (8, 4, 3), dtype=np.uint8)
    folder = folder_of(tmp_path / "own", RNG.integers(0, 256, (4, 4, 4, 3), dtype=np.uint8))
    Image.fromarray(tall).save(folder / "ant" / "00.png")
    with pytest.raises(
        DataError, match=r"holds images of 2 sizes \(ant.00\.png: 4 x 8, ant.01\.png: 4 x 4\).*--size PIXELS"
    ):
        data.load(str(folder))
    found = data.load(str(data.pack(folder, tmp_path / "packed", size=2))).x[0]
    middle = tall[2:6].astype(float).reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(found.transpose(1, 2, 0) - middle).max() <= 1  # rounded by rows, then by columns
    with pytest.raises(UsageError, match="--size 0: give 1 to 4096 pixels"):
        data.pack(folder, tmp_path / "none", size=0)


def broken(change):
    def make(folder):
        folder_of(folder)
        change(folder)

    return make


def alpha(folder):
    values = np.full((5, 6, 4), 255, np.uint8)
    values[0, 0, 3] = 254
    Image.fromarray(values).save(folder / "ant" / "00.png")


def sixteen(folder, colour, channels):
    """A PNG of 16 bits a channel, after its specification: signature, IHDR, IDAT and IEND."""
    rows = b"".join(b"\0" + bytes(RNG.integers(0, 256, 6 * channels * 2, np.uint8)) for _ in range(5))
    size = struct.pack(">IIBBBBB", 6, 5, 16, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in ((b"IHDR", size), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    (folder / "cat" / "00.png").write_bytes(content)


def frames(folder, name):
    first, *others = (Image.fromarray(each) for each in COLOURED[:3])
    (folder / "cat" / "00.png").unlink()
    first.save(folder / "cat" / name, save_all=True, append_images=others)


def flat(folder):
    (folder / "ant").rename(folder / "train")
    (folder / "cat").rename(folder / "test")


def pipe(folder):
    (folder / "cat" / "00.png").unlink()
    os.mkfifo(folder / "cat" / "00.png")


def shift(folder):
    (folder / "train").mkdir()
    (folder / "test" / "cat").mkdir(parents=True)
    (folder / "ant").rename(folder / "train" / "ant")
    (folder / "cat").rename(folder / "train" / "cat")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "cat" / "notes.txt").write_text("x"), "holds 1 of 7 things that are no image file.*notes.txt"),
        (lambda f: (f / "notes.txt").write_text("x"), r"holds notes\.txt beside folders"),
        (lambda f: (f / "cat" / "00.png").write_bytes(b"x"), r"00\.png cannot be read as an image"),
        (
            lambda f: Image.fromarray(np.zeros((5, 6), np.uint16)).save(f / "cat" / "00.png"),
            r"00\.png is an image of mode I;16: give 8-bit images",
        ),
        (alpha, r"00\.png is transparent in part: put it on a background"),
        (lambda f: [each.unlink() for each in (f / "cat").iterdir()], r"cat holds no images"),
        (lambda f: (f / "cat").rename(f.parent / "away"), r"holds 1 class\(es\): give a folder a class"),
        (lambda f: sixteen(f, 2, 3), r"00\.png has 16 bits a channel"),
        (lambda f: sixteen(f, 4, 2), r"00\.png has 16 bits a channel"),
        (lambda f: frames(f, "00.tif"), r"00\.tif holds 3 images, pages or frames"),
        (lambda f: frames(f, "00.png"), r"00\.png holds 3 images, pages or frames"),
        (flat, r"holds test and train with images that are in no folder of a class: give .*/CLASS/image\.png"),
        (pipe, r"holds 1 of 6 things that are no image file, such as 00\.png"),
        (shift, "the class 'ant' is in one of .*train and .*test alone"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(change, says, tmp_path):
    broken(change)(tmp_path / "own")
    with pytest.raises(UsageError, match=says):
        data.load(str(tmp_path / "own"))
    with pytest.raises(UsageError, match=says):
        data.pack(tmp_path / "own", tmp_path / "packed")
    assert not (tmp_path / "packed" / "x.npy").exists()


def test_an_opaque_alpha_channel_is_left_out_and_ids_have_no_place(tmp_path):
    folder = folder_of(tmp_path / "own")
    Image.fromarray(COLOURED[0]).convert("RGBA").save(folder / "ant" / "00.png")
    np.testing.assert_array_equal(data.load(str(folder)).x[0], COLOURED[0].transpose(2, 0, 1))
    with pytest.raises(DataError, match="has no array 'who'"):
        data.load(str(folder), groups=["who"])


def test_cinic10_is_its_folders_with_every_count_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(_cinic, "EACH", 2)
    with pytest.raises(DataError, match=r"cinic10: not found in .*lacewing data fetch cinic10.*tar -xzf"):
        data.load("cinic10", tmp_path)
    images = RNG.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    folder = folder_of(tmp_path / "CINIC-10", images, CIFAR10, ("train", "valid", "test"))
    (folder / "README.md").write_text("x")
    found = data.load("cinic10", tmp_path)
    np.testing.assert_array_equal(found.x, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found.y[:20], np.repeat(np.arange(10), 2))
    (folder / "test" / "cat" / "00.png").unlink()
    with pytest.raises(DataError, match=r"holds 59 images of 10 classes, and CINIC-10 has 2 of each"):
        data.load("cinic10", tmp_path)


def test_svhn_is_its_two_files_with_their_checksums(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"svhn: not found in .*train_32x32\.mat and test_32x32\.mat.*data fetch svhn"):
        data.load("svhn", tmp_path)
    images, digits = RNG.integers(0, 256, (25, 32, 32, 3), dtype=np.uint8), np.arange(25) % 10
    parts = []
    for part, rows in zip(_svhn.PARTS, (slice(0, 15), slice(15, 25)), strict=True):
        labels = np.where(digits[rows] == 0, 10, digits[rows]).astype(np.uint8)[:, None]
        stream = io.BytesIO()
        savemat(stream, {"X": images[rows].transpose(1, 2, 3, 0), "y": labels})
        (tmp_path / part.name).write_bytes(stream.getvalue())
        md5 = hashlib.md5(stream.getvalue(), usedforsecurity=False).hexdigest()
        parts.append(_svhn.Part(part.name, len(labels), len(stream.getvalue()), md5))
    monkeypatch.setattr(_svhn, "PARTS", tuple(parts))
    found = data.load("svhn", tmp_path)
    np.testing.assert_array_equal(found.x, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found.y, digits)
    content = bytearray((tmp_path / parts[1].name).read_bytes())
    content[-1] ^= 1
    (tmp_path / parts[1].name).write_bytes(content)
    with pytest.raises(DataError, match=r"test_32x32\.mat: is truncated or altered .*lacewing data fetch svhn"):
        data.load("svhn", tmp_path)
