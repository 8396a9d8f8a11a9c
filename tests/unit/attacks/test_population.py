"""The population attack: ranks against a count by hand, the rate kept on non-members whatever their distribution."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lacewing.attacks._population import ENTRIES, conformal_p, population_rank
from lacewing.attacks._types import Evidence, Observed, Population
from lacewing.errors import UsageError

(ENTRY,) = ENTRIES
VALUES = st.floats(-3e4, 3e4) | st.integers(-3, 3).map(float)  # the whole numbers bring ties


def records(rng, n, classes, leak=0.0, easier=0.0, weights=None):
    """Logits and labels, half of them surer by ``leak``; class c is easier by c times ``easier``."""
    member, label = rng.permutation(np.arange(n) < n // 2), rng.choice(classes, size=n, p=weights)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), label] += 1 + leak * member + easier * label
    return logits, label, member


def evidence(seed, n=500, z=400, classes=4, **how):
    rng = np.random.default_rng(seed)
    logits, label, member = records(rng, n, classes, **how)
    others = records(rng, z, classes, **{**how, "leak": 0.0})
    return Evidence(Observed(logits, label, member, None, np.arange(n)), population=Population(*others[:2]))


def attack(held):
    return ENTRY.function(held, seed=0)


@settings(max_examples=80, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=12), st.lists(VALUES, min_size=2, max_size=12))
def test_a_rank_counts_the_lower_ones_and_rises_with_phi(known, asked):
    rank = population_rank(asked, known)
    for phi, found, p in zip(asked, rank, conformal_p(asked, known), strict=True):
        lower = sum(other < phi for other in known)
        assert lower / (len(known) + 1) - 1e-12 <= found <= (lower + 1) / (len(known) + 1) + 1e-12
        assert p == pytest.approx((1 + sum(other >= phi for other in known)) / (len(known) + 1), rel=1e-12)
    order = np.argsort(asked)
    assert (np.diff(rank[order]) >= 0).all()


def test_records_above_below_and_between_the_population_stay_ordered():
    asked = np.array([-1e4, -50.0, -1.0, 0.1, 0.2, 0.9, 1.0, 1.5, 40.0, 50.0, 1e4])
    rank = population_rank(asked, [0.0, 1.0, 1.0, 2.0])
    assert (np.diff(rank) > 0).all()
    assert rank[0] > 0
    assert rank[-1] < 1
    np.testing.assert_allclose(population_rank([0.0, 0.5, 2.0], [0.0, 1.0, 2.0]), [1 / 4, 1.5 / 4, 3 / 4])
    np.testing.assert_allclose(population_rank([3.0, 4.0, 5.0], [4.0] * 9), [1 / 20, 1 / 10, 9 / 10 + 1 / 20])


def test_a_class_is_compared_with_itself_where_fifty_of_it_are_there():
    held = evidence(0, z=300, easier=2.0, weights=[0.4, 0.3, 0.25, 0.05])
    count = np.bincount(held.population.label_Z)
    assert (count[:3] >= 50).all()
    assert count[3] < 50
    found, seen, others = attack(held), held.observed, held.population
    margin = seen.logits_NC[np.arange(500), seen.label_N]
    assert found.notes["classes_compared_with_all"] == 1
    assert found.notes["records_compared_with_all"] == (seen.label_N == 3).sum()

    def phi(logits, label):
        return np.array([z[y] - np.log(np.delete(np.exp(z), y).sum()) for z, y in zip(logits, label, strict=True)])

    ours, theirs = phi(seen.logits_NC, seen.label_N), phi(others.logits_ZC, others.label_Z)
    for n in range(len(margin)):
        group = theirs[others.label_Z == seen.label_N[n]] if seen.label_N[n] < 3 else theirs
        lower, size = (group < ours[n]).sum(), len(group) + 1
        assert lower / size - 1e-9 <= found.scores_N[n] <= (lower + 1) / size + 1e-9
        assert found.decision_N[n] == (1 + (group >= ours[n]).sum() <= 0.05 * size)


def test_a_class_of_its_own_scale_is_no_leak_and_does_not_hide_one():
    held = evidence(1, n=2000, z=2000, leak=1.0, easier=3.0)
    plain = held.observed.logits_NC[np.arange(2000), held.observed.label_N]
    assert roc_auc_score(held.observed.member_N, attack(held).scores_N) > 0.7
    assert roc_auc_score(held.observed.member_N, plain) < 0.62


def test_the_rate_is_kept_and_nothing_found_where_nothing_leaks():
    found = [(attack(held), held.observed.member_N) for held in (evidence(s, n=200, z=240) for s in range(60))]
    rate = np.mean([scored.decision_N.mean() for scored, _ in found])
    assert 0.03 < rate < 0.052  # at most 5 % in expectation; steps of 1/(Z + 1) make it less
    assert abs(np.mean([roc_auc_score(member, scored.scores_N) for scored, member in found]) - 0.5) < 0.01


def test_order_and_membership_change_nothing():
    held = evidence(2, leak=2.0)
    seen, found = held.observed, attack(held)
    assert roc_auc_score(seen.member_N, found.scores_N) > 0.75
    order = np.random.default_rng(0).permutation(500)
    moved = Observed(seen.logits_NC[order], seen.label_N[order], ~seen.member_N[order], None, order)
    others = Population(held.population.logits_ZC[::-1], held.population.label_Z[::-1])
    again = attack(Evidence(moved, population=others))
    np.testing.assert_array_equal(again.scores_N, found.scores_N[order])
    np.testing.assert_array_equal(again.decision_N, found.decision_N[order])


def test_extreme_logits_give_finite_ordered_scores():
    held = evidence(3, leak=2.0)
    logits = held.observed.logits_NC * 1e4 / np.abs(held.observed.logits_NC).max()
    found = attack(dataclasses.replace(held, observed=dataclasses.replace(held.observed, logits_NC=logits)))
    assert ((found.scores_N > 0) & (found.scores_N < 1)).all()
    assert len(np.unique(found.scores_N)) > 490


def test_what_does_not_fit_is_refused():
    held = evidence(4)
    good = held.population
    for population, words in [
        (None, "needs a population"),
        (Population(good.logits_ZC[:19], good.label_Z[:19]), "19 records.*at least 20"),
        (Population(good.logits_ZC[:, :3], good.label_Z), r"\(Z, 4\)"),
        (Population(good.logits_ZC, good.label_Z + 1), "no class"),
        (Population(good.logits_ZC * np.nan, good.label_Z), "NaN"),
    ]:
        with pytest.raises(UsageError, match=words):
            attack(dataclasses.replace(held, population=population))
