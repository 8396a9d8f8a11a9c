"""Atomic writes, and reads that follow no links out of a folder."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from lacewing.errors import FolderError, UsageError, about_folder

_PART = re.compile(r"\..+\.[0-9a-f]{16}\.part")  # of a file that is being written
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # without it, opening a pipe without a writer blocks for ever
_BINARY = getattr(os, "O_BINARY", 0)  # Windows
_PIECE = 1 << 18  # bytes
_SETTLED = 2_000_000_000  # nanoseconds after which any change of a file changes its times, on any file system
_JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)  # Windows


def is_settled(mtime_ns: int, ctime_ns: int) -> bool:
    """Whether a file's times show every later change: within one tick of its clock a file can change unseen."""
    return time.time_ns() - max(mtime_ns, ctime_ns) > _SETTLED


def write_atomically(path: Path, content: str | bytes, *, within: Path | None = None) -> None:
    """Replace ``path`` in one step: readers see the old content or the new, never half of it.

    Args:
        path: an existing link is replaced; its target stays unchanged.
        content: text is written as UTF-8.
        within: a folder whose content may be untrusted: no link below it is followed.

    Raises:
        FolderError: a folder between ``within`` and ``path`` is a link.
        OSError: the file cannot be written; no partial file remains. The message of a full disk names the folder.
    """
    if within is not None:
        refuse_links(within, path.parent)
    with about_folder(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        # Exclusive: fails where a link or a file of that name exists already.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
        descriptor = os.open(aside, flags, 0o666)
        try:
            with open(descriptor, "wb") as stream:  # noqa: PTH123
                stream.write(content if isinstance(content, bytes) else content.encode())
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def out_folder(out: Path | str | None, *within: str) -> Path | None:
    """The folder for results, which need not be there yet; None: none was given.

    Raises:
        UsageError: it, a folder that it is in, or one of its folders ``within`` is a file.
    """
    if out is None:
        return None
    folder = Path(out)
    for place in (folder, *(folder / name for name in within)):
        there = next((path for path in (place, *place.parents) if os.path.lexists(path)), None)
        if there is not None and not there.is_dir():
            raise UsageError(f"out: {there} is no folder, and results go there: remove it, or give another folder.")
    return folder


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk. Windows cannot sync folders, nor files opened for reading only."""
    posix = hasattr(os, "O_DIRECTORY")
    if not posix and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if posix else os.O_RDWR | _BINARY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_link(path: Path | str) -> bool:
    """Whether ``path`` is a symbolic link, or one of Windows' junctions."""
    try:
        found = os.lstat(path)  # strings are several times as fast as paths
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == _JUNCTION


def refuse_links(within: Path, path: Path) -> None:
    """Refuse a path that contains a link below ``within``; ``within`` itself may be a link.

    Raises:
        FolderError: the path contains a link.
    """
    here = os.fspath(within)
    for name in path.relative_to(within).parts:
        here = os.path.join(here, name)  # noqa: PTH118
        if is_link(here):
            raise FolderError(
                f"{Path(here)} is a link, which a run folder must not contain: remove it, or copy its target."
            )


def descriptor_of(path: Path | str) -> int:
    """An open file descriptor of a regular file, for reading.

    Raises:
        UsageError: it is not a regular file but a folder, a pipe or a device.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_WAITING | _BINARY)
    except PermissionError:
        if os.path.isdir(path):  # noqa: PTH112  # which Windows does not open
            raise UsageError(f"{path} is a folder; give a file.") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; give a file.")
    raise UsageError(f"{path} is not a regular file; give a file, not a pipe or a device.")


@contextmanager
def open_regular(path: Path | str) -> Iterator[BufferedReader]:
    """Open a regular file for reading. Raises `UsageError` and `OSError`, see `descriptor_of`."""
    with open(descriptor_of(path), "rb") as stream:
        yield stream


def pieces(path: Path | str) -> Iterator[bytes]:
    """The content of a regular file, a quarter of a megabyte at a time. Raises as `descriptor_of`."""
    descriptor = descriptor_of(path)
    try:
        size = min(os.fstat(descriptor).st_size, _PIECE) + 1  # memory for a whole piece would be asked for each file
        while piece := os.read(descriptor, size):
            yield piece
    finally:
        os.close(descriptor)


def read_bounded(path: Path | str, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        UsageError: it is larger, or not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as stream:
        size = min(os.fstat(stream.fileno()).st_size, limit)
        data = stream.read(size + 1)  # `limit + 1` would take that much memory for the smallest file
        if len(data) > size:  # it grew, or is larger
            data += stream.read(limit + 1 - len(data))
    if len(data) > limit:
        raise UsageError(f"{path} is larger than {limit:,} bytes, the limit for such files.")
    return data


def remove_parts(folder: Path) -> None:
    """Remove the temporary files that a killed process left in ``folder`` during `write_atomically`."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):  # noqa: PTH208  # of tens of thousands of folders
            if _PART.fullmatch(name) and (is_link(path := folder / name) or path.is_file()):
                path.unlink(missing_ok=True)
