"""No file of the working directory is run, unless a user names a module in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

# Libraries, modules of Python that it has not loaded at its start, and what libraries look for and do without. Not
# contextlib: `python -m` itself imports it from the working directory before the first line of the package.
PLANTED = (
    *("numpy", "scipy", "pandas", "typing_extensions", "typer", "rich", "yaml", "triton", "IPython", "threadpoolctl"),
    *("csv", "typing", "json", "importlib_metadata", "email", "zipfile", "argparse", "random"),
    *("dill", "cuda", "cupy", "xxhash", "optree", "torchvision"),
)
FACTORY = """
import torch

def net(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
"""
SCORES = "member,score\n" + "".join(f"{i % 2},{i * 0.37 % 1}\n" for i in range(60))
COMMANDS = {
    "run": ("run", "small.toml", "--out", "new"),
    "dry run": ("run", "small.toml", "--out", "new", "--dry-run", "--estimate", "h100:1"),
    "report": ("report", "run"),
    "status": ("status", "run"),
    "compare": ("compare", "run", "dense", "imp-01"),
    "merge": ("merge", "merged", "run"),
    "export": ("export", "run", "imp-01", "--to", "w.safetensors"),
    "audit": ("audit", "scores.csv"),
    "data list": ("data", "list"),
    "data check": ("data", "check", "digits"),
    "init": ("init", "project"),
    "bench": ("bench", "butterfly", *("--sizes", "16", "--batches", "1", "--seconds", "1e-6", "--no-networks")),
}


def plant(folder: Path) -> None:
    for name in PLANTED:
        (folder / f"{name}.py").write_text("open(__file__ + '.was-run', 'w').close()\n", encoding="utf-8")


def were_run(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.was-run"))


@pytest.fixture
def folder(study: Path, finished: Path) -> Path:
    """A working directory with a run folder, a study, scores, and planted files."""
    shutil.copytree(finished, study.parent / "run")
    (study.parent / "scores.csv").write_text(SCORES, encoding="utf-8")
    plant(study.parent)
    return study.parent


def test_the_planted_files_are_run_where_the_working_directory_is_searched(tmp_path: Path) -> None:
    plant(tmp_path)
    subprocess.run([sys.executable, "-c", "import torch"], cwd=tmp_path, capture_output=True, check=False)
    assert were_run(tmp_path)


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[pytest.mark.slow] * (c in ("dry run", "bench"))) for c in COMMANDS]
)
def test_no_command_runs_a_file_of_the_working_directory(command: str, small: ModuleType, folder: Path) -> None:
    done = small.lacewing(*COMMANDS[command], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert were_run(folder) == []


@pytest.mark.parametrize("way", [pytest.param(("-m", "lacewing"), marks=pytest.mark.slow), ("-P", "-m", "lacewing")])
def test_a_factory_in_the_working_directory_still_serves_run_and_export(
    way: tuple[str, ...], small: ModuleType, study: Path
) -> None:
    (study.parent / "own_net.py").write_text(FACTORY, encoding="utf-8")
    text = study.read_text(encoding="utf-8").replace('name = "mlp"\nhidden = [16]', 'factory = "own_net:net"')
    study.write_text(text.replace("levels = 2", "levels = 1"), encoding="utf-8")
    for words in (("run", "small.toml", "--out", "run"), ("export", "run", "imp-01", "--to", "w.onnx")):
        command = [sys.executable, *way, *words]
        done = subprocess.run(
            command, cwd=study.parent, env={**os.environ, "PYTHONWARNINGS": ""}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_a_name_that_is_installed_does_not_open_the_working_directory(small: ModuleType, folder: Path) -> None:
    """The module is found without it; what it imports is not looked for there."""
    options = ("--density", "0.5", "--to", "w.safetensors")
    done = small.lacewing("sparsify", "--model", "lacewing.models.resnet:ResNet", *options, cwd=folder)
    assert were_run(folder) == []
    assert done.returncode in (0, 2), done.stderr
