"""Exact binomial intervals and the bootstrap that many metrics share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics._checks import Floats, check_confidence


def clopper_pearson(k: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial share, k successes in n trials (Clopper and Pearson, Biometrika 26, 1934).

    Low is the alpha/2 quantile of Beta(k, n-k+1), high the 1-alpha/2 quantile of Beta(k+1, n-k); 0 and 1 at the ends.
    Raises `UsageError` unless n >= 1, 0 <= k <= n and 0 < confidence < 1.
    """
    if n < 1 or not 0 <= k <= n:
        raise UsageError(f"k = {k} of n = {n} is no binomial share: give 0 <= k <= n with n at least 1.")
    return beta_interval(k, n, confidence)


def resampled_means(columns_NJ: npt.ArrayLike, resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap: the column means (B, J) of 0/1 columns over B draws of N rows with replacement.

    A draw takes the same rows for all columns (paired). Memory stays below some 50 MB whatever B and N. Sums of whole
    numbers are exact in any order, so equal generators give equal bytes.
    """
    columns = np.asarray(columns_NJ, np.float64)
    n = len(columns)
    means = []
    for start in range(0, resamples, chunk := max(1, 1_000_000 // n)):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        count_BN = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        means.append(count_BN @ columns / n)
    return np.concatenate(means)


def beta_interval(k: float, n: int, confidence: float) -> tuple[float, float]:
    from scipy.special import betainccinv, betaincinv  # far lighter to load than scipy.stats

    check_confidence(confidence)
    tail = (1.0 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betainccinv(k + 1, n - k, tail)) if k < n else 1.0
    return low, high
