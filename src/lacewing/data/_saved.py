"""Folders that `save_to_disk` of Hugging Face datasets wrote: tables, token ids or images with labels."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._columns import Column, listed, of_arrow
from lacewing.data._dataset import Dataset
from lacewing.data._npz import checked
from lacewing.data._table import Table, ids_of_groups, labels_of, of_columns, target_of
from lacewing.errors import DataError, UsageError, needs_extra
from lacewing.support.images import decoded


def is_saved(path: Path) -> bool:
    """Whether it is such a folder."""
    one = (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    return one or (path / "dataset_dict.json").is_file()


def read_saved(path: Path, groups: Iterable[str], table: Table) -> Dataset:
    """The data set in such a folder, the splits of a ``DatasetDict`` one after another; its name is the folder's.

    A column of images gives x (N, C, H, W) uint8; else columns are read as those of a table, see `of_columns`. Classes
    have the names that a ``ClassLabel`` gives them.

    Raises:
        UsageError: the package datasets is not installed.
        DataError: the folder is damaged, its splits differ in columns, or its columns are none that are read.
    """
    try:
        import datasets
    except ImportError as error:
        raise needs_extra("reading a folder of Hugging Face datasets", str(error.name), "hf") from None
    where = str(path)
    try:
        found = datasets.load_from_disk(where)
        splits = list(found.values()) if isinstance(found, datasets.DatasetDict) else [found]
        if any(each.features != splits[0].features for each in splits):
            raise DataError(f"{where}: its splits differ in columns or their types: save them alike, or one alone.")
        whole = datasets.concatenate_datasets(splits)
        features = whole.features
        images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        rest = whole.select_columns([name for name in whole.column_names if name not in images]).with_format("arrow")
        columns = of_arrow(rest[:])
    except DataError:
        raise
    except Exception as error:  # of Arrow, JSON and the package itself
        raise DataError(f"{where} cannot be read as a folder of datasets ({type(error).__name__}: {error}).") from None
    target = target_of({**columns, **dict.fromkeys(images)}, table, where)
    if target in images:
        raise DataError(f"data.target: '{target}' of {where} holds images: name a column of labels.")
    for each, feature in features.items():  # their codes are no quantities
        if isinstance(feature, datasets.ClassLabel) and each != target and columns[each].kind == "numbers":
            columns[each] = _named(columns[each], feature.names)
    kind = features[target]
    names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None
    if names is not None and columns[target].kind == "numbers" and (columns[target].values < 0).any():
        raise DataError(f"data.target: '{target}' of {where} has records without a label (-1): leave these splits out.")
    used = [name for name in images if name not in table.ignore]
    if not used:
        left = tuple(name for name in table.ignore if name not in images)
        return of_columns(columns, tuple(groups), replace(table, target=target, ignore=left), where, path.name, names)
    groups = tuple(groups)
    beside = [name for name in columns if name not in (target, *groups, *table.ignore)]
    if len(used) > 1 or beside:
        raise DataError(
            f"{where} holds images ('{used[0]}') beside the columns {listed([*used[1:], *beside])}, which no model of "
            "images takes: set data.ignore."
        )
    y, classes = labels_of(columns[target], names, f"{where}: '{target}'")
    ids = ids_of_groups(columns, groups, where)
    return replace(checked(_pixels(whole, used[0], where), y, where, path.name, ids), class_names=classes)


def _named(column: Column, names: Sequence[str]) -> Column:
    """The words that a column of codes stands for, None where there is none."""
    known = [None if np.isnan(code) or code < 0 else names[int(code)] for code in column.values]
    return Column("words", np.array(known, object), declared=True)


def _pixels(whole: Any, name: str, where: str) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) of the images of a column, read as those of a folder are, and upright, as datasets gives them.

    Raises DataError where one is missing, is no image of 8 bits a channel, is transparent in part, or differs in shape.
    """
    from datasets import Image

    mode = whole.features[name].mode  # what datasets itself makes of them
    if mode not in (None, "L", "RGB"):
        raise DataError(f"{where}: '{name}' has the feature Image(mode='{mode}'): cast it to Image() or Image('RGB').")
    shapes: dict[tuple[int, ...], int] = {}
    found = []
    column = whole.select_columns([name]).with_format(None).cast_column(name, Image(mode=mode, decode=False))
    for row in range(len(column)):
        kept = column[row][name] or {"bytes": None, "path": None}
        if kept["bytes"] is None and kept["path"] is None:
            raise DataError(f"{where}: the image of record {row} is missing: leave the record out.")
        file = Path(kept["path"]) if kept["bytes"] is None else io.BytesIO(kept["bytes"])
        try:
            pixels = decoded(file, f"{where}: the image of record {row}", opaque=True, mode=mode or "", upright=True)
        except UsageError as error:
            raise DataError(str(error)) from None
        found.append(pixels)
        shapes.setdefault(pixels.shape, row)
    if len(shapes) > 1:
        (one, first), (other, second), *_ = shapes.items()
        raise DataError(
            f"{where} holds images of several shapes (record {first}: {one}, record {second}: {other}): bring them to "
            "one size and mode, such as by map and PIL's resize and convert, and save again."
        )
    return np.stack(found)
