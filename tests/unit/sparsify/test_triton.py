"""The Triton kernels against dense matrices: on a GPU where there is one, else in Triton's interpreter."""

import importlib.util
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lacewing.errors import UsageError

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION:UserWarning"),  # of compiling with triton 3.9
    pytest.mark.gpu,
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TILES, ELEMENTWISE = (2, 18, 33, 3), (1, 2, 3, 17)  # one pattern for each kernel, at home in no tile


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


def _module(patch, *, interpret):
    """A copy of the module: how its kernels run is settled when they are decorated."""
    patch.setenv("TRITON_INTERPRET", str(int(interpret)))
    spec = importlib.util.find_spec("lacewing.sparsify._triton")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ks_apply():
    with pytest.MonkeyPatch.context() as patch:
        yield _module(patch, interpret=DEVICE == "cpu").ks_apply


def _whole(random, *shape, dtype=torch.float32):
    """Whole numbers so small that no sum of their products is rounded, in fp32 and TF32 alike."""
    return torch.from_numpy(random.integers(-4, 5, shape)).to(DEVICE, dtype)


def _normal(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)


def _dense(factor):
    blocks = [
        np.block([[np.diag(entries) for entries in row] for row in rows]) for rows in factor.double().cpu().numpy()
    ]
    return torch.from_numpy(scipy.linalg.block_diag(*blocks))


def _entries(matrix, pattern):
    """The entries of a factor, read off a dense matrix."""
    _, b, c, d = pattern
    i, j, m, k = np.indices(pattern)
    return matrix[(i * b + j) * d + k, (i * c + m) * d + k]


def _surrounded(tensor):
    """The same numbers at every second place of a larger tensor that holds NaN everywhere else."""
    around = torch.full([2 * size + 3 for size in tensor.shape], torch.nan, dtype=tensor.dtype, device=tensor.device)
    inside = around[tuple(slice(1, 2 * size + 1, 2) for size in tensor.shape)]
    return inside.copy_(tensor)


LAYOUTS = {
    "row-major": lambda tensor: tensor.contiguous(),
    "batch-last": lambda tensor: tensor.t().contiguous().t(),
    "surrounded by NaN": _surrounded,
}
layouts = st.sampled_from(list(LAYOUTS))
few, many = st.integers(1, 4), st.integers(16, 70)
patterns = st.tuples(st.integers(1, 2), few, few, st.integers(1, 20)) | st.tuples(few, many, many, st.integers(1, 2))


@given(pattern=patterns, n=st.sampled_from([1, 2, 127, 128, 129]), of_x=layouts, of_y=layouts)
@example(pattern=(1, 16, 16, 1), n=128, of_x="row-major", of_y="row-major")  # a tile exactly
@example(pattern=(2, 70, 33, 2), n=129, of_x="batch-last", of_y="batch-last")  # several tiles of every kind
@example(pattern=TILES, n=1, of_x="surrounded by NaN", of_y="row-major")
@example(pattern=(1, 16, 2, 16), n=130, of_x="row-major", of_y="batch-last")
@example(pattern=(2, 2, 3, 17), n=129, of_x="surrounded by NaN", of_y="surrounded by NaN")
@example(pattern=TILES, n=0, of_x="row-major", of_y="row-major")
@settings(max_examples=4, deadline=None)
def test_product_and_both_gradients_are_the_dense_matrix_s(ks_apply, pattern, n, of_x, of_y):
    random = np.random.default_rng(0)
    a, b, c, d = pattern
    factor = _surrounded(_whole(random, *pattern)).requires_grad_()
    x = LAYOUTS[of_x](_whole(random, n, a * c * d)).requires_grad_()
    gradient = LAYOUTS[of_y](_whole(random, n, a * b * d))
    y = ks_apply(factor, x)
    found = y, *torch.autograd.grad(y, (factor, x), gradient)
    matrix, x, gradient = _dense(factor.detach()), x.detach().double().cpu(), gradient.double().cpu()
    wanted = x @ matrix.t(), _entries(gradient.t() @ x, pattern), gradient @ matrix
    for tensor, truth in zip(found, wanted, strict=True):
        assert torch.equal(tensor.cpu(), truth.float())


@pytest.mark.parametrize("pattern", [TILES, ELEMENTWISE])
def test_the_gradients_are_the_product_s_derivatives(ks_apply, pattern):
    a, _, c, d = pattern
    factor = _normal(*pattern, dtype=torch.float64).requires_grad_()
    x = _normal(2, a * c * d, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(ks_apply, (factor, x), fast_mode=True)


@pytest.mark.parametrize("pattern", [TILES, ELEMENTWISE])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_sums_are_as_exact_as_their_dtype(ks_apply, pattern, dtype, error):
    a, _, c, d = pattern
    factor, x = _normal(*pattern, dtype=dtype), _normal(3, a * c * d, dtype=dtype)
    matrix = _dense(factor)
    scale = x.double().cpu().abs() @ matrix.abs().t()  # what rounding errors are relative to
    found = ks_apply(factor, x)
    assert found.dtype == dtype
    assert ((found.double().cpu() - x.double().cpu() @ matrix.t()).abs() <= error * scale).all()


@pytest.mark.parametrize("pattern", [(1, 16, 128, 1), (1, 1, 17, 3)])
def test_half_precision_is_summed_in_fp32(ks_apply, pattern):
    _, _, c, d = pattern
    x = torch.full((2, c, d), 1 + 1 / 32, dtype=torch.float16, device=DEVICE)
    x[:, 0] = 4096  # to which fp16 cannot add less than 4; 32 of the others, one tile, leave a rest of 1
    y = ks_apply(torch.ones(pattern, dtype=torch.float16, device=DEVICE), x.flatten(1))
    assert y.dtype == torch.float16
    assert (y == torch.tensor(4096 + (c - 1) * (1 + 1 / 32)).half().item()).all()


@pytest.mark.parametrize("pattern", [TILES, ELEMENTWISE])
def test_a_record_s_result_depends_on_no_other_record(ks_apply, pattern):
    a, b, c, d = pattern
    factor = _normal(*pattern).requires_grad_()
    x = _normal(130, a * c * d).requires_grad_()
    gradient = _normal(130, a * b * d)

    def results(x):
        y = ks_apply(factor, x)
        return y.detach(), *torch.autograd.grad(y, (x, factor), gradient[: len(x)])

    clean = results(x)
    assert all(torch.equal(one, other) for one, other in zip(clean, results(x), strict=True))  # bit for bit
    alone = results(x[:3])
    assert all(torch.equal(one[:3], other) for one, other in zip(clean[:2], alone[:2], strict=True))
    with torch.no_grad():
        x[1] = torch.nan
    poisoned = ks_apply(factor, x)
    others = torch.arange(130, device=DEVICE) != 1
    assert torch.equal(poisoned[others], clean[0][others])
    assert poisoned[1].isnan().all()


def test_a_chain_of_results_keeps_records_adjacent(ks_apply):
    left, right, x = _normal(1, 3, 4, 2), _normal(4, 2, 3, 1), _normal(7, 12)
    y = ks_apply(left, ks_apply(right, x))
    torch.testing.assert_close(
        y.double().cpu(), x.double().cpu() @ (_dense(left) @ _dense(right)).t(), atol=1e-4, rtol=0
    )
    assert y.t().is_contiguous()


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_gradient_that_nobody_asked_for_is_not_made(ks_apply, wanted):
    inputs = [_normal(*ELEMENTWISE), _normal(2, 3 * 17)]
    inputs[wanted].requires_grad_()
    ks_apply(*inputs).sum().backward()  # its gradient is an expanded number: both strides are 0
    assert inputs[wanted].grad.isfinite().all()
    assert inputs[1 - wanted].grad is None


def test_a_second_derivative_is_refused(ks_apply):
    factor, x = _normal(*ELEMENTWISE).requires_grad_(), _normal(2, 3 * 17).requires_grad_()
    (of_x,) = torch.autograd.grad(ks_apply(factor, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        of_x.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda factor, x: (factor, x[:, 1:]), r"x has shape \(2, 50\), .* needs \(N, 51\)"),
        (lambda factor, x: (factor, x[0]), r"x has shape \(51,\)"),
        (lambda factor, x: (factor.double(), x), "torch.float32 .* torch.float64 .* the same"),
        (lambda factor, x: (factor.to("meta"), x), "meta; give both the same"),
        (lambda factor, x: (factor.to("meta"), x.to("meta")), "works on CUDA and x is on meta"),
    ],
)
def test_inputs_that_do_not_fit_are_named(ks_apply, change, message):
    with pytest.raises(UsageError, match=message):
        ks_apply(*change(_normal(*ELEMENTWISE), _normal(2, 3 * 17)))


def test_cpu_tensors_need_the_interpreter(monkeypatch):
    module = _module(monkeypatch, interpret=False)
    with pytest.raises(UsageError, match="works on CUDA and x is on cpu"):
        module.ks_apply(torch.ones(1, 2, 2, 1), torch.ones(1, 2))


def test_a_missing_triton_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)  # an import of it now fails
    with pytest.raises(UsageError, match="needs the package triton"):
        _module(monkeypatch, interpret=False)
