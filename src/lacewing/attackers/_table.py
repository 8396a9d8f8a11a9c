"""Assemble the table: the strongest attack of each kind on each recipe, with its interval and its baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from statistics import fmean

from lacewing.attackers._types import KINDS, Attackers, Cell, KindOfAttack, Recipe, Row, Tried
from lacewing.attacks import Attack
from lacewing.attribute import AttributeFindings, by_seed
from lacewing.metrics import Estimate, Units, clopper_pearson, shared
from lacewing.property import ATTACKS as PROPERTY_ATTACKS
from lacewing.property import PropertyFindings
from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff import attacks_over_inits, ordered

_ALPHA = 0.05
_WAITS = "it waits for networks"
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
    of the kind (Bonferroni); where seeds do not differ it is the stored one over records, which is not. An attack
    counts once it has every seed. Differences are to the dense network, between the strongest on either of the attacks
    that both have, by plain t intervals; attacks that need a mask count for the sparse one, since no dense network can
    be attacked so, and adaptive attackers run membership attacks too. Of several pairs of shares of [property] the
    first is shown.

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
    networks = [each for each in networks if each.role == "target" and not each.stopped]
    recipes, seeds = _recipes(networks), {each.seed for each in networks}
    every = {**_of_attacks(attacks, registry), **_of_property(properties), **_of_columns(columns)}
    unfinished = _unfinished(every, seeds, registry, waiting)
    tried = {
        place: kept
        for place, of in every.items()
        if (kept := [one for one in of if one.attack not in unfinished.get(place, ())])
    }
    reasons = _reasons(recipes, registry, refused or {}, unfinished, properties, columns)
    rows: list[Row] = []
    for recipe in recipes:
        cells = {}
        for kind in KINDS:
            of, waits = tried.get((recipe.network, kind), ()), tuple(sorted(unfinished.get((recipe.network, kind), ())))
            cell = _cell(kind, of, halves) if of else Cell(kind, why=reasons[recipe.network, kind])
            cells[kind] = replace(cell, waiting=waits)
        rows.append(Row(recipe, cells))
    first = next((row for row in rows if row.recipe.baseline), None)
    if first is not None:
        rows = [row if row is first else _beside(row, first, tried, halves) for row in rows]
    late = {kind for _, kind in unfinished}
    late |= {"property"} if properties is not None and properties.missing else set()
    late |= {"attribute"} if columns is not None and columns.missing else set()
    return Attackers(
        tuple(rows),
        Units.of(seeds, halves=halves).enough,
        _about(properties, columns),
        tuple(kind for kind in KINDS if kind in late),
    )


def _unfinished(
    tried: _TRIED, seeds: AbstractSet[int], registry: Mapping[str, Attack], waiting: Iterable[tuple[str, str]]
) -> dict[tuple[str, KindOfAttack], set[str]]:
    """By network and kind the attacks that wait or lack a seed: their means are not of the same networks as others'."""
    found: dict[tuple[str, KindOfAttack], set[str]] = {}
    for network, name in waiting:
        kind = kind_of(registry[name]) if name in registry else None
        if kind is not None:
            found.setdefault((network, kind), set()).add(name)
    for place, of in tried.items():
        if late := {one.attack for one in of if not seeds <= {*one.by_seed}}:
            found.setdefault(place, set()).update(late)
    return found


def _recipes(networks: Iterable[NetworkResult]) -> list[Recipe]:
    names: dict[str, list[NetworkResult]] = {}
    for network in networks:
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
    return {
        (network, kind): [Tried(name, found, masked=kind == "adaptive") for name, found in of.items()]
        for (network, kind), of in seen.items()
    }


def _of_property(found: PropertyFindings | None) -> _TRIED:
    if found is None or not found.rows:
        return {}
    pair = found.rows[0].first, found.rows[0].second
    seen: dict[tuple[str, KindOfAttack], list[Tried]] = {}
    for row in (row for row in found.rows if (row.first, row.second) == pair):
        if PROPERTY_ATTACKS[row.attack].poisons:  # it is about other networks, which the attacker poisoned
            continue
        of = [s for s in found.seeds if (s.network, s.attack, s.first, s.second) == (row.network, row.attack, *pair)]
        shares = {s.seed: Estimate(s.accuracy, s.binomial_low, s.binomial_high) for s in of}
        right = sum(s.accuracy * s.attacked for s in of)
        masked = PROPERTY_ATTACKS[row.attack].needs.startswith("mask")
        one = Tried(row.attack, shares, (min(right, row.attacked), row.attacked), masked=masked)
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
        corrected=len(tried) == 1 or not alike or best.decisions is not None,
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
    over = units.interval({seed: e.value for seed, e in one.by_seed.items()}, confidence)
    low, high = (units.over_records(one.by_seed) if over is None else over)[1:]
    if one.decisions is not None:  # few networks may agree by chance
        exact = clopper_pearson(*one.decisions, confidence)
        low, high = exact if over is None else (min(low, exact[0]), max(high, exact[1]))
    return (low, high), over is None


def _beside(row: Row, first: Row, tried: _TRIED, halves: bool) -> Row:
    """The row with its differences to the dense network, seed by seed."""
    cells = {}
    for kind, cell in row.cells.items():
        pair = _compared(kind, row.recipe.network, first.recipe.network, tried, halves)
        if pair is None:
            cells[kind] = cell
            continue
        mine, its = pair
        seeds = shared([mine.by_seed, its.by_seed])
        units = Units.of(seeds, halves=halves)
        found = units.interval({seed: mine.by_seed[seed].value - its.by_seed[seed].value for seed in seeds})
        cells[kind] = replace(cell, difference=found, compared=(mine.attack, its.attack))
    return Row(row.recipe, cells)


def _compared(kind: KindOfAttack, network: str, dense: str, tried: _TRIED, halves: bool) -> tuple[Tried, Tried] | None:
    """The strongest attack on the network and on the dense one of those that both have; None: there are none.

    An attack on the dense network alone would make the other look safer, so that it does not count.
    """
    alike: KindOfAttack = "membership" if kind == "adaptive" else kind  # who holds the mask can run these as well
    mine, its = tried.get((network, kind), ()), tried.get((dense, alike), ())
    more = tried.get((network, alike), ()) if alike != kind else ()
    both = {one.attack for one in (*mine, *more)} & {one.attack for one in its}
    if not mine or not both:
        return None
    able = [one for one in (*more, *mine) if one.attack in both or one.masked]
    known = [one for one in its if one.attack in both]
    return max(able, key=lambda one: _mean(one, halves)), max(known, key=lambda one: _mean(one, halves))


def _reasons(
    recipes: Sequence[Recipe],
    registry: Mapping[str, Attack],
    refused: Mapping[tuple[str, str], str],
    unfinished: Iterable[tuple[str, KindOfAttack]],
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
    for place in unfinished:
        if place in found:
            found[place] = _WAITS
    for recipe in recipes:
        if properties is not None:
            found[recipe.network, "property"] = _WAITS
        if columns is not None:
            found[recipe.network, "attribute"] = _WAITS
    return found


def _about(properties: PropertyFindings | None, columns: AttributeFindings | None) -> dict[KindOfAttack, str]:
    about: dict[KindOfAttack, str] = {}
    if properties is not None and properties.rows:
        first = properties.rows[0]
        about["property"] = f"is the share of “{properties.of}” {first.first:g} or {first.second:g}?"
    if columns is not None:
        about["attribute"] = f"column{'s' * (len(columns.columns) != 1)} {', '.join(columns.columns)}"
    return about
