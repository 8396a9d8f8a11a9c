"""The shorter built-in studies: exactly what they plan, and that a tiny form of each runs to a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

import lacewing as lw


def images(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    return rng.integers(0, 256, (len(y), 3, 32, 32), np.uint8)


def table(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    return rng.integers(0, 2, (len(y), 446), np.uint8)


def words(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    x = rng.integers(1, 1024, (len(y), 40))
    return np.where(np.arange(40) < rng.integers(16, 41, len(y))[:, None], x, 0).astype(np.float32)


class Planned(NamedTuple):
    """What a study plans on data of its shape, whichever they are."""

    make: Callable[[np.random.Generator, np.ndarray], np.ndarray]
    classes: int
    recipes: int  # networks of one role and seed, without early stops
    stops: int
    seeds: int
    epochs: int
    parameters: int
    density: dict[str, float]  # in percent
    tiny: tuple[str, ...]  # settings that make it run in seconds


def _block(width: int) -> int:
    """Parameters of a block of a transformer: norms, query, key, value and projection, two layers of four widths."""
    return 4 * width + width * 3 * width + 3 * width + width * width + width + 8 * width * width + 5 * width


_VIT = 3 * 64 * 96 + 96 + 96 + 17 * 96 + 4 * _block(96) + 2 * 96 + 96 * 10 + 10
_TEXT = 1024 * 64 + 40 * 64 + 2 * _block(64) + 2 * 64 + 64 * 3 + 3
_TABLE = 446 * 128 + 128 + 128 * 30 + 30


def _pruned(parameters: int, weights: int, fraction: float, level: int) -> float:
    """Percent that is left: each level prunes floor(fraction x remaining) of these weights."""
    left = weights
    for _ in range(level):
        left -= int(fraction * left)
    return 100 * (parameters - weights + left) / parameters


PLANS = {
    "location-imp": Planned(
        table,
        classes=30,
        recipes=1 + 6 + 5 * 3 + 3 + 7 + 5 + 4 + 1,  # the last one is the dense network of the early stops
        stops=6,
        seeds=5,
        epochs=40,
        parameters=_TABLE,
        density={f"imp-{k:02d}": _pruned(_TABLE, 446 * 128 + 128 * 30, 0.45, k) for k in range(1, 7)},
        tiny=("train.epochs=2", "run.seeds=[0,1,2]", "train.stack=6"),
    ),
}


@pytest.fixture
def like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that writes random records of the shape of a study's own into like.npz."""
    monkeypatch.chdir(tmp_path)

    def make(planned: Planned, each: int) -> Path:
        y = np.arange(each * planned.classes) % planned.classes
        np.savez(tmp_path / "like.npz", x=planned.make(np.random.default_rng(0), y), y=y)
        return tmp_path

    return make


@pytest.mark.parametrize("name", PLANS)
def test_a_short_study_plans_what_its_file_says(like, name: str) -> None:
    planned = PLANS[name]
    like(planned, each=8)
    networks = lw.plan_table(name, set=["data.dataset=like.npz", f"data.records={8 * planned.classes}"])
    stops = [
        network for network in networks if network["method"] == "early-stopped" and network["epochs"] < planned.epochs
    ]
    assert len(stops) == planned.stops * 2 * planned.seeds
    assert len(networks) - len(stops) == planned.recipes * 2 * planned.seeds
    assert {network["parameters"] for network in networks} == {planned.parameters}
    for name, percent in planned.density.items():
        [density] = {network["density"] for network in networks if network["name"] == name}
        assert 100 * density == pytest.approx(percent, abs=1e-9), name


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_a_tiny_form_of_a_short_study_runs_to_its_report(small: ModuleType, like, name: str) -> None:
    planned = PLANS[name]
    folder = like(planned, each=16)
    done = small.lacewing(
        *(
            "run",
            name,
            "--out",
            "run",
            "--set",
            "data.dataset=like.npz",
            "--set",
            f"data.records={8 * planned.classes}",
        ),
        *(word for setting in planned.tiny for word in ("--set", setting)),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    with (folder / "run" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    attacked = {row["network"] for row in rows if row["role"] == "target"}
    assert {"dense", "imp-01"} < attacked
    assert any(network.startswith("butterfly") for network in attacked)
    assert (folder / "run" / "report.html").stat().st_size > 10_000
    assert json.loads((folder / "run" / "failed.json").read_text())["failed"] == []
