"""Family against family at equal accuracy: which recipes each has, and the difference in any metric between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from lacewing.metrics import FEWEST_SEEDS, Bools, Floats, detectable
from lacewing.results import STOPPED, AttackResult, Kind, NetworkResult
from lacewing.tradeoff import _equal
from lacewing.tradeoff._types import Difference, Regressor
from lacewing.tradeoff._units import Units

METRICS = ("balanced_accuracy", "auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001")
_FIELD: Mapping[Regressor, str] = {"test accuracy": "test_accuracy", "train accuracy": "train_accuracy"}


@dataclass(frozen=True)
class Family:
    """The recipes of one family: by network, then by seed, the attack's results."""

    name: str
    kind: Kind
    stopped: bool  # whether its networks are snapshots of a schedule
    recipes: Mapping[str, Mapping[int, AttackResult]]


def family_of(network: NetworkResult) -> str:
    """The family that a result names, or the network's own name."""
    return network.family or network.network


def kind_of(network: NetworkResult) -> Kind:
    """The kind that a result names, or what its method tells."""
    if network.kind is not None:
        return network.kind
    if network.sparse:
        return "sparse"
    return "dense" if network.method != STOPPED and network.network == "dense" else "control"


def families(results: Iterable[AttackResult]) -> dict[str, Family]:
    """The families of one attack's results on targets; a level 0 trained apart belongs to none."""
    found: dict[str, dict[str, dict[int, AttackResult]]] = {}
    sort: dict[str, tuple[Kind, bool]] = {}
    for r in results:
        name = family_of(r.network)
        kind: Kind = "sparse" if r.network.sparse else "control"
        kind, stopped = sort.setdefault(name, (kind, r.network.method == STOPPED))
        if (r.network.sparse, r.network.method == STOPPED) != (kind == "sparse", stopped):
            continue
        found.setdefault(name, {}).setdefault(r.network.network, {})[r.network.seed] = r
    return {name: Family(name, *sort[name], recipes) for name, recipes in found.items()}


def differences(
    there: Mapping[str, Family], networks: Iterable[NetworkResult], units: Units
) -> tuple[tuple[Difference, ...], list[str]]:
    """Every sparse family beside every control and every other sparse family, and the families that are left out.

    In each metric, at equal test accuracy and at equal train accuracy. Families of one recipe are left out.
    """
    able = [family for family in there.values() if len(family.recipes) > 1]
    sparse = sorted((f for f in able if f.kind == "sparse"), key=lambda f: _methods(f) != {"imp"})
    pairs = list(product(sparse, (f for f in able if f.kind != "sparse")))
    pairs += [(second, first) for i, first in enumerate(sparse) for second in sparse[i + 1 :]]
    shadows = list(networks)
    found = [
        difference(first, second, metric, at, shadows, units)
        for first, second in pairs
        for metric in METRICS
        for at in _FIELD
        if _measured(first, second, metric)
    ]
    alone = [name for name, family in there.items() if len(family.recipes) == 1]
    return tuple(found), alone


def difference(
    first: Family, second: Family, metric: str, at: Regressor, networks: Sequence[NetworkResult], units: Units
) -> Difference:
    """The difference first - second in one metric at equal accuracy, see `lacewing.tradeoff._equal`.

    Recipes that lack a seed or the metric are left out. Which recipes are kept is decided on the accuracy of the shadow
    networks, where ``networks`` holds one of each recipe and seed, else on that of the targets.
    """
    results = {**first.recipes, **second.recipes}
    seeds = [s for s in (seed for group in units.groups for seed in group) if any(s in of for of in results.values())]
    units = units.within(seeds)
    whole = [n for n, of in results.items() if all(s in of and of[s].metrics.get(metric) is not None for s in seeds)]
    first_J = np.array([name in first.recipes for name in whole], bool)

    def table(of: str) -> Floats:
        columns = [units.average({s: float(getattr(results[n][s].network, of)) for s in seeds}) for n in whole]
        return np.stack(columns, axis=1) if columns else np.zeros((len(units), 0))

    accuracy_SJ = table(_FIELD[at])
    leaks = [units.average({s: _value(results[n][s], metric) for s in seeds}) for n in whole]
    decided = _shadow_accuracy(whole, seeds, networks, _FIELD[at]) if units.unit == "seed" else None
    kept = _equal.common(accuracy_SJ.mean(axis=0) if decided is None else decided, first_J)
    reason, found = kept.reason, None
    if reason is None:
        answer = _equal.difference(
            accuracy_SJ[:, kept.kept_J], np.stack(leaks, axis=1)[:, kept.kept_J], first_J[kept.kept_J]
        )
        reason, found = (answer, None) if isinstance(answer, str) else (None, answer)
    value = found.estimate.value if found is not None else None
    descriptive = first.stopped or second.stopped or at != "test accuracy"
    if found is not None and len(units) < FEWEST_SEEDS:
        reason, found = f"{len(units)} of at least {FEWEST_SEEDS} {units.unit}s", None
    if found is not None and descriptive:
        reason, found = "described, not tested", None

    def names(mask: Bools) -> tuple[str, ...]:
        return tuple(name for name, k, m in zip(whole, kept.kept_J, mask, strict=True) if k and m)

    return Difference(
        family=first.name,
        against=second.name,
        metric=metric,
        at=at,
        recipes=names(first_J),
        against_recipes=names(~first_J),
        seeds=len(units),
        unit=units.unit,
        value=value,
        estimate=found.estimate if found else None,
        p=found.p if found else None,
        p_less=found.p_less if found else None,
        p_more=found.p_more if found else None,
        detectable=detectable(found.sd, len(units)) if found else None,
        descriptive=descriptive,
        reason=reason,
    )


def _methods(family: Family) -> set[str]:
    return {r.network.method for of_seed in family.recipes.values() for r in of_seed.values()}


def _measured(first: Family, second: Family, metric: str) -> bool:
    """Whether both families have the metric at all: an attack that only ranks has no balanced accuracy."""
    return all(
        any(r.metrics.get(metric) is not None for of in family.recipes.values() for r in of.values())
        for family in (first, second)
    )


def _value(result: AttackResult, metric: str) -> float:
    estimate = result.metrics[metric]
    assert estimate is not None
    return estimate.value


def _shadow_accuracy(
    names: Sequence[str], seeds: Sequence[int], networks: Iterable[NetworkResult], field: str
) -> Floats | None:
    """Mean accuracy over seeds of each recipe's shadow; None where a shadow is missing."""
    of = {(n.network, n.seed): float(getattr(n, field)) for n in networks if n.role == "shadow"}
    wanted = [[of.get((name, seed), math.nan) for seed in seeds] for name in names]
    means = np.array(wanted, np.float64).reshape(len(names), len(seeds)).mean(axis=1)
    return means if len(means) and np.isfinite(means).all() else None
