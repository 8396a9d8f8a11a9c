"""Quantile regression: features free of phi, regression against closed forms, the rate on non-members, power."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax
from scipy.stats import entropy
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import roc_auc_score

from lacewing.attacks import _quantile
from lacewing.attacks._quantile import ENTRIES, fit_gaussian, other_class_features, standardised
from lacewing.attacks._types import Evidence, Observed, Population
from lacewing.errors import UsageError

(ENTRY,) = ENTRIES


def records(rng, n, classes, leak):
    """How sure a network is, and how widely that varies, shows in the other classes; a member is surer by ``leak``."""
    member, label = rng.permutation(np.arange(n) < n // 2), rng.integers(classes, size=n)
    hard = rng.random(n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), (label + 1) % classes] += 6 * hard  # a hard record has one rival
    logits[np.arange(n), label] += 10 * (1 - hard) + 6 * hard + (0.3 + hard) * rng.normal(size=n) + leak * member
    return logits, label, member


def evidence(seed, n=400, z=400, classes=4, leak=0.0):
    rng = np.random.default_rng(seed)
    logits, label, member = records(rng, n, classes, leak)
    return Evidence(
        Observed(logits, label, member, None, np.arange(n)), population=Population(*records(rng, z, classes, 0.0)[:2])
    )


def attack(held, seed=0):
    return ENTRY.function(held, seed=seed)


def test_features_are_the_label_and_the_other_classes_among_themselves():
    rng = np.random.default_rng(0)
    logits, label = 3 * rng.normal(size=(30, 5)), rng.integers(5, size=30)
    x = other_class_features(logits, label)
    assert x.shape == (30, 12)
    for row, z, y in zip(x, logits, label, strict=True):
        q = log_softmax(np.delete(z, y))
        np.testing.assert_array_equal(row[:5], np.arange(5) == y)
        np.testing.assert_allclose(np.delete(row[5:10], y), q, rtol=1e-12)
        assert row[5 + y] == 0
        np.testing.assert_allclose(row[10:], [entropy(np.exp(q)), q.max()], rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (5, 3), elements=st.floats(-1e4, 1e4)), st.floats(-1e4, 1e4))
def test_features_are_finite_and_do_not_see_the_logit_of_the_label(logits, other):
    label = np.array([0, 1, 2, 0, 1])
    x = other_class_features(logits, label)
    assert np.isfinite(x).all()
    logits[np.arange(5), label] = other
    np.testing.assert_array_equal(other_class_features(logits, label), x)


def test_mean_and_spread_are_learned():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 3))
    std = np.exp(0.5 * x[:, 1])
    phi = 2 + 3 * x[:, 0] + std * rng.normal(size=4000)
    fitted = fit_gaussian(x, phi)
    np.testing.assert_allclose(fitted.mean_F, [3, 0, 0], atol=0.1)
    np.testing.assert_allclose(fitted.log_std_F, [0, 0.5, 0], atol=0.05)
    new = rng.normal(size=(500, 3))
    noise = rng.normal(size=500)
    z = standardised(fitted, new, 2 + 3 * new[:, 0] + np.exp(0.5 * new[:, 1]) * noise)
    assert np.corrcoef(z, noise)[0, 1] > 0.98
    assert np.sqrt(np.mean(standardised(fitted, x, phi) ** 2)) == pytest.approx(1, abs=0.02)


def test_a_population_without_spread_still_gives_finite_scores():
    x = np.random.default_rng(2).normal(size=(100, 3))
    np.testing.assert_allclose(standardised(fit_gaussian(x, np.full(100, 7.0)), x, np.full(100, 9.0)), 2, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(20, 60),
    st.integers(1, 90),
    st.sampled_from(["noise", "line", "constant", "one far", "repeated columns", "one value a column"]),
)
def test_ridge_is_the_one_of_least_leave_one_out_error(seed, n, columns, kind):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns)) * rng.uniform(1e-3, 1e3, columns) + 5
    y = rng.normal(size=n) + (3 * x[:, 0] if kind == "line" else 0)
    if kind == "constant":
        y = np.full(n, 7.0)
    if kind == "one far":
        y[0] = 1e4
    if kind == "repeated columns":
        x[:] = x[:, :1]
    if kind == "one value a column":
        x[:] = np.arange(columns)
    z = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 1e-12, x.std(axis=0), 1)
    oracle = RidgeCV(alphas=_quantile.PENALTIES, store_cv_results=True).fit(z, y)
    slope, intercept = _quantile._ridge(x)(y)
    line = x @ slope + intercept
    errors = oracle.cv_results_.mean(axis=0)
    same = [p for p, e in zip(_quantile.PENALTIES, errors, strict=True) if e <= errors.min() * (1 + 1e-9) + 1e-20]
    candidates = [Ridge(alpha=p).fit(z, y).predict(z) for p in same]  # more than one only where the choice is rounding
    assert min(np.abs(line - c).max() for c in candidates) <= 1e-7 * max(1, np.abs(y).max())


def test_leave_one_out_errors_are_those_of_fits_without_the_record():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y += x[:, 0]

    def plain(x, y, penalty):
        z = x - x.mean(axis=0)
        slope = np.linalg.solve(z.T @ z + penalty * np.eye(4), z.T @ (y - y.mean()))
        return slope, y.mean() - x.mean(axis=0) @ slope

    def error(i, penalty):
        slope, intercept = plain(np.delete(x, i, 0), np.delete(y, i), penalty)
        return y[i] - x[i] @ slope - intercept

    errors = [np.mean([error(i, penalty) ** 2 for i in range(30)]) for penalty in _quantile.PENALTIES]
    best = int(np.argmin(errors))
    assert 0 < best < len(errors) - 1  # a choice
    expected = plain(x, y, _quantile.PENALTIES[best])
    slope, intercept = _quantile._ridge(x)(y)
    np.testing.assert_allclose(slope, expected[0], rtol=1e-9)
    assert intercept == pytest.approx(expected[1], abs=1e-12)


def test_it_finds_more_than_one_threshold_for_all_where_records_differ():
    held = evidence(3, n=1000, z=1000, leak=2.0)
    seen, member, found = held.observed, held.observed.member_N, attack(held)
    others = np.where(np.arange(4) == seen.label_N[:, None], -np.inf, seen.logits_NC)
    plain = seen.logits_NC[np.arange(1000), seen.label_N] - np.logaddexp.reduce(others, axis=1)
    assert roc_auc_score(member, found.scores_N) > roc_auc_score(member, plain) + 0.07
    assert found.decision_N[member].mean() > 4 * found.decision_N[~member].mean()


def test_the_rate_is_kept_and_nothing_found_where_nothing_leaks():
    found = [(attack(held), held.observed.member_N) for held in (evidence(s, n=300, z=120) for s in range(40, 50))]
    assert 0.025 < np.mean([scored.decision_N.mean() for scored, _ in found]) < 0.065
    assert abs(np.mean([roc_auc_score(member, scored.scores_N) for scored, member in found]) - 0.5) < 0.025


def test_order_membership_and_repetition_change_nothing():
    held = evidence(4, leak=1.0)
    seen, found = held.observed, attack(held)
    order = np.random.default_rng(0).permutation(400)
    moved = Observed(seen.logits_NC[order], seen.label_N[order], ~seen.member_N[order], None, order)
    again = attack(dataclasses.replace(held, observed=moved))
    np.testing.assert_array_equal(again.scores_N, found.scores_N[order])
    np.testing.assert_array_equal(again.decision_N, found.decision_N[order])
    np.testing.assert_array_equal(attack(held, seed=1).scores_N, found.scores_N)  # the seed draws the folds alone


@pytest.mark.parametrize("classes", [2, 4])
def test_extreme_logits_give_finite_scores(classes):
    held = evidence(5, classes=classes)
    far = held.observed.logits_NC * 1e4 / np.abs(held.observed.logits_NC).max()
    assert np.isfinite(
        attack(dataclasses.replace(held, observed=dataclasses.replace(held.observed, logits_NC=far))).scores_N
    ).all()
    population = Population(held.population.logits_ZC * 1e3, held.population.label_Z)
    assert np.isfinite(attack(dataclasses.replace(held, population=population)).scores_N).all()


def test_a_missing_or_small_population_is_refused():
    held = evidence(6)
    small = Population(held.population.logits_ZC[:99], held.population.label_Z[:99])
    with pytest.raises(UsageError, match="99 records: the attack 'quantile' needs at least 100"):
        attack(dataclasses.replace(held, population=small))
    with pytest.raises(UsageError, match="needs a population"):
        attack(dataclasses.replace(held, population=None))
