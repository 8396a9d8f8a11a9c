"""White-box attacks: the norm of the whole gradient and of its kept part, on a log scale with a floor."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lacewing.attacks._types import Evidence, Observed
from lacewing.attacks._white_box import ENTRIES, gradient_norm_score
from lacewing.errors import UsageError

LEARNED = next(entry for entry in ENTRIES if entry.name == "white-box-learned")
ATTACKS = {entry.name: entry for entry in ENTRIES if entry is not LEARNED}


def observed(seed, n=400, leak=1.0, pruned_leak=1.0):
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(n) < n // 2)
    norms = np.exp(rng.normal(size=(n, 2)) - np.array([leak, pruned_leak]) * member[:, None])
    return Observed(
        rng.normal(size=(n, 3)), np.zeros(n, int), member, None, rng.permutation(9 * n)[:n], gradient_N2=norms
    )


def attack(name, target, shadow=None):
    return ATTACKS[name].function(Evidence(target, shadow=Evidence(shadow) if shadow else None), seed=0)


def test_the_norm_is_that_of_all_weights_or_of_the_kept_ones():
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=(20, 50))
    kept = rng.random(50) < 0.3
    parts = np.stack([np.linalg.norm(gradient[:, kept], axis=1), np.linalg.norm(gradient[:, ~kept], axis=1)], axis=1)
    np.testing.assert_allclose(gradient_norm_score(parts), -np.log(np.linalg.norm(gradient, axis=1)))
    np.testing.assert_allclose(gradient_norm_score(parts, support_only=True), -np.log(parts[:, 0]))


@given(st.lists(st.tuples(st.floats(0, 1e300), st.floats(0, 1e300)), min_size=2, max_size=8))
def test_any_norms_give_finite_scores_that_fall_with_the_norm(parts):
    for support_only in (False, True):
        score = gradient_norm_score(parts, support_only=support_only)
        norm = [p[0] if support_only else np.hypot(*p) for p in parts]
        assert np.isfinite(score).all()
        assert (np.diff(score[np.argsort(norm)]) <= 0).all()
        assert (score <= -np.log(1e-20)).all()


def test_without_pruned_weights_the_two_are_one():
    norms = observed(0).gradient_N2 * [1, 0]
    np.testing.assert_array_equal(gradient_norm_score(norms), gradient_norm_score(norms, support_only=True))
    assert ATTACKS["gradient-norm-support"].about == {"masked"}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_leak_is_found_by_a_threshold_of_the_shadow_and_none_where_there_is_none(name):
    target, shadow = observed(1), observed(2)
    found = attack(name, target, shadow)
    assert attack(name, target).decision_N is None
    assert roc_auc_score(target.member_N, found.scores_N) > 0.7
    known = attack(name, shadow, shadow)
    reached = known.decision_N[shadow.member_N].sum() - known.decision_N[~shadow.member_N].sum()
    assert reached == max(
        kept[shadow.member_N].sum() - kept[~shadow.member_N].sum()
        for kept in (known.scores_N >= t for t in known.scores_N)
    )
    assert found.scores_N[found.decision_N].min() > known.scores_N[~known.decision_N].max()
    assert found.scores_N[~found.decision_N].max() < known.scores_N[known.decision_N].min()
    nulls = [observed(s, leak=0, pruned_leak=0) for s in range(10, 30)]
    assert abs(np.mean([roc_auc_score(seen.member_N, attack(name, seen).scores_N) for seen in nulls]) - 0.5) < 0.02


def test_a_leak_of_the_support_alone_is_seen_best_there():
    target = observed(3, leak=1.5, pruned_leak=0.0)
    whole, support = (attack(name, target).scores_N for name in ATTACKS)
    assert roc_auc_score(target.member_N, support) > roc_auc_score(target.member_N, whole) + 0.1


@pytest.mark.parametrize("name", ATTACKS)
def test_order_and_membership_change_nothing(name):
    target, shadow = observed(4), observed(5)
    found = attack(name, target, shadow)
    order = np.random.default_rng(0).permutation(400)
    moved = dataclasses.replace(target, gradient_N2=target.gradient_N2[order], member_N=~target.member_N[order])
    again = attack(name, moved, shadow)
    np.testing.assert_array_equal(again.scores_N, found.scores_N[order])
    np.testing.assert_array_equal(again.decision_N, found.decision_N[order])


def test_what_does_not_fit_is_refused():
    for wrong, words in [
        (np.ones(4), "shape"),
        (np.ones((4, 3)), "shape"),
        (np.array([[1.0, -1.0]]), "no norms"),
        (np.array([[1.0, np.nan]]), "no norms"),
    ]:
        with pytest.raises(UsageError, match=words):
            gradient_norm_score(wrong)
    target = observed(6)
    with pytest.raises(UsageError, match="gradients' norms of target and shadow"):
        attack("gradient-norm", target, dataclasses.replace(target, gradient_N2=None))
