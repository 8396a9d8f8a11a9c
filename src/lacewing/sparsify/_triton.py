"""Triton kernels that multiply records by a Kronecker-sparse factor, on CUDA (or in Triton's interpreter).

The product y[n, i, j, k] = sum_m K[i, j, m, k] x[n, i, m, k] is, for each of the a d pairs (i, k), an ordinary product
of an N x c matrix by a c x b one, whose features lie d apart. It costs 2 N a b c d flops and, where each number moves
once, the bytes of N a d (b + c) + a b c d numbers: about 2 b c / (b + c) flops a number, 32 at b = c = 32. An H100 has
time for some 80 flops while it moves an fp32 number, and for 600 a bf16 one. So memory decides, and hence

- output-stationary: a program keeps one tile of y in registers over the whole sum and writes it once, without partial
  sums, atomics or an order that chance decides; x is read once for each block of outputs, from cache after the first;
- addresses with a stride instead of permuted copies, of x and of K, so that the gradient of x is the same kernel with
  b and c swapped;
- results laid batch-last (a ``.t()`` view of (features, N)): then every access runs along neighbouring records,
  whatever d is. Inputs may have any strides; where d > 1 row-major ones cost a memory sector for each few numbers.

Two kernels: where b and c fill tensor cores, products of tiles for one (i, k); else elementwise sums over a tile of
records and k, which a product of tiles would have to pad. Sums run in fp32 (fp64 for fp64), in an order that neither N
nor the other records change. In fp32, TF32 is used where ``torch.backends.cuda.matmul`` allows it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lacewing.errors import UsageError

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise UsageError("backend 'triton' needs the package triton; install it or choose backend 'bmm'.") from error

_INTERPRETED: bool = triton.knobs.runtime.interpret  # as the decorators below see it


def ks_apply(factor: Tensor, x: Tensor) -> Tensor:
    """Multiply records by a Kronecker-sparse factor: y[n, i b d + j d + k] = sum_m K[i, j, m, k] x[n, i c d + m d + k].

    Differentiable once in both. Autocast does not reach it: the caller casts.

    Args:
        factor: entries K, shape (a, b, c, d).
        x: shape (N, a c d), of any strides, and of the factor's dtype and device.

    Returns:
        Shape (N, a b d), batch-last in memory.

    Raises:
        UsageError: shapes, dtypes or devices do not match, or the device is not CUDA and the interpreter is off.
    """
    a, b, c, d = factor.shape
    if x.ndim != 2 or x.shape[1] != a * c * d:
        raise UsageError(f"x has shape {tuple(x.shape)}, the factor {(a, b, c, d)} needs (N, {a * c * d}).")
    if x.dtype != factor.dtype or x.device != factor.device:
        raise UsageError(
            f"x is {x.dtype} on {x.device} and the factor {factor.dtype} on {factor.device}; give both the same."
        )
    if not (x.is_cuda or (_INTERPRETED and x.is_cpu)):
        raise UsageError(
            f"backend 'triton' works on CUDA and x is on {x.device}; move it, choose backend 'bmm', or set "
            "TRITON_INTERPRET=1 before the start to try the kernels slowly."
        )
    y: Tensor = _Apply.apply(factor, x)  # type: ignore[no-untyped-call]
    return y


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factor: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(factor, x)
        return _product(factor, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        factor, x = ctx.saved_tensors
        a, b, c, d = factor.shape
        if d > 1:  # both products would read a row-major one with a stride, and torch would copy it first
            gradient = gradient.t().contiguous().t()
        of_factor = of_x = None
        if ctx.needs_input_grad[0]:
            # A sum over all records for few outputs: one program a tile of them would leave most of a GPU idle. cuBLAS
            # knows better how to cut it up, without atomics, and reads batch-last tensors in place where a or d is 1.
            n = x.shape[0]
            of_factor = torch.einsum("nijk,nimk->ijmk", gradient.view(n, a, b, d), x.view(n, a, c, d))
        if ctx.needs_input_grad[1]:
            of_x = _product(factor.transpose(1, 2), gradient)
        return of_factor, of_x


def _product(factor: Tensor, x: Tensor) -> Tensor:
    a, b, c, d = factor.shape
    n = x.shape[0]
    y = x.new_empty(a * b * d, n).t()
    total = tl.float64 if x.dtype == torch.float64 else tl.float32
    operands = x, factor, y, n, a, b, c, d, *x.stride(), *factor.stride(), *y.stride()
    records = 128
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        if min(b, c) >= 16:  # the least that tensor cores take
            outputs, terms = min(_power_of_two(b), 64), min(_power_of_two(c), 32)
            grid = (triton.cdiv(n, records) * a * d * triton.cdiv(b, outputs),)
            precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
            _tile_products[grid](*operands, records, outputs, terms, total, precision, num_stages=2)
        else:
            run = min(_power_of_two(d), 16)
            grid = (triton.cdiv(n, records) * a * triton.cdiv(d, run),)
            _elementwise[grid](*operands, records, run, total)
    return y


def _power_of_two(size: int) -> int:
    """The least that is not below ``size``."""
    return 1 << (size - 1).bit_length()


# Offsets are in int64: N times the features may pass 2^31. Neighbouring programs share what they read of x. Lengths of
# sums and loops (b, c) are compiled in, so that short ones unroll: a network has few.


@triton.jit  # type: ignore[untyped-decorator]
def _tile_products(  # type: ignore[no-untyped-def]
    x, w, y, n_records, a, b: tl.constexpr, c: tl.constexpr, d, x_n, x_f, w_i, w_j, w_m, w_k, y_n, y_f,
    RECORDS: tl.constexpr, OUTPUTS: tl.constexpr, TERMS: tl.constexpr, TOTAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: some records and some j, for one (i, k)."""
    block = tl.program_id(0)
    blocks_of_j = (b + OUTPUTS - 1) // OUTPUTS
    j = block % blocks_of_j * OUTPUTS + tl.arange(0, OUTPUTS)
    block //= blocks_of_j
    k = block % d
    i = block // d % a
    n = (block // d // a).to(tl.int64) * RECORDS + tl.arange(0, RECORDS)
    total = tl.full((RECORDS, OUTPUTS), 0, TOTAL)
    for first in range(0, c, TERMS):
        m = first + tl.arange(0, TERMS)
        column = ((i * c + m) * d + k).to(tl.int64)
        left = tl.load(
            x + n[:, None] * x_n + column[None, :] * x_f,
            mask=(n < n_records)[:, None] & (m < c)[None, :],
            other=0,
        )
        right = tl.load(
            w + i * w_i + m[:, None] * w_m + j[None, :] * w_j + k * w_k,
            mask=(m < c)[:, None] & (j < b)[None, :],
            other=0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=TOTAL)
    column = ((i * b + j) * d + k).to(tl.int64)
    inside = (n < n_records)[:, None] & (j < b)[None, :]
    tl.store(y + n[:, None] * y_n + column[None, :] * y_f, total.to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _elementwise(  # type: ignore[no-untyped-def]
    x, w, y, n_records, a, b: tl.constexpr, c: tl.constexpr, d, x_n, x_f, w_i, w_j, w_m, w_k, y_n, y_f,
    RECORDS: tl.constexpr, RUN: tl.constexpr, TOTAL: tl.constexpr,
):  # fmt: skip
    """One program: some records and some k, for one i and every j; x is read from DRAM for the first j alone."""
    block = tl.program_id(0)
    runs = (d + RUN - 1) // RUN
    k = block % runs * RUN + tl.arange(0, RUN)
    i = block // runs % a
    n = (block // runs // a).to(tl.int64) * RECORDS + tl.arange(0, RECORDS)
    inside = (n < n_records)[:, None] & (k < d)[None, :]
    for j in range(b):
        total = tl.full((RECORDS, RUN), 0, TOTAL)
        for m in range(c):
            column = ((i * c + m) * d + k).to(tl.int64)
            values = tl.load(x + n[:, None] * x_n + column[None, :] * x_f, mask=inside, other=0)
            weights = tl.load(w + i * w_i + j * w_j + m * w_m + k * w_k, mask=k < d, other=0)
            total += values.to(TOTAL) * weights.to(TOTAL)[None, :]
        column = ((i * b + j) * d + k).to(tl.int64)
        tl.store(y + n[:, None] * y_n + column[None, :] * y_f, total.to(y.dtype.element_ty), mask=inside)
