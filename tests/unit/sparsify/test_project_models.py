"""Layers and models that start from their projected weights."""

import copy
import math
import re

import pytest
import torch
from chain_cases import (
    CHAINS,
    names,
    projected,
)
from torch import nn

from lacewing.errors import UsageError
from lacewing.models.resnet import ResNet
from lacewing.sparsify import Chain, KSConv2d, KSLinear, butterfly, densify
from lacewing.sparsify._attention import KSMultiheadAttention
from lacewing.sparsify.layers import KSLayer


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


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
            wanted = projected(kernel.reshape(outputs, -1), chain).reshape(kernel.shape)
        else:
            wanted = projected(torch.einsum("oihw->ohwi", kernel).reshape(outputs, -1), chain)
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
    _near(layer.weight, projected(linear.weight.detach(), chain))
    assert layer.bias is linear.bias
    before = linear.weight.detach().clone()
    with torch.no_grad():
        for factor in layer.factors:
            factor.zero_()
    assert torch.equal(linear.weight, before)


def test_attention_begins_at_its_projected_queries_keys_and_values():
    chain, attention = Chain.monarch(16, 16), nn.MultiheadAttention(16, 2, batch_first=True)
    layer = KSMultiheadAttention.like(attention, chain, projected=True)
    wanted = torch.cat([projected(part, chain) for part in attention.in_proj_weight.detach().chunk(3)])
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
