"""Transformer encoders for images (Dosovitskiy et al. 2021, section 3.1) and for token ids, in plain torch.

This file imports nothing but torch: copied beside an exported checkpoint it loads that checkpoint without Lacewing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-6  # of layer norm, as in the authors' code
_NOTHING = -1e30  # what padding is attended with: finite, since a record may consist of padding alone


def _dropout(share: float) -> nn.Module:
    return nn.Dropout(share) if share else nn.Identity()


def _drawn(*shape: int) -> nn.Parameter:
    """Uniform with a standard deviation of 0.02; torch takes seconds to draw from a normal law on its meta device."""
    bound = 0.02 * math.sqrt(3)
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2) with one matrix for query, key and value.

    Written out: the fused kernels of torch may add in another order at each call, so that a resumed training would
    not give the same bits.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.drop = _dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (N, T, width) to the same shape; ``bias`` (N, 1, 1, T) is added to the scores of the keys."""
        count, length, width = x.shape
        split = self.qkv(x).reshape(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        mixed = (scores if bias is None else scores + bias).softmax(-1) @ value
        return self.drop(self.proj(mixed.transpose(1, 2).reshape(count, length, width)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then two linear layers with GELU between them, each after a layer norm and with a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.drop = _dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (N, T, width) to the same shape."""
        x = x + self.attn(self.norm1(x), bias)
        return x + self.drop(self.fc2(self.drop(F.gelu(self.fc1(self.norm2(x))))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """A ViT: patches, a class token, learned positions, blocks, layer norm, and a classifier on the class token.

    ViT-S/16 (patch 16, width 384, depth 12, heads 6) has 22,050,664 parameters at 224 x 224 and 1,000 classes.

    Args:
        size: height and width of the image, each a multiple of ``patch``.
        classes: number of outputs.
        channels: channels of the input image.
        patch: side of a patch, in pixels.
        width: numbers of a token, a multiple of ``heads``.
        depth: number of blocks.
        heads: of each attention.
        dropout: after the positions, the attentions and both linear layers of a block (their appendix B.1).
    """

    def __init__(
        self,
        size: tuple[int, int],
        classes: int = 10,
        channels: int = 3,
        patch: int = 4,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise ValueError(f"patches of {patch} pixels do not divide an image of {size[0]} x {size[1]}")
        patches = (size[0] // patch) * (size[1] // patch)
        self.patch = nn.Conv2d(channels, width, patch, patch)
        self.cls_token = _drawn(1, 1, width)
        self.pos_embed = _drawn(1, 1 + patches, width)
        self.drop = _dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        return self.head(self.norm(self.blocks(self.drop(tokens + self.pos_embed)))[:, 0])  # type: ignore[no-any-return]


class TokenTransformer(nn.Module):
    """An encoder of token ids: embedding, learned positions, blocks, layer norm, the mean over tokens, a classifier.

    Args:
        length: T, tokens of a record.
        vocabulary: number of ids, which are 0 to vocabulary - 1.
        classes: number of outputs.
        width, depth, heads, dropout: as of `VisionTransformer`.
        padding: the id that fills up short records: nothing attends to it and the mean leaves it out; None: no id.
    """

    def __init__(
        self,
        length: int,
        vocabulary: int,
        classes: int = 2,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        padding: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.padding = padding
        self.embed = nn.Embedding(vocabulary, width, _weight=_drawn(vocabulary, width))
        self.pos_embed = _drawn(1, length, width)
        self.drop = _dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (N, T), of any dtype and rounded to whole numbers, to logits (N, classes)."""
        ids = (ids.round() if ids.is_floating_point() else ids).long()
        kept = torch.ones_like(ids, dtype=torch.bool) if self.padding is None else ids != self.padding
        bias = torch.where(kept, 0.0, _NOTHING)[:, None, None, :]
        x = self.drop(self.embed(ids) + self.pos_embed)
        for block in self.blocks:
            x = block(x, bias)
        share = kept / kept.sum(1, keepdim=True).clamp(min=1)
        return self.head((self.norm(x) * share[:, :, None]).sum(1))  # type: ignore[no-any-return]
