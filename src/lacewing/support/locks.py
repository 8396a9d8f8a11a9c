"""One run at a time on a folder, and none while a worker of a killed run may still write there.

A run takes ``.lock``, then writes a new token into ``.run``, and only then waits until no worker holds a lock. A worker
takes a lock of its own, and only then reads the token; it ends if that is not its run's. So a worker of an earlier run
either holds its lock when the new run looks, and the new run waits for it, or it reads the new token and ends. No step
depends on how long another takes. The system releases the locks of a process that was killed.
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
    """Hold a run folder, which is created, for this process and the workers that are given the yielded token.

    Raises:
        FolderError: another process holds it, workers of a killed run have not ended, or a file of a lock's name is no
            ordinary file.
        OSError: the folder cannot be written, or its file system has no locks; the sentence names folder and mend.
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
        ending = f"{folder}: workers of a run that was killed are still ending; give the command again in a moment."
        for path in _worker_locks(folder):
            with _taken(path, deadline, ending):
                pass
            _remove(path)
        try:
            yield token
        finally:
            _remove(folder / RUN)
            for path in _worker_locks(folder):
                with suppress(FolderError, OSError):  # of one that is still ending: the next run waits for it
                    with _taken(path, deadline, ending):
                        pass
                    _remove(path)


@contextmanager
def join(folder: Path, token: str) -> Iterator[None]:
    """Hold a lock of a worker, whose run holds the folder with ``token``.

    Raises:
        FolderError: the folder is another run's.
    """
    name = f".worker-{secrets.token_hex(16)}.lock"
    with _taken(folder / name, time.monotonic(), f"{folder / name} is in use; give the command again."):
        if _read(folder / RUN) != token:
            raise FolderError(f"{folder} has been taken over by another run; this one ends.")
        yield


def under_way(folder: Path) -> bool:
    """Whether a run holds the folder now. Takes it from nobody, creates nothing, and lets go at once.

    Raises:
        FolderError: the lock is no ordinary file.
    """
    path = folder / LOCK
    if not _ordinary(path):
        return False
    try:
        return _shared_is_refused(path)
    except ImportError:  # Windows: ask for the lock itself, which a run that starts just then waits for
        try:
            with FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False):
                return False
        except Timeout:
            return True
        except OSError:
            return _ordinary(folder / RUN)
    except OSError:  # not readable, or no locks there: a run writes this file, and takes it away at its end
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
    """Hold one lock. Raises `FolderError` with the sentence ``busy`` where another process holds it at the deadline."""
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
    """Whether there is such a file. Raises `FolderError` where it is a link, a folder or a pipe."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise FolderError(f"{path} is not an ordinary file; remove it, or give --out another folder.")
    return True


def _read(path: Path) -> str | None:
    """The token in a file; None where there is none."""
    if not _ordinary(path):
        return None
    with path.open(encoding="ascii", errors="replace") as handle:
        return handle.read(64)


def _remove(path: Path) -> None:
    """Remove a file that nobody needs; Windows keeps one that is open."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
