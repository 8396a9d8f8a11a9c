"""Sparse networks beside others at equal accuracy or density: against loops in plain Python and planted cases."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from attack_results import net, result
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.metrics import Units
from lacewing.results import AttackResult
from lacewing.tradeoff import Match, _matched, as_json, tradeoff
from lacewing.tradeoff.cautions import failures


def matches(by_seed):
    """Against the network called "dense", or the only one of that method."""
    dense = {}
    for s, results in by_seed.items():
        kin = [r for r in results if r.network.method == "dense"]
        named = [r for r in kin if r.network.network == "dense"] or kin
        if len(named) == 1:
            dense[s] = named[0]
    return _matched.matches(by_seed, dense, Units.of(dense, halves=False))


N = 20  # members, and as many non-members: accuracies below are twentieths


def early(epoch, seed=0, *, test, attack, n=N, rng=None):
    network = net(f"early-{epoch:03d}", seed, test=test, method="early-stopped", epochs=epoch)
    return result(network, attack, n=n, rng=rng)


def sparse(name, seed=0, *, test, attack, density=0.1, n=N, rng=None):
    return result(net(name, seed, test=test, density=density, epochs=100), attack, n=n, rng=rng)


def dense(seed=0, *, test=0.8, attack=0.9, name="dense", n=N, rng=None):
    return result(net(name, seed, test=test, method="dense", epochs=100), attack, n=n, rng=rng)


def at(found, network, by="accuracy", against="early-stopped"):
    (one,) = [m for m in found if (m.network, m.at, m.against) == (network, by, against)]
    return one


def kinds(found):
    return [(m.network, m.at, m.against) for m in found]


def met(path, x):
    """Oracle. ``path``: (x, where, attack, test) each; every point of it, between two as well, that is at x."""
    found = []
    for low, high in itertools.pairwise(path):
        if low[0] == high[0] == x:
            found += [low[1:], high[1:]]
        elif low[0] <= x <= high[0] or low[0] >= x >= high[0]:
            share = (x - low[0]) / (high[0] - low[0])
            found.append([a + share * (b - a) for a, b in zip(low[1:], high[1:], strict=True)])
    return found


def walked(path, x):
    """Oracle: the first point at x and the last, or twice the nearest if there is none; and whether there is none."""
    points = met(path, x)
    if points:
        return points[0], points[-1], False
    nearest = min(path, key=lambda point: abs(point[0] - x))[1:]
    return nearest, nearest, True


def accuracy_path(networks):
    return [(r.network.test_accuracy, len(r.network.curve), attack_of(r), r.network.test_accuracy) for r in networks]


def attack_of(r):
    return r.metrics["balanced_accuracy"].value


# --------------------------------------------------------------------------------------------------------- where it is

twentieths = st.integers(0, 20).map(lambda k: k / 20)
measured = st.tuples(twentieths, twentieths)  # a network's test accuracy, and the attack's on it


@settings(max_examples=60, deadline=None)
@given(
    stops=st.lists(measured, min_size=1, max_size=5),
    end=measured,
    own=measured,
)
def test_the_first_stop_that_is_as_accurate_with_what_lies_between_by_brute_force(stops, end, own):
    path = [early(2**i, test=t, attack=a) for i, (t, a) in enumerate(stops)] + [dense(test=end[0], attack=end[1])]
    pruned = sparse("imp-01", test=own[0], attack=own[1])
    found = at(matches({0: [*path[::-1], pruned]}), "imp-01")
    (where, attack, test), last, beyond = walked(accuracy_path(path), own[0])
    assert found.by_seed == {0: pytest.approx(attack_of(pruned) - attack, abs=1e-12)}
    assert found.difference == found.by_seed[0]
    assert found.test_difference == pytest.approx(own[0] - test, abs=1e-12)
    assert found.where == {0: pytest.approx(where)}
    assert found.beyond == (0,) * beyond
    assert (found.balanced_accuracy, found.test_accuracy) == (attack_of(pruned), own[0])
    assert found.last_where == {0: pytest.approx(last[0])}
    assert found.last_difference == pytest.approx(attack_of(pruned) - last[1], abs=1e-12)
    assert found.one_place == (last[0] == pytest.approx(where))


def test_halfway_between_two_stops_and_the_sign_of_less_leakage():
    path = [early(10, test=0.4, attack=0.6), early(20, test=0.6, attack=0.8), dense(test=0.8, attack=0.9)]
    tighter, looser = (sparse(f"imp-0{i}", test=0.5, attack=a) for i, a in ((1, 0.65), (2, 0.75)))
    found = matches({0: [*path, tighter, looser]})
    assert at(found, "imp-01").by_seed == {0: pytest.approx(-0.05)}  # beside 0.7 halfway
    assert at(found, "imp-02").by_seed == {0: pytest.approx(0.05)}
    assert at(found, "imp-01").where == {0: pytest.approx(15)}


def test_a_path_that_falls_back_is_left_where_it_first_gets_there():
    """Overfitting: the second stop is the most accurate, later ones leak more at the same accuracy."""
    path = [early(1, test=0.3, attack=0.5), early(2, test=0.7, attack=0.55), early(4, test=0.4, attack=0.8), dense()]
    found = at(matches({0: [*path, sparse("imp-01", test=0.5, attack=0.55)]}), "imp-01")
    assert found.where == {0: pytest.approx(1.5)}
    assert found.by_seed == {0: pytest.approx(0.55 - 0.525)}
    assert found.last_where == {0: pytest.approx(28)}  # a quarter of the way from .4 at 4 to .8 at 100
    assert found.last_difference == pytest.approx(0.55 - 0.825)


def test_one_that_falls_and_never_rises_again_is_last_met_on_its_fall():
    path = [early(1, test=0.3, attack=0.5), early(2, test=0.7, attack=0.6), dense(test=0.4, attack=0.9)]
    found = at(matches({0: [*path, sparse("imp-01", test=0.5, attack=0.8)]}), "imp-01")
    assert found.where == {0: pytest.approx(1.5)}
    assert found.last_where == {0: pytest.approx(2 + 98 * 2 / 3)}
    assert found.last_difference == pytest.approx(0.8 - 0.8)


def test_a_path_that_comes_back_to_it_and_ends_there_is_last_met_at_its_end():
    path = [early(1, test=0.3, attack=0.5), early(2, test=0.7, attack=0.6), dense(test=0.5, attack=0.9)]
    found = at(matches({0: [*path, sparse("imp-01", test=0.5, attack=0.8)]}), "imp-01")
    assert (found.where, found.last_where) == ({0: pytest.approx(1.5)}, {0: 100})
    assert found.last_difference == pytest.approx(-0.1)


def test_a_path_that_begins_above_and_falls_below_is_met_on_its_fall():
    path = [early(1, test=0.7, attack=0.5), early(2, test=0.3, attack=0.6), dense(test=0.4, attack=0.9)]
    found = at(matches({0: [*path, sparse("imp-01", test=0.5, attack=0.8)]}), "imp-01")
    assert (found.where, found.beyond) == ({0: pytest.approx(1.5)}, ())
    assert found.difference == pytest.approx(0.25)


def test_where_accuracy_wobbles_both_places_are_described():
    """Accuracy passes .6 before epoch 10, before 15 and before 20, and the attack finds ever more."""
    stops = [(5, 0.4, 0.5), (10, 0.7, 0.56), (15, 0.5, 0.6), (20, 0.75, 0.7)]
    results = [early(e, test=t, attack=a, n=800) for e, t, a in stops]
    results += [dense(test=0.9, attack=0.95, n=800), sparse("imp-01", test=0.6, attack=0.6, n=800)]
    found = at(matches({0: results}), "imp-01")
    assert found.difference == pytest.approx(0.6 - 0.54)  # two thirds of the way from epoch 5 to 10
    assert found.last_difference == pytest.approx(0.6 - 0.64)  # two fifths of the way from epoch 15 to 20
    assert not found.one_place
    assert found.last_by_seed == {0: pytest.approx(found.last_difference)}


def test_a_match_is_a_description_that_can_carry_no_verdict():
    assert not {"interval", "verdict", "sentence", "p"} & {field.name for field in dataclasses.fields(Match)}


def test_one_that_beats_them_all_is_held_against_the_most_accurate_and_named():
    path = [early(1, test=0.3, attack=0.5), early(2, test=0.75, attack=0.7), dense(test=0.6, attack=0.95)]
    found = at(matches({7: [*path, sparse("imp-01", test=0.9, attack=0.75)]}), "imp-01")
    assert found.where == {7: 2}
    assert found.by_seed == {7: pytest.approx(0.05)}
    assert found.test_difference == pytest.approx(0.15)
    assert found.beyond == (7,)


def test_one_below_the_first_stop_is_held_against_the_first_stop():
    path = [early(1, test=0.5, attack=0.55), early(2, test=0.6, attack=0.7), dense()]
    found = at(matches({0: [*path, sparse("imp-01", test=0.1, attack=0.5)]}), "imp-01")
    assert found.where == {0: 1}
    assert found.by_seed == {0: pytest.approx(-0.05)}


@pytest.mark.parametrize("by", ["accuracy", "density"])
def test_one_below_all_others_is_named_as_one_above_them_is(by):
    results = [
        early(1, test=0.5, attack=0.55),
        dense(),
        sparse("imp-01", test=0.6, attack=0.6, density=0.2),
        sparse("butterfly-a", test=0.1, attack=0.5, density=0.05),
    ]
    found = at(matches({3: results}), "butterfly-a", by, "imp")
    assert found.beyond == (3,)


densities = st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True)


@settings(max_examples=60, deadline=None)
@given(levels=densities, own=st.integers(1, 99), data=st.data())
def test_densities_are_walked_on_a_log_scale_from_the_sparsest_by_brute_force(levels, own, data):
    attacks = [data.draw(twentieths) for _ in range(2 * len(levels) + 4)]
    take = iter(attacks)
    imp = [sparse(f"imp-{d:02d}", test=next(take), attack=next(take), density=d / 100) for d in levels]
    end = dense(test=next(take), attack=next(take))
    butterfly = sparse("butterfly-a", test=next(take), attack=next(take), density=own / 100)
    found = at(matches({0: [end, butterfly, *imp]}), "butterfly-a", "density", "imp")
    path = [
        (math.log(d), math.log(d), attack_of(r), r.network.test_accuracy)
        for d, r in sorted((r.network.density, r) for r in [*imp, end])
    ]
    (where, attack, test), _, beyond = walked(path, math.log(own / 100))
    assert found.beyond == (0,) * beyond == (0,) * (own < min(levels))  # the dense network is as dense as any
    assert found.one_place
    assert found.where == {0: pytest.approx(math.exp(where))}
    assert found.by_seed == {0: pytest.approx(attack_of(butterfly) - attack, abs=1e-12)}
    assert found.test_difference == pytest.approx(butterfly.network.test_accuracy - test, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    levels=st.lists(measured, min_size=1, max_size=4),
    end=measured,
    own=measured,
)
def test_at_equal_accuracy_pruning_is_walked_from_the_sparsest_to_the_dense_network_by_brute_force(levels, end, own):
    path = [sparse(f"imp-{i:02d}", test=t, attack=a, density=0.1 + i / 10) for i, (t, a) in enumerate(levels)]
    path.append(dense(test=end[0], attack=end[1]))
    butterfly = sparse("butterfly-a", test=own[0], attack=own[1], density=0.01)
    found = at(matches({0: [*path[::-1], butterfly]}), "butterfly-a", "accuracy", "imp")
    (_, attack, test), _, beyond = walked(accuracy_path(path), own[0])
    assert found.by_seed == {0: pytest.approx(attack_of(butterfly) - attack, abs=1e-12)}
    assert found.test_difference == pytest.approx(own[0] - test, abs=1e-12)
    assert found.beyond == (0,) * beyond


def test_butterfly_against_pruning_at_the_geometric_mean_density_and_at_equal_accuracy():
    results = [
        dense(test=0.8, attack=0.9),
        sparse("imp-01", test=0.7, attack=0.8, density=0.16),
        sparse("imp-02", test=0.5, attack=0.6, density=0.04),
        sparse("butterfly-a", test=0.65, attack=0.6, density=0.08),
    ]
    found = matches({0: results})
    by_density, by_accuracy = (at(found, "butterfly-a", by, "imp") for by in ("density", "accuracy"))
    assert by_density.by_seed == {0: pytest.approx(0.6 - 0.7)}
    assert by_density.test_difference == pytest.approx(0.65 - 0.6)
    assert by_density.where == {0: pytest.approx(0.08)}
    assert by_accuracy.by_seed == {0: pytest.approx(0.6 - 0.75)}
    assert by_accuracy.test_difference == pytest.approx(0)
    assert by_density.beyond == by_accuracy.beyond == ()


# ---------------------------------------------------------------------------------------------------------- which there


def test_who_is_held_against_whom():
    end, stop = dense(), early(1, test=0.5, attack=0.6)
    imp, butterfly = sparse("imp-01", test=0.6, attack=0.6), sparse("butterfly-a", test=0.6, attack=0.6)
    own = result(net("mine", test=0.6, density=0.2, method="mine", epochs=9), 0.6, n=N)

    def found(*results):
        return kinds(matches({0: results}))

    stopped, both = ("accuracy", "early-stopped"), [("accuracy", "imp"), ("density", "imp")]
    assert found(end, imp, butterfly, stop) == [
        ("imp-01", *stopped),
        ("butterfly-a", *stopped),
        *(("butterfly-a", *each) for each in both),
    ]
    assert found(end, imp) == []  # no early stops
    assert found(end, imp, butterfly) == [("butterfly-a", *each) for each in both]
    assert found(end, butterfly) == []
    assert found(imp, butterfly, stop) == []  # no dense network
    assert found(end, own, stop, imp) == [("mine", *stopped), ("imp-01", *stopped)]
    assert found(end, stop) == []


def test_of_two_dense_networks_the_one_called_dense_ends_the_path():
    results = [
        dense(test=0.95, attack=0.95, name="longer"),
        early(1, test=0.5, attack=0.6),
        dense(test=0.7, attack=0.8),
        sparse("imp-01", test=0.6, attack=0.6),
    ]
    assert at(matches({0: results}), "imp-01").by_seed == {0: pytest.approx(0.6 - 0.7)}
    renamed = [dense(test=0.7, attack=0.8, name="shorter") if r.network.network == "dense" else r for r in results]
    assert matches({0: renamed}) == ()  # which of them it was cannot be told
    alone = [r for r in renamed if r.network.network != "longer"]
    assert at(matches({0: alone}), "imp-01").by_seed == {0: pytest.approx(0.6 - 0.7)}


def test_a_match_is_over_the_seeds_that_have_both_sides():
    def of(s, *, stops=True, pruned=True):
        found = [dense(s, test=0.8, attack=0.9)]
        found += [early(1, s, test=0.4, attack=0.5), early(2, s, test=0.6, attack=0.7)] if stops else []
        return found + ([sparse("imp-01", s, test=0.5, attack=0.6 + s / 20)] if pruned else [])

    found = at(matches({0: of(0), 1: of(1), 2: of(2, stops=False), 3: of(3, pruned=False)}), "imp-01")
    assert found.by_seed == {0: pytest.approx(0.0), 1: pytest.approx(0.05)}
    assert found.difference == pytest.approx(0.025)
    assert (found.balanced_accuracy, found.test_accuracy) == (pytest.approx(0.625), pytest.approx(0.5))


# ----------------------------------------------------------------------------------------------------------- over seeds


def planted(seeds=(0,), n=400, rng=None, shift=0.0):
    found = {}
    for s in seeds:
        found[s] = [
            dense(s, test=0.8, attack=0.85, n=n, rng=rng),
            early(5, s, test=0.4, attack=0.55, n=n, rng=rng),
            early(20, s, test=0.6, attack=0.7, n=n, rng=rng),
            sparse("imp-01", s, test=0.7, attack=0.75, density=0.3, n=n, rng=rng),
            sparse("imp-02", s, test=0.55, attack=0.65 + shift, density=0.1, n=n, rng=rng),
            sparse("butterfly-a", s, test=0.6, attack=0.6 + shift, density=0.2, n=n, rng=rng),
        ]
    return found


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_a_network_that_is_its_own_match_differs_by_nothing(seeds):
    rng = np.random.default_rng(3)
    by_seed = {}
    for s in range(seeds):
        stop = early(4, s, test=0.5, attack=0.7, n=300, rng=rng)
        twin = AttackResult(**{**vars(stop), "network": net("butterfly-a", s, test=0.5, density=0.1, epochs=9)})
        imp = AttackResult(**{**vars(stop), "network": net("imp-01", s, test=0.5, density=0.1, epochs=9)})
        by_seed[s] = [twin, imp, stop, dense(s, test=0.9, attack=0.8, n=300, rng=rng)]
    found = matches(by_seed)
    assert len(found) == 4
    for match in found:
        assert (match.difference, match.test_difference, match.last_difference) == (0, 0, 0)
        assert match.by_seed == dict.fromkeys(range(seeds), 0.0)
        assert match.beyond == ()


def test_the_difference_is_the_mean_of_the_seeds_each_against_its_own():
    attacks = {4: 0.5, 0: 0.55, 2: 0.6, 9: 0.7, 7: 0.75}
    by_seed = {
        s: [early(1, s, test=0.3, attack=0.5), dense(s, test=0.7, attack=0.8), sparse("imp-01", s, test=0.5, attack=a)]
        for s, a in attacks.items()
    }
    found = at(matches(by_seed), "imp-01")
    assert found.by_seed == {s: pytest.approx(a - 0.65) for s, a in attacks.items()}
    assert found.difference == pytest.approx(np.mean(list(attacks.values())) - 0.65)
    assert found.balanced_accuracy == pytest.approx(np.mean(list(attacks.values())))


def test_the_order_of_records_and_networks_does_not_matter():
    by_seed = planted((0, 1), n=100, rng=np.random.default_rng(6))
    rng = np.random.default_rng(7)
    shuffled = {}
    for s, results in by_seed.items():
        there = []
        for r in results:
            order = rng.permutation(200)
            arrays = {k: getattr(r, k)[order] for k in ("record_N", "member_N", "hit_N", "correct_N")}
            there.append(AttackResult(**{**vars(r), **arrays}))
        shuffled[s] = there[::-1]
    whole, other = (matches(each) for each in (by_seed, shuffled))
    assert {m.network: 1 for m in whole} == {"imp-01": 1, "imp-02": 1, "butterfly-a": 1}
    assert sorted(other, key=repr) == sorted(whole, key=repr)


# ----------------------------------------------------------------------------------------------------- in the trade-off


def test_early_stops_are_no_sparse_networks():
    """They change no pair and no slope; each has its point."""
    by_seed = planted((0, 1), n=200, rng=np.random.default_rng(8))
    results = [r for of_seed in by_seed.values() for r in of_seed]
    without = [r for r in results if r.network.method != "early-stopped"]
    found, plain = (tradeoff(each, resamples=200) for each in (results, without))
    for name in ("pairs", "slope", "slopes", "cap", "dense_balanced_accuracy", "dense_records", "seeds", "notes"):
        assert getattr(found, name) == getattr(plain, name)
    assert {p.method for p in found.pairs} == {"imp", "butterfly"}
    stops = [p for p in found.points if p.method == "early-stopped"]
    assert [(p.network, p.density.mean, p.in_band) for p in stops] == [("early-005", 1, False), ("early-020", 1, False)]
    assert [p for p in found.points if p not in stops] == list(plain.points)
    assert stops[0].relative_loss.mean == pytest.approx(0.5)
    assert found.matches == matches(by_seed)
    assert kinds(plain.matches) == [("butterfly-a", "accuracy", "imp"), ("butterfly-a", "density", "imp")]


def test_a_seed_whose_dense_network_cannot_serve_is_left_out():
    by_seed = planted((0, 1), n=50)
    by_seed[1][0] = dense(1, test=0.8, attack=1.0, n=50)
    found = tradeoff([r for of_seed in by_seed.values() for r in of_seed], resamples=100)
    assert "Seed 1" in found.notes[0]
    assert {tuple(m.by_seed) for m in found.matches} == {(0,)}


@pytest.mark.parametrize("seeds", [1, 5])
def test_json_is_plain_finite_and_whole(seeds):
    by_seed = planted(range(seeds), n=50, rng=np.random.default_rng(9))
    found = tradeoff([r for of_seed in by_seed.values() for r in of_seed], resamples=100)
    plain = as_json(found)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert len(plain["matches"]) == len(found.matches) == 5
    for one, match in zip(plain["matches"], found.matches, strict=True):
        assert one.keys() == {field.name for field in dataclasses.fields(Match)}
        assert one["difference"] == match.difference
        assert one["by_seed"] == {str(s): d for s, d in match.by_seed.items()}
        assert all(isinstance(w, float) for w in one["where"].values())
        assert one["beyond"] == list(match.beyond)


def test_an_early_stop_is_no_sign_of_failure():
    results = [dense(test=0.8, attack=0.9, n=1000), early(1, test=0.1, attack=0.5, n=1000)]
    found = failures([r.network for r in results], results, tradeoff(results, resamples=100))
    assert not any("collapsed" in sentence for sentence in found)
