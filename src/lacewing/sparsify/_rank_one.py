"""Large kernels of convolutions, composed without the zeros of their factors.

Where neighbours have rank 1, an entry of the product is the product of one entry of each factor: a multiplication with
broadcasting for each factor, instead of dense matrices that are mostly zeros. What comes out is laid out as the
convolution reads it, so that nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lacewing.sparsify.chain import Chain

LARGE = 1 << 17  # entries of a kernel; smaller ones are composed as ever, with the bits of studies that are published
_PART = 1 << 17  # entries of a gradient that are looked at at once, so that they stay in the cache


def suits(chain: Chain, factor: Tensor, groups: int) -> bool:
    """Whether the product of such factors is composed here."""
    rows, columns = chain.shape
    return (
        groups * rows * columns >= LARGE
        and len(chain.patterns) > 1
        and chain.patterns[0].a == chain.patterns[-1].d == 1
        and set(chain.ranks) == {1}
        and factor.device.type == "cpu"
        and factor.dtype in (torch.float32, torch.float64)  # sums over parts would lose the bits of shorter ones
    )


def compose(factors: Sequence[Tensor], groups: int, gain: float, pixels: int = 1) -> Tensor:
    """The product of factors that are suited (`suits`) times ``gain``: (groups rows, columns), contiguous.

    With ``pixels`` columns that are (channel, pixel) in the chain's order come as (pixel, channel); the columns of the
    right factor's blocks are a multiple of it.
    """
    right = factors[-1]
    for left in reversed(factors[1:-1]):
        right = _fused(left, right)
    product = _fused(gain * factors[0], right, pixels)
    return product.view(groups * product.shape[1], -1)


def _fused(left: Tensor, right: Tensor, pixels: int = 1) -> Tensor:
    """The entries of the product of two neighbours of rank 1, as those of one factor, see ``_pattern.fused``."""
    count, b, c, _ = left.shape
    _, steps, width, inner = right.shape  # d = steps x inner
    ours = left.reshape(count, b, c, steps, inner).transpose(2, 3)
    theirs = right.reshape(count, c, steps, width, inner).transpose(1, 2)
    if pixels == 1:
        ours, theirs = ours.unsqueeze(4), theirs.unsqueeze(1)
    else:  # the last one, with inner 1
        channels = c * width // pixels
        ours = ours.expand(count, b, steps, c, width // pixels).reshape(count, b, steps, 1, channels)
        theirs = theirs.reshape(count, steps, channels, pixels).transpose(2, 3).unsqueeze(1)
    return _multiplied(ours.contiguous(), theirs.contiguous()).reshape(count, b * steps, c * width, inner)


def _multiplied(ours: Tensor, theirs: Tensor) -> Tensor:
    transforming = torch._C._functorch.peek_interpreter_stack() is not None  # by vmap, grad or jvp of torch.func
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or transforming:
        return ours * theirs
    product: Tensor = _Product.apply(ours, theirs)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    """The product of two tensors, the second with size 1 in dimension 1. Torch's own gradient would write it twice."""

    @staticmethod
    def forward(ctx: Any, ours: Tensor, theirs: Tensor) -> Tensor:
        ctx.save_for_backward(ours, theirs)
        ctx.save_for_forward(ours, theirs)
        return ours * theirs

    @staticmethod
    def jvp(ctx: Any, of_ours: Tensor, of_theirs: Tensor) -> Tensor:
        ours, theirs = ctx.saved_tensors
        tangent: Tensor = of_ours * theirs + ours * of_theirs
        return tangent

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        ours, theirs = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more
            return (gradient * theirs).sum_to_size(ours.shape), (gradient * ours).sum_to_size(theirs.shape)
        # Made from the gradient, so that both are a batch where it is one, as with ``is_grads_batched``.
        of_ours, of_theirs = gradient.new_empty(ours.shape), gradient.new_zeros(theirs.shape)
        rows = max(1, _PART // theirs.numel())
        parts = (tensor.split(rows, 1) for tensor in (gradient, ours, of_ours))
        for part, our, of_our in zip(*parts, strict=True):
            of_our.copy_((part * theirs).sum_to_size(our.shape))
            of_theirs += (part * our).sum_to_size(theirs.shape)
        return of_ours, of_theirs
