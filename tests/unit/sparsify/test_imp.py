"""Iterative magnitude pruning: the known densities, rewinding, exact zeros, and sequences that are continued."""

import copy
import functools
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lacewing.config import Train
from lacewing.sparsify import imp, remaining
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import prunable
from lacewing.training.loop import train

# The density in % of ResNet-20 after 0..24 prunings of 20 %: 0.8^k (1 - f) + f, f = 1,578 / 272,474, to a digit or two.
DENSITIES = (
    "100 80.1 64.2 51.5 41.3 33.2 26.6 21.4 17.3 13.9 11.3 9.1 7.4 6.0 5.0 4.1 3.4 2.8 2.4 2.0 1.7 1.5 1.3 1.2 1.05"
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_remaining_gives_the_known_densities_of_resnet20():
    parameters, weights = 272_474, 270_896
    for level, wanted in enumerate(DENSITIES.split()):
        density = 100 * (parameters - weights + remaining(weights, level, 0.2)) / parameters
        digits = len(wanted.partition(".")[2])
        assert round(density, digits) == float(wanted)
        f = 1578 / 272_474
        assert density == pytest.approx(100 * (0.8**level * (1 - f) + f), abs=0.01)


@given(st.integers(0, 10_000), st.integers(0, 8), st.floats(0.01, 0.99))
def test_remaining_is_one_pruning_after_another(weights, levels, fraction):
    left = remaining(weights, levels, fraction)
    assert remaining(left, 1, fraction) == remaining(weights, levels + 1, fraction) == left - int(fraction * left)


def _setting():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(40, 1, 4, 4, generator=generator)
    y = x.flatten(1).sum(1).gt(0).long()
    return x, y


def _network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def _fit(calls=None, epochs=3):
    """A user's training with a fresh optimiser: three full-batch epochs of a falling learning rate."""
    x, y = _setting()

    def fit(model, guard):
        if calls is not None:
            calls.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
        guard.attach(optimizer)
        model.train()
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = 0.5 / (epoch + 1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            guard.epoch_end()

    return fit


def _bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_zeros_are_exactly_the_masks_and_the_count_is_exact():
    model, weights = _network(), 36 + 32
    for level in imp(model, _fit(), levels=5, fraction=0.3):
        kept = remaining(weights, level.number, 0.3)
        assert sum(int((model.get_parameter(name) != 0).sum()) for name in prunable(model)) == kept
        for name, mask in level.masks.items():
            assert torch.equal(model.get_parameter(name) != 0, mask)
        assert (level.number == 0) == (level.masks == {})
    assert level.number == 5
    assert model[1].bias.ne(0).all()


def test_masks_are_nested_and_later_levels_do_not_change_earlier_ones():
    levels = list(imp(_network(), _fit(), levels=3, fraction=0.4))
    for before, after in itertools.pairwise(levels[1:]):
        assert all((after.masks[name] <= before.masks[name]).all() for name in after.masks)
        assert any((after.masks[name] < before.masks[name]).any() for name in after.masks)


@pytest.mark.parametrize("rewind", [0, 1, 2])
def test_every_level_starts_from_the_rewind_point(rewind):
    """Weights and batch norm statistics come back bit for bit, and the whole schedule is trained again."""
    model, starts = _network(), []
    begun = copy.deepcopy(model)
    levels = list(imp(model, _fit(starts), levels=3, fraction=0.5, guard=Guard(model, f"epoch {rewind}")))
    if rewind:
        _fit(epochs=rewind)(begun, Guard(begun))
    origin = _bits(begun)
    for level, start in list(zip(levels, starts, strict=True))[1:]:
        wanted = {k: v * level.masks[k] if k in level.masks else v for k, v in origin.items()}
        assert _same(start, wanted)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_continued_sequence_gives_the_bytes_of_an_undisturbed_one(start):
    model, states, guards = _network(), [], Guard(_network(), "epoch 1")
    guard = guards
    guard.model = model
    levels = []
    for level in imp(model, _fit(), levels=4, fraction=0.3, guard=guard):
        states.append(_bits(model))
        levels.append(level)
    again = _network()
    again.load_state_dict(states[start])
    resumed = Guard(again, "epoch 1")
    resumed.origin, resumed.masks = guard.origin, dict(levels[start].masks)
    numbers = []
    for level in imp(again, _fit(), levels=4, fraction=0.3, guard=resumed, start=start):
        assert _same(_bits(again), states[level.number])
        assert _same(level.masks, levels[level.number].masks)
        numbers.append(level.number)
    assert numbers == list(range(start, 5))


def test_the_training_loop_fits_and_is_resumed_in_mid_level():
    """imp with train() as its fit: a level broken off after two epochs ends in the same bits."""
    x, y = (t.numpy() for t in _setting())
    config = Train(epochs=4, batch_size=16, precision="fp32", weight_decay=0.01)
    normalisation = (x.mean((0, 2, 3)), x.std((0, 2, 3)))

    def fit(model, guard, broken):
        half = train(model, x, y, config, normalisation=normalisation, seed=1, guard=guard, stop_after=broken)
        if broken is not None:
            kept = copy.deepcopy(half)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1.0)  # what is in memory is lost
            train(model, x, y, config, normalisation=normalisation, seed=1, guard=guard, progress=kept)

    found = []
    for broken in (None, 2):
        model = _network()
        for _ in imp(model, functools.partial(fit, broken=broken), levels=2, fraction=0.5):
            pass
        found.append(_bits(model))
    assert _same(*found)
