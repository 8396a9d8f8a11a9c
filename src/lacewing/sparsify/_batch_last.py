"""Batched dense products, a factor at a time, on activations that lie batch-last, as (features, N).

Factor (a, b, c, d) sees its input as (a, c, d, N): its blocks are views of the activations, and only the first input
and the last output are permuted.

There are two forms with the same arithmetic: an ``autograd.Function``, and for ``torch.compile`` an operator of torch
with a registered gradient, which the compiler calls and does not look into. Outside of ``torch.compile`` the operator
would be slower, by what torch's dispatcher adds to each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def batch_last(x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """Apply a chain to records x, (N, columns): (N, rows), contiguous. Differentiable once, see ``multiply``."""
    if torch.compiler.is_compiling():
        outputs: list[Tensor] = _operator(x, bias, list(factors))
        return outputs[0]
    if not torch.is_grad_enabled():
        return _forward(x, bias, factors)[0]
    product: Tensor = _Function.apply(x, bias, *factors)  # type: ignore[no-untyped-call]
    return product


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, *factors: Tensor) -> Tensor:
        y, inputs = _forward(x, bias, factors)
        ctx.save_for_backward(*factors, *inputs)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 2
        factors, inputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        of_x, of_bias, *of_factors = ctx.needs_input_grad
        return tuple(_backward(gradient, factors, inputs, of_x, of_bias, of_factors))


@torch.library.custom_op(
    "lacewing::ks_forward", mutates_args=(), schema="(Tensor x, Tensor? bias, Tensor[] factors) -> Tensor[]"
)
def _operator(x: Tensor, bias: Tensor | None, factors: list[Tensor]) -> list[Tensor]:
    """The output, then what the factors see but for the first of them, which sees ``x``."""
    y, inputs = _forward(x, bias, factors)
    return [y, *inputs[1:]]


@_operator.register_fake
def _(x: Tensor, bias: Tensor | None, factors: list[Tensor]) -> list[Tensor]:
    n = x.shape[0]
    rows = [a * b * d for a, b, _, d in (factor.shape for factor in factors)]
    return [x.new_empty(n, rows[0]), *(x.new_empty(size, n) for size in reversed(rows[1:]))]


@torch.library.custom_op(
    "lacewing::ks_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor x, Tensor[] factors, Tensor[] inputs, bool of_x, bool of_bias, bool[] of_factors)"
    " -> Tensor[]",
)
def _operator_backward(
    gradient: Tensor,
    x: Tensor,
    factors: list[Tensor],
    inputs: list[Tensor],
    of_x: bool,
    of_bias: bool,
    of_factors: list[bool],
) -> list[Tensor]:
    """The gradients that are wanted, in the order of the arguments of the operator."""
    found = _backward(gradient, factors, [_columns(x), *inputs], of_x, of_bias, of_factors)
    return [each for each in found if each is not None]


@_operator_backward.register_fake
def _(
    gradient: Tensor,
    x: Tensor,
    factors: list[Tensor],
    inputs: list[Tensor],
    of_x: bool,
    of_bias: bool,
    of_factors: list[bool],
) -> list[Tensor]:
    n, rows = gradient.shape
    found = []
    if of_x:
        found.append(x.new_empty(x.shape) if _blas(x) else x.new_empty(x.shape[1], n).t())
    if of_bias:
        found.append(gradient.new_empty(rows))
    for factor, wanted in zip(factors, of_factors, strict=True):
        if wanted:  # laid as ``_outer`` lays it
            a, b, c, d = factor.shape
            found.append(factor.new_empty(a, d, b, c).permute(0, 2, 3, 1) if d > 1 else factor.new_empty(a, b, c, 1))
    return found


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor | None, list[Tensor]], output: list[Tensor]) -> None:
    x, _, factors = inputs
    ctx.save_for_backward(x, *factors, *output[1:])
    ctx.count = len(factors)


def _gradients(ctx: Any, gradients: list[Tensor]) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    x, *kept = ctx.saved_tensors
    factors, inputs = kept[: ctx.count], kept[ctx.count :]
    of_x, of_bias, of_factors = ctx.needs_input_grad
    found = iter(_operator_backward(gradients[0], x, factors, inputs, of_x, of_bias, of_factors))
    return (
        next(found) if of_x else None,
        next(found) if of_bias else None,
        [next(found) if wanted else None for wanted in of_factors],
    )


_operator.register_autograd(_gradients, setup_context=_keep)


def _forward(x: Tensor, bias: Tensor | None, factors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The output, (N, rows), and the input of each factor, (features, N), that of the right factor first."""
    inputs = [_columns(x)]
    for factor in reversed(factors):
        inputs.append(_product(factor, inputs[-1]))
    y = inputs.pop()
    if bias is not None:
        y.add_(bias[:, None])
    return y.t().contiguous(), inputs


def _backward(
    gradient: Tensor,
    factors: Sequence[Tensor],
    inputs: Sequence[Tensor],
    of_x: bool,
    of_bias: bool,
    of_factors: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of x, of the bias and of the factors; None where it is not wanted."""
    gradient = gradient.t().contiguous()
    found: list[Tensor | None] = [gradient.sum(1) if of_bias else None]
    for place, (factor, x) in enumerate(zip(factors, reversed(inputs), strict=True)):
        found.append(_outer(factor.shape, gradient, x) if of_factors[place] else None)
        if of_x or any(of_factors[place + 1 :]):
            last = place == len(factors) - 1 and _blas(x)  # the gradient of x itself, to be (N, features) in memory
            gradient = _product(factor.transpose(1, 2), gradient, records_first=last)
    return [gradient.t() if of_x else None, *found]


def _columns(x: Tensor) -> Tensor:
    return x.t() if _blas(x) else x.t().contiguous()


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
