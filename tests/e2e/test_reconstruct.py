"""``lacewing reconstruct``: a second call takes over what is finished, and pictures come with the flag alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lacewing.reconstruction import softmax_regression

FACTORY = """
from torch import nn

def factory(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
"""


@pytest.mark.slow
def test_the_command_rebuilds_and_shows_pictures_with_the_flag_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 1, 4, 4)).astype(np.float32), np.arange(120) % 3
    solved = softmax_regression(x[:40].reshape(40, -1), y[:40], l2=1e-2, classes=3)
    weights = {"1.weight": torch.from_numpy(solved.weights_DC.T), "1.bias": torch.from_numpy(solved.intercept_C)}
    save_file({name: value.float().contiguous() for name, value in weights.items()}, tmp_path / "w.safetensors")
    np.savez(tmp_path / "own.npz", x=x, y=y, member=np.arange(120) < 40)
    (tmp_path / "mine.py").write_text(FACTORY)
    command = [sys.executable, "-m", "lacewing", "reconstruct", "--model", "mine:factory", "--weights", "w.safetensors"]
    command += ["--data", "own.npz", "--out", "told", "--json"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        return subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    informed = next(row for row in document["attacks"] if row["attack"] == "informed")
    assert informed["found"]
    assert informed["auc"] == 1.0
    assert set(document["refused"]) == {"stationarity"}
    assert not list(tmp_path.rglob("*.png"))
    (stored,) = (tmp_path / "told" / "rebuilt").glob("informed-*.npz")
    before = stored.stat().st_mtime_ns
    shown = run("--show-records")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == document
    assert (tmp_path / "told" / "reconstruction.png").is_file()
    again = run()
    assert "reconstruction:" not in again.stderr  # nothing runs again
    assert stored.stat().st_mtime_ns == before
    assert not list(tmp_path.rglob("*.png"))
    wrong = run("--attack", "stationarity")
    assert "stationarity needs members of two classes" in wrong.stderr
