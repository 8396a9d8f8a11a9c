"""The run folder: keys, atomic publishing, digests. Nothing half-written is ever seen; nothing altered is trusted."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lacewing._files import sync
from lacewing.errors import FolderError

_KEY = re.compile(r"[0-9a-f]{64}")
_LOCK_PATIENCE = 3.0  # seconds: workers of a killed run need a moment to notice and let go


class Store:
    """A run folder. ``jobs/<key>`` holds finished work, ``work/<key>`` what an interrupted job goes on from.

    Args:
        folder: created on first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def job(self, key: str) -> Path:
        """The folder of a finished job.

        Raises:
            FolderError: the key is not 64 hexadecimal digits.
        """
        if not _KEY.fullmatch(key):
            raise FolderError(f"job key {key!r} is not 64 hexadecimal digits; the run folder was altered.")
        return self.folder / "jobs" / key

    def work(self, key: str) -> Path:
        """The folder of an unfinished job's state; created."""
        path = self.folder / "work" / self.job(key).name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_work(self, key: str) -> None:
        """Remove the state of a job that needs it no more."""
        shutil.rmtree(self.folder / "work" / self.job(key).name, ignore_errors=True)

    def read_job(self, key: str) -> dict[str, Any] | None:
        """job.json of a finished job, else None. Does not check the files' digests."""
        try:
            found = json.loads((self.job(key) / "job.json").read_text())
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
            return None
        return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else None

    def file(self, key: str, name: str) -> Path | None:
        """A finished job's file if it is there and has the digest that was recorded when it was published."""
        job = self.read_job(key)
        path = self.job(key) / name
        if job is None or name not in job["files"] or not path.is_file():
            return None
        return path if sha256(path) == job["files"][name] else None

    def done(self, key: str, *required: str) -> bool:
        """Whether a job is finished and each required file is there, unaltered."""
        return self.read_job(key) is not None and all(self.file(key, name) is not None for name in required)

    def publish(self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Make a finished job appear at once, complete: written aside, synced, then renamed.

        Args:
            key: of the job; an older, damaged result under it is replaced.
            facts: goes into job.json, with the digest of each file.
            write: writes the job's files into the folder that it is given.
        """
        final = self.job(key)
        aside = self.folder / "work" / f"{key}.publishing"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        write(aside)
        files = {path.name: sha256(path) for path in sorted(aside.iterdir())}
        (aside / "job.json").write_text(json.dumps({**facts, "files": files}, indent=1, sort_keys=True))
        for path in aside.iterdir():
            sync(path)
        sync(aside)
        final.parent.mkdir(exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        sync(final.parent)

    def drop_file(self, key: str, name: str) -> None:
        """Remove a file of a finished job that nothing planned needs any more."""
        with suppress(FileNotFoundError):
            (self.job(key) / name).unlink()

    def unfinished(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(key, progress) of jobs with saved state, for ``lacewing status``."""
        for path in sorted((self.folder / "work").glob("*/progress.json")):
            if _KEY.fullmatch(path.parent.name):
                with suppress(OSError, json.JSONDecodeError):
                    yield path.parent.name, json.loads(path.read_text())

    @contextmanager
    def lock(self) -> Iterator[IO[str]]:
        """Hold the folder for this process and the workers that inherit the yielded file.

        Raises:
            FolderError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as handle:
            deadline = time.monotonic() + _LOCK_PATIENCE
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise FolderError(
                            f"{self.folder} is in use by another lacewing process; wait for it, or give --out DIR."
                        ) from None
                    time.sleep(0.05)
            yield handle


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
