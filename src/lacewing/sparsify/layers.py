"""Layers whose weight is a product of Kronecker-sparse factors."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify.chain import Chain, Pattern

Columns = Literal["channel-first", "kernel-first"]


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


def dense_factor(factor: Tensor) -> Tensor:
    """The factor's entries, shape (a, b, c, d), as a matrix of shape (a b d, a c d)."""
    a, b, c, d = factor.shape
    outer = torch.eye(a, dtype=factor.dtype, device=factor.device).view(a, 1, 1, a, 1, 1)
    inner = torch.eye(d, dtype=factor.dtype, device=factor.device).view(1, 1, d, 1, 1, d)
    entries = factor.view(a, b, 1, 1, c, d)  # its last axis already runs over d: the eye keeps the diagonal
    return (entries * outer * inner).reshape(a * b * d, a * c * d)


def compose(factors: list[Tensor]) -> Tensor:
    """The dense matrix of a chain: the product of its factors, left factor first, each of shape (a, b, c, d)."""
    product = dense_factor(factors[-1])
    for factor in reversed(factors[:-1]):
        product = apply_factor(factor, product)
    return product


class KSConv2d(nn.Module):
    """A 2d convolution whose (C_out) x (C_in kh kw) matrix is a chain of Kronecker-sparse factors.

    The dense kernel is composed from the factors at each call and given to torch's ordinary convolution: the fastest
    way for the small convolutions of CIFAR networks. ``weight`` is that composed kernel, so that exports and audits
    see an ordinary layer.

    Initialisation: entries of variance 1/c a factor and one fixed gain 1/sqrt(3) on the product, which gives the
    product the variance 1/(3 fan_in) of torch's dense initialisation for any full-support chain.

    Args:
        conv: the convolution to replace; sizes, stride, padding, dilation and bias are taken over.
        chain: its shape must be (C_out, C_in kh kw).
        columns: order of the matrix' columns: "channel-first" is torch's (C_in, kh, kw), "kernel-first" DeBut's
            (kh, kw, C_in).

    Raises:
        UsageError: the chain has another shape, or the convolution is grouped or padded with other than zeros.
    """

    def __init__(self, conv: nn.Conv2d, chain: Chain, columns: Columns = "channel-first") -> None:
        super().__init__()
        matrix = conv.out_channels, math.prod(conv.weight.shape[1:])
        if chain.shape != matrix:
            raise UsageError(f"the chain makes a {chain.shape} matrix and the convolution needs {matrix}.")
        if conv.groups != 1 or conv.padding_mode != "zeros":
            raise UsageError("only convolutions with groups = 1 and zero padding can be made butterfly.")
        self.chain, self.columns, self.gain = chain, columns, 1 / math.sqrt(3)
        self.kernel_shape = tuple(conv.weight.shape)
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.factors = nn.ParameterList(nn.Parameter(self._init(p, conv.weight)) for p in chain.patterns)
        self.bias = conv.bias

    @staticmethod
    def _init(pattern: Pattern, like: Tensor) -> Tensor:
        bound = math.sqrt(3 / pattern.c)  # uniform on +-bound has variance 1/c
        return torch.empty(tuple(pattern), dtype=like.dtype, device=like.device).uniform_(-bound, bound)

    @property
    def weight(self) -> Tensor:
        """The composed dense kernel, shape (C_out, C_in, kh, kw); differentiable in the factors."""
        outputs, inputs, height, width = self.kernel_shape
        matrix = self.gain * compose(list(self.factors))
        if self.columns == "kernel-first":  # contiguous, or its memory layout would spread over the network
            return matrix.view(outputs, height, width, inputs).permute(0, 3, 1, 2).contiguous()
        return matrix.view(self.kernel_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images (N, C_in, H, W) to (N, C_out, H', W')."""
        with torch.autocast(x.device.type, enabled=False):  # the product of factors is kept in full precision
            weight = self.weight
        return F.conv2d(x, weight.to(x.dtype), self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.kernel_shape}, factors={[tuple(p) for p in self.chain.patterns]}, columns={self.columns}"
