"""Assemble the table: the strongest attack of each kind on each recipe, with its interval and its baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from lacewing.attackers._types import KINDS, Attackers, Cell, KindOfAttack, Recipe, Row, Tried
from lacewing.attacks import Attack
from lacewing.attribute import AttributeFindings, by_seed
from lacewing.metrics import Estimate, clopper_pearson, mean_over_seeds
from lacewing.property import ATTACKS as PROPERTY_ATTACKS
from lacewing.property import PropertyFindings
from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff import Units, attacks_over_inits, ordered

_ALPHA = 0.05
_TRIED = Mapping[tuple[str, KindOfAttack], Sequence[Tried]]
_NOT_DECLARED: Mapping[KindOfAttack, str] = {
    "membership": "the study names no such attack",
    "adaptive": "the study names no such attack",
    "property": "the study has no [property]",
    "reconstruction": "the study names no attack on the first layer",
    "attribute": "the study has no [attribute]",
}


def kind_of(attack: Attack) -> KindOfAttack | None:
    """The kind of a registered attack; None: it shows what an attacker who knows less or the wrong thing loses.

    Adaptive is who holds what only a sparse network has: its mask, its dense version, or the levels between.
    """
    if "first-layer" in attack.needs:
        return "reconstruction"
    if attack.needs & {"dense", "levels", "imposed-shadow"} or "masked" in attack.about:
        return "adaptive"
    if attack.needs & {"dense-shadow", "mismatched-shadow"}:
        return None
    return "membership"


def gathered(
    networks: Iterable[NetworkResult],
    attacks: Sequence[AttackResult],
    properties: PropertyFindings | None = None,
    columns: AttributeFindings | None = None,
    *,
    registry: Mapping[str, Attack],
    halves: bool = False,
    refused: Mapping[tuple[str, str], str] | None = None,
    waiting: Iterable[tuple[str, str]] = (),
) -> Attackers:
    """The table of every target recipe but early stops, the dense one first, then sparse ones, then controls.

    Of each kind the attack with the highest mean over seeds stands in the cell. That choice favours the attacker, so
    that its interval (Student's t over seeds, or over cuts under random halves) is corrected for the number of attacks
    of the kind (Bonferroni). Differences are to the strongest attack on the dense network, by plain t intervals; those
    of adaptive attackers to membership there, of the stronger of both kinds. Of several pairs of shares of
    [property] the first is shown.

    Args:
        networks: of a study, every role, seed and initialisation.
        attacks: their results.
        properties: what networks tell of [property].
        columns: and of [attribute].
        registry: the attacks that the study may name, by name; results of others are left out.
        halves: whether seeds 2j and 2j + 1 share one cut of the records.
        refused: by (network, attack), why it does not run.
        waiting: (network, attack) that are planned and not finished.
    """
    recipes = _recipes(networks)
    tried = {**_of_attacks(attacks, registry), **_of_property(properties), **_of_columns(columns)}
    reasons = _reasons(recipes, registry, refused or {}, waiting, properties, columns)
    rows: list[Row] = []
    for recipe in recipes:
        cells = {}
        for kind in KINDS:
            of = tried.get((recipe.network, kind), ())
            cells[kind] = _cell(kind, of, halves) if of else Cell(kind, why=reasons[recipe.network, kind])
        rows.append(Row(recipe, cells))
    seeds = {seed for of in tried.values() for one in of for seed in one.by_seed}
    first = next((row for row in rows if row.recipe.baseline), None)
    if first is not None:
        rows = [row if row is first else _beside(row, first, tried, halves) for row in rows]
    return Attackers(tuple(rows), Units.of(seeds, halves=halves).enough, _about(properties, columns))


def _recipes(networks: Iterable[NetworkResult]) -> list[Recipe]:
    names: dict[str, list[NetworkResult]] = {}
    for network in networks:
        if network.role == "target" and not network.stopped:
            names.setdefault(network.network, []).append(network)
    found = [
        Recipe(name, of[0].method, of[0].kind, fmean(n.density for n in of), fmean(n.test_accuracy for n in of))
        for name, of in names.items()
    ]
    methods = ordered(recipe.method for recipe in found)
    place = {"dense": 0, "control": 2}
    return sorted(found, key=lambda r: (place.get(str(r.kind), 1), methods.index(r.method), -r.density, r.network))


def _of_attacks(attacks: Sequence[AttackResult], registry: Mapping[str, Attack]) -> _TRIED:
    seen: dict[tuple[str, KindOfAttack], dict[str, dict[int, Estimate]]] = {}
    for result in attacks_over_inits(attacks):
        area, known = result.metrics.get("auc"), registry.get(result.attack)
        kind = None if known is None else kind_of(known)
        if area is None or kind is None or result.network.role != "target" or result.network.stopped:
            continue
        seen.setdefault((result.network.network, kind), {}).setdefault(result.attack, {})[result.network.seed] = area
    return {key: [Tried(name, by_seed) for name, by_seed in of.items()] for key, of in seen.items()}


def _of_property(found: PropertyFindings | None) -> _TRIED:
    if found is None or not found.rows:
        return {}
    pair = found.rows[0].first, found.rows[0].second
    seen: dict[tuple[str, KindOfAttack], list[Tried]] = {}
    for row in (row for row in found.rows if (row.first, row.second) == pair):
        if PROPERTY_ATTACKS[row.attack].poisons:  # it is about other networks, which the attacker poisoned
            continue
        of = [s for s in found.seeds if (s.network, s.attack, s.first, s.second) == (row.network, row.attack, *pair)]
        by_seed = {s.seed: Estimate(s.accuracy, s.binomial_low, s.binomial_high) for s in of}
        right = sum(s.accuracy * s.attacked for s in of)
        one = Tried(row.attack, by_seed, (min(right, row.attacked), row.attacked))
        seen.setdefault((row.network, "property"), []).append(one)
    return {**seen}


def _of_columns(found: AttributeFindings | None) -> _TRIED:
    if found is None:
        return {}
    seen: dict[tuple[str, KindOfAttack], list[Tried]] = {}
    for row in found.rows:
        of = by_seed(each for each in found.seeds if (each.network, each.attack) == (row.network, row.attack))
        about = (
            f"guesses {100 * row.members:.1f} % of the members' values, imputation {100 * row.imputed_members:.1f} %, "
            f"and {100 * row.nonmembers:.1f} % of the non-members', imputation {100 * row.imputed_nonmembers:.1f} %"
        )
        one = Tried(row.attack, of, below_prior=row.below_imputation, about=about)
        seen.setdefault((row.network, "attribute"), []).append(one)
    return {**seen}


def _cell(kind: KindOfAttack, tried: Sequence[Tried], halves: bool) -> Cell:
    means = [_mean(one, halves) for one in tried]
    order = sorted(range(len(tried)), key=lambda place: -means[place])
    best = tried[order[0]]
    units = Units.of(best.by_seed, halves=halves)
    found, alike = _interval(best, units, 1 - _ALPHA / len(tried))
    least, most = (-2.0, 2.0) if kind == "attribute" else (0.0, 1.0)
    return Cell(
        kind,
        attack=best.attack,
        value=means[order[0]],
        low=None if found is None else max(found[0], least),
        high=None if found is None else min(found[1], most),
        tried=len(tried),
        units=units.text,
        alike=alike,
        below_prior=best.below_prior,
        about=best.about,
        others=tuple((tried[place].attack, means[place]) for place in order),
    )


def _mean(one: Tried, halves: bool) -> float:
    return Units.of(one.by_seed, halves=halves).mean({seed: e.value for seed, e in one.by_seed.items()})


def _interval(one: Tried, units: Units, confidence: float) -> tuple[tuple[float, float] | None, bool]:
    """Over the units; None: fewer than three. And whether they do not differ, so that it is over records."""
    if not units.enough:
        return None, False
    values = {seed: e.value for seed, e in one.by_seed.items()}
    over = mean_over_seeds(units.average(values), confidence)
    alike = over is None or units.interval(values) is None
    exact = None if one.decisions is None else clopper_pearson(*one.decisions, confidence)
    if exact is not None and alike:
        low, high = exact
    elif over is None or alike:
        low, high = (units.mean({seed: e[end] for seed, e in one.by_seed.items()}) for end in (1, 2))
    else:
        low, high = over.low, over.high
    if exact is not None:  # few networks may agree by chance
        low, high = min(low, exact[0]), max(high, exact[1])
    return (low, high), alike


def _beside(row: Row, first: Row, tried: _TRIED, halves: bool) -> Row:
    """The row with its differences to the dense network, seed by seed.

    Who holds the mask can run membership attacks as well: the difference of adaptive attackers is that of the stronger.
    """

    def by_seed(cell: Cell, recipe: Recipe) -> Mapping[int, Estimate]:
        return next(one.by_seed for one in tried[recipe.network, cell.kind] if one.attack == cell.attack)

    cells = {}
    for kind, cell in row.cells.items():
        adaptive = kind == "adaptive" and cell.value is not None
        strongest = max(cell, row.cells["membership"], key=_strength) if adaptive else cell
        other = first.cells["membership" if kind == "adaptive" else kind]
        found = None
        if strongest.value is not None and other.value is not None:
            mine, its = by_seed(strongest, row.recipe), by_seed(other, first.recipe)
            if seeds := sorted({*mine} & {*its}):
                units = Units.of(seeds, halves=halves)
                found = units.interval({seed: mine[seed].value - its[seed].value for seed in seeds})
        cells[kind] = replace(cell, difference=found)
    return Row(row.recipe, cells)


def _strength(cell: Cell) -> float:
    return -math.inf if cell.value is None else cell.value


def _reasons(
    recipes: Sequence[Recipe],
    registry: Mapping[str, Attack],
    refused: Mapping[tuple[str, str], str],
    waiting: Iterable[tuple[str, str]],
    properties: PropertyFindings | None,
    columns: AttributeFindings | None,
) -> dict[tuple[str, KindOfAttack], str]:
    """Why a kind did not run on a recipe, where it did not."""
    found: dict[tuple[str, KindOfAttack], str] = {}
    for recipe in recipes:
        for kind in KINDS:
            found[recipe.network, kind] = _NOT_DECLARED[kind]
    for (network, name), why in refused.items():
        kind_ = kind_of(registry[name]) if name in registry else None
        if kind_ is not None and (network, kind_) in found:
            found[network, kind_] = why.rstrip(".")
    for network, name in waiting:
        kind_ = kind_of(registry[name]) if name in registry else None
        if kind_ is not None and (network, kind_) in found:
            found[network, kind_] = "it waits for networks"
    for recipe in recipes:
        if properties is not None:
            found[recipe.network, "property"] = "it waits for networks"
        if columns is not None:
            found[recipe.network, "attribute"] = "it waits for networks"
    return found


def _about(properties: PropertyFindings | None, columns: AttributeFindings | None) -> dict[KindOfAttack, str]:
    about: dict[KindOfAttack, str] = {}
    if properties is not None and properties.rows:
        first = properties.rows[0]
        about["property"] = f"is the share of “{properties.of}” {first.first:g} or {first.second:g}?"
    if columns is not None:
        about["attribute"] = f"column{'s' * (len(columns.columns) != 1)} {', '.join(columns.columns)}"
    return about
