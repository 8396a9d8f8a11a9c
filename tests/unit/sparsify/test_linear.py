"""Butterfly linear layers: backends that agree with the composed matrix, initial variance, export, attention."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import Chain, KSConv2d, KSLinear, butterfly, densify, use_backend
from lacewing.sparsify._attention import KSMultiheadAttention
from lacewing.sparsify._backends import multiply
from lacewing.sparsify._batch_last import _swapped, _transposed

CHAINS = {
    "one factor": [(2, 3, 4, 2)],
    "Monarch": Chain.monarch(12, 24).patterns,
    "butterfly of radix 2": Chain.butterfly(16).patterns,
    "radix 3": Chain.butterfly(27, 3).patterns,
    "rank 2": [(1, 4, 8, 4), (4, 8, 6, 1)],
    "rectangular, three factors": Chain.cheapest(16, 72, 3).patterns,
    "without full support": [(2, 3, 2, 4), (4, 2, 3, 2)],
    "a waist": Chain.cheapest(16, 36, 2, monotone=False).patterns,
}


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(params=CHAINS)
def chain(request):
    return Chain(CHAINS[request.param])


@pytest.mark.parametrize("records", [1, 5])
@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
def test_backends_agree_forward_and_backward(chain, records, layout):
    rows, columns = chain.shape
    factors = [torch.randn(p, dtype=torch.float64, requires_grad=True) for p in chain.patterns]
    x = torch.randn(records, columns, dtype=torch.float64)
    if layout == "columns":
        x = x.t().contiguous().t()
    elif layout == "strided":
        x = torch.randn(records, 2 * columns, dtype=torch.float64)[:, ::2]
    x.requires_grad_()
    upstream = torch.randn(rows, records, dtype=torch.float64).t()
    found = {}
    for backend in ("compose", "bmm", "auto"):
        with use_backend(backend):
            y = multiply(x, factors)
        assert y.is_contiguous()
        found[backend] = [y, *torch.autograd.grad(y, [x, *factors], upstream)]
    wanted = x @ chain.dense(factors).t()
    torch.testing.assert_close(found["compose"][0], wanted)
    for backend in ("bmm", "auto"):
        for ours, reference in zip(found[backend], found["compose"], strict=True):
            torch.testing.assert_close(ours, reference)


def test_gradients_of_the_batched_products_are_those_of_finite_differences(chain):
    factors = [torch.randn(p, dtype=torch.float64, requires_grad=True) for p in chain.patterns]
    x = torch.randn(3, chain.shape[1], dtype=torch.float64, requires_grad=True)
    with use_backend("bmm"):
        assert torch.autograd.gradcheck(lambda x, *factors: multiply(x, factors), (x, *factors), fast_mode=True)


@pytest.mark.parametrize("records", [2, 20, 300])  # each takes another way
@pytest.mark.parametrize("patterns", [[(1, 64, 64, 2), (2, 64, 64, 1)], [(2, 64, 32, 4)]])
def test_large_factors_agree_with_the_composed_matrix_and_get_gradients_laid_as_they_are(patterns, records):
    chain = Chain(patterns)
    rows, columns = chain.shape
    factors = [torch.randn(p, requires_grad=True) for p in patterns]
    x, upstream = torch.randn(records, columns, requires_grad=True), torch.randn(records, rows)
    found = {}
    for backend in ("bmm", "compose"):
        with use_backend(backend):
            y = multiply(x, factors)
        found[backend] = [y, *torch.autograd.grad(y, [x, *factors], upstream)]
    assert all(gradient.is_contiguous() for gradient in found["bmm"][2:])  # or each step would copy them
    for ours, wanted in zip(*found.values(), strict=True):
        torch.testing.assert_close(ours, wanted, atol=2e-5 * wanted.abs().max().item(), rtol=0)


@pytest.mark.parametrize("patterns", [[(1, 64, 64, 2), (2, 64, 64, 1)], [(1, 64, 1, 64)]])
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 0, 1, 2)])  # the first: channels-last
def test_large_factors_may_lie_in_any_layout(patterns, order):
    back = [order.index(axis) for axis in range(4)]
    factors = [torch.randn(p) for p in patterns]
    laid = [factor.permute(order).contiguous().permute(back) for factor in factors]
    x = torch.randn(20, Chain(patterns).shape[1])
    assert torch.equal(multiply(x, laid), multiply(x, factors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_transposes_are_exact_in_any_layout(dtype):
    whole = torch.randn(90, 160).to(dtype)
    for x in (whole, whole.t(), whole[:, ::2], whole[:1].expand(90, 160), whole[:3, :5], whole[:0]):
        assert torch.equal(_transposed(x), x.t())
        assert _transposed(x).is_contiguous()
    batch = whole.view(2, 45, 160)
    assert torch.equal(_swapped(batch), batch.transpose(1, 2))


def test_gradients_are_computed_only_where_wanted():
    layer = KSLinear(16, 16)
    x = torch.randn(2, 16)
    layer.factors[0].requires_grad_(False)
    layer(x).sum().backward()
    assert layer.factors[0].grad is None
    assert x.grad is None
    wanted = torch.autograd.grad((x @ layer.weight.t()).sum(), layer.factors[1])
    torch.testing.assert_close(layer.factors[1].grad, *wanted)


INITIAL = {f"{length} factors": Chain.butterfly(2**length) for length in range(2, 8)}
INITIAL |= {"rank 2": Chain([(1, 4, 8, 4), (4, 8, 6, 1)]), "rectangular": Chain.cheapest(16, 72, 3)}


@pytest.mark.parametrize("name", INITIAL)
def test_the_initial_variance_is_torchs_at_any_length_and_rank(name):
    """Var(W) = 1/(3 fan_in), as of nn.Linear; over so many draws that four standard errors are under 8 %."""
    chain = INITIAL[name]
    rows, columns = chain.shape
    entries = torch.stack(
        [KSLinear(columns, rows, chain=chain).weight.detach().flatten() for _ in range(400 if columns > 8 else 4000)]
    )
    squares = entries.square().mean(1)  # by draw: entries of one draw share factors, draws are independent
    error = squares.std().item() / math.sqrt(len(squares))
    assert 4 * error < 0.08 * squares.mean().item()
    assert squares.mean().item() == pytest.approx(1 / (3 * columns), abs=4 * error)


@pytest.mark.parametrize("bias", [True, False])
def test_it_takes_the_place_of_a_linear_layer(bias):
    layer, plain = KSLinear(24, 12, bias=bias), nn.Linear(24, 12, bias=bias)
    assert (layer.bias is None) == (plain.bias is None)
    x = torch.randn(2, 5, 24)
    wanted = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.plain()(x), wanted)
    assert layer(x).view(-1).shape == (2 * 5 * 12,)  # contiguous, as torch's
    assert layer(x[0, 0]).shape == (12,)
    assert layer(torch.empty(0, 24)).shape == (0, 12)
    assert layer.weight_shape == layer.weight.shape == plain.weight.shape
    assert sum(p.numel() for p in layer.parameters()) == layer.chain.nnz + 12 * bias
    twin = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    torch.testing.assert_close(twin(x), layer(x), atol=0, rtol=0)


def test_autocast_multiplies_in_its_type_and_learns_in_full_precision():
    layer, x = KSLinear(64, 64), torch.randn(8, 64)
    full = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.05, rtol=0.05)
    half.float().sum().backward()
    assert all(f.grad.dtype == torch.float32 and f.grad.abs().sum() > 0 for f in layer.factors)


def test_tracers_and_transforms_follow_the_layer():
    model = nn.Sequential(KSLinear(16, 16), nn.ReLU(), KSLinear(16, 4))
    x = torch.randn(3, 16)
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), model(x))
    parameters = dict(model.named_parameters())

    def loss(parameters, record):
        return torch.func.functional_call(model, parameters, (record[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for place, record in enumerate(x):
        model.zero_grad()
        model(record[None]).square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(each[name][place], parameter.grad)


@pytest.mark.parametrize("options", [{"groups": 2}, {"groups": 4, "stride": 2}, {"padding": "same", "dilation": 2}])
def test_grouped_convolutions_have_a_chain_for_each_group(options):
    layer = KSConv2d(16, 32, 3, **options)
    groups = options.get("groups", 1)
    assert layer.chain.shape == (32 // groups, 16 // groups * 9)
    assert sum(f.numel() for f in layer.factors) == groups * layer.chain.nnz
    for g in range(groups):
        own = [f.view(groups, -1, *f.shape[1:])[g] for f in layer.factors]
        kernel = layer.chain.dense(own) / math.sqrt(3)
        torch.testing.assert_close(layer.weight.view(groups, 32 // groups, -1)[g], kernel)
    plain = nn.Conv2d(16, 32, 3, **options)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    x = torch.randn(2, 16, 9, 9)
    torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.plain()(x), plain(x), atol=1e-5, rtol=1e-5)


def test_attention_composes_its_projection_and_is_stored_as_factors():
    model = nn.Sequential(
        nn.Linear(16, 16), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True), nn.Linear(16, 2)
    )
    done = butterfly(model, density=0.7)
    attention = model[1].self_attn
    assert isinstance(attention, KSMultiheadAttention)
    assert done.chains["1.self_attn"].shape == (16, 16)
    keys = set(model.state_dict())
    assert "1.self_attn.in_proj.factors.0" in keys
    assert "1.self_attn.in_proj_weight" not in keys
    assert attention.in_proj_weight.shape == (48, 16)
    x = torch.randn(2, 5, 16)
    buffer = io.BytesIO(pickle.dumps(model))
    for twin in (copy.deepcopy(model), pickle.load(buffer)):
        torch.testing.assert_close(twin(x), model(x), atol=0, rtol=0)
    model(x).sum().backward()
    assert all(f.grad.abs().sum() > 0 for f in attention.in_proj.factors)
    trained, wanted = model.eval()(x), model.train()(x)
    torch.testing.assert_close(trained, wanted, atol=1e-5, rtol=1e-5)  # torch's fast path in evaluation
    densify(model)
    assert type(model[1].self_attn) is nn.MultiheadAttention
    torch.testing.assert_close(model(x), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: KSLinear(16, 12, chain=Chain.monarch(16, 12)),
            r"makes a \(16, 12\) matrix, the layer needs \(12, 16\)",
        ),
        (lambda: KSLinear(7, 5), "no Monarch chain makes a 5 x 7 matrix"),
        (lambda: KSConv2d(6, 8, 3, groups=4), "groups = 4 must divide 6 input and 8 output channels"),
        (lambda: KSConv2d(4, 8, 3, chain=Chain.monarch(8, 72)), r"makes a \(8, 72\) matrix and the convolution needs"),
        (lambda: use_backend("cuda").__enter__(), "backend 'cuda' must be one of auto, compose, bmm, triton"),
    ],
)
def test_what_does_not_fit_is_an_error(make, said):
    with pytest.raises(UsageError, match=said):
        make()
