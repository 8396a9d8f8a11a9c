"""Metrics against scipy, scikit-learn, closed forms and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics import Estimate


@st.composite
def labelled_scores(draw):
    """Scores of few distinct values (so ties abound), with both members and non-members."""
    member = [True, False, *draw(st.lists(st.booleans(), max_size=30))]
    scores = draw(st.lists(st.integers(-4, 4), min_size=len(member), max_size=len(member)))
    return np.array(scores) / 3, np.array(member)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 30), (499, 1000), (14999, 15000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975])
def test_clopper_pearson_equals_scipy_exact_interval(k, n, confidence):
    oracle = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    assert metrics.clopper_pearson(k, n, confidence) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_clopper_pearson_closed_forms_at_the_ends():
    low, high = metrics.clopper_pearson(0, 20)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert metrics.clopper_pearson(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


@given(labelled_scores())
def test_roc_equals_scikit_learn(data):
    fpr, tpr = metrics.roc(*data)
    oracle_fpr, oracle_tpr, _ = roc_curve(data[1], data[0], drop_intermediate=False)
    np.testing.assert_array_equal(fpr, oracle_fpr)
    np.testing.assert_array_equal(tpr, oracle_tpr)


@given(labelled_scores())
def test_auc_equals_scikit_learn_and_lies_in_its_finite_interval(data):
    value, low, high = metrics.auc(*data)
    assert value == pytest.approx(roc_auc_score(data[1], data[0]), abs=1e-12)
    assert 0 <= low <= value <= high <= 1
    assert high > low


def test_auc_interval_is_delongs_by_brute_force():
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(0.7, 1, 23), 1), np.round(rng.normal(0, 1, 31), 1)  # rounded: ties
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    variance = wins.mean(axis=1).var(ddof=1) / 23 + wins.mean(axis=0).var(ddof=1) / 31
    value = wins.mean()
    half = stats.norm.ppf(0.975) * math.sqrt(variance) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    expected = [value, 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))]
    found = metrics.auc(np.concatenate([x, y]), np.arange(54) < 23)
    assert found == pytest.approx(expected, abs=1e-12)


def test_auc_interval_covers_the_true_auc_at_about_the_nominal_rate():
    rng = np.random.default_rng(1)
    true = stats.norm.cdf(1 / math.sqrt(2))
    member = np.arange(120) < 60
    found = [metrics.auc(rng.normal(member, 1), member) for _ in range(600)]
    assert 0.925 <= np.mean([e.low <= true <= e.high for e in found]) <= 0.98


def test_auc_of_perfect_separation_has_the_interval_of_independent_pairs():
    member = np.arange(30) < 12
    assert metrics.auc(member, member) == (1.0, pytest.approx(0.025 ** (1 / 12)), 1.0)
    assert metrics.auc(~member, member) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 12)))


@given(labelled_scores())
def test_balanced_accuracy_equals_scikit_learn_and_joins_the_exact_intervals_of_both_rates(data):
    scores, member = data
    decision = scores > 0
    found = metrics.balanced_accuracy(decision, member)
    assert found.value == pytest.approx(balanced_accuracy_score(member, decision), abs=1e-12)
    rates = [(int(right.sum()), len(right)) for right in (decision[member], ~decision[~member])]
    ends = [stats.binomtest(*rate).proportion_ci(0.95, method="exact") for rate in rates]
    below = math.sqrt(sum((k / n - end.low) ** 2 for (k, n), end in zip(rates, ends, strict=True))) / 2
    above = math.sqrt(sum((end.high - k / n) ** 2 for (k, n), end in zip(rates, ends, strict=True))) / 2
    assert found.low == pytest.approx(found.value - below, abs=1e-12)
    assert found.high == pytest.approx(found.value + above, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("p", [(0.5, 0.5), (0.6, 0.55), (0.9, 0.4), (0.97, 0.6)])
def test_balanced_accuracy_covers_hardly_more_than_it_promises_by_enumeration(p):
    """Every outcome of 60 members and 50 non-members with its exact probability: no simulation."""
    sizes, weights = (60, 50), []
    for n, rate in zip(sizes, p, strict=True):
        weights.append(stats.binom.pmf(np.arange(n + 1), n, rate))
    member, truth, covered = np.arange(110) < 60, sum(p) / 2, 0.0
    for x in np.flatnonzero(weights[0] > 1e-6):
        for y in np.flatnonzero(weights[1] > 1e-6):
            decision = np.concatenate([np.arange(60) < x, np.arange(50) >= y])
            found = metrics.balanced_accuracy(decision, member)
            covered += weights[0][x] * weights[1][y] * (found.low <= truth <= found.high)
    assert 0.945 <= covered <= 0.98


def test_guessing_has_one_half_inside_its_interval_at_the_nominal_rate_or_more():
    rng = np.random.default_rng(2)
    member = np.arange(160) < 80
    guesses = [rng.random(160) for _ in range(600)]
    accuracy = [metrics.balanced_accuracy(g > 0.5, member) for g in guesses]
    assert 0.935 <= np.mean([e.low <= 0.5 <= e.high for e in accuracy]) <= 0.985
    area = [metrics.auc(g, member) for g in guesses]
    assert 0.925 <= np.mean([e.low <= 0.5 <= e.high for e in area]) <= 0.98


@given(labelled_scores())
def test_oracle_threshold_is_the_brute_force_maximum(data):
    scores, member = data
    best = max(balanced_accuracy_score(member, scores >= t) for t in [*np.unique(scores), np.inf])
    found = metrics.best_threshold_accuracy(scores, member)
    assert found.value == pytest.approx(best, abs=1e-12)
    assert 0.5 <= found.low <= found.value <= found.high <= 1


def test_oracle_threshold_exceeds_one_half_on_noise_but_its_interval_holds_it():
    rng = np.random.default_rng(3)
    member = np.arange(200) < 100
    found = [metrics.best_threshold_accuracy(rng.random(200), member) for _ in range(200)]
    assert np.mean([e.value for e in found]) > 0.53
    assert np.mean([e.low <= 0.5 for e in found]) >= 0.95


def test_resampled_means_are_paired_exact_and_have_the_bootstrap_variance():
    rng = np.random.default_rng(4)
    column = rng.random(50) < 0.3
    means = metrics.resampled_means(np.stack([column, ~column], axis=1), 60_000, rng)
    assert means.shape == (60_000, 2)
    np.testing.assert_allclose(means.sum(axis=1), 1.0, rtol=1e-12)  # the same rows for both columns
    assert means[:, 0].mean() == pytest.approx(column.mean(), abs=0.002)
    assert means[:, 0].var() == pytest.approx(column.var() / 50, rel=0.03)


def test_defence_flips_the_interval_and_advantage_keeps_it():
    accuracy = Estimate(0.7, 0.6, 0.75)
    assert metrics.defence(accuracy) == pytest.approx((0.6, 0.5, 0.8))
    assert metrics.advantage(accuracy) == pytest.approx((0.4, 0.2, 0.5))


def test_an_estimate_is_quoted_with_its_interval_and_no_negative_zero():
    estimate = Estimate(0.71249, -0.0001, 0.9)
    assert estimate.text() == "0.712 [-0.000, 0.900]"
    assert estimate.text(".3g") == "0.712 [-0.0001, 0.9]"
    assert estimate.text("+z.3f") == "+0.712 [+0.000, +0.900]"
    assert estimate.text(".1f", percent=True) == "71.2 % [-0.0, 90.0]"


@pytest.mark.parametrize(("fpr", "n", "enough"), [(0.01, 100, True), (0.01, 99, False), (0.001, 1000, True)])
def test_a_rate_needs_one_non_member_in_a_hundred_or_a_thousand(fpr, n, enough):
    assert metrics.resolves(fpr, n) == enough  # whatever 0.001 * 1000 is in floating point
    found = metrics.summary(np.arange(n + 1.0), np.arange(n + 1) == 0, fprs=(fpr,))
    assert (found[f"tpr_at_fpr_{fpr:g}"] is not None) == enough


def test_the_summary_has_every_metric_of_the_table_and_none_for_what_is_not_allowed():
    rng = np.random.default_rng(5)
    member = np.arange(1400) < 500
    scores = rng.normal(member, 1)
    found = metrics.summary(scores, member, scores > 0.5)
    accuracy = metrics.balanced_accuracy(scores > 0.5, member)
    assert found == {
        "balanced_accuracy": accuracy,
        "auc": metrics.auc(scores, member),
        "tpr_at_fpr_0.01": metrics.tpr_at_fpr(scores, member, 0.01),
        "tpr_at_fpr_0.001": None,  # 900 non-members
        "defence": metrics.defence(accuracy),
        "advantage": metrics.advantage(accuracy),
        "oracle_balanced_accuracy": metrics.best_threshold_accuracy(scores, member),
        "realised_fpr_0.01": metrics.realised_fpr(scores, member, 0.01),
        "realised_fpr_0.001": None,
    }
    undecided = metrics.summary(scores, member, fprs=(0.1,))
    assert {name for name, value in undecided.items() if value is None} == {"balanced_accuracy", "defence", "advantage"}


@pytest.mark.parametrize(
    ("scores", "member", "field"),
    [
        ([0.1, np.nan], [1, 0], "scores"),
        ([0.1, np.inf], [1, 0], "scores"),
        ([0.1, 0.2, 0.3], [1, 0], "equal length"),
        ([[0.1], [0.2]], [[1], [0]], "equal length"),
        ([0.1, 0.2], [1, 1], "members and non-members"),
        ([0.1, 0.2], [0, 0], "members and non-members"),
        ([0.1, 0.2], [1, 2], "member"),
    ],
)
def test_bad_input_is_named(scores, member, field):
    for function in (metrics.roc, metrics.auc, metrics.best_threshold_accuracy):
        with pytest.raises(UsageError, match=field):
            function(scores, member)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_shares_are_refused(k, n):
    with pytest.raises(UsageError, match="binomial"):
        metrics.clopper_pearson(k, n)
