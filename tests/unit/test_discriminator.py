"""The discriminator attack: features, choice without the target, nulls and determinism."""

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.neural_network import MLPClassifier

from lacewing.attacks import ATTACKS, Observed, discriminator, find
from lacewing.attacks.discriminator import discriminate, features
from lacewing.errors import UsageError
from lacewing.results import METRICS, NetworkResult

NETWORK = NetworkResult("dense", "dense", "target", 0, 1.0, 1.0, 100, 100, 1.0, 0.5)


def observed(seed, n=300, classes=4, leak=3.0):
    """A network that is surer of its members, by ``leak``, and steadier around them."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) < n // 2)
    label = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), label] += 1 + leak * member
    sensitivity = np.exp(rng.normal(size=n) - leak * member)
    return Observed(logits, label, member, sensitivity, rng.permutation(10 * n)[:n])


def shown(seen, classes=4):
    return features(seen.logits_NC, seen.label_N, seen.sensitivity_N, classes)


@pytest.fixture(scope="module")
def leaking():
    """Shadow, target, and the discrimination of one by the other."""
    shadow, target = observed(1), observed(2)
    return shadow, target, discriminate(shown(shadow), shadow.member_N, shown(target), target.member_N, seed=0)


def test_features_are_one_hot_softmax_and_sensitivity():
    rng = np.random.default_rng(0)
    logits = (100 * rng.normal(size=(20, 3))).astype(np.float32)
    label, sensitivity = rng.integers(3, size=20), rng.random(20)
    x = features(logits, label, sensitivity, 3)
    assert x.shape == (20, 7)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x[:, :3], label[:, None] == np.arange(3))
    np.testing.assert_allclose(x[:, 3:6], softmax(logits.astype(np.float64), axis=1), rtol=1e-12)
    np.testing.assert_array_equal(x[:, 6], sensitivity)
    shifted = features(logits.astype(np.float64) - 1e4, label, sensitivity, 3)  # stored logits lack their maximum
    np.testing.assert_allclose(shifted, x, atol=1e-9)


def test_a_leak_is_found(leaking):
    _, target, result = leaking
    assert result.chosen.target_accuracy > 0.9
    assert np.mean(result.decision_N == target.member_N) > 0.9
    np.testing.assert_array_equal(result.decision_N, result.scores_N >= 0.5)


def test_nine_candidates_the_best_on_the_holdout_and_the_oracle_beside(leaking):
    result = leaking[2]
    assert len({(c.hidden, c.lr) for c in result.candidates}) == 9
    assert result.chosen.holdout_accuracy == max(c.holdout_accuracy for c in result.candidates)
    assert result.oracle.target_accuracy == max(c.target_accuracy for c in result.candidates)
    assert result.oracle_accuracy.value == result.oracle.target_accuracy


def test_equal_calls_give_equal_bytes_and_another_seed_other_scores(leaking):
    shadow, target, result = leaking
    arguments = shown(shadow), shadow.member_N, shown(target), target.member_N
    again = discriminate(*arguments, seed=0)
    assert again.scores_N.tobytes() == result.scores_N.tobytes()
    assert again.candidates == result.candidates
    assert discriminate(*arguments, seed=1).scores_N.tobytes() != result.scores_N.tobytes()


def test_the_target_membership_changes_neither_choice_nor_scores(leaking):
    shadow, target, result = leaking
    flipped = discriminate(shown(shadow), shadow.member_N, shown(target), ~target.member_N, seed=0)
    assert (flipped.chosen.hidden, flipped.chosen.lr) == (result.chosen.hidden, result.chosen.lr)
    assert flipped.scores_N.tobytes() == result.scores_N.tobytes()
    assert flipped.oracle.target_accuracy < 0.5  # what did change: the accuracies


def test_every_fit_runs_all_epochs_on_the_fitted_part_only(leaking, monkeypatch):
    seen = []
    fit = MLPClassifier.fit

    def spy(self, x, y):
        done = fit(self, x, y)
        seen.append((len(x), y.mean(), self.n_iter_))
        return done

    monkeypatch.setattr(MLPClassifier, "fit", spy)
    shadow, target, _ = leaking
    discriminate(shown(shadow), shadow.member_N, shown(target), target.member_N, seed=0)
    assert seen == [(240, 0.5, 80)] * 9


def test_no_leak_has_one_half_inside_the_interval():
    held = []
    for seed in range(5):
        shadow, target = observed(10 + seed, leak=0.0), observed(20 + seed, leak=0.0)
        result = discriminator.attack(NETWORK, shadow, target, classes=4, seed=seed)
        held.append(all(result.metrics[m].low <= 0.5 <= result.metrics[m].high for m in ("balanced_accuracy", "auc")))
    assert sum(held) >= 4


def test_permuted_membership_of_a_leaking_target_has_one_half_inside_the_interval():
    target = observed(2)
    permuted = np.random.default_rng(5).permutation(target.member_N)
    result = discriminator.attack(
        NETWORK, observed(1), dataclasses.replace(target, member_N=permuted), classes=4, seed=0
    )
    low, high = result.metrics["balanced_accuracy"][1:]
    assert low <= 0.5 <= high


def test_attack_carries_every_metric_and_the_arrays_behind_them():
    target = observed(2)
    result = ATTACKS["discriminator"].function(NETWORK, observed(1), target, classes=4, seed=0)
    assert tuple(result.metrics) == METRICS
    assert result.metrics["tpr_at_fpr_0.01"] is not None  # 150 non-members allow 1 %, and not 0.1 %
    assert result.metrics["tpr_at_fpr_0.001"] is None
    accuracy = result.metrics["balanced_accuracy"]
    hits = [result.hit_N[kind].mean() for kind in (target.member_N, ~target.member_N)]
    assert accuracy.value == pytest.approx(np.mean(hits))
    assert result.metrics["defence"].value == pytest.approx(2 - 2 * accuracy.value)
    assert result.metrics["advantage"].value == pytest.approx(2 * accuracy.value - 1)
    assert result.metrics["oracle_balanced_accuracy"].value >= accuracy.value
    assert result.metrics["auc"].value == pytest.approx(np.trapezoid(result.tpr, result.fpr))
    np.testing.assert_array_equal(result.record_N, target.record_N)
    np.testing.assert_array_equal(result.correct_N, target.logits_NC.argmax(axis=1) == target.label_N)
    assert result.variant == result.notes["chosen"]
    assert result.variant in {c["name"] for c in result.notes["candidates"]}
    assert (result.n_members, result.n_nonmembers) == (150, 150)


def test_a_feature_that_is_constant_on_the_shadow_does_no_harm():
    shadow, target = observed(1), observed(2)
    x, z = shown(shadow), shown(target)
    x[:, 0] = 0.0  # a class that the shadow never saw
    x[:, 5] = 1e-300
    result = discriminate(x, shadow.member_N, z, target.member_N, seed=0)
    assert np.isfinite(result.scores_N).all()
    assert result.chosen.target_accuracy > 0.8


def test_bad_input_is_named():
    shadow, target = observed(1), observed(2)
    x, z = shown(shadow), shown(target)
    z[3, 6] = np.nan
    with pytest.raises(UsageError, match="Feature 6 of the target"):
        discriminate(x, shadow.member_N, z, target.member_N, seed=0)
    with pytest.raises(UsageError, match="7 features and the target 9"):
        discriminate(x[:, :7], shadow.member_N, shown(target), target.member_N, seed=0)
    few = np.arange(300) < 4
    with pytest.raises(UsageError, match="4 members"):
        discriminate(x, few, shown(target), target.member_N, seed=0)
    with pytest.raises(UsageError, match="shadow has no sensitivity"):
        discriminator.attack(NETWORK, dataclasses.replace(shadow, sensitivity_N=None), target, classes=4, seed=0)
    with pytest.raises(UsageError, match="classes = 5"):
        discriminator.attack(NETWORK, shadow, target, classes=5, seed=0)
    with pytest.raises(UsageError, match="sensitivity"):
        features(shadow.logits_NC, shadow.label_N, shadow.sensitivity_N * np.inf, 4)
    with pytest.raises(UsageError, match="label"):
        features(shadow.logits_NC, shadow.label_N + 1, shadow.sensitivity_N, 4)
    with pytest.raises(UsageError, match="discriminator"):
        find("discriminater")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logits_NC", np.full((300, 4), np.nan)),
        ("logits_NC", np.zeros(300)),
        ("label_N", np.full(300, 4)),
        ("label_N", np.zeros(299, int)),
        ("member_N", np.ones(300, bool)),
        ("sensitivity_N", np.full(300, np.inf)),
        ("record_N", np.zeros(300, int)),
    ],
)
def test_observed_refuses_what_cannot_have_been_observed(field, value):
    with pytest.raises(UsageError, match=field.split("_")[0]):
        dataclasses.replace(observed(1), **{field: value})
