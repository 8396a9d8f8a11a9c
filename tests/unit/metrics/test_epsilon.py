"""Lower bounds on epsilon: against brute force, closed forms, and mechanisms whose epsilon is known."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics._band import simultaneous_upper


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact epsilon of telling N(mu, 1) from N(0, 1) at delta (Balle and Wang, ICML 2018, theorem 8)."""

    def excess(eps: float) -> float:
        return stats.norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * stats.norm.cdf(-mu / 2 - eps / mu) - delta

    return 0.0 if excess(0.0) <= 0 else optimize.brentq(excess, 0.0, 100.0)


def gaussian_scores(mu: float, members: int, nonmembers: int, seed: int):
    member = np.arange(members + nonmembers) < members
    return np.random.default_rng(seed).normal(mu * member, 1), member


def test_the_bound_on_every_threshold_holds_jointly_at_its_level():
    n, draws = 60, 20_000
    uniform_BN = np.sort(np.random.default_rng(0).random((draws, n)), axis=1)
    for level in (0.5, 0.9):
        held = (uniform_BN < simultaneous_upper(n, level)[:n]).all(axis=1).mean()
        assert held == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / draws))


def test_the_bound_between_the_counts_of_its_grid_is_conservative_and_hardly_so():
    n, draws, level = 900, 3000, 0.8
    uniform_BN = np.sort(np.random.default_rng(1).random((draws, n)), axis=1)
    bound = simultaneous_upper(n, level)
    assert len(np.unique(bound)) < n / 2  # counts are thinned out
    held = (uniform_BN < bound[:n]).all(axis=1).mean()
    noise = 4 * math.sqrt(level * (1 - level) / draws)
    assert level - noise <= held <= level + 0.05 + noise


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_joint_level_of_two_records_in_closed_form(level):
    first, second, never = simultaneous_upper(2, level)
    # P(U_(1) <= a, U_(2) <= b) = b^2 - (b - a)^2 for a <= b, at equal local levels 1 - (1 - a)^2 = b^2.
    assert 1 - (1 - first) ** 2 == pytest.approx(second**2, abs=1e-12)
    held = second**2 - (second - first) ** 2
    assert level <= held + 1e-12
    assert held == pytest.approx(level, abs=1e-3 * (1 - level) * 2)
    assert never == 1.0


@pytest.mark.parametrize("n", [1, 7, 300, 4000])
def test_the_joint_bound_lies_between_the_single_and_the_bonferroni_bound(n):
    bound = simultaneous_upper(n, 0.95)
    k = np.arange(n)
    single, bonferroni = (stats.beta.isf(a, k + 1, n - k) for a in (0.05, 0.05 / n))
    assert np.all(np.diff(bound) >= 0)
    assert np.all(bound[:n] >= single - 1e-12)
    assert np.all(bound[:n][:16] <= bonferroni[:16] + 1e-12)  # so few counts stand in the grid themselves


@pytest.mark.parametrize(
    ("mu", "members", "nonmembers", "delta"),
    [(0.5, 150, 150, 1e-5), (1.0, 400, 100, 1e-2), (2.0, 60, 60, 1e-5), (3.0, 40, 40, 0.1)],
)
def test_the_bound_holds_for_gaussian_mechanisms_of_known_epsilon(mu, members, nonmembers, delta):
    true = gaussian_epsilon(mu, delta)
    member = np.arange(members + nonmembers) < members
    scores_TN = np.random.default_rng(1).normal(mu * member, 1, size=(1000, len(member)))
    assert np.mean([metrics.epsilon_lower_bound(scores, member, delta) <= true for scores in scores_TN]) >= 0.95


def test_the_bound_holds_where_one_threshold_carries_the_whole_leak():
    """Randomised response: the bound is tightest here, since the two rates stand exactly at e^eps."""
    true = math.log(4)
    member = np.arange(200) < 100
    told_TN = np.random.default_rng(2).random((1000, 200)) < np.where(member, 0.8, 0.2)
    bounds = [metrics.epsilon_lower_bound(told, member, 0.0) for told in told_TN]
    assert np.mean(np.array(bounds) <= true) >= 0.95
    assert np.mean(bounds) > 0.4 * true


def test_the_bound_finds_strong_leaks_and_grows_towards_the_truth():
    true = gaussian_epsilon(1.0, 1e-5)
    found = [metrics.epsilon_lower_bound(*gaussian_scores(1.0, n, n, 3), 1e-5) for n in (100, 1000, 10_000)]
    assert 0 < found[0] < found[1] < found[2] < true
    assert found[2] > 1.8
    assert metrics.epsilon_lower_bound(*gaussian_scores(0.0, 1000, 1000, 3)) < 0.05


def test_perfect_separation_has_the_closed_form():
    """No error among n of a kind, at the first or the last threshold only: k = 0 on both sides."""
    n, delta = 50, 1e-3
    up = simultaneous_upper(n, math.sqrt(0.95))[0]
    found = metrics.epsilon_audit(np.arange(2 * n), np.arange(2 * n) >= n, delta)
    assert found.lower_bound == pytest.approx(math.log((1 - delta - up) / up), abs=1e-12)
    assert (found.threshold, found.fpr, found.tpr) == (n, 0.0, 1.0)


@st.composite
def tied_scores(draw):
    member = [True, False, *draw(st.lists(st.booleans(), max_size=40))]
    scores = draw(st.lists(st.integers(-4, 4), min_size=len(member), max_size=len(member)))
    return np.array(scores) / 3, np.array(member)


@settings(deadline=None)  # the first bound for an n takes a while
@given(tied_scores(), st.sampled_from([0.0, 1e-5, 0.2]), st.sampled_from([0.5, 0.95]))
def test_the_bound_is_the_brute_force_maximum_over_thresholds_and_sides(data, delta, confidence):
    scores, member = data
    m, n = int(member.sum()), int((~member).sum())
    best = 0.0
    for threshold in [*np.unique(scores), np.inf]:
        fpr = simultaneous_upper(n, math.sqrt(confidence))[int((scores[~member] >= threshold).sum())]
        fnr = simultaneous_upper(m, math.sqrt(confidence))[int((scores[member] < threshold).sum())]
        for power, error in ((1 - delta - fnr, fpr), (1 - delta - fpr, fnr)):
            best = max(best, math.log(power / error) if power > 0 else 0.0)
    assert metrics.epsilon_lower_bound(scores, member, delta, confidence) == pytest.approx(best, abs=1e-9)
    shuffled = np.random.default_rng(0).permutation(len(scores))
    assert metrics.epsilon_audit(scores[shuffled], member[shuffled], delta, confidence) == metrics.epsilon_audit(
        scores, member, delta, confidence
    )


def test_the_bound_is_the_same_for_members_and_nonmembers_exchanged():
    scores, member = gaussian_scores(1.5, 80, 120, 5)
    found, mirrored = metrics.epsilon_audit(scores, member), metrics.epsilon_audit(-scores, ~member)
    assert found.lower_bound == pytest.approx(mirrored.lower_bound, abs=1e-12)
    assert {found.found, mirrored.found} == {"members", "non-members"}


def test_constant_scores_show_nothing():
    assert metrics.epsilon_audit(np.zeros(100), np.arange(100) < 50) == (0.0, None, None, None, None)


# ------------------------------------------------------------------------------------------------- one training run


def slow_p(r: int, v: int, m: int, delta: float, eps: float) -> float:
    """Theorem 5.2 term by term in rational arithmetic, for one epsilon."""
    q = Fraction(1 / (1 + math.exp(-eps)))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]

    def tail(k: int) -> Fraction:
        return sum(mass[max(k, 0) :], Fraction(0))

    worst = max(((tail(v - i) - tail(v)) / i for i in range(1, m + 1)), default=Fraction(0))
    return float(min(Fraction(1), tail(v) + 2 * m * Fraction(delta) * worst))


def slow_one_run(r: int, v: int, m: int, delta: float, confidence: float) -> float:
    if slow_p(r, v, m, delta, 0.0) >= 1 - confidence:
        return 0.0
    return optimize.brentq(
        lambda eps: slow_p(r, v, m, delta, eps) - (1 - confidence), 0.0, 20.0, xtol=1e-13, rtol=1e-14
    )


@pytest.mark.parametrize(
    ("r", "v", "m"), [(1, 1, 1), (10, 10, 10), (10, 9, 25), (20, 15, 40), (30, 16, 30), (12, 0, 12), (0, 0, 5)]
)
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_one_run_epsilon_equals_the_theorem_by_brute_force(r, v, m, delta, confidence):
    found = metrics.one_run_epsilon(r, v, m, delta, confidence)
    assert found == pytest.approx(slow_one_run(r, v, m, delta, confidence), abs=1e-9)


@pytest.mark.parametrize("r", [5, 40, 1000])
def test_one_run_epsilon_of_a_faultless_auditor_in_closed_form(r):
    share = 0.05 ** (1 / r)
    assert metrics.one_run_epsilon(r, r, r, 0.0) == pytest.approx(math.log(share / (1 - share)), abs=1e-9)


def test_one_run_epsilon_inverts_clopper_pearson_without_delta():
    low, _ = metrics.clopper_pearson(700, 1000, confidence=0.9)  # one-sided 95 %
    assert metrics.one_run_epsilon(1000, 700, 5000, 0.0) == pytest.approx(math.log(low / (1 - low)), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.data())
def test_one_run_epsilon_is_monotone(r, data):
    v = data.draw(st.integers(1, r))
    m = data.draw(st.integers(r, 400))
    found = metrics.one_run_epsilon(r, v, m, 1e-5)
    assert metrics.one_run_epsilon(r, v - 1, m, 1e-5) <= found
    assert metrics.one_run_epsilon(r, v, m + 100, 1e-5) <= found
    assert metrics.one_run_epsilon(r, v, m, 1e-3) <= found
    assert metrics.one_run_epsilon(r, v, m, 1e-5, confidence=0.99) <= found


@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.0), (0.7, 0.0), (2.0, 1e-3), (4.0, 0.01)])
def test_one_run_epsilon_holds_for_randomised_response(eps, delta):
    """Each of 200 bits is revealed outright with probability delta, else told truly with e^eps/(1 + e^eps)."""
    m = 200
    truth = delta + (1 - delta) / (1 + math.exp(-eps))
    chance = stats.binom.pmf(np.arange(m + 1), m, truth)
    too_large = sum(c for v, c in enumerate(chance) if c > 1e-12 and metrics.one_run_epsilon(m, v, m, delta) > eps)
    assert too_large <= 0.05
    if delta == 0.0:
        assert too_large > 0.01  # and it is no looser than a discrete exact test has to be


def test_one_run_epsilon_of_many_canaries_is_finite_and_quick_to_find():
    assert 0.7 < metrics.one_run_epsilon(20_000, 14_000, 100_000, 1e-9) < math.log(0.7 / 0.3)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.one_run_epsilon(5, 6, 10), "n_correct"),
        (lambda: metrics.one_run_epsilon(11, 6, 10), "n_guesses"),
        (lambda: metrics.one_run_epsilon(0, 0, 0), "n_canaries"),
        (lambda: metrics.one_run_epsilon(5, 5, 5, -0.1), "delta"),
        (lambda: metrics.one_run_epsilon(5, 5, 5, 0.0, 1.0), "confidence"),
        (lambda: metrics.epsilon_lower_bound([1, 0], [1, 0], 2.0), "delta"),
        (lambda: metrics.epsilon_lower_bound([1, 0], [1, 0], 0.0, 95), "confidence"),
        (lambda: metrics.epsilon_lower_bound([1, math.nan], [1, 0]), "scores"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(UsageError, match=named):
        call()
