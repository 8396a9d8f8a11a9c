"""Inference over seeds: means, ratios of means, and the smallest difference that a number of seeds can detect.

The seed is the unit of replication. With S seeds every interval here is Student's t with S - 1 degrees of freedom, or,
for a ratio, Fieller's set. Where seeds share a cut of the records, average them first and pass one value per cut.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics._checks import Estimate, Floats, check_confidence

FEWEST_SEEDS = 3  # with fewer there is no verdict
_MOST_SEEDS = 100_000  # that `seeds_to_detect` names


class Ratio(NamedTuple):
    """A ratio of two means with its confidence set; None: the set has no end on that side, or the ratio no value."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def bounded(self) -> bool:
        """Whether the set is an interval with two ends."""
        return self.low is not None and self.high is not None


class Detectable(NamedTuple):
    """What a number of seeds can detect; differences in the units of the values."""

    seeds: int
    difference: float  # detected with the given power, if the spread over seeds is as measured
    low: float  # the same at the ends of the 95 % interval of the spread
    high: float
    seeds_for_half: int | None  # seeds that would detect half of the difference; None: more than 100,000


def mean_over_seeds(values_S: npt.ArrayLike, confidence: float = 0.95) -> Estimate | None:
    """The mean of S values, one per seed, with Student's t interval of S - 1 degrees; None for fewer than two seeds."""
    values = _checked(values_S)
    check_confidence(confidence)
    if len(values) < 2:
        return None
    half = _quantile(confidence, len(values)) * _standard_error(values)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half)


def p_of_mean(values_S: npt.ArrayLike) -> float | None:
    """The two-sided p of a t test that the mean of S values, one per seed, is 0; None for fewer than two seeds."""
    values = _checked(values_S)
    if len(values) < 2:
        return None
    return two_sided_p(float(values.mean()), _standard_error(values), len(values))


def two_sided_p(value: float, standard_error: float, seeds: int) -> float:
    """The two-sided p of ``value`` against 0 by Student's t with ``seeds`` - 1 degrees; 0 where the error is 0."""
    from scipy.special import stdtr

    if standard_error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stdtr(seeds - 1, -abs(value) / standard_error))


def ratio_of_means(numerator_S: npt.ArrayLike, denominator_S: npt.ArrayLike, confidence: float = 0.95) -> Ratio:
    """The mean of S numerators over the mean of S denominators, one pair a seed, with Fieller's set.

    Fieller (JRSS B 16, 1954): all ratios r at which a t test of numerator - r denominator does not reject. The set is
    an interval only where the mean denominator is above 0 beyond its error. Where it is not, the set is the outside
    of an interval or the whole line: then only a lower end is given ("at least"), where the mean numerator is above 0
    beyond its own error. Else the set holds 0 and has no lower end worth giving.
    An interval published only when it is bounded would cover far less than it says.
    A ratio that floats cannot hold (above 1e308) is none, as that of a mean denominator of 0.

    Raises:
        UsageError: lengths differ, values are not finite, or there are fewer than two seeds.
    """
    numerators, denominators = _checked(numerator_S), _checked(denominator_S)
    check_confidence(confidence)
    if len(numerators) != len(denominators) or len(numerators) < 2:
        raise UsageError(
            f"A ratio over seeds needs as many numerators ({len(numerators)}) as denominators ({len(denominators)}), "
            "and at least two."
        )
    # Squares of very small or large values leave the range of floats; a power of two scales without rounding.
    up, down = (int(np.frexp(np.abs(values).max())[1]) for values in (numerators, denominators))
    numerators, denominators = np.ldexp(numerators, -up), np.ldexp(denominators, -down)
    spread = np.cov(numerators, denominators) / len(numerators)
    found = fieller(
        float(numerators.mean()), float(denominators.mean()), spread, critical=_quantile(confidence, len(numerators))
    )
    with np.errstate(over="ignore"):
        scaled = Ratio(*(None if value is None else float(np.ldexp(value, up - down)) for value in found))
    fits = all(value is None or math.isfinite(value) for value in scaled)
    return scaled if fits else Ratio(None, None, None)


def fieller(numerator: float, denominator: float, covariance: Floats, *, critical: float) -> Ratio:
    """Fieller's set of a ratio of two means with the (2, 2) covariance of these means; ``critical`` is the quantile."""
    k = critical**2
    q2 = denominator**2 - k * float(covariance[1, 1])
    q1 = numerator * denominator - k * float(covariance[0, 1])
    q0 = numerator**2 - k * float(covariance[0, 0])
    if denominator <= 0:
        return Ratio(None, None, None)
    value = numerator / denominator
    root = math.sqrt(max(q1 * q1 - q2 * q0, 0.0))
    if q2 > 0:
        return Ratio(value, (q1 - root) / q2, (q1 + root) / q2)
    if q2 < 0 and q0 > 0 and numerator > 0:  # 0 is in the gap of the set, so that the value lies in its upper part
        return Ratio(value, max((q1 - root) / q2, (q1 + root) / q2), None)
    return Ratio(value, None, None)


def detectable(sd: float, seeds: int, power: float = 0.8, alpha: float = 0.05) -> Detectable:
    """The smallest mean difference that a two-sided t test over ``seeds`` seeds finds with ``power``.

    Args:
        sd: standard deviation over seeds of the values whose mean is tested, S - 1 in the denominator.
        seeds: S, at least 2.
        power: the share of studies that would find it.
        alpha: level of the test.

    lambda sd/sqrt(S), lambda the noncentrality at which the noncentral t exceeds the critical value with probability
    ``power``. The range takes the ends of the 95 % interval of the standard deviation (chi-squared, S - 1 degrees).
    """
    from scipy.special import chdtri

    if seeds < 2 or not (sd >= 0 and math.isfinite(sd)) or not 0 < alpha < power < 1:
        raise UsageError(
            f"sd = {sd}, seeds = {seeds}, power = {power}, alpha = {alpha}: give sd >= 0, seeds >= 2 and "
            "0 < alpha < power < 1."
        )
    difference = _noncentrality(seeds, power, alpha) * sd / math.sqrt(seeds)
    df = seeds - 1
    low, high = (difference * math.sqrt(df / float(chdtri(df, tail))) for tail in (0.025, 0.975))
    return Detectable(seeds, difference, low, high, seeds_to_detect(sd, difference / 2, power, alpha))


def seeds_to_detect(sd: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The fewest seeds with which `detectable` is at most ``difference``; None for more than 100,000."""
    if sd == 0:
        return 2
    if difference <= 0:
        return None

    def tells(seeds: int) -> bool:
        return _noncentrality(seeds, power, alpha) * sd / math.sqrt(seeds) <= difference

    low, high = 1, 2
    while not tells(high):
        low, high = high, 2 * high
        if high > _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tells(middle) else (middle, high)
    return high


@lru_cache(maxsize=1024)  # thousands of comparisons have the same few numbers of seeds
def _noncentrality(seeds: int, power: float, alpha: float) -> float:
    """lambda with P(T' > t(1 - alpha/2)) = power, T' noncentral t of ``seeds`` - 1 degrees."""
    from scipy.special import nctdtr

    df = seeds - 1
    critical = _quantile(1 - alpha, seeds)
    low, high = 0.0, 1.0
    while 1 - float(nctdtr(df, high, critical)) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - float(nctdtr(df, middle, critical)) < power else (low, middle)
    return high


def _quantile(confidence: float, seeds: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 0.5 + confidence / 2))


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _checked(values_S: npt.ArrayLike) -> Floats:
    values = np.asarray(values_S, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UsageError("Values over seeds must be finite numbers, one per seed and at least one.")
    return values
