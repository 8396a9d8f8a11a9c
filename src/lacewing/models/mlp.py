"""A multi-layer perceptron for tabular records, in plain torch: like resnet.py, usable without Lacewing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(inputs: int, classes: int, hidden: Sequence[int] = (256, 256)) -> nn.Sequential:
    """Flatten, then linear layers with ReLU between them: (N, ...) with ``inputs`` values a record to (N, classes)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for outputs in hidden:
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
