"""Large kernels of butterfly convolutions, composed without zeros, beside the product of dense factors."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad

from lacewing.sparsify import Chain, KSConv2d, _rank_one, compose

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
LAYERS = {  # of 16 -> 8 channels: kernel, groups, patterns
    "two factors": (3, 1, [(1, 4, 8, 2), (8, 2, 18, 1)]),
    "blocks that split a channel": (3, 1, [(1, 4, 24, 2), (24, 2, 6, 1)]),
    "three factors": (3, 1, [(1, 2, 2, 4), (2, 2, 4, 2), (8, 2, 18, 1)]),
    "groups": (3, 2, [(1, 2, 4, 2), (4, 2, 18, 1)]),
    "one pixel": (1, 1, [(1, 4, 4, 2), (4, 2, 4, 1)]),
    "two by three": ((2, 3), 1, [(1, 4, 8, 2), (8, 2, 12, 1)]),
}


@pytest.fixture(autouse=True)
def _every_kernel_is_large(monkeypatch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.setattr(_rank_one, "LARGE", 1)
    monkeypatch.setattr(_rank_one, "_PART", 100)  # several parts


def _layer(name="two factors", columns="channel-first", dtype=torch.float64):
    kernel, groups, patterns = LAYERS[name]
    options = {"padding": 1, "groups": groups, "chain": Chain(patterns), "columns": columns, "dtype": dtype}
    return KSConv2d(16, 8, kernel, **options)


def _oracle(layer, factors):
    """The kernel from dense factors, by torch's own gradient."""
    matrix = layer.gain * compose(factors, layer.groups)
    outputs, inputs, height, width = layer.weight_shape
    if layer.columns == "channel-first":
        return matrix.view(layer.weight_shape)
    return matrix.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("columns", ["channel-first", "kernel-first"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_kernel_output_and_gradients_are_those_of_dense_factors(name, columns, channels_last):
    layer = _layer(name, columns)
    x = torch.randn(3, 16, 5, 5, dtype=torch.float64)
    if channels_last:
        x, layer = x.to(memory_format=torch.channels_last), layer.to(memory_format=torch.channels_last)
    assert _rank_one.suits(layer.chain, layer.factors[0], layer.groups)
    twins = [factor.detach().clone().contiguous().requires_grad_() for factor in layer.factors]
    torch.testing.assert_close(layer.composed(), _oracle(layer, twins))
    assert layer.composed().is_contiguous()
    found = layer(x)
    wanted = F.conv2d(x.contiguous(), _oracle(layer, twins), layer.bias, padding=1, groups=layer.groups)
    torch.testing.assert_close(found, wanted)
    assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    upstream = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, list(layer.factors), upstream),
        torch.autograd.grad(wanted, twins, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_kernel_in_channels_last_is_composed_in_that_layout():
    """A copy of it costs more than to compose it."""
    layer = _layer()
    kernel = layer.composed(channels_last=True)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    assert torch.equal(kernel, layer.composed())


@pytest.mark.parametrize("name", ["two factors", "groups"])
def test_it_is_differentiated_twice_and_forwards(name):
    layer = _layer(name)

    def kernel(*factors):
        return _rank_one.compose(factors, layer.groups, layer.gain, 9)

    factors = [factor.detach().requires_grad_() for factor in layer.factors]
    assert torch.autograd.gradcheck(kernel, factors, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(kernel, factors, fast_mode=True)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(factor, torch.randn_like(factor)) for factor in factors]
        assert forward_ad.unpack_dual(kernel(*duals)).tangent is not None


def test_gradients_of_a_batch_are_those_of_each():
    layer = _layer()
    y, factors = layer(torch.randn(2, 16, 5, 5, dtype=torch.float64)), list(layer.factors)
    upstream = torch.randn(3, *y.shape, dtype=torch.float64)

    def gradients(upstream, batched=False):
        return torch.autograd.grad(y, factors, upstream, retain_graph=True, is_grads_batched=batched)

    wanted = [torch.stack(each) for each in zip(*map(gradients, upstream), strict=True)]
    for found in (gradients(upstream, True), torch.func.vmap(gradients)(upstream)):
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_it_goes_through_torch_func():
    layer, x = _layer(), torch.randn(2, 16, 5, 5, dtype=torch.float64)
    values = dict(layer.named_parameters())

    def loss(values, x):
        return torch.func.functional_call(layer, values, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(values, x)
    layer(x).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(each[name].sum(0), parameter.grad)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))  # which cannot ask for a memory format
    torch.testing.assert_close(layer(x[0]), layer(x)[0])


def test_nothing_of_a_kernel_is_kept_between_calls():
    layer, x = _layer(), torch.randn(1, 16, 5, 5, dtype=torch.float64)
    before, bias = layer(x), layer.bias.detach()[None, :, None, None]
    layer.factors[0].data.mul_(2)
    torch.testing.assert_close(layer(x) - bias, 2 * (before - bias))
    twin = copy.deepcopy(layer)
    (layer(x).sum() + layer(x).sum()).backward()  # twice in one step
    twin(x).sum().backward()
    torch.testing.assert_close(layer.factors[0].grad, 2 * twin.factors[0].grad)
    layer.load_state_dict(_layer().state_dict())
    assert not torch.equal(layer(x), twin(x))


def test_frozen_factors_get_no_gradient():
    layer = _layer()
    layer.factors[0].requires_grad_(False)
    layer(torch.randn(1, 16, 5, 5, dtype=torch.float64)).sum().backward()
    assert layer.factors[0].grad is None
    assert layer.factors[1].grad is not None


@pytest.mark.parametrize(
    ("chain", "dtype", "size"),
    [
        (Chain([(1, 4, 16, 2), (8, 4, 18, 1)]), torch.float64, 1),  # rank 2
        (Chain([(1, 4, 8, 2), (8, 2, 18, 1)]), torch.bfloat16, 1),
        (Chain([(1, 4, 8, 2), (8, 2, 18, 1)]), torch.float32, 8 * 144 + 1),  # smaller: the bits of published studies
        (Chain([(1, 8, 144, 1)]), torch.float32, 1),
    ],
)
def test_what_is_not_suited_is_composed_as_ever(monkeypatch, chain, dtype, size):
    monkeypatch.setattr(_rank_one, "LARGE", size)
    layer = KSConv2d(16, 8, 3, chain=chain, dtype=dtype)
    assert torch.equal(layer.composed(), layer.gain * compose(list(layer.factors)).view(8, 16, 3, 3))
    assert layer(torch.randn(1, 16, 5, 5, dtype=dtype)).isfinite().all()


def test_small_kernels_of_one_pixel_lay_out_what_follows_as_ever(monkeypatch):
    """Batch norm has other bits in the other layout, and the keys of such networks did not change."""
    monkeypatch.setattr(_rank_one, "LARGE", 1000)
    y = _layer("one pixel", "kernel-first")(torch.randn(2, 16, 5, 5, dtype=torch.float64))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_it_is_compiled_and_exported():
    layer, x = _layer(dtype=torch.float32), torch.randn(2, 16, 5, 5)
    wanted = layer(x)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), wanted)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), wanted)


def test_the_plain_layer_computes_the_same():
    layer, x = _layer(), torch.randn(2, 16, 5, 5, dtype=torch.float64)
    assert isinstance(layer.plain(), nn.Conv2d)
    assert math.prod(layer.plain().weight.shape) == 8 * 16 * 9
    torch.testing.assert_close(layer.plain()(x), layer(x))
