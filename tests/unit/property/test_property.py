"""Attacks on properties, their statistics and their measures, against brute force, scipy and scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

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
from lacewing.property._snap import snap_scores, trimmed

RNG = np.random.default_rng(0)


def test_an_attack_without_what_it_needs_does_not_run() -> None:
    bare = Known(RNG.normal(size=(4, 6, 3)), np.zeros(6, int), np.ones(6, bool))
    assert infer("mask", bare, bare, bare) is None
    with pytest.raises(UsageError, match="at least 2"):
        infer("kl", Known(bare.logits_MAC[:1], bare.label_A, bare.has_A), bare, bare)
    none = Known(bare.logits_MAC, bare.label_A, np.zeros(6, bool))
    with pytest.raises(UsageError, match="none of the records"):
        infer("log-odds", none, none, none)


@pytest.mark.parametrize("name", ["log-odds", "kl", "outputs", "weights"])
def test_networks_that_are_not_finite_or_not_alike_are_refused(name: str, known: Callable[..., Known]) -> None:
    sides = [known(4, 0, RNG) for _ in range(3)]
    for place in range(3):
        for field in ("logits_MAC", "statistics"):
            broken = known(4, 0, RNG)
            (broken.logits_MAC if field == "logits_MAC" else broken.statistics["weights"])[0] = np.nan
            with pytest.raises(UsageError, match="NaN or infinity"):
                infer(name, *(broken if at == place else side for at, side in enumerate(sides)))
        other = known(4, 0, RNG, records=14)
        with pytest.raises(UsageError, match="not asked the same records"):
            infer(name, *(other if at == place else side for at, side in enumerate(sides)))


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


def test_kl_votes_are_those_of_all_pairs(known: Callable[..., Known]) -> None:
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


def authors_trim(values: np.ndarray) -> np.ndarray:
    low = values[values > np.median(values) - values.std()]
    return low[low < np.median(values) + low.std()]


def test_trimming_keeps_what_lies_within_a_deviation_of_the_median() -> None:
    values = np.array([[-19.0, 0, 1, 2, 3, 4, 30], [1, 1, 1, 1, 1, 1, 1]])
    assert trimmed(values).tolist() == [[False, *[True] * 5, False], [True] * 7]  # nothing lies within no deviation
    for each in RNG.normal(size=(20, 9)) ** 3:
        assert each[trimmed(each[None])[0]].tolist() == authors_trim(each).tolist()


def test_snap_votes_by_the_side_of_the_midpoint_of_medians() -> None:
    """Against the votes as the authors count them, where the first world is that of the smaller share."""
    rng = np.random.default_rng(5)
    first, second = rng.normal(1, 1, (4, 9)), rng.normal(-1, 1, (4, 9))
    attacked = rng.normal(0.2, 1.5, (6, 9))
    cut = np.mean([np.median(np.concatenate([*map(authors_trim, side)])) for side in (first, second)])
    found = snap_scores(first, second, attacked)
    for each, score in zip(attacked, found, strict=True):
        kept = authors_trim(each)
        smaller, larger = (kept > cut).sum(), (kept < cut).sum()
        assert score == pytest.approx((larger - smaller) / len(kept))
    np.testing.assert_allclose(snap_scores(second, first, attacked), -found)
    assert (snap_scores(first, first, attacked) == 0).all()  # worlds alike: nobody is told


def test_snap_looks_at_records_with_the_property_and_another_label_than_the_poisons() -> None:
    """The planted case: the share of poisoned records among those with the property decides, as in a count of them.

    A network that answers the frequencies of labels among records with the property has odds e^phi + p / (pi (1 - p) t)
    of the poison's label, where t is the share of the property and pi that of the other label among its records.
    """
    poison, clean, pi = 0.05, 0.2, 0.8  # the share of the poison's label among records with the property: 1 - pi

    def networks(share: float, seed: int) -> Known:
        rng = np.random.default_rng(seed)
        odds = (1 - pi) / pi + poison / (pi * (1 - poison) * share)
        logits = rng.normal(0, 0.05, (10, 8, 2))
        logits[:, :4, 1] += np.log(odds)
        logits[:, 4:6] = rng.normal(0, 50, (10, 2, 2))  # records of the poison's own label
        logits[:, 6:] = rng.normal(0, 50, (10, 2, 2))  # records without the property
        return Known(logits, np.array([0, 0, 0, 0, 1, 1, 0, 0]), np.arange(8) < 6, {}, 1)

    found = infer("snap", networks(clean, 0), networks(0.5, 1), networks(0.5, 2))
    assert found is not None
    assert found.chosen == "log-odds of class 1"
    assert (found.score_M > 0).mean() >= 0.9
    other = infer("snap", networks(clean, 0), networks(0.5, 1), networks(clean, 3))
    assert other is not None
    assert (other.score_M < 0).mean() >= 0.9
    bare = Known(RNG.normal(size=(3, 2, 2)), np.ones(2, int), np.ones(2, bool), {}, 1)
    with pytest.raises(UsageError, match="another label than 1"):
        infer("snap", bare, bare, bare)


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
