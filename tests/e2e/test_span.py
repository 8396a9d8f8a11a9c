"""Span attacks in a study and in an audit of a model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.auditing import _initial
from lacewing.auditing._attacks import choose
from lacewing.errors import UsageError
from lacewing.study.prepared import Prepared

SPAN = ["span", "span-blind", "span-candidates", "span-candidates-blind"]


def study(*names: str, **data: Any) -> dict[str, Any]:
    """Digits have 64 pixels, and a network is trained on a quarter of the records."""
    return {
        "schema": 1,
        "name": "span",
        "data": {"dataset": "digits", "records": 160, **data},
        "model": {"name": "mlp", "hidden": [48]},
        "train": {"epochs": 8, "batch_size": 20, "precision": "fp32"},
        "networks": [{"method": "dense"}, {"method": "imp", "levels": 2, "fraction": 0.5}],
        "attacks": {"names": list(names)},
        "run": {"seeds": [0]},
    }


@pytest.mark.slow
def test_members_are_found_and_networks_trained_before_are_asked_later(tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "run", "processes": 1, "quiet": True}
    lw.run(study("loss"), **options)
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("model.safetensors")}
    found = lw.run(study("loss", *SPAN), **options)
    assert weights == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("model.safetensors")}
    assert not found.failed
    area = {(a.network.network, a.attack): a.metrics["auc"].value for a in found.attacks}
    assert area["dense", "span"] == area["dense", "span-candidates"] == 1.0  # so the initialisation is the true one
    assert area["imp-02", "span-candidates"] > 0.8
    assert area["dense", "span"] > area["dense", "span-blind"]


def test_as_many_records_as_pixels_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"attacks\.names: 'span' cannot run.*75 training records span all 64 inputs"):
        lw.run(study("span", records=300), out=tmp_path / "run")
    assert not list(tmp_path.rglob("jobs"))
    with pytest.raises(UsageError, match=r"'span' cannot run.*fully connected first layer"):
        lw.run({**study("span"), "model": {"name": "resnet8"}}, out=tmp_path / "conv")


def test_networks_with_other_first_layers_are_left_out_and_not_asked(tmp_path: Path) -> None:
    entries = [{"method": "dense"}, {"method": "butterfly", "name": "butterfly", "density": 0.5}]
    plan = Prepared({**study("span"), "networks": entries}, out=tmp_path / "run").plan
    assert {job.network for job in plan.networks if dict(job.probes).get("first-layer")} == {"dense"}
    assert [job.target.network for job in plan.attacks] == ["dense"]
    assert "networks of method 'butterfly' have other layers" in plan.refused["butterfly", "span"]


def test_an_audit_of_a_perceptron_tries_the_span(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 100)).astype(np.float32), rng.integers(2, size=80)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 60), nn.ReLU(), nn.Linear(60, 2))
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(x[:40])), torch.from_numpy(y[:40])).backward()
        optimizer.step()
    members, nonmembers = (x[:40], y[:40]), (x[40:], y[40:])
    found = lw.audit(model, members, nonmembers, attacks=["loss", "span-candidates-blind"])
    area = {result.attack: result.metrics["auc"].value for result in found.attacks}
    assert area["span-candidates-blind"] > 0.8
    with pytest.raises(UsageError, match=r"'span' cannot run.*weights at initialisation: pass initial="):
        lw.audit(model, members, nonmembers, attacks=["span"])
    for initial in (before, before.state_dict(), before[0].weight.detach().numpy()):
        (known,) = lw.audit(model, members, nonmembers, attacks=["span"], initial=initial).attacks
        assert known.metrics["auc"].value == 1.0
    every = _initial.with_spans(choose("all"), "all", before[0].weight, augmented=False)
    assert every.required == {"span", "span-candidates"} <= {attack.name for attack in every.attacks}

    def refused(match: str, **options: Any) -> None:
        with pytest.raises(UsageError, match=match):
            lw.audit(model, members, nonmembers, **options)

    refused("initial holds the trained weights", initial=copy.deepcopy(model))
    refused(r"initial has shape \(100, 60\).*first layer \(60, 100\)", initial=before[0].weight.T)
    refused("initial holds NaN", initial=torch.full((60, 100), torch.nan))
    refused("initial has no '0.weight'", initial={"weight": before[0].weight})
    refused("no attack that is asked for reads it", initial=before, attacks="loss")
    many = rng.normal(size=(300, 100)).astype(np.float32), rng.integers(2, size=300)
    with pytest.raises(UsageError, match=r"'span-blind' cannot run.*300 training records span all 100 inputs"):
        lw.audit(model, many, nonmembers, attacks=["span-blind"])
    with pytest.raises(
        UsageError, match=r"initial is for span attacks, and they cannot run: 300 training records span"
    ):
        lw.audit(model, many, nonmembers, initial=before)
