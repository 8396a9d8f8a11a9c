"""The composed weight of a butterfly layer is read-only: what is written into it would be lost without a word."""

import copy
import functools
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import KSConv2d, KSLinear, butterfly, composed_state, densify


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


LAYERS = {
    "linear": lambda: KSLinear(16, 16),
    "convolution": lambda: KSConv2d(16, 16, 3, padding=1),
    "kernel-first": lambda: KSConv2d(16, 16, 3, padding=1, columns="kernel-first"),
}
WRITES = {
    "assign a parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.zeros(layer.weight_shape))),
    "assign a tensor": lambda layer: setattr(layer, "weight", torch.zeros(layer.weight_shape)),
    "assign data": lambda layer: setattr(layer.weight, "data", torch.zeros(layer.weight_shape)),
    "data in place": lambda layer: layer.weight.data.mul_(2),
    "a row of data": lambda layer: layer.weight.data.__setitem__(0, 0.0),
    "detached": lambda layer: layer.weight.detach().clamp_(0, 1),
    "in place": lambda layer: layer.weight.copy_(torch.zeros(layer.weight_shape)),
    "augmented": lambda layer: layer.weight.__imul__(2),
    "a view": lambda layer: layer.weight.flatten(1).t()[3].zero_(),
    "a part": lambda layer: layer.weight.chunk(2)[1].fill_(1),
    "xavier": lambda layer: nn.init.xavier_uniform_(layer.weight),
    "kaiming": lambda layer: nn.init.kaiming_normal_(layer.weight),
    "zeros": lambda layer: nn.init.zeros_(layer.weight),
    "normal": lambda layer: layer.weight.data.normal_(0, 0.02),
    "masked": lambda layer: layer.weight.data.masked_fill_(torch.ones(layer.weight_shape, dtype=torch.bool), 0),
    "out": lambda layer: torch.add(torch.zeros(layer.weight_shape), 1, out=layer.weight),
    "foreach": lambda layer: torch._foreach_mul_([layer.weight], 2.0),
    "relu in place": lambda layer: F.relu(layer.weight, inplace=True),
    "a parameter that shares its memory": lambda layer: nn.Parameter(layer.weight.detach()),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("write", WRITES)
def test_writing_is_refused_with_the_mend(kind, write):
    layer = LAYERS[kind]()
    before = layer.weight.detach().clone()
    for context in (torch.no_grad, torch.enable_grad):
        with context(), pytest.raises(UsageError, match=r"write to the weight of a butterfly layer.*layer\.set_matrix"):
            WRITES[write](layer)
    torch.testing.assert_close(layer.weight.detach().clone(), before, atol=0, rtol=0)
    assert "weight" not in layer.__dict__


@pytest.mark.parametrize("kind", LAYERS)
def test_reading_is_as_of_any_tensor(kind):
    layer = LAYERS[kind]()
    plain, weight = layer.plain(), layer.weight
    assert type(plain.weight) is nn.Parameter
    torch.testing.assert_close(plain.weight.detach(), weight, atol=0, rtol=0, check_stride=True)
    for result in (weight.clone(), weight + 1, weight.detach().abs(), weight.sum(), pickle.loads(pickle.dumps(plain))):
        assert not type(result).__name__.startswith("ReadOnly")
    buffer = io.BytesIO()
    torch.save({"weight": weight.detach()}, buffer)
    buffer.seek(0)
    assert type(torch.load(buffer)["weight"]) is torch.Tensor
    assert type(copy.deepcopy(weight.detach())) is torch.Tensor
    other = layer.plain()
    nn.init.zeros_(other.weight)
    other.weight.data.copy_(weight)
    assert torch.equal(other.weight, weight)
    other.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias})
    nn.init.zeros_(other.weight)  # a copy was loaded
    assert layer.weight.abs().sum() > 0
    nn.Parameter(layer.weight.detach().clone()).data.zero_()  # as the error advises


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_the_factors_through_the_weight(kind):
    layer, x = LAYERS[kind](), torch.randn(2, 16, 5, 5)
    apply = F.linear if kind == "linear" else functools.partial(F.conv2d, padding=1)
    x = x[..., 0, 0] if kind == "linear" else x
    wanted = torch.autograd.grad(layer(x).square().sum(), list(layer.factors))
    found = torch.autograd.grad(apply(x, layer.weight, layer.bias).square().sum(), list(layer.factors))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_states_for_deployment_hold_ordinary_tensors():
    model = nn.Sequential(nn.Linear(16, 16), KSLinear(16, 16), KSConv2d(16, 16, 3, columns="kernel-first"))
    assert all(type(tensor) is torch.Tensor for tensor in composed_state(model).values())
    densify(model)
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())


def test_attention_refuses_it_too_and_keeps_the_fast_path():
    model = nn.Sequential(
        nn.Linear(16, 16), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True), nn.Linear(16, 2)
    )
    butterfly(model, density=0.7)
    attention = model[1].self_attn
    for write in (
        lambda: setattr(attention, "in_proj_weight", nn.Parameter(torch.zeros(48, 16))),
        lambda: nn.init.xavier_uniform_(attention.in_proj_weight),
        lambda: attention._reset_parameters(),
    ):
        with pytest.raises(UsageError, match="write to the weight of a butterfly layer"):
            write()
    with torch.no_grad():  # torch's fast path takes plain tensors alone
        assert not torch.overrides.has_torch_function((attention.in_proj_weight,))
