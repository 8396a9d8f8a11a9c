"""Paired differences between two networks, against DeLong's closed form, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lacewing import metrics
from lacewing.attacks import Attack, Evidence, Observed, Scored
from lacewing.attacks._measure import perform
from lacewing.auditing._pair_difference import differences, paired_shares
from lacewing.errors import UsageError
from lacewing.results import NetworkResult

NETWORK = NetworkResult("n", "dense", "target", 0, 1.0, 1.0, 1, 1, 1.0, 1.0)


def result(scores, member, name="a", record=None):
    record = np.arange(len(member)) if record is None else record
    seen = Observed(np.zeros((len(member), 2)), np.zeros(len(member), int), member, None, record)
    attack = Attack(name, "own", "none", lambda evidence, *, seed: Scored(scores, None, "v"), frozenset())
    return perform(attack, Evidence(seen), NETWORK, seed=0)


def drawn(seed, gain_dense, gain_sparse, n=400, shared=0.7):
    """Scores of two networks on the same records: a part of each record's score is common to both."""
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    common = rng.normal(size=2 * n)
    both = [
        shared**0.5 * common + (1 - shared) ** 0.5 * rng.normal(size=2 * n) + gain * member
        for gain in (gain_dense, gain_sparse)
    ]
    return both, member


def delong(first, second, member):
    """The difference of two AUCs and its standard error (DeLong et al., Biometrics 44, 1988, eqs. 4 to 7)."""
    parts = []
    for scores in (first, second):
        above = (scores[member][:, None] > scores[~member][None, :]).astype(float)
        parts.append((above.mean(), above.mean(axis=1), above.mean(axis=0)))
    (a, a10, a01), (b, b10, b01) = parts
    variance = np.var(a10 - b10, ddof=1) / member.sum() + np.var(a01 - b01, ddof=1) / (~member).sum()
    return a - b, variance**0.5


def test_the_difference_and_its_interval_are_those_of_delong():
    (dense, sparse), member = drawn(1, 1.0, 0.5)
    auc = next(d for d in differences([result(dense, member)], [result(sparse, member)]) if d.metric == "auc")
    value, error = delong(sparse, dense, member)
    assert auc.difference.value == pytest.approx(value)
    assert auc.difference.low == pytest.approx(value - 1.96 * error, abs=0.15 * error)
    assert auc.difference.high == pytest.approx(value + 1.96 * error, abs=0.15 * error)
    assert auc.sparse - auc.dense == pytest.approx(value)


def test_a_planted_difference_is_established_in_its_direction_and_not_in_networks_that_leak_alike():
    (dense, sparse), member = drawn(2, 1.2, 0.4)
    less = differences([result(dense, member)], [result(sparse, member)])
    more = differences([result(sparse, member)], [result(dense, member)])
    assert [d.established for d in less if d.metric == "auc"] == ["less"]
    assert [d.established for d in more if d.metric == "auc"] == ["more"]
    (dense, alike), member = drawn(3, 0.8, 0.8)
    assert all(d.established is None for d in differences([result(dense, member)], [result(alike, member)]))


def test_the_tail_is_looked_at_where_the_auc_says_nothing():
    rng = np.random.default_rng(4)
    member = np.arange(2000) < 1000
    plain = rng.normal(size=2000)
    exposed = plain.copy()
    exposed[:100] = 9 + rng.random(100)  # a tenth of the members stands out
    found = {d.metric: d for d in differences([result(exposed, member)], [result(plain, member)])}
    assert found["tpr_at_fpr_0.01"].established == "less"
    assert found["tpr_at_fpr_0.001"].established is None  # shown, not looked at
    assert found["tpr_at_fpr_0.01"].dense == pytest.approx(0.1 + 0.9 * 0.01, abs=0.02)


@pytest.mark.slow
def test_networks_that_leak_alike_are_told_apart_no_more_often_than_declared():
    """Three attacks each, 200 pairs: 18 is what a rate of 5 % exceeds once in a hundred."""
    found = 0
    for seed in range(200):
        both = [drawn(1000 * seed + k, 0.8, 0.8, n=250) for k in range(3)]
        member = both[0][1]
        dense = [result(scores[0], member, name) for name, (scores, _) in zip("abc", both, strict=True)]
        sparse = [result(scores[1], member, name) for name, (scores, _) in zip("abc", both, strict=True)]
        found += any(d.established for d in differences(dense, sparse, seed=seed))
    assert found <= 18


@pytest.mark.parametrize("attacks", [1, 5, 23])
def test_ends_beyond_which_few_draws_lie_are_where_bonferroni_puts_them(monkeypatch, attacks):
    """Simulated: how much of the true distribution of the draws lies below the lower end."""
    asked = []

    def paired(first, second, member, *args, confidence, resamples, **options):
        asked.append((confidence, resamples))
        estimate = metrics.Estimate(0.2, 0.1, 0.3)  # leaves out 0, so that the corrected interval is asked for
        return metrics.Paired(estimate, 0.7, 0.5, 5, 5, 1, 1, "records")

    monkeypatch.setattr(metrics, "paired", paired)
    (dense, sparse), member = drawn(7, 1.0, 0.5, n=10)
    names = [f"a{k}" for k in range(attacks)]
    differences([result(dense, member, name) for name in names], [result(sparse, member, name) for name in names])
    confidence, resamples = max(asked)
    tail, rng = 0.05 / (4 * attacks), np.random.default_rng(8)
    below = [np.quantile(rng.random(resamples), (1 - confidence) / 2) for _ in range(400)]
    assert np.mean(below) == pytest.approx(tail, rel=0.08)  # five standard errors
    assert np.std(below) < 0.4 * tail


def test_results_of_other_records_are_refused_and_attacks_of_one_network_left_out():
    (dense, sparse), member = drawn(5, 1.0, 0.5, n=50)
    other = result(sparse, member, record=np.arange(100)[::-1].copy())
    with pytest.raises(UsageError, match="other records of the dense network"):
        differences([result(dense, member)], [other])
    assert differences([result(dense, member, "a")], [result(sparse, member, "b")]) == ()


def test_paired_shares_agree_with_the_published_formula_and_with_student():
    first, second = np.array([1.0] * 60 + [0.0] * 40), np.array([1.0] * 50 + [0.0] * 45 + [1.0] * 5)
    found = paired_shares(first, second)
    p, q = (10 + 1) / 102, (5 + 1) / 102  # ten right in the first alone, five in the second alone
    half = 1.959964 * ((p + q - (p - q) ** 2) / 102) ** 0.5
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half))
    rng = np.random.default_rng(6)
    a, b = rng.random(30), rng.random(30)
    wanted = stats.ttest_rel(a, b).confidence_interval()
    assert paired_shares(a, b)[1:] == pytest.approx((wanted.low, wanted.high))
    same = paired_shares(np.ones(20), np.ones(20))
    assert same.value == 0
    assert same.low < 0 < same.high  # equal answers to 20 records do not prove equal accuracy
