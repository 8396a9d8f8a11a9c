"""Projection onto chains, against products of factors, Eckart-Young bounds, alternating least squares and lazylinop."""

import collections
import importlib.util
import itertools
import math
import sys
import warnings
from functools import reduce

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from chain_cases import (
    CHAINS,
    FULL,
    TWO,
    assert_same,
    bits_reversed,
    chains,
    names,
    product_by_numpy,
    projected,
    random_factors,
    random_matrix,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import Chain, project, projection_error


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


# --- what is exact


@settings(max_examples=120, deadline=None)
@given(chains(), st.integers(0, 2**32 - 1))
def test_a_product_of_factors_is_recovered(chain, seed):
    torch.manual_seed(seed)
    factors = random_factors(chain)
    assert_same(projected(chain.dense(factors), chain), product_by_numpy(chain, factors)[0])


@names
@pytest.mark.parametrize("groups", [1, 3])
def test_products_of_several_groups_are_recovered_at_once(name, groups):
    chain = CHAINS[name]
    wanted = product_by_numpy(chain, random_factors(chain, groups), groups)
    found = project(torch.from_numpy(wanted), chain)
    assert [tuple(f.shape) for f in found] == [(groups * p.a, p.b, p.c, p.d) for p in chain.patterns]
    assert all(f.is_contiguous() for f in found)
    assert_same(product_by_numpy(chain, found, groups), wanted)
    assert projection_error(torch.from_numpy(wanted), found) < 1e-13


@names
def test_a_product_whose_factors_lack_rank_is_recovered(name):
    """Zero singular values among those that are kept."""
    chain = CHAINS[name]
    factors = random_factors(chain)
    factors[0][:, :, ::2] = 0
    factors[-1][:, ::2] = factors[-1][:, :1].clone()
    assert_same(projected(chain.dense(factors), chain), product_by_numpy(chain, factors)[0])


@pytest.mark.parametrize("size", [2, 8, 64])
def test_the_hadamard_transform_is_exact(size):
    transform = torch.tensor(scipy.linalg.hadamard(size), dtype=torch.float64)
    assert_same(projected(transform, Chain.butterfly(size)), transform)
    if size > 2:  # a butterfly has one order of rows, and sequency is another
        reordered = transform[transform.diff().abs().sum(1).argsort()]
        assert projection_error(reordered, project(reordered, Chain.butterfly(size))) > 0.1


@pytest.mark.parametrize("size", [4, 16, 32])
def test_the_fourier_transform_is_exact_in_real_numbers_behind_a_bit_reversal(size):
    """A complex entry is 2 x 2 real ones: a butterfly of rank 2, these blocks outermost in rows, innermost in columns.

    In the natural order of columns, and for the cosine transform, the butterfly is not exact.
    """
    transform, order = scipy.linalg.dft(size), bits_reversed(size)
    chain = Chain([(2**n, 4, 4, size // 2 ** (n + 1)) for n in range(size.bit_length() - 1)])
    assert set(chain.ranks) == {2}

    def real(f):
        return torch.from_numpy(np.block([[np.kron(f.real, [1, 0]) + np.kron(-f.imag, [0, 1])],
                                          [np.kron(f.imag, [1, 0]) + np.kron(f.real, [0, 1])]]))  # fmt: skip

    assert_same(projected(real(transform[:, order]), chain), real(transform[:, order]))
    if size > 4:
        assert projection_error(real(transform), project(real(transform), chain)) > 0.1
    cosines = torch.from_numpy(scipy.fft.dct(np.eye(size), axis=0, norm="ortho"))
    assert projection_error(cosines, project(cosines, Chain.butterfly(size))) > 0.1


def test_what_lies_outside_of_the_support_is_dropped():
    chain = Chain([(2, 3, 4, 2)])
    matrix = random_matrix(*chain.shape)
    assert_same(projected(matrix, chain), np.where(chain.patterns[0].support(), matrix, 0))


# --- what is best


def _blocks(chain, place):
    """(rows, columns, rank) of the blocks into which the product falls between factors ``place - 1`` and ``place``.

    From the supports alone: inner indices that reach the same rows and the same columns share a block.
    """
    supports = [p.support() for p in chain.patterns]
    left, right = (reduce(lambda x, y: x @ y, side) for side in (supports[:place], supports[place:]))
    reached = collections.Counter((left[:, t].tobytes(), right[t].tobytes()) for t in range(left.shape[1]))
    for (rows, columns), rank in reached.items():
        yield np.flatnonzero(np.frombuffer(rows, bool)), np.flatnonzero(np.frombuffer(columns, bool)), rank


def _losses(matrix, chain):
    """Squares: of entries outside of the support, and for each split of what no product of two such sides can reach."""
    outside, lost = None, []
    for place in range(1, len(chain.patterns)):
        cut = list(_blocks(chain, place))
        covered = sum(np.square(matrix[np.ix_(rows, columns)]).sum() for rows, columns, _ in cut)
        outside = np.square(matrix).sum() - covered
        singular = [
            (np.linalg.svd(matrix[np.ix_(rows, columns)], compute_uv=False), rank) for rows, columns, rank in cut
        ]
        lost.append(sum(np.square(s[rank:]).sum() for s, rank in singular))
    return outside, lost


@pytest.mark.parametrize("name", TWO)
def test_two_factors_lose_the_singular_values_that_are_cut_off(name):
    chain = CHAINS[name]
    matrix = random_matrix(*chain.shape)
    outside, (lost,) = _losses(matrix.numpy(), chain)
    error = projection_error(matrix, project(matrix, chain)) * matrix.norm()
    assert error.square().item() == pytest.approx(outside + lost, rel=1e-10, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(chains(), st.integers(0, 2**32 - 1))
def test_the_error_lies_between_the_worst_split_and_all_splits_together(chain, seed):
    """Eckart-Young at each split from below; squared errors of splits add up at most (Le et al. 2024)."""
    torch.manual_seed(seed)
    matrix = random_matrix(*chain.shape)
    outside, lost = _losses(matrix.numpy(), chain)
    error = float((matrix - projected(matrix, chain)).square().sum())
    slack = 1e-12 * float(matrix.square().sum())
    assert outside + max(lost) - slack <= error <= outside + sum(lost) + slack


def _alternating(matrix, chain, rng, sweeps=150):
    """The error that alternating least squares reaches from random factors."""
    supports = [p.support() for p in chain.patterns]
    factors = [rng.normal(size=s.shape) * s for s in supports]
    for _, place in itertools.product(range(sweeps), range(len(factors))):
        before = reduce(np.matmul, factors[:place], np.eye(len(matrix)))
        after = reduce(np.matmul, factors[place + 1 :], np.eye(factors[place].shape[1]))
        rows, columns = np.nonzero(supports[place])
        design = np.einsum("rn,nc->rcn", before[:, rows], after[columns]).reshape(matrix.size, -1)
        factors[place][rows, columns] = np.linalg.lstsq(design, matrix.ravel(), rcond=None)[0]
    return np.linalg.norm(matrix - reduce(np.matmul, factors))


@pytest.mark.parametrize(
    "patterns",
    [
        [(1, 2, 2, 2), (2, 2, 2, 1)],
        [(1, 3, 2, 2), (2, 2, 3, 1)],
        [(1, 4, 1, 1), (1, 1, 5, 1)],
        [(1, 3, 4, 2), (2, 4, 3, 1)],
        [(2, 2, 1, 2), (2, 2, 2, 1)],
    ],
)
def test_alternating_least_squares_never_beats_two_factors_and_comes_near(patterns):
    chain, rng = Chain(patterns), np.random.default_rng(0)
    matrix = rng.normal(size=chain.shape)
    error = np.linalg.norm(matrix - projected(torch.from_numpy(matrix), chain).numpy())
    reached = [_alternating(matrix, chain, rng) for _ in range(5)]
    assert error <= min(reached) * (1 + 1e-9)
    assert min(reached) == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_of_three_factors_the_error_is_within_root_two_of_the_best(seed):
    """The guarantee is sqrt(factors - 1)."""
    chain, rng = Chain.butterfly(8), np.random.default_rng(seed)
    matrix = rng.normal(size=chain.shape)
    error = np.linalg.norm(matrix - projected(torch.from_numpy(matrix), chain).numpy())
    assert error <= math.sqrt(2) * min(_alternating(matrix, chain, rng, sweeps=30) for _ in range(3))


@pytest.fixture(scope="module")
def ksd():
    """lazylinop's chain and projection; its import warns, and changes torch's threads and Python's recursion limit."""
    for package in ("lazylinop", "pandas", "psutil"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"lazylinop.butterfly needs {package}, which is not installed")
    threads, recursion = torch.get_num_threads(), sys.getrecursionlimit()
    with warnings.catch_warnings(record=True):  # not a filter: it sets its own
        from lazylinop import butterfly as theirs
    torch.set_num_threads(threads)
    sys.setrecursionlimit(recursion)

    def product(matrix, chain):
        with warnings.catch_warnings(record=True):
            return theirs.ksd(matrix, chain=theirs.Chain([tuple(p) for p in chain.patterns]), ortho=True).toarray()

    return product


@pytest.mark.parametrize("name", FULL)
def test_it_is_as_near_as_lazylinops(ksd, name):
    """Theirs goes from left to right; ours takes the nearer of both directions. Theirs wants full support."""
    chain = CHAINS[name]
    matrix = np.random.default_rng(0).normal(size=chain.shape)
    theirs = np.linalg.norm(matrix - ksd(matrix, chain))
    ours = np.linalg.norm(matrix - projected(torch.from_numpy(matrix), chain).numpy())
    assert ours <= theirs * (1 + 1e-9) + 1e-12
    if len(chain.patterns) == 2:
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


# --- what follows from being a projection


@names
def test_projecting_the_product_again_changes_nothing(name):
    chain = CHAINS[name]
    once = projected(random_matrix(*chain.shape), chain)
    assert_same(projected(once, chain), once)


@names
@pytest.mark.parametrize("scale", [-1.0, 3.0, 1e-40, 1e40])
def test_a_scaled_matrix_has_the_scaled_product(name, scale):
    chain = CHAINS[name]
    matrix = random_matrix(*chain.shape)
    assert_same(projected(scale * matrix, chain), scale * projected(matrix, chain))


@pytest.mark.parametrize("size", [8, 32])
def test_the_transpose_in_bit_reversed_order_has_the_product_so_reordered(size):
    """This turns a butterfly around: what is split off from the left is then split off from the right."""
    chain, order = Chain.butterfly(size), bits_reversed(size)
    matrix = random_matrix(size, size)
    around = matrix.T[order][:, order]
    assert_same(projected(around, chain), projected(matrix, chain).T[order][:, order])


@names
def test_signs_of_rows_and_columns_pass_through(name):
    chain = CHAINS[name]
    matrix, signs = random_matrix(*chain.shape), random_matrix(*chain.shape).sign()
    rows, columns = signs[:, :1], signs[:1]
    assert_same(projected(rows * matrix * columns, chain), rows * projected(matrix, chain) * columns)


@names
def test_what_is_lost_is_orthogonal_to_what_is_kept(name):
    chain = CHAINS[name]
    matrix = random_matrix(*chain.shape)
    product = projected(matrix, chain)
    assert ((matrix - product) * product).sum().item() == pytest.approx(0, abs=1e-10 * matrix.square().sum().item())


@names
def test_all_factors_are_of_one_size(name):
    """The mean square of entries times c, which at initialisation is 1."""
    chain = CHAINS[name]
    for groups in (1, 2):
        found = project(random_matrix(groups, *chain.shape), chain)
        sizes = [f.square().mean().item() * f.shape[2] for f in found]
        assert sizes == pytest.approx([sizes[0]] * len(sizes), rel=1e-9)


@pytest.mark.parametrize("name", TWO)
def test_groups_of_two_factors_are_projected_each_on_its_own(name):
    chain = CHAINS[name]
    matrices = random_matrix(3, *chain.shape) * torch.tensor([1.0, 0.0, 1e3], dtype=torch.float64).view(3, 1, 1)
    wanted = np.stack([projected(matrix, chain) for matrix in matrices])
    assert_same(product_by_numpy(chain, project(matrices, chain), 3), wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_answer_has_the_type_of_the_matrix_and_is_computed_in_double(dtype):
    chain = CHAINS["wide, three factors"]
    matrix = torch.randn(chain.shape).to(dtype)
    found = project(matrix, chain)
    assert {f.dtype for f in found} == {dtype}
    for ours, exact in zip(found, project(matrix.double(), chain), strict=True):
        assert torch.equal(ours, exact.to(dtype))


def test_it_is_repeatable_and_touches_neither_the_matrix_nor_its_gradient():
    chain = CHAINS["ranks 2 and 3"]
    matrix = torch.randn(chain.shape, requires_grad=True)
    before = matrix.detach().clone()
    found, state = project(matrix, chain), torch.get_rng_state()
    assert not any(f.requires_grad for f in found)
    assert all(torch.equal(f, again) for f, again in zip(found, project(matrix, chain), strict=True))
    assert torch.equal(matrix, before)
    assert torch.equal(torch.get_rng_state(), state)
    strided = torch.randn(chain.shape[0], 2 * chain.shape[1])[:, ::2].copy_(before)
    assert all(torch.equal(f, again) for f, again in zip(found, project(strided, chain), strict=True))


@names
def test_of_a_zero_matrix_the_product_is_zero(name):
    chain = CHAINS[name]
    found = project(torch.zeros(chain.shape), chain)
    assert not chain.dense(found).any()
    assert all(f.isfinite().all() for f in found)
    assert projection_error(torch.zeros(chain.shape), found) == 0


def test_the_error_is_that_of_numpy_over_all_groups():
    chain = CHAINS["rank 2"]
    matrices, factors = random_matrix(3, *chain.shape), random_factors(chain, 3)
    wanted = np.linalg.norm(matrices.numpy() - product_by_numpy(chain, factors, 3)) / np.linalg.norm(matrices)
    assert projection_error(matrices, factors) == pytest.approx(wanted, rel=1e-12)
    assert projection_error(matrices.float(), [f.float() for f in factors]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (torch.zeros(12, 16), r"a matrix of shape \(12, 16\) cannot be projected onto a \(16, 12\) chain\."),
        (torch.zeros(2, 12, 16), r"a matrix of shape \(2, 12, 16\) cannot be projected onto a \(16, 12\) chain\."),
        (torch.zeros(192), r"a matrix of shape \(192,\) cannot"),
        (torch.zeros(()), r"a matrix of shape \(\) cannot"),
        (torch.zeros(1, 1, 16, 12), r"a matrix of shape \(1, 1, 16, 12\) cannot"),
        (torch.zeros(16, 12, dtype=torch.int64), r"a matrix of torch\.int64 cannot be projected; make it real"),
        (torch.zeros(16, 12, dtype=torch.bool), r"a matrix of torch\.bool cannot be projected"),
        (torch.zeros(16, 12, dtype=torch.complex64), r"a matrix of torch\.complex64 cannot be projected"),
        (torch.zeros(16, 12).index_put((torch.tensor(3),), torch.tensor(math.nan)), "holds NaN or infinity"),
        (torch.zeros(2, 16, 12).index_put((torch.tensor(1),), torch.tensor(-math.inf)), "holds NaN or infinity"),
    ],
)
def test_what_cannot_be_projected_is_one_sentence(matrix, said):
    with pytest.raises(UsageError, match=said) as error:
        project(matrix, Chain.monarch(16, 12))
    assert str(error.value).count(". ") == 0
    assert str(error.value).endswith(".")


# --- what a first use would meet


def test_the_error_of_a_parameter_is_a_number_without_a_warning():
    linear, chain = nn.Linear(16, 16), Chain.monarch(16, 16)
    assert 0 < projection_error(linear.weight, project(linear.weight, chain)) < 1


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_the_error_of_another_matrix_is_never_zero(value):
    chain = Chain.monarch(4, 4)
    assert projection_error(torch.full((4, 4), value), [torch.ones(p) for p in chain.patterns]) != 0


def test_huge_numbers_stay_numbers():
    chain, huge = Chain.butterfly(4), 1e200 * torch.ones(4, 4, dtype=torch.float64)
    assert_same(projected(huge, chain) / 1e200, np.ones((4, 4)))


def test_factors_share_no_memory_with_the_matrix():
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    (factor,) = project(matrix, Chain([(1, 4, 4, 1)]))
    factor.fill_(1)
    assert not matrix.any()
