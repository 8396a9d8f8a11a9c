"""Parts of the records and single records at risk: against plain loops, and where the answer is planted."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from lacewing import metrics, risk
from lacewing.errors import UsageError
from lacewing.results import AttackResult, NetworkResult

CHANCE = metrics.Estimate(0.5, 0.0, 1.0)


def result(seed=0, n=400, *, leak=1.0, records=None, member=None, decides=True, vulnerable=(), attack="lira"):
    """A Gaussian attack; the scores of ``vulnerable`` records are far out wherever they are members."""
    rng = np.random.default_rng([seed, n])
    records = rng.permutation(n) if records is None else np.asarray(records)
    member = rng.permutation(np.arange(len(records)) % 2 == 0) if member is None else np.asarray(member)
    score = rng.normal(leak * member, 1) + 20.0 * (member & np.isin(records, vulnerable))
    network = NetworkResult("dense", "dense", "target", seed, 1.0, 1.0, 100, 100, 1.0, 0.7)
    return AttackResult(
        network=network,
        attack=attack,
        variant="planted",
        threat_model="test",
        n_members=int(member.sum()),
        n_nonmembers=int((~member).sum()),
        metrics={"auc": CHANCE},
        record_N=records,
        member_N=member,
        hit_N=(score > leak / 2) == member if decides else np.zeros(0, bool),
        correct_N=member | (rng.random(len(records)) < 0.7),
        score_N=score,
        label_N=records % 10,
        confidence_N=rng.uniform(0.1, 1.0, len(records)),
    )


def assert_is_the_audit_of(part, found, within):
    scores, member = found.score_N[within], found.member_N[within]
    assert (part.n_members, part.n_nonmembers) == (member.sum(), (~member).sum())
    assert part.auc == (metrics.auc(scores, member) if min(member.sum(), (~member).sum()) >= 10 else None)
    decided = found.hit_N[within] == member
    assert part.balanced_accuracy == metrics.balanced_accuracy(decided, member)
    for fpr, estimate in part.tpr_at_fpr.items():
        enough = fpr * (~member).sum() >= 1
        assert estimate == (metrics.tpr_at_fpr(scores, member, fpr) if enough else None)


def test_each_class_is_audited_alone():
    found = result(n=2000)
    parts = risk.by_class(found, fprs=(0.02, 0.001))
    assert [part.name for part in parts] == [f"class {c}" for c in range(10)]
    for c, part in enumerate(parts):
        assert_is_the_audit_of(part, found, found.label_N == c)
        assert part.tpr_at_fpr[0.02] is not None
        assert part.tpr_at_fpr[0.001] is None
    assert risk.by_class(found, found.label_N // 5, fprs=())[0].n_members == sum(p.n_members for p in parts[:5])


def test_confidence_quarters_hold_every_record_once_and_a_quarter_each():
    found = result(n=403)
    parts = risk.by_confidence(found)
    sizes = [part.n_members + part.n_nonmembers for part in parts]
    assert len(parts) == 4
    assert sum(sizes) == 403
    assert max(sizes) - min(sizes) <= 1
    lowest = np.argsort(found.confidence_N)[: sizes[0]]
    assert_is_the_audit_of(parts[0], found, np.isin(np.arange(403), lowest))


def test_equal_confidences_are_never_parted():
    found = result(n=400)
    saturated = np.where(np.arange(400) < 300, 1.0, np.linspace(0.2, 0.9, 400))
    parts = risk.by_confidence(found, saturated)
    assert [part.name for part in parts] == ["confidence 0.7263 to 0.9", "confidence 1 to 1"]
    assert [part.n_members + part.n_nonmembers for part in parts] == [100, 300]


def test_correct_and_wrong_answers_are_audited_apart_and_a_part_without_members_has_none():
    found = result()
    correct, wrong = risk.by_correctness(found, fprs=(0.01,))
    assert_is_the_audit_of(correct, found, found.correct_N)
    assert wrong.n_members == 0  # every member is classified correctly here
    assert (wrong.auc, wrong.balanced_accuracy, wrong.tpr_at_fpr[0.01]) == (None, None, None)


def test_a_subset_is_the_audit_of_its_records_and_shows_what_the_average_hides():
    canaries = np.arange(40)
    found = result(n=4000, leak=0.0, vulnerable=canaries)
    alone = risk.subset(found, canaries.tolist())
    within = np.isin(found.record_N, canaries)
    assert alone.metrics["auc"] == metrics.auc(found.score_N[within], found.member_N[within])
    assert alone.metrics["auc"].value == 1.0
    assert metrics.auc(found.score_N, found.member_N).value < 0.55
    assert (alone.n_members + alone.n_nonmembers, len(alone.label_N), len(alone.hit_N)) == (40, 40, 40)
    assert alone.metrics["tpr_at_fpr_0.01"] is None  # 40 records show no such rate
    np.testing.assert_array_equal(alone.record_N, found.record_N[within])


def test_the_roc_is_that_of_the_scores_and_empty_without_them():
    found = result(n=50)
    np.testing.assert_array_equal(found.roc(), metrics.roc(found.score_N, found.member_N))
    without = dataclasses.replace(found, score_N=np.zeros(0))
    assert [len(rates) for rates in without.roc()] == [0, 0]


def test_a_subset_of_everything_keeps_every_metric():
    found = result(decides=False)
    alone = risk.subset(found, found.record_N)
    assert alone.metrics == metrics.summary(found.score_N, found.member_N)
    assert alone.metrics["balanced_accuracy"] is None


@pytest.mark.parametrize("fpr", [None, 0.05])
def test_the_table_of_records_equals_a_plain_loop(fpr):
    rng = np.random.default_rng(1)
    results = [result(s, records=rng.permutation(300)[:200]) for s in range(5)]
    table = risk.records(results, fpr=fpr)
    for i, record in enumerate(table.record_R):
        audited = member = found = 0
        ranks = []
        for r in results:
            for n in np.flatnonzero(r.record_N == record):
                audited += 1
                if not r.member_N[n]:
                    continue
                member += 1
                ranks.append(np.mean(np.delete(r.score_N, n) < r.score_N[n]))
                outside = np.sort(r.score_N[~r.member_N])[::-1]
                found += r.score_N[n] > (0.5 if fpr is None else outside[math.floor(fpr * len(outside))])
        assert (table.audited_R[i], table.member_R[i], table.found_R[i]) == (audited, member, found)
        assert np.isnan(table.rank_R[i]) if not ranks else table.rank_R[i] == pytest.approx(np.mean(ranks), abs=1e-12)
    assert len(table) == len(np.unique(np.concatenate([r.record_N for r in results])))


def test_found_at_an_fpr_leaves_that_share_of_nonmembers_above():
    found = result(n=1000)
    at = risk.records([found], fpr=0.1)
    assert at.found_R.sum() == round(metrics.tpr_at_fpr(found.score_N, found.member_N, 0.1).value * found.n_members)


def test_the_most_vulnerable_are_the_planted_ones_and_are_found_again():
    planted = np.array([3, 77, 201, 350])
    results = [result(s, vulnerable=planted, leak=0.0) for s in range(12)]
    top = risk.most_vulnerable(risk.records(results, fpr=0.01), 0.01)
    assert sorted(top.record_R) == sorted(planted)
    assert (top.found_R == top.member_R).all()
    assert np.all(np.diff(top.rank_R) <= 0)
    again = risk.found_again(results, 0.01, fpr=0.01)
    assert again is not None
    assert again.value == 1.0


def test_found_again_is_not_misled_by_the_choice():
    """Without any leak the chosen 5 % were found more often than chance, but not in the network held out."""
    results = [result(s, leak=0.0) for s in range(8)]
    top = risk.most_vulnerable(risk.records(results, fpr=0.1), 0.05)
    assert top.found_R.sum() / top.member_R.sum() > 0.3
    again = risk.found_again(results, 0.05, fpr=0.1)
    assert again is not None
    assert again.low <= 0.1 <= again.high


def test_records_do_not_depend_on_the_order_of_records_or_results():
    results = [result(s) for s in range(3)]
    order = np.random.default_rng(0).permutation(400)
    names = ("record_N", "member_N", "hit_N", "score_N")
    shuffled = [dataclasses.replace(r, **{name: getattr(r, name)[order] for name in names}) for r in reversed(results)]
    for one, two in zip(vars(risk.records(results)).values(), vars(risk.records(shuffled)).values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: risk.by_class(result(), [1, 2]), "label_N"),
        (lambda: risk.by_confidence(result(), np.full(400, np.nan)), "confidence"),
        (lambda: risk.by_confidence(result(), parts=0), "parts"),
        (lambda: risk.subset(result(), [1, 2, 400]), "1 of 3 were not audited"),
        (lambda: risk.subset(result(), []), "ids"),
        (lambda: risk.subset(result(), result().record_N[result().member_N]), "non-members"),
        (lambda: risk.records([]), "one attack"),
        (lambda: risk.records([result(0), result(1, attack="rmia")]), "lira, rmia"),
        (lambda: risk.records([result(0), result(0)]), "dense/target/0 twice"),
        (lambda: risk.records([result(decides=False)]), "give fpr"),
        (lambda: risk.records([result()], fpr=0.001), "non-members"),
        (lambda: risk.most_vulnerable(risk.records([result()]), 1.5), "share"),
        (lambda: risk.found_again([result()]), "several"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(UsageError, match=named):
        call()


def of_canaries(seed, leak, count=60, n=1000):
    """Canaries whose members score higher by ``leak`` standard deviations, among records that leak nothing."""
    rng = np.random.default_rng(seed)
    plain = result(seed, n=n, leak=0.0)
    of = np.isin(np.arange(len(plain.member_N)), rng.choice(len(plain.member_N), count, replace=False))
    scores = rng.normal(size=len(of)) + leak * (of & plain.member_N)
    return dataclasses.replace(plain, canary_N=of, score_N=scores)


def test_canaries_are_found_above_the_threshold_of_the_other_records():
    one = of_canaries(0, leak=3.0)
    found = risk.canaries(one)
    others = np.sort(one.score_N[~one.canary_N & ~one.member_N])[::-1]
    bar = others[int(0.01 * len(others))]
    assert (others > bar).mean() <= 0.01
    mine = one.score_N[one.canary_N & one.member_N]
    k = int((mine > bar).sum())
    exact = stats.binomtest(k, len(mine)).proportion_ci(method="exact")
    assert found.found == pytest.approx((k / len(mine), exact.low, exact.high))
    assert found.false == int((one.score_N[one.canary_N & ~one.member_N] > bar).sum())
    assert found.n_members + found.n_nonmembers == 60
    ranked = sorted(zip(one.score_N[one.canary_N], one.member_N[one.canary_N], strict=True))
    right = sum(not member for _, member in ranked[:15]) + sum(member for _, member in ranked[-15:])
    assert (found.guesses, found.correct) == (30, right)
    assert found.epsilon == metrics.one_run_epsilon(30, right, 60, 1e-5, 0.95)
    assert found.epsilon > 0.5


def test_canaries_without_a_leak_seldom_bound_epsilon_and_few_records_say_nothing():
    exceeding = sum(risk.canaries(of_canaries(seed, leak=0.0)).epsilon > 0 for seed in range(200))
    assert exceeding <= 18  # at most 5 % each: more happens once in 200 times
    assert risk.canaries(result(0)) is None
    small = of_canaries(1, leak=9.0, n=60)
    assert risk.canaries(small).found is None  # too few other non-members for a rate of 1 %
    alone = dataclasses.replace(small, canary_N=np.arange(len(small.member_N)) == np.flatnonzero(~small.member_N)[0])
    assert risk.canaries(alone).found is None
    assert risk.canaries(alone).epsilon == 0.0
