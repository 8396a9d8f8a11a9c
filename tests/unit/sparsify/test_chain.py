"""Chains of Kronecker-sparse factors: algebra and search, against support matrices, brute force and lazylinop."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.errors import UsageError
from lacewing.sparsify import _search
from lacewing.sparsify.chain import Chain, Pattern

torch.set_num_threads(1)

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
    assert Chain.cheapest(*shape, factors).patterns == _fewest(found)


def _entries(chain):
    return sum(math.prod(p) for p in chain)


def _fewest(chains):
    """Of these lists of patterns the one of fewest entries; of equals, the lexicographically greatest."""
    return max(chains, key=lambda chain: (-_entries(chain), chain))


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (4, 6), (6, 4), (8, 8), (5, 7), (4, 9), (12, 6)])
@pytest.mark.parametrize("factors", [2, 3])
def test_without_the_monotone_rule_a_waist_may_win(shape, factors):
    """No inner size above twice the larger of rows and columns gives fewer entries."""
    sizes = range(2, 2 * max(shape) + 1) if factors == 2 else range(2, max(shape) + 1)
    inner = itertools.product(sizes, repeat=factors - 1)
    found = _fewest(_all_chains(*shape, factors, inner))
    assert Chain.cheapest(*shape, factors, monotone=False).patterns == found
    with pytest.raises(UsageError, match=r"makes a 1 x 8 matrix \(full support, b and c >= 2\)"):
        Chain.cheapest(1, 8, factors, monotone=False)


def test_the_waist_of_the_largest_layer_of_resnet20():
    narrow = Chain.cheapest(64, 576, 2, monotone=False)
    assert [tuple(p) for p in narrow.patterns] == [(1, 64, 2, 1), (1, 2, 576, 1)]
    assert (narrow.nnz, narrow.ranks) == (1280, (2,))


def _all_chains(rows, columns, factors, inner_sizes=None):
    """Every full-support chain with b, c >= 2, straight from the rules: full support is seen, not derived.

    Inner sizes monotone, or those that are given.
    """
    if inner_sizes is None:
        between = range(min(rows, columns), max(rows, columns) + 1)
        inner_sizes = _monotone(between, factors - 1, rows <= columns)
    for inner in inner_sizes:
        sizes = (rows, *inner, columns)
        options = [list(_factors(*pair)) for pair in itertools.pairwise(sizes)]
        for chain in itertools.product(*options):
            if all(_chainable(*pair) for pair in itertools.pairwise(chain)):
                support = Pattern(*chain[0]).support().astype(int)
                for p in chain[1:]:
                    support = support @ Pattern(*p).support()
                if support.all():
                    yield chain


def _monotone(sizes, count, rising):
    for inner in itertools.combinations_with_replacement(sizes, count):
        yield inner if rising else inner[::-1]


def _simple_chains(rows, columns, factors):
    """Of ``_all_chains`` those whose inner sizes are each ``rows`` or ``columns``."""
    sizes = sorted({rows, columns})
    return _all_chains(rows, columns, factors, _monotone(sizes, factors - 1, rows <= columns))


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


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 16])
def test_monarch_of_a_square_is_daos(size):
    assert Chain.monarch(size**2, size**2) == Chain([(1, size, size, size), (size, size, size, 1)])


@pytest.mark.parametrize("rows", range(2, 13))
def test_monarch_has_the_fewest_entries_of_rank_one(rows):
    for columns in range(2, 13):
        found = [chain for chain in _simple_chains(rows, columns, 2) if chain[0][2] == chain[1][0]]  # rank c / a' = 1
        if found:
            assert Chain.monarch(rows, columns).patterns == _fewest(found)
        else:
            with pytest.raises(
                UsageError, match=f"{rows} x {columns} matrix; use rows and columns with a common divisor"
            ):
                Chain.monarch(rows, columns)


@pytest.mark.parametrize("size", [2, 4, 32])
def test_the_butterfly_is_that_of_the_hadamard_transform(size):
    chain = Chain.butterfly(size)
    signs = [np.broadcast_to(np.array([[1, 1], [1, -1]])[:, :, None], p).copy() for p in chain.patterns]
    np.testing.assert_array_equal(chain.dense(signs), scipy.linalg.hadamard(size))


@pytest.mark.parametrize(("size", "radix"), [(27, 3), (16, 4), (25, 5), (7, 7)])
def test_a_butterfly_of_any_radix_has_full_support_and_rank_one(size, radix):
    chain = Chain.butterfly(size, radix)
    assert chain.fuse(0).fuse(0).patterns == ((1, size, size, 1),) if len(chain.patterns) == 3 else True
    assert (chain.dense([np.ones(p) for p in chain.patterns]) == 1).all()  # one path from each input to each output
    assert chain.nnz == size * radix * len(chain.patterns)


@pytest.mark.parametrize(("size", "radix"), [(12, 2), (8, 3), (1, 2), (0, 2), (8, 1), (8, 0), (8, -2)])
def test_a_butterfly_needs_a_power_of_its_radix(size, radix):
    with pytest.raises(UsageError, match=f"size = {size} must be a power of radix = {radix}.* use Chain.cheapest"):
        Chain.butterfly(size, radix)


MENUS = [(8, 8), (12, 12), (8, 12), (12, 8), (16, 8), (6, 18), (7, 14), (16, 16)]


@pytest.mark.parametrize("shape", MENUS)
@pytest.mark.parametrize("factors", [1, 2, 3, 4])
def test_the_menu_of_densities_equals_an_exhaustive_search(shape, factors):
    found = {}
    for chain in _simple_chains(*shape, factors):
        if _entries(chain) < math.prod(shape):
            found[_entries(chain)] = max(chain, found.get(_entries(chain), ()))
    menu = _search.menu(*shape, factors)
    assert menu == found
    assert list(menu) == sorted(menu)


@pytest.mark.parametrize("shape", [(12, 12), (12, 8), (6, 18), (16, 16), (64, 576), (768, 3072)])
@pytest.mark.parametrize("density", [0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.65, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("factors", [None, 2, 3])
def test_for_density_is_the_nearest_by_ratio(shape, density, factors):
    menus = {n: [e / math.prod(shape) for e in _search.menu(*shape, n)] for n in ([factors] if factors else (2, 3, 4))}

    def off(x):
        return max(x / density, density / x) - 1

    reachable = [x for menu in menus.values() for x in menu]
    if min(map(off, reachable)) > 0.2:
        below = max((x for x in reachable if x < density), default=None)
        above = min((x for x in reachable if x > density), default=None)
        beside = " and ".join(f"{x:.4f}" for x in (below, above) if x is not None)
        with pytest.raises(UsageError, match=f"has density {density:g}; the nearest reachable: {beside}"):
            Chain.for_density(*shape, density, factors)
        return
    chain = Chain.for_density(*shape, density, factors)
    assert chain.shape == shape
    length = len(chain.patterns)
    assert off(chain.density) == pytest.approx(min(map(off, menus[length])), abs=1e-12)
    close = [n for n, menu in menus.items() if menu and min(map(off, menu)) <= 0.1]
    if close:
        assert length == min(close)
    else:
        assert off(chain.density) == pytest.approx(min(map(off, reachable)), abs=1e-12)


def test_chains_of_higher_rank_reach_between_those_of_rank_one():
    ranks = [Chain.for_density(64, 64, density).ranks for density in (0.25, 0.32, 0.5, 0.8)]
    assert ranks == sorted(ranks)
    assert ranks[-1] > (1,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((7, 13, 0.5), "no chain makes a 7 x 13 matrix with fewer entries"),
        ((64, 576, 0.01), r"no chain of a 64 x 576 matrix has density 0\.01; the nearest reachable: 0\.0486\."),
        ((64, 576, 0.0), "density = 0.0 must lie between 0 and 1"),
        ((64, 576, 1.5), "density = 1.5"),
        ((64, 576, math.nan), "density = nan"),
        ((64, 576, 0.1, 0), "factors = 0 must be at least 1"),
        ((64, 576, 0.1, -1), "factors = -1"),
    ],
)
def test_for_density_says_what_is_reachable(arguments, said):
    with pytest.raises(UsageError, match=said):
        Chain.for_density(*arguments)


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


def test_lazylinop_agrees_on_butterflies_and_monarchs(lazylinop):
    for power in range(1, 7):
        theirs = lazylinop.Chain.square_dyadic((2**power, 2**power))
        assert [tuple(p) for p in theirs.ks_patterns] == [tuple(p) for p in Chain.butterfly(2**power).patterns]
    for rows, columns in [(16, 16), (16, 24), (64, 144)]:
        ours = Chain.monarch(rows, columns)
        theirs = lazylinop.Chain.monarch((rows, columns), p=ours.patterns[0].b, q=ours.patterns[0].c)
        assert [tuple(p) for p in theirs.ks_patterns] == [tuple(p) for p in ours.patterns]
