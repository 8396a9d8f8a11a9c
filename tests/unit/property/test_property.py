"""Attacks on properties, their statistics and their measures, against brute force, scipy and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, entropy, fisher_exact
from sklearn.linear_model import Ridge

from lacewing.errors import UsageError
from lacewing.metrics import clopper_pearson, mean_over_seeds
from lacewing.property import (
    Known,
    Measured,
    One,
    SeedRow,
    fixed_statistics,
    infer,
    kl_votes,
    mask_statistics,
    n_leaked,
    permutation_p,
    ridge_scores,
    summarised,
    threshold_scores,
    weight_statistics,
)
from lacewing.property._attacks import _RIDGES

RNG = np.random.default_rng(0)


def known(count: int, shift: float, rng: np.random.Generator, *, records: int = 12) -> Known:
    """Networks whose log-odds of class 0 at the first records, and whose weights and masks, are shifted."""
    logits = rng.normal(size=(count, records, 3))
    logits[:, : records // 2, 0] += shift
    has = np.arange(records) < records // 2
    label = np.where(has, 0, 1)
    statistics = {
        name: rng.normal(size=(count, 5)) + shift for name in ("weights", "fixed", "mask-layers", "mask-inputs")
    }
    return Known(logits, label, has, statistics)


def test_an_attack_without_what_it_needs_does_not_run() -> None:
    bare = Known(RNG.normal(size=(4, 6, 3)), np.zeros(6, int), np.ones(6, bool))
    assert infer("mask", bare, bare, bare) is None
    with pytest.raises(UsageError, match="at least 2"):
        infer("kl", Known(bare.logits_MAC[:1], bare.label_A, bare.has_A), bare, bare)
    none = Known(bare.logits_MAC, bare.label_A, np.zeros(6, bool))
    with pytest.raises(UsageError, match="none of the records"):
        infer("log-odds", none, none, none)


def test_threshold_is_the_best_of_all_on_the_attackers_own_networks() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 6, 7), rng.integers(1, 8, 9)
        own = np.concatenate([a, b])
        truth = np.arange(len(own)) >= len(a)
        best = max(
            (np.mean((a > cut) != up) + np.mean((b > cut) == up)) / 2
            for cut in np.arange(-1.5, 9.5)
            for up in (True, False)
        )
        said = threshold_scores(a, b, own) > 0
        assert (np.mean(~said[~truth]) + np.mean(said[truth])) / 2 == pytest.approx(best)


def test_kl_votes_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(3)
    first, second, attacked = (known(count, shift, rng) for count, shift in ((3, 0), (4, 1), (2, 0.5)))

    def p(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    for theirs, vote in zip(attacked.logits_MAC, kl_votes(first, second, attacked), strict=True):
        to_first, to_second = (
            [np.mean([entropy(o, t) for o, t in zip(p(own), p(theirs), strict=True)]) for own in side.logits_MAC]
            for side in (first, second)
        )
        share = np.mean([one > other for one, other in itertools.product(to_first, to_second)])
        assert vote == pytest.approx(share - 0.5)


def test_ridge_scores_and_left_out_networks_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    a, b, t = rng.normal(size=(6, 9)), rng.normal(size=(7, 9)) + 0.7, rng.normal(size=(4, 9))
    own, truth = np.concatenate([a, b]), np.repeat([-1.0, 1.0], [6, 7])
    centre, scale = own.mean(0), own.std(0)
    z, q = (own - centre) / scale, (t - centre) / scale
    candidates = []
    for ridge in _RIDGES:
        model = Ridge(alpha=ridge * z.shape[1])
        out = [model.fit(np.delete(z, i, 0), np.delete(truth, i)).predict(z[i : i + 1])[0] for i in range(len(z))]
        wrong = int((np.array(out) * truth < 0).sum())
        candidates.append((wrong, float(((truth - out) ** 2).sum()), model.fit(z, truth).predict(q)))
    wrong, squared, scores = min(candidates, key=lambda each: each[:2])
    found = ridge_scores(a, b, t)
    assert found.wrong == wrong
    assert found.squared == pytest.approx(squared)
    np.testing.assert_allclose(found.score_M, scores, rtol=1e-9)


def test_ridge_says_nothing_of_statistics_that_never_differ() -> None:
    same = np.ones((3, 4))
    assert (ridge_scores(same, same, same).score_M == 0).all()


def test_weight_statistics_do_not_depend_on_the_order_of_hidden_units() -> None:
    w0, b0, w1, b1 = RNG.normal(size=(6, 4)), RNG.normal(size=6), RNG.normal(size=(3, 6)), RNG.normal(size=3)
    order = RNG.permutation(6)
    before = {"a": w0, "b": b0, "c": w1, "d": b1}
    after = {"a": w0[order], "b": b0[order], "c": w1[:, order], "d": b1}
    np.testing.assert_allclose(weight_statistics(after), weight_statistics(before))
    np.testing.assert_allclose(fixed_statistics(after), fixed_statistics(before))
    classes = RNG.permutation(3)
    moved = {**before, "c": w1[classes], "d": b1[classes]}
    np.testing.assert_allclose(weight_statistics(moved), weight_statistics(before))
    fixed = fixed_statistics(before)
    assert len(fixed) == 2 * 4 + 3 * 3
    np.testing.assert_allclose(fixed[-3:], b1)
    np.testing.assert_allclose(fixed[:4], np.linalg.norm(w0, axis=0))
    assert not np.allclose(fixed_statistics(moved), fixed)


def test_mask_statistics_count_what_is_kept() -> None:
    first = np.array([[1, 0, 1], [0, 0, 1]], bool)
    last = np.array([[1, 1], [0, 1], [0, 0]], bool)
    found = mask_statistics({"a": first, "b": last})
    assert {name: values.tolist() for name, values in found.items()} == {
        "mask-layers": [3, 3],
        "mask-hidden": [1, 2],
        "mask-inputs": [1, 0, 2],
        "mask-classes": [2, 1, 0],
    }
    assert mask_statistics({}) == {}


@pytest.mark.parametrize("shares", [(0.1, 0.2), (0.5, 0.2), (0.0, 0.3)])
def test_n_leaked_bounds_what_so_many_records_tell(shares: tuple[float, float]) -> None:
    """The best distinguisher of n records, by brute force, is never better than the accuracy whose n_leaked is n."""
    for n in (1, 2, 5, 20, 60):
        k = np.arange(n + 1)
        distance = np.abs(binom.pmf(k, n, shares[0]) - binom.pmf(k, n, shares[1])).sum() / 2
        assert n_leaked(0.5 + distance / 2, *shares) <= n + 1e-9
    ratio = max(min(shares) / max(shares), (1 - max(shares)) / (1 - min(shares)))
    accuracy = 0.5 + math.sqrt(1 - ratio**7) / 2
    assert n_leaked(accuracy, *shares) == pytest.approx(7)
    assert n_leaked(0.4, *shares) == 0
    assert n_leaked(1.0, *shares) == math.inf


def test_n_leaked_refuses_equal_shares() -> None:
    with pytest.raises(UsageError, match="two shares"):
        n_leaked(0.9, 0.2, 0.2)
    assert n_leaked(1.0, 0.0, 1.0) == 1


def test_permutation_p_is_fishers_exact_test_and_its_sum_over_seeds() -> None:
    one = Measured(8, 10, 3.0, 7.0, 0.7)
    table = [[7, 3], [3, 5]]  # second and first world: said, not said
    assert permutation_p([one]) == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    two = [Measured(3, 3, 1.0, 2.0, 0.6), Measured(2, 3, 1.0, 2.0, 0.6)]
    reached, as_extreme, total = 4, 0, 0
    for a in itertools.combinations(range(6), 3):  # who says "second", of 3 + 3 networks, the last 3 being of it
        for b in itertools.combinations(range(5), 3):
            right = sum(i >= 3 for i in a) + sum(i >= 2 for i in b)
            as_extreme += right >= reached
            total += 1
    assert permutation_p(two) == pytest.approx(as_extreme / total)


def row(seed: int, accuracy: float, attacked: int = 8) -> One:
    right = accuracy * attacked
    said = right - attacked / 2 + attacked / 4
    counts = Measured(attacked // 2, attacked // 2, attacked / 4, said, accuracy)
    assert counts.accuracy == pytest.approx(accuracy)
    fields = ("dense", "dense", "dense", "dense", 1.0, seed, 0.1, 0.2, "kl", "all records", attacked, accuracy)
    return One(SeedRow(*fields, *counts.binomial, accuracy, 0.5), counts)  # type: ignore[arg-type]


def test_intervals_take_the_seed_as_the_unit_and_are_never_narrower_than_the_binomial_one() -> None:
    (spread,) = summarised([row(0, 0.5), row(1, 0.75), row(2, 0.625)])
    over = mean_over_seeds([0.5, 0.75, 0.625])
    exact = clopper_pearson(15, 24)
    assert over is not None
    assert (spread.low, spread.high) == (min(over.low, exact[0]), max(over.high, exact[1]))
    (sure,) = summarised([row(0, 0.75), row(1, 0.75), row(2, 0.75)])
    assert (sure.low, sure.high) == pytest.approx(clopper_pearson(18, 24))
    (alone,) = summarised([row(0, 0.75)])
    assert (alone.low, alone.high) == pytest.approx(clopper_pearson(6, 8))
    assert alone.auc_low is None
    assert alone.n_leaked == pytest.approx(n_leaked(0.75, 0.1, 0.2))
    assert alone.n_leaked_low == 0
