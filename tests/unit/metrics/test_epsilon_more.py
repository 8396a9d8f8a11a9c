"""The other bounds on epsilon: against brute force, linear programs, and mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics import _epsilon_more
from lacewing.metrics._band import simultaneous_upper

NORMAL = stats.norm


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact epsilon of telling N(mu, 1) from N(0, 1) at delta (Balle and Wang, ICML 2018, theorem 8)."""

    def excess(eps: float) -> float:
        return NORMAL.cdf(mu / 2 - eps / mu) - math.exp(eps) * NORMAL.cdf(-mu / 2 - eps / mu) - delta

    return 0.0 if excess(0.0) <= 0 else optimize.brentq(excess, 0.0, 100.0)


def randomised_response(eps: float, member, runs: int, seed: int):
    truth = 1 / (1 + math.exp(-eps))
    return np.random.default_rng(seed).random((runs, len(member))) < np.where(member, truth, 1 - truth)


# ------------------------------------------------------------------------------------------------------- Gaussian-DP


@pytest.mark.parametrize(
    ("mu", "members", "nonmembers", "delta"),
    [(0.0, 150, 150, 1e-5), (0.5, 150, 150, 1e-5), (1.0, 400, 100, 1e-2), (2.0, 60, 60, 1e-5), (3.0, 40, 40, 0.1)],
)
def test_the_gaussian_bound_holds_for_gaussian_mechanisms(mu, members, nonmembers, delta):
    true = gaussian_epsilon(mu, delta) if mu else 0.0
    member = np.arange(members + nonmembers) < members
    scores_TN = np.random.default_rng(1).normal(mu * member, 1, size=(600, len(member)))
    found = np.array([metrics.epsilon_gaussian_dp(scores, member, delta) for scores in scores_TN])
    assert np.mean(found > true) <= 0.05
    general = np.array([metrics.epsilon_lower_bound(scores, member, delta) for scores in scores_TN])
    assert np.all(found >= general - 1e-9)  # the assumption adds, it never takes away


def test_the_gaussian_bound_comes_near_the_truth_where_the_general_one_does_not():
    member = np.arange(20_000) < 10_000
    scores = np.random.default_rng(3).normal(member * 1.0, 1)
    true = gaussian_epsilon(1.0, 1e-5)
    assert 0.85 * true < metrics.epsilon_gaussian_dp(scores, member) < true
    assert metrics.epsilon_lower_bound(scores, member) < 0.6 * true


def test_the_gaussian_bound_exceeds_the_epsilon_of_a_mechanism_that_is_not_gaussian():
    """What the name warns of: randomised response is (1, 0)-DP, and no Gaussian shape fits it."""
    member = np.arange(1000) < 500
    told = randomised_response(1.0, member, 1, 0)[0]
    assert metrics.epsilon_lower_bound(told, member) < 1.0 < metrics.epsilon_gaussian_dp(told, member)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=60), st.sampled_from([1e-5, 0.2]))
def test_the_gaussian_bound_is_the_brute_force_maximum_over_thresholds(values, delta):
    scores, member = np.array(values) / 3, np.arange(len(values)) % 2 == 0
    in_up = simultaneous_upper(int(member.sum()), math.sqrt(0.95))
    out_up = simultaneous_upper(int((~member).sum()), math.sqrt(0.95))
    mu = max(
        NORMAL.isf(out_up[int((scores[~member] >= t).sum())]) - NORMAL.ppf(in_up[int((scores[member] < t).sum())])
        for t in [*np.unique(scores), np.inf]
    )
    true = gaussian_epsilon(mu, delta) if mu > 0 else 0.0
    assert metrics.epsilon_gaussian_dp(scores, member, delta) == pytest.approx(true, abs=1e-8)


# -------------------------------------------------------------------------------------------- Bonferroni over the hull


@pytest.mark.parametrize("eps", [0.3, 1.0, 3.0])
def test_the_hull_bound_holds_where_every_threshold_of_a_tail_stands_at_epsilon(eps):
    """The Laplace mechanism: TPR/FPR is e^eps at each threshold above the centres, so that choosing pays most."""
    member = np.arange(300) < 150
    scores_TN = np.random.default_rng(4).laplace(eps * member, 1, size=(500, 300))
    found = np.array([metrics.epsilon_hull_bonferroni_split(scores, member, 0.0) for scores in scores_TN])
    assert np.mean(found > eps) <= 0.05
    assert eps < 0.5 or np.mean(found) > 0.3 * eps


def test_the_hull_bound_is_tighter_than_the_general_one_where_one_threshold_carries_the_leak():
    member = np.arange(400) < 200
    told_TN = randomised_response(1.0, member, 400, 2)
    hull = np.array([metrics.epsilon_hull_bonferroni_split(told, member, 0.0) for told in told_TN])
    assert np.mean(hull > 1.0) <= 0.05
    assert np.mean(hull) > np.mean([metrics.epsilon_lower_bound(told, member, 0.0) for told in told_TN]) + 0.1


@pytest.mark.parametrize("delta", [0.0, 0.05])
def test_the_hull_bound_is_measured_on_records_that_did_not_choose_the_thresholds(monkeypatch, delta):
    member = np.arange(500) < 200
    scores = np.random.default_rng(6).normal(2.0 * member, 1)
    chosen_on = []
    hull = _epsilon_more._hull_thresholds

    def spied(*parts):
        chosen_on.extend(parts)
        return hull(*parts)

    monkeypatch.setattr(_epsilon_more, "_hull_thresholds", spied)
    found = metrics.epsilon_hull_bonferroni_split(scores, member, delta)
    assert [len(part) for part in chosen_on] == [20, 30]
    thresholds = hull(*chosen_on)
    assert len(thresholds) > 1
    inside = np.setdiff1d(scores[member], chosen_on[0])
    outside = np.setdiff1d(scores[~member], chosen_on[1])
    assert (len(inside), len(outside)) == (180, 270)
    best, level = 0.0, 1 - 0.05 / (2 * len(thresholds))
    for threshold in thresholds:
        misses, alarms = int((inside < threshold).sum()), int((outside >= threshold).sum())
        fnr = stats.binomtest(misses, 180).proportion_ci(2 * level - 1, "exact").high
        fpr = stats.binomtest(alarms, 270).proportion_ci(2 * level - 1, "exact").high
        best = max(best, math.log((1 - delta - fnr) / fpr), math.log((1 - delta - fpr) / fnr))
    assert found == pytest.approx(best, abs=1e-9)
    shuffled = np.random.default_rng(0).permutation(500)
    assert metrics.epsilon_hull_bonferroni_split(scores[shuffled], member[shuffled], delta) == found


@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=12),
    st.lists(st.integers(-6, 6), min_size=1, max_size=12),
)
def test_hull_thresholds_are_the_corners_by_brute_force(inside, outside):
    inside, outside = np.array(inside, float), np.array(outside, float)
    steps = [np.inf, *np.unique(np.concatenate([inside, outside]))[::-1]]
    points = [(int((outside >= t).sum()), int((inside >= t).sum())) for t in steps]

    def above(i, k, j):
        (a, b), (c, d), (x, y) = points[i], points[j], points[k]
        return (c - a) * (y - b) - (d - b) * (x - a) > 0

    corners = [
        steps[k]
        for k in range(1, len(steps) - 1)
        if all(above(i, k, j) for i in range(k) for j in range(k + 1, len(steps)))
    ]
    assert _epsilon_more._hull_thresholds(inside, outside).tolist() == corners


@pytest.mark.parametrize("members", [1, 2, 9])
def test_the_hull_bound_of_few_or_constant_scores_is_zero(members):
    member = np.arange(2 * members) < members
    assert metrics.epsilon_hull_bonferroni_split(np.zeros(2 * members), member) == 0.0
    if members == 1:
        assert metrics.epsilon_hull_bonferroni_split([1.0, 0.0], member) == 0.0


# ------------------------------------------------------------------------------------------- one training run by f-DP


def most_likely(lines, g: int, c: int, m: int) -> float:
    """max P(c or more of g right) by linear programming; ``lines`` (slope, offset) have the trade-off as maximum."""
    j = np.arange(g + 1)
    rows, at_least = [], []
    for i in range(1, g + 1):
        right, wrong = np.where(j >= i, j, 0) / m, np.where(j >= i - 1, g - j, 0) / m
        for slope, offset in lines:
            rows.append(slope * right - wrong)
            at_least.append(-offset)
    solved = optimize.linprog(-(j >= c).astype(float), rows, at_least, np.ones((1, g + 1)), [1.0], method="highs")
    assert solved.status == 0
    return -solved.fun


@pytest.mark.parametrize(("g", "c", "m"), [(1, 1, 1), (12, 12, 12), (20, 18, 60), (40, 31, 40), (30, 27, 1000)])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_one_run_fdp_epsilon_is_where_the_linear_program_reaches_alpha(g, c, m, delta):
    def most(eps: float) -> float:
        grown = math.exp(eps)
        return most_likely([(1 / grown, -delta / grown), (grown, 1 - delta - grown)], g, c, m)

    found = metrics.one_run_fdp_epsilon(g, c, m, delta, confidence=0.9)
    if found:
        assert most(found - 1e-4) < 0.1 < most(found + 1e-4)
    else:
        assert most(1e-9) >= 0.1 - 1e-6


@pytest.mark.parametrize(("g", "c", "m"), [(12, 12, 12), (20, 18, 60), (40, 31, 40)])
def test_one_run_gaussian_dp_epsilon_is_where_the_linear_program_reaches_alpha(g, c, m):
    def most(mu: float) -> float:
        at = NORMAL.ppf(np.linspace(1e-4, 1 - 1e-4, 600))  # tangents of the convex Phi(Phi^-1(p) - mu)
        slope = np.exp(mu * at - mu**2 / 2)
        return most_likely(list(zip(slope, NORMAL.cdf(at - mu) - slope * NORMAL.cdf(at), strict=True)), g, c, m)

    delta = 1e-3
    found = metrics.one_run_gaussian_dp_epsilon(g, c, m, delta, confidence=0.9)
    mu = optimize.brentq(lambda mu: gaussian_epsilon(mu, delta) - found, 1e-3, 10.0, xtol=1e-12)
    assert most(mu - 2e-3) < 0.1 < most(mu + 2e-3)


@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.0), (0.7, 0.0), (2.0, 1e-3), (1.0, 0.03)])
def test_one_run_fdp_epsilon_holds_where_all_is_told_at_once(eps, delta):
    """With probability delta all 100 bits are revealed together, else each is told truly with e^eps/(1 + e^eps)."""
    m = 100
    chance = (1 - delta) * stats.binom.pmf(np.arange(m + 1), m, 1 / (1 + math.exp(-eps)))
    chance[m] += delta
    too_large = sum(c for v, c in enumerate(chance) if c > 1e-12 and metrics.one_run_fdp_epsilon(m, v, m, delta) > eps)
    assert too_large <= 0.05


@pytest.mark.parametrize(("mu", "g"), [(0.0, 200), (0.5, 200), (1.0, 40), (2.0, 20)])
def test_one_run_gaussian_dp_epsilon_holds_for_gaussian_canaries(mu, g):
    """The g surest of 200 canaries are guessed: chosen by the scores, their number beforehand."""
    rng = np.random.default_rng(7)
    inside_TM = rng.random((1000, 200)) < 0.5
    score_TM = rng.normal(mu * (inside_TM - 0.5), 1)
    surest = np.argsort(-np.abs(score_TM), axis=1)[:, :g]
    n_correct = np.take_along_axis((score_TM > 0) == inside_TM, surest, axis=1).sum(axis=1)
    bound = {c: metrics.one_run_gaussian_dp_epsilon(g, c, 200) for c in np.unique(n_correct)}
    true = gaussian_epsilon(mu, 1e-5) if mu else 0.0
    assert np.mean([bound[c] > true for c in n_correct]) <= 0.05
    if mu:
        steinke = np.mean([metrics.one_run_epsilon(g, c, 200) for c in n_correct])
        assert np.mean([bound[c] for c in n_correct]) > 1.2 * steinke > 0


def test_one_run_fdp_epsilon_is_far_above_the_earlier_bound_where_delta_times_canaries_is_large():
    assert metrics.one_run_epsilon(1000, 850, 10_000, 1e-3) == 0.0
    assert 1.4 < metrics.one_run_fdp_epsilon(1000, 850, 10_000, 1e-3) < math.log(0.85 / 0.15)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.data())
def test_the_one_run_bounds_are_monotone(g, data):
    c = data.draw(st.integers(1, g))
    m = data.draw(st.integers(g, 400))
    for bound in (metrics.one_run_fdp_epsilon, metrics.one_run_gaussian_dp_epsilon):
        found = bound(g, c, m, 1e-5) + 1e-5
        assert bound(g, c - 1, m, 1e-5) <= found
        assert bound(g, c, m, 1e-3) <= found
        assert bound(g, c, m, 1e-5, confidence=0.99) <= found


def test_the_bounds_of_an_audit_are_those_of_the_functions_and_each_has_its_assumption():
    member = np.arange(300) < 150
    scores = np.random.default_rng(8).normal(2.0 * member, 1)
    assert metrics.other_epsilon_bounds(scores, member, 1e-4, 0.9) == {
        "hull_bonferroni_split": metrics.epsilon_hull_bonferroni_split(scores, member, 1e-4, 0.9),
        "gaussian_dp": metrics.epsilon_gaussian_dp(scores, member, 1e-4, 0.9),
    }
    assert list(metrics.other_epsilon_bounds(scores, member)) == list(metrics.EPSILON_ASSUMED)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.one_run_fdp_epsilon(5, 6, 10), "n_correct"),
        (lambda: metrics.one_run_gaussian_dp_epsilon(11, 6, 10), "n_guesses"),
        (lambda: metrics.one_run_gaussian_dp_epsilon(5, 5, 5, 0.0), "delta = 0 has no finite"),
        (lambda: metrics.one_run_fdp_epsilon(5, 5, 5, 1.1), "delta"),
        (lambda: metrics.epsilon_gaussian_dp([1, 0], [1, 0], 0.0), "delta = 0 has no finite"),
        (lambda: metrics.epsilon_gaussian_dp([1, 0], [1, 0], 1e-5, 95), "confidence"),
        (lambda: metrics.epsilon_hull_bonferroni_split([1, 0], [1, 0], -1.0), "delta"),
        (lambda: metrics.epsilon_hull_bonferroni_split([1, math.inf], [1, 0]), "scores"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(UsageError, match=named):
        call()
