"""``lacewing init`` writes a project that runs as it is, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lacewing as lw
from lacewing.errors import UsageError
from lacewing.study.init import init

FILES = ["README.md", "data.py", "model.py", "refit.py", "study.toml"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, its data written."""
    folder = init(tmp_path_factory.mktemp("init") / "new" / "project")
    made = subprocess.run([sys.executable, "data.py"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return folder


def test_the_project_is_whole_and_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        folder = init(tmp_path / name)
        assert sorted(path.name for path in folder.iterdir()) == FILES
        assert all(path.read_text() for path in folder.iterdir())
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new", "plain"]  # nothing left aside


def test_a_folder_in_use_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        init(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        init(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return len(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        init(tmp_path / "project")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_study_is_ready_to_run(project: Path, small: ModuleType) -> None:
    done = small.lacewing("run", "study.toml", "--dry-run", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "imp-03" in done.stdout
    assert "8 networks, 0 done" in done.stdout


def test_the_study_runs(project: Path, small: ModuleType) -> None:
    changes = ["data.records=200", "train.epochs=2", "networks.1.levels=1", 'attacks.names=["loss"]']
    tiny = [word for change in changes for word in ("--set", change)]
    done = small.lacewing("run", "study.toml", *tiny, "--out", "tiny", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (project / "tiny" / "report.html").is_file()


def test_its_refit_and_model_can_be_audited(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")]))
    names = ("model", "refit")
    try:
        training = import_module("refit")
        monkeypatch.setattr(training, "EPOCHS", 2)
        training.main()
        with np.load("own.npz") as own:
            x, y, member = own["x"], own["y"], own["member"]
        members, others = np.flatnonzero(member)[:60], np.flatnonzero(~member)[:60]
        found = lw.audit(
            training.refit(x[members], y[members], 0),
            (x[members], y[members]),
            (x[others], y[others]),
            refit=training.refit,
            references=4,
            processes=1,
            progress=False,
            attacks=["lira-online"],
            out=tmp_path / "audit",
        )
    finally:
        for name in names:
            sys.modules.pop(name, None)
    assert (project / "weights.safetensors").is_file()
    assert found.attacks[0].n_members == 60
