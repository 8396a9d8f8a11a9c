"""Projection onto chains, against products of factors, Eckart-Young bounds, alternating least squares and lazylinop."""

import collections
import copy
import importlib.util
import itertools
import math
import re
import warnings
from functools import reduce

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.models.resnet import ResNet
from lacewing.sparsify import Chain, KSConv2d, KSLinear, butterfly, densify, project, projection_error
from lacewing.sparsify._attention import KSMultiheadAttention
from lacewing.sparsify.layers import KSLayer

CHAINS = {
    "one factor": Chain([(2, 3, 4, 2)]),
    "Monarch": Chain.monarch(12, 24),
    "butterfly of radix 2": Chain.butterfly(16),
    "radix 3": Chain.butterfly(27, 3),
    "rank 2": Chain([(1, 4, 8, 4), (4, 8, 6, 1)]),
    "ranks 2 and 3": Chain([(1, 4, 4, 4), (2, 4, 6, 2), (4, 6, 5, 1)]),
    "wide, three factors": Chain.cheapest(16, 72, 3),
    "tall, three factors": Chain.cheapest(72, 16, 3),
    "a waist": Chain.cheapest(16, 36, 2, monotone=False),
    "a rank above what blocks can have": Chain([(1, 2, 4, 2), (1, 8, 3, 1)]),
    "without full support": Chain([(2, 3, 2, 4), (4, 2, 3, 2)]),
}
TWO = [name for name, chain in CHAINS.items() if len(chain.patterns) == 2]
FULL = [name for name in CHAINS if name not in ("one factor", "without full support")]
names = pytest.mark.parametrize("name", CHAINS)


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@st.composite
def chains(draw):
    """Two to four factors, any ranks, with or without full support."""

    def divisor(n):
        return draw(st.sampled_from([m for m in range(1, n + 1) if n % m == 0]))

    numbers, d = st.integers(1, 4), draw(st.sampled_from([1, 2, 4, 6]))
    chain = [(draw(st.integers(1, 2)), draw(numbers), draw(numbers), d)]
    for _ in range(draw(st.integers(1, 3))):
        a, _, c, d = chain[-1]
        rank, after = divisor(c), divisor(d)
        chain.append((a * c // rank, rank * d // after, draw(numbers), after))
    return Chain(chain)


def _random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def _factors(chain, groups=1):
    return [_random(groups * p.a, p.b, p.c, p.d) for p in chain.patterns]


def _product(chain, factors, groups=1):
    """The products of all groups, one at a time, by numpy: shape (groups, rows, columns)."""
    each = [[f.numpy().reshape(groups, -1, *f.shape[1:])[g] for f in factors] for g in range(groups)]
    return np.stack([chain.dense(own) for own in each])


def _projected(matrix, chain):
    return chain.dense(project(matrix, chain))


def _same(found, wanted, tolerance=1e-12):
    found, wanted = np.asarray(found), np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1e-300, float(np.abs(wanted).max())))


def _bits_reversed(size):
    bits = size.bit_length() - 1
    return [int(f"{n:0{bits}b}"[::-1], 2) for n in range(size)]


# --- what is exact


@settings(max_examples=120, deadline=None)
@given(chains(), st.integers(0, 2**32 - 1))
def test_a_product_of_factors_is_recovered(chain, seed):
    torch.manual_seed(seed)
    factors = _factors(chain)
    _same(_projected(chain.dense(factors), chain), _product(chain, factors)[0])


@names
@pytest.mark.parametrize("groups", [1, 3])
def test_products_of_several_groups_are_recovered_at_once(name, groups):
    chain = CHAINS[name]
    wanted = _product(chain, _factors(chain, groups), groups)
    found = project(torch.from_numpy(wanted), chain)
    assert [tuple(f.shape) for f in found] == [(groups * p.a, p.b, p.c, p.d) for p in chain.patterns]
    assert all(f.is_contiguous() for f in found)
    _same(_product(chain, found, groups), wanted)
    assert projection_error(torch.from_numpy(wanted), found) < 1e-13


@names
def test_a_product_whose_factors_lack_rank_is_recovered(name):
    """Zero singular values among those that are kept."""
    chain = CHAINS[name]
    factors = _factors(chain)
    factors[0][:, :, ::2] = 0
    factors[-1][:, ::2] = factors[-1][:, :1].clone()
    _same(_projected(chain.dense(factors), chain), _product(chain, factors)[0])


@pytest.mark.parametrize("size", [2, 8, 64])
def test_the_hadamard_transform_is_exact(size):
    transform = torch.tensor(scipy.linalg.hadamard(size), dtype=torch.float64)
    _same(_projected(transform, Chain.butterfly(size)), transform)
    if size > 2:  # a butterfly has one order of rows, and sequency is another
        reordered = transform[transform.diff().abs().sum(1).argsort()]
        assert projection_error(reordered, project(reordered, Chain.butterfly(size))) > 0.1


@pytest.mark.parametrize("size", [4, 16, 32])
def test_the_fourier_transform_is_exact_in_real_numbers_behind_a_bit_reversal(size):
    """A complex entry is 2 x 2 real ones: a butterfly of rank 2, these blocks outermost in rows, innermost in columns.

    In the natural order of columns, and for the cosine transform, the butterfly is not exact.
    """
    transform, order = scipy.linalg.dft(size), _bits_reversed(size)
    chain = Chain([(2**n, 4, 4, size // 2 ** (n + 1)) for n in range(size.bit_length() - 1)])
    assert set(chain.ranks) == {2}

    def real(f):
        return torch.from_numpy(np.block([[np.kron(f.real, [1, 0]) + np.kron(-f.imag, [0, 1])],
                                          [np.kron(f.imag, [1, 0]) + np.kron(f.real, [0, 1])]]))  # fmt: skip

    _same(_projected(real(transform[:, order]), chain), real(transform[:, order]))
    if size > 4:
        assert projection_error(real(transform), project(real(transform), chain)) > 0.1
    cosines = torch.from_numpy(scipy.fft.dct(np.eye(size), axis=0, norm="ortho"))
    assert projection_error(cosines, project(cosines, Chain.butterfly(size))) > 0.1


def test_what_lies_outside_of_the_support_is_dropped():
    chain = Chain([(2, 3, 4, 2)])
    matrix = _random(*chain.shape)
    _same(_projected(matrix, chain), np.where(chain.patterns[0].support(), matrix, 0))


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
    matrix = _random(*chain.shape)
    outside, (lost,) = _losses(matrix.numpy(), chain)
    error = projection_error(matrix, project(matrix, chain)) * matrix.norm()
    assert error.square().item() == pytest.approx(outside + lost, rel=1e-10, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(chains(), st.integers(0, 2**32 - 1))
def test_the_error_lies_between_the_worst_split_and_all_splits_together(chain, seed):
    """Eckart-Young at each split from below; squared errors of splits add up at most (Le et al. 2024)."""
    torch.manual_seed(seed)
    matrix = _random(*chain.shape)
    outside, lost = _losses(matrix.numpy(), chain)
    error = float((matrix - _projected(matrix, chain)).square().sum())
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
    error = np.linalg.norm(matrix - _projected(torch.from_numpy(matrix), chain).numpy())
    reached = [_alternating(matrix, chain, rng) for _ in range(5)]
    assert error <= min(reached) * (1 + 1e-9)
    assert min(reached) == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_of_three_factors_the_error_is_within_root_two_of_the_best(seed):
    """The guarantee is sqrt(factors - 1)."""
    chain, rng = Chain.butterfly(8), np.random.default_rng(seed)
    matrix = rng.normal(size=chain.shape)
    error = np.linalg.norm(matrix - _projected(torch.from_numpy(matrix), chain).numpy())
    assert error <= math.sqrt(2) * min(_alternating(matrix, chain, rng, sweeps=30) for _ in range(3))


@pytest.fixture(scope="module")
def ksd():
    """lazylinop's chain and projection; importing it warns of packages it misses and changes torch's thread count."""
    for package in ("lazylinop", "pandas", "psutil"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"lazylinop.butterfly needs {package}, which is not installed")
    threads = torch.get_num_threads()
    with warnings.catch_warnings(record=True):  # not a filter: it sets its own
        from lazylinop import butterfly as theirs
    torch.set_num_threads(threads)

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
    ours = np.linalg.norm(matrix - _projected(torch.from_numpy(matrix), chain).numpy())
    assert ours <= theirs * (1 + 1e-9) + 1e-12
    if len(chain.patterns) == 2:
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


# --- what follows from being a projection


@names
def test_projecting_the_product_again_changes_nothing(name):
    chain = CHAINS[name]
    once = _projected(_random(*chain.shape), chain)
    _same(_projected(once, chain), once)


@names
@pytest.mark.parametrize("scale", [-1.0, 3.0, 1e-40, 1e40])
def test_a_scaled_matrix_has_the_scaled_product(name, scale):
    chain = CHAINS[name]
    matrix = _random(*chain.shape)
    _same(_projected(scale * matrix, chain), scale * _projected(matrix, chain))


@pytest.mark.parametrize("size", [8, 32])
def test_the_transpose_in_bit_reversed_order_has_the_product_so_reordered(size):
    """This turns a butterfly around: what is split off from the left is then split off from the right."""
    chain, order = Chain.butterfly(size), _bits_reversed(size)
    matrix = _random(size, size)
    around = matrix.T[order][:, order]
    _same(_projected(around, chain), _projected(matrix, chain).T[order][:, order])


@names
def test_signs_of_rows_and_columns_pass_through(name):
    chain = CHAINS[name]
    matrix, signs = _random(*chain.shape), _random(*chain.shape).sign()
    rows, columns = signs[:, :1], signs[:1]
    _same(_projected(rows * matrix * columns, chain), rows * _projected(matrix, chain) * columns)


@names
def test_what_is_lost_is_orthogonal_to_what_is_kept(name):
    chain = CHAINS[name]
    matrix = _random(*chain.shape)
    product = _projected(matrix, chain)
    assert ((matrix - product) * product).sum().item() == pytest.approx(0, abs=1e-10 * matrix.square().sum().item())


@names
def test_all_factors_are_of_one_size(name):
    """The mean square of entries times c, which at initialisation is 1."""
    chain = CHAINS[name]
    for groups in (1, 2):
        found = project(_random(groups, *chain.shape), chain)
        sizes = [f.square().mean().item() * f.shape[2] for f in found]
        assert sizes == pytest.approx([sizes[0]] * len(sizes), rel=1e-9)


@pytest.mark.parametrize("name", TWO)
def test_groups_of_two_factors_are_projected_each_on_its_own(name):
    chain = CHAINS[name]
    matrices = _random(3, *chain.shape) * torch.tensor([1.0, 0.0, 1e3], dtype=torch.float64).view(3, 1, 1)
    wanted = np.stack([_projected(matrix, chain) for matrix in matrices])
    _same(_product(chain, project(matrices, chain), 3), wanted)


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
    matrices, factors = _random(3, *chain.shape), _factors(chain, 3)
    wanted = np.linalg.norm(matrices.numpy() - _product(chain, factors, 3)) / np.linalg.norm(matrices)
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


# --- layers and models


def _near(found, wanted):
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("columns", ["channel-first", "kernel-first"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_begins_at_its_projected_kernel(columns, groups):
    conv = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=groups)
    outputs, inputs = 32 // groups, 16 // groups
    chain = Chain.cheapest(outputs, 9 * inputs, 2)
    layer = KSConv2d.like(conv, chain, columns, projected=True)
    for g in range(groups):
        kernel = conv.weight.detach()[g * outputs : (g + 1) * outputs]
        if columns == "channel-first":
            wanted = _projected(kernel.reshape(outputs, -1), chain).reshape(kernel.shape)
        else:
            wanted = _projected(torch.einsum("oihw->ohwi", kernel).reshape(outputs, -1), chain)
            wanted = torch.einsum("ohwi->oihw", wanted.reshape(outputs, 3, 3, inputs))
        _near(layer.weight[g * outputs : (g + 1) * outputs], wanted)
    assert layer.bias is conv.bias
    assert all(factor.requires_grad for factor in layer.factors)


@pytest.mark.parametrize("columns", ["channel-first", "kernel-first"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("factors", [2, 3])
def test_a_convolution_whose_kernels_are_products_stays_what_it_was(columns, groups, factors):
    chain = Chain.cheapest(32 // groups, 9 * 16 // groups, factors)
    known = KSConv2d(16, 32, 3, groups=groups, chain=chain, columns=columns)
    conv, x = known.plain().to(memory_format=torch.channels_last), torch.randn(2, 16, 7, 7)
    _near(KSConv2d.like(conv, chain, columns, projected=True)(x), conv(x))


@names
def test_a_linear_layer_begins_at_its_projected_weight(name):
    chain = CHAINS[name]
    rows, columns = chain.shape
    linear = nn.Linear(columns, rows)
    layer = KSLinear.like(linear, chain, projected=True)
    _near(layer.weight, _projected(linear.weight.detach(), chain))
    assert layer.bias is linear.bias
    before = linear.weight.detach().clone()
    with torch.no_grad():
        for factor in layer.factors:
            factor.zero_()
    assert torch.equal(linear.weight, before)


def test_attention_begins_at_its_projected_queries_keys_and_values():
    chain, attention = Chain.monarch(16, 16), nn.MultiheadAttention(16, 2, batch_first=True)
    layer = KSMultiheadAttention.like(attention, chain, projected=True)
    wanted = torch.cat([_projected(part, chain) for part in attention.in_proj_weight.detach().chunk(3)])
    _near(layer.in_proj_weight, wanted)
    plain, x = layer.plain(), torch.randn(2, 5, 16)
    _near(KSMultiheadAttention.like(plain, chain, projected=True)(x, x, x)[0], plain(x, x, x)[0])


@pytest.mark.parametrize("factors", [2, 3])
def test_a_fresh_layer_and_a_projected_one_have_factors_of_one_scale(factors):
    """Of a weight as large as torch draws it: learning rates of the one suit the other."""
    chain = Chain.cheapest(64, 576, factors)
    linear = KSLinear(576, 64, chain=chain).plain()
    layer = KSLinear.like(linear, chain, projected=True)
    for factor in layer.factors:
        assert factor.square().mean().item() * factor.shape[2] == pytest.approx(1, rel=0.3)


class Mixed(nn.Module):
    """A stem, a grouped convolution, a linear layer, attention with a feed-forward part, a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3, groups=2)
        self.linear = nn.Linear(32, 64)
        self.block = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = self.grouped(self.stem(x).relu()).relu().flatten(2).transpose(1, 2)
        return self.head(self.block(self.linear(x)).mean(1))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (Mixed, {"density": 0.6}),
        (Mixed, {"density": 0.6, "factors": 3, "columns": "kernel-first"}),
        (lambda: ResNet(depth=8, width=8), {"segments": 2, "factors": 3}),
        (lambda: ResNet(depth=8, width=8), {"segments": 3, "columns": "kernel-first"}),
    ],
)
def test_a_model_whose_layers_are_products_computes_the_same(model, options):
    plain = model().eval()
    butterfly(plain, **options)
    x = torch.randn(3, 3, 8, 8)
    wanted = plain(x)
    densify(plain)
    done = butterfly(plain, **options, projected=True)
    assert {name.removesuffix(".in_proj") for name, m in plain.named_modules() if isinstance(m, KSLayer)} == set(
        done.chains
    )
    columns = {module.columns for module in plain.modules() if isinstance(module, KSConv2d)}
    assert columns == {options.get("columns", "channel-first")}
    assert not any(module.training for module in plain.modules())
    _near(plain(x), wanted)


@pytest.mark.parametrize("path", ["linear", "grouped", "block.self_attn"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_names_its_layer_and_nothing_is_replaced(path, value):
    model = Mixed()
    broken = model.get_submodule(path)
    with torch.no_grad():
        (broken.in_proj_weight if path == "block.self_attn" else broken.weight)[-1, -1] = value
    modules, state = dict(model.named_modules()), copy.deepcopy(model.state_dict())
    with pytest.raises(
        UsageError, match=rf"^butterfly layer '{re.escape(path)}': the matrix to project holds NaN or infinity"
    ):
        butterfly(model, density=0.6, projected=True)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(v.nan_to_num(), state[k].nan_to_num()) for k, v in model.state_dict().items())
    butterfly(model, density=0.6)  # fresh factors need no weight


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
    _same(_projected(huge, chain) / 1e200, np.ones((4, 4)))


def test_factors_share_no_memory_with_the_matrix():
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    (factor,) = project(matrix, Chain([(1, 4, 4, 1)]))
    factor.fill_(1)
    assert not matrix.any()
