"""Means and ratios over seeds, and what so many seeds can tell: against scipy, closed forms and simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.errors import UsageError
from lacewing.metrics import detectable, mean_over_seeds, p_of_mean, ratio_of_means, seeds_to_detect

finite = st.floats(-10, 10, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=2, max_size=12))
def test_mean_and_p_are_those_of_scipy(values):
    if np.std(values) < 1e-6:
        return
    found, oracle = mean_over_seeds(values), scipy.stats.ttest_1samp(values, 0)
    assert found.value == pytest.approx(np.mean(values))
    assert found[1:] == pytest.approx(tuple(oracle.confidence_interval()), rel=1e-6, abs=1e-9)
    assert p_of_mean(values) == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)


def test_one_seed_has_no_interval():
    assert mean_over_seeds([0.5]) is None
    assert p_of_mean([0.5]) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=9))
def test_fiellers_set_holds_exactly_the_ratios_that_a_t_test_does_not_reject(pairs):
    gains, losses = np.array(pairs).T
    if min(np.std(gains), np.std(losses)) < 1e-3 or abs(losses.mean()) < 1e-3:
        return
    found = ratio_of_means(gains, losses)
    grid = np.linspace(-60, 60, 241) + 0.01234
    p = np.array([scipy.stats.ttest_1samp(gains - r * losses, 0).pvalue for r in grid])
    if np.abs(p - 0.05).min() < 1e-4:
        return
    accepted = p > 0.05
    if losses.mean() <= 0:
        assert found == (None, None, None)
    elif found.bounded:
        assert np.array_equal(accepted, (grid >= found.low) & (grid <= found.high))
    elif found.low is not None:  # the set is the outside of an interval around 0: its positive part begins here
        assert accepted[grid >= found.low].all()
        assert scipy.stats.ttest_1samp(gains, 0).pvalue < 0.05
        just_below = grid[(grid < found.low) & (grid > 0)]
        if len(just_below):
            assert not accepted[grid == just_below[-1]].any()
    if found.value is not None:
        assert found.value == pytest.approx(gains.mean() / losses.mean())


def test_a_ratio_has_no_lower_bound_where_0_is_in_its_set():
    """Of studies without a true gain and hardly a loss, far more than 2.5 % would show a slope of "at least"."""
    gains, losses = np.array([0.14, 0.07, 0.0]), np.array([0.05, 0.03, 0.02])
    p = [scipy.stats.ttest_1samp(gains - ratio * losses, 0).pvalue for ratio in (0.0, 2.0, 10.0, 30.0)]
    assert min(p[0], p[1], p[3]) > 0.05 > p[2]  # a set with a gap, and 0 on its near side
    assert ratio_of_means(gains, losses) == pytest.approx((2.1, None, None))
    rng = np.random.default_rng(4)
    gains_RS, losses_RS = 0.04 * rng.standard_normal((2000, 3)), 0.02 + 0.03 * rng.standard_normal((2000, 3))
    found = [ratio_of_means(gain, loss) for gain, loss in zip(gains_RS, losses_RS + gains_RS, strict=True)]
    assert np.mean([ratio.high is None and ratio.low is not None and ratio.low > 0 for ratio in found]) < 0.03


def test_a_ratio_whose_denominator_is_clearly_positive_covers_the_truth_and_is_not_biased():
    """1,500 studies of 5 seeds in the shape of digits-halves, true ratio 6.7: least squares would say 3.7."""
    rng = np.random.default_rng(3)
    gains = 0.067 + 0.02 * rng.standard_normal((1500, 5))
    losses = 0.01 + 0.008 * rng.standard_normal((1500, 5))
    covered = []
    values = []
    for gain, loss in zip(gains, losses, strict=True):
        found = ratio_of_means(gain, loss)
        at_truth = scipy.stats.ttest_1samp(gain - 6.7 * loss, 0).pvalue > 0.05
        inside = at_truth if not found.bounded else found.low <= 6.7 <= found.high
        covered.append(inside)
        values.append(np.nan if found.value is None else found.value)
    assert 0.935 < np.mean(covered) < 0.965
    least_squares = (gains * losses).sum(axis=1) / (losses**2).sum(axis=1)
    assert np.nanmedian(values) == pytest.approx(6.7, rel=0.05)
    assert np.median(least_squares) < 5


@pytest.mark.parametrize(
    ("seeds", "in_sd"), [(3, 3.26), (4, 2.13), (5, 1.68), (8, 1.16), (10, 1.00), (16, 0.75)]
)  # fmt: skip
def test_the_smallest_detectable_difference_is_found_four_times_in_five(seeds, in_sd):
    found = detectable(1.0, seeds)
    assert found.difference == pytest.approx(in_sd, abs=0.005)
    draws = np.random.default_rng(seeds).normal(found.difference, 1, (20_000, seeds))
    power = np.mean(scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert power == pytest.approx(0.8, abs=0.012)
    ends = [found.difference * np.sqrt((seeds - 1) / scipy.stats.chi2.ppf(q, seeds - 1)) for q in (0.975, 0.025)]
    assert (found.low, found.high) == pytest.approx(tuple(ends))


def test_the_seeds_that_tell_half_are_the_fewest_that_do():
    for sd, seeds in ((0.01, 3), (0.02, 5), (1.0, 16)):
        found = detectable(sd, seeds)
        needed = found.seeds_for_half
        assert detectable(sd, needed).difference <= found.difference / 2 < detectable(sd, needed - 1).difference
    assert seeds_to_detect(0.0, 0.1) == 2
    assert seeds_to_detect(0.1, 0.0) is None
    assert seeds_to_detect(1.0, 1e-4) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mean_over_seeds([]),
        lambda: mean_over_seeds([0.1, float("nan")]),
        lambda: mean_over_seeds([[0.1]]),
        lambda: ratio_of_means([0.1, 0.2], [0.1]),
        lambda: ratio_of_means([0.1], [0.1]),
        lambda: detectable(-1.0, 3),
        lambda: detectable(1.0, 1),
        lambda: detectable(1.0, 3, power=0.01),
    ],
)
def test_wrong_values_are_named(wrong):
    with pytest.raises(UsageError):
        wrong()


@settings(max_examples=300)
@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=6))
def test_a_ratio_is_never_below_its_own_lower_end(pairs):
    gains, losses = np.array(pairs).T
    found = ratio_of_means(gains, losses)
    if found.value is not None and found.low is not None:
        assert found.low <= found.value + 1e-9 * max(1, abs(found.value))


@pytest.mark.parametrize("scale", [2.0**-530, 2.0**500])
def test_a_ratio_of_very_small_or_large_losses_is_as_exact_as_of_others(scale):
    gains, losses = np.array([0.3, 0.2, 0.4]), np.array([0.1, 0.12, 0.09])
    expected = ratio_of_means(gains, losses)
    found = ratio_of_means(gains, losses * scale)
    assert found == tuple(value / scale for value in expected)


def test_a_ratio_that_floats_cannot_hold_is_none():
    assert ratio_of_means([0.0, 2.0], [0.0, 2.0**-1023]) == (None, None, None)
    assert ratio_of_means([0.3, 0.2, 0.4], np.array([0.1, 0.12, 0.09]) * 2.0**-1025) == (None, None, None)


def test_a_gain_that_is_not_established_gives_no_lower_end():
    assert ratio_of_means([-0.29, 0.01, 0.313], [-0.09, 0.01, 0.11]).low is None
