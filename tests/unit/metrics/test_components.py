"""Variance components against closed forms, an independent computation and simulated truth."""

import numpy as np
import pytest
from scipy import stats

from lacewing.errors import UsageError
from lacewing.metrics import variance_components


def test_equal_groups_have_the_closed_form():
    """Values 1, 3 and 5, 9: means 2 and 7, MSW = (2 + 8)/2, MSB = 2 * 12.5, between (25 - 5)/2."""
    found = variance_components([[1, 3], [5, 9]])
    assert found.mean == 4.5
    assert (found.df_between, found.df_within) == (1, 2)
    assert found.sd_within == pytest.approx(5**0.5)
    assert found.sd_between == pytest.approx(10**0.5)


def test_unequal_groups_have_the_mean_squares_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    groups = [rng.normal(rng.normal(0, 2), 1, size) for size in (2, 5, 3, 4)]
    found = variance_components(groups)
    f = stats.f_oneway(*groups).statistic  # MSB / MSW, by scipy
    sizes = np.array([2, 5, 3, 4])
    n0 = (14 - (sizes**2).sum() / 14) / 3
    within = sum((len(g) - 1) * np.var(g, ddof=1) for g in groups) / 10
    assert found.sd_within**2 == pytest.approx(within)
    assert found.sd_between**2 == pytest.approx((f - 1) * within / n0)


def test_the_estimates_are_right_in_the_mean():
    rng = np.random.default_rng(1)
    between, within = [], []
    for _ in range(2000):
        split = rng.normal(0, 0.3, 8)
        found = variance_components(split[:, None] + rng.normal(0, 0.2, (8, 3)))
        between.append(found.sd_between**2)
        within.append(found.sd_within**2)
    assert np.mean(within) == pytest.approx(0.04, rel=0.03)
    assert np.mean(between) == pytest.approx(0.09, rel=0.05)


def test_what_cannot_be_told_is_none():
    assert variance_components([[1.0], [2.0]])[1:] == (None, None, 1, 0, None)
    one = variance_components([[1.0, 3.0]])
    assert (one.sd_between, one.sd_within, one.df_between, one.df_within) == (None, pytest.approx(2**0.5), 0, 1)
    assert variance_components([[1.0, 2.0], [1.0, 2.0]]).sd_between == 0.0  # below that within: no negative variance


def test_the_variance_between_is_told_before_it_is_cut_and_has_no_bias_where_there_is_none():
    rng = np.random.default_rng(2)
    found = [variance_components(rng.normal(size=(2, 3))) for _ in range(4000)]
    assert np.mean([f.variance_between for f in found]) == pytest.approx(0, abs=0.03)
    assert np.mean([f.sd_between**2 for f in found]) > 0.15
    assert all(f.sd_between**2 == pytest.approx(max(0.0, f.variance_between)) for f in found)


def test_groups_of_one_cut_are_not_compared_and_count_once():
    """Two groups a cut with one mean: half the mean squared difference of cuts is the variance of their means."""
    means = np.array([1.0, 4.0, 6.0])
    groups = [m + np.array([-1.0, 1.0]) for m in means.repeat(2)]
    found = variance_components(groups, cut=[0, 0, 1, 1, 2, 2])
    assert (found.df_between, found.df_within) == (2, 6)
    assert found.sd_within == pytest.approx(2**0.5)
    assert found.variance_between == pytest.approx(means.var(ddof=1) - 2 / 2)
    alone = variance_components(groups, cut=range(6))
    assert alone == pytest.approx(variance_components(groups))  # a cut each: the analysis of variance
    one = variance_components(groups[:2], cut=[5, 5])
    assert (one.sd_between, one.df_between) == (None, 0)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.9])
def test_the_spread_over_cuts_is_right_in_the_mean_however_its_halves_correlate(correlation):
    rng = np.random.default_rng(3)
    halves = np.linalg.cholesky([[1, correlation], [correlation, 1]])
    between = []
    for _ in range(2000):
        split = (rng.normal(0, 0.3, (4, 2)) @ halves.T).ravel()
        values = split[:, None] + rng.normal(0, 0.2, (8, 3))
        between.append(variance_components(values, cut=np.arange(8) // 2).variance_between)
    assert np.mean(between) == pytest.approx(0.09, rel=0.07)


def test_cuts_that_are_not_one_for_each_group_are_refused():
    with pytest.raises(UsageError, match="one number for each of the 2 groups; here are 1"):
        variance_components([[1.0, 2.0], [1.0, 3.0]], cut=[0])


@pytest.mark.parametrize("values", [[], [[1.0], []], [[1.0, float("nan")]], [1.0, 2.0]])
def test_what_is_no_groups_of_numbers_is_refused(values):
    with pytest.raises(UsageError, match="at least one group"):
        variance_components(values)
