"""TPR at a low FPR: the point by brute force, its intervals against scipy's distributions and by simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lacewing import metrics
from lacewing.errors import UsageError


@st.composite
def labelled_scores(draw):
    """Scores of few distinct values (so ties abound), with both members and non-members."""
    member = [True, False, *draw(st.lists(st.booleans(), max_size=40))]
    scores = draw(st.lists(st.integers(-6, 6), min_size=len(member), max_size=len(member)))
    return np.array(scores) / 3, np.array(member)


def drawn(n, seed, leak=1.0, digits=None):
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    scores = rng.normal(member * leak, 1)
    return (scores if digits is None else np.round(scores, digits)), member


def up(scores, member, k):
    """By the definition: the members strictly above the (k+1)-th largest non-member."""
    x, y = scores[member], sorted(scores[~member], reverse=True)
    if k < 0:
        return 0
    return len(x) if k >= len(y) else int((x > y[k]).sum())


@given(labelled_scores(), st.floats(0.05, 0.95))
def test_the_rates_are_those_of_the_best_threshold_by_brute_force(data, fpr):
    scores, member = data
    if fpr * (~member).sum() < 1:
        for function in (metrics.tpr_at_fpr, metrics.realised_fpr):
            with pytest.raises(UsageError, match="non-members"):
                function(scores, member, fpr)
        return
    thresholds = [*np.unique(scores), np.inf]
    allowed = [t for t in thresholds if (scores[~member] >= t).mean() <= fpr]
    found = metrics.tpr_at_fpr(scores, member, fpr)
    assert found.value == max((scores[member] >= t).mean() for t in allowed)
    assert 0 <= found.low <= found.value <= found.high <= 1
    n = int((~member).sum())
    k = int((scores[~member] >= min(allowed)).sum())
    assert metrics.realised_fpr(scores, member, fpr) == (k / n, *metrics.clopper_pearson(k, n))


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize(("n", "fpr"), [(60, 0.3), (400, 0.01), (400, 0.05)])
def test_the_lower_end_is_the_quantile_of_the_mixture_by_scipy(n, fpr, digits):
    scores, member = drawn(n, 1, digits=digits)

    def below(t):
        total = 0.0
        for j in range(n + 1):
            c = up(scores, member, j - 1)
            total += stats.binom.pmf(j, n, fpr) * (1.0 if c == 0 else stats.beta.cdf(t, c, n - c + 1))
        return total - 0.025

    expected = optimize.brentq(below, 1e-9, 1 - 1e-9, xtol=1e-13)
    assert metrics.tpr_at_fpr(scores, member, fpr).low == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize(("n", "fpr"), [(60, 0.3), (400, 0.01), (2000, 0.001)])
def test_the_upper_end_is_the_largest_rate_that_is_likely_enough_by_a_grid(n, fpr, digits):
    scores, member = drawn(n, 2, digits=digits)
    grid = np.linspace(0, 1, 200_001)[1:-1]
    expected = 0.0
    for j in range(n + 1):
        k = up(scores, member, j)
        away = 2 * n * stats.entropy([j / n, 1 - j / n], [fpr, 1 - fpr])
        if away > 4.3 or k == n:
            expected = max(expected, float(away <= 4.3))
            continue
        p = k / n
        kl = (p * np.log(p / grid) if p else 0.0) + (1 - p) * np.log((1 - p) / (1 - grid))
        likely = grid[(grid >= p) & (2 * n * kl + away <= 4.3)]
        expected = max(expected, likely.max(initial=0.0))
    assert metrics.tpr_at_fpr(scores, member, fpr).high == pytest.approx(expected, abs=1e-5)


def test_the_narrow_form_is_both_quantiles_of_the_mixture_of_midpoints_by_scipy():
    scores, member = drawn(1000, 3)

    def at(q):
        def below(t):
            j = np.arange(61)
            c = np.array([(up(scores, member, k - 1) + up(scores, member, k)) / 2 for k in j])
            return stats.binom.pmf(j, 1000, 0.01) @ stats.beta.cdf(t, c + 0.5, 1000 - c + 0.5) - q

        return optimize.brentq(below, 1e-9, 1 - 1e-9, xtol=1e-13)

    found = metrics.tpr_at_fpr(scores, member, 0.01, form="narrow")
    assert found[1:] == pytest.approx((at(0.025), at(0.975)), abs=1e-9)
    assert metrics.tpr_at_fpr(scores, member, 0.01, form="auto") == found
    valid = metrics.tpr_at_fpr(scores, member, 0.01)
    assert valid.value == found.value
    assert valid.low < found.low < found.high < valid.high


def test_the_narrow_form_needs_ten_nonmembers_above_the_threshold_and_no_ties_there():
    scores, member = drawn(1000, 4)
    few, kinds = scores[:-1], member[:-1]
    tied = np.where(scores > np.quantile(scores[~member], 0.995), 9.0, scores)
    tied_below = np.where(scores < 0, -1.0, scores)  # far below the threshold: of no account
    for given_, said, why in (((few, kinds), 0.01, "1000 non-members"), ((tied, member), 0.01, "equal scores")):
        with pytest.raises(UsageError, match=why):
            metrics.tpr_at_fpr(*given_, said, form="narrow")
        assert metrics.tpr_at_fpr(*given_, said, form="auto") == metrics.tpr_at_fpr(*given_, said)
    expected = metrics.tpr_at_fpr(scores, member, 0.01, form="narrow")
    assert metrics.tpr_at_fpr(tied_below, member, 0.01, form="narrow") == expected
    with pytest.raises(UsageError, match="'narow' is unknown"):
        metrics.tpr_at_fpr(scores, member, 0.01, form="narow")


SATURATED = 2.2


@pytest.mark.parametrize(
    ("n", "fpr", "leak", "shape"),
    [
        (1000, 0.01, 0.0, "smooth"),
        (1000, 0.01, 1.0, "smooth"),
        (3000, 0.001, 1.0, "smooth"),
        (1000, 0.01, 1.0, "ties"),
        (1000, 0.01, 1.5, "saturated"),
    ],
)
def test_the_interval_covers_the_rate_of_the_whole_population(n, fpr, leak, shape):
    rng = np.random.default_rng(5)
    member = np.arange(2 * n) < n
    bar = stats.norm.isf(fpr)
    if shape == "ties":  # scores rounded down to halves: the threshold is the next half above
        bar = math.ceil(2 * bar) / 2
    truth = 0.0 if shape == "saturated" and bar > SATURATED else float(stats.norm.sf(bar - leak))
    if shape == "saturated":
        truth = 0.0 if stats.norm.sf(SATURATED) > fpr else truth
    below = covered = fixed = 0
    runs = 400
    for _ in range(runs):
        scores = rng.normal(member * leak, 1)
        if shape == "ties":
            scores = np.floor(2 * scores) / 2
        elif shape == "saturated":
            scores = np.minimum(scores, SATURATED)
        found = metrics.tpr_at_fpr(scores, member, fpr)
        covered += found.low <= truth <= found.high
        below += found.low > truth
        low, high = metrics.clopper_pearson(round(found.value * n), n)
        fixed += low <= truth <= high
    assert covered / runs >= 0.95
    assert below / runs <= 0.045  # 0.025, and what 400 runs may show of it
    if (shape, leak) == ("smooth", 1.0):
        assert fixed / runs < 0.75  # as if the threshold were known


def test_the_narrow_interval_covers_about_what_it_promises():
    rng = np.random.default_rng(6)
    truth, covered = stats.norm.sf(stats.norm.isf(0.01) - 1), []
    for _ in range(400):
        member = np.arange(2000) < 1000
        found = metrics.tpr_at_fpr(rng.normal(member * 1.0, 1), member, 0.01, form="narrow")
        covered.append(found.low <= truth <= found.high)
    assert 0.925 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.99])
def test_more_confidence_gives_a_wider_interval_that_covers_as_often(confidence):
    rng = np.random.default_rng(7)
    truth, covered = stats.norm.sf(stats.norm.isf(0.02) - 1), []
    member = np.arange(1000) < 500
    for _ in range(300):
        scores = rng.normal(member * 1.0, 1)
        low, high = metrics.tpr_at_fpr(scores, member, 0.02, confidence)[1:]
        wider = metrics.tpr_at_fpr(scores, member, 0.02, (1 + confidence) / 2)
        assert wider.low <= low <= high <= wider.high
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= confidence - 0.03


@pytest.mark.parametrize(("fpr", "least"), [(0.001, 3688), (0.01, 368), (0.2, 17)])
def test_with_too_few_nonmembers_the_lower_end_is_zero_however_strong_the_leak(fpr, least):
    assert metrics.least_nonmembers(fpr) == least
    assert least == next(n for n in range(1, 4000) if (1 - fpr) ** n < 0.025)
    for n, positive in ((least - 1, False), (least, True)):
        member = np.arange(50 + n) < 50
        scores = member + np.linspace(0, 0.5, 50 + n)  # every member above every non-member
        found = metrics.tpr_at_fpr(scores, member, fpr)
        assert (found.value, found.high) == (1.0, 1.0)
        assert (found.low > 0) == positive


def test_one_over_fpr_nonmembers_are_needed_exactly():
    member = np.arange(2000) < 1000
    scores = member + np.linspace(0, 0.5, 2000)
    assert metrics.tpr_at_fpr(scores, member, 0.001).value == 1.0
    for function in (metrics.tpr_at_fpr, metrics.realised_fpr):
        with pytest.raises(UsageError, match="at least 1000 non-members: 999"):
            function(scores[:-1], member[:-1], 0.001)
        with pytest.raises(UsageError, match="between 0 and 1"):
            function(scores, member, 1.0)


def test_saturated_scores_show_an_fpr_far_below_the_one_asked_for():
    member = np.arange(400) < 200
    scores = np.where(np.arange(400) % 2, 1.0, np.arange(400) / 1e3)  # half of each kind saturated
    assert metrics.realised_fpr(scores, member, 0.4) == (0.0, *metrics.clopper_pearson(0, 200))
    assert metrics.tpr_at_fpr(scores, member, 0.4).value == 0.0


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.2]))
def test_only_the_order_of_scores_matters(seed, fpr):
    scores, member = drawn(60, seed)
    shuffled = np.random.default_rng(seed).permutation(120)
    found = metrics.tpr_at_fpr(scores, member, fpr)
    assert metrics.tpr_at_fpr(np.exp(scores[shuffled]), member[shuffled], fpr) == found
