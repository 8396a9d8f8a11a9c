"""Why networks leak: what each network does to its records' log-odds, and which quantity predicts its leak.

A description over the networks of a study, never a test: recipes are not drawn at random, and quantities are measured,
not set. Everything here is a pure function of arrays; `lacewing.study` gathers them from a run folder.
"""

from lacewing.mechanism._held_out import FEWEST_FAMILIES, PERMUTATIONS, held_out_r2
from lacewing.mechanism._measure import BINS, LogOdds, Outputs, calibration_error, log_odds, outputs
from lacewing.mechanism._predict import RECIPE, Largest, Predictor, predictors
from lacewing.mechanism._rows import (
    LABELS,
    QUANTITIES,
    Mechanism,
    NetworkRow,
    TemperatureRow,
    as_csv,
    as_json,
    left_out_with,
)
from lacewing.mechanism._temperature import evidence_of, matching_temperature

__all__ = [
    "BINS",
    "FEWEST_FAMILIES",
    "LABELS",
    "PERMUTATIONS",
    "QUANTITIES",
    "RECIPE",
    "Largest",
    "LogOdds",
    "Mechanism",
    "NetworkRow",
    "Outputs",
    "Predictor",
    "TemperatureRow",
    "as_csv",
    "as_json",
    "calibration_error",
    "evidence_of",
    "held_out_r2",
    "left_out_with",
    "log_odds",
    "matching_temperature",
    "outputs",
    "predictors",
]
