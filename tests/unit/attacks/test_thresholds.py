"""Threshold attacks: the signals against closed forms, thresholds against brute force, one a class where it can be."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lacewing.attacks._thresholds import ENTRIES, fit_thresholds
from lacewing.attacks._types import Evidence, Observed
from lacewing.errors import UsageError

ATTACKS = {entry.name: entry for entry in ENTRIES}
GLOBAL = ("loss", "confidence", "entropy", "modified-entropy")


def observed(seed, n=600, classes=4, leak=1.5, of_class=(0, 0, 0, 0)):
    """A network that is surer of its members, by ``leak``, and of some classes more than of others."""
    rng = np.random.default_rng(seed)
    member, label = rng.permutation(np.arange(n) < n // 2), rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), label] += 1 + leak * member + np.asarray(of_class)[label]
    return Observed(logits, label, member, None, rng.permutation(10 * n)[:n])


def attack(name, target, shadow=None):
    return ATTACKS[name].function(Evidence(target, shadow=Evidence(shadow) if shadow else None), seed=0)


def taken(seen, rows):
    arrays = (seen.logits_NC, seen.label_N, seen.member_N)
    return Observed(*(a[rows] for a in arrays), None, seen.record_N[rows])


def test_signals_are_what_their_names_say():
    seen = observed(0)
    p = np.exp(seen.logits_NC) / np.exp(seen.logits_NC).sum(axis=1, keepdims=True)
    p_y = p[np.arange(len(p)), seen.label_N]
    others = np.where(np.arange(4) == seen.label_N[:, None], 0, p * np.log1p(-p)).sum(axis=1)
    expected = {
        "loss": np.log(p_y / (1 - p_y)),
        "confidence": np.log(p_y / (1 - p_y)),
        "entropy": (p * np.log(p)).sum(axis=1),
        "modified-entropy": (1 - p_y) * np.log(p_y) + others,
        "gap": p.argmax(axis=1) == seen.label_N,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(attack(name, seen).scores_N, values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_loss_and_confidence_do_not_tie_where_probabilities_round_to_one():
    sure = np.zeros((40, 3))
    sure[:, 0] = np.linspace(40, 900, 40)
    seen = Observed(sure, np.zeros(40, int), np.arange(40) % 2 == 0, None, np.arange(40))
    for name in ("loss", "confidence"):
        assert (np.diff(attack(name, seen).scores_N) > 0).all()


def test_a_global_threshold_is_the_best_of_the_shadow():
    target, shadow = observed(1), observed(2)
    for name in GLOBAL:
        found, known = attack(name, target, shadow), attack(name, shadow, shadow)
        reached = known.decision_N[shadow.member_N].sum() - known.decision_N[~shadow.member_N].sum()
        every = (known.scores_N >= t for t in known.scores_N)
        assert reached == max(kept[shadow.member_N].sum() - kept[~shadow.member_N].sum() for kept in every)
        assert found.scores_N[found.decision_N].min() > known.scores_N[~known.decision_N].max()
        assert found.scores_N[~found.decision_N].max() < known.scores_N[known.decision_N].min()


def test_without_a_shadow_there_are_scores_and_no_decision_but_for_the_gap():
    target = observed(1)
    for name in GLOBAL:
        found = attack(name, target)
        assert found.decision_N is None
        np.testing.assert_array_equal(found.scores_N, attack(name, target, observed(2)).scores_N)
        with pytest.raises(UsageError, match="needs a shadow"):
            attack(f"{name}-per-class", target)
    gap = attack("gap", target)
    np.testing.assert_array_equal(gap.decision_N, target.logits_NC.argmax(axis=1) == target.label_N)
    assert not ATTACKS["gap"].needs


def test_a_threshold_a_class_is_the_best_of_that_class():
    seen = observed(3, n=80)
    score = seen.logits_NC[:, 0]
    threshold_C, own_C = fit_thresholds(score, seen.label_N, seen.member_N, 4)
    assert own_C.all()
    for c, found in enumerate(threshold_C):
        rows = seen.label_N == c
        member, values = seen.member_N[rows], score[rows]
        every = [balanced_accuracy_score(member, values >= t) for t in [*values, np.inf]]
        assert balanced_accuracy_score(member, values >= found) == pytest.approx(max(every), abs=1e-12)


def test_a_class_of_one_kind_takes_the_threshold_of_all_and_is_counted():
    target, shadow = observed(4), observed(5)
    shadow = taken(shadow, (shadow.label_N < 2) | ((shadow.label_N == 2) & shadow.member_N))  # 2: members only; 3: none
    score = -shadow.logits_NC[:, 1]
    threshold_C, own_C = fit_thresholds(score, shadow.label_N, shadow.member_N, 4)
    overall, _ = fit_thresholds(score, np.zeros(len(score), int), shadow.member_N, 1)
    np.testing.assert_array_equal(own_C, [True, True, False, False])
    np.testing.assert_array_equal(threshold_C[2:], overall.repeat(2))
    found = attack("loss-per-class", target, shadow)
    assert found.notes["classes_with_global_threshold"] == 2
    plain = attack("loss", target, shadow)
    rare = target.label_N >= 2
    np.testing.assert_array_equal(found.decision_N[rare], plain.decision_N[rare])


@pytest.mark.parametrize("name", GLOBAL)
def test_per_class_scores_are_the_signal_over_the_class_threshold(name):
    target, shadow = observed(6, of_class=(-6, -2, 2, 6)), observed(7, of_class=(-6, -2, 2, 6))
    plain, found = attack(name, target), attack(f"{name}-per-class", target, shadow)
    np.testing.assert_array_equal(found.decision_N, found.scores_N >= 0)
    for c in range(4):
        rows = target.label_N == c
        assert np.ptp(plain.scores_N[rows] - found.scores_N[rows]) < 1e-12
    if name != "entropy":  # of a class that is always got wrong the entropy says nothing of the label
        accuracy = [
            balanced_accuracy_score(target.member_N, s.decision_N) for s in (attack(name, target, shadow), found)
        ]
        assert accuracy[1] > accuracy[0] + 0.03
    if name == "loss":
        assert roc_auc_score(target.member_N, found.scores_N) > roc_auc_score(target.member_N, plain.scores_N) + 0.05


@pytest.mark.parametrize("name", ATTACKS)
def test_a_leak_is_found_and_none_where_there_is_none(name):
    assert roc_auc_score(observed(10).member_N, attack(name, observed(10), observed(11)).scores_N) > 0.58
    null = [attack(name, observed(s, leak=0), observed(s + 1, leak=0)) for s in range(20, 40, 2)]
    members = [observed(s).member_N for s in range(20, 40, 2)]
    assert abs(np.mean([roc_auc_score(m, s.scores_N) for m, s in zip(members, null, strict=True)]) - 0.5) < 0.03
    assert (
        abs(np.mean([balanced_accuracy_score(m, s.decision_N) for m, s in zip(members, null, strict=True)]) - 0.5)
        < 0.03
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_target_membership_and_the_order_of_records_change_nothing(name):
    target, shadow = observed(12), observed(13)
    order, shuffle = np.random.default_rng(0).permutation(len(target.label_N)), np.arange(len(shadow.label_N))[::-1]
    found = attack(name, target, shadow)
    blind = attack(name, dataclasses.replace(target, member_N=~target.member_N), shadow)
    moved = attack(name, taken(target, order), taken(shadow, shuffle))
    np.testing.assert_array_equal(blind.scores_N, found.scores_N)
    np.testing.assert_array_equal(moved.scores_N, found.scores_N[order])
    np.testing.assert_array_equal(moved.decision_N, found.decision_N[order])


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (12, 3), elements=st.floats(-1e4, 1e4)), st.lists(st.integers(0, 2), min_size=12, max_size=12)
)
def test_extreme_logits_give_finite_scores(logits, label):
    logits[:, 0] -= 1.5  # never probabilities
    seen = Observed(logits, np.asarray(label), np.arange(12) % 2 == 0, None, np.arange(12))
    for name in ATTACKS:
        found = attack(name, seen, seen)
        assert np.isfinite(found.scores_N).all(), name
    kinds = Counter(zip(label, seen.member_N.tolist(), strict=True))
    alone = sum(not (kinds[c, True] and kinds[c, False]) for c in range(3))
    assert attack("loss-per-class", seen, seen).notes["classes_with_global_threshold"] == alone


def test_what_does_not_fit_is_refused():
    score, label, member = np.arange(4.0), np.array([0, 1, 0, 1]), np.array([True, False, False, True])
    for arguments, words in [
        ((score, label[:3], member, 2), "one label a score"),
        ((score, label, member, 1), "no class"),
        ((score, label, np.ones(4, bool), 2), "members and non-members"),
        ((np.array([0, 1, 2, np.nan]), label, member, 2), "NaN"),
    ]:
        with pytest.raises(UsageError, match=words):
            fit_thresholds(*arguments)
    with pytest.raises(UsageError, match="5 classes and the target 4"):
        attack("loss-per-class", observed(0), observed(1, classes=5, of_class=(0,) * 5))
