"""Estimates: counts against closed forms, the division among workers, and what cannot be timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lacewing as lw
from lacewing.bench._measure import Moved
from lacewing.errors import UsageError
from lacewing.study.declared import load_study
from lacewing.study.estimate import as_text, makespan
from lacewing.study.estimate._calibrate import Kind, _Bench, _peak
from lacewing.study.estimate._machines import MACHINES, count, parse
from lacewing.study.prepared import Prepared
from lacewing.training.private import PrivateSgd

STUDY: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "digits", "records": 240},
    "model": {"name": "mlp", "hidden": [16]},
    "train": {"epochs": 3, "batch_size": 20},
    "networks": [{"method": "dense"}, {"method": "imp", "levels": 2, "fraction": 0.5}],
    "run": {"seeds": [0]},
}


def test_flops_of_a_step_are_those_of_the_closed_form() -> None:
    batch, first, second = 20, 64 * 16, 16 * 10
    found = count(Kind("dense"), load_study(STUDY), (1, 8, 8), 10, batch)
    assert found.flops == 2 * batch * (2 * first + 3 * second)  # nobody asks for the gradient of the records


def test_bf16_moves_fewer_bytes_than_fp32_and_computes_the_same() -> None:
    study = load_study({**STUDY, "model": {"name": "resnet8"}})
    full, half = (count(Kind("dense", precision=p), study, (3, 32, 32), 10, 64) for p in ("fp32", "bf16"))
    assert half.flops == full.flops
    assert 0.4 * full.moved < half.moved < 0.7 * full.moved


def test_adamw_moves_two_moments_more_than_sgd_one_momentum_and_holds_them() -> None:
    study = load_study(STUDY)
    sgd, adamw = (Kind("dense", optimizer=name) for name in ("sgd", "adamw"))
    weights = 4 * sum(p.numel() for p in sgd.build(study, (1, 8, 8), 10).parameters())
    moved = [count(kind, study, (1, 8, 8), 10, 20).moved for kind in (sgd, adamw)]
    assert moved[1] - moved[0] >= 2 * weights  # the second moment is read and written
    rng = np.random.default_rng(0)
    x, normalisation = rng.random((20, 1, 8, 8), np.float32), (np.zeros(1, np.float32), np.ones(1, np.float32))
    bench = _Bench(study, x, np.zeros(20, np.int64), normalisation, 10, "cpu")
    assert _peak(bench, adamw, 20, 20) - _peak(bench, sgd, 20, 20) >= weights


def test_bytes_are_those_of_inputs_and_outputs_and_views_move_none() -> None:
    x, y = torch.zeros(10, 10), torch.zeros(10, 10)
    with Moved() as moved:
        (x + y).view(100).t()
    assert (moved.moved, moved.operations) == (3 * 400, 1)
    with Moved() as moved:
        x.add_(y)  # reads two, writes one
    assert (moved.moved, moved.operations) == (3 * 400, 1)


def test_workers_take_the_next_task_when_they_are_free() -> None:
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([5, 1, 1, 1], 2) == 5
    assert makespan([1.5, 2.5], 1) == 4
    assert makespan([1.5, 2.5], 64) == 2.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h10", "did you mean 'h100'?"),
        ("h100:0", "as in h100:8"),
        ("h100:", "as in h100:8"),
        ("h100:x", "as in h100:8"),
    ],
)
def test_machines_that_there_are_not(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"--estimate {text}: .*") as error:
        parse(["l4", text])
    assert says in str(error.value)


def test_machines_and_how_many() -> None:
    assert parse(["h100:8", "l4"]) == [("h100", 8), ("l4", 1)]
    assert {"h100", "h200", "a100", "l4", "cpu-core"} == set(MACHINES)


def test_an_estimate_times_every_kind_and_writes_nothing(tmp_path: Path) -> None:
    found = lw.estimate(STUDY, out=tmp_path / "run", on=["cpu-core:2", "l4"], processes=2)
    assert (found["networks"], found["epochs"]) == (6, 18)
    here = found["here"]
    assert [(kind["name"], kind["networks"], kind["timed"]) for kind in here["kinds"]] == [
        ("dense", 2, True),
        ("pruned", 4, True),
    ]
    steps = sum(kind["networks"] * 3 * 3 * kind["step_seconds"] for kind in here["kinds"])
    assert here["seconds"] > steps / 2  # what is asked of networks and the start come to it
    weights = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert here["step_bytes"] > 3 * weights
    assert here["memory_bytes"] > 2 * 100 * 2**20  # two processes with torch
    core, l4 = found["on"]
    assert core["precision"] == ["fp32"]
    assert l4["precision"] == ["bf16"]
    assert core["seconds"] == [core["floor_seconds"] * times for times in core["times_floor"]]
    assert not list(tmp_path.iterdir())
    assert "on cpu-core x 2, fp32: at least" in as_text(found)


@pytest.mark.slow
def test_steps_of_dp_sgd_are_timed_as_such_here_and_not_counted_on_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [{"method": "dp-sgd", "noise": 0.0}, {"method": "dp-sgd", "epsilon": 8.0, "delta": 1e-5}]
    study = {**STUDY, "networks": [{"method": "dense"}, *entries]}
    jobs = Prepared(study, out=tmp_path / "run").slice.networks
    kinds = {job.network: Kind.of(job) for job in jobs}
    assert {name: kind.private for name, kind in kinds.items()} == {
        "dense": "", "clipping": "clipping", "dp-sgd": "noise"
    }  # fmt: skip
    trained = list[PrivateSgd]()
    plain = PrivateSgd.epoch
    monkeypatch.setattr(PrivateSgd, "epoch", lambda *a: (trained.append(a[0]), plain(*a))[1])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40)
    bench = _Bench(load_study(study), x, y, (np.zeros(1, np.float32), np.ones(1, np.float32)), 10, "cpu")
    assert all(bench.step(kind, 40, 20, 0.0) > 0 for kind in kinds.values())
    assert {trainer.noise for trainer in trained} == {0.0, 1.0}
    found = lw.estimate(study, out=tmp_path / "run", on=["l4"], processes=1)
    assert [kind["name"] for kind in found["here"]["kinds"]] == ["dense", "clipping", "dp-sgd"]
    assert found["not_counted"].endswith(", on other machines what DP-SGD costs")


def test_two_machines_halve_a_study_of_two_equal_sequences_in_the_precision_that_it_names(tmp_path: Path) -> None:
    study = {**STUDY, "train": {**STUDY["train"], "precision": "fp32"}}
    one, two = lw.estimate(study, out=tmp_path / "run", on=["h100", "h100:2"])["on"]
    assert two["floor_seconds"] == pytest.approx(one["floor_seconds"] / 2)
    assert one["precision"] == ["fp32"]
