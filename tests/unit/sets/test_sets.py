"""Groups, usage and ranges against closed forms and simulation: planted cases, nulls, and what is refused."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lacewing.errors import UsageError
from lacewing.sets import Known, group_level, range_scores, sampled, truth, usage


def people(seed, *, leak, used=1, size=8, count=200):
    """Scores of records of people, of half of whom ``used`` records were trained on."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(count), size)
    member = (group < count // 2) & (np.tile(np.arange(size), count) < used)
    return rng.normal(size=count * size) + leak * member, member, group


def test_one_record_among_many_is_found_best_by_any_and_whole_people_by_the_mean():
    score, member, group = people(0, leak=3.0)
    found = {how: group_level(score, member, group, how=how, mixed="member").metrics["auc"] for how in ("any", "mean")}
    assert found["any"].value > 0.9
    assert found["any"].low > found["mean"].high
    score, member, group = people(1, leak=0.7, used=8)
    found = {how: group_level(score, member, group, how=how).metrics["auc"] for how in ("any", "mean")}
    assert found["mean"].value > found["any"].value > 0.7


def test_any_is_the_corrected_smallest_p_value():
    score, member, group = people(2, leak=1.0, count=30)
    found = group_level(score, member, group, mixed="member")
    p = stats.norm.sf(score.reshape(30, 8)).min(axis=1)
    np.testing.assert_allclose(found.score_S, -np.log(1 - (1 - p) ** 8))
    null = np.random.default_rng(0).normal(size=500)
    empirical = group_level(score, member, group, null_Z=null, mixed="member")
    p = np.array([(1 + (null >= s).sum()) / 501 for s in score]).reshape(30, 8).min(axis=1)
    np.testing.assert_allclose(empirical.score_S, -np.log(1 - (1 - p) ** 8))
    assert empirical.metrics["auc"].value == pytest.approx(roc_auc_score(found.member_S, empirical.score_S))


def test_a_larger_group_has_no_higher_score_by_its_size_and_size_alone_is_told():
    rng = np.random.default_rng(3)
    size = np.where(np.arange(2000) < 1000, 2, 20)
    group = np.repeat(np.arange(2000), size)
    member = group >= 1000  # large groups are members, and nothing leaks
    found = group_level(rng.normal(size=len(group)), member, group)
    assert found.metrics["auc"].low < 0.5 < found.metrics["auc"].high
    assert found.by_size.value == 1.0
    assert "Their size alone" in found.sentence
    assert found.sentence.startswith("No leakage found")


def network(rng, n, share, leak=1.5, spread=0.0):
    member = rng.permutation(n) < round(share * n)
    shift = spread * rng.normal(size=2)
    return rng.normal(size=n) + (leak + shift[0]) * member + shift[1], member


@pytest.mark.slow
@pytest.mark.parametrize(("networks", "spread"), [(1, 0.0), (4, 0.15), (8, 0.0)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_interval_of_the_usage_holds_the_share_in_182_of_200_cases(networks, spread, share):
    held = 0
    for seed in range(200):
        rng = np.random.default_rng([seed, networks, int(10 * share)])
        known = [Known(*network(rng, 300, 0.5, spread=spread)) for _ in range(networks)]
        found = usage(network(rng, 150, share, spread=spread)[0], known)
        held += found.share.low <= share <= found.share.high
    assert held >= 182


def test_the_usage_is_the_share_of_decisions_corrected_for_their_errors():
    rng = np.random.default_rng(0)
    known = [Known(*network(rng, 3000, 0.5)) for _ in range(4)]
    score = network(rng, 3000, 0.2)[0]
    found = usage(score, known)
    assert found.share.value == pytest.approx(0.2, abs=0.04)
    assert found.share.high - found.share.low < 0.15
    assert found.count.value == pytest.approx(3000 * found.share.value)
    assert "4 networks of known membership" in found.sentence
    assert "spread between networks is left out" in usage(score, known[:1]).sentence
    blind = usage(rng.normal(size=300), [Known(*network(rng, 300, 0.5, leak=0.0)) for _ in range(4)])
    assert blind.share.high - blind.share.low > 0.8  # scores that tell nothing say nothing
    foreign = usage(score - 30, known)
    assert not foreign.plausible
    assert "cannot be told" in foreign.sentence


def test_ranges_know_what_they_hold_and_empty_ones_are_refused():
    x, y = np.array([[0.0, 0], [1, 1], [5, 5]]), np.array([0, 0, 1])
    member = np.array([True, False, False])
    low, high = np.array([[-1.0, -1], [0.5, 0.5], [0, 0]]), np.array([[2.0, 2], [1, 1], [9, 9]])
    holds, size = truth(low, high, [0, 0, 1], x, y, member)
    assert holds.tolist() == [True, False, False]
    assert size.tolist() == [2, 1, 1]
    for wrong, says in (
        ((low, high, [0, 1, 1]), "1 of 3 hold no record of their class, such as range 1"),
        ((high, low, [0, 0, 1]), "low at most high"),
        ((low[:, :1], high[:, :1], [0, 0, 1]), "give \\(ranges, columns\\) twice"),
        ((low, high, [0]), "give the class of each range"),
    ):
        with pytest.raises(UsageError, match=says):
            truth(*wrong, x, y, member)


def test_points_lie_within_their_range_whole_where_the_column_is_and_reach_both_ends():
    low, high = np.array([[0.0, 1.0], [2.0, 4.0]]), np.array([[1.0, 3.0], [2.0, 4.0]])
    points = sampled(low, high, np.array([False, True]), 400, seed=0)
    assert ((points >= low[:, None]) & (points <= high[:, None])).all()
    assert set(points[0, :, 1]) == {1.0, 2.0, 3.0}
    np.testing.assert_array_equal(points[0, 0], [0.5, 2.0])
    assert (points[1] == [2.0, 4.0]).all()
    assert points[0, :, 0].min() < 0.02
    assert points[0, :, 0].max() > 0.98
    np.testing.assert_array_equal(points, sampled(low, high, np.array([False, True]), 400, seed=0))
    np.testing.assert_array_equal(range_scores([[0, 1, 2, 3], [9, 9, 1, 1]]), [2.5, 9])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: group_level([1.0, 2, 3], [1, 0, 0], [7, 7, 8]), "1 groups hold members and non-members: keep each"),
        (lambda: group_level([1.0, np.nan], [1, 0], [0, 1]), "NaN or infinite"),
        (lambda: group_level([1.0, 2], [1, 0], [0, 1, 2]), "one each a record"),
        (lambda: group_level([1.0, 2], [1, 1], [0, 1]), "2 of 2 groups hold a member"),
        (lambda: group_level([1.0, 2], [1, 0], [0, 1], null_Z=[]), "null_Z, .* has shape"),
        (lambda: group_level([1.0, 2], [2, 0], [0, 1]), "member holds values other than 0 and 1"),
        (lambda: group_level([1.0, 2, 3], [1, 0, 0], [0, np.nan, np.nan]), "no id for 2 of 3 records"),
        (lambda: group_level(["a", "b"], [1, 0], [0, 1]), "score is a list that holds no numbers"),
        (lambda: group_level([1.0, 2], [1, 0], [0, 1], how="median"), "how = 'median' is unknown"),
        (lambda: usage([1.0, 2], [([1.0, 3], ["no", "yes"])]), r"known\[0\]: member holds values other"),
        (lambda: usage([1.0, 2], [Known([1.0, 3], [1, 0])] * 2), r"known\[1\] has the scores of known\[0\]"),
        (lambda: usage([1.0, 3], [Known([1.0, 3], [1, 0])]), "scores of the audited network"),
        (lambda: usage([1.0], [np.ones(3)]), r"give lacewing.sets.Known"),
        (lambda: truth(np.zeros((0, 1)), np.zeros((0, 1)), [], np.ones((2, 1)), [0, 0], np.ones(2, bool)), "0 ranges"),
        (lambda: truth([["a"]], [[1.0]], [0], np.ones((2, 1)), [0, 0], np.ones(2, bool)), "low is a list"),
        (lambda: usage([1.0], []), "known is empty"),
        (lambda: usage([1.0], [Known([1.0, 2.0], [1, 1])]), "known\\[0\\]: 2 of 2 records are members"),
        (lambda: usage([np.inf], [Known([1.0, 2.0], [1, 0])]), "one finite number a record"),
        (lambda: usage([1.0], [Known([1.0, 2.0], [1, 0])]), "at least two members"),
        (lambda: usage([1.0], [Known(np.arange(8.0), np.arange(8) > 3)], confidence=1.0), "out of range"),
        (lambda: sampled([[0.0]], [[1.0]], np.array([False]), 0, seed=0), "points = 0"),
        (lambda: range_scores([1.0, 2.0]), "ranges, points"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, says):
    with pytest.raises(UsageError, match=says):
        call()
