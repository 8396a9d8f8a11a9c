"""ResNets for small images (He et al. 2016, section 4.2) with 1x1-convolution shortcuts, in plain torch.

This file imports nothing but torch: copied beside an exported checkpoint it loads that checkpoint without Lacewing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group"]
_GROUPS = 8  # or as many as divide the channels


def _norm(channels: int, norm: Norm) -> nn.Module:
    """Batch norm, or group norm (Wu & He 2018), which does not mix the records of a batch."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(math.gcd(channels, _GROUPS), channels)


class Block(nn.Module):
    """Two 3x3 convolutions with a norm each and a shortcut; where shapes change that is a 1x1 convolution and norm.

    Dropout is between the two convolutions (Zagoruyko & Komodakis 2016, section 2.4).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float = 0.0, norm: Norm = "batch") -> None:
        super().__init__()
        self.inplace = norm == "batch"  # what trains with a gradient of each record, as group norm can, keeps them all
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = _norm(outputs, norm)
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = _norm(outputs, norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs, norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y = self.dropout(F.relu(self.bn1(self.conv1(x)), inplace=self.inplace))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=self.inplace)


class ResNet(nn.Module):
    """A ResNet of ``depth = 6 n + 2`` layers: stem, three segments of n blocks, global average pooling, classifier.

    Depth 20, width 16, three channels and ten classes have 272,474 parameters.

    Args:
        depth: 8, 14, 20, 32, 44, 56, ...
        classes: number of outputs.
        channels: channels of the input image.
        width: channels of the first segment; the second and third have twice and four times as many.
        dropout: of every block, see `Block`.
        norm: "batch", or "group" (8 groups, or as many as divide the channels); names and shapes of weights are alike.
    """

    def __init__(
        self,
        depth: int = 20,
        classes: int = 10,
        channels: int = 3,
        width: int = 16,
        dropout: float = 0.0,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth {depth} is not 6 n + 2 with n at least 1")
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = _norm(width, norm)
        self.inplace = norm == "batch"
        segments, inputs = [], width
        for index in range(3):
            outputs = width << index
            strides = [1 if index == 0 else 2] + [1] * (blocks - 1)
            segments.append(
                nn.Sequential(
                    *(Block(inputs if i == 0 else outputs, outputs, s, dropout, norm) for i, s in enumerate(strides))
                )
            )
            inputs = outputs
        self.segments = nn.Sequential(*segments)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=self.inplace)
        x = self.segments(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]
