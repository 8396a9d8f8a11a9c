"""Property inference: which of two shares of a property a network's training records have.

The attacker has networks of its own of both worlds, trained by the same recipe on other records. Everything here is a
pure function of arrays; `lacewing.study` gathers them from a run folder, `lacewing.auditing` from a user's training.
"""

from lacewing.property._attacks import ATTACKS, Inferred, Known, infer, kl_votes, ridge_scores, threshold_scores
from lacewing.property._measure import Measured, measured, n_leaked, permutation_p
from lacewing.property._rows import One, PropertyFindings, PropertyRow, SeedRow, as_csv, as_json, summarised
from lacewing.property._snap import snap_scores
from lacewing.property._statistics import fixed_statistics, mask_statistics, weight_statistics

VERSION = 1  # in the keys of its jobs: raised when an attack is computed differently

__all__ = [
    "ATTACKS",
    "VERSION",
    "Inferred",
    "Known",
    "Measured",
    "One",
    "PropertyFindings",
    "PropertyRow",
    "SeedRow",
    "as_csv",
    "as_json",
    "fixed_statistics",
    "infer",
    "kl_votes",
    "mask_statistics",
    "measured",
    "n_leaked",
    "permutation_p",
    "ridge_scores",
    "snap_scores",
    "summarised",
    "threshold_scores",
    "weight_statistics",
]
