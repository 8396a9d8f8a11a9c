"""The Python way in gives the objects that the command prints."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lacewing as lw
from lacewing.models import resnet


def test_run_twice_gives_the_same_objects(small: ModuleType, tmp_path: Path, finished: Path) -> None:
    study = tomllib.loads(small.STUDY)
    first = lw.run(study, out=tmp_path / "run", quiet=True)
    again = lw.run(study, out=tmp_path / "run", quiet=True)
    assert first.table() == again.table()
    assert len(first.networks) == 6
    assert len(first.attacks) == 3
    assert (tmp_path / "run" / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    assert "<table>" in first._repr_html_()
    assert "dense" in str(first)
    assert lw.report(tmp_path / "run").table() == first.table()


def test_trained_zeros_are_exactly_the_masks(finished: Path) -> None:
    found = lw.report(finished)
    for network in found.networks:
        if network.method == "imp":
            path = lw.export(finished, network.id, finished.parent / "exported.safetensors")
            zeros = sum(int((tensor == 0).sum()) for name, tensor in load_file(path).items() if "weight" in name)
            assert zeros == network.parameters - network.nonzero


def test_exported_networks_load_without_lacewing(tmp_path: Path) -> None:
    study = {
        "name": "export",
        "data": {"dataset": "digits", "records": 80},
        "model": {"name": "resnet8", "width": 8},
        "train": {"epochs": 2, "batch_size": 20, "precision": "fp32"},
        "networks": [{"method": "dense"}, {"method": "butterfly", "segments": 3, "factors": 2}],
        "run": {"seeds": [0]},
    }
    result = lw.run(study, out=tmp_path / "run", quiet=True)
    spec = importlib.util.spec_from_file_location("stand_alone_resnet", resnet.__file__)
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    from sklearn.datasets import load_digits

    pixels = load_digits().images.astype(np.float32)[:, None]
    inputs = torch.from_numpy((pixels - pixels.mean()) / pixels.std())
    for name in ("dense", "butterfly-s3-l2"):
        path = lw.export(result.folder, name, tmp_path / f"{name}.safetensors")
        network = plain.ResNet(depth=8, classes=10, channels=1, width=8)
        network.load_state_dict(load_file(path))
        with torch.no_grad():
            outputs = network.eval()(inputs)
        stored = next(n for n in result.networks if n.network == name and n.role == "target")
        assert stored.density == 1 if name == "dense" else stored.density < 0.3
        assert torch.isfinite(outputs).all()


@pytest.mark.slow
def test_an_exported_butterfly_answers_as_the_signals_say(tmp_path: Path) -> None:
    study = {
        "name": "same",
        "data": {"dataset": "digits"},
        "model": {"name": "resnet8", "width": 8},
        "train": {"epochs": 1, "batch_size": 50, "precision": "fp32"},
        "networks": [{"method": "butterfly", "segments": 2, "factors": 3, "name": "dense"}],
        "run": {"seeds": [0]},
    }
    result = lw.run(study, out=tmp_path / "run", quiet=True)
    path = lw.export(result.folder, "dense/target/0", tmp_path / "b.safetensors")
    network = resnet.ResNet(depth=8, classes=10, channels=1, width=8)
    network.load_state_dict(load_file(path))
    from lacewing import data

    records = data.prepare(data.load("digits"), records=None, label_noise=0.0)
    mean, std = data.normalisation(records.x)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy((records.x - mean) / std).float()).numpy()
    split = data.four_way(len(records), 0)
    right = logits.argmax(1) == records.y
    stored = next(n for n in result.networks if n.role == "target")
    assert right[split.target_train].mean() == pytest.approx(stored.train_accuracy, abs=0.005)
    assert right[split.target_test].mean() == pytest.approx(stored.test_accuracy, abs=0.005)


def test_export_names_what_is_wrong(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="did you mean 'imp-01'"):
        lw.export(finished, "imp01", tmp_path / "x.safetensors")
    with pytest.raises(Exception, match="must end in"):
        lw.export(finished, "dense", tmp_path / "x.pt")
