"""Tables in .csv and .parquet files, by column."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacewing.errors import UsageError, needs_extra
from lacewing.support.formats import read_csv

INDEX = ("", "Unnamed: 0", "__index_level_0__")  # what pandas calls the column of a frame's index in a file


def csv_columns(path: Path, where: str = "") -> dict[str, list[str]]:
    """The cells of each column of a .csv in order of its lines, spaces around them stripped.

    Raises:
        UsageError: it names the file, after ``where``: no header and line, other separators than commas, two columns of
            one name, or lines of unequal length.
    """
    rows = read_csv(path)
    if len(rows) < 2:
        raise UsageError(f"{where}{path} has {len(rows)} lines: give a header and a line a record.")
    header = [name.strip() for name in rows[0]]
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UsageError(f"{where}{path} has one column '{header[0][:60]}': separate cells by commas.")
    if len(set(header)) < len(header):
        raise UsageError(f"{where}{path} has two columns of one name: give each its own.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UsageError(
                f"{where}{path}: line {number} has {len(row)} cells, the header has {len(header)}: give it as many."
            )
    return {name: [row[at].strip() for row in rows[1:]] for at, name in enumerate(header)}


def parquet_table(path: Path, where: str = "") -> Any:
    """The ``pyarrow.Table`` of a .parquet; columns that were written as Arrow's dictionaries are such again.

    Raises:
        UsageError: pyarrow is not installed; the file, named after ``where``, is no Parquet, or two of its columns have
            one name.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_metadata, read_table
    except ImportError as error:
        raise needs_extra("reading Parquet", str(error.name), "parquet") from None
    try:
        table = read_table(path)
        for name in _dictionaries(read_metadata(path).metadata):
            if (at := table.schema.get_field_index(name)) >= 0:  # -1: two have the name, which is refused below
                table = table.set_column(at, name, table.column(at).dictionary_encode())
    except (ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{where}{path} cannot be read as Parquet ({' '.join(str(error).split())[:200]}).") from None
    if len(set(table.column_names)) < table.num_columns:
        raise UsageError(f"{where}{path} has two columns of one name: give each its own.")
    return table


def _dictionaries(kept: Mapping[bytes, bytes] | None) -> list[str]:
    """The columns that the schema in a .parquet's metadata calls dictionaries, which reading restores for words alone.

    A column whose pages are encoded by dictionaries is none: most writers do that to every column of few values.
    """
    import pyarrow as pa

    stored = (kept or {}).get(b"ARROW:schema")
    schema = pa.ipc.read_schema(pa.BufferReader(b64decode(stored))) if stored else ()
    return [field.name for field in schema if pa.types.is_dictionary(field.type)]


def number(cell: str) -> float:
    """The number that a cell of a .csv holds: ASCII digits without underscores. Raises ValueError."""
    if not cell.isascii() or "_" in cell:  # float takes 1_0 as 10, and the digits of every script
        raise ValueError(cell)
    return float(cell)
