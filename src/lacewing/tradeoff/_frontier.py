"""Each family's recipes by accuracy and leak, and the controls that no other control beats: to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lacewing.metrics import Units
from lacewing.results import AttackResult, Kind
from lacewing.tradeoff._families import Family, families
from lacewing.tradeoff._inits import attacks_over_inits
from lacewing.tradeoff._points import spread_over
from lacewing.tradeoff._types import Spread


@dataclass(frozen=True)
class Recipe:
    """One recipe of a family over its seeds."""

    network: str
    method: str
    accuracy: Spread  # on test records
    leak: Spread  # in the metric that was asked for


@dataclass(frozen=True)
class Line:
    """A family of complete recipes, by rising accuracy."""

    family: str
    kind: Kind
    recipes: tuple[Recipe, ...]


def lines(results: Iterable[AttackResult], metric: str, *, halves: bool) -> list[Line]:
    """The families of one attack's results on targets, sparse ones last; without networks observed in mid-schedule.

    Initialisations of one split are averaged first.

    Args:
        results: of one attack; a recipe of which a result lacks the metric is left out.
        metric: as results name it, e.g. "auc" or "tpr_at_fpr_0.01".
        halves: whether seeds 2j and 2j + 1 share one cut of the records.
    """
    there = families(attacks_over_inits(results))
    found = [_line(family, metric, halves) for family in there.values() if not family.stopped]
    return sorted((line for line in found if line.recipes), key=lambda line: (line.kind == "sparse", line.family))


def _line(family: Family, metric: str, halves: bool) -> Line:
    recipes = []
    for name, of_seed in family.recipes.items():
        leaks = {seed: e.value for seed, r in of_seed.items() if (e := r.metrics.get(metric)) is not None}
        if len(leaks) == len(of_seed):
            units = Units.of(leaks, halves=halves)
            accuracy = spread_over({seed: r.network.test_accuracy for seed, r in of_seed.items()}, units)
            first = next(iter(of_seed.values())).network
            recipes.append(Recipe(name, first.method, accuracy, spread_over(leaks, units)))
    return Line(family.name, family.kind, tuple(sorted(recipes, key=lambda r: (r.accuracy.mean, r.network))))


def control_frontier(of: Sequence[Line]) -> list[Recipe]:
    """The recipes of controls, the dense network among them, that no other one beats in accuracy and leak, by accuracy.

    The least of many noisy points is too low on average, so that nothing is tested against this frontier.
    """
    controls = [recipe for line in of if line.kind != "sparse" for recipe in line.recipes]
    front: list[Recipe] = []
    for recipe in sorted(controls, key=lambda r: (-r.accuracy.mean, r.leak.mean, r.network)):
        if not front or recipe.leak.mean < front[-1].leak.mean:
            front.append(recipe)
    return front[::-1]
