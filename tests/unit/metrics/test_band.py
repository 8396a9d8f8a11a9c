"""The joint band: on the safe side by an independent computation, hardly so, and as bisection finds it."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from lacewing.metrics import _band
from lacewing.metrics._band import simultaneous_upper

LEVELS = st.floats(0.001, 0.99999)


def probability(n, bound_J, grid_J):
    """P(more than k of n uniforms lie below the bound of k, for all k of the grid): each count given the last one."""
    mass, before = np.zeros(n + 1), 0.0
    mass[0] = 1.0
    for k, bound in zip(grid_J, bound_J, strict=True):
        new = np.zeros(n + 1)
        for c in np.flatnonzero(mass):
            new[c:] += mass[c] * stats.binom.pmf(np.arange(n - c + 1), n - c, (bound - before) / (1 - before))
        new[: k + 1] = 0.0
        mass, before = new, bound
    return mass.sum()


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 14), LEVELS)
def test_it_holds_at_its_level_and_not_at_a_slightly_larger_local_one(n, level):
    bound, k = simultaneous_upper(n, level)[:n], np.arange(n)
    assert probability(n, bound, k) >= level - 1e-12
    local = (1 - bound[0]) ** n * (1 + 1e-3)
    if n > 1:
        assert probability(n, stats.beta.isf(local, k + 1, n - k), k) < level


@pytest.mark.parametrize(("n", "level"), [(120, 0.5), (700, 0.975)])
def test_the_tails_that_are_dropped_are_negligible_and_on_the_safe_side(n, level, monkeypatch):
    grid, bound = _band._band(n, level)
    found = _band._holds(n, grid, bound)
    monkeypatch.setattr(_band, "_TAIL", 20.0)
    assert found <= _band._holds(n, grid, bound) + 1e-13
    assert found == pytest.approx(_band._holds(n, grid, bound), abs=1e-10)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 80), LEVELS)
@example(4095, 0.975)
@example(4100, 0.99)  # the first guess comes from smaller bands
def test_it_is_what_bisection_finds(n, level):
    grid = _band._grid(n)
    low, high = math.log((1 - level) / len(grid)), math.log(1 - level)
    while high - low > 1e-3:
        middle = (low + high) / 2
        holds = _band._holds(n, grid, _band._bounds(n, grid, math.exp(middle))) >= level
        low, high = (middle, high) if holds else (low, middle)
    np.testing.assert_array_equal(_band._band(n, level)[1], _band._bounds(n, grid, math.exp(low)))


@pytest.mark.parametrize("wrong_by", [-3.0, -0.1, 0.1, 3.0])
def test_a_wrong_first_guess_costs_time_alone(wrong_by, monkeypatch):
    right = _band._local(20_000, 0.975).chosen
    near = {n: _band._local(n, 0.975) for n in (20_000 // 16, 20_000 // 256)}
    plain = _band._local.__wrapped__
    monkeypatch.setattr(_band, "_local", lambda n, level: near[n]._replace(root=near[n].root + wrong_by))
    assert plain(20_000, 0.975).chosen == right
