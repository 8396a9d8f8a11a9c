"""Several initialisations on one split are averaged within the seed, wherever seeds are counted."""

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from lacewing import risk
from lacewing.config import Tradeoff
from lacewing.errors import UsageError
from lacewing.metrics import summary
from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff import answers, attacks_over_inits, networks_over_inits, tradeoff

N = 60
DENSITY = {"dense": 1.0, **{f"imp-0{k}": 0.6**k for k in range(1, 6)}, **{f"short-{k}": 1.0 for k in range(1, 6)}}


def _network(name, seed, init, rng, role="target"):
    place = list(DENSITY).index(name) % 6
    method = "imp" if name.startswith("imp") else "dense"
    kind = {"imp": "sparse"}.get(method, "dense" if name == "dense" else "control")
    nonzero = round(1000 * DENSITY[name])
    test = 0.8 - 0.006 * place + 0.01 * rng.standard_normal()
    return NetworkResult(
        name, method, role, seed, nonzero / 1000, nonzero / 1000, 1000, nonzero, 1.0, float(test),
        family=name.split("-")[0], kind=kind, init=init,
    )  # fmt: skip


def _attack(network, rng, *, records=True):
    member = np.arange(N) < N // 2
    score = rng.standard_normal(N) + member
    decision = score > 0.5
    found = summary(score, member, decision, fprs=(0.1,))
    found |= dict.fromkeys(("tpr_at_fpr_0.01", "tpr_at_fpr_0.001"))
    arrays = {
        "record_N": np.arange(N) + 100 * network.seed, "member_N": member, "hit_N": decision == member,
        "correct_N": rng.random(N) < 0.8, "score_N": score,
    }  # fmt: skip
    return AttackResult(network, "loss", "v", "t", N // 2, N // 2, found, **(arrays if records else {}))


def _study(seeds, inits, *, records=True):
    rng = np.random.default_rng(5)
    return [
        _attack(_network(name, seed, init, rng), rng, records=records)
        for name in DENSITY
        for seed in range(seeds)
        for init in range(inits)
    ]


def _by_hand(results):
    """Means over the inits of a seed, written out: network, metrics and per-record shares."""
    made = []
    for name in DENSITY:
        for seed in sorted({r.network.seed for r in results}):
            of = [r for r in results if (r.network.network, r.network.seed) == (name, seed)]
            network = replace(of[0].network, test_accuracy=sum(r.network.test_accuracy for r in of) / len(of))
            metrics = {}
            for metric, value in of[0].metrics.items():
                if value is not None:
                    cells = np.array([tuple(r.metrics[metric]) for r in of])
                    value = type(value)(*cells.mean(axis=0).tolist())
                metrics[metric] = value
            shares = {k: np.mean([getattr(r, k) for r in of], axis=0) for k in ("hit_N", "correct_N")}
            made.append(replace(of[0], network=network, metrics=metrics, **shares))
    return made


def test_every_number_of_the_trade_off_is_that_of_means_within_the_seed():
    results = _study(4, 3)
    found, wanted = (tradeoff(r, attack="loss") for r in (results, _by_hand(results)))
    assert found.replicates == 4
    assert found.slope.ratio.value == pytest.approx(wanted.slope.ratio.value, rel=1e-9)
    assert found.dense_balanced_accuracy == pytest.approx(wanted.dense_balanced_accuracy, rel=1e-9)
    assert found.power.difference == pytest.approx(wanted.power.difference, rel=1e-9)
    for one, other in zip(found.points, wanted.points, strict=True):
        assert (one.network, one.defence.n) == (other.network, 4)
        assert one.defence == pytest.approx(other.defence, rel=1e-9)
    tested = 0
    for one, other in zip(found.differences, wanted.differences, strict=True):
        assert (one.seeds, one.recipes, one.reason) == (4, other.recipes, other.reason)
        if other.estimate is not None:
            tested += 1
            assert (*one.estimate, one.p) == pytest.approx((*other.estimate, other.p), rel=1e-6)
    assert tested


def test_few_seeds_draw_the_same_records_for_all_their_initialisations():
    results = _study(1, 3)
    found, wanted = (tradeoff(r, attack="loss") for r in (results, _by_hand(results)))
    assert found.slope.ratio == wanted.slope.ratio
    single = [r for r in results if r.network.init == 0]
    assert found.slope.interval == tradeoff(single, attack="loss").slope.interval


def test_a_declared_question_counts_seeds_and_not_initialisations():
    asked = {"family": "imp", "against": "short", "at": "test accuracy", "metric": "loss.balanced_accuracy"}
    declared = Tradeoff.model_validate({"primary": asked})
    results = _study(4, 3)
    found, wanted = (answers(declared, r)[0] for r in (results, _by_hand(results)))
    assert found.p == pytest.approx(wanted.p, rel=1e-6)
    assert found.differences[0].seeds == 4
    assert found.verdict == wanted.verdict


def test_one_initialisation_is_left_as_it_is():
    results = _study(2, 1)
    assert all(one is other for one, other in zip(attacks_over_inits(results), results, strict=True))
    networks = [r.network for r in results]
    assert all(one is other for one, other in zip(networks_over_inits(networks), networks, strict=True))


def test_a_metric_that_one_initialisation_refuses_has_no_mean():
    results = [r for r in _study(1, 2) if r.network.network == "dense"]
    results[1] = replace(results[1], metrics={**results[1].metrics, "auc": None})
    (mean,) = attacks_over_inits(results)
    assert mean.metrics["auc"] is None
    assert mean.metrics["balanced_accuracy"].value == fmean(r.metrics["balanced_accuracy"].value for r in results)


def test_the_roc_of_a_mean_is_the_mean_of_the_rocs():
    results = [r for r in _study(1, 3) if r.network.network == "dense"]
    (mean,) = attacks_over_inits(results)
    fpr, tpr = mean.roc()
    assert (fpr[0], fpr[-1], tpr[-1]) == (0.0, 1.0, 1.0)
    for rate in (0.0, 0.1, 1 / 3, 0.5, 0.9):
        each = []
        for r in results:
            outside, inside = r.score_N[~r.member_N], r.score_N[r.member_N]
            allowed = [t for t in [*r.score_N, np.inf] if (outside >= t).mean() <= rate + 1e-12]
            each.append((inside >= min(allowed)).mean())
        assert tpr[np.searchsorted(fpr, rate + 1e-12, side="right") - 1] == pytest.approx(fmean(each))


def test_an_initialisation_that_is_given_twice_or_on_other_records_is_refused():
    results = [r for r in _study(1, 2) if r.network.network == "dense"]
    with pytest.raises(UsageError, match=r"dense/target/0\.1: give one result"):
        attacks_over_inits([*results, results[1]])
    with pytest.raises(UsageError, match=r"dense/target/0 and dense/target/0\.1 were not attacked on the same records"):
        attacks_over_inits([results[0], replace(results[1], record_N=results[1].record_N + 1)])


def test_records_are_not_found_again_in_another_network_of_the_split_that_chose_them():
    rng = np.random.default_rng(1)
    results = []
    for seed in range(3):
        strange = rng.choice(N // 2, 2, replace=False)  # of each split other records, the same in all its inits
        for init in range(2):
            r = _attack(_network("dense", seed, init, rng), rng)
            score = r.score_N.copy()
            score[strange] = 50 + np.arange(2)
            results.append(replace(r, record_N=np.arange(N), score_N=score, hit_N=(score > 0.5) == r.member_N))
    found = risk.found_again(results, share=0.05)
    hits = pairs = 0.0
    for seed in range(3):
        held = [r for r in results if r.network.seed == seed]
        others = [r for r in results if r.network.seed != seed]
        ids = risk.most_vulnerable(risk.records(others), 0.05).record_R
        hits += np.mean([(r.hit_N & r.member_N & np.isin(r.record_N, ids)).sum() for r in held])
        pairs += np.isin(held[0].record_N[held[0].member_N], ids).sum()
    assert found.value == pytest.approx(hits / pairs)
    with pytest.raises(UsageError, match="only one network"):
        risk.found_again([r for r in results if r.network.seed == 0])
