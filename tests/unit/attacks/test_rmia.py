"""RMIA against the double loop of its definition, ties, zeros, planted leaks and nulls."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing import metrics
from lacewing.attacks import _rmia
from lacewing.attacks._logits import softmax
from lacewing.attacks._measure import threshold
from lacewing.attacks._rmia import ENTRIES, rmia
from lacewing.attacks._types import Evidence, Observed, Population, References
from lacewing.errors import UsageError

BY_NAME = {entry.name: entry for entry in ENTRIES}


def expit(x):
    return 1 / (1 + np.exp(-x))


def simulated(seed, records=30, references=5, population=17, leak=2.0):
    """The five arguments of `rmia`, and the target's membership."""
    rng = np.random.default_rng(seed)
    inside = rng.random((references + 1, records)) < 0.5
    inside[1], inside[2] = True, False
    x = rng.normal(size=(references + 1, records)) + rng.normal(scale=2, size=records) + leak * inside
    z = rng.normal(size=(references + 1, population)) + rng.normal(scale=2, size=population)
    return expit(x[0]), expit(x[1:]), inside[1:], expit(z[0]), expit(z[1:]), inside[0]


def by_hand(p, references, inside, p_z, references_z, mode, gamma, a):
    scores = []
    for n in range(len(p)):
        beaten = 0
        for z in range(len(p_z)):
            if mode == "online":
                prior, prior_z = references[:, n].mean(), references_z[:, z].mean()
            else:
                prior, prior_z = (
                    ((1 + a) * out.mean() + (1 - a)) / 2 for out in (references[~inside[:, n], n], references_z[:, z])
                )
            beaten += (p[n] / prior) / (p_z[z] / prior_z) >= gamma
        scores.append(beaten / len(p_z))
    return scores


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 8),
    st.sampled_from(["online", "offline"]),
    st.floats(0.25, 4),
    st.floats(0, 1),
)
def test_agrees_with_the_double_loop_of_its_definition(seed, references, mode, gamma, a):
    *arguments, _ = simulated(seed, 12, references)
    scores = rmia(*arguments, mode=mode, gamma=gamma, offline_a=a)
    np.testing.assert_allclose(scores, by_hand(*arguments, mode, gamma, a), rtol=0, atol=1e-9)
    x, z, k = (np.random.default_rng(seed).permutation(n) for n in (12, 17, references))
    p, references_x, inside, p_z, references_z = arguments
    shuffled = p[x], references_x[k][:, x], inside[k][:, x].astype(int), p_z[z], references_z[k][:, z]
    np.testing.assert_allclose(rmia(*shuffled, mode=mode, gamma=gamma, offline_a=a), scores[x], rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_records_are_summed_in_chunks_and_networks_in_turn(mode, monkeypatch):
    *arguments, _ = simulated(3, 50, 9)
    whole = rmia(*arguments, mode=mode)
    np.testing.assert_allclose(whole, by_hand(*arguments, mode, 1.0, 0.3), rtol=0, atol=1e-9)
    turned = [np.asfortranarray(a) for a in arguments]
    np.testing.assert_array_equal(rmia(*turned, mode=mode), whole)
    for chunk in (1, 7, 49, 50):
        monkeypatch.setattr(_rmia, "_CHUNK", chunk)
        np.testing.assert_array_equal(rmia(*arguments, mode=mode), whole)


def test_ties_count_as_beaten():
    half, one = np.full((2, 1), 0.5), np.ones((2, 4))
    inside = np.array([[True], [False]])
    # ratio_x = 1; ratio_z = 0.25, 0.5, 1, 1
    arguments = [0.5], half, inside, [0.25, 0.5, 1.0, 1.0], one
    for gamma, score in ((1.0, 1.0), (2.0, 0.5), (4.0, 0.25), (8.0, 0.0), (0.5, 1.0)):
        np.testing.assert_array_equal(rmia(*arguments, gamma=gamma), [score])
    sure = np.ones(3), np.ones((2, 3)), np.tile(inside, 3), np.ones(5), np.ones((2, 5))  # saturated, all alike
    for mode in ("online", "offline"):
        np.testing.assert_array_equal(rmia(*sure, mode=mode), np.ones(3))


def test_probabilities_of_zero_have_a_meaning():
    inside = np.array([[True] * 3, [False] * 3])
    reference = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5]])
    z, reference_z = np.array([0.0, 0.1, 0.4, 0.8]), np.full((2, 4), 0.2)  # ratios 0, 0.5, 2, 4
    scores = rmia([0.0, 1e-300, 0.0], reference, inside, z, reference_z)
    np.testing.assert_array_equal(scores, [0.5, 1.0, 0.25])  # 0/0 is 1; p/0 beats all; 0/p beats zeros alone
    tiny = rmia([1.0, 1.0, 1.0], np.where(reference == 0, 5e-324, reference), inside, z, reference_z)
    assert np.isfinite(tiny).all()


def test_offline_looks_at_out_references_alone():
    p, references, inside, p_z, references_z, _ = simulated(1)
    spoilt = np.where(inside, 1.0 - references, references)
    scores = rmia(p, references, inside, p_z, references_z, mode="offline")
    np.testing.assert_array_equal(rmia(p, spoilt, inside, p_z, references_z, mode="offline"), scores)
    assert (rmia(p, spoilt, inside, p_z, references_z) != rmia(p, references, inside, p_z, references_z)).any()
    single = rmia(p, references[1:2], inside[1:2], p_z, references_z[1:2], mode="offline")  # K = 1 will do
    assert single.shape == p.shape


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_planted_leak_is_found_and_no_leak_is_not(mode):
    for leak in (2.0, 0.0):
        *arguments, member = simulated(2, 2000, 16, 800, leak)
        scores = rmia(*arguments, mode=mode)
        auc = metrics.auc(scores, member)
        assert auc.low > 0.6 if leak else auc.low <= 0.5 <= auc.high
        assert rmia(*arguments, mode=mode).tobytes() == scores.tobytes()


def test_smaller_floats_are_computed_in_double():
    *arguments, _ = simulated(3)
    for dtype in (np.float16, np.float32):
        small = [a if a.dtype == bool else a.astype(dtype) for a in arguments]
        exact = [a if a.dtype == bool else a.astype(np.float64) for a in small]
        assert rmia(*small).dtype == np.float64
        np.testing.assert_array_equal(rmia(*small), rmia(*exact))


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda p: p[:-1], "target_p_N holds 29 records and reference_p_KN 30"),
        (0, lambda p: np.where(np.arange(30) == 3, np.nan, p), "target_p_N holds values outside"),
        (0, lambda p: np.log(p), "target_p_N holds values outside 0..1.*not logits"),
        (1, lambda p: p + 0.5, "reference_p_KN holds values outside"),
        (1, lambda p: p[0], "reference_p_KN has shape"),
        (2, lambda i: i[1:], "reference_in_KN has shape"),
        (2, lambda i: i * 0.5, "reference_in_KN holds values other"),
        (2, lambda i: np.where(np.arange(30) < 4, True, i), "4 of 30 records have no OUT"),
        (2, lambda i: np.where(np.arange(30) < 3, False, i), "3 of 30 records have no IN"),
        (3, lambda p: p[:0], "target_p_Z has shape"),
        (4, lambda p: p[1:], "reference_p_KN holds 5 networks and reference_p_KZ 4"),
    ],
)
def test_bad_input_is_named(position, change, message):
    arguments = list(simulated(0)[:5])
    arguments[position] = change(arguments[position])
    with pytest.raises(UsageError, match=message):
        rmia(*arguments)


@pytest.mark.parametrize("option", [{"gamma": 0.0}, {"gamma": np.nan}, {"offline_a": 1.5}, {"mode": "ofline"}])
def test_options_out_of_range_are_named(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        rmia(*simulated(0)[:5], **option)


# The registry ---------------------------------------------------------------------------------------------------------


def evidence(seed, references=6, records=400, population=150, classes=3, leak=3.0):
    rng = np.random.default_rng(seed)
    label, label_z = rng.integers(classes, size=records), rng.integers(classes, size=population)
    inside = rng.random((references + 2, records)) < 0.5
    inside[2], inside[3] = True, False
    logits = rng.normal(size=(references + 2, records, classes)) + rng.normal(size=(records, classes))
    logits[:, np.arange(records), label] += leak * inside
    logits_z = rng.normal(size=(references + 2, population, classes)) + rng.normal(size=(population, classes))

    def held(k):
        return Evidence(
            Observed(logits[k], label, inside[k], None, np.arange(records)),
            References(logits[2:], inside[2:], tuple(f"dense/target/{j}" for j in range(references))),
            Population(logits_z[k], label_z, logits_z[2:]),
        )

    return dataclasses.replace(held(0), shadow=held(1))


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("rmia-online", "online, gamma = 1, K = 6, Z = 150, 1 query"),
        ("rmia-offline", "offline, gamma = 1, a = 0.3, K = 6, Z = 150, 1 query"),
    ],
)
def test_entries_are_rmia_of_the_true_class_and_decide_by_the_shadow(name, variant):
    seen = evidence(0)
    scored = BY_NAME[name].function(seen, seed=0)
    label, label_z = seen.observed.label_N, seen.population.label_Z
    expected = rmia(
        softmax(seen.observed.logits_NC)[np.arange(400), label],
        softmax(seen.references.logits_KNC)[:, np.arange(400), label],
        seen.references.in_KN,
        softmax(seen.population.logits_ZC)[np.arange(150), label_z],
        softmax(seen.population.reference_logits_KZC)[:, np.arange(150), label_z],
        mode=name.removeprefix("rmia-"),
    )
    np.testing.assert_allclose(scored.scores_N, expected, atol=1e-12)
    assert scored.variant == variant
    assert metrics.auc(scored.scores_N, seen.observed.member_N).low > 0.6
    on_shadow = BY_NAME[name].function(seen.shadow, seed=3).scores_N
    best = threshold(on_shadow, seen.shadow.observed.member_N)
    np.testing.assert_array_equal(scored.decision_N, scored.scores_N >= best)


def test_without_a_usable_shadow_nothing_is_decided_and_the_notes_say_why():
    seen = evidence(1)
    for shadow, reason in (
        (None, "no shadow network"),
        (dataclasses.replace(seen.shadow, references=None), "no reference networks"),
        (dataclasses.replace(seen.shadow, population=None), "no population"),
    ):
        scored = BY_NAME["rmia-offline"].function(dataclasses.replace(seen, shadow=shadow), seed=0)
        assert scored.decision_N is None
        assert reason in scored.notes["decision"]


def test_evidence_that_does_not_serve_is_refused():
    seen = evidence(2)
    unasked = dataclasses.replace(seen.population, reference_logits_KZC=None)
    with pytest.raises(UsageError, match="reference_logits_KZC"):
        BY_NAME["rmia-offline"].function(dataclasses.replace(seen, population=unasked), seed=0)
    with pytest.raises(UsageError, match="no population"):
        BY_NAME["rmia-offline"].function(dataclasses.replace(seen, population=None), seed=0)
    outside = dataclasses.replace(seen.references, in_KN=np.zeros((6, 400), bool))
    with pytest.raises(UsageError, match="400 of 400 records have no IN"):
        BY_NAME["rmia-online"].function(dataclasses.replace(seen, references=outside), seed=0)
    assert BY_NAME["rmia-offline"].function(dataclasses.replace(seen, references=outside), seed=0).scores_N.any()
