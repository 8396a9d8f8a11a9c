"""The run folder: all or nothing, nothing altered is trusted, one process at a time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lacewing import _files as files_module
from lacewing import store as store_module
from lacewing._files import write_atomically
from lacewing.errors import FolderError
from lacewing.store import Store, sha256

KEY, OTHER = "a1" * 32, "b2" * 32


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def _publish(store, key=KEY, **files):
    def write(folder):
        for name, text in (files or {"metrics": "1", "weights": "22"}).items():
            (folder / name).write_text(text)

    store.publish(key, {"job": "dense/target/0"}, write)


def test_a_published_job_is_done_with_its_facts_and_digests(store):
    assert store.read_job(KEY) is None
    assert not store.done(KEY)
    _publish(store)
    assert store.done(KEY, "metrics", "weights")
    assert not store.done(KEY, "metrics", "signals")
    assert not store.done(OTHER)
    job = json.loads((store.job(KEY) / "job.json").read_text())
    assert job["job"] == "dense/target/0"
    assert job["files"] == {name: sha256(store.job(KEY) / name) for name in ("metrics", "weights")}
    assert store.file(KEY, "weights").read_text() == "22"
    assert store.file(KEY, "job.json") is None  # it cannot vouch for itself


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_while_writing_leaves_nothing_under_jobs(store, error):
    def write(folder):
        (folder / "metrics").write_text("half")
        raise error

    with pytest.raises(type(error)):
        store.publish(KEY, {}, write)
    assert store.read_job(KEY) is None
    assert not (store.folder / "jobs" / KEY).exists()
    _publish(store)  # what was left aside is in nobody's way
    assert store.done(KEY, "metrics", "weights")
    assert sorted(p.name for p in store.job(KEY).iterdir()) == ["job.json", "metrics", "weights"]


def test_a_kill_in_the_middle_of_publishing_leaves_nothing_under_jobs(store):
    code = (
        "import os, signal, sys; from pathlib import Path; from lacewing.store import Store\n"
        "def write(folder):\n"
        "    (folder / 'metrics').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(Path(sys.argv[1])).publish(sys.argv[2], {}, write)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(store.folder), KEY], env=_environment(), check=False)
    assert found.returncode == -signal.SIGKILL
    assert not (store.folder / "jobs").exists()
    _publish(store)
    assert store.done(KEY, "metrics")


def test_publishing_again_replaces_a_damaged_result(store):
    _publish(store, metrics="1", rewind="old")
    (store.job(KEY) / "metrics").write_text("2")
    _publish(store, metrics="3")
    assert store.file(KEY, "metrics").read_text() == "3"
    assert not (store.job(KEY) / "rewind").exists()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_truncate, lambda p: p.write_text("23"), lambda p: p.unlink()])
def test_an_altered_file_is_not_done(store, damage):
    _publish(store)
    damage(store.job(KEY) / "weights")
    assert store.done(KEY, "metrics")
    assert not store.done(KEY, "metrics", "weights")
    assert store.file(KEY, "weights") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": []}', "\udcff"])
def test_a_damaged_job_json_is_not_done(store, text):
    _publish(store)
    (store.job(KEY) / "job.json").write_bytes(text.encode(errors="surrogateescape"))
    assert store.read_job(KEY) is None
    assert not store.done(KEY)
    assert store.file(KEY, "metrics") is None


@pytest.mark.parametrize("key", ["", "..", "a1" * 31, "A1" * 32, "g1" * 32, "../" + "a" * 61, "a1" * 32 + "\n"])
def test_keys_that_are_not_hexadecimal_are_refused_everywhere(store, key):
    for use in (
        store.job,
        store.work,
        store.drop_work,
        store.read_job,
        store.done,
        lambda k: store.publish(k, {}, print),
    ):
        with pytest.raises(FolderError, match="not 64 hexadecimal digits"):
            use(key)
    assert not store.folder.exists()


def test_work_is_kept_until_it_is_dropped_and_listed_for_status(store):
    (store.work(KEY) / "progress.json").write_text('{"epoch": 3}')
    (store.work(OTHER) / "progress.json").write_text("{")
    (store.folder / "work" / "no-key").mkdir()
    (store.folder / "work" / "no-key" / "progress.json").write_text("{}")
    assert list(store.unfinished()) == [(KEY, {"epoch": 3})]
    _publish(store)
    assert (store.work(KEY) / "progress.json").exists()
    store.drop_work(KEY)
    store.drop_work(KEY)
    assert list(store.unfinished()) == []


def test_dropping_a_file_keeps_the_rest(store):
    _publish(store)
    store.drop_file(KEY, "weights")
    store.drop_file(KEY, "weights")
    store.drop_file(OTHER, "weights")
    assert store.done(KEY, "metrics")
    assert not store.done(KEY, "weights")


# ----------------------------------------------------------------------------------------------------------------- lock

HOLD = """
import sys, time
from pathlib import Path
from lacewing.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_second_process_is_refused_until_the_first_one_dies(store, monkeypatch):
    monkeypatch.setattr(store_module, "_LOCK_PATIENCE", 0.0)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderError, match="in use by another lacewing process"), store.lock():
            pass
        holder.kill()
        holder.wait()
        with store.lock() as handle:
            assert not handle.closed
    with store.lock():
        pass


def test_the_lock_is_released_by_an_error_and_not_shared_within_a_process(store, monkeypatch):
    monkeypatch.setattr(store_module, "_LOCK_PATIENCE", 0.0)
    with store.lock(), pytest.raises(FolderError, match="in use"), Store(store.folder).lock():
        pass
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


# ---------------------------------------------------------------------------------------------------------------- files


def test_writing_replaces_text_and_bytes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("step", ["sync", "replace"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "results.csv"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    if step == "sync":
        monkeypatch.setattr(files_module, "sync", fail)
    else:
        monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]
