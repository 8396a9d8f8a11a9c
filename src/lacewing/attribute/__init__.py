"""Attribute inference: what a network tells of an unknown column of its training records, beside imputation.

Pure functions on arrays. N records, V candidate values of the unknown column, F other features.
"""

from lacewing.attribute._guess import by_confidence, by_label, imputation, likeliest
from lacewing.attribute._surplus import Success, compare

__all__ = ["Success", "by_confidence", "by_label", "compare", "imputation", "likeliest"]
