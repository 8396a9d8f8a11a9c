"""The registry: names, digests, roots, and what is said when files are missing."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lacewing import data
from lacewing.data import _registry
from lacewing.errors import DataError


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    digits = data.load("digits", tmp_path)
    bunch = load_digits()
    np.testing.assert_array_equal(digits.x[:, 0], bunch.images)
    np.testing.assert_array_equal(digits.y, bunch.target)
    assert digits.x.dtype == np.uint8
    assert len(digits.digest) == 64


def test_digits_are_read_without_importing_scikit_learn(tmp_path: Path) -> None:
    code = "import sys, pathlib; from lacewing import data; data.load('digits', pathlib.Path()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "sklearn" not in done.stdout.split()


@pytest.mark.parametrize("found", [None, "a package without the file"])
def test_digits_without_scikit_learn_are_refused(found: str | None, tmp_path: Path, monkeypatch: Any) -> None:
    spec = None if found is None else SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(_registry, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="scikit-learn is not installed, or without its datasets/data/digits"):
        _registry._read_digits(tmp_path, "fine")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist", "location30", "shakespeare"])
def test_real_data_has_the_registered_digest_and_description(name: str) -> None:
    root = data.default_root()
    try:
        dataset = data.check(name, root)
    except DataError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"{name} is not in {root} (LACEWING_DATA names another folder)")
    info = data.describe(name)
    assert (len(dataset), dataset.shape, dataset.classes) == (info.records, info.shape, info.classes)
    counts = np.bincount(dataset.y, minlength=dataset.classes)
    if name not in ("location30", "shakespeare"):
        assert len(set(counts)) == 1  # these sets are balanced
    if name != "location30":
        assert len(dataset.class_names or ()) == dataset.classes
    if name == "cifar100":
        coarse = data.load(name, root, labels="coarse")
        assert (coarse.classes, len(coarse.class_names or ())) == (20, 20)
        assert len({(f, c) for f, c in zip(dataset.y, coarse.y, strict=True)}) == 100  # a superclass each
        assert coarse.digest != dataset.digest


def test_an_unexpected_digest_is_an_error(tmp_path: Path) -> None:
    x = np.arange(60 * 446, dtype=np.uint8).reshape(60, 446)
    np.savez(tmp_path / "location30.npz", x=x, y=np.arange(60) % 30)
    with pytest.raises(DataError, match=r"location30: the records of its files in .* are not the published ones"):
        data.load("location30", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist", "location30", "shakespeare"])
def test_missing_files_say_what_to_put_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        data.load(name, tmp_path)
    for wanted in (str(tmp_path), "--data-root", f"lacewing data fetch {name}", "put "):
        assert wanted in str(caught.value)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(DataError, match=r"data\.dataset: unknown data set 'cifar-10': did you mean 'cifar10'"):
        data.load("cifar-10")
    with pytest.raises(DataError, match="did you mean 'digits'"):
        data.describe("digit")
    with pytest.raises(DataError, match="did you mean 'digits'"):
        data.fetch("digit")
    with pytest.raises(DataError, match=r"data\.labels: 'corse' is unknown for cifar100: did you mean 'coarse'"):
        data.load("cifar100", labels="corse")
    with pytest.raises(DataError, match=r"data\.labels: 'coarse' is unknown for digits: only cifar100"):
        data.load("digits", labels="coarse")


def test_the_default_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LACEWING_DATA", str(tmp_path))
    assert data.default_root() == tmp_path
    with pytest.raises(DataError, match=str(tmp_path)):
        data.load("cifar10")
    monkeypatch.delenv("LACEWING_DATA")
    assert "lacewing" in str(data.default_root())


def test_every_entry_is_described_and_has_a_digest_for_each_kind_of_labels() -> None:
    for name in data.names():
        info = data.describe(name)
        digests = _registry._ENTRIES[name].digests
        assert info.name == name
        assert info.source.startswith(("https://", "http://ufldl.stanford.edu/"))
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests.values() if digest is not None)
        assert (None in digests.values()) == (name in ("svhn", "cinic10", "purchase100", "texas100"))
        assert info.embedded == (name == "digits")
        assert next(iter(digests)) == "fine"


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'sklearn', 'scipy', 'pooch', 'requests', 'matplotlib'}"
    code = f"import sys, lacewing.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
