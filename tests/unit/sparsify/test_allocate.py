"""The chains of a whole model: as close to its density as one more chain allows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.errors import UsageError
from lacewing.sparsify import _search
from lacewing.sparsify._allocate import allocate

torch.set_num_threads(1)


MODEL = {"conv": (64, 576, 1), "grouped": (8, 72, 16), "wide": (96, 384, 2), "prime": (7, 13, 3)}


def _stored(chains, elsewhere):
    each = (n * (chains[name].nnz if name in chains else r * c) for name, (r, c, n) in MODEL.items())
    return elsewhere + sum(each)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 1.0), st.integers(0, 5000), st.sampled_from([None, 2, 3]))
def test_a_model_gets_as_near_to_its_density_as_one_more_chain_allows(density, elsewhere, factors):
    total = elsewhere + sum(math.prod(sizes) for sizes in MODEL.values())
    chains = allocate(MODEL, elsewhere, density, factors)
    left = density * total - _stored(chains, elsewhere)
    assert left >= 0
    assert set(chains) == {"conv", "grouped", "wide"}  # 7 x 13 has no chain
    (length,) = {len(chain.patterns) for chain in chains.values()}
    assert factors in (None, length)
    for name, chain in chains.items():
        rows, columns, count = MODEL[name]
        assert chain.shape == (rows, columns)
        denser = [n for n in _search.menu(rows, columns, length) if n > chain.nnz]
        assert all((n - chain.nnz) * count > left for n in denser)


def test_layers_of_a_model_get_about_the_same_density():
    """Where every layer has a chain near the common density: within the steps of the menus, not one layer for all."""
    sizes = {f"layer{n}": (256, 256, 1) for n in range(4)}
    densities = [chain.density for chain in allocate(sizes, 0, 0.3).values()]
    assert max(densities) / min(densities) < 1.25
    assert sum(densities) / 4 == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("factors", [None, 2, 3])
def test_the_floor_of_a_model_is_reached_and_named(factors):
    lengths = [factors] if factors else [2, 3, 4]
    menus = [
        {n: min(_search.menu(r, c, length)) for n, (r, c, _) in MODEL.items() if n != "prime"} for length in lengths
    ]
    total = 1000 + sum(math.prod(sizes) for sizes in MODEL.values())
    least = min(1000 + 3 * 7 * 13 + sum(MODEL[n][2] * e for n, e in menu.items()) for menu in menus)
    assert _stored(allocate(MODEL, 1000, least / total * (1 + 1e-12), factors), 1000) == least
    named = math.ceil(1e4 * least / total) / 1e4
    with pytest.raises(UsageError, match=f"is below {named:.4f}, the lowest that chains reach.*prune"):
        allocate(MODEL, 1000, least / total - 1e-6, factors)
