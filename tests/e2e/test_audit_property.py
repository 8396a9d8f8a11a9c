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
from lacewing.errors import UsageError

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
    wrong = run("--shares", "0.2")
    assert wrong.returncode == 2
    assert "--shares '0.2' must be two numbers" in wrong.stderr
