"""EfficientNets (Tan & Le 2019, table 1 and section 3.3) in plain torch, without stochastic depth.

This file imports nothing but torch: copied beside an exported checkpoint it loads that checkpoint without Lacewing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stem = Literal["imagenet", "small"]
# Of EfficientNet-B0, by segment: expansion, kernel, stride, channels, blocks.
_B0 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _HEAD = 32, 1280


def _channels(channels: int, width: float) -> int:
    """Scaled channels: the nearest multiple of 8, and no less than 90 % of what was asked for (authors' code)."""
    asked = channels * width
    found = max(8, int(asked + 4) // 8 * 8)
    return found if found >= 0.9 * asked else found + 8


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Squeeze(nn.Module):
    """Channels multiplied by what two 1x1 convolutions make of their means (Hu et al. 2018, section 3)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        share: Tensor = self.fc2(F.silu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        return x * share.sigmoid()


class MBConv(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018): 1x1 to more channels, depthwise, squeeze, 1x1; a shortcut."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1 and inputs == outputs
        wide = inputs * expansion
        layers = [] if expansion == 1 else [*_convolution(inputs, wide, 1), nn.SiLU()]
        layers += [*_convolution(wide, wide, kernel, stride, groups=wide), nn.SiLU()]
        layers += [Squeeze(wide, max(1, inputs // 4)), *_convolution(wide, outputs, 1)]
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y: Tensor = self.block(x)
        return x + y if self.adds else y


class EfficientNet(nn.Module):
    """A stem, seven segments of `MBConv`, a 1x1 convolution, global average pooling and a classifier.

    Width 1 and depth 1 are EfficientNet-B0: 5,288,548 parameters at three channels and 1,000 classes.

    Args:
        classes: number of outputs.
        channels: channels of the input image.
        width: factor of all channels: 1.0 of B1, 1.1 of B2, 1.2 of B3.
        depth: factor of the blocks of each segment, rounded up: 1.1 of B1, 1.2 of B2, 1.4 of B3.
        stem: "imagenet": the first convolution has stride 2; "small": 1, for images of some 32 pixels.
        dropout: before the classifier.
    """

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        width: float = 1.0,
        depth: float = 1.0,
        stem: Stem = "imagenet",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inputs = _channels(_STEM, width)
        self.stem = nn.Sequential(*_convolution(channels, inputs, 3, 2 if stem == "imagenet" else 1), nn.SiLU())
        segments = []
        for expansion, kernel, stride, of_b0, blocks in _B0:
            layers, outputs = [], _channels(of_b0, width)
            for place in range(math.ceil(blocks * depth)):
                layers.append(MBConv(inputs, outputs, expansion, kernel, 1 if place else stride))
                inputs = outputs
            segments.append(nn.Sequential(*layers))
        self.segments = nn.Sequential(*segments)
        last = _channels(_HEAD, width)
        self.last = nn.Sequential(*_convolution(inputs, last, 1), nn.SiLU())
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        x = self.last(self.segments(self.stem(x)))
        return self.fc(self.dropout(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))  # type: ignore[no-any-return]
