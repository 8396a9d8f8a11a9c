"""Pruning schedules against their formulas."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pruning_cases import count_kept
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    Sizes,
    butterfly,
    cubic,
    fixed_fraction,
    geometric,
    imp,
    prune,
)
from lacewing.sparsify.masks import prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@st.composite
def sizes_and_density(draw):
    """A dense network's counts, and a density that leaves between one and all of its prunable weights."""
    weights, other = draw(st.integers(1, 5000)), draw(st.integers(0, 500))
    return Sizes(weights + other, weights, other), (draw(st.floats(1, weights)) + other) / (weights + other)


@settings(max_examples=30, deadline=None)
@given(sizes_and_density(), st.integers(1, 12))
def test_geometric_multiplies_by_one_ratio_and_ends_at_the_density(case, levels):
    sizes, density = case
    last = density * sizes.parameters - sizes.other
    ratio = (last / sizes.prunable) ** (1 / levels)
    found = [geometric(density)(sizes, level, levels) for level in range(levels + 1)]
    for level, left in enumerate(found):
        assert left == pytest.approx(sizes.prunable * ratio**level, abs=0.5 + 1e-6)
    assert found == sorted(found, reverse=True)
    assert found[0] == sizes.prunable


@settings(max_examples=30, deadline=None)
@given(sizes_and_density(), st.integers(1, 12))
def test_cubic_is_the_formula_of_zhu_and_gupta(case, levels):
    """Sparsity s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, here with s_i = 0."""
    sizes, density = case
    final = 1 - (density * sizes.parameters - sizes.other) / sizes.prunable
    found = [cubic(density)(sizes, level, levels) for level in range(levels + 1)]
    for level, left in enumerate(found):
        sparsity = final + (0 - final) * (1 - level / levels) ** 3
        assert left == pytest.approx(sizes.prunable * (1 - sparsity), abs=0.5 + 1e-6)
    assert found == sorted(found, reverse=True)
    assert found[0] == sizes.prunable


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 10), st.floats(0.01, 0.99))
def test_fixed_fraction_removes_the_floor_at_each_level(weights, levels, fraction):
    left = weights
    for level in range(levels + 1):
        assert fixed_fraction(fraction)(Sizes(weights + 7, weights, 7), level, levels) == left
        left -= math.floor(fraction * left)


@pytest.mark.parametrize("schedule", [geometric, cubic])
@settings(max_examples=30, deadline=None)
@given(sizes_and_density(), st.integers(1, 12))
def test_a_schedule_ends_where_one_pruning_to_the_density_would(schedule, case, levels):
    sizes, density = case
    last = sizes.weights_at(density)
    assume(abs(last % 1 - 0.5) > 1e-6)  # halves stand below
    assert schedule(density)(sizes, levels, levels) == round(last)


@pytest.mark.parametrize("schedule", [geometric, cubic])
def test_a_schedule_rounds_half_a_weight_as_one_pruning_does(schedule):
    model = nn.Linear(11, 1)
    model.bias = nn.Parameter(torch.zeros(3))  # 0.75 of 14 parameters are 10.5

    def fit(model, guard):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        guard.attach(optimizer)
        model.weight.sum().backward()
        optimizer.step()

    levels = list(imp(model, fit, levels=2, rewind="init", schedule=schedule(0.75)))
    assert count_kept(levels[-1].masks) == count_kept(prune(model, {}, density=0.75))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, math.nan])
def test_a_fraction_that_leaves_none_or_all_is_refused(fraction):
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        fixed_fraction(fraction)


def test_sizes_of_a_butterfly_model_count_the_dense_network():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))
    names = prunable(model)
    assert Sizes.of(model, names) == Sizes(16 * 17 + 3 * 17, 16 * 16 + 3 * 16, 19)
    butterfly(model, density=0.8, factors=2, ignore=["1"])
    entries = sum(factor.numel() for factor in model[0].factors)
    assert Sizes.of(model, prunable(model)) == Sizes(16 * 17 + 3 * 17, entries + 3 * 16, 19)
    assert Sizes.of(model, prunable(model, ["1"])) == Sizes(16 * 17 + 3 * 17, entries, 19 + 3 * 16)
