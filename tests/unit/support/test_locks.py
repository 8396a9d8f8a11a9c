"""One run at a time on a folder, and no worker of an earlier one beside it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lacewing.errors import FolderError, about_folder, exit_code
from lacewing.support import locks as _locks
from lacewing.support.child import Child
from lacewing.support.locks import LOCK, RUN, hold, join, under_way

HOLD = """
import sys
from pathlib import Path
from lacewing.support.locks import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
JOIN = """
import sys
from pathlib import Path
from lacewing.support.locks import join
with join(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_locks, "PATIENCE", 0.0)
    return tmp_path / "run"


@contextmanager
def holding(code: str, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock until it is killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_second_process_is_refused_until_the_first_one_dies(folder: Path) -> None:
    with holding(HOLD, folder) as holder:
        with pytest.raises(FolderError, match="in use by another lacewing process"), hold(folder):
            pass
        assert under_way(folder)
        holder.kill()
        holder.wait()
        assert not under_way(folder)
        assert names(folder) == {LOCK, RUN}  # what a kill leaves
        with hold(folder):
            assert under_way(folder)
    assert names(folder) == {LOCK}


def test_the_lock_is_released_by_an_error_and_not_shared_within_a_process(folder: Path) -> None:
    with hold(folder), pytest.raises(FolderError, match="in use"), hold(folder):
        pass
    with pytest.raises(ZeroDivisionError), hold(folder):
        raise ZeroDivisionError
    with hold(folder):
        pass
    assert names(folder) == {LOCK}


def test_each_run_has_a_token_of_its_own(folder: Path) -> None:
    with hold(folder) as first:
        assert (folder / RUN).read_text(encoding="ascii") == first
    with hold(folder) as second:
        pass
    assert first != second


def test_a_worker_of_the_run_joins_and_one_of_an_earlier_run_or_of_none_ends(folder: Path) -> None:
    with hold(folder) as token:
        with join(folder, token):
            assert len([name for name in names(folder) if name.startswith(".worker-")]) == 1
        with pytest.raises(FolderError, match="now used by another run"), join(folder, "0" * 32):
            raise AssertionError
    with pytest.raises(FolderError, match="now used"), join(folder, token):
        raise AssertionError
    with hold(folder), pytest.raises(FolderError, match="now used"), join(folder, token):
        raise AssertionError
    assert names(folder) == {LOCK}


def test_a_run_waits_for_the_workers_of_a_killed_one_and_removes_what_they_leave(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holding(HOLD, folder) as run, holding(JOIN, folder, (folder / RUN).read_text(encoding="ascii")) as worker:
        run.kill()
        run.wait()
        for _ in range(2):
            with pytest.raises(FolderError, match="workers of a killed run are still ending"), hold(folder):
                raise AssertionError
        worker.kill()
        worker.wait()
        assert any(name.startswith(".worker-") for name in names(folder))
        with hold(folder):
            assert names(folder) == {LOCK, RUN}


def test_a_worker_that_starts_late_finds_that_it_is_of_an_earlier_run_before_it_reads_anything(folder: Path) -> None:
    """The process that the engine starts, with the token of a run that was killed before the worker took its lock."""
    with hold(folder) as earlier:
        pass
    with hold(folder):
        setup = {"study": {}, "folder": str(folder), "data_root": None, "device": "cpu", "keep": "all"}
        worker = Child("lacewing.study.engine.worker", {**setup, "token": earlier})
        events = list(worker.listen())
        worker.close()
        assert [event["error"] for event in events] == ["FolderError"]
        assert "now used by another run" in events[0]["message"]


# ------------------------------------------------------------------------------------------------- planted and forged


def _link(path: Path) -> None:
    target = path.parent.parent / "victim"
    target.write_text("victim", encoding="utf-8")
    path.symlink_to(target)


@pytest.mark.parametrize("plant", [_link, os.mkfifo, Path.mkdir], ids=["link", "pipe", "folder"])
@pytest.mark.parametrize("name", [LOCK, RUN, ".worker-" + "0" * 32 + ".lock"])
def test_what_is_no_ordinary_file_is_refused_and_not_followed(
    folder: Path, name: str, plant: Callable[[Path], None]
) -> None:
    folder.mkdir()
    plant(folder / name)
    with pytest.raises(FolderError, match="is not a regular file; remove it"), hold(folder):
        raise AssertionError
    if name != LOCK:
        assert not under_way(folder)
    else:
        with pytest.raises(FolderError, match="is not a regular file"):
            under_way(folder)
    if name == RUN:
        with pytest.raises(FolderError, match="is not a regular file"), join(folder, "0" * 32):
            raise AssertionError
    if plant is _link:
        assert (folder.parent / "victim").read_text(encoding="utf-8") == "victim"


def test_files_that_only_look_like_locks_of_workers_stay(folder: Path) -> None:
    folder.mkdir()
    (folder / ".worker-mine.lock").write_text("mine", encoding="utf-8")
    with hold(folder):
        pass
    assert names(folder) == {LOCK, ".worker-mine.lock"}


# ---------------------------------------------------------------------------------------------------- asking only


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_asking_needs_no_permission_to_write_and_creates_nothing(folder: Path) -> None:
    with hold(folder):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        (folder / LOCK).chmod(stat.S_IRUSR)
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert under_way(folder)
        folder.chmod(stat.S_IRWXU)
        (folder / LOCK).chmod(stat.S_IRUSR | stat.S_IWUSR)
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert not under_way(folder)


def test_asking_works_without_fcntl(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert not under_way(folder)
    with hold(folder):
        assert under_way(folder)
    assert not under_way(folder)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EACCES])
def test_where_locks_cannot_be_asked_for_the_token_tells(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any) -> bool:
        raise OSError(code, os.strerror(code))

    with hold(folder):
        monkeypatch.setattr(_locks, "_shared_is_refused", refuse)
        assert under_way(folder)
    assert not under_way(folder)


# --------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOLCK, "does not support locks.*a folder on a local disk"),
        (errno.ENOTSUP, "does not support locks.*a folder on a local disk"),
        (errno.ENOSYS, "does not support locks.*a folder on a local disk"),
        (errno.EROFS, "is read-only; give another folder"),
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EACCES, "permission denied; give another folder"),
    ],
)
def test_a_folder_that_gives_no_lock_is_named_with_the_mend(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    with pytest.raises(OSError, match=said) as caught, hold(folder):
        raise AssertionError
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)
    assert exit_code(caught.value) == 74


def test_an_error_that_names_its_file_keeps_it_and_another_error_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^/there/x: the disk is full"), about_folder(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "/there/x")
    with pytest.raises(FileNotFoundError, match="No such file") as caught, about_folder(tmp_path):
        (tmp_path / "none").read_bytes()
    assert caught.value.errno == errno.ENOENT


# --------------------------------------------------------------------------------------------- processes of our own


def test_no_module_needs_fcntl(tmp_path: Path) -> None:
    """Each module is imported in a process in which ``import fcntl`` fails, as on Windows; filelock has it already."""
    code = (
        "import filelock, importlib, pkgutil, sys, torch, sklearn.neural_network, matplotlib.pyplot, multiprocessing\n"
        "for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios'): sys.modules[name] = None\n"
        "import lacewing\n"
        "for found in pkgutil.walk_packages(lacewing.__path__, 'lacewing.'):\n"
        "    if not found.name.endswith(('__main__', '_triton', 'engine.ray')): importlib.import_module(found.name)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
