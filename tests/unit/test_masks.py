"""Pruning and the guard: exact counts against brute force, and zeros that stay zero after every step."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.guard import Guard
from lacewing.masks import pack, prunable, unpack
from lacewing.models.resnet import ResNet
from lacewing.sparsify import prune


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _net():
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))


def test_convolutions_and_linear_layers_are_prunable_and_nothing_else():
    assert prunable(_net()) == ["0.weight", "4.weight"]
    assert prunable(nn.Linear(2, 2)) == ["weight"]
    model = ResNet()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(sizes[name] for name in prunable(model)) == 272_474 - 1_578
    assert not any("bn" in name or name.endswith("bias") for name in prunable(model))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([0.1, 0.2, 0.25, 0.39, 0.45, 0.5, 0.9, 0.999]), st.booleans())
def test_prune_removes_exactly_the_smallest_floor_of_fraction_times_remaining(seed, fraction, whole):
    """Weights of few distinct magnitudes, so that ties abound; brute force over a Python list."""
    rng = np.random.default_rng(seed)
    model = _net()
    weights = {name: model.get_parameter(name) for name in prunable(model)}
    for weight in weights.values():
        weight.data = torch.from_numpy(rng.integers(-2, 3, weight.shape) / np.float32(2)) * rng.choice([-1, 1])
    masks = {} if whole else {n: torch.from_numpy(rng.random(w.shape) < rng.random()) for n, w in weights.items()}
    left = [
        (abs(value), place, position)
        for place, (name, weight) in enumerate(weights.items())
        for position, value in enumerate(weight.flatten().tolist())
        if name not in masks or masks[name].flatten()[position]
    ]
    gone = {entry[1:] for entry in sorted(left)[: math.floor(fraction * len(left))]}
    wanted = {entry[1:] for entry in left} - gone

    found = prune(model, masks, fraction)
    kept_now = {
        (place, position)
        for place, name in enumerate(weights)
        for position in found[name].flatten().nonzero().flatten().tolist()
    }
    assert kept_now == wanted
    assert all(mask.dtype == torch.bool and mask.shape == weights[name].shape for name, mask in found.items())


def test_prune_leaves_weights_and_earlier_masks_as_they_are():
    model, masks = _net(), {"4.weight": torch.rand(4, 12) < 0.5}
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = masks["4.weight"].clone()
    prune(model, masks, 0.5)
    assert torch.equal(masks["4.weight"], before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_resnet20_keeps_the_exact_number_of_weights_at_every_level():
    torch.manual_seed(0)
    model, masks, wanted = ResNet(), {}, 270_896
    for _ in range(24):
        masks = prune(model, masks, 0.2)
        wanted -= math.floor(Fraction(1, 5) * wanted)
        assert sum(int(m.sum()) for m in masks.values()) == wanted
        assert not any(p.requires_grad for p in masks.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_cannot_be_ranked_are_an_error(bad):
    model = _net()
    with torch.no_grad():
        model[4].weight[1, 2] = bad
    with pytest.raises(UsageError, match=r"weight '4\.weight' holds NaN or infinity"):
        prune(model, {}, 0.5)


@pytest.mark.parametrize(
    ("model", "masks", "fraction", "said"),
    [
        (nn.BatchNorm1d(3), {}, 0.5, "no convolution or linear weight"),
        (
            nn.Linear(2, 3),
            {"weight": torch.ones(2, 3, dtype=torch.bool)},
            0.5,
            r"shape \(2, 3\) and the weight \(3, 2\)",
        ),
        (nn.Linear(2, 3), {"fc.weight": torch.ones(3, 2, dtype=torch.bool)}, 0.5, "'fc.weight', .* another model"),
        (nn.Linear(2, 3), {}, 0.0, "fraction = 0.0"),
        (nn.Linear(2, 3), {}, 1.0, "fraction = 1.0"),
    ],
)
def test_what_cannot_be_pruned_is_an_error(model, masks, fraction, said):
    with pytest.raises(UsageError, match=said):
        prune(model, masks, fraction)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 999))
def test_unpack_inverts_pack(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = {f"layer|{i}.weight": torch.rand(shape, generator=generator) < 0.5 for i, shape in enumerate(shapes)}
    packed = pack(masks)
    found = unpack(packed)
    assert list(found) == list(masks)
    assert all(torch.equal(found[name], mask) and found[name].dtype == torch.bool for name, mask in masks.items())
    assert sum(t.numel() for n, t in packed.items() if n.endswith("bits")) == sum(
        -(-m.numel() // 8) for m in masks.values()
    )


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, lr=0.5, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.5, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.5, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@settings(max_examples=8, deadline=None)
@given(hidden=st.integers(1, 5), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 999), frozen=st.booleans())
def test_after_every_step_pruned_weights_gradients_and_state_are_zero(name, hidden, fraction, seed, frozen):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.Tanh(), nn.Flatten(), nn.Linear(9 * hidden, 3)
    )
    model[0].weight.requires_grad_(not frozen)
    guard = Guard(model)
    guard.masks = prune(model, {}, fraction)
    optimizer = OPTIMISERS[name](model.parameters())
    guard.attach(optimizer)
    kept_before = model[4].weight[guard.masks["4.weight"]].clone()
    for _ in range(4):
        _assert_zero(guard, optimizer)
        optimizer.zero_grad()
        model(torch.randn(5, 1, 3, 3)).square().sum().backward()
        optimizer.step()
    _assert_zero(guard, optimizer)
    assert not torch.equal(model[4].weight[guard.masks["4.weight"]], kept_before) or not len(kept_before)


def _assert_zero(guard, optimizer):
    for name, mask in guard.masks.items():
        weight = guard.model.get_parameter(name)
        state = [t for t in optimizer.state.get(weight, {}).values() if torch.is_tensor(t) and t.shape == weight.shape]
        assert len(state) >= (len(optimizer.state.get(weight, {})) > 0)  # momentum was looked at where there is one
        for tensor in (weight, weight.grad, *state):
            assert tensor is None or not tensor[~mask].any()


def test_the_guard_takes_away_momentum_that_was_there_before():
    """An optimiser restored from a checkpoint, or pruned in mid-training: zero from the moment of attach."""
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    guard = Guard(model)
    guard.masks = prune(model, {}, 0.5)
    guard.attach(optimizer)
    assert not optimizer.state[model.weight]["momentum_buffer"][~guard.masks["weight"]].any()
    assert not model.weight[~guard.masks["weight"]].any()


def test_a_guarded_network_trains_as_if_pruned_weights_did_not_exist():
    """Against plain torch on the two inputs that are left of four."""
    torch.manual_seed(0)
    full, small = nn.Linear(4, 1), nn.Linear(2, 1)
    small.load_state_dict({"weight": full.weight.detach()[:, :2], "bias": full.bias.detach()})
    guard = Guard(full)
    guard.masks = {"weight": torch.tensor([[True, True, False, False]])}
    optimizers = [OPTIMISERS["sgd"](m.parameters()) for m in (full, small)]
    guard.attach(optimizers[0])
    for _ in range(5):
        x = torch.randn(6, 4)
        for model, optimizer, inputs in zip((full, small), optimizers, (x, x[:, :2]), strict=True):
            optimizer.zero_grad()
            (model(inputs) - 1).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.bias, 1.0)
            optimizer.step()
    torch.testing.assert_close(full.weight[:, :2], small.weight)
    torch.testing.assert_close(full.bias, small.bias)


def test_a_step_without_gradients_is_no_fault():
    model = nn.Linear(2, 2)
    guard = Guard(model)
    guard.masks = prune(model, {}, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard.attach(optimizer)
    optimizer.step()
    assert int((model.weight == 0).sum()) == 2


def _train(model, guard, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    guard.attach(optimizer)
    states = []
    for _ in range(epochs):
        optimizer.zero_grad()
        model(torch.randn(8, 1, 3, 3)).square().sum().backward()
        optimizer.step()
        guard.epoch_end()
        states.append({k: v.clone() for k, v in model.state_dict().items()})
    return states


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_rewinding_restores_every_bit_but_what_is_pruned(epoch):
    torch.manual_seed(0)
    model = _net()
    states = [{k: v.clone() for k, v in model.state_dict().items()}]
    guard = Guard(model, f"epoch {epoch}")
    states += _train(model, guard, 4)
    for _ in range(2):  # the rewind point stays that of the first training
        guard.masks = prune(model, guard.masks, 0.3)
        guard.rewind()
        for name, tensor in model.state_dict().items():
            wanted = states[epoch][name]
            if name in guard.masks:
                wanted = torch.where(guard.masks[name], wanted, 0)
            assert torch.equal(tensor, wanted), name
        _train(model, guard, 4)
    assert int(model[1].num_batches_tracked) == epoch + 4


def test_rewinding_before_the_rewind_point_is_an_error():
    guard = Guard(_net(), "epoch 3")
    _train(guard.model, guard, 2)
    with pytest.raises(UsageError, match="epoch 3, was never reached"):
        guard.rewind()


def test_pack_is_an_eighth_of_a_byte_a_weight_and_holds_no_objects():
    packed = pack({"w": torch.ones(3, 5, dtype=torch.bool)})
    assert {name: (t.dtype, t.numel()) for name, t in packed.items()} == {
        "w|bits": (torch.uint8, 2),
        "w|shape": (torch.int64, 2),
    }
    assert np.unpackbits(packed["w|bits"].numpy()).sum() == 15
