"""Butterfly linear layers under torch.compile: one operator, no graph breaks, and what eager layers give."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from lacewing.sparsify import Chain, KSLinear, use_backend
from lacewing.sparsify._batch_last import _operator

CHAINS = {
    "one factor": [(2, 3, 4, 2)],
    "Monarch": Chain.monarch(12, 24).patterns,
    "butterfly of radix 2": Chain.butterfly(16).patterns,
    "without full support": [(2, 3, 2, 4), (4, 2, 3, 2)],
}


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class _Graphs(list):
    """A backend of torch.compile that notes the graphs and leaves the rest to another."""

    def __init__(self, backend):
        self.backend = torch._dynamo.lookup_backend(backend)

    def __call__(self, graph, inputs):
        self.append(graph.code)
        return self.backend(graph, inputs)


def _model():
    model = nn.Sequential(KSLinear(24, 16), nn.ReLU(), KSLinear(16, 16, bias=False, chain=Chain.butterfly(16)))
    model[0].factors[1].requires_grad_(False)
    return model


def _outcome(model, x, upstream, dtype=None):
    """Output and gradients."""
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        y = model(x)
    return [y, *torch.autograd.grad(y, [x, *(p for p in model.parameters() if p.requires_grad)], upstream.to(y.dtype))]


def _agree(model, compiled, batches, dtype=None, tolerance=0.0):
    for batch in batches:
        x, upstream = torch.randn(*batch, 24, requires_grad=True), torch.randn(*batch, 16)
        wanted = _outcome(model, x, upstream, dtype)
        for ours, theirs in zip(_outcome(compiled, x, upstream, dtype), wanted, strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("dtype", [None, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_compiled_layers_are_one_operator_each_and_equal_eager_ones_in_every_bit(dtype):
    model, graphs = _model(), _Graphs("aot_eager")
    compiled = torch.compile(model, backend=graphs, fullgraph=True, dynamic=True)
    _agree(model, compiled, [(5,), (64,)], dtype)
    assert len(graphs) == 1  # dynamic: no batch size compiles anew
    assert graphs[0].count("lacewing.ks_multiply") == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # as inductor is imported
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 0), (torch.bfloat16, 0.1)])
def test_inductor_gives_what_eager_layers_give(dtype, tolerance):
    """In 16 bits up to rounding: inductor multiplies by the gain in fp32 and rounds once, which may turn a ReLU."""
    model = _model()
    compiled = torch.compile(model, fullgraph=True)
    _agree(model, compiled, [(5,), (3,), (2, 7)], dtype, tolerance)
    x = torch.randn(4, 24)
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize("name", CHAINS)
def test_gradients_of_the_operator_are_those_of_finite_differences(name):
    chain = Chain(CHAINS[name])
    factors = [torch.randn(p, dtype=torch.float64, requires_grad=True) for p in chain.patterns]
    x = torch.randn(3, chain.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.randn(chain.shape[0], dtype=torch.float64, requires_grad=True)

    def apply(x, bias, *factors):
        return _operator(x, bias, list(factors))[0]

    torch.testing.assert_close(apply(x, bias, *factors), x @ chain.dense(factors).t() + bias)
    assert torch.autograd.gradcheck(apply, (x, bias, *factors), fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CHAINS)
def test_the_operator_is_as_torch_wants_operators(name, dtype):
    """Among others: shapes, strides and types that it announces are those of its results, for any batch size."""
    chain = Chain(CHAINS[name])
    factors = [torch.randn(p, dtype=dtype, requires_grad=True) for p in chain.patterns]
    x = torch.randn(3, chain.shape[1], dtype=dtype, requires_grad=True)
    bias = torch.randn(chain.shape[0], dtype=dtype, requires_grad=True)
    columns = x.detach().t().contiguous().t().requires_grad_()
    for options in ((x, bias, factors), (x.detach(), None, factors), (columns, None, factors)):
        assert set(torch.library.opcheck(_operator, options).values()) == {"SUCCESS"}


@pytest.mark.slow
def test_the_operator_is_registered_again_where_the_package_is_imported_anew():
    code = """
import sys
import torch
import lacewing.sparsify as first
for name in [name for name in sys.modules if name.startswith("lacewing")]:
    del sys.modules[name]
from lacewing.sparsify import KSLinear
layer, x = KSLinear(12, 8), torch.randn(3, 12)
torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x), layer(x))
assert first.KSLinear(12, 8)(x).shape == (3, 8)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_transforms_inside_of_a_compiled_function_are_followed():
    layer, graphs = KSLinear(12, 8), _Graphs("eager")
    x = torch.randn(3, 12)
    each = torch.compile(lambda x: torch.vmap(lambda record: layer(record[None])[0])(x), backend=graphs, fullgraph=True)
    torch.testing.assert_close(each(x), layer(x))
    assert "ks_multiply" not in graphs[0]


def test_a_backend_that_is_asked_for_is_compiled():
    layer, graphs = KSLinear(12, 8), _Graphs("eager")
    x = torch.randn(3, 12)
    with use_backend("compose"):
        compiled = torch.compile(layer, backend=graphs, fullgraph=True)(x)
    torch.testing.assert_close(compiled, layer(x))
    assert "ks_multiply" not in graphs[0]


def test_without_gradients_a_layer_gives_the_same_bits():
    for inputs, outputs in ((24, 12), (64, 256)):
        layer = KSLinear(inputs, outputs)
        for records in (1, 2, 64):
            x = torch.randn(records, inputs)
            with torch.no_grad():
                y = layer(x)
            assert y.grad_fn is None
            assert torch.equal(y, layer(x).detach())
