"""A multi-layer perceptron for tabular records, in plain torch: like resnet.py, usable without Lacewing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(inputs: int, classes: int, hidden: Sequence[int] = (256, 256), dropout: float = 0.0) -> nn.Sequential:
    """Flatten, then linear layers with ReLU between them: (N, ...) with ``inputs`` values a record to (N, classes).

    ``dropout`` is that of every hidden layer, after its ReLU (Srivastava et al. 2014, section 4). It changes no name of
    a weight.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for outputs in hidden:
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        inputs = outputs
    network = nn.Sequential()
    for place, layer in enumerate([*layers, nn.Linear(inputs, classes)]):
        network.add_module(str(place), layer)
        if dropout and isinstance(layer, nn.ReLU):
            network.add_module(f"{place}-dropout", nn.Dropout(dropout))
    return network
