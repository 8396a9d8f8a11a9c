"""Studies on records that stay in their file: the bytes of a study in memory, and a file that changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lacewing.errors import DataError
from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.store import Store

STUDY = """
schema = 1
name = "mapped"
[data]
dataset = "own/"
records = 160
groups = ["who", "duplicates"]
canaries = 4
label_noise = 0.05
[model]
name = "mlp"
hidden = [8]
[train]
epochs = 3
batch_size = 20
precision = "fp32"
augment = ["flip", "crop"]
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 1
[attacks]
names = ["discriminator", "loss", "label-noise", "label-boundary"]
[run]
seeds = [0]
"""


def make(place: Path, *, change: int = 0) -> None:
    """Images (N, H, W, C) as a pair of .npy, and the same as an .npz."""
    rng = np.random.default_rng(0)
    x, y, who = rng.integers(0, 256, (240, 6, 6, 3), dtype=np.uint8), np.arange(240) % 3, np.arange(240) // 2
    x[:, 0, 0, 0] = 80 * y
    x[11] = x[5]
    x[3, 1, 1, 0] ^= change
    (place / "own").mkdir(exist_ok=True)
    for name, values in (("x", x), ("y", y), ("who", who)):
        np.save(place / "new.npy", values)
        (place / "new.npy").replace(place / "own" / f"{name}.npy")  # whoever has mapped the old file still reads it
    np.savez(place / "own.npz", x=x, y=y, who=who)
    (place / "mapped.toml").write_text(STUDY)


def started(small: ModuleType, command: list[str], place: Path, *, awaited: str) -> subprocess.Popen[str]:
    """A run in another process, whose folder ``run`` holds what the pattern ``awaited`` names."""
    run = subprocess.Popen(
        [sys.executable, "-m", "lacewing", *command, "--out", "run"],
        cwd=place,
        env=small.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while run.poll() is None and not any((place / "run").glob(awaited)):
        time.sleep(0.01)
    return run


@pytest.fixture
def told(monkeypatch):
    """The calls that have this process hold little memory, which are not done here."""
    calls = []
    monkeypatch.setattr("lacewing.study.jobs._workspace.hold_little_memory", lambda: calls.append("little"))
    return calls


@pytest.mark.parametrize(("source", "expected"), [("own/", ["little"]), ("own.npz", [])])
def test_a_process_holds_little_memory_where_records_stay_in_their_file(tmp_path, monkeypatch, told, source, expected):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    study, store = load_study("mapped.toml", [f"data.dataset='{source}'"]), Store(tmp_path / "run")
    handed = jobs.Workspace.open(study, store, None).handed_on()
    assert told == []
    jobs.Workspace.receive(handed, study, store, None)
    assert told == expected


def test_another_process_refuses_records_that_have_changed(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    study, store = load_study("mapped.toml"), Store(tmp_path / "run")
    work = jobs.Workspace.open(study, store, None)
    handed = work.handed_on()
    again = jobs.Workspace.receive(handed, study, store, None)
    for one, other in zip(again.normalisation, work.normalisation, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    work.check_data()
    make(tmp_path, change=1)
    says = r"the records of own/ are not those with which this run began: a file must stay as it is .* is kept\.$"
    with pytest.raises(DataError, match=says):
        jobs.Workspace.receive(handed, study, store, None)
    with pytest.raises(DataError, match=says):
        work.check_data()
    (tmp_path / "own" / "x.npy").unlink()
    with pytest.raises(DataError, match=says):
        work.check_data()


@pytest.mark.slow
def test_a_study_on_a_map_has_the_bytes_of_one_in_memory(tmp_path: Path, small: ModuleType) -> None:
    make(tmp_path)
    for name in ("own/", "own.npz"):
        out = f"run-{Path(name).name}"
        done = small.lacewing("run", "mapped.toml", "--set", f"data.dataset={name}", "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    results = [(tmp_path / out / "results.csv").read_bytes() for out in ("run-own", "run-own.npz")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_file_that_changes_stops_the_study_which_goes_on_once_it_is_restored(
    tmp_path: Path, small: ModuleType
) -> None:
    make(tmp_path)
    command = ["run", "mapped.toml", "--set", "train.epochs=60", "--processes", "1"]
    done = small.lacewing(*command, "--out", "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = started(small, command, tmp_path, awaited="jobs/*")
    make(tmp_path, change=1)
    said = run.communicate()[1]
    assert run.returncode == 2, said
    assert "the records of own/ are not those with which this run began" in said
    finished = tmp_path / "run" / "jobs"
    kept = {path.name for path in finished.iterdir()}
    assert kept
    done = small.lacewing(*command, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds another study" in done.stderr
    make(tmp_path)
    done = small.lacewing(*command, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert kept <= {path.name for path in finished.iterdir()}
    results = [(tmp_path / out / "results.csv").read_bytes() for out in ("run", "whole")]
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut short there")
def test_a_file_that_is_cut_short_ends_its_readers_and_the_study_goes_on_once_it_is_whole(
    tmp_path: Path, small: ModuleType
) -> None:
    make(tmp_path)
    mapped = tmp_path / "own" / "x.npy"
    np.save(mapped, np.random.default_rng(1).integers(0, 256, (1600, 6, 6, 3), dtype=np.uint8))
    np.save(tmp_path / "own" / "y.npy", np.arange(1600) % 3)
    whole = mapped.read_bytes()
    study = STUDY.replace('records = 160\ngroups = ["who", "duplicates"]\n', "").split("[[networks]]")[0]
    (tmp_path / "mapped.toml").write_text(f'{study}[[networks]]\nmethod = "dense"\n[run]\nseeds = [0]\n')
    # Batches of one record: an epoch has 400 steps, each of which reads the file, before the file is looked at.
    settings = ["--set", "train.batch_size=1", "--set", "train.lr=0.001", "--set", "train.epochs=4"]
    command = ["run", "mapped.toml", *settings, "--only", "role=target"]
    run = started(small, command, tmp_path, awaited="work/*/*.safetensors")
    os.truncate(mapped, 200)
    said = run.communicate()[1]
    assert run.returncode == 2, said
    assert f"its worker process ended with signal {int(signal.SIGBUS)}; was a file of records cut short" in said
    assert "the records of own/ are not those with which this run began" in said.splitlines()[-1]
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix == ".part"]
    done = small.lacewing(*command, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "x.npy: is no complete .npy file" in done.stderr
    mapped.write_bytes(whole)
    done = small.lacewing(*command, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/4" not in done.stderr  # it goes on from what was saved
