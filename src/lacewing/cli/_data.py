"""The commands ``lacewing data ...``."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from lacewing.cli._common import DataRoot, Json, need_command
from lacewing.support.text import print_json, say

_VALUES = 5  # of a category that are shown, so many characters of each
_CHARACTERS = 40

app = typer.Typer(invoke_without_command=True)


@app.callback()
def _data(context: typer.Context) -> None:
    """List, check and download data sets."""
    need_command(context)


@app.command("list")
def data_list(data_root: DataRoot = None, as_json: Json = False) -> None:
    """List the data sets that studies can use."""
    from lacewing import data

    infos = [data.describe(name) for name in data.names()]
    if as_json:
        print_json({"schema": 1, "datasets": [vars(info) for info in infos]})
        return
    for info in infos:
        shape = "x".join(map(str, info.shape))
        say(f"{info.name:<14} {info.records:>6} records of {shape}, {info.classes} classes; {info.source}")


@app.command("check")
def data_check(
    name: str,
    data_root: DataRoot = None,
    target: Annotated[str | None, typer.Option(help="Of a table: the column of labels.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A column to leave out; may be repeated.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="A column of numbers that are categories.")] = None,
    padding: Annotated[int | None, typer.Option(help="The id that fills up short records of token ids.")] = None,
) -> None:
    """Read a data set and verify its checksum.

    Exact copies, constant features and rare classes are counted. Of a table, the
    columns of x that each of its columns makes are told, and the values of a category.
    """
    from lacewing import data

    found = data.check(name, data_root, data.Table(target, tuple(ignore or ()), tuple(category or ()), padding))
    say(f"{found.name}: {len(found)} records of shape {found.shape}, {found.classes} classes, sha256 {found.digest}")
    for column, places in found.columns.items():
        said = f"{column}: column{'s' * (len(places) > 1)} {_listed(map(str, places), len(places), 20)}"
        if values := found.values.get(column):
            shown = ("(missing)" if value is None else _short(value) for value in values)
            said += f", {len(values):,} value{'s' * (len(values) > 1)}: {_listed(shown, len(values), _VALUES)}"
        say(said)
    for line in (*data.told(data.facts(found.x, found.y, found.classes, found.name)), *found.notes):
        say(line)


@app.command("pack")
def data_pack(
    folder: Annotated[Path, typer.Argument(help="Images: FOLDER/CLASS/IMAGE or FOLDER/train/CLASS/IMAGE.")],
    out: Annotated[Path, typer.Argument(help="The new folder, for data.dataset.")],
    size: Annotated[int | None, typer.Option(help="Pixels a side: the middle square of each image, scaled.")] = None,
) -> None:
    """Write a folder of images as .npy files that studies map."""
    import numpy as np

    from lacewing import data

    packed = data.pack(folder.expanduser(), out.expanduser(), size=size)
    x = np.load(packed / "x.npy", mmap_mode="r", allow_pickle=False)
    classes = len((packed / "classes.txt").read_text(encoding="utf-8").splitlines())
    say(packed)
    say(f"{len(x):,} records of {' x '.join(map(str, x.shape[1:]))}, {classes:,} classes, {x.nbytes:,} bytes of images")


@app.command("fetch")
def data_fetch(name: str, data_root: DataRoot = None) -> None:
    """Download a data set and verify its checksums."""
    from lacewing import data

    for path in data.fetch(name, data_root):
        say(path)


def _listed(items: Iterable[str], count: int, most: int) -> str:
    return ", ".join(islice(items, most)) + " ..." * (count > most)


def _short(value: str) -> str:
    """A value on one line."""
    text = " ".join(value.split())
    return f"'{text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + '...'}'"
