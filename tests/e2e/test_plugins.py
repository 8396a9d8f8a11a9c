"""A study with attacks, data and a method of the user's own: to its report, which stands where their code is gone."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lacewing as lw
from lacewing.config import Comparison
from lacewing.errors import FolderError, UsageError

MODULE = '''
import numpy as np
from lacewing.attacks import Attack

def load(root):
    """Three clouds of points."""
    y = np.arange(240) % 3
    return np.random.default_rng(0).normal(size=(240, 6)) + y[:, None], y

def other_each_time():
    x, y = load(None)
    return x + np.random.default_rng().normal(size=x.shape), y

def above(seen):
    return seen.logits_NC[np.arange(len(seen.label_N)), seen.label_N] - seen.logits_NC.mean(axis=1)

def margin(evidence):
    """How far the given class lies above the others."""
    return above(evidence.observed)

pruned = Attack(
    "another name", "own", "The attacker sees the outputs of the network and of its dense version.",
    lambda evidence, *, seed: above(evidence.observed) + above(evidence.related[0]),
    frozenset({"dense"}), about=frozenset({"masked"}), adaptive="the dense version's answers",
)

def fails(evidence):
    return evidence.observed.logits_NC[0, 0, 0]
'''
METHOD = '''
from lacewing.methods import Look, Method
from torch import nn

class Thin(Method):
    """Half the hidden neurons."""
    look = Look("half the neurons", "#12ab34", "P")
    reshapes = True

    def build(self, model):
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
'''
STUDY = """
schema = 1
name = "own"
[data]
dataset = "their_own:load"
[model]
name = "mlp"
hidden = [8]
[train]
epochs = 2
batch_size = 20
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 1
fraction = 0.5
[[networks]]
method = "their_method:Thin"
[attacks]
names = ["loss", "their_own:margin", "their_own:pruned", "their_own:fails"]
[run]
seeds = [0]
"""
FILES = ("results.csv", "tradeoff.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    """A working directory with the module, the study, and its run folder ``run``."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "their_own.py").write_text(MODULE)
    (folder / "their_method.py").write_text(METHOD)
    (folder / "own.toml").write_text(STUDY)
    done = small.lacewing("run", "own.toml", "--out", "run", cwd=folder)
    assert done.returncode == 3, done.stderr  # one attack fails
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place, tmp_path / "copy"))


def test_own_attacks_have_their_rows_and_one_that_fails_costs_itself_alone(place: Path) -> None:
    rows = (place / "run" / "results.csv").read_text()
    assert rows.count(",their_own:margin,") == 3
    assert rows.count(",their_own:pruned,") == 1  # not on the dense network, nor on the smaller one
    assert ",their_own:fails," not in rows
    told = (place / "stderr").read_text()
    assert "their_own:fails on imp-01/target/0: attacks.names: the attack 'their_own:fails' failed with Inde" in told
    assert "their_own.py, line 28, in fails: return evidence.observed.logits_NC[0, 0, 0]" in told
    page = (place / "run" / "report.html").read_text()
    assert "it is about pruned networks" in page
    assert "The attacker sees the outputs of the network and of its dense version." in page


def test_a_method_of_ones_own_has_its_row_its_colour_and_the_size_that_was_counted(
    place: Path, small: ModuleType
) -> None:
    with (place / "run" / "results.csv").open() as file:
        [row] = [r for r in csv.DictReader(file) if r["method"] == "their_method:Thin" and r["attack"] == "loss"]
    assert (row["network"], row["kind"], row["nonzero"]) == ("thin", "sparse", str(6 * 4 + 4 + 4 * 3 + 3))
    done = small.lacewing("run", "own.toml", "--out", "run", "--dry-run", "--json", cwd=place)
    planned = {network["name"]: network for network in json.loads(done.stdout)["networks"]}
    assert float(row["density"]) == pytest.approx(planned["thin"]["density"])
    page = (place / "run" / "report.html").read_text()
    assert "half the neurons" in page
    assert "#12ab34" in page


@pytest.mark.slow
def test_reports_stand_where_the_code_is_gone(copy: Path, small: ModuleType) -> None:
    before = {name: (copy / "run" / name).read_bytes() for name in FILES}
    for name in ("their_own.py", "their_method.py"):
        (copy / name).write_text("raise SystemExit('user code was imported')\n")
    for words in (("report", "run"), ("status", "run"), ("merge", "merged", "run")):
        done = small.lacewing(*words, cwd=copy)
        assert done.returncode in (0, 3), done.stderr
        assert "imported" not in done.stderr
    for folder in ("run", "merged"):
        assert {name: (copy / folder / name).read_bytes() for name in FILES} == before
    assert "the attack 'their_own:fails' is code of the user's" not in (copy / "merged" / "failed.json").read_text()
    done = small.lacewing("export", "run", "imp-01", "--to", "w.safetensors", cwd=copy)
    assert done.returncode == 0, done.stderr
    done = small.lacewing("run", "own.toml", "--out", "run", cwd=copy)
    assert done.returncode == 2
    assert "networks.2.method: importing 'their_method' failed with SystemExit" in done.stderr


def test_a_folder_goes_on_with_the_same_source_alone_and_its_networks_serve_another(
    copy: Path, small: ModuleType
) -> None:
    (copy / "their_own.py").write_text(MODULE.replace("logits_NC[0, 0, 0]", "logits_NC[:, 0]"))
    done = small.lacewing("run", "own.toml", "--out", "run", cwd=copy)
    assert done.returncode == 2
    assert "the source of the attack 'their_own:margin' has changed" in done.stderr
    done = small.lacewing("run", "own.toml", "--out", "new", "--reuse", "run", "--json", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr  # no network was trained again
    keys = [{path.name for path in (copy / folder / "jobs").iterdir()} for folder in ("run", "new")]
    assert len(keys[0] & keys[1]) == 6 + 3  # networks, and the attack "loss"
    assert len(keys[1] - keys[0]) == 3 + 1 + 3


@pytest.mark.slow
def test_records_that_differ_at_each_call_are_told_as_that(place: Path, small: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "their_own.py").write_text(MODULE)
    (tmp_path / "their_method.py").write_text(METHOD)
    (tmp_path / "own.toml").write_text(STUDY.replace("their_own:load", "their_own:other_each_time"))
    done = small.lacewing("run", "own.toml", "--processes", "1", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "a function of data.dataset must return the same records at each call" in done.stderr


def test_a_record_of_an_attack_is_read_with_bounds(copy: Path, forging: Any) -> None:
    path = copy / "run" / "plan.json"
    plan = forging.read(path)
    record = plan["attacks"]["their_own:pruned"]
    assert record["about"] == ["masked"]
    for field, value in (("source", "0"), ("needs", ["luck"]), ("threat_model", "x" * 3000), ("fewest", 0)):
        forging.write(path, {**plan, "attacks": {**plan["attacks"], "their_own:pruned": {**record, field: value}}})
        with pytest.raises(FolderError, match="holds no study that this version reads"):
            lw.status(path.parent)
    forging.write(path, {**plan, "attacks": {}})
    with pytest.raises(FolderError, match="unknown attack 'their_own:margin'"):
        lw.status(path.parent)


def test_a_question_may_be_declared_about_an_attack_of_ones_own() -> None:
    question = {"family": "imp", "against": "dense", "metric": "a.b:mine.tpr@.01"}
    asked = Comparison.model_validate(question)
    assert (asked.metric, asked.attack, asked.column) == ("a.b:mine.tpr@0.01", "a.b:mine", "tpr_at_fpr_0.01")
    asked = Comparison.model_validate({**question, "metric": "a.b:mine.auc"})
    assert (asked.attack, asked.column) == ("a.b:mine", "auc")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attacks": {"names": ["their_own:nothing"]}}, "attacks.names: 'their_own' does not define 'nothing'"),
        ({"attacks": {"names": ["their_own:__name__"]}}, "is a str; give an Attack, or a function"),
        ({"attacks": {"names": ["lossy"]}}, "attacks.names: unknown name 'lossy': did you mean 'loss'"),
        ({"data": {"dataset": "their_own:margin"}}, "data.dataset: their_own:margin.* failed with AttributeError"),
        ({"data": {"dataset": "their_own"}}, "data.dataset: unknown data set 'their_own'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.syspath_prepend(place)
    study = {
        "name": "x",
        "model": {"name": "mlp", "hidden": [4]},
        "train": {"epochs": 1, "precision": "fp32"},
        "networks": [{"method": "dense"}],
    }
    out = place / "nothing"
    with pytest.raises(UsageError, match=said):
        lw.run({**study, **changes}, out=out, quiet=True)
    assert not out.exists()
    sys.modules.pop("their_own", None)
