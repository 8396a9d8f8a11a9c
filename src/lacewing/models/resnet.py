"""ResNets for small images (He et al. 2016, section 4.2) with 1x1-convolution shortcuts, in plain torch.

This file imports nothing but torch: copied beside an exported checkpoint it loads that checkpoint without Lacewing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut; the shortcut is 1x1 convolution + BN where shapes change.

    Dropout is between the two convolutions (Zagoruyko & Komodakis 2016, section 2.4).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y = self.dropout(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """A ResNet of ``depth = 6 n + 2`` layers: stem, three segments of n blocks, global average pooling, classifier.

    Depth 20, width 16, three channels and ten classes have 272,474 parameters.

    Args:
        depth: 8, 14, 20, 32, 44, 56, ...
        classes: number of outputs.
        channels: channels of the input image.
        width: channels of the first segment; the second and third have twice and four times as many.
        dropout: of every block, see `Block`.
    """

    def __init__(
        self, depth: int = 20, classes: int = 10, channels: int = 3, width: int = 16, dropout: float = 0.0
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth {depth} is not 6 n + 2 with n at least 1")
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        segments, inputs = [], width
        for index in range(3):
            outputs = width << index
            strides = [1 if index == 0 else 2] + [1] * (blocks - 1)
            segments.append(
                nn.Sequential(
                    *(Block(inputs if i == 0 else outputs, outputs, s, dropout) for i, s in enumerate(strides))
                )
            )
            inputs = outputs
        self.segments = nn.Sequential(*segments)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.segments(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]
