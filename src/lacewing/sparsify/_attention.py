"""Attention whose fused input projection is made of Kronecker-sparse factors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.sparsify._read_only import refuse
from lacewing.sparsify.chain import Chain
from lacewing.sparsify.layers import KSLayer


class KSProjection(KSLayer):
    """Query, key and value projections, one chain each: ``weight`` is the (3 E) x E matrix of ``in_proj_weight``."""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of ``weight``, without composing it."""
        rows, columns = self.chain.shape
        return self.groups * rows, columns


class KSMultiheadAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` whose ``in_proj_weight`` is composed from factors (``in_proj``) at each call.

    Made by ``like``. The gain of 1/sqrt(2) gives the product the variance of torch's initialisation of this weight.
    Assigning ``in_proj_weight`` or writing into it is refused, as of the weight of every butterfly layer; writing is
    not refused where gradients are off, because torch's fast path needs a plain tensor there.
    """

    in_proj: KSProjection
    _composed: Tensor | None

    @classmethod
    def like(cls, attention: nn.MultiheadAttention, chain: Chain, *, projected: bool = False) -> KSMultiheadAttention:
        """A replacement for ``attention`` that keeps everything else; with fresh factors or its projected weight.

        Args:
            attention: with queries, keys and values of one width E.
            chain: of shape (E, E); query, key and value get one each.
            projected: start from the projected weight.
        """
        weight = attention.in_proj_weight
        found: KSMultiheadAttention = _shell(cls, attention)
        del found._parameters["in_proj_weight"]
        found._composed = None
        found.in_proj = KSProjection(chain, 3, False, gain=1 / math.sqrt(2), device=weight.device, dtype=weight.dtype)
        if projected:
            found.in_proj.set_matrix(weight)
        return found

    @property
    def in_proj_weight(self) -> Tensor:  # type: ignore[override]
        """The composed weight."""
        if self._composed is not None:
            return self._composed
        return self.in_proj.weight if torch.is_grad_enabled() else self.in_proj.composed()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "in_proj_weight":
            refuse("assigning")
        super().__setattr__(name, value)

    def forward(self, *args: Any, **options: Any) -> Any:
        """As ``nn.MultiheadAttention``."""
        self._composed = self.in_proj.composed()  # torch asks for it several times
        try:
            return super().forward(*args, **options)
        finally:
            self._composed = None

    def plain(self) -> nn.MultiheadAttention:
        """The plain layer that computes the same."""
        found: nn.MultiheadAttention = _shell(nn.MultiheadAttention, self)
        del found._modules["in_proj"], found.__dict__["_composed"]
        found.in_proj_weight = nn.Parameter(self.in_proj.composed().detach())
        return found


def _shell(kind: Any, module: nn.Module) -> Any:
    """Another module of class ``kind`` that holds the same parameters, buffers, children and settings."""
    found = kind.__new__(kind)
    found.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in module.__dict__.items()}
    return found
