"""Data sets that are named by a path: which reader takes which file or folder.

A new form of files is a function (path, names of arrays of ids) -> Dataset in a module of its own, and an entry of
`FILES` or `FOLDERS` here. Readers import optional packages inside the function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from lacewing.data._dataset import Dataset
from lacewing.data._images import holds_images, read_images
from lacewing.data._npy import holds_npy, read_npy
from lacewing.data._npz import read_npz
from lacewing.data._saved import is_saved, read_saved
from lacewing.data._table import Table, read_table
from lacewing.errors import DataError

Reader = Callable[[Path, Iterable[str]], Dataset]
TableReader = Callable[[Path, Iterable[str], Table], Dataset]

FILES: dict[str, Reader] = {  # by the suffix of a file
    ".npz": lambda path, groups: read_npz(path, groups=groups),
    ".npy": read_npy,
}
TABLES: dict[str, TableReader] = {".csv": read_table, ".parquet": read_table}
FOLDERS: list[tuple[Callable[[Path], bool], Reader]] = [  # the first whose test holds for an existing folder reads it
    (holds_npy, read_npy),
    (holds_images, read_images),  # any folder of folders: add others before it
]


def is_file_or_folder(name: str, known: Iterable[str] = ()) -> bool:
    """Whether ``name`` is a path: it has a suffix that is read or a separator, or is there and is no ``known`` name.

    ``package.module:name`` is none, whatever it contains.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() in (*FILES, *TABLES):
        return True
    if ":" in name or name in known:
        return False
    return "/" in name or os.sep in name or path.exists()


def read_path(name: str, groups: Iterable[str] = (), table: Table | None = None) -> Dataset:
    """The data set in the file or folder ``name``; ``table``: what a study says of its columns, if it has any.

    Raises:
        DataError: there is no such file, nothing reads it, or it is invalid.
    """
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    known = (
        f"{', '.join((*FILES, *TABLES))} files, folders with x.npy and y.npy or of images by class, and folders saved "
        "by Hugging Face datasets"
    )
    if suffix in TABLES and not path.is_dir():
        return TABLES[suffix](path, groups, table or Table())
    if is_saved(path):
        return read_saved(path, groups, table or Table())
    if table is not None:
        table.refuse(name)
    if suffix in FILES and not path.is_dir():
        return FILES[suffix](path, groups)
    if not path.exists():
        raise DataError(f"data.dataset: {path}: there is no such file or folder; data.dataset takes {known}.")
    if path.is_dir():
        for holds, reader in FOLDERS:
            if holds(path):
                return reader(path, groups)
        raise DataError(f"data.dataset: {path} is a folder that holds no data set; data.dataset takes {known}.")
    raise DataError(f"data.dataset: {path}: files of this kind are not read; data.dataset takes {known}.")
