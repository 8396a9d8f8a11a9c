"""The paired comparison of two networks: against DeLong, brute force and its own coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics._paired import _counts, _drawn


def two_networks(n: int, rng: np.random.Generator, *, leak: float = 0.8, gap: float = 0.0, own: float = 0.5):
    """Scores of two networks that share what is peculiar to a record; ``gap``: how much less the second one leaks."""
    member = np.arange(2 * n) < n
    common = rng.normal(0, 1, 2 * n)
    first = common + own * rng.normal(0, 1, 2 * n) + leak * member
    second = common + own * rng.normal(0, 1, 2 * n) + (leak - gap) * member
    return first, second, member


def delong_difference(first, second, member):
    """The difference of two AUCs and its standard error (DeLong, DeLong, Clarke-Pearson, 1988, equation 5)."""
    placements = []
    for scores in (first, second):
        x, y = scores[member], scores[~member]
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
        placements.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    (one, m1, n1), (two, m2, n2) = placements
    return one - two, math.sqrt((m1 - m2).var(ddof=1) / len(m1) + (n1 - n2).var(ddof=1) / len(n1))


def test_the_auc_interval_agrees_with_delongs_paired_variance():
    first, second, member = two_networks(250, np.random.default_rng(0), gap=0.3)
    difference, error = delong_difference(first, second, member)
    found = metrics.paired(first, second, member, resamples=6000)
    assert found.difference.value == pytest.approx(difference, abs=1e-12)
    half = stats.norm.ppf(0.975) * error
    assert found.difference.low == pytest.approx(difference - half, abs=0.06 * half + 0.02 * half)
    assert found.difference.high == pytest.approx(difference + half, abs=0.06 * half + 0.02 * half)
    unpaired = sum((metrics.auc(s, member).high - metrics.auc(s, member).low) ** 2 for s in (first, second)) ** 0.5
    assert found.difference.high - found.difference.low < 0.7 * unpaired  # what pairing is for


@st.composite
def tied_scores(draw):
    member = [True, False, *draw(st.lists(st.booleans(), max_size=25))]
    scores = draw(st.lists(st.integers(-3, 3), min_size=len(member), max_size=len(member)))
    return np.array(scores, float), np.array(member)


@settings(max_examples=60, deadline=None)
@given(tied_scores(), st.integers(0, 1000), st.sampled_from([0.1, 0.34, 0.7]))
def test_a_draw_is_the_metric_of_the_records_repeated(data, seed, fpr):
    """The weighted forms against the plain metric of the rows as often as they were drawn."""
    scores, member = data
    rng = np.random.default_rng(seed)
    drawn_m, drawn_n = _counts(int(member.sum()), 3, rng), _counts(int((~member).sum()), 3, rng)
    decided = (scores > 0).astype(float)
    for metric, values, plain in (
        ("auc", scores, lambda s, k: metrics.auc(s, k).value),
        ("balanced_accuracy", decided, lambda s, k: metrics.balanced_accuracy(s, k).value),
        ("tpr_at_fpr", scores, lambda s, k: metrics.tpr_at_fpr(s, k, fpr).value),
    ):
        if metric == "tpr_at_fpr" and fpr * (~member).sum() < 1:
            continue
        found = _drawn(metric, values, member, fpr)(drawn_m, drawn_n)
        for b in range(3):
            times = np.concatenate([drawn_m[b], drawn_n[b]]).astype(int)
            rows = np.repeat(np.concatenate([np.flatnonzero(member), np.flatnonzero(~member)]), times)
            assert found[b] == pytest.approx(plain(values[rows], member[rows]), abs=1e-12)


@pytest.mark.parametrize(
    # A rate near an FPR moves in steps, with many draws of exactly 0: conservative.
    ("metric", "most"),
    [("auc", 0.99), ("balanced_accuracy", 0.99), ("tpr_at_fpr", 1.0)],
)
def test_zero_is_covered_at_about_the_nominal_rate_when_nothing_differs(metric, most):
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(250):
        first, second, member = two_networks(100, rng)
        if metric == "balanced_accuracy":
            first, second = first > 0.4, second > 0.4
        found = metrics.paired(first, second, member, metric, fpr=0.1, resamples=300).difference
        covered.append(found.low <= 0 <= found.high)
    assert 0.90 <= np.mean(covered) <= most


def test_zero_is_covered_over_seeds_that_differ_among_themselves():
    """Networks that differ from seed to seed, in no direction on the whole: the spread over seeds must be seen."""
    rng = np.random.default_rng(2)
    over_seeds, records_alone = {2: [], 3: [], 8: []}, []
    for _ in range(300):
        seeds = [two_networks(60, rng, gap=rng.normal(0, 0.5)) for _ in range(8)]
        for first, covered in over_seeds.items():
            found = metrics.paired(*(list(column) for column in zip(*seeds[:first], strict=True))).difference
            covered.append(found.low <= 0 <= found.high)
        if len(records_alone) < 100:
            alone = metrics.paired(*seeds[0], resamples=200).difference
            records_alone.append(alone.low <= 0 <= alone.high)
    assert all(0.92 <= np.mean(covered) <= 0.98 for covered in over_seeds.values())
    assert np.mean(records_alone) < 0.7  # so that the assertion above could fail


def four_seeds():
    """Scores of four seeds, the differences of seed 0 and 1 (and of 2 and 3) alike."""
    rng = np.random.default_rng(6)
    seeds = [two_networks(80, rng, gap=gap) for gap in (0.1, 0.15, 0.6, 0.7)]
    columns = [list(column) for column in zip(*seeds, strict=True)]
    return columns, [metrics.auc(a, m).value - metrics.auc(b, m).value for a, b, m in seeds]


def test_the_interval_over_seeds_is_students_t_of_their_differences_by_scipy():
    columns, each = four_seeds()
    found = metrics.paired(*columns, confidence=0.9)
    expected = stats.ttest_1samp(each, 0).confidence_interval(0.9)
    assert found.difference == pytest.approx((np.mean(each), expected.low, expected.high), abs=1e-12)
    assert (found.seeds, found.groups, found.over) == (4, 4, "seeds")
    assert metrics.paired(*columns, groups=(9, 2, 5, 1), confidence=0.9) == found  # each a group of its own


def test_seeds_of_one_group_are_averaged_and_count_once():
    columns, each = four_seeds()
    found = metrics.paired(*columns, groups=(0, 0, 1, 1))
    means = [np.mean(each[:2]), np.mean(each[2:])]
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert found.difference == pytest.approx((np.mean(each), expected.low, expected.high), abs=1e-12)
    assert (found.seeds, found.groups, found.over) == (4, 2, "groups")
    uneven = metrics.paired(*columns, groups=(7, 7, 7, 3))  # a mean of the two groups, not of the four seeds
    assert uneven.difference.value == pytest.approx((np.mean(each[:3]) + each[3]) / 2, abs=1e-12)
    assert uneven.first - uneven.second == pytest.approx(uneven.difference.value, abs=1e-12)


def test_one_group_has_the_interval_over_records():
    columns, each = four_seeds()
    pair = [column[:2] for column in columns]
    found = metrics.paired(*pair, groups=(0, 0), resamples=3000)
    assert (found.seeds, found.groups, found.over) == (2, 1, "records")
    assert found.difference.value == pytest.approx(np.mean(each[:2]), abs=1e-12)
    error = math.hypot(*(delong_difference(*seed)[1] for seed in zip(*pair, strict=True))) / 2
    width = 2 * stats.norm.ppf(0.975) * error
    assert found.difference.high - found.difference.low == pytest.approx(width, rel=0.08)
    alone = metrics.paired(*(column[0] for column in columns))
    assert (alone.seeds, alone.groups, alone.over) == (1, 1, "records")


def test_a_difference_is_found_is_antisymmetric_and_deterministic():
    first, second, member = two_networks(400, np.random.default_rng(3), gap=0.4)
    found, again, mirrored = (
        metrics.paired(*pair, member, "auc", resamples=500)
        for pair in ((first, second), (first, second), (second, first))
    )
    assert found == again
    assert found.difference.low > 0
    assert mirrored.difference == pytest.approx(
        [-found.difference.value, -found.difference.high, -found.difference.low]
    )
    assert (found.n_members, found.n_nonmembers, found.seeds) == (400, 400, 1)
    assert metrics.paired(first, first, member).difference == (0, 0, 0)


def test_several_seeds_are_averaged_and_counted():
    rng = np.random.default_rng(4)
    seeds = [two_networks(n, rng, gap=0.5) for n in (50, 80)]
    found = metrics.paired(*(list(column) for column in zip(*seeds, strict=True)), resamples=200)
    each = [metrics.auc(a, member).value - metrics.auc(b, member).value for a, b, member in seeds]
    assert found.difference.value == pytest.approx(np.mean(each), abs=1e-12)
    assert (found.n_members, found.n_nonmembers, found.seeds) == (130, 130, 2)


def test_bad_input_is_named():
    first, second, member = two_networks(20, np.random.default_rng(5))
    for call, named in (
        (lambda: metrics.paired(first, second[:-1], member), "equal length"),
        (lambda: metrics.paired([first, first], [second], [member, member]), "seeds"),
        (lambda: metrics.paired(first, second, member, "balanced_acuracy"), "did you mean 'balanced_accuracy'"),
        (lambda: metrics.paired(first, second, member, "balanced_accuracy"), "decision"),
        (lambda: metrics.paired(first, second, member, "tpr_at_fpr", fpr=0.01), "100 non-members"),
        (lambda: metrics.paired(first, second, member, resamples=5), "resamples"),
        (lambda: metrics.paired(first, second, member, confidence=95), "confidence"),
        (lambda: metrics.paired(first, second, member, groups=[0, 0]), "2 numbers for 1 seeds"),
    ):
        with pytest.raises(UsageError, match=named):
            call()


def test_seeds_on_the_same_records_draw_them_once():
    """Two copies of one seed say nothing more of its records; drawn apart, they would seem to."""
    first, second, member = two_networks(60, np.random.default_rng(3))
    single = metrics.paired(first, second, member, resamples=400)
    twice = [[values, values] for values in (first, second, member)]
    both = metrics.paired(*twice, groups=[0, 0], same_records=[7, 7], resamples=400)
    assert both.difference == single.difference
    apart = metrics.paired(*twice, groups=[0, 0], resamples=400)
    width = single.difference.high - single.difference.low
    assert apart.difference.high - apart.difference.low < 0.85 * width


def test_the_same_records_have_the_same_members():
    first, second, member = two_networks(10, np.random.default_rng(3))
    with pytest.raises(UsageError, match="the membership of two seeds numbered 7 differs"):
        metrics.paired([first, first], [second, second], [member, ~member], groups=[0, 0], same_records=[7, 7])
