"""Families as lines of accuracy against leak, the frontier of controls, and what stands beside a chosen network."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from lacewing.errors import UsageError
from lacewing.metrics import mean_over_seeds
from lacewing.results import AttackResult, Estimate, Kind, NetworkResult
from lacewing.tradeoff import Price, afford, control_frontier, lines, pick, tradeoff

RECIPES: dict[str, tuple[Kind, str, str, float, float]] = {  # kind, method, family, accuracy, leak
    "dense": ("dense", "dense", "dense", 0.80, 0.90),
    "short-04": ("control", "dense", "short", 0.76, 0.70),
    "short-08": ("control", "dense", "short", 0.78, 0.85),
    "wide-1": ("control", "dense", "wide", 0.77, 0.72),
    "imp-01": ("sparse", "imp", "imp", 0.79, 0.80),
    "imp-02": ("sparse", "imp", "imp", 0.76, 0.66),
    "early-010": ("control", "early-stopped", "early", 0.79, 0.6),
}


def results(seeds: int, metric: str = "balanced_accuracy") -> list[AttackResult]:
    rng = np.random.default_rng(0)
    found = []
    for name, (kind, method, family, accuracy, leak) in RECIPES.items():
        for seed in range(seeds):
            density = 0.1 if kind == "sparse" else 1.0
            noisy, told = accuracy + 0.002 * rng.normal(), leak + 0.01 * rng.normal()
            network = NetworkResult(
                name, method, "target", seed, density, density, 100, 10, 1.0, noisy, family=family, kind=kind
            )
            estimate = Estimate(told, told - 0.05, told + 0.05)
            found.append(AttackResult(network, "loss", "", "", 100, 100, {metric: estimate}))
    return found


def test_a_line_has_each_recipe_s_mean_with_its_interval_over_seeds_by_rising_accuracy() -> None:
    given = results(4)
    found = {line.family: line for line in lines(given, "balanced_accuracy", halves=False)}
    assert [*found] == ["dense", "short", "wide", "imp"]  # sparse ones last, none observed in mid-schedule
    assert [recipe.network for recipe in found["imp"].recipes] == ["imp-02", "imp-01"]
    for line in found.values():
        for recipe in line.recipes:
            of = [r for r in given if r.network.network == recipe.network]
            leaks = mean_over_seeds([r.metrics["balanced_accuracy"].value for r in of])  # type: ignore[union-attr]
            assert (recipe.leak.mean, recipe.leak.low, recipe.leak.high) == pytest.approx(leaks)
            assert recipe.accuracy.mean == pytest.approx(np.mean([r.network.test_accuracy for r in of]))
    assert lines(given, "auc", halves=False) == []


def test_under_random_halves_two_seeds_count_once() -> None:
    recipe = lines(results(4), "balanced_accuracy", halves=True)[0].recipes[0]
    assert recipe.leak.low is None  # two cuts allow no interval
    assert recipe.leak.n == 4


def test_the_control_frontier_holds_the_controls_that_no_other_control_beats() -> None:
    drawn = lines(results(4), "balanced_accuracy", halves=False)
    named = {recipe.network: recipe for line in drawn if line.kind != "sparse" for recipe in line.recipes}
    wanted = {
        name
        for name, own in named.items()
        if not any(
            other.accuracy.mean >= own.accuracy.mean and other.leak.mean < own.leak.mean for other in named.values()
        )
    }
    front = control_frontier(drawn)
    assert {recipe.network for recipe in front} == wanted == {"dense", "short-04", "wide-1", "short-08"}
    assert front == sorted(front, key=lambda recipe: recipe.accuracy.mean)


@pytest.mark.parametrize(("seeds", "says"), [(4, "overlap"), (2, "cannot be told apart")])
def test_beside_a_sparse_choice_stands_the_best_other_network_within_the_loss(seeds: int, says: str) -> None:
    found = tradeoff(results(seeds), attack="loss", resamples=100)
    choice = afford(found, 6, {"imp-02": Price(120, 1234.5), "short-04": Price(4)})
    assert choice is not None
    assert choice.beside is not None
    assert (choice.point.network, choice.beside.network) == ("imp-02", "short-04")
    assert "The best dense network or control within that loss, short-04, has defence" in choice.sentence
    assert says in choice.sentence
    assert choice.sentence.endswith(
        "imp-02 takes 120 epochs of training in all (1,234 s), short-04 4 epochs of training in all."
    )
    only_dense = afford(found, 2)  # no control loses as little: the dense network itself stands beside
    assert only_dense is not None
    assert only_dense.beside is not None
    assert (only_dense.point.network, only_dense.beside.network) == ("imp-01", "dense")
    assert "epochs" not in only_dense.sentence


def test_beside_a_control_stands_the_best_sparse_network() -> None:
    given = [r for r in results(4) if r.network.network != "imp-02"]
    choice = afford(tradeoff(given, attack="loss", resamples=100), 6)
    assert choice is not None
    assert choice.beside is not None
    assert (choice.point.network, choice.beside.network) == ("short-04", "imp-01")
    assert "The best sparse network within that loss, imp-01, has defence" in choice.sentence
    alone = afford(tradeoff([r for r in given if r.network.kind != "sparse"], attack="loss", resamples=100), 6)
    assert alone is not None
    assert alone.beside is None
    assert "No sparse network loses as little." in alone.sentence


def test_a_network_whose_interval_lies_apart_is_not_called_as_good() -> None:
    found = tradeoff(results(4), attack="loss", resamples=100)
    apart = tuple(
        dataclasses.replace(p, defence=p.defence._replace(low=p.defence.mean - 1e-6, high=p.defence.mean + 1e-6))
        for p in found.points
    )
    choice = afford(dataclasses.replace(found, points=apart), 6)
    assert choice is not None
    assert "has defence" in choice.sentence
    assert "may be as good" not in choice.sentence


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
@pytest.mark.parametrize("wanted", [0.5, 0.75, 0.765, 0.785, 0.795, 0.9])
def test_the_pick_is_the_recipe_of_least_leak_that_is_accurate_enough(metric: str, wanted: float) -> None:
    given = results(4, metric)
    of = lines(given, metric, halves=False)
    means: dict[str, tuple[float, float]] = {}
    for name in set(RECIPES) - {"early-010"}:
        mine = [r for r in given if r.network.network == name]
        accuracy = np.mean([r.network.test_accuracy for r in mine])
        means[name] = float(accuracy), float(np.mean([r.metrics[metric].value for r in mine]))  # type: ignore[union-attr]
    able = {name: leak for name, (accuracy, leak) in means.items() if accuracy >= wanted}
    found = pick(of, wanted, metric="the leak", prices={"imp-02": Price(30, 4.25)})
    if not able:
        assert found is None
        return
    assert found is not None
    assert found.recipe.network == min(able, key=able.__getitem__)
    other = {name: leak for name, leak in able.items() if (RECIPES[name][0] == "sparse") is not found.sparse}
    assert (found.other.network if found.other else None) == min(other, key=other.__getitem__, default=None)
    assert f"the leak {found.recipe.leak.mean:.3f} [" in found.sentence
    assert ("30 epochs of training in all (4.2 s)" in found.sentence) == ("imp-02" in found.sentence)


def test_a_pick_says_whether_the_other_side_may_be_as_good() -> None:
    of = lines(results(4), "balanced_accuracy", halves=False)
    close = pick(of, 0.755, metric="leak", prices={})  # imp-02 .66 beside short-04 .70, with a noise of .01
    far = pick(of, 0.785, metric="leak", prices={})  # imp-01 .80 beside dense .90
    few = pick(lines(results(2), "balanced_accuracy", halves=False), 0.755, metric="leak", prices={})
    assert close is not None
    assert far is not None
    assert few is not None
    for one, other in ((close, close.other), (far, far.other)):
        assert other is not None
        mine, theirs = one.recipe.leak, other.leak
        assert None not in (mine.low, mine.high, theirs.low, theirs.high)
        assert one.apart is (mine.high < theirs.low)  # type: ignore[operator]
        assert ("may be as good" in one.sentence) is not one.apart
    assert far.apart
    assert few.apart is None
    assert "cannot be told apart" in few.sentence


def test_a_mean_that_rounding_leaves_below_the_wanted_accuracy_reaches_it() -> None:
    accuracies = (0.7566666666666667, 0.76, 0.7633333333333333)
    given = [
        dataclasses.replace(r, network=dataclasses.replace(r.network, test_accuracy=accuracies[r.network.seed]))
        for r in results(3)
        if r.network.network == "dense"
    ]
    of = lines(given, "balanced_accuracy", halves=False)
    assert of[0].recipes[0].accuracy.mean < 0.76  # so that the test tests something
    assert pick(of, 0.76, metric="leak", prices={}) is not None
    assert pick(of, 0.7601, metric="leak", prices={}) is None


@pytest.mark.parametrize("wanted", [-0.1, 1.1, 60, math.nan, "0.5", None, True])
def test_a_wanted_accuracy_that_is_no_share_is_refused(wanted: Any) -> None:
    with pytest.raises(UsageError, match=r"such as 0\.8"):
        pick(lines(results(3), "balanced_accuracy", halves=False), wanted, metric="leak", prices={})


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.123, "0.12 s"), (9.4, "9.4 s"), (99.7, "100 s"), (1234.5, "1,234 s")]
)
def test_seconds_are_told_as_people_write_them(seconds: float, words: str) -> None:
    assert Price(3, seconds).time == words
