"""The commands ``lacewing data ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lacewing.cli._common import DataRoot, Json, need_command
from lacewing.support.text import print_json, say

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
    columns of x that each of its columns makes are told.
    """
    from lacewing import data

    found = data.check(name, data_root, data.Table(target, tuple(ignore or ()), tuple(category or ()), padding))
    say(f"{found.name}: {len(found)} records of shape {found.shape}, {found.classes} classes, sha256 {found.digest}")
    for column, places in found.columns.items():
        say(
            f"{column}: column{'s' * (len(places) > 1)} {', '.join(map(str, places[:20]))}{' ...' * (len(places) > 20)}"
        )
    for line in (*data.told(data.facts(found.x, found.y, found.classes, found.name)), *found.notes):
        say(line)


@app.command("pack")
def data_pack(
    folder: Annotated[Path, typer.Argument(help="Images: FOLDER/CLASS/IMAGE or FOLDER/train/CLASS/IMAGE.")],
    out: Annotated[Path, typer.Argument(help="The new folder, for data.dataset.")],
    size: Annotated[int | None, typer.Option(help="Pixels a side: the middle square of each image, scaled.")] = None,
) -> None:
    """Write a folder of images as .npy files that studies map."""
    from lacewing import data

    say(data.pack(folder.expanduser(), out.expanduser(), size=size))


@app.command("fetch")
def data_fetch(name: str, data_root: DataRoot = None) -> None:
    """Download a data set and verify its checksums."""
    from lacewing import data

    for path in data.fetch(name, data_root):
        say(path)
