"""Multiply by a chain of Kronecker-sparse factors: three equivalent backends.

- ``compose``: the dense matrix from the factors, then an ordinary product. The fastest for the small convolutions of
  CIFAR networks (grouped convolutions and unfolding are 2 to 6 times slower), and the one that ``torch.export``,
  ``torch.func`` and double backward can follow.
- ``bmm``: batched dense products, a factor at a time, see ``_batch_last``; one operator under ``torch.compile``.
- ``triton``: one kernel per factor, on CUDA.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lacewing.errors import UsageError
from lacewing.sparsify._batch_last import batch_last

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

    ``auto`` is ``bmm``, or ``compose`` under ``torch.export`` (whose programs must run without this package) and under
    ``torch.func``. ``triton`` is used only on request: it has not been measured on a GPU yet.

    Args:
        x: shape (N, columns of the chain).
        factors: each of shape (a, b, c, d), of the dtype of ``x``.
        bias: shape (rows of the chain,), or None.

    Returns:
        Shape (N, rows of the chain), contiguous.

    Raises:
        UsageError: ``triton`` was requested and is not available.
    """
    backend = _backend()
    if backend == "compose":
        return F.linear(x, compose(factors), bias)
    if backend == "bmm":
        return batch_last(x, factors, bias)
    from lacewing.sparsify._triton import ks_apply

    for factor in reversed(factors):
        x = ks_apply(factor, x)
    return (x if bias is None else x + bias).contiguous()  # the kernels leave it batch-last


def _backend() -> Backend:
    """That of the context. ``torch.compile`` can follow none of this, and keeps what it finds as it compiles."""
    chosen = _chosen.get()
    if chosen != "auto":
        return chosen
    transforming = torch._C._functorch.peek_interpreter_stack() is not None  # by vmap, grad or jvp of torch.func
    return "compose" if torch.compiler.is_exporting() or transforming else "bmm"


# What torch.compiler.assume_constant_result does: it imports torch's compiler first, longer than torch itself takes.
_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


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
