"""A folder of images by class, as a data set in memory or packed into .npy files that are mapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lacewing.data._dataset import Dataset, Labels, Pixels
from lacewing.data._npy import CLASSES, X, Y
from lacewing.data._npz import checked, lacks_ids
from lacewing.errors import DataError, UsageError
from lacewing.support.images import header, images_in, read_image, shown

PARTS = ("train", "valid", "val", "validation", "test")  # folders above those of the classes, whose images are merged
_FIELD = "data.dataset"
_LARGEST = 4096  # pixels a side


@dataclass(frozen=True)
class Files:
    """Images by part, class and name: N paths, the class of each, and the names of the classes."""

    paths: Sequence[Path]
    y: Labels
    classes: tuple[str, ...]
    parts: tuple[str, ...] = ()


def holds_images(folder: Path) -> bool:
    """Whether a folder has folders, and so may be one of images by class."""
    return any(each.is_dir() for each in shown(folder))


def read_images(folder: Path, groups: Iterable[str] = ()) -> Dataset:
    """The data set of ``folder/CLASS/IMAGE``, or of ``folder/PART/CLASS/IMAGE``, whose parts (`PARTS`) are merged.

    Records stand by part, class and name of the file; classes are numbered by their names. Images are read as uint8,
    grey ones among coloured ones as coloured. ``groups`` must be empty: there is no place for ids.

    Raises:
        DataError: a class is empty or alone, or sizes differ.
        UsageError: something is no image of 8 bits a channel, or is transparent in part.
    """
    for name in groups:
        raise DataError(lacks_ids(str(folder), name, ()))
    files = find(folder)
    made = checked(pixels(folder, files), files.y, str(folder), folder.resolve().name)
    return replace(made, class_names=files.classes)


def pixels(folder: Path, files: Files, mode: str = "") -> Pixels:
    """(N, C, H, W) of the images of a folder, read as ``mode`` ("L" or "RGB"; "": "RGB" where one is coloured).

    Raises `UsageError`, see `read_images`.
    """
    found, (width, height) = _shape(folder, files, None)
    mode = mode or found
    x = np.empty((len(files.paths), 3 if mode == "RGB" else 1, height, width), np.uint8)
    _fill(x, files, mode, None)
    return x


def pack(folder: Path, out: Path, *, size: int | None = None) -> Path:
    """Write the images of a folder (see `read_images`) as a pair of .npy files, which studies map.

    Memory stays flat, whatever the number of images.

    Args:
        folder: of images by class.
        out: a folder, which is made; nothing in it is written over.
        size: cut out the middle square of each image and scale it to so many pixels a side (box filter); None: all
            images must be of one size.

    Returns:
        The folder.

    Raises:
        DataError: see `read_images`.
        UsageError: ``out`` holds such files already, or the size is out of range.
    """
    if size is not None and not 1 <= size <= _LARGEST:
        raise UsageError(f"--size {size}: give 1 to {_LARGEST} pixels.")
    if there := [name for name in (X, Y, CLASSES) if (out / name).exists()]:
        raise UsageError(f"{out} holds {there[0]} already: give another folder, or delete it.")
    files = find(folder)
    mode, (width, height) = _shape(folder, files, size)
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{X}.part"
    shape = (len(files.paths), 3 if mode == "RGB" else 1, height, width)
    x = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    try:
        _fill(x, files, mode, size)
        x.flush()
    except BaseException:
        unfinished.unlink()
        raise
    np.save(out / Y, files.y)
    (out / CLASSES).write_text("".join(f"{name}\n" for name in files.classes), encoding="utf-8")
    unfinished.rename(out / X)  # last: where it is, all is there
    return out


def find(folder: Path, only: Sequence[str] | None = None) -> Files:
    """The images of a folder, or of these parts of it alone. Raises `UsageError`, see `read_images`."""
    inside = shown(folder) if only is None else [folder / name for name in only]
    if stray := [each.name for each in inside if not each.is_dir()]:
        raise DataError(
            f"{_FIELD}: {folder} holds {stray[0]} beside folders: give {folder}/CLASS/image.png, and take out the rest."
        )
    names = [each.name for each in inside]
    merged = bool(names) and set(names) <= set(PARTS) and all(each.is_dir() for up in inside for each in shown(up))
    if not merged and len(names) > 1 and set(names) <= set(PARTS):
        raise DataError(
            f"{_FIELD}: {folder} holds {' and '.join(names)} with images that are in no folder of a class: give "
            f"{folder / names[0]}/CLASS/image.png."
        )
    parts = tuple(name for name in PARTS if name in names) if merged else ()
    places = [folder / name for name in parts] or [folder]
    classes = tuple(each.name for each in shown(places[0]))
    for place in places[1:]:
        if different := sorted({each.name for each in shown(place)} ^ set(classes)):
            raise DataError(
                f"{_FIELD}: the class '{different[0]}' is in one of {places[0]} and {place} alone: give each part all "
                "classes."
            )
    if len(classes) < 2:
        raise DataError(f"{_FIELD}: {folder} holds {len(classes)} class(es): give a folder a class, at least 2.")
    paths, labels = [], []
    for place in places:
        for label, name in enumerate(classes):
            found = images_in(place / name, _FIELD)
            if not found:
                raise DataError(f"{_FIELD}: {place / name} holds no images: give some, or take the class out.")
            paths += found
            labels += [label] * len(found)
    return Files(paths, np.array(labels, np.int64), classes, parts)


def _shape(folder: Path, files: Files, size: int | None) -> tuple[str, tuple[int, int]]:
    """ "RGB" if an image is coloured, else "L"; and the width and height of all."""
    modes, sizes = set(), dict[tuple[int, int], Path]()
    for path in files.paths:
        mode, found = header(path, _FIELD)
        modes.add(mode)
        sizes.setdefault((size, size) if size is not None else found, path)
    if len(sizes) > 1:
        (one, first), (other, second), *_ = sizes.items()
        raise DataError(
            f"{_FIELD}: {folder} holds images of {len(sizes)} sizes ({first.relative_to(folder)}: {one[0]} x {one[1]}, "
            f"{second.relative_to(folder)}: {other[0]} x {other[1]}): bring them to one with `lacewing data "
            f"pack {folder} OUT --size PIXELS`."
        )
    return max(modes), next(iter(sizes))  # "RGB" comes after "L"


def _fill(x: Pixels, files: Files, mode: str, size: int | None) -> None:
    for row, path in enumerate(files.paths):
        x[row] = read_image(path, _FIELD, opaque=True, size=size, mode=mode)
