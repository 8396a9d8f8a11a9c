"""Label-only attacks: counts by hand, ties, thresholds from the shadow, queries that must agree."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import auc, roc_auc_score

from lacewing.attacks._label_only import ENTRIES, augmentation_score, noise_score
from lacewing.attacks._types import Evidence, Observed
from lacewing.errors import UsageError

ATTACKS = {entry.name: entry for entry in ENTRIES}


def observed(seed, n=400, queries=6, sizes=4, leak=0.3):
    """Members are answered right more often, under every query and every noise."""
    rng = np.random.default_rng(seed)
    member, label = rng.permutation(np.arange(n) < n // 2), rng.integers(3, size=n)
    firm = np.clip(0.3 + 0.3 * rng.random(n) + leak * member, 0, 1)[:, None]
    falling = firm * np.linspace(1, 0.3, sizes)
    right_NQ = rng.random((n, queries)) < firm
    logits = rng.random((n, 3))
    logits[np.arange(n), (label + ~right_NQ[:, 0]) % 3] += 1
    return Observed(
        logits,
        label,
        member,
        None,
        rng.permutation(9 * n)[:n],
        right_NQ=right_NQ,
        right_NS=rng.binomial(10, falling) / 10,
        boundary_N=np.where(right_NQ[:, 0], rng.gamma(30 * firm[:, 0] ** 2), 0.0),
        asked_N=np.where(right_NQ[:, 0], 900, 1),
    )


def attack(name, target, shadow=None):
    return ATTACKS[name].function(Evidence(target, shadow=Evidence(shadow) if shadow else None), seed=0)


@given(arrays(np.bool_, st.tuples(st.integers(2, 8), st.integers(1, 6))))
def test_augmentations_are_counted_and_ties_go_to_the_unchanged_record(right):
    score = augmentation_score(right)
    keys = [(sum(map(int, row)), int(row[0])) for row in right]
    for i, first in enumerate(keys):
        for j, second in enumerate(keys):
            assert (score[i] > score[j]) == (first > second)


def test_noise_is_the_area_under_the_curve_from_no_noise_on():
    right, share = np.array([1, 0, 1]), np.array([[1.0, 0.5], [0.5, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(noise_score(right, share), [2.5 / 3, 0.5 / 3, 1 / 3])
    rng = np.random.default_rng(0)
    right, share = rng.integers(2, size=50), rng.random((50, 7))
    steps = [auc(np.repeat(np.arange(9.0), 2)[1:-1], np.repeat([r, *s], 2)) for r, s in zip(right, share, strict=True)]
    np.testing.assert_allclose(noise_score(right, share), np.array(steps) / 8)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_leak_is_found_by_a_threshold_of_the_shadow(name):
    target, shadow = observed(1), observed(2)
    found = attack(name, target, shadow)
    assert attack(name, target).decision_N is None
    assert roc_auc_score(target.member_N, found.scores_N) > 0.8
    known = attack(name, shadow, shadow)
    reached = known.decision_N[shadow.member_N].sum() - known.decision_N[~shadow.member_N].sum()
    assert reached == max(
        kept[shadow.member_N].sum() - kept[~shadow.member_N].sum()
        for kept in (known.scores_N >= t for t in known.scores_N)
    )
    assert found.scores_N[found.decision_N].min() > known.scores_N[~known.decision_N].max()
    assert found.scores_N[~found.decision_N].max() < known.scores_N[known.decision_N].min()


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_found_where_nothing_leaks(name):
    nulls = [(observed(s, leak=0), observed(s + 1, leak=0)) for s in range(10, 50, 2)]
    found = [roc_auc_score(target.member_N, attack(name, target, shadow).scores_N) for target, shadow in nulls]
    assert abs(np.mean(found) - 0.5) < 0.02


@pytest.mark.parametrize("name", ATTACKS)
def test_order_membership_and_outputs_change_nothing(name):
    target, shadow = observed(3), observed(4)
    found = attack(name, target, shadow)
    order = np.random.default_rng(0).permutation(400)
    moved = Observed(
        1e4 * target.logits_NC[order] + 7,  # of which a label-only attacker sees the largest alone
        target.label_N[order],
        ~target.member_N[order],
        None,
        target.record_N[order],
        right_NQ=target.right_NQ[order],
        right_NS=target.right_NS[order],
        boundary_N=target.boundary_N[order],
    )
    again = attack(name, moved, shadow)
    np.testing.assert_array_equal(again.scores_N, found.scores_N[order])
    np.testing.assert_array_equal(again.decision_N, found.decision_N[order])


def test_what_does_not_fit_is_refused():
    target = observed(5)
    for name, what, unmeasured, shadow in (
        ("label-augmentation", "augmented queries", {"right_NQ": None}, observed(6, queries=5)),
        ("label-noise", "noise of several sizes", {"right_NS": None}, observed(6, sizes=3)),
    ):
        for pair in (
            (dataclasses.replace(target, **unmeasured), None),
            (target, dataclasses.replace(target, **unmeasured)),
        ):
            with pytest.raises(UsageError, match=f"'{name}' needs the target's and the shadow's answers to {what}"):
                attack(name, *pair)
        with pytest.raises(UsageError, match=rf"{what}: \d for the shadow, \d for the target"):
            attack(name, target, shadow)
    unmeasured = dataclasses.replace(target, boundary_N=None)
    for pair in ((unmeasured, None), (target, unmeasured)):
        with pytest.raises(UsageError, match="target's and the shadow's distances to the boundary"):
            attack("label-boundary", *pair)
    for wrong in (np.zeros((4, 0), bool), np.full((4, 2), 0.5), np.zeros(4)):
        with pytest.raises(UsageError, match="one column of 0 and 1"):
            augmentation_score(wrong)
    with pytest.raises(UsageError, match="values outside 0"):
        noise_score([0, 1], [[0.5], [1.5]])
    with pytest.raises(UsageError, match=r"give \(N, S\)"):
        noise_score([0, 1, 1], [[0.5], [0.5]])


def test_the_queries_of_the_distance_to_the_boundary_are_told():
    found = attack("label-boundary", seen := observed(7))
    assert found.notes["queries"] == {"mean": seen.asked_N.mean(), "most": 900}
    assert f"{seen.asked_N.mean():.0f} queries a record" in found.variant
    uncounted = attack("label-boundary", dataclasses.replace(seen, asked_N=None))
    assert "queries" not in uncounted.variant
