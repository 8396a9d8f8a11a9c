"""Temporary folders for private data: for this account alone, and removed, by the next one at the latest.

Each has a lock beside it, which is taken before the folder is made and held while it is used. So a folder whose lock
nobody holds was left by a process that was killed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_NAME = re.compile(r"(lacewing-[0-9a-f]{16})(\.lock)?")
_LONGEST = 24  # characters of a folder in which sockets still have room: their paths have at most 103 on macOS


class PrivateFolder:
    """A new temporary folder of this process, with permissions 0700 from its creation on."""

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        sweep(parent)
        name = f"lacewing-{secrets.token_hex(8)}"
        self._lock = _lock(parent / f"{name}.lock")
        self._lock.acquire(timeout=10)
        self.path = parent / name
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the folder and all in it, and wait for processes that write there and are just ending."""
        for _ in range(50):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
            time.sleep(0.1)
        _drop(self._lock)


@contextmanager
def private_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private temporary folder that goes at the end."""
    folder = PrivateFolder(parent)
    try:
        yield folder.path
    finally:
        folder.remove()


def sweep(parent: Path) -> None:
    """Remove what processes of this account left in ``parent`` when they were killed: ours, not in use, no links."""
    names = {found[1] for path in parent.iterdir() if (found := _NAME.fullmatch(path.name))}
    for name in sorted(names):
        folder, lock = parent / name, _lock(parent / f"{name}.lock")
        if not (_ours(folder, stat.S_ISDIR) and _ours(Path(lock.lock_file), stat.S_ISREG)):
            continue
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        shutil.rmtree(folder, ignore_errors=True)  # follows no link
        _drop(lock)


def parent_of_sockets() -> Path:
    """The folder for temporary files, or a shorter one where paths of sockets there would be too long."""
    usual, short = Path(tempfile.gettempdir()), Path("/tmp")
    return short if len(str(usual)) > _LONGEST and short.is_dir() else usual


def _lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False, fallback_to_soft=False, mode=0o600)


def _drop(lock: FileLock) -> None:
    """Release a lock whose folder is gone, and remove its file."""
    lock.release()
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)


def _ours(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether there is nothing at ``path``, or a file of that kind that belongs to this account; links are neither."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return True
    return is_kind(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
