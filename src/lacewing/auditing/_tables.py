"""Records at the shell beside .npz: a table as .csv or .parquet, and a folder of images by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.support.formats import Arrays, is_number
from lacewing.support.images import IMAGES, images_in, read_image, shown
from lacewing.support.tables import INDEX, csv_columns, number, parquet_table

LABELS = ("y", "label")  # names of the column of labels
SIDES = ("members", "nonmembers", "population")  # folders of images, the last one optional


def is_table(path: Path) -> bool:
    """Whether it is the name of a table."""
    return path.suffix in (".csv", ".parquet")


def of_table(path: Path) -> Arrays:
    """x (N, D), y, member and, where there is one, group, of a .csv or .parquet: a row a record, every other column
    a number of x, in the order of the file.

    Raises `UsageError` that names the file and the column.
    """
    columns: dict[str, list[Any]]
    if path.suffix == ".parquet":
        table = parquet_table(path, "data: ")
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    else:
        columns = {**csv_columns(path, "data: ")}
    for name in INDEX:
        if name in columns:
            raise UsageError(
                f"data: {path} has the column '{name}', as the index of a frame is called, which no model takes: write "
                "the file with index=False, or take the column out."
            )
    labels = [name for name in LABELS if name in columns]
    if len(labels) != 1 or "member" not in columns:
        raise UsageError(
            f"data: {path} must have the columns member (1 or 0) and one of {' and '.join(LABELS)}; "
            + (
                "its first line holds numbers, so that it is no header."
                if any(map(is_number, columns))
                else f"it has {', '.join(list(columns)[:8])}{' and more' if len(columns) > 8 else ''}."
            )
        )
    apart = {"member", "group", labels[0]}
    inputs = {name: _numbers(path, name, values) for name, values in columns.items() if name not in apart}
    if not inputs:
        raise UsageError(f"data: {path} has no column beside {', '.join(sorted(apart & columns.keys()))}: give x too.")
    found: Arrays = {
        "x": np.stack(list(inputs.values()), axis=1),
        "y": _whole(_numbers(path, labels[0], columns[labels[0]])),
        "member": _whole(_numbers(path, "member", columns["member"])),
    }
    if "group" in columns:
        found["group"] = np.asarray([str(value) for value in columns["group"]])
    return found


def of_images(folder: Path, pixels: str | None) -> tuple[Arrays, str]:
    """x (N, C, H, W) float32, y and member of images in ``members/CLASS``, ``nonmembers/CLASS`` and, where there is
    one, ``population/CLASS``; and a note on the order of the classes, which is alphabetical.

    Args:
        folder: that holds these.
        pixels: how the network takes them: "0-1", "0-255", or "MEAN/STD" of pixels in 0 to 1, each one number or one a
            channel by commas.

    Raises:
        UsageError: a folder is missing or empty, ``pixels`` is not given, or images differ in size.
    """
    scale, shift = _scaling(pixels)
    sides = [side for side in SIDES if (folder / side).is_dir()]
    if missing := [side for side in SIDES[:2] if side not in sides]:
        raise UsageError(f"data: {folder} lacks the folder {missing[0]}: give {folder}/{missing[0]}/CLASS/image.png.")
    if others := [each.name for each in shown(folder) if each.is_dir() and each.name not in SIDES]:
        raise UsageError(
            f"data: {folder} holds the folder {others[0]} beside {', '.join(sides)}: take it out; folders are "
            f"{', '.join(SIDES)}."
        )
    held = {side: [each.name for each in shown(folder / side)] for side in sides}
    for side in sides:
        if stray := [name for name in held[side] if not (folder / side / name).is_dir()]:
            raise UsageError(
                f"data: {folder / side} holds {stray[0]} beside the folders of the classes: move it to the folder of "
                "its class, or take it out."
            )
    classes = sorted(set().union(*held.values()))
    for side in ("members", "nonmembers"):
        if absent := sorted(set(classes) - set(held[side])):
            raise UsageError(
                f"data: {folder / side} has no folder of the class '{absent[0]}', so that classes cannot be numbered "
                "alike: give every class on both sides."
            )
    found: Arrays = {}
    parts: dict[str, tuple[list[Any], list[int]]] = {}
    for side in sides:
        files = [
            (file, place) for place, name in enumerate(classes) for file in images_in(folder / side / name, "data")
        ]
        if not files:
            raise UsageError(f"data: {folder / side} holds no images ({', '.join(IMAGES)}).")
        if side in SIDES[:2] and (empty := set(range(len(classes))) - {place for _, place in files}):
            raise UsageError(
                f"data: {folder / side / classes[min(empty)]} holds no images, so that the class stands on one side "
                "alone: give some, or take the class out on both sides."
            )
        parts[side] = [_image(file) for file, _ in files], [place for _, place in files]
    shapes = {image.shape for images, _ in parts.values() for image in images}
    if len(shapes) > 1:
        raise UsageError(f"data: {folder} holds images of several sizes ({_listed(shapes)}): give all of one size.")
    if shift.size not in (1, next(iter(shapes))[0]):
        raise UsageError(f"--pixels has {shift.size} channels and images have {next(iter(shapes))[0]}.")
    ready = {
        side: (np.stack(images) * scale[:, None, None] - shift[:, None, None]) for side, (images, _) in parts.items()
    }
    labels = {side: np.asarray(of, np.int64) for side, (_, of) in parts.items()}
    found["x"] = np.concatenate([ready[side] for side in SIDES[:2]]).astype(np.float32)
    found["y"] = np.concatenate([labels[side] for side in SIDES[:2]])
    found["member"] = np.arange(len(found["y"])) < len(labels["members"])
    if "population" in sides:
        found |= {"population_x": ready["population"].astype(np.float32), "population_y": labels["population"]}
    return found, f"Classes of the images by number from 0: {', '.join(classes)}."


def _image(path: Path) -> npt.NDArray[Any]:
    """(C, H, W) pixels in 0 to 1: one channel of grey images, three of coloured ones."""
    return (read_image(path, "data") / 255).astype(np.float32)


def _scaling(pixels: str | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """What pixels in 0 to 1 are multiplied with, and what is then subtracted, by channel."""
    one = np.ones(1, np.float32)
    if pixels in ("0-1", "0-255"):
        return one * (255 if pixels == "0-255" else 1), 0 * one
    try:
        mean, std = (np.array([float(n) for n in part.split(",")], np.float32) for part in str(pixels).split("/"))
        if mean.shape != std.shape or not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--pixels{f' {pixels!r}' if pixels else ' is missing: it'} must say how the network takes images: 0-1, "
            "0-255, or MEAN/STD of pixels in 0 to 1, such as 0.5/0.25 or 0.49,0.48,0.45/0.25,0.24,0.26."
        ) from None
    return 1 / std, mean / std


def _numbers(path: Path, name: str, values: list[Any]) -> npt.NDArray[np.float64]:
    found = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            if isinstance(value, str):
                found[row] = number({"true": "1", "false": "0"}.get(value.lower(), value))
            else:
                found[row] = float(value)  # TypeError: there is none
        except (ValueError, TypeError):
            what = "is empty" if value in (None, "") else "holds a word"  # never the value, which may be private
            raise UsageError(
                f"data: {path}: column '{name}' {what} in record {row + 1}: give numbers; frames with words or missing "
                "values are audited in Python, lacewing.audit(pipeline, (frame, y), ...)."
            ) from None
    return found


def _whole(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Whole numbers as such, so that they are classes."""
    return values.astype(np.int64) if (values == np.floor(values)).all() else values


def _listed(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:4])
