"""A bound on an error rate that holds at every threshold at once, so that the threshold may be chosen from the data."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.metrics._checks import Floats

_TAIL = 7.0  # standard deviations: what lies beyond is dropped, on the safe side (below 1e-9 at n = 1,000,000)
_SMALL = 1 << 12  # records from which on smaller bands give the first guess
_SLOPE = 0.87  # of log(-log P) along the log of the local level, roughly, where no smaller band tells it


def simultaneous_upper(n: int, level: float) -> Floats:
    """Upper bounds (n + 1) on a rate of which n records showed k = 0..n, all valid at once with probability ``level``.

    The rate belongs to a threshold, and the bounds hold for all thresholds together. Each is Clopper and Pearson's
    one-sided bound at one common local level, the largest for which they hold jointly (equal local levels: Berk and
    Jones, 1979; Aldor-Noiman et al., The American Statistician 67, 2013), computed exactly and not simulated: with
    U_(i) the i-th of n sorted uniforms, a rate with k records above its threshold is below U_(k+1), and
    P(U_(k+1) <= bound of k, for all k) is found by stepping through the counts. Counts between those of a fine grid
    (every count where n is below some hundreds) take the bound of the next one, which is conservative.
    """
    grid, bound = _band(n, level)
    return np.append(bound, 1.0)[np.searchsorted(grid, np.arange(n + 1))]


@lru_cache(maxsize=64)
def _band(n: int, level: float) -> tuple[npt.NDArray[np.int64], Floats]:
    grid = _grid(n)
    bound = _bounds(n, grid, math.exp(_local(n, level).chosen))
    grid.setflags(write=False)
    bound.setflags(write=False)
    return grid, bound


class _Local(NamedTuple):
    """Logs of the local level for n records."""

    chosen: float  # at it the band holds, at 1e-3 above it no more
    root: float  # where the probability is the wanted one, as predicted from the last evaluation
    slope: float  # there, of log(-log P) along the log of the local level


@lru_cache(maxsize=64)
def _local(n: int, level: float) -> _Local:
    """What bisection to 1e-3 finds, by few evaluations: the secant method says in which of its last intervals to look.

    log(-log P) is nearly a line in the log of the local level, and its root is nearly a line in log log n: bands of 16
    and 256 times fewer records, which cost little, give a first guess. Whatever the guess is, the lower end of an
    interval is returned only where the band was found to hold there; at the first one, Bonferroni's, it always does.
    """
    grid = _grid(n)
    # Bonferroni's local level is valid and 1 - level is too large: the exact one lies between.
    low, high = math.log((1.0 - level) / len(grid)), math.log(1.0 - level)
    guess, slope = (3 * low + high) / 4, _SLOPE
    if n >= _SMALL:
        near, far = _local(n // 16, level), _local(n // 256, level)
        times = [math.log(math.log(size)) for size in (n // 256, n // 16, n)]
        guess = near.root + (near.root - far.root) * (times[2] - times[1]) / (times[1] - times[0])
        slope = near.slope
    holds, fails, last = -math.inf, high, None
    while True:
        at = _last_interval(low, high, min(max(guess, holds), math.nextafter(fails, -math.inf)))
        if at == holds:
            return _Local(at, guess, slope)
        p = _holds(n, grid, _bounds(n, grid, math.exp(at)))
        height = math.log(-math.log(min(max(p, 1e-300), 1 - 1e-15))) - math.log(-math.log(level))
        if last is not None and (height - last[1]) / (at - last[0]) > 0:
            slope = (height - last[1]) / (at - last[0])
        last = (at, height)
        holds, fails = (at, fails) if p >= level or at == low else (holds, at)
        guess = at - height / slope


def _last_interval(low: float, high: float, root: float) -> float:
    """The lower end of the interval, at most 1e-3 wide, in which bisection from (low, high) ends for this root."""
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if middle <= root else (low, middle)
    return low


def _grid(n: int) -> npt.NDArray[np.int64]:
    """Counts 0..n-1, half a binomial standard deviation apart where that is more than 1."""
    counts = [0]
    while (k := counts[-1]) < n - 1:
        counts.append(min(k + max(1, int(0.5 * math.sqrt(k * (n - k) / n))), n - 1))
    return np.array(counts, np.int64)


def _bounds(n: int, grid: npt.NDArray[np.int64], local: float) -> Floats:
    from scipy.special import betainccinv

    bound: Floats = betainccinv(grid + 1.0, n - grid + 0.0, local)
    return bound


def _holds(n: int, grid: npt.NDArray[np.int64], bound_J: Floats) -> float:
    """P(U_(k+1) <= bound of k for all k of the grid), that is P(more than k of n uniforms below bound, for all k).

    The counts below rising bounds are a Poisson process given that it ends at n (Moscovich and Nadler, Statistics and
    Probability Letters 123, 2017); counts that the process given its end does not visit are cut off.
    """
    from scipy.special import gammaln

    def poisson(mean: float, first: int, last: int) -> Floats:
        k = np.arange(first, last + 1)
        log: Floats = k * math.log(mean) - mean - gammaln(k + 1.0)
        return np.exp(log)

    start, mass, before = 0, np.ones(1), 0.0  # mass[i]: P(count = start + i, no bound crossed)
    for k, bound in zip(grid, bound_J, strict=True):
        mean = n * (bound - before)
        reach = _TAIL * math.sqrt(mean) + _TAIL**2 / 2
        first = max(0, int(mean - reach))
        mass = np.convolve(mass, poisson(mean, first, int(mean + reach)))
        start += first
        spread = _TAIL * math.sqrt(n * bound * (1.0 - bound)) + _TAIL**2 / 2
        low = max(int(k) + 1, int(n * bound - spread), start)
        high = min(n, int(n * bound + spread))
        mass, start, before = mass[low - start : high + 1 - start], low, bound
    left = n - (start + np.arange(len(mass)))
    ends = np.exp(left * math.log(n * (1.0 - before)) - n * (1.0 - before) - gammaln(left + 1.0))
    return float(mass @ ends) / float(poisson(float(n), n, n)[0])
