"""The guard with wrapped, copied and exported models, several optimisers, and masks set during training."""

import copy
import functools
import pickle

import pytest
import torch
from guard_cases import (
    all_zero,
    held_tensors,
    loss_of,
    make_batch,
    make_sgd,
    one_step,
    random_masks,
    same_bits,
    small_network,
    state_bits,
)
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import apply_masks, prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


_WRAPPED = []  # for good: who frees a wrapper holds the GIL and waits for a thread of gloo's that may want it


@pytest.mark.parametrize("before_attach", [False, True])
def test_distributed_data_parallel_keeps_zeros_and_its_names(tmp_path, before_attach):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model, plain = small_network(), small_network()
        masks, names = random_masks(model), list(model.state_dict())
        guard, plain_guard = Guard(model, masks=masks), Guard(plain, masks=masks)
        optimizer, plain_optimizer = make_sgd(model), make_sgd(plain)
        plain_guard.attach(plain_optimizer)
        if before_attach:
            guard.attach(optimizer)
        wrapped = nn.parallel.DistributedDataParallel(model)
        _WRAPPED.append(wrapped)
        if not before_attach:
            guard.attach(optimizer)
        for step in range(3):
            one_step(wrapped, optimizer, step)
            one_step(plain, plain_optimizer, step)
            assert all_zero(model, optimizer, masks)
        assert list(wrapped.state_dict()) == [f"module.{name}" for name in names]
        assert list(model.state_dict()) == names
        for name, tensor in plain.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], tensor)
    finally:
        torch.distributed.destroy_process_group()


def test_a_guarded_model_is_exported_as_it_stands():
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    Guard(model, masks=masks).attach(optimizer)
    one_step(model, optimizer)
    model.eval()
    x, _ = make_batch(1)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))
    assert set(exported.state_dict) == set(model.state_dict())
    assert all(not exported.state_dict[name][~mask].any() for name, mask in masks.items())
    model.train()
    one_step(model, optimizer)
    assert all_zero(model, optimizer, masks)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_guarded_model_is_free(copied):
    model = small_network()
    masks, optimizer = random_masks(model, 0.3), make_sgd(model)
    Guard(model, masks=masks).attach(optimizer)
    one_step(model, optimizer)
    twin = copied(model)
    assert same_bits(state_bits(twin), state_bits(model))
    assert list(twin.state_dict()) == list(model.state_dict())
    one_step(twin, make_sgd(twin))
    assert all(twin.get_parameter(name)[~mask].ne(0).float().mean() > 0.9 for name, mask in masks.items())
    assert all_zero(model, optimizer, masks)


def test_a_copy_of_the_optimiser_counts_no_steps_and_zeroes_nothing():
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    one_step(model, optimizer)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    one_step(twin, twin_optimizer)
    assert guard.step == 1


def test_gradients_that_accumulate_are_masked_each_time():
    model, whole = small_network().eval(), small_network().eval()
    masks, optimizer = random_masks(model), make_sgd(model)
    Guard(model, masks=masks).attach(optimizer)
    apply_masks(whole, masks)
    for seed in range(3):
        loss_of(model, seed).backward()
        assert all_zero(model, optimizer, masks)
    torch.stack([loss_of(whole, seed) for seed in range(3)]).sum().backward()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad * masks.get(name, 1))
    optimizer.step()
    assert all_zero(model, optimizer, masks)


def test_several_optimisers_keep_zeros_and_the_first_one_counts():
    model = small_network()
    masks = random_masks(model)
    head = torch.optim.Adam(model[4].parameters(), lr=0.01, weight_decay=0.1)
    body = torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1, momentum=0.9)
    guard = Guard(model, masks=masks)
    guard.attach(head, body)
    for step in range(1, 4):
        for optimizer in (head, body):
            optimizer.zero_grad()
        loss_of(model, step).backward()
        body.step()
        assert guard.step == step - 1
        head.step()
        body.step()
        assert guard.step == step
        assert all_zero(model, head, masks)
        assert all_zero(model, body, masks)
    assert len(held_tensors(model, head, "4.weight")) == 4
    assert len(held_tensors(model, body, "0.weight")) == 3


def test_detach_frees_weights_and_counts_no_more():
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    one_step(model, optimizer)
    guard.detach()
    guard.detach()
    one_step(model, optimizer)
    assert all(model.get_parameter(name)[~mask].ne(0).all() for name, mask in masks.items())
    assert guard.step == 1
    guard.attach(optimizer)
    assert all_zero(model, optimizer, masks)


def test_to_attach_again_lets_go_of_what_was_attached():
    model = small_network()
    masks, first, second = random_masks(model), make_sgd(model), make_sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(first)
    guard.attach(second)
    loss_of(model).backward()
    first.step()
    assert guard.step == 0
    second.step()
    assert guard.step == 1
    with torch.no_grad():
        model[4].weight.fill_(1.0)
    first.step()  # free: it is no longer watched
    assert model[4].weight.ne(0).all()
    second.step()
    assert all_zero(model, second, masks)


def test_masks_set_in_mid_training_prune_weights_gradients_and_state_at_once():
    model = small_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.1)
    guard = Guard(model)
    guard.attach(optimizer)
    for step in range(2):
        one_step(model, optimizer, step)
    before = {name: [t.clone() for t in held_tensors(model, optimizer, name)] for name in prunable(model)}
    masks = random_masks(model)
    guard.masks = masks
    for name, mask in masks.items():
        found = held_tensors(model, optimizer, name)
        assert len(found) == 4
        assert all(torch.equal(t, torch.where(mask, old, 0)) for t, old in zip(found, before[name], strict=True))
    one_step(model, optimizer, 2)
    assert all_zero(model, optimizer, masks)
    looser = {name: mask | random_masks(model, seed=1)[name] for name, mask in masks.items()}
    guard.masks = looser  # what is free again grows again, and the rest does not
    one_step(model, optimizer, 3)
    assert all(model.get_parameter(name).ne(0).equal(mask) for name, mask in looser.items())


def test_masks_of_another_model_are_refused_and_the_old_ones_stay():
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    with pytest.raises(UsageError, match="which the model does not have"):
        guard.masks = {"nowhere": torch.ones(2, dtype=torch.bool)}
    one_step(model, optimizer)
    assert all_zero(model, optimizer, guard.masks)
    assert same_bits(guard.masks, masks)


def test_what_is_pruned_does_not_follow_a_mask_that_its_owner_changes_later():
    model = small_network()
    mine, optimizer = random_masks(model), make_sgd(model)
    masks = {name: mask.clone() for name, mask in mine.items()}
    Guard(model, masks=mine).attach(optimizer)
    for mask in mine.values():
        mask.fill_(True)
    one_step(model, optimizer)
    assert all_zero(model, optimizer, masks)


@pytest.mark.parametrize(
    "optimiser",
    [functools.partial(torch.optim.LBFGS, lr=0.3, max_iter=5), functools.partial(torch.optim.SGD, lr=0.1)],
)
def test_a_step_that_calls_a_closure_keeps_zeros_and_counts_once(optimiser):
    model = small_network()
    masks, optimizer = random_masks(model), optimiser(model.parameters())
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        seen.append(loss.item())
        assert all_zero(model, optimizer, masks)  # inside the step too
        return loss

    for step in range(1, 4):
        optimizer.step(closure)
        assert all_zero(model, optimizer, masks)
        assert guard.step == step
    assert loss_of(model).item() < seen[0]


def test_a_learning_rate_scheduler_may_wrap_the_optimiser_on_either_side():
    for wrapped_first in (False, True):
        model = small_network()
        masks, optimizer = random_masks(model), make_sgd(model)
        guard = Guard(model, masks=masks)
        if not wrapped_first:
            guard.attach(optimizer)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=5)
        if wrapped_first:
            guard.attach(optimizer)
        for step in range(4):
            one_step(model, optimizer, step)
            scheduler.step()
            assert all_zero(model, optimizer, masks)
        assert guard.step == 4


def test_an_optimiser_state_that_is_loaded_is_zeroed_by_the_next_step():
    dense = small_network()
    dense_optimizer = make_sgd(dense)
    one_step(dense, dense_optimizer)
    model = small_network()
    masks, optimizer = random_masks(model), make_sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    optimizer.load_state_dict(dense_optimizer.state_dict())
    assert not all_zero(dense, dense_optimizer, masks)
    one_step(model, optimizer)
    assert all_zero(model, optimizer, masks)
