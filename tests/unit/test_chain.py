"""Chains of Kronecker-sparse factors: algebra and search, against support matrices, brute force and lazylinop."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.errors import UsageError
from lacewing.sparsify.chain import Chain, Pattern

TABLE = {  # C_out x 9 C_in: the chains of ResNet-20 at two and at three factors, with their non-zeros
    (16, 144): ([(1, 8, 8, 2), (8, 2, 18, 1)], 416, [(1, 4, 4, 4), (4, 2, 2, 2), (8, 2, 18, 1)], 384),
    (32, 144): ([(1, 16, 16, 2), (16, 2, 9, 1)], 800, [(1, 4, 4, 8), (4, 4, 4, 2), (16, 2, 9, 1)], 544),
    (32, 288): ([(1, 16, 16, 2), (16, 2, 18, 1)], 1088, [(1, 4, 4, 8), (4, 4, 4, 2), (16, 2, 18, 1)], 832),
    (64, 288): ([(1, 16, 16, 4), (16, 4, 18, 1)], 2176, [(1, 8, 8, 8), (8, 4, 4, 2), (32, 2, 9, 1)], 1344),
    (64, 576): ([(1, 32, 32, 2), (32, 2, 18, 1)], 3200, [(1, 8, 8, 8), (8, 4, 4, 2), (32, 2, 18, 1)], 1920),
}
SMALL = [Pattern(*p) for p in itertools.product((1, 2, 3), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3))]
patterns = st.builds(Pattern, *[st.integers(1, 4)] * 4)


@pytest.mark.parametrize("shape", TABLE)
@pytest.mark.parametrize("factors", [2, 3])
def test_cheapest_finds_the_chains_of_resnet20(shape, factors):
    patterns, nnz = TABLE[shape][2 * factors - 4 : 2 * factors - 2]
    chain = Chain.cheapest(*shape, factors)
    assert [tuple(p) for p in chain.patterns] == patterns
    assert chain.nnz == nnz
    assert chain.shape == shape
    assert chain.density == nnz / math.prod(shape)


@given(patterns)
def test_support_is_a_kronecker_product(p):
    """Entry by entry: I_a (x) 1_{b x c} (x) I_d is 1 where the outer and the inner index agree."""
    row, column = np.arange(p.rows)[:, None], np.arange(p.columns)
    same = (row // (p.b * p.d) == column // (p.c * p.d)) & (row % p.d == column % p.d)
    np.testing.assert_array_equal(p.support(), same)
    assert p.nnz == same.sum()


def _refused(*factors):
    try:
        Chain(factors)
    except UsageError:
        return True
    return False


def test_the_product_of_a_chainable_pair_is_r_times_the_fused_support():
    """Every pair of small patterns: those that chain are those of the definition, and their product is as it says."""
    chained = 0
    for left, right in itertools.product(SMALL, SMALL):
        assert _refused(left, right) != _chainable(left, right)
        if _chainable(left, right):
            (rank,) = Chain([left, right]).ranks
            fused = Pattern(left.a, left.b * left.d // right.d, right.a * right.c // left.a, right.d)
            product = left.support().astype(int) @ right.support().astype(int)
            np.testing.assert_array_equal(product, rank * fused.support())
            chained += 1
    assert chained > 200


@pytest.mark.parametrize("shape", [(4, 4), (4, 6), (6, 4), (8, 8), (6, 12), (12, 6), (4, 18), (5, 10), (7, 7)])
@pytest.mark.parametrize("factors", [1, 2, 3])
def test_cheapest_equals_an_exhaustive_search(shape, factors):
    found = list(_all_chains(*shape, factors))
    if not found:
        with pytest.raises(UsageError, match=f"no chain of {factors} factors makes a {shape[0]} x {shape[1]} matrix"):
            Chain.cheapest(*shape, factors)
        return
    fewest = min(sum(math.prod(p) for p in chain) for chain in found)
    best = max(chain for chain in found if sum(math.prod(p) for p in chain) == fewest)
    assert tuple(map(tuple, Chain.cheapest(*shape, factors).patterns)) == best


def _all_chains(rows, columns, factors):
    """Every full-support, monotone chain with b, c >= 2, straight from the rules: full support is seen, not derived."""
    rising = rows <= columns
    for inner in itertools.combinations_with_replacement(
        range(min(rows, columns), max(rows, columns) + 1), factors - 1
    ):
        sizes = (rows, *(inner if rising else inner[::-1]), columns)
        options = [list(_factors(*pair)) for pair in itertools.pairwise(sizes)]
        for chain in itertools.product(*options):
            if all(_chainable(*pair) for pair in itertools.pairwise(chain)):
                support = Pattern(*chain[0]).support().astype(int)
                for p in chain[1:]:
                    support = support @ Pattern(*p).support()
                if support.all():
                    yield chain


def _factors(rows, columns):
    for a in range(1, min(rows, columns) + 1):
        for d in range(1, min(rows, columns) // a + 1):
            b, c = rows / (a * d), columns / (a * d)
            if b == int(b) >= 2 and c == int(c) >= 2:
                yield a, int(b), int(c), d


def _chainable(left, right):
    (a1, _, c1, d1), (a2, b2, _, d2) = left, right
    rank = a1 * c1 / a2
    return a2 % a1 == 0 and d1 % d2 == 0 and rank == int(rank) == b2 * d2 / d1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 4))
def test_cheapest_chains_obey_the_three_rules(rows, columns, factors):
    try:
        chain = Chain.cheapest(rows, columns, factors)
    except UsageError:
        return
    assert chain.shape == (rows, columns)
    assert len(chain.patterns) == factors
    assert (chain.patterns[0].a, chain.patterns[-1].d) == (1, 1)
    assert all(p.b >= 2 and p.c >= 2 for p in chain.patterns)
    sizes = [rows, *(p.columns for p in chain.patterns)]
    assert sizes in (sorted(sizes), sorted(sizes, reverse=True))


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ([], "at least one factor"),
        ([(1, 2, 2, 2), (2, 2, 0, 1)], r"factor 2 is \(2, 2, 0, 1\)"),
        ([(1, 2, 2)], r"factor 1 is \(1, 2, 2\)"),
        ([(1, 2, 2, 2), (2, 2, 2.0, 1)], r"factor 2 is \(2, 2, 2.0, 1\)"),
        (
            [(1, 2, 2, 2), (2, 2, 2, 1), (1, 2, 2, 2)],
            r"factors 2 and 3, \(2, 2, 2, 1\) and \(1, 2, 2, 2\), do not chain",
        ),
    ],
)
def test_errors_name_the_factor(factors, said):
    with pytest.raises(UsageError, match=said):
        Chain(factors)


@pytest.mark.parametrize("shape", [(1, 9, 2), (9, 1, 2), (16, 144, 0), (0, 4, 2)])
def test_no_chain_is_an_error_with_a_mend(shape):
    with pytest.raises(UsageError, match="use fewer factors, or channels that divide"):
        Chain.cheapest(*shape)


def test_chains_are_values():
    left, right = Chain.cheapest(16, 144, 2), Chain([(1, 8, 8, 2), (8, 2, 18, 1)])
    assert left == right
    assert hash(left) == hash(right)
    assert left != Chain.cheapest(16, 144, 3)


@pytest.fixture(scope="module")
def lazylinop():
    """lazylinop's chain.py alone: importing its package needs more packages and changes torch's thread count."""
    package = importlib.util.find_spec("lazylinop")
    if package is None or package.origin is None:
        pytest.skip("lazylinop is not installed")
    spec = importlib.util.spec_from_file_location("chain", Path(package.origin).parent / "butterfly" / "chain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lazylinop_agrees_on_which_pairs_chain(lazylinop):
    for left, right in itertools.product(SMALL, SMALL):
        if left.columns == right.rows:
            assert _refused(left, right) != lazylinop.Chain([tuple(left), tuple(right)]).chainability
