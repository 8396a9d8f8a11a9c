"""Pruning during training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_cases import (
    OPTIMISERS,
    SCOPES,
    count_kept,
    fit_two_steps,
    random_masks,
    same_masks,
    trainable,
    weights_left,
)

from lacewing.errors import UsageError
from lacewing.sparsify import (
    Gradual,
    gradient,
    random,
    summary,
)
from lacewing.sparsify.masks import prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.sampled_from(["mlp", "conv"]), st.integers(3, 6), st.integers(0, 99)),
    st.sampled_from(sorted(OPTIMISERS)),
    st.sampled_from(SCOPES),
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3)),
)
def test_gradual_pruning_follows_its_schedule_step_by_step(network, optimiser, scope, times):
    begin, every, prunings = times
    end = begin + every * prunings
    model = trainable(*network)
    weights = sum(model.get_parameter(name).numel() for name in prunable(model))
    other = sum(p.numel() for p in model.parameters()) - weights
    guard = Gradual(model, 0.4, begin=begin, end=end, every=every, scope=scope)
    alive = random_masks(model, 2)

    def watch(model, guard):
        done = min(max(guard.step - begin, 0) // every, prunings)
        nonzero = {name: model.get_parameter(name).detach() != 0 for name in alive}
        assert count_kept(nonzero) == weights_left("cubic", weights, other, done, prunings)
        assert all((nonzero[name] <= alive[name]).all() for name in alive)
        if guard.masks:
            assert same_masks(guard.masks, nonzero)
        alive.update(nonzero)

    fit_two_steps(OPTIMISERS[optimiser], watch, epochs=end // 2 + 1)(model, guard)
    assert guard.step > end
    assert same_masks(guard.masks, alive)
    assert summary(model, guard.masks).nonzero == round(0.4 * (weights + other))


def test_gradual_pruning_takes_scores_and_schedules_of_ones_own():
    model = trainable("conv", 5, 0)
    left = {1: 15, 2: 11}
    guard = Gradual(
        model,
        0.8,
        begin=1,
        end=5,
        every=2,
        schedule=lambda sizes, level, levels: left[level],
        score=random(1),
        ignore=["4"],
    )
    counts = {}
    fit_two_steps(OPTIMISERS["sgd"], lambda model, guard: counts.update({guard.step: count_kept(guard.masks)}), 3)(
        model, guard
    )
    assert counts == {1: 0, 2: 0, 3: 15, 4: 15, 5: 11, 6: 11}
    order = torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    mask = guard.masks["0.weight"]
    assert order[mask].min() > order[~mask].max()
    assert list(guard.masks) == ["0.weight"]


def test_gradual_pruning_revives_nothing_and_prunes_once_a_step_though_scores_turn_round_and_optimisers_are_two():
    model, calls, alive = trainable("mlp", 4, 0), [], None

    def turning(model, names):
        calls.append(names)
        weights = {name: model.get_parameter(name) for name in names}
        return {name: torch.arange(w.numel()).view_as(w) * (-1) ** len(calls) for name, w in weights.items()}

    guard = Gradual(model, 0.6, begin=0, end=4, every=1, score=turning)
    first, second = (OPTIMISERS["sgd"](layer.parameters()) for layer in (model[1], model[3]))
    guard.attach(first, second)
    for step in range(1, 7):
        model(torch.ones(2, 1, 4, 4)).square().sum().backward()
        first.step()
        second.step()
        assert len(calls) == min(step, 4)
        assert all(torch.equal(model.get_parameter(name) != 0, mask) for name, mask in guard.masks.items())
        assert alive is None or all((mask <= alive[name]).all() for name, mask in guard.masks.items())
        alive = guard.masks
    assert summary(model, guard.masks).nonzero == round(0.6 * (4 * 17 + 3 * 5))


def test_gradual_pruning_by_gradient_scores_leaves_the_training_as_it_was():
    """The score's own pass is of another batch; neither batch norm nor gradients of the training see it."""
    model = trainable("conv", 5, 0)
    guard = Gradual(model, 0.5, begin=0, end=4, every=1, score=gradient(lambda m: m(torch.ones(4, 1, 4, 4)).sum()))
    fit_two_steps(OPTIMISERS["sgd"])(model, guard)
    assert model[1].num_batches_tracked == 4
    assert summary(model, guard.masks).density == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("begin", "end", "every"), [(-1, 3, 1), (3, 3, 1), (4, 3, 1), (0, 3, 2), (0, 3, 0), (0, 2, 4)])
def test_steps_that_do_not_fit_together_are_refused(begin, end, every):
    with pytest.raises(UsageError, match=f"^begin = {begin}, end = {end}, every = {every}: pruning must end after"):
        Gradual(trainable("mlp", 3, 0), 0.5, begin=begin, end=end, every=every)


@pytest.mark.parametrize("density", [-0.1, 0.01, 1.2])
def test_gradual_pruning_refuses_a_density_out_of_reach_at_once(density):
    with pytest.raises(UsageError, match=f"density = {density} cannot be reached"):
        Gradual(trainable("mlp", 3, 0), density, begin=0, end=4, every=2)
