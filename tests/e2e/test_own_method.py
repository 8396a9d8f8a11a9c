"""A study with a method of the user's own: run, killed and resumed, exported, and read where the code is gone."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

NETWORKS = """
[[networks]]
method = "own_method:Halved"
vary = { share = [0.25, 0.5] }
[[networks]]
method = "dense"
name = "narrow"
vary = { "model.hidden" = [[4], [8]] }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small: ModuleType, own_method: Path) -> Path:
    """A working directory with the method, the study, and the run folder ``run``."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(own_method, folder)
    (folder / "own.toml").write_text(small.STUDY.replace("[run]", f"{NETWORKS}[run]"))
    done = small.lacewing("run", "own.toml", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "DAMAGED" not in done.stdout
    return folder


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return {row["network"]: row for row in csv.DictReader(file) if row["role"] == "target"}


def test_vary_names_the_networks_and_each_has_its_kind_and_family(place: Path) -> None:
    found = rows(place / "run")
    assert {*found} == {"dense", "imp-01", "imp-02", "halved-0.25", "halved-0.5", "narrow-4", "narrow-8"}
    assert {name: (row["kind"], row["family"]) for name, row in found.items() if name[0] in "hn"} == {
        "halved-0.25": ("sparse", "halved"),
        "halved-0.5": ("sparse", "halved"),
        "narrow-4": ("control", "narrow"),
        "narrow-8": ("control", "narrow"),
    }
    # 64 inputs, 16 hidden, 10 outputs: 1,184 weights, 26 biases.
    assert int(found["halved-0.25"]["nonzero"]) == 296 + 26
    assert float(found["halved-0.25"]["density"]) == 322 / 1210
    assert int(found["narrow-4"]["nonzero"]) == 4 * 64 + 4 + 40 + 10


def test_the_page_shows_its_label_and_colour(place: Path) -> None:
    page = (place / "run" / "report.html").read_text()
    assert "halved" in page
    assert "#cc79a7" in page


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(place: Path, small: ModuleType) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "lacewing", "run", "own.toml", "--out", "again", "--set", "train.epochs=3"],
        cwd=place,
        env=small.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    assert any("epoch" in line for line in run.stderr)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = small.lacewing("run", "own.toml", "--out", "again", cwd=place)
    assert done.returncode == 0, done.stderr
    for name in ("results.csv", "tradeoff.json"):
        assert (place / "again" / name).read_bytes() == (place / "run" / name).read_bytes()


@pytest.mark.slow
def test_a_folder_is_read_and_exported_where_the_module_is_gone(place: Path, small: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    before = (tmp_path / "run" / "results.csv").read_bytes()
    for words in (("report", "run"), ("status", "run"), ("merge", "merged", "run")):
        done = small.lacewing(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "DAMAGED" not in done.stdout
    assert (tmp_path / "run" / "results.csv").read_bytes() == before
    assert (tmp_path / "merged" / "results.csv").read_bytes() == before
    assert "#cc79a7" in (tmp_path / "merged" / "report.html").read_text()
    done = small.lacewing("export", "run", "halved-0.25", "--to", "own.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    state = load_file(tmp_path / "own.safetensors")
    assert sum(int(torch.count_nonzero(t)) for name, t in state.items() if name.endswith("weight")) == 296
    shutil.copy(place / "own.toml", tmp_path)
    done = small.lacewing("run", "own.toml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "networks.2.method: cannot import 'own_method'" in done.stderr


def test_changed_source_is_another_study(place: Path, small: ModuleType, tmp_path: Path) -> None:
    for name in ("own.toml", "own_method.py"):
        shutil.copy(place / name, tmp_path)
    shutil.copytree(place / "run", tmp_path / "run")
    with (tmp_path / "own_method.py").open("a") as file:
        file.write("# changed\n")
    done = small.lacewing("run", "own.toml", "--out", "run", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert "the source of the method of network 'halved-0.25' has changed" in done.stderr


FAULTS = {  # what is wrong with it: a text of the module, what stands there instead, exit code, sentence
    "raises in training": (
        "-> None:\n        model = training.model()",
        "-> None:\n        1 / 0\n        model = training.model()",
        3,
        "method own_method:Halved failed with ZeroDivisionError",
    ),
    "does not train": (
        "        training.fit(model, guard)\n",
        "",
        3,
        "did not train it; call fit once for each network",
    ),
    "another count": (
        "round(self.share * sizes[name]) for",
        "round(0.9 * sizes[name]) for",
        3,
        "and its count says 1,",
    ),
    "hidden masks": ("masked: ClassVar[bool] = True", "masked: ClassVar[bool] = False", 3, "set masked = True in its"),
    "raises in counting": ("round(self.share * sizes[name]) for", "sizes['none'] for", 2, "failed with KeyError"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_method_is_one_sentence(
    place: Path, small: ModuleType, tmp_path: Path, fault: str
) -> None:
    was, now, code, said = FAULTS[fault]
    text = (place / "own_method.py").read_text()
    assert was in text
    (tmp_path / "own_method.py").write_text(text.replace(was, now))
    shutil.copy(place / "own.toml", tmp_path)
    done = small.lacewing("run", "own.toml", "--out", "run", "--only", "network=halved-0.25", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "internal error" not in done.stderr
