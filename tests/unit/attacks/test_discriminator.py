"""The discriminator attack: features, choice without the target, an oracle by scikit-learn, nulls and determinism."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lacewing import metrics
from lacewing.attacks import _discriminator as module
from lacewing.attacks._discriminator import ENTRIES, discriminate, features
from lacewing.attacks._measure import perform
from lacewing.attacks._types import Evidence, Observed
from lacewing.errors import UsageError
from lacewing.results import METRICS, NetworkResult

NETWORK = NetworkResult("dense", "dense", "target", 0, 1.0, 1.0, 100, 100, 1.0, 0.5)
ENTRY = {entry.name: entry for entry in ENTRIES}


def observed(seed, n=200, classes=4, leak=3.0):
    """A network that is surer of its members, by ``leak``, and steadier around them."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) < n // 2)
    label = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), label] += 1 + leak * member
    sensitivity = np.exp(rng.normal(size=n) - leak * member)
    return Observed(logits, label, member, sensitivity, rng.permutation(10 * n)[:n])


def evidence(target, shadow):
    return Evidence(target, shadow=Evidence(shadow))


def shown(seen, classes=4):
    return features(seen.logits_NC, seen.label_N, seen.sensitivity_N, classes)


@pytest.fixture
def few(monkeypatch):
    """One small discriminator for nine: where the choice among them is not the point."""
    monkeypatch.setattr(module, "HIDDEN", ((30,),))
    monkeypatch.setattr(module, "LEARNING_RATES", (1e-2,))


@pytest.fixture(scope="module")
def leaking():
    """Shadow, target, the discrimination of one by the other, and what each fit was given."""
    shadow, target, fits = observed(1), observed(2), []
    fit = module.fit_and_score

    def spy(x, y, *others, epochs, **more):
        fits.append((len(x), y.mean(), epochs))
        return fit(x, y, *others, epochs=epochs, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit_and_score", spy)
        result = discriminate(shown(shadow), shadow.member_N, shown(target), target.member_N, seed=0)
    return shadow, target, result, fits


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
    _, target, result, _ = leaking
    assert result.chosen.target_accuracy > 0.9
    assert np.mean(result.decision_N == target.member_N) > 0.9
    np.testing.assert_array_equal(result.decision_N, result.scores_N >= 0.5)


def test_every_fit_runs_all_epochs_on_the_fitted_part_only(leaking):
    assert leaking[3] == [(160, 0.5, 80)] * 9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@threadpool_limits.wrap(limits=1)
def test_scikit_learn_alone_gives_the_same_candidates_choice_scores_and_oracle(leaking):
    shadow, target, result, _ = leaking
    rng, held = np.random.default_rng(0), np.zeros(200, bool)  # the documented hold-out: a fifth of either kind
    for kind in (True, False):
        held[rng.permutation(np.flatnonzero(shadow.member_N == kind))[:20]] = True
    scale = StandardScaler().fit(shown(shadow)[~held])
    fit, ask_held, ask = (scale.transform(x) for x in (shown(shadow)[~held], shown(shadow)[held], shown(target)))
    on_held, on_target, scores = [], [], []
    for i, (hidden, lr) in enumerate(itertools.product([(30,), (30, 30), (100, 100, 100)], [1e-2, 1e-3, 1e-4])):
        perceptron = MLPClassifier(
            hidden,
            learning_rate_init=lr,
            batch_size=160,
            max_iter=80,
            n_iter_no_change=81,
            tol=0.0,
            random_state=int(np.random.SeedSequence([0, i]).generate_state(1)[0]),
        ).fit(fit, shadow.member_N[~held].astype(int))
        on_held.append(balanced_accuracy_score(shadow.member_N[held], perceptron.predict(ask_held)))
        on_target.append(balanced_accuracy_score(target.member_N, perceptron.predict(ask)))
        scores.append(perceptron.predict_proba(ask)[:, 1])
    np.testing.assert_allclose([c.holdout_accuracy for c in result.candidates], on_held, rtol=1e-12)
    np.testing.assert_allclose([c.target_accuracy for c in result.candidates], on_target, rtol=1e-12)
    np.testing.assert_allclose(result.scores_N, scores[np.argmax(on_held)], rtol=1e-9)
    best = int(np.argmax(on_target))
    corrected = metrics.balanced_accuracy(scores[best] >= 0.5, target.member_N, 1 - 0.05 / 9)
    np.testing.assert_allclose(result.oracle_accuracy, corrected, rtol=1e-12)
    assert result.oracle == result.candidates[best]


def test_equal_calls_give_equal_bytes_and_another_seed_other_scores(few):
    shadow, target = observed(1), observed(2)
    arguments = shown(shadow), shadow.member_N, shown(target), target.member_N
    result, again = (discriminate(*arguments, seed=0) for _ in range(2))
    assert again.scores_N.tobytes() == result.scores_N.tobytes()
    assert again.candidates == result.candidates
    assert discriminate(*arguments, seed=1).scores_N.tobytes() != result.scores_N.tobytes()


def test_neither_the_target_membership_nor_its_order_changes_choice_or_scores(monkeypatch):
    monkeypatch.setattr(module, "HIDDEN", ((30,),))
    shadow, target = observed(1), observed(2)
    result = discriminate(shown(shadow), shadow.member_N, shown(target), target.member_N, seed=0)
    order = np.random.default_rng(3).permutation(200)
    flipped = discriminate(shown(shadow), shadow.member_N, shown(target)[order], ~target.member_N[order], seed=0)
    assert flipped.chosen.name == result.chosen.name
    np.testing.assert_allclose(flipped.scores_N, result.scores_N[order], rtol=1e-9)
    for mine, theirs in zip(flipped.candidates, result.candidates, strict=True):
        assert mine.target_accuracy == pytest.approx(1 - theirs.target_accuracy)  # what did change


@pytest.mark.parametrize("name", ENTRY)
def test_no_leak_has_one_half_inside_the_interval(name, few):
    held = []
    for seed in range(6):
        seen = [observed(part + seed, leak=0.0) for part in (10, 30)]
        noise = np.random.default_rng(seed).normal(size=(2, 200, 3))
        target, shadow = (dataclasses.replace(o, phi_NQ=x) for o, x in zip(seen, noise, strict=True))
        result = perform(ENTRY[name], evidence(target, shadow), NETWORK, seed=seed)
        held.append(all(result.metrics[m].low <= 0.5 <= result.metrics[m].high for m in ("balanced_accuracy", "auc")))
    assert sum(held) >= 5


def test_permuted_membership_of_a_leaking_target_has_one_half_inside_the_interval(few):
    target = observed(2)
    permuted = dataclasses.replace(target, member_N=np.random.default_rng(5).permutation(target.member_N))
    result = perform(ENTRY["discriminator"], evidence(permuted, observed(1)), NETWORK, seed=0)
    low, high = result.metrics["balanced_accuracy"][1:]
    assert low <= 0.5 <= high


def test_a_result_carries_every_metric_and_the_arrays_behind_them(few):
    shadow, target = observed(1), observed(2)
    direct = discriminate(shown(shadow), shadow.member_N, shown(target), target.member_N, seed=0)
    result = perform(ENTRY["discriminator"], evidence(target, shadow), NETWORK, seed=0)
    assert set(result.metrics) <= set(METRICS)
    np.testing.assert_array_equal(result.score_N, direct.scores_N)
    accuracy = result.metrics["balanced_accuracy"]
    hits = [result.hit_N[kind].mean() for kind in (target.member_N, ~target.member_N)]
    assert accuracy.value == pytest.approx(np.mean(hits))
    assert result.metrics["oracle_balanced_accuracy"] == direct.oracle_accuracy
    assert result.variant == result.notes["chosen"] == direct.chosen.name
    assert [c["name"] for c in result.notes["candidates"]] == [c.name for c in direct.candidates]
    assert result.notes["classes"] == 4


def test_a_leak_in_the_queries_alone_is_found_by_the_entry_that_sees_them(few):
    def seen(seed):
        rng = np.random.default_rng(seed)
        null = observed(seed, leak=0.0)
        phi = rng.normal(size=(200, 1)) + rng.normal(size=(200, 6)) * np.where(null.member_N, 0.3, 1.5)[:, None]
        return dataclasses.replace(null, phi_NQ=phi)  # members answer alike under all queries, none higher

    both = evidence(seen(2), seen(1))
    assert perform(ENTRY["discriminator-queries"], both, NETWORK, seed=0).metrics["auc"].value > 0.9
    assert perform(ENTRY["discriminator"], both, NETWORK, seed=0).metrics["auc"].value < 0.65


def test_the_order_of_the_queries_beside_the_first_does_not_matter(few):
    target, shadow = (
        dataclasses.replace(observed(seed), phi_NQ=np.random.default_rng(seed).normal(size=(200, 4))) for seed in (2, 1)
    )
    turned = dataclasses.replace(target, phi_NQ=target.phi_NQ[:, [0, 3, 1, 2]])
    swapped = dataclasses.replace(target, phi_NQ=target.phi_NQ[:, [1, 0, 2, 3]])
    attack = ENTRY["discriminator-queries"].function
    scores = attack(evidence(target, shadow), seed=0).scores_N
    np.testing.assert_array_equal(attack(evidence(turned, shadow), seed=0).scores_N, scores)
    assert not np.array_equal(attack(evidence(swapped, shadow), seed=0).scores_N, scores)


def test_constant_features_and_extreme_logits_do_no_harm(few):
    shadow, target = observed(1), observed(2)
    x, z = shown(shadow), shown(target)
    x[:, 0] = 0.0  # a class that the shadow never saw
    x[:, 5] = 1e-300
    result = discriminate(x, shadow.member_N, z, target.member_N, seed=0)
    assert np.isfinite(result.scores_N).all()
    assert result.chosen.target_accuracy > 0.8
    wild = dataclasses.replace(target, logits_NC=1e4 * target.logits_NC, phi_NQ=1e4 * target.logits_NC)
    both = evidence(wild, dataclasses.replace(shadow, phi_NQ=shadow.logits_NC))
    assert np.isfinite(ENTRY["discriminator-queries"].function(both, seed=0).scores_N).all()


def test_bad_input_is_named(few):
    shadow, target = observed(1), observed(2)
    x, z = shown(shadow), shown(target)
    z[3, 6] = np.nan
    with pytest.raises(UsageError, match="Feature 6 of the target"):
        discriminate(x, shadow.member_N, z, target.member_N, seed=0)
    with pytest.raises(UsageError, match="7 features and the target 9"):
        discriminate(x[:, :7], shadow.member_N, shown(target), target.member_N, seed=0)
    with pytest.raises(UsageError, match="4 members"):
        discriminate(x, np.arange(200) < 4, shown(target), target.member_N, seed=0)
    with pytest.raises(UsageError, match="classes = 5"):
        features(shadow.logits_NC, shadow.label_N, shadow.sensitivity_N, 5)
    with pytest.raises(UsageError, match="sensitivity"):
        features(shadow.logits_NC, shadow.label_N, shadow.sensitivity_N * np.inf, 4)
    with pytest.raises(UsageError, match="label"):
        features(shadow.logits_NC, shadow.label_N + 1, shadow.sensitivity_N, 4)


def test_evidence_that_lacks_something_is_named():
    shadow, target = observed(1), observed(2)
    attack, queries = ENTRY["discriminator"].function, ENTRY["discriminator-queries"].function
    with pytest.raises(UsageError, match="no shadow"):
        attack(Evidence(target), seed=0)
    with pytest.raises(UsageError, match="shadow has no sensitivity"):
        attack(evidence(target, dataclasses.replace(shadow, sensitivity_N=None)), seed=0)
    with pytest.raises(UsageError, match="5 classes and the target 4"):
        attack(evidence(target, observed(1, classes=5)), seed=0)
    with pytest.raises(UsageError, match="shadow has no phi"):
        queries(evidence(target, shadow), seed=0)
    two, three = (dataclasses.replace(target, phi_NQ=np.zeros((200, q))) for q in (2, 3))
    with pytest.raises(UsageError, match="shadow saw 3 queries a record and the target 2"):
        queries(evidence(two, three), seed=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logits_NC", np.full((200, 4), np.nan)),
        ("logits_NC", np.zeros(200)),
        ("label_N", np.full(200, 4)),
        ("label_N", np.zeros(199, int)),
        ("member_N", np.ones(200, bool)),
        ("sensitivity_N", np.full(200, np.inf)),
        ("record_N", np.zeros(200, int)),
        ("phi_NQ", np.zeros((199, 2))),
        ("phi_NQ", np.full((200, 2), np.nan)),
        ("gradient_N2", np.zeros(200)),
    ],
)
def test_observed_refuses_what_cannot_have_been_observed(field, value):
    with pytest.raises(UsageError, match=field.split("_")[0]):
        dataclasses.replace(observed(1), **{field: value})
