"""The trade-off: planted slopes, verdicts, fronts and failure signs, on results built by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.stats
from attack_results import N, net, result
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.errors import UsageError
from lacewing.results import AttackResult, Epoch, Estimate
from lacewing.tradeoff import afford, as_json, tradeoff
from lacewing.tradeoff.cautions import failures


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


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2), tuple(range(6))])
def test_a_planted_slope_is_recovered_exactly(seeds):
    found = tradeoff(study(seeds), resamples=200)
    assert found.slope.ratio.value == pytest.approx(2.0, abs=1e-9)
    assert found.slope.least_squares == pytest.approx(2.0, abs=1e-9)
    assert found.slope.by_seed == pytest.approx(dict.fromkeys(seeds, 2.0))
    assert {s.method: s.networks for s in found.slopes} == {"imp": ("imp-0", "imp-2"), "butterfly": ("butterfly-1",)}
    assert all(s.ratio.value == pytest.approx(2.0) for s in found.slopes)
    assert found.slope.verdict == ("slope not resolved" if len(seeds) > 2 else "fewer than three seeds")
    assert ("which leaves no spread to test" in found.slope.sentence) == (len(seeds) > 2)
    assert found.slope.p_paper is None


def test_a_second_dense_network_has_its_pairs_and_no_slope():
    results = study((0, 1))
    results += [result(net("dense-decay", s, test=0.75, method="dense"), 0.7) for s in (0, 1)]
    found = tradeoff(results, resamples=100)
    assert [s.method for s in found.slopes] == ["imp", "butterfly"]
    assert {p.network for p in found.pairs} >= {"dense-decay"}
    assert found.slope.ratio == tradeoff(study((0, 1)), resamples=100).slope.ratio


def test_networks_of_another_length_of_training_are_no_part_of_the_slope():
    results, epochs = study((0, 1, 2), rng=np.random.default_rng(0)), {"dense": 20, "imp-0": 20, "imp-2": 20}

    def trained(found, last):
        curve = tuple(Epoch(epoch, 1.0, 0.5, 0.1) for epoch in range(1, last + 1))
        return dataclasses.replace(found, network=dataclasses.replace(found.network, curve=curve))

    mixed = [trained(r, epochs.get(r.network.network, 4)) for r in results]
    found = tradeoff(mixed, resamples=100)
    without = [trained(r, 20) for r in results if r.network.network != "butterfly-1"]
    assert found.slope == tradeoff(without, resamples=100).slope
    assert [s.method for s in found.slopes] == ["imp"]
    (note,) = [note for note in found.notes if "another number of epochs" in note]
    assert note.endswith(": butterfly-1.")
    assert {p.network for p in found.points} == {"dense", "imp-0", "butterfly-1", "imp-2"}
    short = tradeoff([trained(r, 20 if r.network.network == "dense" else 4) for r in results], resamples=100)
    assert short.slope.verdict == "no network in the band"


def _of_kind(found, kind):
    return dataclasses.replace(found, network=dataclasses.replace(found.network, kind=kind))


def _kinds(results):
    return [_of_kind(r, "dense" if r.network.method == "dense" else "sparse") for r in results]


@pytest.mark.parametrize("method", ["dense", "my_pkg.mine:Narrow"])
def test_a_control_in_the_band_is_a_point_and_no_part_of_any_slope(method):
    results = _kinds(study((0, 1, 2), rng=np.random.default_rng(0)))
    narrow = [
        _of_kind(result(net("narrow", s, test=0.5, density=0.1, method=method), 0.55), "control") for s in range(3)
    ]
    found, without = tradeoff([*results, *narrow], resamples=100), tradeoff(results, resamples=100)
    assert found.slope == without.slope
    assert found.slopes == without.slopes
    assert found.power == without.power
    (point,) = [p for p in found.points if p.network == "narrow"]
    assert point.control
    assert point.in_band
    assert {p.network for p in found.pairs if p.in_band} >= {"narrow"}
    assert found.differences == without.differences == ()


def test_methods_of_users_come_after_the_packages_own_in_the_order_of_the_results():
    results = _kinds(study((0, 1, 2)))
    for place, method in enumerate(("zoo:Zebra", "my_pkg.mine:Ant")):
        density = 0.1 + 0.01 * place
        results += [
            _of_kind(result(net(f"n{place}", s, test=0.75, density=density, method=method), 0.7), "sparse")
            for s in (0, 1, 2)
        ]
    found = tradeoff(results, resamples=100)
    assert [s.method for s in found.slopes] == ["imp", "butterfly", "zoo:Zebra", "my_pkg.mine:Ant"]
    assert list(dict.fromkeys(p.method for p in found.points)) == ["dense", *(s.method for s in found.slopes)]
    assert [s.networks for s in found.slopes[2:]] == [("n0",), ("n1",)]


def test_a_control_does_not_stand_in_for_a_missing_dense_network():
    results = _kinds(study((0, 1)))
    results += [_of_kind(result(net("short", s, test=0.7, method="dense"), 0.7), "control") for s in (0, 1)]
    kept = [r for r in results if (r.network.network, r.network.seed) != ("dense", 1)]
    found = tradeoff(kept, resamples=100)
    assert found.seeds == (0,)
    assert {p.seed for p in found.pairs} == {0}
    assert any(note.startswith("Seed 1 is left out") for note in found.notes)


def test_the_slope_is_mean_gain_over_mean_loss_over_the_band_alone():
    results = study((0, 1, 2), rng=np.random.default_rng(0))
    results += [result(net("imp-9", s, test=0.2, density=0.9), 0.9) for s in range(3)]  # far outside, would tilt it
    results += [result(net("imp-7", s, test=0.2, density=0.033), 0.9) for s in range(3)]  # just outside
    results += [result(net("imp-8", s, test=0.7, density=0.1734), 0.6) for s in range(3)]  # "17.3 %": inside
    results += [result(net("imp-6", s, test=0.6, density=0.0338), 0.55) for s in range(3)]  # the paper's "3.4 %"
    found = tradeoff(results, resamples=100)
    inside = [(p.relative_loss, p.relative_gain) for p in found.pairs if p.in_band]
    assert len(inside) == 15
    loss, gain = np.array(inside).T
    assert found.slope.ratio.value == pytest.approx(gain.mean() / loss.mean())
    assert found.slope.least_squares == pytest.approx(np.linalg.lstsq(loss[:, None], gain, rcond=None)[0][0])
    assert found.slope.mean_loss.value == pytest.approx(loss.mean())


def test_the_slope_of_a_few_noisy_losses_is_not_pulled_toward_zero():
    """Least squares takes the loss as exact and shrinks: 16 seeds of a true slope of 6.7 at a loss of 1 %."""
    rng = np.random.default_rng(5)
    results = []
    for s in range(16):
        loss = 0.01 + 0.008 * rng.standard_normal()
        gain = 0.067 + 0.01 * rng.standard_normal()
        results.append(exact(net(seed=s, test=0.9), 0.57))
        results.append(exact(net("imp-1", s, test=0.9 * (1 - loss), density=0.1), 1 - 0.43 * (1 + gain)))
    found = tradeoff(results).slope
    assert found.least_squares < 0.7 * found.ratio.value
    assert found.ratio.low < 6.7 < found.ratio.high
    assert found.least_squares < found.ratio.low


def exact(network, accuracy):
    """A result of a balanced accuracy that no number of records gives, as results.csv holds it: without records."""
    estimate = Estimate(accuracy, accuracy - 0.02, accuracy + 0.02)
    return AttackResult(network, "discriminator", "mlp", "", N, N, {"balanced_accuracy": estimate})


def test_networks_that_a_seed_lacks_are_left_out_of_every_seed():
    results = [r for r in study((0, 1, 2)) if r.network.id != "imp-2/target/1"]
    found = tradeoff(results, resamples=100)
    assert found.slope.networks == ("imp-0", "butterfly-1")
    assert found.slope.seeds == 3
    assert found.slope.mean_loss.value == pytest.approx(0.075)


def test_an_unfinished_seed_without_networks_of_the_band_does_not_empty_the_slope():
    results = [*study((0, 1, 2)), result(net(seed=3), 0.75)]
    assert tradeoff(results, resamples=100).slope.seeds == 3


def test_seeds_on_complementary_halves_count_once():
    rng = np.random.default_rng(2)
    results = []
    for s in range(8):
        noise = 0.02 * rng.standard_normal(2)
        results.append(exact(net(seed=s), 0.75))
        results.append(exact(net("imp-1", s, test=0.72 + 0.01 * noise[0], density=0.1), 0.7 + noise[1]))
    found = tradeoff(results, halves=True)
    assert (found.unit, found.replicates, found.slope.seeds) == ("cut", 4, 4)
    assert "4 cuts (8 seeds)" in found.slope.interval
    point = next(p for p in found.points if p.network == "imp-1")
    defences = np.array([2 * (1 - r.metrics["balanced_accuracy"].value) for r in results[1::2]])
    pairs = defences.reshape(4, 2).mean(axis=1)
    expected = scipy.stats.t.interval(0.95, 3, pairs.mean(), scipy.stats.sem(pairs))
    assert (point.defence.low, point.defence.high) == pytest.approx(expected)
    assert tradeoff(results).replicates == 8


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
        slopes.append(gain.mean() / loss.mean())
    low, high = np.quantile(slopes, (0.025, 0.975))
    width = high - low
    assert found.slope.ratio.low == pytest.approx(low, abs=0.1 * width)
    assert found.slope.ratio.high == pytest.approx(high, abs=0.1 * width)
    assert "over records" in found.slope.interval


def test_pairing_matters_equal_networks_have_no_spread():
    dense = result(net(), 0.75, rng=np.random.default_rng(3))
    twin = AttackResult(**{**vars(dense), "network": net("imp-1", density=0.1)})
    found = tradeoff([dense, twin], resamples=200)
    assert found.slope.mean_loss == (0, 0, 0)
    assert found.slope.ratio == (None, None, None)
    assert found.slope.verdict == "fewer than three seeds"
    assert "no accuracy is lost" in found.slope.sentence


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
        ({"losses": (-0.05, -0.1)}, "no loss measured"),
        ({"slope": 0.01, "losses": (0.1, 0.2)}, "slope not resolved"),
        ({"slope": 2.0}, "slope resolved"),
        ({"slope": -1.0}, "slope resolved"),
        ({"slope": 2.0, "seeds": (0, 1)}, "fewer than three seeds"),
        ({"a0": 0.48, "seeds": (0, 1)}, "no trade-off measurable"),
    ],
)
def test_verdicts(changed, verdict):
    changed = {"seeds": (0, 1, 2, 3)} | changed
    results = study(**changed, rng=np.random.default_rng(6))
    wobble = np.random.default_rng(1).normal(0, 0.02, len(results))
    results = [
        dataclasses.replace(r, metrics=r.metrics | {"balanced_accuracy": shifted(r.metrics["balanced_accuracy"], w)})
        for r, w in zip(results, wobble, strict=True)
    ]
    found = tradeoff(results, resamples=400).slope
    assert found.verdict == verdict
    if verdict == "no loss measured":
        assert "no loss in accuracy measured" in found.sentence
        assert not found.ratio.bounded


def shifted(estimate, by):
    return Estimate(*(end + by for end in estimate))


def test_a_slope_without_a_measured_loss_says_at_least():
    losses, gains = (0.01, 0.03, -0.005, 0.02), (0.2, 0.21, 0.22, 0.19)
    results = []
    for s, (loss, gain) in enumerate(zip(losses, gains, strict=True)):
        results.append(exact(net(seed=s), 0.75))
        results.append(exact(net("imp-1", s, test=0.8 * (1 - loss), density=0.1), 1 - 0.25 * (1 + gain)))
    found = tradeoff(results).slope
    assert found.verdict == "no loss measured"
    assert found.ratio.high is None
    assert found.ratio.low > 0
    assert f"at least {found.ratio.low:.3g}" in found.sentence


def test_where_accuracy_rises_in_every_seed_the_loss_is_not_said_to_be_possibly_zero():
    results = []
    for s, loss in enumerate((-0.15, -0.17, -0.16)):
        results.append(exact(net(seed=s), 0.75))
        results.append(exact(net("imp-1", s, test=0.8 * (1 - loss), density=0.1), 0.65))
    found = tradeoff(results).slope
    assert found.verdict == "no loss measured"
    assert "accuracy rose (the mean relative loss is -0.16 [" in found.sentence
    assert "may be 0" not in found.sentence


@pytest.mark.parametrize(("slope", "side"), [(2.0, "less"), (5.0, "more")])
def test_the_papers_slope_is_tested_by_gain_minus_loss(slope, side):
    results = study((0, 1, 2, 3), slope=slope)
    wobble = (0.01, -0.01, 0.005, -0.005)
    results = [
        dataclasses.replace(
            r,
            metrics=r.metrics
            | {"balanced_accuracy": shifted(r.metrics["balanced_accuracy"], wobble[r.network.seed] * r.network.sparse)},
        )
        for r in results
    ]
    found = tradeoff(results).slope
    by_seed = {}
    for p in tradeoff(results).pairs:
        by_seed.setdefault(p.seed, []).append(p.relative_gain - 3.6 * p.relative_loss)
    oracle = scipy.stats.ttest_1samp([np.mean(each) for each in by_seed.values()], 0)
    assert found.p_paper == pytest.approx(oracle.pvalue)
    assert found.beside_paper.low == pytest.approx(oracle.confidence_interval().low)
    assert f"these results exclude 3.6 at the level of 5 %: the gain is {side} than 3.6 times" in found.sentence


def test_no_network_in_the_band_and_no_dense_network_are_said_not_raised():
    results = [result(net(), 0.75), result(net("imp-1", density=0.5, test=0.7), 0.7)]
    found = tradeoff(results, resamples=100)
    assert found.slope.verdict == "no network in the band"
    assert found.slope.sentence.startswith("No seed has both a dense network and a sparse one with a density of 3.4%")
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


def test_the_dense_interval_is_over_seeds_and_below_three_the_mean_of_the_networks_own():
    rng = np.random.default_rng(0)
    accuracies = (0.74, 0.75, 0.78)
    results = [result(net(seed=s), a, rng=rng) for s, a in enumerate(accuracies)]
    three = tradeoff(results, resamples=100).dense_balanced_accuracy
    expected = scipy.stats.t.interval(0.95, 2, np.mean(accuracies), scipy.stats.sem(accuracies))
    assert three[1:] == pytest.approx(expected)
    two = tradeoff(results[:2], resamples=100).dense_balanced_accuracy
    each = [r.metrics["balanced_accuracy"] for r in results[:2]]
    assert two == pytest.approx(np.mean(each, axis=0))  # the networks share records: no narrower than one of them


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
    assert spread[:5] == pytest.approx((0.68, 0.6, 0.74, np.std([0.6, 0.7, 0.74], ddof=1), 3))
    low, high = scipy.stats.t.interval(0.95, 2, 0.68, scipy.stats.sem([0.6, 0.7, 0.74]))
    assert spread[5:] == pytest.approx((low, high))
    assert tradeoff(results[:2], resamples=100).points[0].test_accuracy.low is None
    assert tradeoff(results[:1], resamples=100).points[0].test_accuracy.sd is None


def test_afford_takes_the_best_defence_within_the_loss():
    found = tradeoff(study(losses=(0.05, 0.1, 0.2)), resamples=100)
    assert afford(found, 4.9).point.network == "dense"
    assert "No sparse network loses as little." in afford(found, 4.9).sentence
    assert afford(found, 5).point.network == "imp-0"
    assert afford(found, 19.9).point.network == "butterfly-1"
    assert afford(found, 100).point.network == "imp-2"
    assert afford(found, -1) is None
    choice = afford(found, 10)
    assert "butterfly-1" in choice.sentence
    assert "10%" in choice.sentence
    assert "2 seeds" in choice.sentence
    assert "Slope between 3.4% and 17.3% density: fewer than three seeds." in choice.sentence
    dense = [each for each in study(losses=(0.05,)) if each.network.method == "dense"]
    assert "Slope" not in afford(tradeoff(dense, resamples=100), 5).sentence
    for wrong in (math.nan, math.inf, "5", None, True, [5], 10**400):
        with pytest.raises(UsageError, match=r"^percent = .* such as 2\.$"):
            afford(found, wrong)


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


def wobbled(results, sd=0.003):
    """The same results with a spread over seeds in the attack's accuracy."""
    noise = np.random.default_rng(1).normal(0, sd, len(results))
    return [
        dataclasses.replace(r, metrics=r.metrics | {"balanced_accuracy": shifted(r.metrics["balanced_accuracy"], w)})
        for r, w in zip(results, noise, strict=True)
    ]


def test_a_sound_study_shows_no_failure_sign():
    assert signs(wobbled(study((0, 1, 2), rng=np.random.default_rng(7)))) == ()


def test_each_failure_sign_fires_alone_with_its_numbers():
    rng = np.random.default_rng(8)
    (chance,) = signs(study((0, 1, 2), a0=0.505, slope=0.0, rng=rng))
    assert "no leakage found above" in chance
    assert "n = 2000 records a network" in chance  # those of three seeds are not one sample

    (flat,) = signs(wobbled(study((0, 1, 2), slope=0.0, rng=rng)))
    assert "slope not resolved" in flat

    results = wobbled(study((0, 1, 2), rng=rng))
    young = both_roles(results, train=0.97)
    (memorisation,) = signs(results, young)
    assert "3 of 6 dense" in memorisation
    assert "dense/shadow/0 97.0%" in memorisation
    (hardly,) = signs(results, both_roles(results, train=0.9799))
    assert "dense/shadow/0 97.9%" in hardly  # not 98.0 %, where the sentence says less than 98 %

    (strangers,) = signs(results, both_roles(results, train=0.93))[1:]
    assert "12 of 24" in strangers

    collapsed = [*results, *(result(net("imp-7", s, test=0.39, density=0.01), 0.5) for s in (0, 1, 2))]
    (worthless,) = signs(collapsed)
    assert "6 of 30" in worthless
    assert "imp-7/target/1 39.0%" in worthless

    beaten = [*results, *(result(net("imp-7", s, test=0.79, density=0.2), 0.6) for s in (0, 1, 2))]
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
    assert plain["slope"]["ratio"]["value"] == pytest.approx(2.0)
    assert plain["slope"]["by_seed"] == {"0": pytest.approx(2.0)}


def test_equal_calls_give_equal_results():
    results = study(rng=np.random.default_rng(9))
    assert tradeoff(results, resamples=300, seed=1) == tradeoff(results, resamples=300, seed=1)
    other = tradeoff(results, resamples=300, seed=2)
    assert other.slope.ratio.low != tradeoff(results, resamples=300, seed=1).slope.ratio.low


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


# --------------------------------------------------------------------------- what few seeds must not be made to say


def test_a_value_lies_in_its_interval_with_an_odd_number_of_seeds_on_halves():
    """Seeds 0 and 1 share a cut and count once, seed 2 alone is the other."""
    results = []
    for s, (test, attack) in enumerate(((0.78, 0.68), (0.78, 0.68), (0.70, 0.52))):
        results += [result(net(seed=s), 0.7, rng=np.random.default_rng(s))]
        results += [result(net("imp-1", s, test=test, density=0.1), attack, rng=np.random.default_rng(9 + s))]
    found = tradeoff(results, halves=True, resamples=400)
    for e in (found.slope.mean_gain, found.slope.mean_loss, found.slope.ratio):
        assert e.low < e.value < e.high
    point = next(p for p in found.points if p.network == "imp-1")
    assert point.relative_gain.mean == pytest.approx(found.slope.mean_gain.value)
    assert point.relative_loss.mean == pytest.approx(found.slope.mean_loss.value)


def test_one_mean_for_one_quantity_where_seeds_share_cuts():
    results = [exact(net(seed=s), a) for s, a in enumerate((0.7, 0.7, 0.7, 0.7, 0.9))]
    found = tradeoff(results, halves=True)
    assert 2 * (1 - found.dense_balanced_accuracy.value) == pytest.approx(found.points[0].defence.mean)


def test_an_accuracy_stays_below_one_and_seeds_without_defence_count():
    wide = tradeoff([exact(net(seed=s), a) for s, a in enumerate((0.55, 0.95, 0.6))]).dense_balanced_accuracy
    assert (wide.low, wide.high) == (pytest.approx(0.159, abs=1e-3), 1.0)
    found = tradeoff([exact(net(seed=s), a) for s, a in enumerate((0.9, 0.92, 1.0))])
    assert found.dense_balanced_accuracy.value == pytest.approx(0.94)
    assert found.seeds == (0, 1, 2)
    assert any("Seed 2" in note and "defence" in note for note in found.notes)
    every = tradeoff([exact(net(seed=s), 1.0) for s in range(3)])
    assert every.dense_balanced_accuracy.value == 1
    assert every.interval == "over records, the seeds do not differ"


def test_three_point_six_that_no_gain_can_reach_is_not_excluded_by_a_test():
    rng = np.random.default_rng(0)
    results = []
    for s in range(4):
        results.append(exact(net(seed=s), 0.55 + rng.normal(0, 0.002)))
        results.append(exact(net("imp-1", s, test=0.8 * 0.93, density=0.1), 0.5 + rng.normal(0, 0.002)))
    found = tradeoff(results).slope
    assert (found.p_paper, found.beside_paper) == (None, None)
    assert "cannot be reached here" in found.sentence


def test_an_attack_at_chance_is_not_compared_with_the_paper():
    results = [
        exact(net(*where, test=test, density=density), 0.5 + 0.002 * s)
        for s in range(3)
        for where, test, density in ((("dense", s), 0.8, 1.0), (("imp-1", s), 0.7, 0.1))
    ]
    found = tradeoff(results).slope
    assert (found.verdict, found.p_paper) == ("no trade-off measurable", None)


def test_what_so_many_seeds_tell_is_said_only_where_it_can_be_told():
    assert "fewer than three seeds" in tradeoff(study((0, 1))).power_sentence
    assert "No sparse network" in tradeoff([exact(net(seed=s), 0.7 + 0.01 * s) for s in range(3)]).power_sentence
    assert "do not differ" in tradeoff(study((0, 1, 2))).power_sentence
    assert tradeoff(study((0, 1, 2))).power is None
