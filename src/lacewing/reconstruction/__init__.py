"""What can be rebuilt of training records from a network's weights, beside what a prior alone gives."""

from lacewing.reconstruction._informed import (
    GRADIENT,
    Rebuilt,
    Solved,
    magnitude_mask,
    missing_record,
    softmax_regression,
)
from lacewing.reconstruction._inversion import invert_class
from lacewing.reconstruction._layer import first_layer
from lacewing.reconstruction._stationarity import (
    GATE,
    Network,
    answer,
    reconstruct,
    residual,
    row_space,
    similarity,
    train,
)

__all__ = [
    "GATE",
    "GRADIENT",
    "Network",
    "Rebuilt",
    "Solved",
    "answer",
    "first_layer",
    "invert_class",
    "magnitude_mask",
    "missing_record",
    "reconstruct",
    "residual",
    "row_space",
    "similarity",
    "softmax_regression",
    "train",
]
