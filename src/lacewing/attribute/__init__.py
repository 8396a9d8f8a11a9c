"""Attribute inference: what a network tells of an unknown column of its training records, beside imputation.

Pure functions on arrays. N records, V candidate values of the unknown column, F other features.
"""

from lacewing.attribute._columns import (
    ATTACKS,
    IMPUTATION,
    ODDS,
    Answers,
    Guesses,
    Rows,
    guesses,
    rows,
    values_of,
)
from lacewing.attribute._findings import AttributeFindings, AttributeRow, SeedRow, as_csv, as_json, by_seed, summarised
from lacewing.attribute._guess import by_confidence, by_label, imputation, likeliest
from lacewing.attribute._surplus import Success, compare

VERSION = 1  # in the keys of a study's jobs; raised whenever equal answers would give other guesses

__all__ = [
    "ATTACKS",
    "IMPUTATION",
    "ODDS",
    "VERSION",
    "Answers",
    "AttributeFindings",
    "AttributeRow",
    "Guesses",
    "Rows",
    "SeedRow",
    "Success",
    "as_csv",
    "as_json",
    "by_confidence",
    "by_label",
    "by_seed",
    "compare",
    "guesses",
    "imputation",
    "likeliest",
    "rows",
    "summarised",
    "values_of",
]
