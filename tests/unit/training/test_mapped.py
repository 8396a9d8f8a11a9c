"""Records that stay in their file train, and are asked, to the bits of records in memory."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lacewing import signals
from lacewing.config import Model, Train
from lacewing.data import normalisation
from lacewing.data._npz import layout
from lacewing.models import build
from lacewing.probes import boundary
from lacewing.support.mapped import Mapped
from lacewing.training.batches import Batches
from lacewing.training.loop import train
from lacewing.training.stack import train_stack

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
TABLE = RNG.normal(size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 3
ROWS = RNG.permutation(50)[:41]
CPU = torch.device("cpu")


@pytest.fixture(params=["images", "table"])
def both(request, tmp_path):
    """Records in memory, and the same ones in a file: images with channels last, of which they are some."""
    x = IMAGES if request.param == "images" else TABLE
    np.save(tmp_path / "x.npy", x.transpose(0, 2, 3, 1) if x.ndim == 4 else x.astype(np.float64))
    return x[ROWS], Mapped(tmp_path / "x.npy", partial(layout, where="x"), x.dtype).at(ROWS), normalisation(x)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_batches_are_the_same_bytes(both, channels_last, mixup):
    held, mapped, scale = both
    augment = ("flip", "crop") if held.ndim == 4 else ()
    config = Train(batch_size=16, augment=augment, mixup=mixup)
    one, other = (Batches(x, Y[ROWS], config, scale, CPU, channels_last) for x in (held, mapped))
    assert isinstance(other.x, Mapped)
    for epoch in (3, 4):
        for a, b in zip(one.epoch(epoch), other.epoch(epoch), strict=True):
            assert torch.equal(a.inputs, b.inputs)
            assert a.inputs.stride() == b.inputs.stride()
            assert torch.equal(a.labels, b.labels)
    none = torch.zeros(0, dtype=torch.int64)  # a batch of DP-SGD may be empty
    assert other.gather(none, none, none, none.bool()).shape == (0, *held.shape[1:])


def test_networks_are_the_same_bytes_and_answer_alike(both):
    held, mapped, scale = both
    model = Model(name="resnet8", width=2) if held.ndim == 4 else Model(name="mlp", hidden=(5,))
    config = Train(epochs=1, batch_size=16, lr=0.05)
    states, answers = [], []
    for x in (held, mapped):
        torch.manual_seed(0)
        network = build(model, held.shape[1:], 3)
        states.append(train(network, x, Y[ROWS], config, normalisation=scale, seed=1).model)
        asked = {"normalisation": scale, "of": np.arange(41) % 2 == 0}
        logits, sensitivity = signals.observe(network, x, normalisation=scale, sensitivity_of=asked["of"])
        probes = signals.probe(network, x, Y[ROWS], queries=3, noise_draws=1, **asked)
        answers += [[logits, sensitivity, probes.phi_NQ, probes.right_NS, probes.gradient_N2]]
        if x.ndim == 2:
            answers[-1].append(boundary(network, x, Y[ROWS], queries=200, **asked).boundary_N)
    for name, values in states[0].items():
        assert torch.equal(values, states[1][name]), name
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stack_trains_to_the_same_bytes(both):
    held, mapped, scale = both
    scale = tuple(np.full(held[0].size, each[0], np.float32) for each in scale) if held.ndim == 4 else scale
    members = np.stack([np.random.default_rng(k).permutation(41)[:20] for k in range(2)])
    config = Train(epochs=2, batch_size=8, lr=0.05, mixup=0.3, stack=2)
    found = []
    for x in (held, mapped):
        torch.manual_seed(0)
        models = [nn.Sequential(nn.Flatten(), nn.Linear(held[0].size, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in "ab"]
        found.append(train_stack(models, x, Y[ROWS], members, config, normalisation=scale, seeds=[1, 2]))
    for one, other in zip(*found, strict=True):
        for name, values in one.model.items():
            assert torch.equal(values, other.model[name])
