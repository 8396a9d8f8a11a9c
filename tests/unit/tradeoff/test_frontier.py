"""Families as lines of accuracy against leak, the ordinary frontier, and the control beside a chosen sparse network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lacewing.metrics import mean_over_seeds
from lacewing.results import AttackResult, Estimate, Kind, NetworkResult
from lacewing.tradeoff import afford, lines, ordinary_frontier, tradeoff

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


def test_the_ordinary_frontier_holds_the_controls_that_no_other_control_beats() -> None:
    drawn = lines(results(4), "balanced_accuracy", halves=False)
    named = {recipe.network: recipe for line in drawn if line.kind != "sparse" for recipe in line.recipes}
    wanted = {
        name
        for name, own in named.items()
        if not any(
            other.accuracy.mean >= own.accuracy.mean and other.leak.mean < own.leak.mean for other in named.values()
        )
    }
    front = ordinary_frontier(drawn)
    assert {recipe.network for recipe in front} == wanted == {"dense", "short-04", "wide-1", "short-08"}
    assert front == sorted(front, key=lambda recipe: recipe.accuracy.mean)


@pytest.mark.parametrize(("seeds", "says"), [(4, "overlap"), (2, "cannot be told apart")])
def test_beside_a_sparse_choice_stands_the_best_control_within_the_loss(seeds: int, says: str) -> None:
    found = tradeoff(results(seeds), attack="loss", resamples=100)
    choice = afford(found, 6, {"imp-02": 120, "short-04": 4})
    assert choice is not None
    assert choice.control is not None
    assert (choice.point.network, choice.control.network) == ("imp-02", "short-04")
    assert "The best control within that loss, short-04, has defence" in choice.sentence
    assert says in choice.sentence
    assert choice.sentence.endswith("It takes 120 epochs of training in all, the control 4.")
    alone = afford(found, 2)
    assert alone is not None
    assert (alone.point.network, alone.control) == ("imp-01", None)  # no control loses as little
    assert "epochs" not in alone.sentence


def test_a_control_whose_interval_lies_apart_is_not_called_as_good() -> None:
    found = tradeoff(results(4), attack="loss", resamples=100)
    apart = tuple(
        dataclasses.replace(p, defence=p.defence._replace(low=p.defence.mean - 1e-6, high=p.defence.mean + 1e-6))
        for p in found.points
    )
    choice = afford(dataclasses.replace(found, points=apart), 6)
    assert choice is not None
    assert "has defence" in choice.sentence
    assert "may be as good" not in choice.sentence
