"""What can be rebuilt of training records from a network's weights, beside what a prior alone gives."""

from lacewing.reconstruction._beside import Beside, Judged, beside
from lacewing.reconstruction._informed import (
    GRADIENT,
    Rebuilt,
    Solved,
    magnitude_mask,
    missing_record,
    softmax_regression,
)
from lacewing.reconstruction._inversion import invert_class
from lacewing.reconstruction._last_layer import (
    LAST_GATE,
    LastLayer,
    Stationary,
    features,
    invert_features,
    last_layer,
    stationary,
)
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
from lacewing.reconstruction._two_layers import two_layers

__all__ = [
    "GATE",
    "GRADIENT",
    "LAST_GATE",
    "Beside",
    "Judged",
    "LastLayer",
    "Network",
    "Rebuilt",
    "Solved",
    "Stationary",
    "answer",
    "beside",
    "features",
    "first_layer",
    "invert_class",
    "invert_features",
    "last_layer",
    "magnitude_mask",
    "missing_record",
    "reconstruct",
    "residual",
    "row_space",
    "similarity",
    "softmax_regression",
    "stationary",
    "train",
    "two_layers",
]
