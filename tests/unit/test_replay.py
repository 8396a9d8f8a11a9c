"""Recorded steps: on the CPU, where a step is its own recording, they train what the plain loop trains."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.config import Train
from lacewing.guard import Guard
from lacewing.train import train

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
CONFIG = Train(epochs=4, batch_size=16, lr=0.1, precision="fp32", augment=("flip", "crop"))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))


def _train(model, config=CONFIG, count=40, **options):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    y = (x[:, 0].mean((1, 2)) > 127).astype(np.int64) + (x[:, 1].mean((1, 2)) > 127)
    normalisation = (x.mean((0, 2, 3)).astype(np.float32), x.std((0, 2, 3)).astype(np.float32))
    return train(model, x, y, config, normalisation=normalisation, seed=1, **options)


def _record(step):
    return step


def _recorder(device):
    if device == "cpu":
        return _record
    from lacewing.replay import cuda_graph

    return cuda_graph


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [40, 32, 10])  # a last batch of 8, none, and nothing else
@pytest.mark.parametrize("pruned", [False, True])
def test_recorded_steps_train_what_the_plain_loop_trains(device, count, pruned):
    plain, recorded = _model().to(device), _model().to(device)
    masks = {"0.weight": torch.rand(4, 3, 3, 3) < 0.5, "4.weight": torch.rand(3, 256) < 0.3} if pruned else {}
    guards = [Guard(model, "epoch 2", masks=masks) for model in (plain, recorded)]
    wanted = _train(plain, count=count, guard=guards[0])
    found = _train(recorded, count=count, guard=guards[1], record=_recorder(device))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(recorded.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(found.curve, wanted.curve, strict=True):
        assert (mine.epoch, mine.lr) == (theirs.epoch, theirs.lr)
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-3)
        assert mine.accuracy == pytest.approx(theirs.accuracy, abs=1.01 / count)
    assert (guards[1].epoch, guards[1].step) == (guards[0].epoch, guards[0].step)
    for name, tensor in guards[0].origin.items():
        torch.testing.assert_close(guards[1].origin[name], tensor, rtol=1e-3, atol=1e-4)
    for name, mask in masks.items():
        assert not recorded.get_parameter(name)[~mask].any()
        assert not found.momentum[name][~mask].any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_recording_trains_nothing_and_a_broken_off_training_goes_on_to_the_same_bits(device, momentum):
    config = CONFIG.model_copy(update={"momentum": momentum})
    whole, again = _model().to(device), _model().to(device)
    _train(whole, config, record=_recorder(device))
    half = copy.deepcopy(_train(again, config, record=_recorder(device), stop_after=2))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)  # what is in memory is lost
    _train(again, config, record=_recorder(device), progress=half)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_model_that_cannot_be_recorded_is_trained_one_by_one(capsys):
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain, other = _model(), _model()
    _train(plain)
    _train(other, record=refuse)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert "cannot be recorded (operation not permitted when stream is capturing); they run" in capsys.readouterr().err


def test_a_rewind_point_within_an_epoch_is_met_by_running_one_by_one():
    model, recorded = _model(), []
    guard = Guard(model, "step 5")
    _train(model, guard=guard, record=lambda step: recorded.append(step) or step)
    assert guard.origin_at == (1, 5)
    assert not recorded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("recorded", [False, True])
def test_cpu_and_gpu_agree_epoch_by_epoch(recorded):
    """In fp32 without TF32: losses within 1e-4 for 12 steps, weights within 1e-3."""
    states = {}
    for device in ("cpu", "cuda"):
        losses = []
        model = _model().to(device)
        record = _recorder(device) if recorded and device == "cuda" else None
        _train(model, record=record, on_epoch=lambda progress, losses=losses: losses.append(progress.curve[-1].loss))
        states[device] = losses, {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    np.testing.assert_allclose(states["cuda"][0], states["cpu"][0], rtol=1e-4)
    for name, tensor in states["cpu"][1].items():
        torch.testing.assert_close(states["cuda"][1][name], tensor, rtol=1e-3, atol=1e-3)
