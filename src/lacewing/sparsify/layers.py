"""Layers whose weight is a product of Kronecker-sparse factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from lacewing.errors import UsageError
from lacewing.sparsify import _rank_one
from lacewing.sparsify._backends import compose, multiply
from lacewing.sparsify._project import project
from lacewing.sparsify._read_only import read_only, refuse
from lacewing.sparsify.chain import Chain

Columns = Literal["channel-first", "kernel-first"]
Size = int | tuple[int, int]


class KSLayer(nn.Module):
    """Base class: the factors of one chain per group, a fixed gain on their product, and the initialisation.

    Entries of variance 1/c in each factor give the product the variance gain^2 / fan_in, for any full-support chain and
    any rank; a gain of 1/sqrt(3) is torch's dense initialisation. The gain is not a parameter and is not counted.

    ``weight`` is composed anew at each call. Assigning it, or writing into it or its views, would change nothing and is
    refused (`UsageError`); writing through ``weight.numpy()`` cannot be refused, and is lost. Write to ``factors``, or
    use ``set_matrix``; ``weight.detach().clone()`` is an ordinary tensor.
    """

    def __init__(self, chain: Chain, groups: int, bias: bool, *, gain: float = 1 / math.sqrt(3), **where: Any) -> None:
        super().__init__()
        self.chain, self.groups, self.gain = chain, groups, gain
        self.factors = nn.ParameterList(
            nn.Parameter(torch.empty((groups * p.a, p.b, p.c, p.d), **where)) for p in chain.patterns
        )
        rows, _ = chain.shape
        self.bias: nn.Parameter | None = nn.Parameter(torch.empty(groups * rows, **where)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new factors and bias from torch's global random state."""
        with torch.no_grad():
            for factor, pattern in zip(self.factors, self.chain.patterns, strict=True):
                bound = math.sqrt(3 / pattern.c)  # uniform on +-bound has variance 1/c
                factor.uniform_(-bound, bound)
            if self.bias is not None:
                bound = 1 / math.sqrt(self.chain.shape[1])  # as torch's own layers draw it
                self.bias.uniform_(-bound, bound)

    def set_matrix(self, matrix: Tensor) -> None:
        """Set the factors so that their product is near ``matrix``, (groups rows, columns); see ``project``."""
        rows, columns = self.chain.shape
        with torch.no_grad():
            stacked = matrix.detach().view(self.groups, rows, columns) / self.gain
            for factor, found in zip(self.factors, project(stacked, self.chain), strict=True):
                factor.copy_(found)

    def prunable_parameters(self) -> list[str]:
        """Names of the factors. Pruning them reaches lower densities than chains alone."""
        return [f"factors.{place}" for place in range(len(self.factors))]

    @property
    def saved_parameters(self) -> int:
        """How many parameters fewer than the dense layer."""
        return self.groups * (math.prod(self.chain.shape) - self.chain.nnz)

    @property
    def weight(self) -> Tensor:
        """The composed weight, in the shape of the plain layer's; differentiable in the factors, and read-only."""
        return read_only(self.composed())

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            refuse("assigning")
        super().__setattr__(name, value)

    def composed(self) -> Tensor:
        """``weight`` as an ordinary tensor."""
        return self.gain * compose(list(self.factors), self.groups)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of ``weight``, without composing it."""
        raise NotImplementedError

    def _fill(self, plain: nn.Linear | nn.Conv2d) -> None:
        """Copy this layer's weight and bias into a plain layer."""
        plain.weight = nn.Parameter(self.composed().detach())
        plain.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        plain.train(self.training)


class KSLinear(KSLayer):
    """A linear layer whose (out_features) x (in_features) matrix is a chain of Kronecker-sparse factors.

    Drop-in for ``nn.Linear``: the same shapes in and out; ``weight`` is the composed matrix. The
    backend is chosen by size and device, see ``use_backend``.

    Args:
        in_features, out_features, bias, device, dtype: as in ``nn.Linear``.
        chain: of shape (out_features, in_features); ``Chain.monarch`` if not given.

    Raises:
        UsageError: the chain has another shape, or there is no Monarch chain of this one.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        chain: Chain | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        chain = chain or Chain.monarch(out_features, in_features)
        if chain.shape != (out_features, in_features):
            raise UsageError(f"the chain makes a {chain.shape} matrix, the layer needs {(out_features, in_features)}.")
        super().__init__(chain, 1, bias, device=device, dtype=dtype)
        self.in_features, self.out_features = in_features, out_features

    @classmethod
    def like(cls, linear: nn.Linear, chain: Chain, *, projected: bool = False) -> KSLinear:
        """A layer for the place of ``linear``: its sizes and its bias, with fresh factors or its projected weight."""
        weight = linear.weight
        layer = cls(
            linear.in_features, linear.out_features, False, chain=chain, device=weight.device, dtype=weight.dtype
        )
        layer.bias = linear.bias
        if projected:
            layer.set_matrix(weight)
        return layer

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of ``weight``, without composing it."""
        return self.chain.shape

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self._multiply(x, x.dtype)
        with torch.autocast(device, enabled=False):
            return self._multiply(x, torch.get_autocast_dtype(device))

    def _multiply(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        held = self.factors
        factors = [getattr(held, str(place)) for place in range(len(held))]  # iterating takes three times as long
        records = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        bias: Tensor | None = self.bias
        if not x.dtype == factors[0].dtype == dtype:  # or else nothing is cast, and asking takes time too
            records, factors = records.to(dtype), [factor.to(dtype) for factor in factors]
            bias = None if bias is None else bias.to(dtype)
        factors[-1] = self.gain * factors[-1]
        y = multiply(records, factors, bias)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self.out_features)

    def plain(self) -> nn.Linear:
        """The plain layer that computes the same."""
        with torch.device("meta"):
            layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        self._fill(layer)
        return layer

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        patterns = [tuple(p) for p in self.chain.patterns]
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, factors={patterns}"


class KSConv2d(KSLayer):
    """A 2d convolution whose (C_out) x (C_in kh kw) matrix is a chain of Kronecker-sparse factors.

    Drop-in for ``nn.Conv2d``. The dense kernel is composed from the factors at each call and given to torch's plain
    convolution, which is fastest for the small convolutions of CIFAR networks. ``weight`` is that composed kernel.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype: as in
            ``nn.Conv2d``, with zeros as padding.
        chain: of shape (out_channels / groups, in_channels / groups kh kw), one chain per group; the cheapest of two
            factors if not given.
        columns: order of the matrix' columns: "channel-first" is torch's (C_in, kh, kw), "kernel-first" DeBut's
            (kh, kw, C_in).

    Raises:
        UsageError: the chain has another shape, or groups do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        chain: Chain | None = None,
        columns: Columns = "channel-first",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise UsageError(f"groups = {groups} must divide {in_channels} input and {out_channels} output channels.")
        kernel = _pair(kernel_size)
        matrix = out_channels // groups, in_channels // groups * kernel[0] * kernel[1]
        chain = chain or Chain.cheapest(*matrix, 2)
        if chain.shape != matrix:
            raise UsageError(f"the chain makes a {chain.shape} matrix and the convolution needs {matrix}.")
        super().__init__(chain, groups, bias, device=device, dtype=dtype)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.dilation = _pair(stride), padding, _pair(dilation)
        self.columns: Columns = columns

    @classmethod
    def like(
        cls, conv: nn.Conv2d, chain: Chain, columns: Columns = "channel-first", *, projected: bool = False
    ) -> KSConv2d:
        """A layer for the place of ``conv``: its sizes and its bias, with fresh factors or its projected weight.

        Raises:
            UsageError: also where the convolution is padded with other than zeros.
        """
        if conv.padding_mode != "zeros":
            raise UsageError("only convolutions with zero padding can be made butterfly.")
        sizes: Sequence[Any] = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, False
        where: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        layer = cls(conv.in_channels, conv.out_channels, *sizes, chain=chain, columns=columns, **where)
        layer.bias = conv.bias  # type: ignore[assignment]
        if projected:
            kernel = conv.weight if columns == "channel-first" else conv.weight.permute(0, 2, 3, 1)
            layer.set_matrix(kernel.reshape(conv.out_channels, -1))
        return layer

    def composed(self, *, channels_last: bool = False) -> Tensor:
        """``weight`` as an ordinary tensor, shape (C_out, C_in / groups, kh, kw).

        Contiguous, or its memory layout would spread over the network; with ``channels_last`` large ones may come in
        that layout.
        """
        outputs, inputs, height, width = self.weight_shape
        factors, pixels = list(self.factors), height * width
        suited = _rank_one.suits(self.chain, factors[0], self.groups)
        # One pixel would pass for channels-last. Small ones do: else the bits of what follows would change.
        last = self.columns == "kernel-first" and not (suited and pixels == 1)
        if suited:
            swapped = channels_last and not last and self.chain.patterns[-1].c % pixels == 0
            matrix = _rank_one.compose(factors, self.groups, self.gain, pixels if swapped else 1)
            last |= swapped
        else:
            matrix, channels_last = super().composed(), False
        if not last:
            return matrix.view(self.weight_shape)
        kernel = matrix.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
        return kernel if channels_last else kernel.contiguous()

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of ``weight``, without composing it."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images (N, C_in, H, W) to (N, C_out, H', W')."""
        channels, width = x.shape[-3], x.shape[-1]
        channels_last = x.stride()[1:] == (1, width * channels, channels) and not x.is_contiguous()
        with torch.autocast(x.device.type, enabled=False):  # the product of factors is kept in full precision
            weight = self.composed(channels_last=channels_last)
        return F.conv2d(x, weight.to(x.dtype), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def plain(self) -> nn.Conv2d:
        """The plain layer that computes the same."""
        sizes: Sequence[Any] = (
            self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.bias is not None,
        )  # fmt: skip
        with torch.device("meta"):
            layer = nn.Conv2d(self.in_channels, self.out_channels, *sizes)
        self._fill(layer)
        return layer

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        patterns = [tuple(p) for p in self.chain.patterns]
        return f"{self.weight_shape}, groups={self.groups}, factors={patterns}, columns={self.columns}"
