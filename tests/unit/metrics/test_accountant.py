"""The accountant of DP-SGD against exact sums, published values, and Opacus where it is installed."""

import math
import re
import warnings

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

from lacewing.errors import UsageError
from lacewing.metrics import dp_epsilon, dp_noise, dp_replaced, most_tpr, renyi_sampled_gaussian, rounded_up
from lacewing.results import Privacy

CASES = [(256 / 60000, 1.1), (64 / 2500, 0.6), (0.01, 1.0), (0.9, 0.2), (0.5, 5.0), (0.3, 40.0), (0.0256, 0.00625)]


def _exact(rate, noise, order):
    """The sum of Mironov, Talwar & Zhang 2019, section 3.3, for whole orders."""
    k = np.arange(order + 1)
    binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms = binomial + k * math.log(rate) + (order - k) * math.log1p(-rate) + (k * k - k) / (2 * noise**2)
    return logsumexp(terms) / (order - 1)


@pytest.mark.parametrize(("rate", "noise"), CASES)
def test_divergences_of_whole_orders_are_the_exact_sums(rate, noise):
    for order in (2, 3, 7, 20, 63, 256):
        assert renyi_sampled_gaussian(rate, noise, order) == pytest.approx(_exact(rate, noise, order), rel=1e-6)


def test_divergences_grow_with_the_order_between_whole_ones():
    found = [renyi_sampled_gaussian(0.01, 0.8, order) for order in np.arange(1.1, 12, 0.3)]
    assert found == sorted(found)


def test_without_sampling_it_is_the_gaussian_mechanism():
    assert renyi_sampled_gaussian(1.0, 2.0, 5.0) == pytest.approx(5 / 8)
    assert renyi_sampled_gaussian(1 - 1e-9, 2.0, 5.0) == pytest.approx(5 / 8, rel=1e-6)


def test_epsilon_is_that_of_opacus():
    """The value in the tests of its RDPAccountant, and two that were computed once with it (version 1.6.0)."""
    assert dp_epsilon(1.5, 0.04, 2250, 1e-5) == pytest.approx(7.32911117143, abs=1e-7)
    assert dp_epsilon(1.1, 256 / 60000, 14_062, 1e-5) == pytest.approx(2.5965558690, rel=1e-8)
    assert dp_epsilon(0.6, 64 / 2500, 1000, 1e-5) == pytest.approx(19.9630471589, rel=1e-8)


@pytest.mark.parametrize(("rate", "noise"), CASES)
def test_epsilon_is_never_above_that_of_opacus(rate, noise):
    """There are more orders here; where the best one is among both, they agree."""
    rdp = pytest.importorskip("opacus.accountants", reason="the extra [dp] is not installed").RDPAccountant()
    rdp.history = [(noise, rate, 1000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an order at the end of its list
        theirs = rdp.get_epsilon(1e-5)
    assert dp_epsilon(noise, rate, 1000, 1e-5) <= theirs * (1 + 1e-9)
    assert dp_epsilon(noise, rate, 1000, 1e-5) > 0.85 * theirs


def test_no_noise_is_no_guarantee():
    assert dp_epsilon(0.0, 0.1, 10, 1e-5) == math.inf


@pytest.mark.parametrize("epsilon", [0.5, 8.0, 300.0])
def test_the_noise_is_the_least_that_meets_a_budget(epsilon):
    noise = dp_noise(epsilon, 1e-5, 64 / 2500, 1200)
    assert dp_epsilon(noise, 64 / 2500, 1200, 1e-5) <= epsilon < dp_epsilon(noise * 0.998, 64 / 2500, 1200, 1e-5)


def test_a_budget_that_no_noise_meets_is_refused():
    with pytest.raises(UsageError, match=r"^epsilon = 0\.001 at delta = 1e-05 cannot be met in 1,200 steps"):
        dp_noise(0.001, 1e-5, 64 / 2500, 1200)


def test_the_largest_tpr_is_that_of_the_best_test():
    """Randomised response with epsilon = log 9 tells one bit: right with .9, so FPR .1 gives TPR .9, and .05 half."""
    assert most_tpr(math.log(9), 0.0, 0.1) == pytest.approx(0.9)
    assert most_tpr(math.log(9), 0.0, 0.05) == pytest.approx(0.45)
    assert most_tpr(math.log(9), 0.0, 0.55) == pytest.approx(0.95)
    assert most_tpr(1e6, 1e-5, 0.01) == 1.0


@pytest.mark.parametrize("noise", [1.5, 2.0, 3.0, 5.0, 8.0])
def test_the_largest_tpr_holds_where_a_record_is_replaced(noise):
    """The best attack on one step over all records: the clipped sums differ by 2, Gaussians of distance 2 / noise."""
    best = norm.cdf(norm.ppf(0.01) + 2 / noise)
    epsilon = dp_epsilon(noise, 1.0, 1, 1e-5)
    assert best <= most_tpr(*dp_replaced(epsilon, 1e-5), 0.01)
    told = re.search("TPR of (?:at most )?([0-9.]+) %", str(Privacy(noise, epsilon, 1e-5)))
    assert told is not None
    assert 100 * best <= float(told[1])


def test_a_replacement_costs_what_two_neighbours_in_a_row_cost():
    """The probability of an event goes from the first data set to the one between them, and from there to the last."""
    epsilon, delta = 0.4, 0.01
    between = 0.1  # of an event on the data set without the record
    most = math.exp(epsilon) * (math.exp(epsilon) * between + delta) + delta
    found = dp_replaced(epsilon, delta)
    assert math.exp(found[0]) * between + found[1] == pytest.approx(most)
    assert dp_replaced(1e6, 1e-5) == (2e6, 1.0)


def test_an_epsilon_that_excludes_nothing_is_said_to_be_too_large():
    assert str(Privacy(1.0, 8.0, 1e-5)).endswith(
        "; it is too large to exclude any attack: at 1 % FPR it allows a TPR of 100 %"
    )
    assert str(Privacy(9.0, 0.5, 1e-5)).endswith("; at 1 % FPR it allows an attack a TPR of at most 2.72 %")


@pytest.mark.parametrize(
    ("value", "digits", "wanted"), [(5861.2, 4, 5862), (8.0, 4, 8), (0.14301, 3, 0.144), (0, 4, 0)]
)
def test_an_upper_bound_is_rounded_up(value, digits, wanted):
    assert rounded_up(value, digits) == wanted
