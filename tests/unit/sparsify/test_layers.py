"""Kronecker-sparse factors and the butterfly convolution, against numpy.kron, numpy products and torch's own layers."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import Chain, KSConv2d, apply_factor, compose, dense_factor

patterns = st.tuples(*[st.integers(1, 4)] * 4)
CHAINS = [
    (8, 4, [(1, 4, 6, 2), (6, 2, 6, 1)]),  # C_out, C_in, patterns
    (8, 4, [(1, 4, 4, 2), (4, 2, 9, 1)]),  # the last factor is a grouped 3x3 convolution
    (8, 8, [(1, 4, 4, 2), (4, 2, 18, 1)]),
    (16, 16, [(1, 4, 4, 4), (4, 2, 2, 2), (8, 2, 18, 1)]),
]
GROUPED = [CHAINS[1], CHAINS[2], CHAINS[3]]


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _kron(factor):
    """The matrix of a factor from its definition: for each (i, k) the b x c block K_ik placed by Kronecker products."""
    a, b, c, d = factor.shape
    matrix = np.zeros((a * b * d, a * c * d))
    for i in range(a):
        for k in range(d):
            at_i, at_k = np.zeros((a, a)), np.zeros((d, d))
            at_i[i, i] = at_k[k, k] = 1
            matrix += np.kron(np.kron(at_i, factor[i, :, :, k].numpy()), at_k)
    return matrix


def _product(factors):
    return functools.reduce(np.matmul, [_kron(f.detach().double()) for f in factors])


@settings(max_examples=40, deadline=None)
@given(patterns, st.integers(1, 3))
def test_a_factor_is_the_kronecker_construction_and_multiplies_as_such(pattern, n):
    factor = torch.randn(pattern, dtype=torch.float64)
    matrix = _kron(factor)
    np.testing.assert_array_equal(dense_factor(factor), matrix)
    x = torch.randn(matrix.shape[1], n, dtype=torch.float64)
    np.testing.assert_allclose(apply_factor(factor, x), matrix @ x.numpy(), atol=1e-12)
    np.testing.assert_allclose(apply_factor(factor, x.T.contiguous().T), matrix @ x.numpy(), atol=1e-12)


@pytest.mark.parametrize("patterns", [p for _, _, p in CHAINS] + [[(2, 3, 2, 2)], [(1, 2, 3, 4), (3, 2, 2, 2)]])
def test_compose_is_the_product_left_factor_first(patterns):
    factors = [torch.randn(p, dtype=torch.float64) for p in Chain(patterns).patterns]
    np.testing.assert_allclose(compose(factors), _product(factors), atol=1e-12)


def _layer(outputs, inputs, patterns, columns="channel-first", **options):
    return KSConv2d.like(nn.Conv2d(inputs, outputs, 3, **options), Chain(patterns), columns)


@pytest.mark.parametrize(("outputs", "inputs", "patterns"), CHAINS)
@pytest.mark.parametrize("columns", ["channel-first", "kernel-first"])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "bias": False}, {"padding": 2, "dilation": 2}])
def test_the_layer_is_torchs_convolution_with_the_product_of_its_factors(outputs, inputs, patterns, columns, options):
    layer = _layer(outputs, inputs, patterns, columns, **options)
    matrix = _product(layer.factors) / math.sqrt(3)
    if columns == "channel-first":
        kernel = matrix.reshape(outputs, inputs, 3, 3)
    else:  # columns in DeBut's order: kernel row, kernel column, channel
        kernel = matrix.reshape(outputs, 3, 3, inputs).transpose(0, 3, 1, 2)
    x = torch.randn(2, inputs, 7, 7)
    stride, padding, dilation = options.get("stride", 1), options.get("padding", 0), options.get("dilation", 1)
    wanted = F.conv2d(x, torch.from_numpy(kernel).float(), layer.bias, stride, padding, dilation)
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=0)
    assert layer(x).is_contiguous()  # a kernel in another layout would impose it on all that follows
    assert (layer.bias is None) == (options.get("bias") is False)


@pytest.mark.parametrize(("outputs", "inputs", "patterns"), GROUPED)
def test_a_last_factor_with_9_dividing_c_is_a_grouped_convolution(outputs, inputs, patterns):
    """(a, b, 9 m, 1) is a 3x3 convolution of a groups; the factors left of it together are a 1x1 convolution."""
    layer = _layer(outputs, inputs, patterns, padding=1, bias=False)
    x = torch.randn(2, inputs, 6, 6)
    a, b, c, _ = patterns[-1]
    hidden = F.conv2d(x, layer.factors[-1].detach().reshape(a * b, c // 9, 3, 3), padding=1, groups=a)
    left = torch.from_numpy(_product(list(layer.factors)[:-1])).float()
    torch.testing.assert_close(layer(x), F.conv2d(hidden, left[:, :, None, None]) / math.sqrt(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("columns", ["channel-first", "kernel-first"])
@pytest.mark.parametrize("factors", [2, 3])
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 16), (32, 16)])
def test_the_product_has_the_variance_of_torchs_initialisation(outputs, inputs, factors, columns):
    """1 / (3 fan_in): entries of few factors are dependent, so many draws are pooled."""
    chain = Chain.cheapest(outputs, 9 * inputs, factors)
    weights = torch.stack([_layer(outputs, inputs, chain.patterns, columns).weight.detach() for _ in range(60)])
    assert weights.mean().item() == pytest.approx(0, abs=0.02 * weights.std().item())
    assert weights.var().item() * 3 * 9 * inputs == pytest.approx(1, abs=0.05)


def test_gradients_reach_every_factor():
    layer = _layer(8, 4, CHAINS[1][2], padding=1).double()
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    parameters = (*layer.factors, layer.bias)
    assert all(p.requires_grad for p in parameters)

    def forward(x, *_):  # gradcheck perturbs the parameters in place
        return layer(x)

    assert torch.autograd.gradcheck(forward, (x, *parameters), fast_mode=True)


def test_copies_and_state_dicts_carry_the_factors():
    layer, other = (_layer(8, 8, CHAINS[2][2], "kernel-first") for _ in range(2))
    x = torch.randn(1, 8, 5, 5)
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(twin(x), layer(x), atol=0, rtol=0)
    with torch.no_grad():
        twin.factors[0].zero_()
    assert layer.weight.abs().sum() > 0
    assert set(layer.state_dict()) == {"factors.0", "factors.1", "bias"}
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), layer(x), atol=0, rtol=0)


def test_only_the_factors_are_learned_and_counted():
    layer = _layer(16, 16, CHAINS[3][2], bias=False)
    assert sum(p.numel() for p in layer.parameters()) == Chain(CHAINS[3][2]).nnz == 384
    assert "(1, 4, 4, 4)" in repr(layer)


def test_memory_format_and_autocast_change_no_weight():
    layer = _layer(16, 16, CHAINS[3][2], padding=1)
    x, weight = torch.randn(2, 16, 6, 6), layer.weight.detach().clone()
    plain = layer(x).detach()
    layer = layer.to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer.weight, weight, atol=0, rtol=0)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), plain, atol=1e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("conv", "said"),
    [
        (nn.Conv2d(4, 16, 3), r"a \(16, 144\) matrix and the convolution needs \(16, 36\)"),
        (nn.Conv2d(32, 16, 3, groups=2), r"a \(16, 144\) matrix and the convolution needs \(8, 144\)"),
        (nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"), "zero padding"),
    ],
)
def test_what_cannot_be_replaced_is_an_error(conv, said):
    with pytest.raises(UsageError, match=said):
        KSConv2d.like(conv, Chain.cheapest(16, 144, 2))
