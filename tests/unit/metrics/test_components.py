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
    assert variance_components([[1.0], [2.0]])[1:] == (None, None, 1, 0)
    one = variance_components([[1.0, 3.0]])
    assert (one.sd_between, one.sd_within, one.df_between, one.df_within) == (None, pytest.approx(2**0.5), 0, 1)
    assert variance_components([[1.0, 2.0], [1.0, 2.0]]).sd_between == 0.0  # below that within: no negative variance


@pytest.mark.parametrize("values", [[], [[1.0], []], [[1.0, float("nan")]], [1.0, 2.0]])
def test_what_is_no_groups_of_numbers_is_refused(values):
    with pytest.raises(UsageError, match="at least one group"):
        variance_components(values)
