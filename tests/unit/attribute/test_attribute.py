"""Guesses of a column against definitions written out, and the surplus against closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from lacewing.attribute import by_confidence, by_label, compare, imputation, likeliest
from lacewing.errors import UsageError

R = np.random.default_rng(0)


def test_csmia_follows_its_three_cases():
    answer, right = R.normal(size=(300, 4)), R.random((300, 4)) < 0.3
    for row, (odds, ok) in enumerate(zip(answer, right, strict=True)):
        which = np.flatnonzero(ok)
        if len(which) == 1:
            wanted = which[0]
        elif len(which):
            wanted = max(which, key=lambda v: odds[v])
        else:
            wanted = min(range(4), key=lambda v: odds[v])
        assert by_confidence(answer, right)[row] == wanted


@pytest.mark.slow
def test_lomia_learns_from_records_of_one_right_value_and_answers_for_the_others():
    other = R.normal(size=(400, 3))
    true = (other[:, 0] > 0).astype(int)
    right = np.zeros((400, 2), bool)
    right[np.arange(200), true[:200]] = True  # one value alone is right, and it is the true one
    right[300:] = True  # the others: none, or both
    wrong = np.stack([true, 1 - true], axis=1).astype(float)  # an imputation that is always wrong
    guess = by_label(right, other, wrong, seed=0)
    assert (guess[:200] == true[:200]).all()
    assert (guess[200:] == true[200:]).mean() > 0.9
    right[:200] = [True, False]  # nothing to learn from: imputation answers
    assert (by_label(right, other, wrong, seed=0)[200:] == 1 - true[200:]).all()


def test_the_likeliest_value_is_that_of_bayes_rule():
    odds, prior = R.normal(size=(50, 3)), R.dirichlet(np.ones(3), size=50)
    by_rule = (prior / (1 + np.exp(-odds))).argmax(axis=1)
    np.testing.assert_array_equal(likeliest(odds, prior), by_rule)
    with pytest.raises(UsageError, match="probabilities above 0"):
        likeliest(odds, np.zeros((50, 3)))


def test_imputation_learns_what_other_columns_say_and_leaves_no_value_impossible():
    known, value = R.normal(size=(600, 2)), R.integers(2, size=600) * 2
    known[:, 0] += 3 * value
    found = imputation(known, value, known, 4, seed=0)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (found > 0).all()
    assert (found.argmax(axis=1) == value).mean() > 0.95
    assert (imputation(known, value, known, 4, seed=0) == found).all()


def test_the_surplus_is_the_difference_of_differences():
    member = np.arange(500) < 300
    hit, imputed = R.random(500) < 0.6, R.random(500) < 0.5
    found = compare(hit, imputed, member)
    by_hand = (hit[member].mean() - imputed[member].mean()) - (hit[~member].mean() - imputed[~member].mean())
    assert found.surplus.value == pytest.approx(by_hand)
    extra = hit.astype(float) - imputed
    padded = [np.r_[extra[of], 1, -1] for of in (member, ~member)]
    welch = stats.ttest_ind(*padded, equal_var=False)
    half = welch.confidence_interval().high - (padded[0].mean() - padded[1].mean())
    assert found.surplus.high - found.surplus.value == pytest.approx(half, rel=0.02)
    exact = stats.binomtest(int(hit[member].sum()), 300).proportion_ci()
    assert found.members == pytest.approx((hit[member].mean(), *exact))


def test_groups_count_once():
    member = np.arange(40) < 20
    hit, imputed = R.random(40) < 0.6, R.random(40) < 0.5
    one = compare(hit, imputed, member, np.arange(40))
    five = compare(np.repeat(hit, 5), np.repeat(imputed, 5), np.repeat(member, 5), np.repeat(np.arange(40), 5))
    assert five.surplus == pytest.approx(one.surplus)
    alone = compare(np.repeat(hit, 5), np.repeat(imputed, 5), np.repeat(member, 5))
    assert alone.surplus.high - alone.surplus.low < (five.surplus.high - five.surplus.low) / 2


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_the_surplus_is_above_zero_by_chance_in_few_of_400_repeats(rate):
    found = []
    for seed in range(400):
        rng = np.random.default_rng([seed, 7])
        imputed = rng.random(300) < 0.7
        hit = np.where(rng.random(300) < rate, rng.random(300) < 0.7, imputed)
        found.append(compare(hit, imputed, np.arange(300) < 150))
    assert sum(each.p_value < 0.05 for each in found) <= 30  # the 99.5 % point of Binomial(400, .05)
    assert sum(not each.surplus.low <= 0 <= each.surplus.high for each in found) <= 30


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="one length"):
        compare(np.ones(3), np.ones(4), np.ones(3, bool))
    with pytest.raises(UsageError, match="at least two"):
        compare(np.ones(3), np.ones(3), np.array([True, False, False]))
    with pytest.raises(UsageError, match="V from 2"):
        by_confidence(np.ones((3, 1)), np.ones((3, 1)))
