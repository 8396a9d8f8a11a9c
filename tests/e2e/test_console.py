"""The command's output under a console's code page that lacks characters that we print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp1252:strict"])
def test_an_audit_prints_utf_8_whatever_the_code_page(encoding: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    member = np.repeat([1, 0], 300)
    np.savez(tmp_path / "scores.npz", score=rng.normal(member), member=member)
    command = [sys.executable, "-P", "-m", "lacewing", "audit", "scores.npz", "--fail-if", "scores.auc > 0.5"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    assert done.returncode == 1, err  # the gate
    assert "≥" in out
    assert "gate FAILED" in out


@pytest.mark.slow
def test_a_run_survives_what_a_factory_prints(small: ModuleType, study: Path, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import torch\n"
        "def net(shape, classes):\n"
        "    print('größer ≥ \\u4e2d')\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))\n",
        encoding="utf-8",
    )
    text = study.read_text(encoding="utf-8").replace('name = "mlp"\nhidden = [16]', 'factory = "loud:net"')
    study.write_text(text.replace("levels = 2", "levels = 1"), encoding="utf-8")
    command = [sys.executable, "-P", "-m", "lacewing", "run", "small.toml", "--out", "run"]
    environment = {**small.environment(), "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "≥ 中" in done.stderr.decode("utf-8")  # of a worker
