"""The run folder: all or nothing, nothing altered is trusted, one process at a time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from lacewing.errors import FolderError
from lacewing.study import store as store_module
from lacewing.study.store import Store, sha256, write_files
from lacewing.support.files import write_atomically
from lacewing.support.formats import read_sealed, seal

KEY, OTHER = "a1" * 32, "b2" * 32
METRICS, WEIGHTS = "metrics.json", "model.safetensors"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def _publish(store, key=KEY, **files):
    def write(folder):
        for name, text in (files or {METRICS: "1", WEIGHTS: "22"}).items():
            (folder / name).write_text(text)

    store.publish(key, {"job": "dense/target/0"}, write)


def test_a_published_job_is_done_with_its_facts_and_digests(store):
    assert store.read_job(KEY) is None
    assert not store.done(KEY)
    _publish(store)
    assert store.done(KEY, METRICS, WEIGHTS)
    assert not store.done(KEY, METRICS, "signals.npz")
    assert not store.done(OTHER)
    job = json.loads((store.job(KEY) / "job.json").read_text())
    assert job["job"] == "dense/target/0"
    assert job["key"] == KEY
    assert job["files"] == {name: sha256(store.job(KEY) / name) for name in (METRICS, WEIGHTS)}
    assert store.file(KEY, WEIGHTS).read_text() == "22"
    assert store.file(KEY, "job.json") is None  # it cannot vouch for itself


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_while_writing_leaves_nothing_under_jobs(store, error):
    def write(folder):
        (folder / METRICS).write_text("half")
        raise error

    with pytest.raises(type(error)):
        store.publish(KEY, {}, write)
    assert store.read_job(KEY) is None
    assert not (store.folder / "jobs" / KEY).exists()
    _publish(store)  # what was left aside is in nobody's way
    assert store.done(KEY, METRICS, WEIGHTS)
    assert sorted(p.name for p in store.job(KEY).iterdir()) == ["job.json", METRICS, WEIGHTS]
    assert not list((store.folder / "work").iterdir())


def test_a_kill_in_the_middle_of_publishing_leaves_nothing_under_jobs(store):
    code = (
        "import os, signal, sys; from pathlib import Path; from lacewing.study.store import Store\n"
        "def write(folder):\n"
        "    (folder / 'metrics.json').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(Path(sys.argv[1])).publish(sys.argv[2], {}, write)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(store.folder), KEY], env=_environment(), check=False)
    assert found.returncode == -signal.SIGKILL
    assert not (store.folder / "jobs").exists()
    _publish(store)
    assert store.done(KEY, METRICS)


def test_publishing_again_replaces_a_damaged_result(store):
    _publish(store, **{METRICS: "1", "rewind-1.safetensors": "old"})
    (store.job(KEY) / METRICS).write_text("2")
    _publish(store, **{METRICS: "3"})
    assert store.file(KEY, METRICS).read_text() == "3"
    assert not (store.job(KEY) / "rewind-1.safetensors").exists()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_truncate, lambda p: p.write_text("23"), lambda p: p.unlink()])
def test_an_altered_file_is_not_done(store, damage):
    _publish(store)
    damage(store.job(KEY) / WEIGHTS)
    assert store.done(KEY, METRICS)
    assert not store.done(KEY, METRICS, WEIGHTS)
    assert store.file(KEY, WEIGHTS) is None
    assert store.damaged == {(KEY, f"jobs/{KEY}/{WEIGHTS}")}  # one that is gone too: nobody dropped it
    assert not store.whole(KEY, METRICS)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": []}', "\udcff"])
def test_a_damaged_job_json_is_not_done(store, text):
    _publish(store)
    (store.job(KEY) / "job.json").write_bytes(text.encode(errors="surrogateescape"))
    assert store.read_job(KEY) is None
    assert not store.done(KEY)
    assert store.file(KEY, METRICS) is None
    assert store.damaged == {(KEY, f"jobs/{KEY}/job.json")}


def test_what_was_never_there_is_no_damage(store):
    assert not store.done(KEY, METRICS)
    _publish(store)
    assert not store.done(KEY, METRICS, "probe.npz")
    assert store.file(KEY, "job.json") is None
    store.drop_file(KEY, WEIGHTS)
    assert store.file(KEY, WEIGHTS) is None
    assert store.damaged == set()


def test_a_job_copied_under_the_key_of_another_is_not_done(store):
    _publish(store)
    shutil.copytree(store.job(KEY), store.job(OTHER))
    assert store.done(KEY, METRICS, WEIGHTS)
    assert not store.done(OTHER, METRICS)
    assert store.file(OTHER, METRICS) is None
    assert store.damaged == {(OTHER, f"jobs/{OTHER}/job.json")}
    _publish(store, OTHER)
    assert store.done(OTHER, METRICS, WEIGHTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job.pop("key"),
        lambda job: job.pop("sha256"),
        lambda job: job.update(sha256="0" * 64),
        lambda job: job.update(device="cuda"),
        lambda job: job["files"].update({METRICS: "0" * 64}),
        lambda job: job["dropped"].append(WEIGHTS),
    ],
)
def test_an_altered_job_json_vouches_for_nothing(store, change):
    _publish(store)
    path = store.job(KEY) / "job.json"
    job = json.loads(path.read_text())
    change(job)
    path.write_text(json.dumps(job))
    assert store.read_job(KEY) is None
    assert not store.done(KEY, METRICS)
    assert store.damaged == {(KEY, f"jobs/{KEY}/job.json")}


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "..\\out", "C:\\x", "a/b", "", ".", "job.json", "x\0", "results.csv"]
)
def test_a_job_whose_json_names_another_file_is_not_read_however_it_is_sealed(store, name, tmp_path):
    _publish(store)
    path = store.job(KEY) / "job.json"
    job = read_sealed(path)
    (tmp_path / "run" / "out").write_text("22")
    job["files"][name] = sha256(store.job(KEY) / WEIGHTS)
    path.write_text(seal(job))
    assert store.contents(KEY) == ({}, {})
    assert not store.done(KEY, METRICS)
    with pytest.raises(FolderError, match="no file of a job"):
        write_files(tmp_path, {name: b"22"})


@pytest.mark.parametrize("part", ["jobs", "work", "job", "file"])
def test_no_link_is_followed(store, part, tmp_path):
    _publish(store)
    outside = tmp_path / "outside"
    if part == "file":
        (store.job(KEY) / WEIGHTS).rename(outside)
        (store.job(KEY) / WEIGHTS).symlink_to(outside)
        assert not store.done(KEY, WEIGHTS)
        assert store.damaged == {(KEY, f"jobs/{KEY}/{WEIGHTS}")}
        return
    place = {"jobs": store.folder / "jobs", "work": store.folder / "work", "job": store.folder / "jobs" / KEY}[part]
    place.rename(outside)
    place.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    uses = {
        "work": (store.work, store.drop_work, lambda key: store.publish(key, {}, lambda _: None)),
    }.get(part, (store.read_job, store.done, store.contents, lambda key: store.publish(key, {}, lambda _: None)))
    for use in uses:
        with pytest.raises(FolderError, match="is a link"):
            use(KEY)
    assert sorted(outside.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_file_is_damage_and_nobody_waits_for_it(store):
    _publish(store)
    for name in (WEIGHTS, "job.json"):
        (store.job(KEY) / name).unlink()
        os.mkfifo(store.job(KEY) / name)
        assert not store.done(KEY, WEIGHTS)
    assert store.damaged == {(KEY, f"jobs/{KEY}/{WEIGHTS}"), (KEY, f"jobs/{KEY}/job.json")}


def test_what_a_killed_run_was_writing_goes_and_nothing_else(store, tmp_path):
    _publish(store)
    store.work(OTHER)
    part = ".job.json.0123456789abcdef.part"
    gone = [store.folder / part, store.job(KEY) / part, store.work(OTHER) / part]
    (store.folder / "figures").mkdir()
    gone.append(store.folder / "figures" / part)
    for path in gone:
        path.write_text("half")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (store.folder / ".x.fedcba9876543210.part").symlink_to(victim)
    (store.folder / "work" / f"{OTHER}.0123456789abcdef.publishing").mkdir()
    kept = [store.folder / ".mine.part", store.folder / "work" / "notes.publishing"]
    for path in kept:
        path.write_text("kept")
    store.tidy()
    assert not any(path.exists() for path in gone)
    assert all(path.read_text() == "kept" for path in kept)
    assert victim.read_text() == "mine"
    assert sorted(p.name for p in (store.folder / "work").iterdir()) == [OTHER, "notes.publishing"]
    assert store.done(KEY, METRICS, WEIGHTS)


# -------------------------------------------------------------------------------------------- one digest for each file


@pytest.fixture
def digested(monkeypatch):
    """The files that are digested, one after another; times of files count as settled after 50 ms."""
    found = []
    plain = sha256

    def counting(path):
        found.append(Path(path).name)
        return plain(path)

    monkeypatch.setattr(store_module, "sha256", counting)
    monkeypatch.setattr("lacewing.support.files._SETTLED", 50_000_000)
    monkeypatch.setattr(store_module, "_digests", {})
    monkeypatch.setattr(store_module, "_records", {})
    return found


def test_a_file_is_digested_once_in_a_process_whatever_store_asks(store, digested):
    _publish(store)
    time.sleep(0.1)
    digested.clear()
    for one in (store, store, Store(store.folder)):
        assert one.done(KEY, METRICS, WEIGHTS)
        assert one.file(KEY, WEIGHTS)
    assert sorted(digested) == [METRICS, WEIGHTS]


@pytest.mark.parametrize("count", [4, 16])
def test_files_that_stay_the_same_are_opened_once_in_a_process_records_of_jobs_too(store, digested, monkeypatch, count):
    keys = [f"{number:064x}" for number in range(count)]
    for key in keys:
        _publish(store, key)
    time.sleep(0.1)
    opened, plain = [], os.open
    monkeypatch.setattr(
        os, "open", lambda path, *more, **named: opened.append(str(path)) or plain(path, *more, **named)
    )
    for one in (store, store, Store(store.folder)):
        assert all(one.whole(key, METRICS) and one.done(key, METRICS, WEIGHTS) for key in keys)
    assert len(opened) == len(set(opened)) == 3 * count
    assert store.read_job(keys[0])["job"] == "dense/target/0"  # what else it says is not kept
    assert len(opened) == 3 * count + 1


def test_an_alteration_of_job_json_after_it_was_read_is_found_though_size_and_times_look_the_same(store, digested):
    _publish(store)
    time.sleep(0.1)
    assert store.done(KEY, METRICS, WEIGHTS)
    path = store.job(KEY) / "job.json"
    before, text = path.stat(), path.read_text()
    path.write_text(text.replace("dense/target/0", "dense/target/1"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert not store.done(KEY, METRICS)
    assert store.damaged == {(KEY, f"jobs/{KEY}/job.json")}


def test_folders_and_files_of_two_jobs_that_are_exchanged_after_they_were_read_are_found(store, digested):
    _publish(store)
    _publish(store, OTHER, **{METRICS: "3", WEIGHTS: "44"})
    time.sleep(0.1)
    assert all(store.done(key, METRICS, WEIGHTS) for key in (KEY, OTHER))
    mine, theirs, aside = store.job(KEY), store.job(OTHER), store.folder / "aside"
    for one, other in [(mine, theirs), (mine / WEIGHTS, theirs / WEIGHTS)]:
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
        assert not any(store.done(key, METRICS, WEIGHTS) for key in (KEY, OTHER))
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
        assert all(Store(store.folder).done(key, METRICS, WEIGHTS) for key in (KEY, OTHER))
    names = ("job.json", WEIGHTS)
    assert store.damaged == {(key, f"jobs/{key}/{name}") for key in (KEY, OTHER) for name in names}


def test_what_is_kept_of_a_job_takes_less_than_a_kilobyte(store, digested):
    keys = [f"{number:064x}" for number in range(200)]
    for key in keys:
        _publish(store, key)
    time.sleep(0.1)
    tracemalloc.start()
    try:
        assert all(store.done(key, METRICS, WEIGHTS) for key in keys)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(store_module._records) == len(keys)
    digested.clear()
    assert kept < 1000 * len(keys)


def test_a_file_that_was_just_written_is_digested_each_time(store, digested, monkeypatch):
    monkeypatch.setattr("lacewing.support.files._SETTLED", 3600 * 10**9)
    _publish(store)
    digested.clear()
    assert store.done(KEY, METRICS)
    assert store.done(KEY, METRICS)
    assert digested == [METRICS, METRICS]


def test_an_alteration_after_the_digest_is_found_though_size_and_times_are_made_to_look_the_same(store, digested):
    _publish(store)
    path = store.job(KEY) / WEIGHTS
    time.sleep(0.1)
    assert store.done(KEY, WEIGHTS)
    before = path.stat()
    path.write_text("23")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not store.done(KEY, WEIGHTS)
    assert store.damaged == {(KEY, f"jobs/{KEY}/{WEIGHTS}")}
    _publish(store)  # made again
    assert store.done(KEY, WEIGHTS)


def test_a_clock_that_is_set_back_makes_digests_slower_and_no_less_safe(store, digested, monkeypatch):
    _publish(store)
    time.sleep(0.1)
    monkeypatch.setattr("time.time_ns", lambda: 0)
    digested.clear()
    assert store.done(KEY, WEIGHTS)
    assert store.done(KEY, WEIGHTS)
    assert digested == [WEIGHTS, WEIGHTS]


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
    progress = {"job": "dense/target/0", "epoch": 3, "epochs": 9, "seconds": 1.5, "saved": 1.7e9}
    (store.work(KEY) / "progress.json").write_text(json.dumps(progress))
    (store.work(OTHER) / "progress.json").write_text("{")
    for number, text in enumerate(["[]", "{}", '{"epoch": "3"}', "\udcff", "[" * 9999, "9" * 5000]):
        garbage = store.work(f"{number:064x}") / "progress.json"
        garbage.write_bytes(text.encode(errors="surrogateescape"))
    (store.folder / "work" / "file").write_text("")
    (store.folder / "work" / "no-key").mkdir()
    (store.folder / "work" / "no-key" / "progress.json").write_text("{}")
    assert list(store.unfinished()) == [(KEY, progress)]
    _publish(store)
    assert (store.work(KEY) / "progress.json").exists()
    store.drop_work(KEY)
    store.drop_work(KEY)
    assert list(store.unfinished()) == []


def test_dropping_a_file_keeps_the_rest(store):
    _publish(store)
    store.drop_file(KEY, WEIGHTS)
    store.drop_file(KEY, WEIGHTS)
    store.drop_file(OTHER, WEIGHTS)
    assert store.done(KEY, METRICS)
    assert not store.done(KEY, WEIGHTS)
    assert store.whole(KEY, METRICS)  # dropped on purpose, which job.json records
    assert store.damaged == set()


# ---------------------------------------------------------------------------------------------------------------- files


def test_writing_replaces_text_and_bytes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "results.csv"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_no_link_and_no_file_of_others_is_written_through(tmp_path, monkeypatch):
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.mkdir()
    (victim / "results.csv").write_text("mine")
    run.mkdir()
    (run / "results.csv").symlink_to(victim / "results.csv")
    (run / f".results.csv.{os.getpid()}.part").symlink_to(victim / "results.csv")  # the name until 0.1.0
    write_atomically(run / "results.csv", "ours", within=run)
    assert (run / "results.csv").read_text() == "ours"
    assert not (run / "results.csv").is_symlink()
    (run / "figures").symlink_to(victim)
    with pytest.raises(FolderError, match="is a link"):
        write_atomically(run / "figures" / "roc.svg", "x", within=run)
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    (run / ".x.0000000000000000.part").symlink_to(victim / "results.csv")
    with pytest.raises(FileExistsError):
        write_atomically(run / "x", "x")
    assert {p.name: p.read_text() for p in victim.iterdir()} == {"results.csv": "mine"}
