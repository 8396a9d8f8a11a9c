"""The run folder: all or nothing, nothing altered is trusted, one process at a time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

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
    assert job["key"] == KEY
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
    there = (store.job(KEY) / "weights").exists()
    assert store.damaged == ({(KEY, "weights")} if there else set())  # what is gone may have been dropped


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": []}', "\udcff"])
def test_a_damaged_job_json_is_not_done(store, text):
    _publish(store)
    (store.job(KEY) / "job.json").write_bytes(text.encode(errors="surrogateescape"))
    assert store.read_job(KEY) is None
    assert not store.done(KEY)
    assert store.file(KEY, "metrics") is None
    assert store.damaged == {(KEY, "job.json")}


def test_what_was_never_there_is_no_damage(store):
    assert not store.done(KEY, "metrics")
    _publish(store)
    assert not store.done(KEY, "metrics", "probe")
    assert store.file(KEY, "job.json") is None
    store.drop_file(KEY, "weights")
    assert store.file(KEY, "weights") is None
    assert store.damaged == set()


def test_a_job_copied_under_the_key_of_another_is_not_done(store):
    _publish(store)
    shutil.copytree(store.job(KEY), store.job(OTHER))
    assert store.done(KEY, "metrics", "weights")
    assert not store.done(OTHER, "metrics")
    assert store.file(OTHER, "metrics") is None
    assert store.damaged == {(OTHER, "job.json")}
    _publish(store, OTHER)
    assert store.done(OTHER, "metrics", "weights")


def test_a_job_of_a_version_that_wrote_no_key_is_done(store):
    _publish(store)
    path = store.job(KEY) / "job.json"
    job = json.loads(path.read_text())
    del job["key"]
    path.write_text(json.dumps(job))
    assert store.done(KEY, "metrics", "weights")


# -------------------------------------------------------------------------------------------- one digest for each file


@pytest.fixture
def digested(monkeypatch):
    """The files that are digested, one after another; times of files count as settled after 50 ms."""
    found = []
    plain = sha256

    def counting(path):
        found.append(path.name)
        return plain(path)

    monkeypatch.setattr(store_module, "sha256", counting)
    monkeypatch.setattr(store_module, "_SETTLED", 50_000_000)
    monkeypatch.setattr(store_module, "_digests", {})
    return found


def test_a_file_is_digested_once_in_a_process_whatever_store_asks(store, digested):
    _publish(store)
    time.sleep(0.1)
    digested.clear()
    for one in (store, store, Store(store.folder)):
        assert one.done(KEY, "metrics", "weights")
        assert one.file(KEY, "weights")
    assert sorted(digested) == ["metrics", "weights"]


def test_a_file_that_was_just_written_is_digested_each_time(store, digested, monkeypatch):
    monkeypatch.setattr(store_module, "_SETTLED", 3600 * 10**9)
    _publish(store)
    digested.clear()
    assert store.done(KEY, "metrics")
    assert store.done(KEY, "metrics")
    assert digested == ["metrics", "metrics"]


def test_an_alteration_after_the_digest_is_found_though_size_and_times_are_made_to_look_the_same(store, digested):
    _publish(store)
    path = store.job(KEY) / "weights"
    time.sleep(0.1)
    assert store.done(KEY, "weights")
    before = path.stat()
    path.write_text("23")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not store.done(KEY, "weights")
    assert store.damaged == {(KEY, "weights")}
    _publish(store)  # made again
    assert store.done(KEY, "weights")


def test_a_clock_that_is_set_back_makes_digests_slower_and_no_less_safe(store, digested, monkeypatch):
    _publish(store)
    time.sleep(0.1)
    monkeypatch.setattr(store_module.time, "time_ns", lambda: 0)
    digested.clear()
    assert store.done(KEY, "weights")
    assert store.done(KEY, "weights")
    assert digested == ["weights", "weights"]


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
    for number, text in enumerate(["[]", "{}", '{"epoch": "3"}', "\udcff"]):
        garbage = store.work(f"{number:064x}") / "progress.json"
        garbage.write_bytes(text.encode(errors="surrogateescape"))
    (store.folder / "work" / "file").write_text("")
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
