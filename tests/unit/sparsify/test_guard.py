"""The guard: exact zeros in weight, gradient and optimiser state at every step."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from guard_cases import (
    all_zero,
    held_tensors,
    loss_of,
    make_batch,
    make_sgd,
    networks,
    one_step,
    random_masks,
    small_network,
    state_bits,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import apply_masks


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


OPTIMISERS = {  # and how many tensors of the weight's shape its state holds
    "sgd": (functools.partial(torch.optim.SGD, lr=0.1), 0),
    "nesterov": (functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05), 1),
    "dampened": (functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, maximize=True), 1),
    "adam": (functools.partial(torch.optim.Adam, lr=0.05, weight_decay=0.1), 2),
    "amsgrad": (functools.partial(torch.optim.Adam, lr=0.05, amsgrad=True, weight_decay=0.1), 3),
    "adamw": (functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=0.5), 2),
    "fused adamw": (functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=0.5, fused=True), 2),
    "rmsprop": (functools.partial(torch.optim.RMSprop, lr=0.02, momentum=0.9, centered=True, weight_decay=0.1), 3),
    "adagrad": (functools.partial(torch.optim.Adagrad, lr=0.1, weight_decay=0.1, initial_accumulator_value=0.1), 1),
    "adadelta": (functools.partial(torch.optim.Adadelta, weight_decay=0.1), 2),
    "adamax": (functools.partial(torch.optim.Adamax, lr=0.05, weight_decay=0.1), 2),
    "nadam": (functools.partial(torch.optim.NAdam, lr=0.05, weight_decay=0.1), 2),
    "radam": (functools.partial(torch.optim.RAdam, lr=0.05, weight_decay=0.1), 2),
    "asgd": (functools.partial(torch.optim.ASGD, lr=0.05, weight_decay=0.1), 1),
    "rprop": (functools.partial(torch.optim.Rprop, lr=0.05), 2),
    "adafactor": (functools.partial(torch.optim.Adafactor, lr=0.05, weight_decay=0.1), 0),
}


def _train_as_if_masked(model, masks, optimiser, steps):
    """The oracle: masks in the forward pass alone, so that what the optimiser does to pruned weights is not seen."""
    twin = copy.deepcopy(model)
    parameters = dict(twin.named_parameters())
    optimizer = optimiser(twin.parameters())
    for step in range(steps):
        x, y = make_batch(step)
        optimizer.zero_grad()
        masked = {name: p * masks[name] if name in masks else p for name, p in parameters.items()}
        F.cross_entropy(functional_call(twin, masked, (x,)), y).backward()
        optimizer.step()
    apply_masks(twin, masks)
    return twin


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from(sorted(set(OPTIMISERS) - {"adafactor"})), st.floats(0, 1), st.booleans())
def test_what_is_pruned_is_zero_after_every_step_and_the_rest_trains_as_if_masked(model, kind, density, foreach):
    optimiser, held = OPTIMISERS[kind]
    if "fused" not in kind:
        optimiser = functools.partial(optimiser, foreach=foreach)
    masks = random_masks(model, density)
    twin = _train_as_if_masked(model, masks, optimiser, 4)
    before = state_bits(model)
    optimizer = optimiser(model.parameters())
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    for step in range(4):
        one_step(model, optimizer, step)
        for name, mask in masks.items():
            tensors = held_tensors(model, optimizer, name)
            assert len(tensors) == 2 + held
            assert all((tensor[~mask] == 0).all() for tensor in tensors)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert guard.step == 4
    assert not torch.equal(model[-1].bias, before[f"{len(model) - 1}.bias"])


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_every_optimiser_leaves_zeros_and_moves_all_else(kind):
    optimiser, _ = OPTIMISERS[kind]
    model = small_network()
    masks, before = random_masks(model), state_bits(model)
    optimizer = optimiser(model.parameters())
    Guard(model, masks=masks).attach(optimizer)
    for step in range(3):
        one_step(model, optimizer, step)
        assert all_zero(model, optimizer, masks)
    for name, tensor in model.state_dict().items():
        changed = tensor != before[name]
        assert changed[masks.get(name, torch.ones_like(changed))].float().mean() > 0.5, name


def test_sgd_on_a_quadratic_follows_its_closed_form():
    torch.manual_seed(0)
    layer, target = nn.Linear(5, 4, bias=False), torch.randn(4, 5)
    mask, first = torch.rand(4, 5) < 0.5, layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2)
    Guard(layer, masks={"weight": mask}).attach(optimizer)
    for step in range(1, 6):
        optimizer.zero_grad()
        (layer(torch.eye(5)).T - target).square().sum().div(2).backward()
        optimizer.step()
        torch.testing.assert_close(layer.weight.detach(), mask * (target + 0.8**step * (first - target)))


def test_a_norm_clip_sees_kept_gradients_alone():
    model, twin = small_network(), small_network()
    masks = random_masks(model)
    apply_masks(twin, masks)
    loss_of(twin).backward()
    kept = [p.grad * masks[name] if name in masks else p.grad for name, p in twin.named_parameters()]
    wanted = torch.cat([g.flatten() for g in kept]).double().square().sum().sqrt().item()
    everything = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm().item()

    Guard(model, masks=masks).attach(make_sgd(model))
    loss_of(model).backward()
    assert nn.utils.clip_grad_norm_(model.parameters(), wanted / 2).item() == pytest.approx(wanted, rel=1e-5)
    assert everything > 1.05 * wanted
    for found, kept_gradient in zip(model.parameters(), kept, strict=True):
        torch.testing.assert_close(found.grad, kept_gradient / 2)


def test_mixed_precision_keeps_zeros_and_a_skipped_step_revives_nothing():
    model = small_network()
    masks = random_masks(model)
    optimizer, scaler = make_sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    for step, factor in enumerate([1, 1, torch.inf, 1]):
        before = state_bits(model)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, step)
        scaler.scale(loss * factor).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert all_zero(model, optimizer, masks)
        assert torch.equal(before["4.weight"], model[4].weight) == (factor == torch.inf)
    assert scaler.get_scale() == 512
    assert guard.step == 3


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_pruned_weight_that_diverged_is_zero_after_a_step(value):
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    one_step(model, optimizer)
    with torch.no_grad():
        for name, mask in masks.items():
            for tensor in held_tensors(model, optimizer, name):
                tensor[~mask] = value
    optimizer.step()
    assert all_zero(model, optimizer, masks)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_a_shared_weight_is_kept_at_zero_under_either_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].weight = model[0].weight
    mask = torch.eye(4, dtype=torch.bool)
    for name in ("0.weight", "2.weight"):
        optimizer = make_sgd(model)
        guard = Guard(model, masks={name: mask})
        guard.attach(optimizer)
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        assert all_zero(model, optimizer, guard.masks)
        guard.detach()


def test_a_layer_that_is_frozen_and_unfrozen_while_attached_stays_at_zero():
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    model[4].weight.requires_grad_(False)
    Guard(model, masks=masks).attach(optimizer)
    one_step(model, optimizer)
    assert not model[4].weight[~masks["4.weight"]].any()
    model[4].weight.requires_grad_(True)
    one_step(model, optimizer)
    assert all_zero(model, optimizer, masks)
