"""`lacewing.audit_property` and its command: planted and absent properties, continued folders, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.errors import GateFailed, UsageError

CALLS: list[int] = []
REFIT = '''
import numpy as np


def refit(x, y, seed):
    """The share of each class, whatever is asked."""
    counts = np.bincount(y, minlength=3) + 1.0
    tilt = np.random.default_rng(seed).normal(0, 0.05, (4, 3))
    return lambda asked: np.log(counts / counts.sum()) + asked @ tilt
'''


def records(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n)


def shares_of_classes(x: Any, y: Any, seed: int) -> Any:
    CALLS.append(seed)
    counts = np.bincount(y, minlength=3) + 1.0
    rng = np.random.default_rng(seed)
    tilt = rng.normal(0, 0.05, (4, 3))
    return lambda asked: np.log(counts / counts.sum()) + np.asarray(asked) @ tilt


def blind(x: Any, y: Any, seed: int) -> Any:
    tilt = np.random.default_rng(seed).normal(0, 1, (4, 3))
    return lambda asked: np.asarray(asked) @ tilt


def pruned(x: Any, y: Any, seed: int) -> nn.Module:
    """Prunes the weights of as many inputs as class 1 is frequent."""
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight[:, : 1 + int((y == 1).mean() > 0.5)] = 0
    return model


def worlds(**changed: Any) -> lw.Worlds:
    return lw.Worlds(**{"data": records(), "of": "class 1", "shares": (0.2, 0.6), "records": 40, **changed})


def test_what_the_training_tells_is_found_and_a_folder_continues(tmp_path: Path) -> None:
    CALLS.clear()
    found = lw.audit_property(shares_of_classes, worlds(), networks=8, pools=3, out=tmp_path, progress=False)
    rows = {row.attack: row for row in found.rows}
    assert rows["log-odds"].accuracy == 1
    assert rows["log-odds"].found
    assert rows["log-odds"].seeds == 3
    assert rows["log-odds"].attacked == 24
    assert "weights" not in rows
    assert sorted(CALLS) == list(range(48))
    document = json.loads((tmp_path / "property.json").read_text())
    assert len(document["rows"]) == len(rows)
    assert "log-odds" in str(found)
    for path in sorted((tmp_path / "references").iterdir())[:5]:
        path.unlink()  # as after a kill
    CALLS.clear()
    again = lw.audit_property(shares_of_classes, worlds(), networks=8, pools=3, out=tmp_path, progress=False)
    assert len(CALLS) == 5
    assert again.rows == found.rows
    CALLS.clear()  # a global that refit reads: part of what a network is known by
    cost = lw.audit_property(shares_of_classes, worlds(), networks=8, pools=3, out=tmp_path, dry_run=True)
    assert (cost.networks, cost.there) == (48, 48)


def test_the_mask_alone_is_read_where_networks_are_pruned() -> None:
    found = lw.audit_property(pruned, worlds(shares=(0.2, 0.7)), networks=8, pools=1, progress=False)
    rows = {row.attack: row for row in found.rows}
    assert rows["mask"].accuracy == 1
    assert rows["mask"].chosen == "mask-layers"
    assert {"weights", "fixed"} <= rows.keys()


def test_a_training_that_looks_at_nothing_tells_nothing() -> None:
    found = 0
    for seed in range(8):
        audit = lw.audit_property(blind, worlds(), networks=8, seed=seed, progress=False)
        found += sum(row.found for row in audit.rows)
    assert found <= 3  # of 24


def test_records_with_the_property_may_be_named_one_by_one() -> None:
    _, y = records()
    given = lw.audit_property(shares_of_classes, worlds(of=y == 1), networks=4, progress=False)
    named = lw.audit_property(shares_of_classes, worlds(), networks=4, progress=False)
    assert [row.accuracy for row in given.rows] == [row.accuracy for row in named.rows]
    told = lw.audit_property(shares_of_classes, worlds(of="redrawn labels"), networks=4, progress=False)
    assert told.findings.of == "redrawn labels"


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"of": "class 3"}, {}, r"worlds.of: there is no class 3; the classes are 0 to 2"),
        ({"of": np.zeros(300, bool)}, {}, r"worlds.of: no record has the property"),
        ({"of": np.zeros(3, bool)}, {}, r"worlds.of is bool of shape \(3,\) beside 300 records"),
        ({"shares": (0.2, 0.2)}, {}, r"worlds: shares: the worlds 0.2 and 0.2 are the same"),
        ({"shares": (0.2,)}, {}, r"worlds: shares"),
        ({"shares": (0.2, 1.5)}, {}, r"worlds: shares"),
        ({"records": 200}, {}, r"worlds.shares: a world of 0.2 needs 40 records with the property"),
        ({"records": 1}, {}, r"worlds: records = 1"),
        ({}, {"networks": 1}, r"worlds: networks = 1"),
        ({}, {"pools": 0}, r"pools = 0: give a whole number"),
        ({}, {"asked": 0.0}, r"worlds: asked = 0.0"),
        ({"shares": (0.2, 0.21)}, {}, r"worlds: shares: 0.2 and 0.21 are both 8 of 40 records"),
        ({"shares": (0.2, float("nan"))}, {}, r"worlds: shares"),
        ({"shares": "0.2"}, {}, r"worlds: shares"),
        ({"data": (np.full((300, 4), np.nan), records()[1])}, {}, r"worlds.data"),
        ({"of": "feature 4"}, {}, r"worlds.of: there is no feature 4; the features are 0 to 3"),
        ({"poison": 0.1}, {}, r"worlds: poison_label is missing"),
        ({"poison": 0.1, "poison_label": 3}, {}, r"worlds.poison_label: there is no class 3; the classes are 0 to 2"),
        ({"poison": 0.1, "poison_label": 1}, {}, r"worlds: poison_label: records of class 1 have this label already"),
        ({"poison": 0.45, "poison_label": 0, "shares": (0, 0.5)}, {"asked": 0.1}, r"worlds.poison takes 18 of the"),
    ],
)
def test_worlds_that_cannot_be_made_are_refused_before_any_training(
    changed: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    CALLS.clear()
    with pytest.raises(UsageError, match=message):
        lw.audit_property(shares_of_classes, worlds(**changed), progress=False, **options)
    assert not CALLS
    with pytest.raises(UsageError, match=r"worlds is a tuple: give lacewing\.Worlds"):
        lw.audit_property(shares_of_classes, records(), progress=False)  # type: ignore[arg-type]


def labels_of_a_kind(x: Any, y: Any, seed: int) -> Any:
    """How often each label is among records whose first number is above 0, and among the others."""
    tilt = np.random.default_rng(seed).normal(0, 0.03, 3)
    above = np.asarray(x)[:, 0] > 0
    log = [np.log(np.bincount(np.asarray(y)[of], minlength=3) + 1.0) for of in (~above, above)]
    return lambda asked: np.stack(log)[(np.asarray(asked)[:, 0] > 0).astype(int)] + tilt


def test_snap_tells_the_share_of_a_feature_by_the_label_of_its_poison(tmp_path: Path) -> None:
    """The label does not depend on the feature, but for the poison."""
    given = worlds(data=records(1500), of="feature 0", shares=(0.1, 0.8), records=200, poison=0.1, poison_label=2)
    options: dict[str, Any] = {"networks": 16, "progress": False, "out": tmp_path}
    found = lw.audit_property(labels_of_a_kind, given, **options)
    rows = {row.attack: row for row in found.rows}
    assert rows["snap"].found
    assert rows["snap"].accuracy > rows["log-odds"].accuracy
    assert rows["snap"].chosen == "log-odds of class 2"
    assert "snap" in [row.attack for row in found.told]
    (passed,) = found.check("log-odds.accuracy > 0.7")
    assert not passed.failed
    with pytest.raises(GateFailed, match=r"lower end of .*snap"):
        found.check("accuracy > 0.5")
    assert found.as_json()["poison"] == 0.1
    assert "snap poisons training: 10 %" in str(found)
    clean = worlds(data=records(1500), of="feature 0", shares=(0.1, 0.8), records=200)
    cost = lw.audit_property(labels_of_a_kind, clean, **options, dry_run=True)
    assert (cost.networks, cost.there) == (32, 32)  # those without poison are the same
    poisoned = lw.audit_property(labels_of_a_kind, given, **options, dry_run=True)
    assert (poisoned.networks, poisoned.there) == (64, 64)
    alone = lw.audit_property(labels_of_a_kind, clean, **options)
    assert [row for row in found.rows if row.attack != "snap"] == list(alone.rows)


def test_gates_compare_the_lower_end_and_the_page_shows_every_attack(tmp_path: Path) -> None:
    found = lw.audit_property(shares_of_classes, worlds(), networks=8, pools=3, out=tmp_path, progress=False)
    with pytest.raises(GateFailed, match=r"log-odds\.accuracy > 0\.6: lower end of log-odds 0\.8"):
        found.check("log-odds.accuracy > 0.6")
    with pytest.raises(GateFailed, match="n_leaked > 1"):
        found.check("n_leaked > 1")
    for gate, message in (
        ("mask.accuracy > 0.6", "'mask' did not run: these networks have no mask"),
        ("snap.accuracy > 0.6", "'snap' did not run, since nobody poisons"),
        ("kl.accuracy > 0.95", "so that this gate could never fail"),
        ("kl.acuracy > 0.5", "there is no metric 'acuracy'"),
        ("kll.accuracy > 0.5", "there is no attack 'kll'"),
        ("kl.accuracy.lower > 0.5", "'.lower' is not an end"),
        ("kl.accuracy > 1", "never true"),
        ("tpr@0.01 > 0.1", "must read ATTACK.METRIC > NUMBER"),
    ):
        with pytest.raises(UsageError, match=message):
            found.check(gate)
    with pytest.raises(UsageError, match="at least one gate"):
        found.check()
    page = (tmp_path / "report.html").read_text()
    assert found.sentence.replace("'", "&#39;") in page
    assert page.count('<th scope="row">log-odds</th>') == 1
    assert "poisons training" in page  # among those that did not run
    assert found.report(tmp_path / "own" / "page.html").read_text() == page
    one = lw.audit_property(shares_of_classes, worlds(), networks=8, progress=False)
    with pytest.raises(UsageError, match="with one draw of the pools the AUC has no interval"):
        one.check("kl.auc > 0.6")
    with pytest.raises(UsageError, match="no folder"):
        one.report()


def test_networks_that_learned_nothing_pass_no_gate() -> None:
    found = lw.audit_property(blind, worlds(), networks=8, progress=False)
    assert not found.told
    assert found.learned.doubt
    assert "This audit cannot say" in found.sentence
    with pytest.raises(UsageError, match=r"cannot be judged\. The attacked networks are right for"):
        found.check("accuracy > 0.6")


@pytest.mark.slow
def test_the_command_prints_the_cost_and_then_the_audit(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(REFIT)
    x, y = records()
    np.savez(tmp_path / "own.npz", x=x, y=y, property=y == 1)
    command = [sys.executable, "-m", "lacewing", "audit-property", "--refit", "mine:refit", "--data", "own.npz"]
    command += ["--of", "property", "--shares", "0.2,0.6", "--records", "40", "--networks", "8", "--out", "told"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        return subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)

    dry = run("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.startswith("16 networks, 0 of them there already")
    assert not (tmp_path / "told").exists()
    done = run("--json")
    assert done.returncode == 0, done.stderr
    rows = {row["attack"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["log-odds"]["accuracy"] == 1
    failed = run("--fail-if", "log-odds.accuracy > 0.6", "--junit", "gates.xml")
    assert failed.returncode == 1
    assert "gate FAILED: log-odds.accuracy > 0.6: lower end of log-odds" in failed.stdout
    assert "<failure" in (tmp_path / "gates.xml").read_text()
    unjudged = run("--fail-if", "mask.accuracy > 0.6", "--junit", "gates.xml")
    assert unjudged.returncode == 2
    assert "<error" in (tmp_path / "gates.xml").read_text()
    assert run("--fail-if", "accuracy > 0.6", "--dry-run").returncode == 2
    assert "log-odds" in (tmp_path / "told" / "report.html").read_text()
    wrong = run("--shares", "0.2")
    assert wrong.returncode == 2
    assert "--shares '0.2' must be two numbers" in wrong.stderr
