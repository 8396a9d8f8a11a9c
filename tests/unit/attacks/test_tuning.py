"""Settings chosen on networks of known members: the shadow, else references as targets; never the target."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lacewing import metrics
from lacewing.attacks import ATTACKS, Evidence, Observed, Population, References, difficulty_calibrated, rmia
from lacewing.attacks import _rmia as registry
from lacewing.attacks._base import base
from lacewing.attacks._lira import unusable
from lacewing.attacks._logits import softmax
from lacewing.attacks._tuning import TAIL, early, references_as_targets, shadow_of, tune, without_complement
from lacewing.errors import UsageError

USABLE = partial(unusable, mode="online", at_least=1)


def evidence(seed=0, references=6, records=240, population=80, classes=3, leak=2.0, shadow=True):
    """Pairs of references complement each other; the shadow is the first reference of another draw."""
    rng = np.random.default_rng(seed)
    half = rng.random((references // 2, records)).argsort(axis=1) < records // 2
    inside = np.stack([half, ~half], axis=1).reshape(references, records)
    member = rng.permutation(np.arange(records) < records // 2)
    label, label_z = rng.integers(classes, size=records), rng.integers(classes, size=population)
    logits = rng.normal(size=(references + 1, records, classes)) + rng.normal(size=(records, classes))
    logits[:, np.arange(records), label] += 1 + leak * np.concatenate([member[None], inside])
    logits_z = rng.normal(size=(references + 1, population, classes)) + rng.normal(size=(population, classes))
    return Evidence(
        Observed(logits[0], label, member, None, np.arange(records)),
        References(logits[1:], inside, tuple(map(str, range(references)))),
        Population(logits_z[0], label_z, logits_z[1:]),
        shadow=evidence(seed + 100, references, records, population, classes, leak, False) if shadow else None,
    )


def test_what_settings_are_compared_by_is_the_partial_auc_of_scikit_learn():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        member = rng.random(150) < 0.4
        scores = np.round(rng.normal(size=150) + member, seed % 2 + 1)  # with ties
        corrected = roc_auc_score(member, scores, max_fpr=TAIL)
        least, most = TAIL**2 / 2, TAIL
        assert early(scores, member) == pytest.approx(((2 * corrected - 1) * (most - least) + least) / TAIL, abs=1e-12)


def test_the_setting_that_finds_most_on_the_shadow_is_chosen_and_the_first_of_equals():
    held = evidence()

    def score(given, setting):
        assert given is not held  # the target is never looked at
        return given.observed.member_N * setting + 0.0

    chosen = tune(score, (-1.0, 2.0, 1.0), held, shadow_of(held, USABLE), USABLE)
    assert (chosen.setting, chosen.source) == (2.0, "chosen on the shadow")
    alone = dataclasses.replace(held, shadow=None)
    chosen = tune(score, (-1.0, 2.0, 1.0), alone, shadow_of(alone, USABLE), USABLE)
    assert (chosen.setting, chosen.source) == (2.0, "chosen on 4 references taken as targets")
    pair = dataclasses.replace(evidence(references=2), shadow=None)
    chosen = tune(score, (-1.0, 2.0), pair, shadow_of(pair, USABLE), USABLE)
    assert chosen.setting == -1.0
    assert chosen.source.startswith("default")


def test_references_as_targets_have_the_others_beside_them_but_not_their_complement():
    held = evidence()
    found = references_as_targets(held, USABLE)
    for k, one in enumerate(found):
        np.testing.assert_array_equal(one.observed.member_N, held.references.in_KN[k])
        np.testing.assert_array_equal(one.observed.logits_NC, held.references.logits_KNC[k])
        others = [j for j in range(6) if j not in (k, k ^ 1)]
        assert one.references.name_K == tuple(str(j) for j in others)
        np.testing.assert_array_equal(one.references.logits_KNC, held.references.logits_KNC[others])
        np.testing.assert_array_equal(one.population.logits_ZC, held.population.reference_logits_KZC[k])
        np.testing.assert_array_equal(one.population.reference_logits_KZC, held.population.reference_logits_KZC[others])
    assert len(references_as_targets(evidence(references=20), USABLE)) == 4
    same = evidence(shadow=False)
    assert without_complement(same) is same


def test_a_shadow_whose_only_references_complement_it_does_not_serve():
    held = evidence(references=2)
    inside = held.references.in_KN
    shadow = dataclasses.replace(held.shadow, observed=dataclasses.replace(held.observed, member_N=~inside[0]))
    shadow = dataclasses.replace(shadow, references=dataclasses.replace(held.references, in_KN=inside[[0, 0]]))
    found = shadow_of(dataclasses.replace(held, shadow=shadow), USABLE)
    assert found.evidence is None
    assert "the shadow does not serve" in found.why_not


def of_class(logits, label, temperature):
    return np.take_along_axis(softmax(logits / temperature), np.broadcast_to(label, logits.shape[:-1])[..., None], -1)[
        ..., 0
    ]


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_rmia_takes_the_temperature_and_a_that_find_most_on_the_shadow(mode):
    held = evidence()

    def score(given, temperature, a):
        seen, of, reserve = given.observed, given.references, given.population
        return rmia(
            of_class(seen.logits_NC, seen.label_N, temperature),
            of_class(of.logits_KNC, seen.label_N, temperature),
            of.in_KN,
            of_class(reserve.logits_ZC, reserve.label_Z, temperature),
            of_class(reserve.reference_logits_KZC, reserve.label_Z, temperature),
            mode=mode,
            offline_a=a,
        )

    grid = [(t, a) for t in (2.0, 1.0, 4.0) for a in (registry.TRIED_A if mode == "offline" else (0.3,))]
    best = max(grid, key=lambda each: early(score(held.shadow, *each), held.shadow.observed.member_N))
    scored = ATTACKS[f"rmia-tuned-{mode}"].function(held, seed=0)
    np.testing.assert_allclose(scored.scores_N, score(held, *best), atol=1e-12)
    assert scored.notes["temperature"] == best[0]
    assert scored.notes.get("offline_a", 0.3) == best[1]
    assert scored.notes["temperature_source"] == "chosen on the shadow"
    assert f"T = {best[0]:g}" in scored.variant
    assert scored.decision_N is not None


def test_base_is_the_log_ratio_at_the_chosen_temperature_and_ranks_as_rmia_does():
    held = evidence()
    scored = ATTACKS["base-online"].function(held, seed=0)
    seen, of = held.observed, held.references
    p = of_class(seen.logits_NC, seen.label_N, scored.notes["temperature"])
    others = of_class(of.logits_KNC, seen.label_N, scored.notes["temperature"])
    np.testing.assert_allclose(scored.scores_N, np.log(p / others.mean(axis=0)), atol=1e-9)
    against_each = rmia(p, others, of.in_KN, p, others)  # the records themselves as population: no ties
    np.testing.assert_array_equal(against_each.argsort(), scored.scores_N.argsort())
    offline = base(np.log(p), np.log(others), of.in_KN, mode="offline", scale=0.4)
    expected = [np.log(p[n]) - 0.4 * np.log(others[~of.in_KN[:, n], n].mean()) for n in range(len(p))]
    np.testing.assert_allclose(offline, expected, atol=1e-12)
    far = base(np.full(3, -1e5), np.full((2, 3), -2e5), np.array([[True] * 3, [False] * 3]))
    np.testing.assert_allclose(far, 1e5)


def test_references_known_by_their_log_odds_alone_are_compared_at_temperature_one():
    held = evidence(shadow=False)
    held = dataclasses.replace(held, references=dataclasses.replace(held.references, of_phi=True))
    for name in ("base-online", "base-offline", "rmia-tuned-online", "rmia-tuned-offline"):
        assert ATTACKS[name].function(held, seed=0).notes["temperature"] == 1.0


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda p: p[:-1], "target_logp_N has shape"),
        (0, lambda p: p + 9.0, "target_logp_N holds values that are not finite or above 0"),
        (1, lambda p: np.where(p < p.max(), p, -np.inf), "reference_logp_KN holds values"),
        (2, lambda i: np.ones_like(i), "30 of 30 records have no OUT"),
        (2, lambda i: np.zeros_like(i), "30 of 30 records have no IN"),
    ],
)
def test_bad_input_of_base_is_named(position, change, message):
    rng = np.random.default_rng(0)
    inside = np.arange(4)[:, None] % 2 == np.arange(30) % 2
    arguments = [-rng.random(30), -rng.random((4, 30)), inside]
    arguments[position] = change(arguments[position])
    with pytest.raises(UsageError, match=message):
        base(*arguments)
    for option in ({"scale": 1.5}, {"mode": "on"}):
        with pytest.raises(UsageError, match=next(iter(option))):
            base(-rng.random(30), -rng.random((4, 30)), inside, **option)


@pytest.mark.parametrize("most", [1, 2, 9])
def test_difficulty_calibration_is_the_score_less_the_mean_of_the_first_references_that_are_out(most):
    rng = np.random.default_rng(most)
    target, reference, inside = rng.normal(size=40), rng.normal(size=(5, 40)), rng.random((5, 40)) < 0.5
    inside[rng.integers(5, size=40), np.arange(40)] = False
    expected = [target[n] - reference[np.flatnonzero(~inside[:, n])[:most], n].mean() for n in range(40)]
    np.testing.assert_allclose(difficulty_calibrated(target, reference, inside, most=most), expected, atol=1e-12)


def test_calibrated_entries_compare_each_record_with_one_reference_that_is_out_and_decide_by_the_shadow():
    held = evidence()
    seen, of = held.observed, held.references
    first = np.argmax(~of.in_KN, axis=0)
    p, others = of_class(seen.logits_NC, seen.label_N, 1.0), of_class(of.logits_KNC, seen.label_N, 1.0)
    other = others[first, np.arange(len(p))]
    for name, score in (("loss", np.log), ("log-odds", lambda q: np.log(q / (1 - q)))):
        scored = ATTACKS[f"calibrated-{name}"].function(held, seed=0)
        np.testing.assert_allclose(scored.scores_N, score(p) - score(other), atol=1e-9)
        assert metrics.auc(scored.scores_N, seen.member_N).low > 0.6
        assert scored.decision_N is not None
        alone = ATTACKS[f"calibrated-{name}"].function(dataclasses.replace(held, shadow=None), seed=0)
        assert alone.decision_N is None
        assert "no shadow" in alone.notes["decision"]


def test_bad_input_of_difficulty_calibration_is_named():
    target, reference, inside = np.zeros(6), np.zeros((2, 6)), np.zeros((2, 6), bool)
    for change, message in (
        ({"target_score_N": np.zeros(5)}, "target_score_N has shape"),
        ({"reference_score_KN": np.full((2, 6), np.nan)}, "reference_score_KN holds NaN"),
        ({"reference_in_KN": np.ones((2, 6))}, "6 of 6 records have no OUT"),
        ({"most": 0}, "most = 0"),
    ):
        given = {"target_score_N": target, "reference_score_KN": reference, "reference_in_KN": inside, **change}
        with pytest.raises(UsageError, match=message):
            difficulty_calibrated(**given)
