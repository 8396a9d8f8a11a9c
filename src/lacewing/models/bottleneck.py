"""ResNets of bottlenecks (He et al. 2016, section 4.1 and table 1) in plain torch.

This file imports nothing but torch: copied beside an exported checkpoint it loads that checkpoint without Lacewing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group"]
Stem = Literal["imagenet", "small"]
_GROUPS = 8  # or as many as divide the channels
_EXPANSION = 4


def _norm(channels: int, norm: Norm) -> nn.Module:
    """Batch norm, or group norm (Wu & He 2018), which does not mix the records of a batch."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(math.gcd(channels, _GROUPS), channels)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 (with the stride) and 1x1 to four times ``width`` channels, with a norm each; a shortcut.

    Dropout is before the last convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, dropout: float = 0.0, norm: Norm = "batch") -> None:
        super().__init__()
        outputs = _EXPANSION * width
        self.inplace = norm == "batch"  # what trains with a gradient of each record, as group norm can, keeps them all
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = _norm(width, norm)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = _norm(width, norm)
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = _norm(outputs, norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs, norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, 4 width, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=self.inplace)
        y = self.dropout(F.relu(self.bn2(self.conv2(y)), inplace=self.inplace))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x), inplace=self.inplace)


class BottleneckResNet(nn.Module):
    """A stem, four segments of bottlenecks, global average pooling and a classifier.

    With the default blocks and width, ResNet-50: 25,557,032 parameters at three channels and 1,000 classes. The stride
    of a segment is that of its first 3x3 convolution, as in the common implementations; the paper has it one layer
    before, with the same parameters.

    Args:
        classes: number of outputs.
        channels: channels of the input image.
        width: channels of the stem; the bottlenecks of segment i = 0 to 3 have 2^i times as many.
        blocks: of each segment: (3, 4, 6, 3), (3, 4, 23, 3) and (3, 8, 36, 3) are ResNet-50, -101 and -152.
        stem: "imagenet": a 7x7 convolution of stride 2 and max-pooling, which take a quarter of each side; "small": a
            3x3 convolution of stride 1, for images of some 32 pixels.
        dropout, norm: see `Bottleneck`.
    """

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        stem: Stem = "imagenet",
        dropout: float = 0.0,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        wide = stem == "imagenet"
        self.conv1 = nn.Conv2d(channels, width, *((7, 2, 3) if wide else (3, 1, 1)), bias=False)
        self.bn1 = _norm(width, norm)
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1) if wide else nn.Identity()
        self.inplace = norm == "batch"
        segments, inputs = [], width
        for index, count in enumerate(blocks):
            layers = []
            for place in range(count):
                stride = 2 if index and not place else 1
                layers.append(Bottleneck(inputs, width << index, stride, dropout, norm))
                inputs = _EXPANSION * (width << index)
            segments.append(nn.Sequential(*layers))
        self.segments = nn.Sequential(*segments)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=self.inplace))
        x = self.segments(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]
