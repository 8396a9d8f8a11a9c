"""Data sets in .npy files: what is read of the map is what an .npz with the same arrays gives, byte for byte."""

from __future__ import annotations

import os
import pickle
import time
import tracemalloc

import numpy as np
import pytest

from lacewing import data
from lacewing.attribute import values_of
from lacewing.data import _npy
from lacewing.data._worlds import having
from lacewing.errors import DataError
from lacewing.support.mapped import Mapped, blocks, take

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
ARRAYS = {
    "table": np.round(RNG.normal(size=(60, 5)), 1),  # float64, with values that repeat
    "binary": RNG.integers(0, 2, (60, 4)).astype(bool),
    "wide": RNG.integers(-5, 300, (60, 4)),
    "int64": RNG.integers(0, 256, (60, 4)),
    "grey": RNG.integers(0, 256, (60, 6, 6), dtype=np.uint8),
    "first": RNG.integers(0, 256, (60, 3, 6, 6), dtype=np.uint8),
    "last": RNG.integers(0, 256, (60, 6, 6, 3), dtype=np.uint8),
    "big-endian": RNG.normal(size=(60, 3, 4, 4)).astype(">f4"),
}


def pair(folder, x, y=Y, **groups):
    folder.mkdir(exist_ok=True)
    for name, values in {"x": x, "y": y, **groups}.items():
        np.save(folder / f"{name}.npy", values)
    return str(folder)


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_map_gives_what_the_same_arrays_in_memory_give(kind, tmp_path):
    x = ARRAYS[kind].copy()
    x[7] = x[3]
    np.savez(tmp_path / "own.npz", x=x, y=Y, who=Y + 5)
    held = data.load(str(tmp_path / "own.npz"), groups=["who"])
    mapped = data.load(pair(tmp_path / "own", x, who=Y + 5), groups=["who"])
    assert isinstance(mapped.x, Mapped)
    assert (mapped.name, mapped.digest, mapped.classes) == ("own", held.digest, 3)
    assert (mapped.x.shape, mapped.x.dtype, mapped.x.nbytes) == (held.x.shape, held.x.dtype, held.x.nbytes)
    rows = RNG.permutation(60)[:9]
    for chosen in (rows, slice(3, 9), Y == 1, rows[:0], 4):
        np.testing.assert_array_equal(mapped.x[chosen], held.x[chosen])
        assert mapped.x[chosen].flags.c_contiguous
        assert mapped.x[chosen].flags.writeable
    np.testing.assert_array_equal(mapped.x.at(rows)[2:5], held.x[rows][2:5])
    for one, other in zip(data.normalisation(mapped.x), data.normalisation(held.x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert data.facts(mapped.x, Y, 3, "here") == data.facts(held.x, Y, 3, "here")
    named = ["who", "duplicates"]
    np.testing.assert_array_equal(data.groups_of(mapped, named), data.groups_of(held, named))
    np.testing.assert_array_equal(*(having(each.x, Y, 3, "feature", 3) for each in (mapped, held)))
    settings = {"records": 50, "label_noise": 0.2, "canaries": 3, "seed": 1}
    one, other = (data.prepare(each, **settings) for each in (mapped, held))
    np.testing.assert_array_equal(one.y, other.y)
    for a, b in ((one, other), tuple(data.doubled(each, 0) for each in (one, other))):
        np.testing.assert_array_equal(a.x[:], b.x)
    if kind == "binary":
        for a, b in zip(*(values_of(each.x, [1], "it") for each in (mapped, held)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_normalisation_is_that_of_the_formula_over_blocks_of_a_thousand(tmp_path):
    x = RNG.normal(size=(2500, 3, 2, 2)).astype(np.float32)
    x[:, 1] = 4
    dataset = data.load(pair(tmp_path / "own", x, np.arange(2500) % 2))
    mean, std = data.normalisation(dataset.x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, [x[:, 0].std(), 1, x[:, 2].std()], rtol=1e-5)


def test_everything_before_training_reads_a_map_in_parts(tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    x = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.uint8, shape=(12_000, 3, 32, 32))
    x[:, :, 0, :3] = RNG.integers(0, 256, (12_000, 3, 3), dtype=np.uint8)
    x.flush()
    np.save(folder / "y.npy", np.arange(12_000) % 10)
    held = x.nbytes
    del x
    tracemalloc.start()
    try:
        dataset = data.load(str(folder))
        records = data.prepare(dataset, records=11_000, label_noise=0.1)
        data.facts(records.x, records.y, 10, "here")
        taken = take(records.x, np.arange(10_000))
        assert sum(len(block) for block in blocks(taken)) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * held
    for whole in (np.asarray, pickle.dumps):
        with pytest.raises(TypeError, match=r"are (read in parts|not copied to other processes)"):
            whole(dataset.x)


def broken(folder, change):
    x, y = np.ones((60, 4), np.float32), Y
    x[:, 0] = np.arange(60)
    pair(folder, x, y)
    change(folder, x, y)
    return folder


def twice(folder, x, y):
    with (folder / "x.npy").open("wb") as file:
        np.save(file, x)
        np.save(file, x)


def cut_short(folder, x, y):
    content = (folder / "x.npy").read_bytes()
    (folder / "x.npy").write_bytes(content[:-4])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f, x, y: (f / "y.npy").unlink(), "lacks y.npy; data.dataset takes a folder with x.npy"),
        (
            lambda f, x, y: np.save(f / "x.npy", np.asfortranarray(x)),
            r"in Fortran's order.*numpy\.ascontiguousarray\(x\)",
        ),
        (lambda f, x, y: np.save(f / "y.npy", y + 0.5), r"own: y has dtype float64, but labels must be integers"),
        (lambda f, x, y: np.save(f / "y.npy", y.astype(str)), r"own: y holds words.*np\.unique.* numbers them"),
        (lambda f, x, y: np.save(f / "y.npy", np.eye(3)[y]), r"own: y has shape \(60, 3\).*argmax"),
        (lambda f, x, y: np.save(f / "x.npy", x.astype(object)), "x.npy: is no complete .npy file of numbers"),
        (lambda f, x, y: np.save(f / "x.npy", x.astype(str)), "x has dtype <U32, which is not one of real numbers"),
        (twice, r"x\.npy: holds 2,176 bytes, and its array of shape \(60, 4\) 1,088; write it with numpy\.save"),
        (cut_short, "x.npy: is no complete .npy file of numbers"),
        (lambda f, x, y: (f / "x.npy").write_text("1,2"), "x.npy: is no complete .npy file of numbers"),
        (lambda f, x, y: np.save(f / "x.npy", x[:50]), "x holds 50 records and y 60 labels"),
        (lambda f, x, y: np.save(f / "x.npy", x[:0]), r"x is empty|no complete .npy file"),
        (lambda f, x, y: np.save(f / "x.npy", np.ones_like(x)), "all 60 records of x are the same"),
        (
            lambda f, x, y: np.save(f / "x.npy", x / np.maximum(x - 40, 0)[:, :1]),
            r"NaN or Inf in 41 of 60 .*is record 0",
        ),
        (lambda f, x, y: np.save(f / "x.npy", x * np.float64(1e300)), "beyond float32"),
        (lambda f, x, y: np.save(f / "x.npy", x[:, 0]), r"x has shape \(60,\), which is none of"),
        (lambda f, x, y: np.save(f / "y.npy", y + 1), "labels must be 0..K-1"),
        (lambda f, x, y: (f / "classes.txt").write_text("a\n\nb\n"), "classes.txt: a line is empty"),
        (lambda f, x, y: (f / "classes.txt").write_text("a\nb\na\n"), "classes.txt: names the class 'a' twice"),
        (lambda f, x, y: (f / "classes.txt").write_text("a\nb\n"), "classes.txt: names 2 classes, and y holds 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")
def test_what_is_wrong_is_told_by_the_file(change, says, tmp_path):
    with pytest.raises(DataError, match=says):
        data.load(str(broken(tmp_path / "own", change)))


def test_ids_and_names_lie_beside_the_records(tmp_path):
    folder = pair(tmp_path / "own", ARRAYS["table"], who=Y)
    (tmp_path / "own" / "classes.txt").write_text("cat\ndog\nhorse\n")
    assert data.load(f"{folder}/x.npy").class_names == ("cat", "dog", "horse")
    (tmp_path / "own" / "classes.txt").write_text("cat\ndog\nhorse\n", encoding="utf-8-sig")
    assert data.load(folder).class_names == ("cat", "dog", "horse")
    np.save(tmp_path / "other.npy", Y)
    for name in ("whom", "../other"):
        with pytest.raises(DataError, match=r"has no array '.*' beside x and y \(others: who\)"):
            data.load(folder, groups=[name])
    with pytest.raises(DataError, match=r"takes the path of x\.npy with y\.npy beside it"):
        data.load(f"{folder}/y.npy")


def test_what_is_known_of_a_file_holds_until_it_is_written_again(tmp_path, monkeypatch):
    folder = pair(tmp_path / "own", ARRAYS["last"])
    long_ago = time.time() - 100
    os.utime(tmp_path / "own" / "x.npy", (long_ago, long_ago))
    monkeypatch.setattr(_npy, "_FOUND", {})
    first = data.load(folder)
    assert not data.found()  # its inode was changed just now: another change might leave no trace
    monkeypatch.setattr(_npy, "settled", lambda sign: True)
    data.load(folder)
    entries = data.found()
    monkeypatch.setattr(_npy, "_FOUND", {})
    data.learn({key: list(value) for key, value in entries.items()})
    monkeypatch.setattr(_npy, "checked", None)  # nothing is read again
    again = data.load(folder)
    assert (again.digest, again.shape, again.x.dtype) == (first.digest, first.shape, first.x.dtype)
    np.testing.assert_array_equal(again.x[:], first.x[:])
    monkeypatch.undo()
    changed = ARRAYS["last"].copy()
    changed[3, 0, 0, 0] ^= 1
    np.save(tmp_path / "own" / "x.npy", changed)
    assert first.x.changed()
    assert data.load(folder).digest != first.digest
    np.save(tmp_path / "own" / "y.npy", Y[::-1])
    np.save(tmp_path / "own" / "x.npy", ARRAYS["last"])
    assert data.load(folder).digest != first.digest
