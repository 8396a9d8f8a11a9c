"""Multiply by a chain of Kronecker-sparse factors: three equivalent backends.

- ``compose``: the dense matrix from the factors, then an ordinary product. The fastest for the small convolutions of
  CIFAR networks (grouped convolutions and unfolding are 2 to 6 times slower), and the one that ``torch.export``,
  ``torch.func`` and double backward can follow.
- ``bmm``: batched dense products, a factor at a time, on activations that lie batch-last. A factor's blocks are then
  views of the activations, and only the first input and the last output are permuted.
- ``triton``: one kernel per factor, on CUDA.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lacewing.errors import UsageError
from lacewing.sparsify._read_only import transformed

Backend = Literal["auto", "compose", "bmm", "triton"]
_chosen: ContextVar[Backend] = ContextVar("lacewing_backend", default="auto")


@contextlib.contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Context in which butterfly linear layers use this backend; convolutions always use ``compose``.

    Raises:
        UsageError: unknown backend.
    """
    if name not in get_args(Backend):
        raise UsageError(f"backend {name!r} must be one of {', '.join(get_args(Backend))}.")
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def multiply(x: Tensor, factors: Sequence[Tensor], bias: Tensor | None = None) -> Tensor:
    """Apply a chain to records: y = x @ W.T + bias, W the product of the factors, left factor first.

    ``auto`` is ``bmm``, or ``compose`` under tracing and ``torch.func``. ``triton`` is used only on request: it has not
    been measured on a GPU yet.

    Args:
        x: shape (N, columns of the chain).
        factors: each of shape (a, b, c, d), of the dtype of ``x``.
        bias: shape (rows of the chain,), or None.

    Returns:
        Shape (N, rows of the chain), contiguous.

    Raises:
        UsageError: ``triton`` was requested and is not available.
    """
    backend = _chosen.get()
    if backend == "auto":
        backend = "compose" if torch.compiler.is_compiling() or transformed(x) else "bmm"
    if backend == "compose":
        return F.linear(x, compose(factors), bias)
    if backend == "bmm":
        product: Tensor = _BatchLast.apply(x, bias, *factors)  # type: ignore[no-untyped-call]
        return product
    from lacewing.sparsify._triton import ks_apply

    for factor in reversed(factors):
        x = ks_apply(factor, x)
    return (x if bias is None else x + bias).contiguous()  # the kernels leave it batch-last


def apply_factor(factor: Tensor, x: Tensor) -> Tensor:
    """Multiply a Kronecker-sparse factor by a matrix.

    Args:
        factor: entries, shape (a, b, c, d); the matrix is K[i b d + j d + k, i c d + m d + k] = factor[i, j, m, k].
        x: shape (a c d, n).

    Returns:
        K @ x, shape (a b d, n).
    """
    a, b, c, d = factor.shape
    n = x.shape[1]
    left = factor.permute(0, 3, 1, 2).reshape(a * d, b, c)
    right = x.reshape(a, c, d, n).transpose(1, 2).reshape(a * d, c, n)
    return torch.bmm(left, right).view(a, d, b, n).transpose(1, 2).reshape(a * b * d, n)


def dense_factor(factor: Tensor, groups: int = 1) -> Tensor:
    """The factor's entries, shape (a, b, c, d), as a matrix of shape (a b d, a c d).

    With ``groups`` the entries are those of several factors, (groups a, b, c, d), and their matrices are stacked by
    rows, (groups a b d, a c d).
    """
    _, b, c, d = factor.shape
    a = factor.shape[0] // groups
    outer = torch.eye(a, dtype=factor.dtype, device=factor.device).view(1, a, 1, 1, a, 1, 1)
    inner = torch.eye(d, dtype=factor.dtype, device=factor.device).view(1, 1, 1, d, 1, 1, d)
    entries = factor.view(groups, a, b, 1, 1, c, d)  # its last axis already runs over d: the eye keeps the diagonal
    return (entries * outer * inner).reshape(groups * a * b * d, a * c * d)


def compose(factors: Sequence[Tensor], groups: int = 1) -> Tensor:
    """The dense matrix of a chain: the product of its factors, left factor first, each of shape (a, b, c, d).

    With ``groups``: of several chains, stacked by rows, see ``dense_factor``.
    """
    product = dense_factor(factors[-1], groups)
    for factor in reversed(factors[:-1]):
        product = apply_factor(factor, product)
    return product


class _BatchLast(torch.autograd.Function):
    """The ``bmm`` backend. Activations are kept as (features, N): factor (a, b, c, d) sees them as (a, c, d, N)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, *factors: Tensor) -> Tensor:
        inputs = [x.t() if _blas(x) else x.t().contiguous()]
        for factor in reversed(factors):
            inputs.append(_product(factor, inputs[-1]))
        ctx.save_for_backward(*factors, *inputs[:-1])
        if bias is not None:
            inputs[-1].add_(bias[:, None])
        return inputs[-1].t().contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 2
        factors, inputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        of_x, of_bias, *of_factors = ctx.needs_input_grad
        gradient = gradient.t().contiguous()
        found: list[Tensor | None] = [gradient.sum(1) if of_bias else None]
        for place, (factor, x) in enumerate(zip(factors, reversed(inputs), strict=True)):
            found.append(_outer(factor.shape, gradient, x) if of_factors[place] else None)
            if of_x or any(of_factors[place + 1 :]):
                last = place == count - 1 and _blas(x)  # the gradient of x itself, to be (N, features) in memory
                gradient = _product(factor.transpose(1, 2), gradient, records_first=last)
        return gradient.t() if of_x else None, *found


def _blas(tensor: Tensor) -> bool:
    """Whether BLAS multiplies it with any strides; in 16 bits, strided products are up to 1,000 times slower."""
    return tensor.dtype in (torch.float32, torch.float64)


def _product(factor: Tensor, x: Tensor, *, records_first: bool = False) -> Tensor:
    """The factor's matrix times ``x`` (a c d, N): (a b d, N), with features or records contiguous in memory."""
    a, b, c, d = factor.shape
    n = x.shape[1]
    out = x.new_empty(n, a * b * d).t() if records_first else x.new_empty(a * b * d, n)
    blocks, outs = x.view(a, c, d, n), out.view(a, b, d, n)
    if d == 1:
        torch.bmm(factor[..., 0], blocks[:, :, 0], out=outs[:, :, 0])
    else:
        for i in range(a):
            entries = factor[i].permute(2, 0, 1).contiguous()  # once, or each of the d products copies its own
            torch.bmm(entries, blocks[i].transpose(0, 1), out=outs[i].transpose(0, 1))
    return out


def _outer(shape: torch.Size, gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient of a factor's entries, from that of its output (a b d, N) and its input (a c d, N)."""
    a, b, c, d = shape
    n = x.shape[1]
    of_out, blocks = gradient.view(a, b, d, n), x.view(a, c, d, n)
    if d == 1:
        return torch.bmm(of_out[:, :, 0], blocks[:, :, 0].transpose(1, 2))[..., None]
    if not _blas(x):
        blocks = blocks.transpose(1, 2).contiguous().transpose(1, 2)
    each = [torch.bmm(of_out[i].transpose(0, 1), blocks[i].permute(1, 2, 0)) for i in range(a)]
    return torch.stack(each).permute(0, 2, 3, 1)
