"""The example of a package, as if it were installed: its four names are listed, and a study of them runs."""

from __future__ import annotations

import csv
import importlib.util
import os
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path with the package and the metadata that an installation writes."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("installed")
    added = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    added.mkdir()
    (added / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, names in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    (added / "entry_points.txt").write_text("\n".join(lines))
    return os.pathsep.join([str(folder), str(PLUGIN / "src"), os.environ.get("PYTHONPATH", "")])


def test_its_names_are_listed(installed: str, small: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", installed)
    for kind, line in {
        "methods": "channels A network without a share of the channels of every layer",
        "attacks": "margin ",
        "datasets": "stripes Noisy grey images",
        "models": "small-cnn Two convolutions",
    }.items():
        done = small.lacewing("list", kind)
        assert done.returncode == 0, done.stderr
        [row] = [row for row in done.stdout.splitlines() if row.endswith(" (added by lacewing-example)")]
        assert " ".join(row.split()).startswith(line)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("torch_pruning") is None,
    reason="torch-pruning, which the example's method prunes by, is not installed: pip install torch-pruning",
)
def test_a_study_of_it_runs_and_its_density_is_what_was_counted(
    installed: str, small: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", installed)
    small_run = ("--set", "run.seeds=[0]", "--set", "train.epochs=2", "--out", tmp_path / "run")
    done = small.lacewing("run", PLUGIN / "study.toml", *small_run, "--json")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "target" and row["attack"] == "margin"]
    dense, pruned = rows
    assert (dense["network"], pruned["network"]) == ("dense", "channels-50")
    # 8 and 16 channels, of which 4 and 8 are left: convolutions, batch norms, the linear layer
    assert int(dense["parameters"]) == 9 * 8 + 2 * 8 + 9 * 8 * 16 + 2 * 16 + 16 * 2 + 2
    assert int(pruned["nonzero"]) == 9 * 4 + 2 * 4 + 9 * 4 * 8 + 2 * 8 + 8 * 2 + 2
    done = small.lacewing("export", tmp_path / "run", "channels-50", "--to", tmp_path / "w.safetensors")
    assert done.returncode == 0, done.stderr
