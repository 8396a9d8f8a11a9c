"""LiRA against per-record loops with scipy.stats.norm, closed forms, planted leaks and nulls."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from lacewing import metrics
from lacewing.attacks import _lira
from lacewing.attacks._lira import ENTRIES, MIN_STD, lira
from lacewing.attacks._logits import phi
from lacewing.attacks._measure import threshold
from lacewing.attacks._types import Evidence, Observed, References
from lacewing.errors import UsageError

VARIANTS = [
    {"mode": mode, "variance": variance, "centre": centre, "offline_rule": rule}
    for mode, rule in (("online", "one-sided"), ("offline", "one-sided"), ("offline", "two-sided"))
    for variance, centre in itertools.product(("per-record", "global", "pooled"), ("median", "mean"))
]
BY_NAME = {entry.name: entry for entry in ENTRIES}


def population(seed, records=40, references=9, queries=3, leak=2.0, dtype=np.float64):
    """Target phi, reference phi, reference membership (2 or more of each kind a record) and target membership."""
    rng = np.random.default_rng(seed)
    inside = rng.random((references + 1, records)) < 0.5
    inside[1:3], inside[3:5] = True, False
    values = rng.normal(size=(references + 1, records, queries)) * rng.uniform(0.5, 2, size=(records, 1))
    values += rng.normal(scale=3, size=(records, 1)) + leak * inside[..., None]
    return values[0].astype(dtype), values[1:].astype(dtype), inside[1:], inside[0]


def by_hand(target, reference, inside, *, mode, variance, centre, offline_rule):
    """Section by section, record by record, query by query."""
    target, reference = target.astype(np.float64), reference.astype(np.float64)
    middle = {"median": np.median, "mean": np.mean}[centre]
    records, queries = target.shape
    scores = np.zeros((records, queries))
    for q in range(queries):
        shared = {}
        for kind in (True, False):
            mine = [reference[inside[:, n] == kind, n, q] for n in range(records)]
            residuals = [values - middle(values) for values in mine]
            shared[kind] = np.std(np.concatenate(mine if variance == "global" else residuals))
        for n in range(records):
            law = {}
            for kind in (True, False):
                values = reference[inside[:, n] == kind, n, q]
                spread = np.std(values) if variance == "per-record" else shared[kind]
                law[kind] = middle(values), max(spread, MIN_STD)
            x = target[n, q]
            if mode == "online":
                scores[n, q] = norm.logpdf(x, *law[True]) - norm.logpdf(x, *law[False])
            elif offline_rule == "one-sided":
                scores[n, q] = (x - law[False][0]) / law[False][1]
            else:
                scores[n, q] = -norm.logpdf(x, *law[False])
    return scores.mean(axis=1)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_every_variant_agrees_with_a_loop_over_records(variant, monkeypatch):
    for dtype in (np.float64, np.float16):
        target, reference, inside, _ = population(0, 20, queries=2, dtype=dtype)
        expected = by_hand(target, reference, inside, **variant)
        np.testing.assert_allclose(lira(target, reference, inside, **variant), expected, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(_lira, "_CHUNK", 40)  # several chunks, some of one record
    np.testing.assert_allclose(lira(target, reference, inside, **variant), expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 12), st.integers(1, 4), st.sampled_from(VARIANTS))
def test_the_order_of_records_references_and_queries_does_not_matter(seed, references, queries, variant):
    target, reference, inside, _ = population(seed, 15, references, queries)
    scores = lira(target, reference, inside, **variant)
    rng = np.random.default_rng(seed)
    n, k, q = rng.permutation(15), rng.permutation(references), rng.permutation(queries)
    shuffled = lira(target[n][:, q], reference[k][:, n][:, :, q], inside[k][:, n].astype(int), **variant)
    np.testing.assert_allclose(shuffled, scores[n], rtol=1e-9, atol=1e-9)
    # The score of several queries is the mean of the single ones'; log-odds in other units do not change z or a ratio.
    each = [lira(target[:, [j]], reference[:, :, [j]], inside, **variant) for j in range(queries)]
    np.testing.assert_allclose(np.mean(each, axis=0), scores, rtol=1e-9, atol=1e-9)
    if variant["offline_rule"] == "one-sided":
        moved = lira(8 * target - 5, 8 * reference - 5, inside, **variant)
        np.testing.assert_allclose(moved, scores, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 70),
    st.integers(1, 30),
    st.integers(1, 4),
    st.sampled_from([np.float16, np.float32, np.float64, np.int32]),
    st.sampled_from(["noise", "ties", "constant", "rising"]),
)
def test_centres_and_spreads_are_those_of_the_chosen_networks(seed, networks, records, queries, dtype, kind):
    rng = np.random.default_rng(seed)
    values = (50 * rng.normal(size=(networks, records, queries))).astype(dtype)
    values = {
        "noise": values,
        "ties": np.sign(values),
        "constant": np.full_like(values, -3),
        "rising": np.sort(values, 0),
    }[kind]
    chosen = rng.random((networks, records)) < rng.uniform(0.1, 0.9)
    chosen[rng.integers(networks), :] = True  # at least one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lira, "_CHUNK", int(rng.integers(1, 5000)))
        median, mean, squares = _lira.moments(values, chosen, median=True)
        only_mean = _lira.moments(values.astype(np.float64), chosen, median=False)
    for n in range(records):
        seen = values[chosen[:, n], n].astype(np.float64)
        np.testing.assert_array_equal(median[n], np.median(seen, axis=0))
        np.testing.assert_allclose(mean[n], seen.mean(axis=0), rtol=1e-13, atol=1e-12)
        np.testing.assert_allclose(squares[n], len(seen) * seen.var(axis=0), rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(only_mean[0], mean)
    np.testing.assert_array_equal(only_mean[1:], (mean, squares))


def test_references_in_another_memory_order_give_the_same_scores():
    target, reference, inside, _ = population(3)
    turned = np.ascontiguousarray(reference.transpose(2, 1, 0)).transpose(2, 1, 0)
    np.testing.assert_array_equal(lira(target, turned, inside), lira(target, reference, inside))


def test_closed_forms():
    target = np.array([[3.0]])
    reference = np.array([0.0, 2.0, 3.0, 7.0])[:, None, None]  # OUT: mean 1, std 1; IN: mean 5, std 2
    inside = np.array([0, 0, 1, 1])[:, None]
    online = lira(target, reference, inside, centre="mean")
    np.testing.assert_allclose(online, [-np.log(2) - 0.5 + 2.0])
    np.testing.assert_allclose(lira(target, reference, inside, mode="offline"), [2.0])
    two_sided = lira(target, reference, inside, mode="offline", offline_rule="two-sided")
    np.testing.assert_allclose(two_sided, [np.log(2 * np.pi) / 2 + 2.0])


def test_one_sided_scores_do_not_saturate_and_two_sided_ones_fold():
    reference, inside = np.array([-1.0, 1.0])[:, None, None] * np.ones((2, 4, 1)), np.zeros((2, 4), bool)
    target = np.array([[-50.0], [9.0], [50.0], [51.0]])
    one = lira(target, reference, inside, mode="offline")
    two = lira(target, reference, inside, mode="offline", offline_rule="two-sided")
    assert (np.diff(one) > 0).all()
    assert len(np.unique(norm.cdf(one))) < 4  # the paper's scale would tie them
    assert two[0] == two[2]


def test_references_that_agree_exactly_give_finite_scores_in_the_right_order():
    target = np.array([[4.0], [6.0], [1e4]])
    reference = np.array([4.0, 4.0, 6.0, 6.0])[:, None, None] * np.ones((4, 3, 1))
    inside = np.array([[0], [0], [1], [1]]) * np.ones((1, 3), int)
    for variant in VARIANTS:
        scores = lira(target, reference, inside, **variant)
        assert np.isfinite(scores).all()
        assert scores[0] < scores[1]


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_the_floor_changes_nothing_but_degenerate_records(scale):
    target, reference, inside, _ = population(3)
    expected = lira(target, reference, inside)
    scaled = lira(scale * target, scale * reference, inside)
    np.testing.assert_allclose(scaled, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_a_planted_leak_is_found_and_no_leak_is_not(variant):
    for leak in (3.0, 0.0):
        target, reference, inside, member = population(4, 1500, 24, 2, leak)
        auc = metrics.auc(lira(target, reference, inside, **variant), member)
        assert auc.low > 0.55 if leak else auc.low <= 0.5 <= auc.high
    assert lira(target, reference, inside, **variant).tobytes() == lira(target, reference, inside, **variant).tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, r, i: (t, r[:1], i[:1]), r"K = 1.*at least two"),
        (lambda t, r, i: (t, r, i[:, :-1]), "reference_in_KN has shape"),
        (lambda t, r, i: (t, r, i[:-1]), "reference_in_KN has shape"),
        (lambda t, r, i: (t, r, i + 1.5), "reference_in_KN holds values other than 0 and 1"),
        (lambda t, r, i: (t, r[:, :, :2], i), "3 queries a record and reference_phi_KNQ 2.*different query crops"),
        (lambda t, r, i: (t[:-1], r, i), "target_phi_NQ holds 39 records and reference_phi_KNQ 40"),
        (lambda t, r, i: (t[:, 0], r, i), "target_phi_NQ has shape"),
        (lambda t, r, i: (t, r[0], i), "reference_phi_KNQ has shape"),
        (lambda t, r, i: (t * np.nan, r, i), "target_phi_NQ holds NaN"),
        (
            lambda t, r, i: (t, np.where(np.arange(9)[:, None, None] == 8, np.inf, r), i),
            "reference_phi_KNQ holds NaN or",
        ),
        (lambda t, r, i: (t.astype(str), r, i), "target_phi_NQ has dtype"),
        (lambda t, r, i: (t, r, np.where(np.arange(40) < 7, True, i)), "7 of 40 records have no OUT"),
        (lambda t, r, i: (t, r, np.where(np.arange(40) < 6, False, i)), "6 of 40 records have no IN"),
        (
            lambda t, r, i: (t, r, np.where(np.arange(40) < 5, np.arange(9)[:, None] == 0, i)),
            r"5 of 40 records have a single IN.*variance='pooled'",
        ),
        (
            lambda t, r, i: (t, r, np.where(np.arange(40) < 4, np.arange(9)[:, None] != 0, i)),
            r"4 of 40 records have a single OUT.*variance='pooled'",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(UsageError, match=message):
        lira(*change(*population(0)[:3]))


def test_unknown_names_and_spreads_that_nothing_shows_are_refused():
    target, reference, inside, _ = population(0)
    for argument, wrong in (("mode", "onlin"), ("variance", "pool"), ("centre", "med"), ("offline_rule", "two_sided")):
        with pytest.raises(UsageError, match=f"{argument} = '{wrong}' is unknown: did you mean"):
            lira(target, reference, inside, **{argument: wrong})
    two = np.array([[True], [False]]) * np.ones((1, 40), bool)
    with pytest.raises(UsageError, match="variance='global'"):
        lira(target, reference[:2], two, variance="pooled")
    assert np.isfinite(lira(target, reference[:2], two, variance="global")).all()
    # Offline looks at OUT references alone: one IN reference, or none, is nothing to complain of.
    assert np.isfinite(lira(target, reference, np.zeros_like(inside), mode="offline")).all()


# The registry ---------------------------------------------------------------------------------------------------------


def evidence(seed, references=9, records=400, leak=4.0, queries=None, shadow=True):
    rng = np.random.default_rng(seed)
    label, classes = rng.integers(3, size=records), 3
    inside = rng.random((references + 2, records)) < 0.5
    inside[2:4], inside[4:6] = True, False
    logits = rng.normal(size=(references + 2, records, classes)) + rng.normal(size=(records, classes))
    logits[:, np.arange(records), label] += leak * inside
    crops = phi(logits, label)[..., None] + rng.normal(size=(references + 2, records, queries or 1))

    def held(k):
        seen = Observed(logits[k], label, inside[k], None, np.arange(records), crops[k] if queries else None)
        names = tuple(f"dense/target/{j}" for j in range(references))
        return Evidence(seen, References(logits[2:], inside[2:], names, crops[2:] if queries else None))

    return dataclasses.replace(held(0), shadow=held(1) if shadow else None)


@pytest.mark.parametrize("name", BY_NAME)
def test_entries_find_a_leak_and_decide_by_the_shadow(name):
    seen = evidence(0)
    scored = BY_NAME[name].function(seen, seed=0)
    member = seen.observed.member_N
    assert metrics.auc(scored.scores_N, member).low > 0.55
    assert metrics.balanced_accuracy(scored.decision_N, member).low > 0.5
    on_shadow = BY_NAME[name].function(dataclasses.replace(seen.shadow, shadow=seen), seed=1).scores_N
    best = threshold(on_shadow, seen.shadow.observed.member_N)
    np.testing.assert_array_equal(scored.decision_N, scored.scores_N >= best)
    assert "shadow" in scored.notes["decision"]
    flipped = dataclasses.replace(seen, observed=dataclasses.replace(seen.observed, member_N=~member))
    again = BY_NAME[name].function(flipped, seed=5)  # neither the target's membership nor the seed is looked at
    assert again.scores_N.tobytes() == scored.scores_N.tobytes()
    np.testing.assert_array_equal(again.decision_N, scored.decision_N)


def test_entries_are_lira_of_the_log_odds_in_the_variant_that_they_name():
    seen = evidence(1)
    target, reference = (
        phi(seen.observed.logits_NC, seen.observed.label_N),
        phi(seen.references.logits_KNC, seen.observed.label_N),
    )
    arguments = target[:, None], reference[..., None], seen.references.in_KN
    expected = {
        "lira-online": ("online, pooled, median, K = 9, 1 query", {}),
        "lira-offline": ("offline, one-sided, pooled, median, K = 9, 1 query", {"mode": "offline"}),
        "lira-offline-two-sided": (
            "offline, two-sided, pooled, median, K = 9, 1 query",
            {"mode": "offline", "offline_rule": "two-sided"},
        ),
    }
    assert set(expected) == set(BY_NAME)
    for name, (variant, options) in expected.items():
        scored = BY_NAME[name].function(seen, seed=0)
        assert scored.variant == variant
        np.testing.assert_array_equal(scored.scores_N, lira(*arguments, variance="pooled", **options))


def test_own_variances_from_32_references_of_each_kind_and_queries_where_all_have_them():
    many = evidence(2, references=90, records=60, queries=4)
    assert BY_NAME["lira-online"].function(many, seed=0).variant == "online, per-record, median, K = 90, 4 queries"
    few = dataclasses.replace(many, shadow=evidence(2, references=20, records=60, queries=4))
    assert "pooled" in BY_NAME["lira-online"].function(few, seed=0).variant
    blind = dataclasses.replace(many, references=dataclasses.replace(many.references, phi_KNQ=None))
    assert "1 query" in BY_NAME["lira-online"].function(blind, seed=0).variant
    fewer = dataclasses.replace(many, references=dataclasses.replace(many.references, phi_KNQ=np.zeros((90, 60, 3))))
    with pytest.raises(UsageError, match="different query crops"):
        BY_NAME["lira-online"].function(fewer, seed=0)
    with pytest.raises(UsageError, match="different query crops"):
        BY_NAME["lira-online"].function(dataclasses.replace(fewer, trained_queries=(0, 3)), seed=0)


def test_without_a_usable_shadow_online_takes_the_likelihood_ratio_and_offline_decides_nothing():
    alone = evidence(3, shadow=False)
    bare = dataclasses.replace(alone, shadow=Evidence(evidence(4).observed))
    for seen, reason in ((alone, "no shadow network"), (bare, "no reference networks")):
        online = BY_NAME["lira-online"].function(seen, seed=0)
        np.testing.assert_array_equal(online.decision_N, online.scores_N > 0)
        offline = BY_NAME["lira-offline"].function(seen, seed=0)
        assert offline.decision_N is None
        assert reason in online.notes["decision"]
        assert reason in offline.notes["decision"]


def test_references_that_do_not_serve_are_refused():
    seen = evidence(5)
    one = References(seen.references.logits_KNC[-1:], np.zeros((1, 400), bool), ("dense/shadow/0",))
    with pytest.raises(UsageError, match=r"K = 1.*another seed"):
        BY_NAME["lira-offline"].function(dataclasses.replace(seen, references=one), seed=0)
    with pytest.raises(UsageError, match="no reference networks"):
        BY_NAME["lira-offline"].function(dataclasses.replace(seen, references=None), seed=0)
    outside = dataclasses.replace(seen.references, in_KN=np.zeros((9, 400), bool))
    with pytest.raises(UsageError, match="400 of 400 records have no IN"):
        BY_NAME["lira-online"].function(dataclasses.replace(seen, references=outside), seed=0)


def test_a_shadow_whose_references_have_no_spread_gives_no_threshold_and_costs_no_scores():
    rng = np.random.default_rng(0)

    def held(pairs):
        half = rng.random((pairs, 40)).argsort(axis=1) < 20
        inside = np.concatenate([half, ~half])
        label = rng.integers(3, size=40)
        seen = Observed(rng.normal(size=(40, 3)), label, np.arange(40) % 2 == 0, None, np.arange(40))
        logits = rng.normal(size=(2 * pairs, 40, 3))
        return Evidence(seen, References(logits, inside, tuple(map(str, range(2 * pairs)))))

    evidence = dataclasses.replace(held(2), shadow=held(1))
    for name, decided in (("lira-online", True), ("lira-offline", False)):
        scored = BY_NAME[name].function(evidence, seed=0)
        assert np.isfinite(scored.scores_N).all()
        assert (scored.decision_N is not None) == decided
        assert "the shadow does not serve: Every record has a single OUT" in scored.notes["decision"]
        with pytest.raises(UsageError, match="single OUT reference"):
            BY_NAME[name].function(held(1), seed=0)


def test_queries_that_training_did_not_show_are_left_out():
    rng = np.random.default_rng(3)
    half = rng.random((3, 60)).argsort(axis=1) < 30
    inside, label = np.concatenate([half, ~half]), rng.integers(3, size=60)
    phi_NQ, phi_KNQ = rng.normal(size=(60, 4)), rng.normal(size=(6, 60, 4))
    seen = Observed(rng.normal(size=(60, 3)), label, np.arange(60) % 2 == 0, None, np.arange(60), phi_NQ=phi_NQ)
    references = References(rng.normal(size=(6, 60, 3)), inside, tuple("abcdef"), phi_KNQ)
    for columns in ((0,), (0, 1), (0, 2, 3), None):
        scored = BY_NAME["lira-online"].function(Evidence(seen, references, trained_queries=columns), seed=0)
        of = slice(None) if columns is None else list(columns)
        expected = lira(phi_NQ[:, of], phi_KNQ[:, :, of], inside, variance="pooled")
        np.testing.assert_array_equal(scored.scores_N, expected)
        assert scored.notes["queries"] == phi_NQ[:, of].shape[1]
