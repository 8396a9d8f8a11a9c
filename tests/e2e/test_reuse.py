"""A changed study in a folder of its own, with what it shares with another one taken over."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest


def _facts(folder: Path) -> dict[str, tuple[str, float]]:
    """By key of a job: what it is, and when it was finished."""
    found = {path.parent.name: json.loads(path.read_text()) for path in (folder / "jobs").glob("*/job.json")}
    return {key: (facts["job"], facts.get("finished", 0.0)) for key, facts in found.items()}


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def first(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study of one level, under two seeds, with an attack that asks for more than the outputs."""
    folder = tmp_path_factory.mktemp("reuse")
    text = small.STUDY.replace("levels = 2", "levels = 1").replace("seeds = [0]", "seeds = [0, 1]")
    (folder / "study.toml").write_text(text)
    done = small.lacewing("run", folder / "study.toml", *ATTACKS, "--processes", 1, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder


ATTACKS = ("--set", 'attacks.names=["loss", "gradient-norm"]')


def test_what_a_change_leaves_as_it_is_is_taken_over(small: ModuleType, first: Path, tmp_path: Path) -> None:
    """One seed less, another setting of queries: nothing is trained, asked or attacked but what is new."""
    change = ("--set", "run.seeds=[1]", "--set", "signals.queries=2")
    attacks = ("--set", 'attacks.names=["gradient-norm", "label-augmentation"]')
    reuse = ("--reuse", first / "run", "--out", tmp_path / "run")
    plan = small.lacewing("run", first / "study.toml", *change, *attacks, *reuse, "--dry-run")
    assert "4 networks, 0 done" in plan.stdout  # they are trained, and still to be asked something
    assert "every network is trained" in plan.stdout
    assert not (tmp_path / "run").exists()
    done = small.lacewing("run", first / "study.toml", *change, *attacks, *reuse, "--processes", 1)
    assert done.returncode == 0, done.stderr
    before, after = _facts(first / "run"), _facts(tmp_path / "run")
    shared = before.keys() & after.keys()
    assert all(before[key] == after[key] for key in shared)
    # Four networks, their gradients, and the attack with them on the two targets.
    assert len(shared) == 4 + 4 + 2
    assert {name.split(" of ")[0] for key, (name, _) in after.items() if key not in shared} == {
        "probe (queries)",
        "probe (noise)",
        "label-augmentation on dense/target/1",
        "label-augmentation on imp-01/target/1",
    }
    old = [row for row in _rows(first / "run") if (row["seed"], row["attack"]) == ("1", "gradient-norm")]
    assert [row for row in _rows(tmp_path / "run") if row["attack"] == "gradient-norm"] == old


def test_a_network_that_was_altered_there_is_trained_here(small: ModuleType, first: Path, tmp_path: Path) -> None:
    shutil.copytree(first / "run", tmp_path / "other")
    (key,) = [key for key, (name, _) in _facts(first / "run").items() if name == "dense/target/1"]
    (tmp_path / "other" / "jobs" / key / "signals.npz").write_bytes(b"altered")
    done = small.lacewing(
        *("run", first / "study.toml", "--set", "run.seeds=[1]", "--set", 'attacks.names=["loss"]', "--processes", 1),
        *("--reuse", tmp_path / "other", "--out", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "jobs" / key / "signals.npz").read_bytes() == (
        first / "run" / "jobs" / key / "signals.npz"
    ).read_bytes()
    assert _facts(tmp_path / "run")[key] != _facts(first / "run")[key]


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        ("nowhere", "run.seeds=[1]", "is no run folder"),
        ("run", "train.epochs=2", "nothing there is of this study"),
        ("run", "run.seeds=[7]", "nothing there is of this study"),
    ],
)
def test_a_folder_of_which_nothing_is_of_use_is_refused(
    small: ModuleType, first: Path, tmp_path: Path, place: str, change: str, said: str
) -> None:
    asked = ("run", first / "study.toml", "--set", change, "--reuse", first / place, "--out", tmp_path / "run")
    done = small.lacewing(*asked)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "run").exists()
