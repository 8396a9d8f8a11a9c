"""The run folder: keys, atomic publishing, digests. Nothing half-written is ever seen; nothing altered is trusted."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lacewing.errors import FolderError, UsageError
from lacewing.support.files import is_link, is_settled, pieces, refuse_links, remove_parts, sync, write_atomically
from lacewing.support.formats import read_json, read_sealed, seal

_KEY = re.compile(r"[0-9a-f]{64}")
# Every file of a job that we write. A name from disk is admitted if it is one of these, so that none leads elsewhere.
_NAME = re.compile(
    r"metrics\.json|(signals|probe|scores)\.npz|(model|masks|checkpoint|rewind-\d{1,9})\.safetensors|progress\.json"
)
_PUBLISHING = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.publishing")
_PROGRESS_BYTES = 1 << 16

# Of this process, since a run asks several times what is done: by `_stamp` the digest of each file, by that of each
# job.json and the job's key what it vouches for. A name stands once in memory.
_digests: dict[str, bytes] = {}
_records: dict[str, _Vouched] = {}
_alike: dict[tuple[str, ...], tuple[str, ...]] = {}

Files = dict[str, bytes]  # by name


class Store:
    """A run folder. ``jobs/<key>`` holds finished work, ``work/<key>`` what an interrupted job goes on from.

    Nothing in it is trusted: keys and names are those that we write, no link is followed, and a file counts only with
    the digest that stands in its job.json, which holds one of its own.

    Args:
        folder: created on first use.

    Attributes:
        damaged: (key, path in the folder) of each file that is lost, or is not what was published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs = os.fspath(folder / "jobs")
        self.damaged: set[tuple[str, str]] = set()

    def job(self, key: str) -> Path:
        """The folder of a finished job.

        Raises:
            FolderError: the key is not 64 hexadecimal digits, or the folder or a parent of it is a link.
        """
        return self._place("jobs", key)

    def work(self, key: str) -> Path:
        """The folder of an unfinished job's state; created. Raises `FolderError`, see ``job``."""
        path = self._place("work", key)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_work(self, key: str) -> None:
        """Remove the state of a job that needs it no more."""
        shutil.rmtree(self._place("work", key), ignore_errors=True)

    def _place(self, part: str, key: str, *names: str) -> Path:
        if not _KEY.fullmatch(key):
            raise _no_key(key)
        path = self.folder.joinpath(part, key, *names)
        refuse_links(self.folder, path)
        return path

    def read_job(self, key: str) -> dict[str, Any] | None:
        """job.json of a finished job, else None. Does not check the files' digests."""
        path = self._job_json(key)
        return None if self._stat(path) is None else self._read(key, path)

    def _job_json(self, key: str) -> str:
        """The path of job.json, checked as by ``_place``: with strings, which are several times as fast as paths."""
        if not _KEY.fullmatch(key):
            raise _no_key(key)
        parent = f"{self._jobs}{os.sep}{key}"
        if is_link(self._jobs) or is_link(parent):
            refuse_links(self.folder, Path(parent))
        return f"{parent}{os.sep}job.json"

    def _stat(self, path: str) -> os.stat_result | None:
        """That of a job.json; None: it is not there."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._missing(path)
            return None
        if stat.S_ISLNK(found.st_mode):
            refuse_links(self.folder, Path(path))
        return found

    def _missing(self, path: str) -> None:
        if os.path.exists(os.path.dirname(path)):  # noqa: PTH110, PTH120  # jobs appear complete
            self._damage(path)

    def _read(self, key: str, path: str) -> dict[str, Any] | None:
        """The content of job.json."""
        try:
            job = read_sealed(path)
        except (FileNotFoundError, NotADirectoryError):
            self._missing(path)
            return None
        except UsageError:
            self._damage(path)
            return None
        # One that was copied here from another job vouches for nothing.
        if job.get("key") == key and _vouches(job.get("files"), job.get("dropped")):
            return job
        self._damage(path)
        return None

    def _vouched(self, key: str) -> _Vouched | None:
        """What job.json of a finished job vouches for; read once in this process while it stays the same."""
        path = self._job_json(key)
        found = self._stat(path)
        if found is None:
            return None
        stamp = _stamp(found) + key
        if (known := _records.get(stamp)) is None and (job := self._read(key, path)) is not None:
            known = _Vouched.of(job)
            if is_settled(found.st_mtime_ns, found.st_ctime_ns):
                _records[stamp] = known
        return known

    def _damage(self, path: str) -> None:
        place = Path(path)
        self.damaged.add((place.parent.name, place.relative_to(self.folder).as_posix()))

    def file(self, key: str, name: str) -> Path | None:
        """A finished job's file if it is there and has the digest that was recorded when it was published."""
        job = self._vouched(key)
        return self.job(key) / name if job is not None and self._whole(job, key, name) else None

    def need(self, key: str, name: str) -> Path:
        """A finished job's file.

        Raises:
            FolderError: it is not there, or is not what was published.
        """
        path = self.file(key, name)
        if path is None:
            raise FolderError(
                f"{self.folder}/jobs/{key}/{name} is lost or damaged; run the study again to make what is missing."
            )
        return path

    def done(self, key: str, *required: str) -> bool:
        """Whether a job is finished and each required file is there, unaltered."""
        job = self._vouched(key)
        return job is not None and all(self._whole(job, key, name) for name in required)

    def whole(self, key: str, *required: str) -> bool:
        """As ``done``, and whatever else the job published is there unaltered, or was dropped on purpose."""
        job = self._vouched(key)
        if job is None or not all(self._whole(job, key, name) for name in required):
            return False
        rest = (name for name in job.names if name not in required and name not in job.dropped)
        return all(self._whole(job, key, name) for name in rest)

    def _whole(self, job: _Vouched, key: str, name: str) -> bool:
        """Whether a file that ``job`` vouches for is there with its digest."""
        if name not in job.names:
            return False
        path = f"{self._jobs}{os.sep}{key}{os.sep}{name}"  # in the folder of job.json, which was found to be no link
        try:
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and _digest(path, found) == job.digest(name):
                return True
        except (FileNotFoundError, NotADirectoryError, UsageError):
            pass
        if name not in job.dropped or os.path.isfile(path):  # noqa: PTH113
            self._damage(path)
        return False

    def contents(self, key: str) -> tuple[dict[str, Any], Files]:
        """What job.json says of a finished job beside digests, and its files that are whole; else nothing."""
        facts = self.read_job(key) or {}
        names = facts.pop("files", {})
        facts.pop("dropped", None)
        return facts, {name: path.read_bytes() for name in names if (path := self.file(key, name)) is not None}

    def publish(self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Make a finished job appear at once, complete: written aside, synced, then renamed.

        Args:
            key: of the job; an older, damaged result under it is replaced.
            facts: goes into job.json, with the digest of each file.
            write: writes the job's files into the folder that it is given.
        """
        final = self.job(key)
        aside = self._place("work", key).with_name(f"{key}.{secrets.token_hex(8)}.publishing")
        aside.mkdir(parents=True)
        try:
            write(aside)
            files = {path.name: sha256(path) for path in sorted(aside.iterdir())}
            content = seal({**facts, "key": key, "files": files, "dropped": []})
            (aside / "job.json").write_text(content, encoding="utf-8")
            for path in aside.iterdir():
                sync(path)
            sync(aside)
            final.parent.mkdir(exist_ok=True)
            if final.exists():
                shutil.rmtree(final)
            aside.rename(final)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync(final.parent)

    def drop_file(self, key: str, name: str) -> None:
        """Remove a file of a finished job that nothing planned needs any more; job.json records it."""
        job = self.read_job(key)
        if job is None or name not in job["files"]:
            return
        if name not in job["dropped"]:  # recorded first: what is gone without a record is lost
            path = self.job(key) / "job.json"
            write_atomically(path, seal({**job, "dropped": [*job["dropped"], name]}), within=self.folder)
        with suppress(FileNotFoundError):
            (self.job(key) / name).unlink()

    def tidy(self) -> None:
        """Remove what a killed run was writing. Nobody else may be writing into the folder."""
        places = [self.folder, self.folder / "figures"]
        for part in ("work", "jobs"):
            with suppress(FileNotFoundError, NotADirectoryError):
                places += [path for path in (self.folder / part).iterdir() if _KEY.fullmatch(path.name)]
        for place in places:
            refuse_links(self.folder, place)
            remove_parts(place)
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in (self.folder / "work").iterdir():
                if _PUBLISHING.fullmatch(path.name) and not is_link(path):
                    shutil.rmtree(path, ignore_errors=True)

    def unfinished(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(key, progress) of jobs with saved state, for ``lacewing status``."""
        for path in sorted((self.folder / "work").glob("*/progress.json")):
            if not _KEY.fullmatch(path.parent.name):
                continue
            refuse_links(self.folder, path)
            try:
                found = read_json(path, limit=_PROGRESS_BYTES)
            except (FileNotFoundError, UsageError):
                found = None
            if isinstance(found, dict) and _is_progress(found):
                yield path.parent.name, found
            elif path.exists():
                self._damage(os.fspath(path))


def write_files(folder: Path, files: Files) -> None:
    """Write files of a job, by name, into a folder.

    Raises:
        FolderError: a name is none of those that we write.
    """
    for name, content in files.items():
        if not _NAME.fullmatch(name):
            raise FolderError(f"{name!r} is no file of a job; the run folder that it comes from was altered.")
        (folder / name).write_bytes(content)


def sha256(path: Path | str) -> str:
    """SHA-256 of an ordinary file, hex."""
    found = hashlib.sha256()
    for piece in pieces(path):
        found.update(piece)
    return found.hexdigest()


def _no_key(key: str) -> FolderError:
    return FolderError(f"job key {key!r} is not 64 hexadecimal digits; the run folder was altered.")


class _Vouched(NamedTuple):
    """What a job.json vouches for, in little memory: a process keeps it of every job of its folder."""

    names: tuple[str, ...]  # of the job's files
    dropped: tuple[str, ...]
    digests: bytes  # of the files, one after another

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> _Vouched:
        """``job``: the content of job.json."""
        files: dict[str, str] = job["files"]
        names, dropped = (_alike.setdefault(each, each) for each in (tuple(files), tuple(job["dropped"])))
        return cls(names, dropped, bytes.fromhex("".join(files.values())))

    def digest(self, name: str) -> bytes:
        """The SHA-256 of a file when it was published."""
        start = 32 * self.names.index(name)
        return self.digests[start : start + 32]


def _vouches(files: Any, dropped: Any) -> bool:
    """Whether what job.json says of its files is of the form that we write: names of ours, with digests."""
    return (
        isinstance(files, dict)
        and all(_NAME.fullmatch(name) and isinstance(d, str) and _KEY.fullmatch(d) for name, d in files.items())
        and isinstance(dropped, list)
        and all(isinstance(name, str) and name in files for name in dropped)
    )


def _is_progress(found: Mapping[str, Any]) -> bool:
    """Whether it is what `save_checkpoint` writes."""
    numbers = [found.get("seconds"), found.get("saved")]
    return (
        isinstance(found.get("job"), str)
        and all(type(found.get(name)) is int and 0 <= found[name] < 2**31 for name in ("epoch", "epochs"))
        and all(type(n) in (int, float) and 0 <= n < 1e15 for n in numbers)  # type: ignore[operator]
    )


def _digest(path: str, found: os.stat_result) -> bytes:
    """SHA-256 of a file, computed once in this process while the file stays the same; ``found``: of os.lstat."""
    stamp = _stamp(found)
    if (digest := _digests.get(stamp)) is None:
        digest = bytes.fromhex(sha256(path))
        if is_settled(found.st_mtime_ns, found.st_ctime_ns):
            _digests[stamp] = digest
    return digest


def _stamp(found: os.stat_result) -> str:
    """What changes with a file. Nobody sets the last of its times: a restored mtime hides no change."""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} "
