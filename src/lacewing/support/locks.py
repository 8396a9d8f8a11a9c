"""Lock a run folder: one run at a time, and none while a worker of a killed run may still write to it.

A run takes ``.lock``, then writes a new token into ``.run``, then waits until no worker holds a lock. A worker first
takes its own lock, then reads the token, and ends if the token is not that of its run. So for a worker of an earlier
run there are two cases: it holds its lock when the new run looks, and the new run waits for it; or it reads the new
token and ends. No step depends on timing. The system releases the locks of a killed process.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lacewing.errors import FolderError, about_folder
from lacewing.support.files import write_atomically

LOCK, RUN = ".lock", ".run"
PATIENCE = 3.0  # seconds: workers of a killed run need a moment to notice and end
_WORKER = re.compile(r"\.worker-[0-9a-f]{32}\.lock")


@contextmanager
def hold(folder: Path) -> Iterator[str]:
    """Create and lock a run folder for this process and for the workers that receive the yielded token.

    Raises:
        FolderError: another process holds it, workers of a killed run have not ended, or a lock file is not a regular
            file.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    with about_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    busy = f"{folder} is in use by another lacewing process; wait for it, or give --out DIR."
    with _taken(folder / LOCK, deadline, busy):
        token = secrets.token_hex(16)
        _ordinary(folder / RUN)
        with about_folder(folder):
            write_atomically(folder / RUN, token)
        ending = f"{folder}: workers of a killed run are still ending; run the command again in a moment."
        for path in _worker_locks(folder):
            with _taken(path, deadline, ending):
                pass
            _remove(path)
        try:
            yield token
        finally:
            _remove(folder / RUN)
            for path in _worker_locks(folder):
                with suppress(FolderError, OSError):  # its worker is still ending: the next run waits for it
                    with _taken(path, deadline, ending):
                        pass
                    _remove(path)


@contextmanager
def join(folder: Path, token: str) -> Iterator[None]:
    """Hold a worker's lock while the run with ``token`` holds the folder.

    Raises:
        FolderError: another run holds the folder.
    """
    name = f".worker-{secrets.token_hex(16)}.lock"
    with _taken(folder / name, time.monotonic(), f"{folder / name} is in use; run the command again."):
        if _read(folder / RUN) != token:
            raise FolderError(f"{folder} is now used by another run; this worker ends.")
        yield


def under_way(folder: Path) -> bool:
    """Whether a run holds the folder now. Creates nothing and disturbs no run.

    Raises:
        FolderError: the lock is not a regular file.
    """
    path = folder / LOCK
    if not _ordinary(path):
        return False
    try:
        return _shared_is_refused(path)
    except ImportError:  # Windows: take the lock for a moment; a run that starts just then waits
        try:
            with FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False):
                return False
        except Timeout:
            return True
        except OSError:
            return _ordinary(folder / RUN)
    except OSError:  # not readable, or no locks: a run writes this file and removes it at its end
        return _ordinary(folder / RUN)


def _shared_is_refused(path: Path) -> bool:
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _taken(path: Path, deadline: float, busy: str) -> Iterator[None]:
    """Hold one lock. Raises `FolderError` with the message ``busy`` where another process holds it at the deadline."""
    _ordinary(path)
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        with about_folder(path.parent):
            lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
    except Timeout:
        raise FolderError(busy) from None
    try:
        yield
    finally:
        lock.release()


def _worker_locks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(".worker-*.lock") if _WORKER.fullmatch(path.name))


def _ordinary(path: Path) -> bool:
    """Whether the file exists. Raises `FolderError` where it is a link, a folder or a pipe."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise FolderError(f"{path} is not a regular file; remove it, or give --out another folder.")
    return True


def _read(path: Path) -> str | None:
    """The token in a file; None where there is none."""
    if not _ordinary(path):
        return None
    with path.open(encoding="ascii", errors="replace") as handle:
        return handle.read(64)


def _remove(path: Path) -> None:
    """Remove a file. Windows keeps a file that is open."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
