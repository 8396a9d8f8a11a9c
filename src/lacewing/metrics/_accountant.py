"""What differential privacy DP-SGD gives: an upper bound on epsilon from noise, sampling rate and number of steps.

The opposite of the lower bounds in `lacewing.metrics._epsilon`, which the scores of an attack give.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError

MOST_NOISE = 1e3  # noise multiplier: under more, nothing is learnt
LEAST_NOISE = 1e-3  # under less, epsilon exceeds 10^5
_ORDERS = (1.01, 1.02, 1.05, *(1 + i / 10 for i in range(1, 100)), *range(11, 64), 80, 96, 128, 192, 256, 512, 1024)
_REACH, _STEP = 12.0, 1 / 8  # of the nodes of an integral, in standard deviations of the noise
_MOST_NODES = 20_000


def renyi_sampled_gaussian(rate: float, noise: float, order: float) -> float:
    """Renyi divergence of a step of DP-SGD: the sampled Gaussian mechanism (Mironov, Talwar, Zhang 2019, section 3.3).

    With z drawn from a normal distribution of mean 0 and standard deviation ``noise``:
    log E[((1 - rate) + rate exp((2 z - 1) / (2 noise^2)))^order] / (order - 1), by the trapezoidal rule, whose error on
    such integrands is below rounding.

    Args:
        rate: the probability with which a step takes a record, above 0, at most 1 (Poisson sampling).
        noise: standard deviation of the noise over the clipping norm, above 0.
        order: of the divergence, above 1.
    """
    from scipy.special import logsumexp

    if rate == 1:
        return order / (2 * noise**2)
    step, reach = _STEP * noise, _REACH * noise
    if (order + 2 * reach) / step <= _MOST_NODES:
        z = np.arange(-reach, order + reach, step)
    else:  # of little noise: two peaks far apart, and nothing between them
        window = np.arange(-reach, reach, step)
        z = np.concatenate([window, order + window])
    log_ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * noise**2))
    log_density = -(z**2) / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))
    moment = float(logsumexp(log_density + order * log_ratio)) + math.log(step)
    return max(moment, 0.0) / (order - 1)


@functools.cache
def dp_epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """The epsilon of (epsilon, delta)-differential privacy after ``steps`` steps of DP-SGD; infinite without noise.

    Neighbouring data sets differ by one record that is added or removed. Divergences of steps add up, and the best
    order is converted by Balle et al. 2020 (arXiv 1905.09982, theorem 21), as Opacus' RDP accountant does; it has the
    orders of 1.1 to 63, and here there are some more at both ends.

    Args:
        noise: standard deviation of the noise over the clipping norm, at least 0.
        rate: the probability with which a step takes a record, above 0, at most 1.
        steps: number of steps.
        delta: above 0, below 1.
    """
    if noise == 0:
        return math.inf
    orders = np.array(_ORDERS)
    spent: npt.NDArray[np.float64] = steps * np.array([renyi_sampled_gaussian(rate, noise, a) for a in _ORDERS])
    found = spent - (math.log(delta) + np.log(orders)) / (orders - 1) + np.log1p(-1 / orders)
    return max(float(found.min()), 0.0)


def dp_replaced(epsilon: float, delta: float) -> tuple[float, float]:
    """Epsilon and delta for data sets in which one record is replaced, from those for one that is added or removed.

    A replacement is a removal and an addition: (2 epsilon, (1 + e^epsilon) delta), by the definition twice (group
    privacy; for delta = 0 theorem 2.2 of Dwork and Roth 2014).
    """
    return 2 * epsilon, 1.0 if epsilon > 700 else min(1.0, (1 + math.exp(epsilon)) * delta)


def most_tpr(epsilon: float, delta: float, fpr: float) -> float:
    """The largest true positive rate that (epsilon, delta)-differential privacy allows an attack at ``fpr``.

    TPR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon (1 - TPR) + delta (Kairouz, Oh, Viswanath, ICML 2015).
    """
    near_one = 1 - math.exp(-epsilon) * (1 - delta - fpr)
    return near_one if epsilon > 700 else min(1.0, math.exp(epsilon) * fpr + delta, near_one)


def rounded_up(value: float, digits: int) -> float:
    """An upper bound with so many significant digits: ``value`` or a little more."""
    if not (math.isfinite(value) and value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    found = float(f"{math.ceil(value / unit) * unit:.{digits}g}")
    return found if found >= value else float(f"{found + unit:.{digits}g}")


@functools.cache
def dp_noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least noise multiplier of four digits with which `dp_epsilon` is at most ``epsilon``.

    Raises:
        UsageError: none of at most `MOST_NOISE` does; the sentence goes on from the name of the field.
    """

    from scipy.optimize import brentq

    def excess(log_noise: float) -> float:
        return dp_epsilon(math.exp(log_noise), rate, steps, delta) - epsilon

    least, most = math.log(LEAST_NOISE), math.log(MOST_NOISE)
    if excess(most) > 0:
        raise UsageError(
            f"epsilon = {epsilon:g} at delta = {delta:g} cannot be met in {steps:,} steps that take each record with a "
            f"probability of {rate:.3g}: a noise multiplier of {MOST_NOISE:,.0f}, under which nothing is learnt, gives "
            f"{epsilon + excess(most):.3g}; raise epsilon, or train fewer epochs."
        )
    if excess(least) <= 0:
        return math.exp(least)
    found = math.exp(float(brentq(excess, least, most, xtol=1e-6)))
    rounded = rounded_up(found, 4)
    met = dp_epsilon(rounded, rate, steps, delta) <= epsilon
    return rounded if met else rounded_up(math.nextafter(rounded, math.inf), 4)
