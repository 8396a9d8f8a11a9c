"""What the documents take for granted: a model with its data, files, and the folders that longer runs would leave."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lacewing as lw
from lacewing.sparsify import apply_masks, prune

ROOT = Path(__file__).parents[2]
MODULE = """
import torch
from torch import nn


def factory(shape=(12,), classes=3):
    sizes = {"stem": (*shape, 256), "middle": (256, 256), "late": (256, 256), "head": (256, classes)}
    model = nn.Sequential()
    for name, (columns, rows) in sizes.items():
        model.add_module(name, nn.Linear(columns, rows))
        model.add_module(f"{name}_relu", nn.ReLU())
    return model[:-1]


def refit(x, y, seed):
    torch.manual_seed(seed)
    model = factory()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y)).backward()
        optimizer.step()
    return model
"""
STUDY = """
name = "small"
[data]
dataset = "digits"
records = 240
[model]
name = "mlp"
hidden = [16]
[train]
epochs = 2
batch_size = 20
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 3
fraction = 0.5
[attacks]
names = ["loss"]
[run]
seeds = [0, 1, 2]
"""
HALVES = """
name = "halves"
[data]
dataset = "digits"
records = 200
split = "random-halves"
label_noise = 0.2
canaries = 20
[model]
name = "mlp"
hidden = [16]
[train]
epochs = 2
batch_size = 20
precision = "fp32"
[[networks]]
method = "dense"
[attacks]
names = ["loss"]
[run]
seeds = [0, 1, 2]
"""
SLICES: dict[str, dict[str, str]] = {  # the folders that a document can have by `given:`, and their part of STUDY
    "runs/mine": {"seed": "0"},
    "slice-a": {"role": "target", "seed": "0"},
    "slice-b": {"role": "shadow", "seed": "0"},
    "runs/seed0": {"seed": "0"},
    "runs/seed1": {"seed": "1"},
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A finished folder of a study of seconds by the name that documents give it; its networks are trained once."""
    place = tmp_path_factory.mktemp("finished")
    (place / "small.toml").write_text(STUDY)
    (place / "halves.toml").write_text(HALVES)
    source = place / "source"

    def make(name: str) -> Path:
        folder = place / name.replace("/", "-")
        if folder.exists():
            return folder
        if name == "runs/digits":  # one network of it
            lw.run("digits", out=folder, only={"network": "dense", "role": "target", "seed": "0"}, quiet=True)
            return folder
        if name == "runs/digits-halves":
            lw.run(str(place / "halves.toml"), out=folder, quiet=True)
            return folder
        only = SLICES[name]
        if not source.exists():
            lw.run(str(place / "small.toml"), out=source, only={"seed": "0"}, quiet=True)
        known = [source] if only["seed"] == "0" else []
        lw.run(str(place / "small.toml"), out=folder, only=only, reuse=known, quiet=True)
        return folder

    return make


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as of somebody who reads along: the command in `.venv`, the scripts of the clone, some files."""
    for name in ("benchmarks", "examples", "docs/results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    bin = tmp_path / ".venv" / "bin"
    bin.mkdir(parents=True)
    _script(bin / "lacewing", f'exec "{sys.executable}" -P -m lacewing "$@"')
    _script(bin / "python", f'exec "{sys.executable}" "$@"')
    _script(bin / "ruff", f'exec "{sys.executable}" -m ruff "$@"')
    _script(bin / "srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')  # SLURM's, on this machine
    source = Path(lw.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PATH", os.pathsep.join([str(bin), os.environ["PATH"]]))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    (tmp_path / "DIR").symlink_to(lw.data.default_root())
    _files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def names() -> dict[str, Any]:
    """What the Python blocks of the documents call theirs."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(480, 12)).astype(np.float32)
    y = rng.integers(0, 3, 480)
    space: dict[str, Any] = {"__name__": "document"}
    exec(MODULE, space)

    def train_one_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y)).backward()
        optimizer.step()

    def accuracy(model: nn.Module) -> float:
        return float((model(torch.as_tensor(x)).argmax(1) == torch.as_tensor(y)).float().mean())

    def train_sparse(x: np.ndarray, y: np.ndarray, seed: int, density: float = 0.2) -> nn.Module:
        return _pruned(space["refit"](x, y, seed), density)

    member = np.repeat([1, 0], 240)
    return {
        "dense": space["refit"](x[:240], y[:240], 1),
        "sparse": train_sparse(x[:240], y[:240], 1),
        "train_dense": space["refit"],
        **{f"train_sparse_{percent}": partial(train_sparse, density=percent / 100) for percent in (20, 40, 60)},
        **{f"train_{epochs}": partial(space["refit"]) for epochs in (5, 10, 20)},
        "torch": torch,
        "np": np,
        "model": space["factory"](),
        "build": space["factory"],
        "my_train": space["refit"],
        "train": lambda model, x, y: space["refit"](x, y, 0),
        "x_train": x[:240],
        "y_train": y[:240],
        "x_test": x[240:],
        "y_test": y[240:],
        "members": (x[:240], y[:240]),
        "nonmembers": (x[240:], y[240:]),
        "epochs": 2,
        "train_one_epoch": train_one_epoch,
        "accuracy": accuracy,
        "loss": rng.normal(size=480),
        "member": member,
    }


def _pruned(model: nn.Module, density: float) -> nn.Module:
    apply_masks(model, prune(model, density=density))
    return model


def _script(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def _files(folder: Path) -> None:
    """The reader's own files, small: records, outputs of a model that gives nothing away, a model and its weights."""
    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    exec(MODULE, space)
    (folder / "net.py").write_text(MODULE)
    (folder / "pkg").mkdir()
    (folder / "pkg" / "mod.py").write_text(MODULE)
    save_file(space["factory"]().state_dict(), folder / "w.safetensors")
    save_file(space["factory"]().state_dict(), folder / "dense.safetensors")
    save_file(_pruned(space["factory"](), 0.4).state_dict(), folder / "sparse.safetensors")
    member = np.repeat([1, 0], 1200)
    label = rng.integers(0, 3, 2400)
    np.savez(
        folder / "own.npz", x=rng.normal(size=(480, 12)).astype(np.float32), y=label[:480], member=member[960:1440]
    )
    np.savez(folder / "scores.npz", score=rng.normal(size=2400), member=member)
    rows = "".join(f"{score},{of}\n" for score, of in zip(rng.normal(size=400), member[1000:1400], strict=True))
    (folder / "scores.csv").write_text("score,member\n" + rows)
    half = rng.random((2, 2400)) < 0.5
    np.savez(
        folder / "outputs.npz",
        logits=rng.normal(size=(2400, 3)) + np.eye(3)[label],
        label=label,
        member=member,
        reference_logits=rng.normal(size=(4, 2400, 3)) + np.eye(3)[label],
        reference_in=np.concatenate([half, ~half]),
    )
    np.savez(folder / "mine.npz", x=rng.integers(0, 255, (80, 1, 8, 8)).astype(np.uint8), y=np.arange(80) % 4)
    (folder / "study.toml").write_text(STUDY)
    (folder / "mine.toml").write_text(STUDY)
