"""A changed study in a folder of its own, with the jobs that it shares with another one copied from there."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.slow


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


@pytest.mark.slow
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
    assert f"jobs/{key}/signals.npz is lost, damaged or was altered since, and is not copied." in done.stderr


@pytest.fixture(scope="module")
def without_weights(small: ModuleType, first: Path) -> Path:
    asked = ("--keep", "signals", "--out", first / "signals", "--processes", 1)
    done = small.lacewing("run", first / "study.toml", *ATTACKS, *asked)
    assert done.returncode == 0, done.stderr
    assert not list((first / "signals").rglob("*.safetensors"))
    return first / "signals"


def test_networks_without_weights_are_taken_over_where_nothing_needs_these(
    small: ModuleType, first: Path, without_weights: Path, tmp_path: Path
) -> None:
    reuse = ("--set", "run.seeds=[1]", "--reuse", without_weights, "--processes", 1)
    done = small.lacewing("run", first / "study.toml", *ATTACKS, *reuse, "--out", tmp_path / "same")
    assert done.returncode == 0, done.stderr
    assert _facts(tmp_path / "same").items() <= _facts(without_weights).items()


@pytest.mark.parametrize("change", ["networks.1.levels=2", 'attacks.names=["label-augmentation"]'])
@pytest.mark.slow
def test_networks_without_weights_are_trained_where_something_needs_these(
    small: ModuleType, first: Path, without_weights: Path, tmp_path: Path, change: str
) -> None:
    """A further level of pruning begins at the weights of the last, a further question is asked of them."""
    asked = ("run", first / "study.toml", *ATTACKS, "--set", change, "--set", "run.seeds=[1]")
    plain = small.lacewing(*asked, "--processes", 1, "--out", tmp_path / "plain")
    reuse = ("--reuse", without_weights, "--processes", 1)
    planned = small.lacewing(*asked, *reuse, "--dry-run", "--out", tmp_path / "run")
    assert " 0 done" in planned.stdout
    assert "every network is trained" not in planned.stdout
    done = small.lacewing(*asked, *reuse, "--out", tmp_path / "run")
    assert (plain.returncode, done.returncode) == (0, 0), done.stderr
    assert _rows(tmp_path / "run") == _rows(tmp_path / "plain")


def test_what_is_taken_over_leaves_no_weights_under_keep_signals(
    small: ModuleType, first: Path, tmp_path: Path
) -> None:
    reuse = ("--reuse", first / "run", "--keep", "signals", "--processes", 1, "--out", tmp_path / "run")
    done = small.lacewing("run", first / "study.toml", *ATTACKS, "--set", "run.seeds=[1]", *reuse)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    assert _rows(tmp_path / "run") == [row for row in _rows(first / "run") if row["seed"] == "1"]


@pytest.mark.slow
def test_what_was_asked_of_another_training_is_not_taken_over(small: ModuleType, first: Path, tmp_path: Path) -> None:
    """The same network, trained to other bits elsewhere: probes and attacks there are not about the one here."""
    shutil.copytree(first / "run", tmp_path / "other")
    for path in (tmp_path / "other" / "jobs").glob("*/job.json"):
        facts = json.loads(path.read_text())
        if facts["job"] == "imp-01/target/1":
            with np.load(path.parent / "signals.npz") as seen:
                arrays = {name: seen[name] for name in seen}
            arrays["logits_NC"][0, 0] -= 1
            np.savez_compressed(path.parent / "signals.npz", **arrays)
            digest = hashlib.sha256((path.parent / "signals.npz").read_bytes()).hexdigest()
            facts["files"]["signals.npz"] = digest
            path.write_text(json.dumps(facts))
    mine = tmp_path / "mine"
    one = ("--set", "run.seeds=[1]", "--set", "networks.1.levels=1", "--processes", 1, "--out", mine)
    done = small.lacewing("run", first / "study.toml", *one, "--set", 'attacks.names=["gap"]')
    assert done.returncode == 0, done.stderr
    done = small.lacewing(
        *("run", first / "study.toml", *one, "--set", 'attacks.names=["gap", "loss", "gradient-norm"]'),
        *("--reuse", tmp_path / "other"),
    )
    assert done.returncode == 0, done.stderr
    there, here = _facts(tmp_path / "other"), _facts(mine)
    taken = {here[key][0] for key in here.keys() & there.keys() if here[key] == there[key]}
    assert taken == {"loss on dense/target/1", "gradient-norm on dense/target/1"} | {
        f"probe (gradients) of {network}" for network in ("dense/target/1", "dense/shadow/1", "imp-01/shadow/1")
    }


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        ("nowhere", "run.seeds=[1]", "is no run folder"),
        ("run", "train.epochs=2", "it has no jobs in common with this study: train.epochs is 2 now and 3"),
        ("run", "run.seeds=[7]", "it has no jobs in common with this study: its seeds differ"),
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
