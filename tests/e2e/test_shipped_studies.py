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
_RESNET = 272_474 + 65 * 90  # the published ResNet-20 with a hundred classes instead of ten
_SEGMENT_3 = 64 * 288 + 5 * 64 * 576 - (2_176 + 5 * 3_200)  # what chains of two factors save
_SEGMENT_2 = 32 * 144 + 5 * 32 * 288 - (800 + 5 * 1_088)
_SEGMENT_1 = 6 * (16 * 144 - 416)


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
    "cifar100-short": Planned(
        images,
        classes=100,
        recipes=1 + 2 + 1,
        stops=3,
        seeds=3,
        epochs=40,
        parameters=_RESNET,
        density={
            **{f"imp-{k:02d}": _pruned(_RESNET, _RESNET - 1_578 - 90, 0.7, k) for k in range(1, 3)},
            "butterfly-s3-l2": 100 * (1 - (_SEGMENT_3 + _SEGMENT_2 + _SEGMENT_1) / _RESNET),
        },
        tiny=("train.epochs=2", "run.seeds=[0,1]", "model.width=4", "networks.1.levels=1"),
    ),
    "vit-short": Planned(
        images,
        classes=10,
        recipes=1 + 3 + 1,
        stops=3,
        seeds=3,
        epochs=24,
        parameters=_VIT,
        density={f"imp-{k:02d}": _pruned(_VIT, 3 * 64 * 96 + 4 * 12 * 96 * 96 + 96 * 10, 0.55, k) for k in range(1, 4)},
        tiny=("train.epochs=2", "run.seeds=[0,1]", "networks.1.levels=1"),
    ),
    "text-short": Planned(
        words,
        classes=3,
        recipes=1 + 2 + 1,
        stops=3,
        seeds=3,
        epochs=12,
        parameters=_TEXT,
        density={f"imp-{k:02d}": _pruned(_TEXT, 2 * 12 * 64 * 64 + 64 * 3, 0.8, k) for k in range(1, 3)},
        tiny=("train.epochs=2", "run.seeds=[0,1]", "networks.1.levels=1"),
    ),
}


@pytest.fixture
def like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that writes random records of the shape of a study's own into like.npz."""
    monkeypatch.chdir(tmp_path)

    def make(planned: Planned, records: int) -> Path:
        y = np.arange(records) % planned.classes
        np.savez(tmp_path / "like.npz", x=planned.make(np.random.default_rng(0), y), y=y)
        return tmp_path

    return make


@pytest.mark.parametrize("name", [pytest.param("location-imp", marks=pytest.mark.slow), *list(PLANS)[1:]])
def test_a_short_study_plans_what_its_file_says(like, name: str) -> None:
    planned = PLANS[name]
    like(planned, 400)
    networks = lw.plan_table(name, set=["data.dataset=like.npz", "data.records=80"])
    stops = [
        network for network in networks if network["method"] == "early-stopped" and network["epochs"] < planned.epochs
    ]
    assert len(stops) == planned.stops * 2 * planned.seeds
    assert len(networks) - len(stops) == planned.recipes * 2 * planned.seeds
    assert {network["parameters"] for network in networks} == {planned.parameters}
    for network, percent in planned.density.items():
        [density] = {planned["density"] for planned in networks if planned["name"] == network}
        assert 100 * density == pytest.approx(percent, abs=1e-9), network


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_a_tiny_form_of_a_short_study_runs_to_its_report(small: ModuleType, like, name: str) -> None:
    planned = PLANS[name]
    folder = like(planned, 400)
    done = small.lacewing(
        *("run", name, "--out", "run", "--set", "data.dataset=like.npz", "--set", "data.records=200"),
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
