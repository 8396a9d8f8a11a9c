"""A run with DP-SGD that is killed in mid-training draws the batches and the noise that an undisturbed one draws."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

EPOCHS = 60
STUDY = f"""
schema = 1
name = "private"
[data]
dataset = "digits"
records = 1200
[model]
name = "mlp"
hidden = [64]
[train]
epochs = {EPOCHS}
batch_size = 20
precision = "fp32"
[[networks]]
method = "dp-sgd"
noise = 0.5
clip = 0.8
[[networks]]
method = "dp-imp"
levels = 2
fraction = 0.5
noise = 1.0
[attacks]
names = ["loss"]
[run]
seeds = [0, 1]
"""


def _trained(folder: Path, network: str) -> int:
    """The epochs of the checkpoint from which the training of a network would go on; 0: there is none."""
    for path in folder.glob("work/*/progress.json"):
        with suppress(FileNotFoundError, json.JSONDecodeError):  # the run is at work
            found = json.loads(path.read_text())
            if found["job"] == network:
                return int(found["epoch"])
    return 0


def _in_training(folder: Path, network: str) -> bool:
    return 0 < _trained(folder, network) < EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize("stack", [1, 2])
def test_a_run_that_is_killed_in_mid_training_ends_in_the_same_bytes(
    small: ModuleType, tmp_path: Path, stack: int
) -> None:
    study, whole, killed = tmp_path / "private.toml", tmp_path / "whole", tmp_path / "killed"
    study.write_text(STUDY.replace("batch_size = 20", f"batch_size = 20\nstack = {stack}"))
    done = small.lacewing("run", study, "--out", whole, "--processes", 1)
    assert done.returncode == 0, done.stderr
    for network in ("dp-imp-01/target/0", "dp-imp-02/target/0", "dp-sgd/target/0"):  # in the order of training
        in_training = partial(_in_training, killed, network)
        small.killed("run", study, "--out", killed, "--processes", 1, when=in_training)
        assert in_training()
    done = small.lacewing("run", study, "--out", killed, "--processes", 1)
    assert done.returncode == 0, done.stderr
    assert (killed / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    weights = {path.parent.name: path.read_bytes() for path in whole.glob("jobs/*/model.safetensors")}
    assert len(weights) == 2 * 2 * 4  # seeds, roles, networks
    assert {path.parent.name: path.read_bytes() for path in killed.glob("jobs/*/model.safetensors")} == weights
