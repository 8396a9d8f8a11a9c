"""Sequences of pruning: exact, nested and repeatable under every optimiser, rewind and schedule."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_cases import (
    OPTIMISERS,
    REWINDS,
    SCHEDULES,
    SCOPES,
    count_kept,
    fit_two_steps,
    random_masks,
    same_masks,
    trainable,
    weights_left,
)
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    cubic,
    geometric,
    imp,
    prune,
    random,
    remaining,
)
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.sampled_from(["mlp", "conv"]), st.integers(3, 6), st.integers(0, 99)),
    st.sampled_from(sorted(OPTIMISERS)),
    st.sampled_from(REWINDS),
    st.sampled_from(sorted(SCHEDULES)),
    st.sampled_from(SCOPES),
    st.integers(1, 3),
)
def test_a_sequence_is_exact_nested_and_repeatable(network, optimiser, rewind, schedule, scope, levels):
    runs = []
    for _ in range(2):
        model = trainable(*network)
        weights = sum(model.get_parameter(name).numel() for name in prunable(model))
        other = sum(p.numel() for p in model.parameters()) - weights
        before, run = random_masks(model, 2), []
        fit = fit_two_steps(OPTIMISERS[optimiser])
        for level in imp(model, fit, levels=levels, rewind=rewind, scope=scope, **SCHEDULES[schedule]):
            if level.number:
                assert list(level.masks) == prunable(model)
                assert count_kept(level.masks) == weights_left(schedule, weights, other, level.number, levels)
            for name, mask in level.masks.items():
                assert torch.equal(model.get_parameter(name) != 0, mask)
                assert (mask <= before[name]).all()
            before = level.masks or before
            run.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert level.number == levels == len(run) - 1
        runs.append(run)
    assert all(same_masks(*states) for states in zip(*runs, strict=True))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_sequence_of_one_level_is_one_shot_pruning_of_what_was_trained(scope):
    model, fit = trainable("conv", 5, 0), fit_two_steps(OPTIMISERS["sgd"])
    sequence = imp(model, fit, levels=1, schedule=geometric(0.3), scope=scope)
    assert next(sequence).masks == {}
    wanted = prune(model, density=0.3, scope=scope)
    (level,) = sequence
    assert same_masks(level.masks, wanted)
    assert same_masks(level.masks, {name: model.get_parameter(name) != 0 for name in wanted})


def test_score_and_ignore_reach_every_level():
    model = trainable("conv", 5, 0)
    shape = model[4].weight.shape
    levels = list(imp(model, fit_two_steps(OPTIMISERS["sgd"]), levels=3, score=random(7), ignore=["0"]))
    order = torch.rand(shape, generator=torch.Generator().manual_seed(7))
    for level in levels[1:]:
        (mask,) = level.masks.values()
        assert order[mask].min() > order[~mask].max()
    assert model[0].weight.ne(0).all()


def test_levels_in_hand_do_not_change_as_the_sequence_goes_on():
    model = trainable("mlp", 4, 0)
    copies, levels = [], []
    for level in imp(model, fit_two_steps(OPTIMISERS["sgd"]), levels=3):
        levels.append(level)
        copies.append({name: mask.clone() for name, mask in level.masks.items()})
    assert all(same_masks(level.masks, kept) for level, kept in zip(levels, copies, strict=True))


def test_what_becomes_of_a_level_in_hand_does_not_change_the_sequence():
    model = trainable("mlp", 4, 0)
    guard = Guard(model)
    for level in imp(model, fit_two_steps(OPTIMISERS["sgd"]), levels=2, guard=guard):
        kept = count_kept(guard.masks)
        assert count_kept(level.masks) == kept == (remaining(76, level.number, 0.2) if level.number else 0)
        level.masks.clear()
        assert count_kept(guard.masks) == kept


def test_no_prunings_train_the_dense_network_once():
    steps = []
    fit = fit_two_steps(OPTIMISERS["sgd"], lambda model, guard: steps.append(dict(guard.masks)))
    (level,) = imp(trainable("mlp", 4, 0), fit, levels=0)
    assert (level.number, level.masks, steps) == (0, {}, [{}] * 4)


def test_what_a_sequence_cannot_do_is_refused_before_anything_is_trained():
    model = trainable("mlp", 4, 0)

    def fit(model, guard):
        raise AssertionError("trained")

    for schedule in (geometric(0.01), cubic(0.01), cubic(1.1)):
        with pytest.raises(UsageError, match="cannot be reached"):
            next(imp(model, fit, levels=2, schedule=schedule))
    with pytest.raises(UsageError, match="to continue, give the guard"):
        next(imp(model, fit, levels=2, start=1))
    with pytest.raises(UsageError, match="the guard belongs to another model"):
        next(imp(model, fit, levels=2, guard=Guard(copy.deepcopy(model))))
    with pytest.raises(UsageError, match="fraction = 1 is not between 0 and 1"):
        next(imp(model, fit, levels=2, fraction=1))
    with pytest.raises(UsageError, match="must be 'init'"):
        next(imp(model, fit, levels=2, rewind="never"))
    with pytest.raises(UsageError, match="matches no prunable weight"):
        next(imp(model, fit, levels=2, ignore=["nothing"]))


def test_a_model_without_weights_to_prune_is_refused_before_anything_is_trained():
    def fit(model, guard):
        raise AssertionError("trained")

    with pytest.raises(UsageError, match="no convolution or linear weight"):
        next(imp(nn.Sequential(nn.BatchNorm1d(3)), fit, levels=2))
