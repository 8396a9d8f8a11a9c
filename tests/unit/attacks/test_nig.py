"""LiRA with a normal-inverse-gamma prior against scipy's Student t, a record at a time."""

import dataclasses

import mpmath
import numpy as np
import pytest
from scipy import stats

from lacewing import metrics
from lacewing.attacks import ATTACKS, Evidence, Observed, References, lira_nig
from lacewing.attacks._nig import _log_tail
from lacewing.errors import UsageError


def simulated(seed, records=10, references=6, queries=2, leak=2.0):
    """Target phi, reference phi, reference membership and the target's; pairs of references complement each other."""
    rng = np.random.default_rng(seed)
    half = rng.random((references // 2, records)).argsort(axis=1) < records // 2
    inside = np.stack([half, ~half], axis=1).reshape(references, records)
    member = rng.permutation(np.arange(records) < records // 2)
    phi = rng.normal(size=(references + 1, records, queries)) + rng.normal(scale=2, size=(records, 1))
    phi += leak * np.concatenate([member[None], inside])[:, :, None]
    return phi[0], phi[1:], inside, member


def by_hand(target, reference, inside, mode, kappa, nu):
    """The normal-inverse-gamma posterior and its predictive law, in plain loops."""
    scores = np.zeros(len(target))
    for q in range(target.shape[1]):
        values = [[reference[side[:, n], n, q] for n in range(len(target))] for side in (inside, ~inside)]
        sides = []
        for kind in values:
            spare = sum(len(v) - 1 for v in kind if len(v))
            if spare:
                prior = sum(((v - v.mean()) ** 2).sum() for v in kind if len(v)) / spare
            elif mode == "online":
                prior = np.var([a.mean() - b.mean() for a, b in zip(*values, strict=True)]) / 2
            else:
                prior = np.var(np.concatenate(kind)) if any(map(len, kind)) else 1.0
            sides.append((np.mean(np.concatenate(kind)) if any(map(len, kind)) else 0.0, prior))
        for n in range(len(target)):
            laws = []
            for (mean, prior), kind in zip(sides, values, strict=True):
                v = kind[n]
                if not len(v):
                    laws.append(None)
                    continue
                kappa_n, alpha = kappa + len(v), (nu + len(v)) / 2
                beta = nu * prior / 2 + ((v - v.mean()) ** 2).sum() / 2
                beta += kappa * len(v) * (v.mean() - mean) ** 2 / (2 * kappa_n)
                centre = (kappa * mean + len(v) * v.mean()) / kappa_n
                laws.append((2 * alpha, centre, np.sqrt(beta * (kappa_n + 1) / (alpha * kappa_n))))
            x = target[n, q]
            if mode == "online":
                scores[n] += stats.t.logpdf(x, *laws[0]) - stats.t.logpdf(x, *laws[1])
            else:
                scores[n] += stats.t.logcdf(x, *laws[1]) - stats.t.logsf(x, *laws[1])
    return scores / target.shape[1]


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(("references", "kappa", "nu"), [(2, 0.01, 4.0), (4, 1.0, 4.0), (7, 0.3, 2.5)])
def test_agrees_with_scipy_a_record_at_a_time(mode, references, kappa, nu):
    target, reference, inside, _ = simulated(references, references=references + references % 2)
    reference, inside = reference[:references], inside[:references]  # an odd number: unequal counts
    scores = lira_nig(target, reference, inside, mode=mode, kappa=kappa, nu=nu)
    np.testing.assert_allclose(scores, by_hand(target, reference, inside, mode, kappa, nu), rtol=1e-9, atol=1e-9)
    small = lira_nig(target.astype(np.float32), reference.astype(np.float32), inside, mode=mode, kappa=kappa, nu=nu)
    assert small.dtype == np.float64
    np.testing.assert_allclose(small, scores, rtol=1e-3, atol=1e-4)


def test_offline_looks_at_out_references_alone_and_takes_a_single_one():
    target, reference, inside, _ = simulated(1)
    spoilt = np.where(inside[:, :, None], 99.0, reference)
    np.testing.assert_array_equal(
        lira_nig(target, spoilt, inside, mode="offline"), lira_nig(target, reference, inside, mode="offline")
    )
    outside = np.zeros((1, len(target)), bool)
    single = lira_nig(target, reference[:1], outside, mode="offline")
    np.testing.assert_allclose(single, by_hand(target, reference[:1], outside, "offline", 0.01, 4.0), rtol=1e-9)


def test_a_sure_prior_on_the_variance_and_none_on_the_mean_is_a_normal_law_of_pooled_variance():
    target, reference, inside, _ = simulated(2, queries=1)
    expected = np.zeros(len(target))
    for side, sign in ((inside, 1), (~inside, -1)):
        values = [reference[side[:, n], n, 0] for n in range(len(target))]
        pooled = sum(v.var() * len(v) for v in values) / sum(len(v) - 1 for v in values)
        for n, v in enumerate(values):
            law = stats.norm(v.mean(), np.sqrt(pooled * (1 + 1 / len(v))))
            expected[n] += sign * law.logpdf(target[n, 0])
    np.testing.assert_allclose(lira_nig(target, reference, inside, kappa=1e-9, nu=1e9), expected, rtol=1e-5, atol=1e-5)


def test_tails_keep_their_order_where_probabilities_are_too_small_for_a_float():
    z = -np.array([0.0, 3.0, 1e3, 1e12, 1e13])
    for freedom in (5.0, 36.0, 300.0):
        found = _log_tail(z, np.array(freedom))
        with mpmath.workdps(50):
            exact = [
                float(mpmath.log(mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + x**2), regularized=True) / 2))
                for x in map(mpmath.mpf, z)
            ]
        np.testing.assert_allclose(found, exact, rtol=1e-6)
        assert (np.diff(found) < 0).all()
    equal = np.zeros((4, 6, 1)) + np.arange(6.0)[:, None]  # no spread anywhere: scores stay finite
    inside = np.tile(np.arange(4)[:, None] < 2, 6)
    assert np.isfinite(lira_nig(equal[0] + 1.0, equal, inside, mode="offline")).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": 0.0}, "kappa = 0.0 is out of range"),
        ({"nu": np.inf}, "nu = inf is out of range"),
        ({"nu": np.nan}, "nu = nan"),
        ({"mode": "ofline"}, "did you mean 'offline'"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        lira_nig(*simulated(0)[:3], **options)


def test_records_without_a_reference_of_a_kind_are_counted():
    target, reference, inside, _ = simulated(0)
    inside[:, :3] = False
    with pytest.raises(UsageError, match="3 of 10 records have no IN reference"):
        lira_nig(target, reference, inside)
    with pytest.raises(UsageError, match="reference_phi_KNQ has shape"):
        lira_nig(target, reference[0], inside)


# The registry ---------------------------------------------------------------------------------------------------------


def evidence(references, seed=0, records=300, leak=3.0):
    """Log-odds of two classes, so that logits (0, phi) say the same."""
    target, reference, inside, member = simulated(seed, records, references, 1, leak)
    label, logits = np.ones(records, int), np.concatenate([target[None], reference])
    logits = np.concatenate([np.zeros_like(logits), logits], axis=2)
    names = tuple(map(str, range(references)))
    observed = Observed(logits[0], label, member, None, np.arange(records))
    return Evidence(observed, References(logits[1:], inside, names))


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_two_references_are_enough_and_say_that_nothing_was_chosen(mode):
    held = evidence(2)
    scored = ATTACKS[f"nig-t-{mode}"].function(held, seed=0)
    assert metrics.auc(scored.scores_N, held.observed.member_N).low > 0.6
    assert scored.variant == f"{mode}, kappa = 0.01, nu = 4, K = 2, 1 query"
    assert scored.notes["kappa_source"].startswith("default")
    if mode == "online":
        np.testing.assert_array_equal(scored.decision_N, scored.scores_N > 0)
    else:
        assert scored.decision_N is None
    null = evidence(2, seed=1, leak=0.0)
    found = metrics.auc(ATTACKS[f"nig-t-{mode}"].function(null, seed=0).scores_N, null.observed.member_N)
    assert found.low <= 0.5 <= found.high


def test_kappa_is_chosen_on_the_shadow_and_without_one_on_references():
    held, other = evidence(6), evidence(6, seed=3)
    without = ATTACKS["nig-t-online"].function(held, seed=0)
    assert without.notes["kappa_source"] == "chosen on 4 references taken as targets"
    with_shadow = ATTACKS["nig-t-online"].function(dataclasses.replace(held, shadow=other), seed=0)
    assert with_shadow.notes["kappa_source"] == "chosen on the shadow"
    kappa = with_shadow.notes["kappa"]
    seen, of = held.observed, held.references
    expected = lira_nig(
        seen.logits_NC[:, 1:] - seen.logits_NC[:, :1],
        of.logits_KNC[:, :, 1:] - of.logits_KNC[:, :, :1],
        of.in_KN,
        kappa=kappa,
    )
    np.testing.assert_allclose(with_shadow.scores_N, expected, atol=1e-9)
    assert with_shadow.decision_N is not None
    with pytest.raises(UsageError, match="no reference networks"):
        ATTACKS["nig-t-offline"].function(dataclasses.replace(held, references=None), seed=0)
