"""Family against family at equal accuracy: which recipes each has, and the difference in any metric between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from lacewing.metrics import FEWEST_SEEDS, Bools, Floats, Units, detectable
from lacewing.results import AttackResult, Kind, NetworkResult
from lacewing.tradeoff import _equal
from lacewing.tradeoff._paper import IMP
from lacewing.tradeoff._types import Difference, Regressor

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
    return "dense" if not network.stopped and network.network == "dense" else "control"


def families(results: Iterable[AttackResult]) -> dict[str, Family]:
    """The families of one attack's results on targets.

    A family with sparse networks has these alone as its recipes, and one with early stops has these alone. The dense
    network that such an entry starts from has the family's name too, where no other entry trains it, and is left out.
    """
    found: dict[str, list[AttackResult]] = {}
    for r in results:
        found.setdefault(family_of(r.network), []).append(r)
    return {name: _family(name, of) for name, of in found.items()}


def _family(name: str, results: Sequence[AttackResult]) -> Family:
    sparse = any(r.network.sparse for r in results)
    stopped = not sparse and any(r.network.stopped for r in results)
    recipes: dict[str, dict[int, AttackResult]] = {}
    for r in results:
        if (r.network.sparse, r.network.stopped) == (sparse, stopped):
            recipes.setdefault(r.network.network, {})[r.network.seed] = r
    return Family(name, "sparse" if sparse else "control", stopped, recipes)


def differences(
    there: Mapping[str, Family], networks: Iterable[NetworkResult], units: Units, *, finished: bool = True
) -> tuple[tuple[Difference, ...], list[str]]:
    """Every sparse family beside every control and every other sparse family, and the families that are left out.

    In each metric, at equal test accuracy and at equal train accuracy. Families of one recipe are left out.
    """
    able = [family for family in there.values() if len(family.recipes) > 1]
    sparse = sorted((f for f in able if f.kind == "sparse"), key=lambda f: _methods(f) != {IMP})
    pairs = list(product(sparse, (f for f in able if f.kind != "sparse")))
    pairs += [(second, first) for i, first in enumerate(sparse) for second in sparse[i + 1 :]]
    shadows = list(networks)
    found = [
        difference(first, second, metric, at, shadows, units, finished=finished)
        for first, second in pairs
        for metric in METRICS
        for at in _FIELD
        if _measured(first, second, metric)
    ]
    alone = [name for name, family in there.items() if len(family.recipes) == 1]
    return tuple(found), alone


def difference(
    first: Family,
    second: Family,
    metric: str,
    at: Regressor,
    networks: Sequence[NetworkResult],
    units: Units,
    *,
    finished: bool = True,
) -> Difference:
    """The difference first - second in one metric at equal accuracy, see `lacewing.tradeoff._equal`.

    Recipes that lack a seed or the metric are left out. Which recipes are kept is decided on the accuracy of the shadow
    networks; where ``networks`` holds none, as under random halves, on that of the targets. With ``finished`` False, or
    fewer than three seeds, the value has no interval and no p.
    """
    results = {**first.recipes, **second.recipes}
    seeds = [s for group in units.groups for s in group if any(s in of for of in results.values())]
    units = units.within(seeds)
    fit = _fitted(first, second, metric, at, networks, units, seeds)
    found = fit.found
    made = Difference(
        family=first.name,
        against=second.name,
        metric=metric,
        at=at,
        recipes=tuple(name for name in fit.kept if name in first.recipes),
        against_recipes=tuple(name for name in fit.kept if name not in first.recipes),
        kept=fit.enough,
        seeds=len(units),
        unit=units.unit,
        value=found.estimate.value if found else None,
        estimate=found.estimate if found else None,
        p=found.p if found else None,
        p_less=found.p_less if found else None,
        p_more=found.p_more if found else None,
        detectable=detectable(found.sd, len(units)) if found else None,
        descriptive=first.stopped or second.stopped or at != "test accuracy",
        reason=fit.reason if found is None else _turned(found, first.name, second.name),
        direction=found.direction if found else None,
    )
    if found is None:
        return made
    if len(units) < FEWEST_SEEDS:
        return untested(made, f"{len(units)} of at least {FEWEST_SEEDS} {units.unit}s")
    if not finished:
        return untested(made, "not finished")
    return untested(made, "described, not tested") if made.descriptive else made


class _Fit(NamedTuple):
    """Which recipes of both families have a common accuracy, and the difference between the families there."""

    kept: Sequence[str]
    enough: bool  # whether they make a fit
    found: _equal.Equal | None
    reason: str | None  # why there is no difference


def _fitted(
    first: Family,
    second: Family,
    metric: str,
    at: Regressor,
    networks: Sequence[NetworkResult],
    units: Units,
    seeds: Sequence[int],
) -> _Fit:
    results = {**first.recipes, **second.recipes}
    whole = [n for n, of in results.items() if all(s in of and of[s].metrics.get(metric) is not None for s in seeds)]
    first_J = np.array([name in first.recipes for name in whole], bool)

    def table(of: Callable[[AttackResult], float]) -> Floats:
        columns = [units.average({s: of(results[n][s]) for s in seeds}) for n in whole]
        return np.stack(columns, axis=1) if columns else np.zeros((len(units), 0))

    accuracy_SJ = table(lambda r: float(getattr(r.network, _FIELD[at])))
    shadows_J = _shadow_accuracy(whole, seeds, networks, _FIELD[at]) if units.unit == "seed" else None
    deciding_J = accuracy_SJ.mean(axis=0) if shadows_J is None else shadows_J
    common = _equal.common(deciding_J, first_J)
    k = common.kept_J
    kept = [name for name, each in zip(whole, k, strict=True) if each]
    reason = _lacking(common, deciding_J, first_J, (first.name, second.name), at, shadows=shadows_J is not None)
    if not _measured(first, second, metric):
        reason = "the attack does not give this metric on both families"
    if reason is not None:
        return _Fit(kept, common.enough, None, reason)
    answer = _equal.difference(accuracy_SJ[:, k], table(lambda r: _value(r, metric))[:, k], first_J[k])
    return _Fit(kept, common.enough, *((None, answer) if isinstance(answer, str) else (answer, None)))


def untested(made: Difference, reason: str = "exploratory") -> Difference:
    """The value alone, without what a test gives; what has no value stays as it is."""
    if made.value is None:
        return made
    return replace(
        made, estimate=None, p=None, p_less=None, p_more=None, detectable=None, reason=reason, direction=None
    )


def _turned(found: _equal.Equal, first: str, second: str) -> str | None:
    """What else was tested where leak may be no function of accuracy, in words."""
    folded = f"the leak of '{first}' and '{second}' may be no function of their accuracy"
    return {
        "leak": None,
        "both": f"{folded}, so that their accuracy at equal leak was tested too",
        "neither": f"{folded}, nor is their accuracy one of their leak: nothing is established",
    }[found.direction]


def _lacking(
    kept: _equal.Kept, accuracy_J: Floats, first_J: Bools, names: tuple[str, str], at: str, *, shadows: bool
) -> str | None:
    """Why two families cannot be compared, in words; None: they can."""
    if not (first_J.any() and (~first_J).any()):
        return f"'{names[1] if first_J.any() else names[0]}' has no recipe with results in every seed"
    if np.isnan(accuracy_J).any():
        return "the shadow network of a recipe is missing, whose accuracy decides what is compared"
    if kept.enough:
        return None
    whose = f"{at} of {'shadow' if shadows else 'target'} networks"
    spans = ", ".join(f"{name} {_span(accuracy_J[of])}" for name, of in zip(names, (first_J, ~first_J), strict=True))
    if not kept.bracketed:
        return (
            f"no common accuracy ({whose}: {spans}): no recipe has one of the other family within "
            f"{_equal.CALIPER:g} below it and one within {_equal.CALIPER:g} above it"
        )
    counts = [int(kept.kept_J[of].sum()) for of in (first_J, ~first_J)]
    return (
        f"too few recipes of common accuracy ({whose}: {spans}): {counts[0]} of {names[0]} and {counts[1]} of "
        f"{names[1]} are within {_equal.CALIPER:g} of the other family, and it takes two of each and six in all"
    )


def _span(accuracy_J: Floats) -> str:
    low, high = (f"{end:.3f}".removeprefix("0") for end in (accuracy_J.min(), accuracy_J.max()))
    return low if low == high else f"{low} to {high}"


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
    """Mean accuracy over seeds of each recipe's shadow, nan where one is missing; None where there are none at all."""
    of = {(n.network, n.seed): float(getattr(n, field)) for n in networks if n.role == "shadow"}
    wanted = [[of.get((name, seed), math.nan) for seed in seeds] for name in names]
    means = np.array(wanted, np.float64).reshape(len(names), len(seeds)).mean(axis=1)
    return means if of else None
