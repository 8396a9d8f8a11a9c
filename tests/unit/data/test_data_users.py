"""A user's function as a data set: called with the folder where it takes one, checked as an .npz is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lacewing import data
from lacewing.errors import DataError, UsageError, UserCodeError

MODULE = """
import numpy as np
from lacewing.data import Dataset, make_dataset

x = np.random.default_rng(0).normal(size=(60, 5))
y = np.arange(60) % 3

def arrays():
    return x, y

def lists():
    return x.tolist(), y.tolist()

def with_root(root):
    return np.load(root / "x.npy"), y

def optional(root="nothing", *, other=1):
    assert root != "nothing"
    return x, y

def named():
    return make_dataset("whatever", x.astype(np.float32), y, 3, ("a", "b", "c"))

def false_digest():
    found = named()
    return Dataset(found.name, found.x, found.y, 3, None, "0" * 64)

def more_classes():
    return make_dataset("x", x.astype(np.float32), y, 4)

def grouped():
    return x, y, {"patient": np.arange(60) // 2}

def grouped_set():
    return Dataset("x", x.astype(np.float32), y, 3, None, "", {"patient": np.arange(60) // 2})

def short_groups():
    return x, y, {"patient": np.arange(11)}

def named_groups():
    return x, y, np.arange(60)

def one():
    return x

def short():
    return x, y[1:]

def nan():
    return x * np.nan, y

def ragged():
    return [[1], [2, 3]], y

def fails():
    raise RuntimeError("no disk")

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_data.py").write_text(MODULE, encoding="utf-8")
    importlib.invalidate_caches()
    yield
    sys.modules.pop("their_data", None)


def test_arrays_lists_and_data_sets_of_the_same_records_have_the_digest_of_an_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), np.arange(60) % 3
    np.savez(tmp_path / "own.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    digest = data.load(str(tmp_path / "own.npz")).digest
    for name in ("arrays", "lists", "with_root", "optional", "named", "false_digest"):
        found = data.load(f"their_data:{name}", tmp_path)
        assert (found.digest, found.classes, found.name) == (digest, 3, f"their_data:{name}")
    assert data.load("their_data:named").class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("more_classes", "says that there are 4 classes, and y holds 3"),
        ("one", r"returned a ndarray; it must return \(x, y\), \(x, y, groups\) or a lacewing.data.Dataset"),
        ("short", "x holds 60 records and y 59 labels"),
        ("nan", "x holds NaN or Inf in 60 of 60 records"),
        ("ragged", "what it returned, as arrays, failed with ValueError"),
        ("number", "is a int; name a function"),
        ("nothing", "'their_data' does not define 'nothing'"),
        ("with_root", "failed with FileNotFoundError"),
    ],
)
def test_what_is_no_data_set_names_the_field_and_the_function(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        data.load(f"their_data:{name}", tmp_path)
    assert str(caught.value).startswith("data.dataset: ")


def test_what_the_function_raises_is_told_with_its_lines() -> None:
    with pytest.raises(UserCodeError, match=r"data.dataset: their_data:fails\(\) failed with RuntimeError") as caught:
        data.load("their_data:fails")
    assert str(caught.value).splitlines()[1].startswith("  their_data.py, line ")


def test_labels_of_a_users_data_set_are_its_own() -> None:
    with pytest.raises(DataError, match=r"data\.labels"):
        data.load("their_data:arrays", labels="coarse")


def test_a_path_of_an_npz_with_a_colon_stays_a_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        data.load("c:own.npz")


def test_what_an_installed_package_adds_is_a_data_set_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = tmp_path / "theirs-1.0.dist-info"
    added.mkdir()
    (added / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (added / "entry_points.txt").write_text("[lacewing.datasets]\ntable = their_data:arrays\ndigits = their_data:one\n")
    assert data.load("table").name == "table"
    with pytest.raises(UsageError, match="'digits' is built in, and the installed package 'theirs' adds the same name"):
        data.load("digits")


@pytest.mark.parametrize("name", ["grouped", "grouped_set"])
def test_arrays_of_ids_come_with_the_records(tmp_path: Path, name: str) -> None:
    found = data.load(f"their_data:{name}", tmp_path, groups=["patient"])
    assert found.groups["patient"].tolist() == [k // 2 for k in range(60)]
    with pytest.raises(DataError, match=r"data\.groups: .*their_data:.* has no array 'user' .*others: patient"):
        data.load(f"their_data:{name}", tmp_path, groups=["user"])
    with pytest.raises(DataError, match=r"patient has shape \(11,\)"):
        data.load("their_data:short_groups", tmp_path)
    with pytest.raises(DataError, match="returned groups as a ndarray; give arrays of ids by their names"):
        data.load("their_data:named_groups", tmp_path)
