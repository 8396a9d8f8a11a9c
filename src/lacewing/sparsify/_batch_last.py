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
from torch._library.custom_ops import get_library_allowing_overwrite

_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines
# Between these numbers of records, and up to this size, one batched product and a copy are faster than d products that
# each write where their result belongs. With fewer records the two forms differ in the last bit.
_GATHERED, _GATHERED_SIZE = (16, 256), 2**17


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


# ``torch.library.custom_op`` would take twenty more microseconds a call, to check what the tests check once.
# Where a result comes to lie otherwise in memory, both need other names: torch's compiler keeps what it made of them on
# disk, by the name of the first.
_LIBRARY = get_library_allowing_overwrite("lacewing", "ks_multiply")  # of a module that is imported anew, too
for _schema in (
    "ks_multiply(Tensor x, Tensor? bias, Tensor[] factors) -> Tensor[]",
    "ks_gradients(Tensor gradient, Tensor x, Tensor[] factors, Tensor[] inputs, bool of_x, bool of_bias, "
    "bool[] of_factors) -> Tensor[]",
):
    _LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
_operator, _operator_backward = torch.ops.lacewing.ks_multiply.default, torch.ops.lacewing.ks_gradients.default


@torch.library.impl(_LIBRARY, "ks_multiply", "CompositeExplicitAutograd")
def _(x: Tensor, bias: Tensor | None, factors: list[Tensor]) -> list[Tensor]:
    """The output, then what the factors see but for the first of them, which sees ``x``."""
    y, inputs = _forward(x, bias, factors)
    return [y, *inputs[1:]]


@torch.library.register_fake(_operator, lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _(x: Tensor, bias: Tensor | None, factors: list[Tensor]) -> list[Tensor]:
    n = x.shape[0]
    rows = [a * b * d for a, b, _, d in (factor.shape for factor in factors)]
    return [x.new_empty(n, rows[0]), *(x.new_empty(size, n) for size in reversed(rows[1:]))]


@torch.library.impl(_LIBRARY, "ks_gradients", "CompositeExplicitAutograd")
def _(
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


@torch.library.register_fake(_operator_backward, lib=_LIBRARY)  # type: ignore[untyped-decorator]
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
        if wanted:
            found.append(factor.new_empty(factor.shape))
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


torch.library.register_autograd("lacewing::ks_multiply", _gradients, setup_context=_keep, lib=_LIBRARY)


def _forward(x: Tensor, bias: Tensor | None, factors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The output, (N, rows), and the input of each factor, (features, N), that of the right factor first."""
    inputs = [_columns(x)]
    for factor in reversed(factors):
        inputs.append(_product(factor, inputs[-1]))
    y = inputs.pop()
    if bias is not None:
        y.add_(bias[:, None])
    return _transposed(y), inputs


def _backward(
    gradient: Tensor,
    factors: Sequence[Tensor],
    inputs: Sequence[Tensor],
    of_x: bool,
    of_bias: bool,
    of_factors: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of x, of the bias and of the factors; None where it is not wanted."""
    gradient = _transposed(gradient)
    found: list[Tensor | None] = [gradient.sum(1) if of_bias else None]
    for place, (factor, x) in enumerate(zip(factors, reversed(inputs), strict=True)):
        found.append(_outer(factor.shape, gradient, x) if of_factors[place] else None)
        if of_x or any(of_factors[place + 1 :]):
            last = place == len(factors) - 1 and _blas(x)  # the gradient of x itself, to be (N, features) in memory
            gradient = _product(factor, gradient, transposed=True, records_first=last)
    return [gradient.t() if of_x else None, *found]


def _columns(x: Tensor) -> Tensor:
    return x.t() if _blas(x) else x.t().contiguous()


def _blas(tensor: Tensor) -> bool:
    """Whether BLAS multiplies it with any strides; in 16 bits, strided products are up to 1,000 times slower."""
    return tensor.dtype in (torch.float32, torch.float64)


def _product(factor: Tensor, x: Tensor, *, transposed: bool = False, records_first: bool = False) -> Tensor:
    """The factor's matrix, or its transpose, times ``x`` (a c d, N): (a b d, N), features or records contiguous."""
    a, b, c, d = factor.shape
    if transposed:
        b, c = c, b
    n = x.shape[1]
    if d == 1:
        entries = factor.squeeze(3)
        entries, blocks = entries.transpose(1, 2) if transposed else entries, x.view(a, c, n)
        if not records_first:
            return torch.bmm(entries, blocks).view(a * b, n)
        out = x.new_empty(n, a * b).t()
        torch.bmm(entries, blocks, out=out.view(a, b, n))
        return out
    entries = _batched(factor)
    if transposed:
        entries = entries.transpose(2, 3)
        if n < _GATHERED[0] or not _blas(x):
            entries = entries.contiguous()
    blocks = x.view(a, c, d, n)
    fewest, most = _GATHERED
    gathered = fewest <= n <= most and a * b * d * n <= _GATHERED_SIZE and x.dtype == torch.float32
    if gathered and not records_first:
        each = [torch.bmm(entries[i], blocks[i].transpose(0, 1)).transpose(0, 1) for i in range(a)]
        return (each[0] if a == 1 else torch.stack(each)).reshape(a * b * d, n)
    out = x.new_empty(n, a * b * d).t() if records_first else x.new_empty(a * b * d, n)
    outs = out.view(a, b, d, n)
    for i in range(a):
        torch.bmm(entries[i], blocks[i].transpose(0, 1), out=outs[i].transpose(0, 1))
    return out


def _outer(shape: torch.Size, gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient of a factor's entries, from that of its output (a b d, N) and its input (a c d, N)."""
    a, b, c, d = shape
    n = x.shape[1]
    if d == 1:
        return torch.bmm(gradient.view(a, b, n), x.view(a, c, n).transpose(1, 2)).unsqueeze(3)
    of_out, blocks = gradient.view(a, b, d, n), x.view(a, c, d, n)
    if not _blas(x):
        blocks = blocks.transpose(1, 2).contiguous().transpose(1, 2)
    each = [torch.bmm(of_out[i].transpose(0, 1), blocks[i].permute(1, 2, 0)) for i in range(a)]
    found = each[0] if a == 1 else torch.stack(each)
    return _swapped(found.view(a, d, b * c)).view(shape)


def _batched(factor: Tensor) -> Tensor:
    """Entries as (a, d, b, c), contiguous: once, or each of the d products copies its own."""
    a, b, c, d = factor.shape
    if not _shuffles(factor, b * c * d):
        return factor.permute(0, 3, 1, 2).contiguous()
    return _swapped(factor.reshape(a, b * c, d).contiguous()).view(a, d, b, c)


def _transposed(x: Tensor) -> Tensor:
    """``x.t().contiguous()``."""
    if not (x.is_contiguous() and _shuffles(x, x.numel())):
        return x.t().contiguous()
    return _swapped(x.unsqueeze(0)).squeeze(0)


def _swapped(x: Tensor) -> Tensor:
    """``x.transpose(1, 2).contiguous()`` of contiguous matrices."""
    count, rows, columns = x.shape
    if not _shuffles(x, rows * columns):
        return x.transpose(1, 2).contiguous()
    pixels = x.view(count, 1, 1, rows * columns).permute(0, 3, 1, 2)  # a matrix each, in channels-last memory format
    return torch.channel_shuffle(pixels, rows).view(count, columns, rows)


def _shuffles(x: Tensor, size: int) -> bool:
    """Whether torch's shuffle of channels transposes matrices of this size faster than its copy does.

    It does so in fp32 where torch has FBGEMM, two to ten times as fast; elsewhere it is slower.
    """
    return _FBGEMM and size >= 4096 and x.dtype == torch.float32 and x.is_cpu
