"""The audit's checks of itself: each passes where it should and fails where it must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lacewing import attacks as registry
from lacewing.attacks import Evidence, Observed, Population, References, Scored, _deciding, phi
from lacewing.attacks import selfchecks as _selfchecks
from lacewing.metrics import Estimate
from lacewing.results import AttackResult

N, C, K, Z = 240, 4, 6, 120


def evidence(scale: float = 1.0, n: int = N, seed: int = 0) -> Evidence:
    """A target and K references without any leak; ``scale`` makes outputs sure."""
    rng = np.random.default_rng(seed)
    label, population_label = rng.integers(0, C, n), rng.integers(0, C, Z)
    half = rng.random((K // 2, n)).argsort(axis=1) < n // 2
    inside = np.stack([half, ~half], axis=1).reshape(K, n)
    logits = scale * rng.normal(size=(K + 1, n, C)) + 2 * scale * np.eye(C)[label]
    population = scale * rng.normal(size=(K + 1, Z, C)) + 2 * scale * np.eye(C)[population_label]
    names = tuple(map(str, range(K)))

    def seen(k: int, member: np.ndarray) -> Observed:
        return Observed(logits[k], label, member, None, np.arange(n))

    return Evidence(
        observed=seen(K, rng.permutation(n) < n // 2),
        references=References(logits[:K], inside, names),
        population=Population(population[K], population_label, population[:K]),
        shadow=Evidence(
            seen(0, inside[0]),
            References(logits[1:K], inside[1:], names[1:]),
            Population(population[0], population_label, population[1:K]),
        ),
    )


def ran(*names: str) -> list[AttackResult]:
    from lacewing.auditing._scores import audit_scores

    one = audit_scores({"score": np.arange(8.0), "member": np.arange(8) % 2}).attacks[0]
    return [replace(one, attack=name) for name in names]


def test_null_audit_holds_for_scores_with_ties_and_fails_for_intervals_too_narrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    scores, member = rng.integers(0, 5, 300).astype(float), rng.random(300) < 0.4
    check = _selfchecks.null_audit(scores, member, seed=0)
    assert check.passed
    assert check == _selfchecks.null_audit(scores, member, seed=0)
    exact = _selfchecks.metrics.auc

    def narrow(*arrays: np.ndarray) -> Estimate:
        value = exact(*arrays).value
        return Estimate(value, value - 0.005, value + 0.005)

    monkeypatch.setattr(_selfchecks.metrics, "auc", narrow)
    assert not _selfchecks.null_audit(scores, member, seed=0).passed


@pytest.mark.parametrize("scale", [1.0, 20.0, 1e4], ids=["plain", "sure", "extreme"])
def test_every_attack_on_outputs_finds_the_planted_leak(scale: float) -> None:
    asked = [name for name, entry in registry.ATTACKS.items() if entry.family in _selfchecks._READS_OUTPUTS]
    assert {"lira-online", "rmia-offline", "nig-t-online", "base-offline", "calibrated-loss"} <= set(asked)
    check = _selfchecks.overfitted_control(evidence(scale), ran(*asked), seed=0)
    assert check.passed, check.sentence
    assert all(name in check.sentence for name in ("loss", *asked))


def test_a_control_that_is_not_found_names_the_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = replace(
        registry.ATTACKS["loss"],
        function=lambda evidence, *, seed: Scored(-evidence.observed.record_N.astype(float), None, "blind"),
    )
    monkeypatch.setitem(registry.ATTACKS, "loss", blind)
    check = _selfchecks.overfitted_control(evidence(), ran("lira-online"), seed=0)
    assert not check.passed
    assert "not found by loss (" in check.sentence


def test_so_few_records_that_not_even_a_gross_leak_shows_fail_the_control() -> None:
    few = evidence(n=8)
    assert not _selfchecks.overfitted_control(few, ran("loss"), seed=0).passed
    assert not _selfchecks.planted_scores(np.arange(6.0), seed=0).passed
    assert "at least 4" in _selfchecks.planted_scores(np.arange(3.0), seed=0).sentence
    assert _selfchecks.planted_scores(np.random.default_rng(0).normal(size=100), seed=0).passed


def test_the_plant_moves_log_odds_of_what_each_network_trained_on_and_nothing_else() -> None:
    given = evidence()
    before = given.observed.logits_NC.copy()
    made = _selfchecks.plant(given, seed=3)
    assert made is not None
    assert made.references is not None
    assert given.references is not None
    assert (given.observed.logits_NC == before).all()
    rows = made.observed.record_N
    assert not given.observed.member_N[rows].any()
    label = given.observed.label_N[rows]
    moved = phi(made.observed.logits_NC, label) - phi(given.observed.logits_NC[rows], label)
    levels = np.unique(moved.round(9))
    assert len(levels) == 2
    assert ((moved > levels.mean()) == made.observed.member_N).all()
    of_references = phi(made.references.logits_KNC, label) - phi(given.references.logits_KNC[:, rows], label)
    np.testing.assert_allclose(of_references, np.where(given.references.in_KN[:, rows], levels[1], levels[0]))
    others = np.arange(C) != label[:, None]
    assert (made.observed.logits_NC[others] == given.observed.logits_NC[rows][others]).all()


def test_shadow_and_target_are_alike_or_not() -> None:
    rng = np.random.default_rng(2)
    label, member = rng.integers(0, 3, 2000), np.arange(2000) < 1000

    def network(right_in: float, right_out: float) -> Observed:
        right = rng.random(2000) < np.where(member, right_in, right_out)
        logits = np.eye(3)[np.where(right, label, (label + 1) % 3)]
        return Observed(logits, label, member, None, np.arange(2000))

    target = network(0.95, 0.8)
    assert _selfchecks.shadow_like_target(target, network(0.95, 0.8)).passed
    assert not _selfchecks.shadow_like_target(target, network(0.8, 0.65)).passed  # the same gap, less accurate
    assert not _selfchecks.shadow_like_target(target, network(0.8, 0.8)).passed  # no gap
    assert "not alike" in _selfchecks.shadow_like_target(target, network(0.8, 0.8)).sentence


@pytest.mark.parametrize(("tilt", "passes"), [(0.0, True), (0.6, False)])
def test_equal_class_shares_are_tested_as_scipy_tests_them(tilt: float, passes: bool) -> None:
    rng = np.random.default_rng(4)
    member = rng.random(500) < 0.5
    label = np.where(rng.random(500) < tilt * member, 7, rng.choice([0, 3, 7], 500))
    table = [[int((label[kind] == c).sum()) for c in (0, 3, 7)] for kind in (member, ~member)]
    p = stats.chi2_contingency(table, correction=False).pvalue
    check = _selfchecks.same_classes(Observed(rng.normal(size=(500, 8)), label, member, None, np.arange(500)))
    assert check.passed is passes
    assert f"p = {p:.2g}" in check.sentence


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shares_of_right_answers_are_compared_by_the_hypergeometric_law(data: st.DataObject) -> None:
    records = data.draw(st.integers(1, 40) | st.integers(1000, 10**6))
    hits, drawn = (data.draw(st.integers(0, records)) for _ in range(2))
    k = data.draw(st.integers(max(0, drawn - (records - hits)), min(hits, drawn)))
    expected = stats.hypergeom.cdf(k, records, hits, drawn)
    assert _deciding._at_most(k, records, hits, drawn) == pytest.approx(expected, rel=1e-6, abs=1e-200)
