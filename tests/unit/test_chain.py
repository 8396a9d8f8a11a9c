"""Chains of Kronecker-sparse factors: their algebra and the search, against numpy.kron, support matrices and brute force."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
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
    support = np.kron(np.kron(np.eye(p.a), np.ones((p.b, p.c))), np.eye(p.d))
    np.testing.assert_array_equal(p.support(), support)
    assert (p.rows, p.columns, p.nnz) == (*support.shape, support.sum())


def test_chainable_pairs_are_those_whose_product_is_r_times_one_support():
    """Both ways: a chainable pair's product is r times the support of the fused pattern; what is refused has none."""
    chained = 0
    for left, right in itertools.product(SMALL, SMALL):
        if left.columns != right.rows:
            with pytest.raises(UsageError, match="factors 1 and 2"):
                Chain([left, right])
            continue
        product = left.support().astype(int) @ right.support().astype(int)
        try:
            (rank,) = Chain([left, right]).ranks
        except UsageError:
            assert not any(np.array_equal(product, r * s) for r, s in _fused(left, right)), (left, right)
        else:
            fused = Pattern(left.a, left.b * left.d // right.d, right.a * right.c // left.a, right.d)
            np.testing.assert_array_equal(product, rank * fused.support())
            chained += 1
    assert chained > 200


def _fused(left, right):
    """Every (r, support) that a chainable pair of these sizes could have: a of the left factor, d of the right one."""
    b, c = left.rows / (left.a * right.d), right.columns / (left.a * right.d)
    if b == int(b) and c == int(c) and right.a % left.a == 0 and left.d % right.d == 0:
        rank = left.a * left.c * right.d / (right.a * right.d)
        yield rank, Pattern(left.a, int(b), int(c), right.d).support().astype(int)


@pytest.mark.parametrize("shape", [(4, 4), (4, 6), (6, 4), (8, 8), (6, 12), (12, 6), (4, 18), (9, 6), (5, 10), (7, 7)])
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
    for inner in itertools.combinations_with_replacement(range(min(rows, columns), max(rows, columns) + 1), factors - 1):
        sizes = (rows, *(inner if rising else inner[::-1]), columns)
        options = [list(_factors(*pair)) for pair in itertools.pairwise(sizes)]
        for chain in itertools.product(*options):
            if all(_chain(*pair) for pair in itertools.pairwise(chain)):
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


def _chain(left, right):
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
        ([(1, 2, 2, 2), (2, 2, 2, 1), (1, 2, 2, 2)], r"factors 2 and 3, \(2, 2, 2, 1\) and \(1, 2, 2, 2\), do not chain"),
    ],
)
def test_errors_name_the_factor(factors, said):
    with pytest.raises(UsageError, match=said):
        Chain(factors)


@pytest.mark.parametrize("shape", [(10, 27, 2), (16, 144, 9), (16, 144, 0), (0, 4, 2)])
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
    """lazylinop.butterfly, with torch's thread count, which importing it changes, restored."""
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import lazylinop.butterfly as module
        except ImportError as error:
            pytest.skip(f"lazylinop.butterfly cannot be imported: {error}")
        finally:
            torch.set_num_threads(threads)
    return module


@settings(max_examples=60, deadline=None)
@given(st.lists(patterns, min_size=1, max_size=3))
def test_lazylinop_agrees_on_which_factors_chain(lazylinop, factors):
    try:
        oracle = lazylinop.Chain([tuple(p) for p in factors]).chainable
    except Exception:
        oracle = False
    try:
        Chain(factors)
    except UsageError:
        assert not oracle
    else:
        assert oracle
