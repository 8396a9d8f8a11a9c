"""The trade-off: planted slopes, verdicts, fronts and failure signs, on results built by hand."""

import itertools
import json
import math

import numpy as np
import pytest
from attack_results import N, net, result
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.cautions import failures
from lacewing.errors import UsageError
from lacewing.results import AttackResult
from lacewing.tradeoff import afford, as_json, tradeoff


def study(seeds=(0, 1), slope=2.0, a0=0.75, losses=(0.05, 0.1, 0.2), rng=None):
    """Networks in the band whose relative gain is exactly ``slope`` times their relative loss."""
    results = []
    for s in seeds:
        results.append(result(net(seed=s), a0, rng=rng))
        for i, loss in enumerate(losses):
            name = f"{'imp' if i % 2 == 0 else 'butterfly'}-{i}"
            defence = 2 * (1 - a0) * (1 + slope * loss)
            network = net(name, s, test=0.8 * (1 - loss), density=0.15 - 0.03 * i)
            results.append(result(network, 1 - defence / 2, rng=rng))
    return results


@pytest.mark.parametrize("seeds", [(0,), (0, 1), tuple(range(6))])
def test_a_planted_slope_is_recovered_exactly(seeds):
    found = tradeoff(study(seeds), resamples=200)
    assert found.slope.estimate.value == pytest.approx(2.0, abs=1e-9)
    assert found.slope.by_seed == pytest.approx(dict.fromkeys(seeds, 2.0))
    assert {s.method: s.networks for s in found.slopes} == {"imp": 2 * len(seeds), "butterfly": len(seeds)}
    assert all(s.estimate.value == pytest.approx(2.0) for s in found.slopes)
    assert found.slope.verdict == "slope resolved"
    assert "3.6" in found.slope.sentence
    assert ("over 6 seeds" in found.interval) == (len(seeds) == 6)


def test_a_second_dense_network_has_its_pairs_and_no_slope():
    results = study((0, 1))
    results += [result(net("dense-decay", s, test=0.75, method="dense"), 0.7) for s in (0, 1)]
    found = tradeoff(results, resamples=100)
    assert [s.method for s in found.slopes] == ["imp", "butterfly"]
    assert {p.network for p in found.pairs} >= {"dense-decay"}
    assert found.slope.estimate == tradeoff(study((0, 1)), resamples=100).slope.estimate


def test_the_slope_is_least_squares_through_the_origin_over_the_band_alone():
    results = study((0, 1), rng=np.random.default_rng(0))
    results += [result(net("imp-9", s, test=0.2, density=0.9), 0.9) for s in (0, 1)]  # far outside, would tilt it
    results += [result(net("imp-7", s, test=0.2, density=0.033), 0.9) for s in (0, 1)]  # just outside
    results += [result(net("imp-8", s, test=0.7, density=0.1734), 0.6) for s in (0, 1)]  # "17.3 %": inside
    results += [result(net("imp-6", s, test=0.6, density=0.0338), 0.55) for s in (0, 1)]  # the paper's "3.4 %"
    found = tradeoff(results, resamples=100)
    inside = [(p.relative_loss, p.relative_gain) for p in found.pairs if p.in_band]
    assert len(inside) == 10
    loss, gain = np.array(inside).T
    oracle = np.linalg.lstsq(loss[:, None], gain, rcond=None)[0][0]
    assert found.slope.estimate.value == pytest.approx(oracle)
    assert found.slope.mean_loss.value == pytest.approx(loss.mean())


def test_record_interval_equals_a_plain_paired_bootstrap():
    results = study((0,), rng=np.random.default_rng(1), losses=(0.1, 0.2))
    found = tradeoff(results, resamples=4000)
    rng = np.random.default_rng(2)
    slopes = []
    for _ in range(4000):
        rows = np.concatenate([rng.integers(N, size=N), N + rng.integers(N, size=N)])
        member = results[0].member_N[rows]
        attacked = [(r.hit_N[rows][member].mean() + r.hit_N[rows][~member].mean()) / 2 for r in results]
        accuracy = [r.correct_N[rows][~member].mean() for r in results]
        loss = np.array([1 - a / accuracy[0] for a in accuracy[1:]])
        gain = np.array([(1 - a) / (1 - attacked[0]) - 1 for a in attacked[1:]])
        slopes.append(loss @ gain / (loss @ loss))
    low, high = np.quantile(slopes, (0.025, 0.975))
    width = high - low
    assert found.slope.estimate.low == pytest.approx(low, abs=0.06 * width)
    assert found.slope.estimate.high == pytest.approx(high, abs=0.06 * width)


def test_seed_interval_equals_the_bootstrap_over_all_equally_likely_draws():
    slopes, losses = np.array([1.0, 1.5, 2.0, 2.5, 3.0]), np.array([0.1, 0.2, 0.1, 0.3, 0.2])
    results = [r for s in range(5) for r in study((s,), slope=slopes[s], losses=(losses[s],))]
    found = tradeoff(results, resamples=20_000)
    draws = np.array(list(itertools.product(range(5), repeat=5)))
    every = (slopes * losses**2)[draws].sum(axis=1) / (losses**2)[draws].sum(axis=1)
    expected = ((slopes * losses**2).sum() / (losses**2).sum(), *np.quantile(every, (0.025, 0.975)))
    assert found.slope.estimate == pytest.approx(expected, abs=0.05)


def test_pairing_matters_equal_networks_have_no_spread():
    dense = result(net(), 0.75, rng=np.random.default_rng(3))
    twin = AttackResult(**{**vars(dense), "network": net("imp-1", density=0.1)})
    found = tradeoff([dense, twin], resamples=200)
    assert found.slope.mean_loss == (0, 0, 0)
    assert found.slope.estimate is None
    assert found.slope.verdict == "no trade-off measurable"


def test_record_order_does_not_matter_and_other_records_are_refused():
    results = study((0,), rng=np.random.default_rng(4))
    order = np.random.default_rng(5).permutation(2 * N)
    arrays = {k: getattr(results[1], k)[order] for k in ("record_N", "member_N", "hit_N", "correct_N")}
    shuffled = [results[0], AttackResult(**{**vars(results[1]), **arrays}), *results[2:]]
    assert tradeoff(shuffled, resamples=200).slope == tradeoff(results, resamples=200).slope
    others = AttackResult(**{**vars(results[1]), "record_N": results[1].record_N + 1})
    with pytest.raises(UsageError, match="same records"):
        tradeoff([results[0], others], resamples=200)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"a0": 0.51}, "no trade-off measurable"),
        ({"losses": (-0.05, -0.1)}, "no trade-off measurable"),
        ({"slope": 0.01, "losses": (0.1, 0.2)}, "slope not resolved"),
        ({"slope": 2.0}, "slope resolved"),
        ({"slope": -1.0}, "slope resolved"),
    ],
)
def test_verdicts(changed, verdict):
    results = study(**changed, rng=np.random.default_rng(6))
    assert tradeoff(results, resamples=400).slope.verdict == verdict


def test_no_network_in_the_band_and_no_dense_network_are_said_not_raised():
    results = [result(net(), 0.75), result(net("imp-1", density=0.5, test=0.7), 0.7)]
    found = tradeoff(results, resamples=100)
    assert found.slope.verdict == "no network in the band"
    alone = tradeoff(results[1:], resamples=100)
    assert (alone.dense_balanced_accuracy, alone.cap, alone.pairs) == (None, None, ())
    assert alone.points[0].relative_loss is None
    assert "Seed 0" in alone.notes[0]
    json.dumps(as_json(alone), allow_nan=False)


def test_a_seed_without_its_dense_network_is_left_out_and_named():
    results = study((0, 1))
    found = tradeoff([r for r in results if r.network.id != "dense/target/1"], resamples=100)
    assert found.seeds == (0,)
    assert {p.seed for p in found.pairs} == {0}
    assert any("Seed 1" in note for note in found.notes)
    assert tradeoff(results, resamples=100).notes == ()


def test_a_dense_network_without_any_defence_is_left_out_not_divided_by():
    found = tradeoff([result(net(), 1.0), result(net("imp-1", density=0.1, test=0.7), 0.7)], resamples=100)
    assert "defence" in found.notes[0]
    json.dumps(as_json(found), allow_nan=False)


def test_the_cap_bounds_every_gain_of_an_attack_not_below_chance():
    found = tradeoff(study(a0=0.75), resamples=100)
    assert found.cap.value == pytest.approx(1.0)  # (0.75 - 0.5)/0.25
    a0 = found.dense_balanced_accuracy
    assert found.cap.low == pytest.approx((a0.low - 0.5) / (1 - a0.low))
    gone = tradeoff([result(net(), 0.75), result(net("imp-1", density=0.1, test=0.7), 0.5)], resamples=100)
    assert gone.pairs[0].relative_gain == pytest.approx(found.cap.value)


def test_dense_interval_of_one_seed_is_the_attacks_own_and_shrinks_with_seeds():
    one, three = (tradeoff(study(range(k)), resamples=100).dense_balanced_accuracy for k in (1, 3))
    assert one == pytest.approx(study((0,))[0].metrics["balanced_accuracy"])
    assert three.high - three.low < 0.7 * (one.high - one.low)


places = st.lists(st.tuples(st.integers(1, 9), st.integers(5, 9)), min_size=1, max_size=7)


@settings(max_examples=40)
@given(places)
def test_pareto_front_and_dominated_by_brute_force(grid):
    networks = [
        net(f"{'imp' if i % 2 else 'butterfly'}-{i}", test=t / 10, density=0.5) for i, (t, _) in enumerate(grid)
    ]
    found = tradeoff([result(n, a / 10, n=10) for n, (_, a) in zip(networks, grid, strict=True)], resamples=100)
    beaten = {i for i, (t, a) in enumerate(grid) if any((u >= t and b <= a) and (u, b) != (t, a) for u, b in grid)}
    assert set(found.pareto) == {n.network for i, n in enumerate(networks) if i not in beaten}
    for i, (t, a) in enumerate(grid):
        if i % 2 == 0:
            better = [f"imp-{j}" for j, (u, b) in enumerate(grid) if j % 2 and u > t and b < a]
            assert (networks[i].network in found.dominated) == bool(better)
            assert found.dominated.get(networks[i].network, "") in (better or [""])


def test_points_carry_the_spread_over_seeds():
    results = [result(net("imp-1", s, test=t, density=0.1), 0.7) for s, t in enumerate((0.6, 0.7, 0.74))]
    spread = tradeoff(results, resamples=100).points[0].test_accuracy
    assert spread == pytest.approx((0.68, 0.6, 0.74, np.std([0.6, 0.7, 0.74], ddof=1), 3))
    assert tradeoff(results[:1], resamples=100).points[0].test_accuracy.sd is None


def test_afford_takes_the_best_defence_within_the_loss():
    found = tradeoff(study(losses=(0.05, 0.1, 0.2)), resamples=100)
    assert afford(found, 4.9).point.network == "dense"
    assert "no sparse network" in afford(found, 4.9).sentence
    assert afford(found, 5).point.network == "imp-0"
    assert afford(found, 19.9).point.network == "butterfly-1"
    assert afford(found, 100).point.network == "imp-2"
    assert afford(found, -1) is None
    choice = afford(found, 10)
    assert "butterfly-1" in choice.sentence
    assert "10%" in choice.sentence
    assert "2 seeds" in choice.sentence
    with pytest.raises(UsageError, match="percent"):
        afford(found, math.nan)


def test_afford_gives_ties_to_the_lower_density():
    results = [result(net(), 0.75), *(result(net(f"imp-{d}", test=0.8, density=d), 0.7) for d in (0.1, 0.05, 0.15))]
    assert afford(tradeoff(results, resamples=100), 1).point.network == "imp-0.05"


def both_roles(results, **shadow):
    networks = [r.network for r in results]
    alike = ("network", "seed", "method", "density", "test_accuracy", "train_accuracy")
    rows = [{k: getattr(n, k) for k in alike} for n in networks]
    return networks + [
        net(r["network"], r["seed"], method=r["method"], density=r["density"], role="shadow",
            **({"test": r["test_accuracy"], "train": r["train_accuracy"]} | shadow))
        for r in rows
    ]  # fmt: skip


def signs(results, networks=None, **options):
    return failures(networks or both_roles(results), results, tradeoff(results, resamples=400), **options)


def test_a_sound_study_shows_no_failure_sign():
    assert signs(study(rng=np.random.default_rng(7))) == ()


def test_each_failure_sign_fires_alone_with_its_numbers():
    rng = np.random.default_rng(8)
    (chance,) = signs(study(a0=0.505, slope=0.0, rng=rng))
    assert "no leakage found above" in chance
    assert "n = 4000" in chance

    (flat,) = signs(study(slope=0.0, rng=rng))
    assert "slope not resolved" in flat

    results = study(rng=rng)
    young = both_roles(results, train=0.97)
    (memorisation,) = signs(results, young)
    assert "2 of 4 dense" in memorisation
    assert "dense/shadow/0 97.0%" in memorisation
    (hardly,) = signs(results, both_roles(results, train=0.9799))
    assert "dense/shadow/0 97.9%" in hardly  # not 98.0 %, where the sentence says less than 98 %

    (strangers,) = signs(results, both_roles(results, train=0.93))[1:]
    assert "8 of 16" in strangers

    collapsed = [*results, *(result(net("imp-7", s, test=0.39, density=0.01), 0.5) for s in (0, 1))]
    (worthless,) = signs(collapsed)
    assert "4 of 20" in worthless
    assert "imp-7/target/1 39.0%" in worthless

    beaten = [*results, *(result(net("imp-7", s, test=0.79, density=0.2), 0.6) for s in (0, 1))]
    (dominated,) = signs(beaten)
    assert "1 of 1 butterfly" in dominated
    assert "butterfly-1 by imp-7" in dominated


def test_resemblance_allows_for_sampling_noise():
    results = [result(net(test=0.5), 0.75)]
    assert not any("resemble" in s for s in signs(results, both_roles(results, test=0.59)))  # 0.05 + 0.044 at n = 1000
    assert any("resemble" in s for s in signs(results, both_roles(results, test=0.60)))


@pytest.mark.parametrize(("classes", "test", "fires"), [(10, 0.14, True), (10, 0.16, False), (2, 0.6, False)])
def test_collapse_is_measured_from_chance(classes, test, fires):
    results = [result(net(test=test), 0.75)]
    assert any("collapsed" in s for s in signs(results, classes=classes)) == fires


def test_json_is_plain_numbered_and_finite():
    plain = as_json(tradeoff(study((0,)), resamples=100))
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["schema"] == 1
    assert plain["slope"]["estimate"]["value"] == pytest.approx(2.0)
    assert plain["slope"]["by_seed"] == {"0": pytest.approx(2.0)}


def test_equal_calls_give_equal_results():
    results = study(rng=np.random.default_rng(9))
    assert tradeoff(results, resamples=300, seed=1) == tradeoff(results, resamples=300, seed=1)
    other = tradeoff(results, resamples=300, seed=2)
    assert other.slope.estimate.low != tradeoff(results, resamples=300, seed=1).slope.estimate.low


def test_bad_input_is_named():
    results = study((0,))
    with pytest.raises(UsageError, match="did you mean 'discriminator'"):
        tradeoff(results, attack="discriminater")
    with pytest.raises(UsageError, match="run an attack"):
        tradeoff([])
    with pytest.raises(UsageError, match="dense/target/0"):
        tradeoff([*results, results[0]])
    with pytest.raises(UsageError, match="shadow"):
        tradeoff([result(net(role="shadow"), 0.7)])
    with pytest.raises(UsageError, match="band"):
        tradeoff(results, band=(0.5, 0.1))
