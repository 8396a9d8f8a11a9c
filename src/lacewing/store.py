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
_SETTLED = 2_000_000_000  # nanoseconds after which any change of a file changes its times, on any file system
_digests: dict[tuple[int, ...], str] = {}  # of this process: a run asks several times what is done

Files = dict[str, bytes]  # by name


class Store:
    """A run folder. ``jobs/<key>`` holds finished work, ``work/<key>`` what an interrupted job goes on from.

    Args:
        folder: created on first use.

    Attributes:
        damaged: (key, name) of each file that was asked for, and found to be not what was published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: set[tuple[str, str]] = set()

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
        path = self.job(key) / "job.json"
        found = _json(path)
        # One that was copied here from another job vouches for nothing; before 0.1.0 it did not hold its key.
        if found is not None and isinstance(found.get("files"), dict) and found.get("key", key) == key:
            return found
        if path.exists():
            self.damaged.add((key, "job.json"))
        return None

    def file(self, key: str, name: str) -> Path | None:
        """A finished job's file if it is there and has the digest that was recorded when it was published."""
        job = self.read_job(key)
        return self.job(key) / name if job is not None and self._whole(job, key, name) else None

    def done(self, key: str, *required: str) -> bool:
        """Whether a job is finished and each required file is there, unaltered."""
        job = self.read_job(key)
        return job is not None and all(self._whole(job, key, name) for name in required)

    def _whole(self, job: Mapping[str, Any], key: str, name: str) -> bool:
        """Whether a file of ``job``, read from job.json, is there with its digest. One that is gone was dropped."""
        path = self.job(key) / name
        if name not in job["files"] or not path.is_file():
            return False
        if _digest(path) == job["files"][name]:
            return True
        self.damaged.add((key, name))
        return False

    def contents(self, key: str) -> tuple[dict[str, Any], Files]:
        """What job.json says of a finished job beside digests, and its files that are whole; else nothing."""
        facts = self.read_job(key) or {}
        names = facts.pop("files", {})
        return facts, {name: path.read_bytes() for name in names if (path := self.file(key, name)) is not None}

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
        (aside / "job.json").write_text(
            json.dumps({**facts, "key": key, "files": files}, indent=1, sort_keys=True), encoding="utf-8"
        )
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
            found = _json(path) if _KEY.fullmatch(path.parent.name) else None
            if found is not None and isinstance(found.get("epoch"), int):
                yield path.parent.name, found

    @contextmanager
    def lock(self) -> Iterator[IO[str]]:
        """Hold the folder for this process and the workers that inherit the yielded file.

        Raises:
            FolderError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a", encoding="utf-8") as handle:
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


def write_files(folder: Path, files: Files) -> None:
    """Write files, by name, into a folder."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _json(path: Path) -> dict[str, Any] | None:
    """The object that a file holds; None where it cannot be read, is no JSON, or another kind of value."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _digest(path: Path) -> str:
    """SHA-256 of a file, computed once in this process while the file stays the same."""
    found = path.stat()
    times = (found.st_mtime_ns, found.st_ctime_ns)  # nobody sets the second: a restored mtime hides no change
    same = (found.st_dev, found.st_ino, found.st_size, *times)
    if (digest := _digests.get(same)) is None:
        digest = sha256(path)
        if time.time_ns() - max(times) > _SETTLED:  # within one tick of its clock a file can change unseen
            _digests[same] = digest
    return digest
