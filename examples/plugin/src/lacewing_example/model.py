"""A model: a convolutional network of two layers."""

from torch import nn


def small_cnn(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two convolutions of 8 and 16 channels with batch norm, the mean over all places, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )
