"""Which quantity predicts the leak of networks that the prediction has not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lacewing.mechanism._held_out import (
    PERMUTATIONS,
    SEED,
    Errors,
    Integers,
    errors,
    held_out_r2,
    recipe_r2,
    shuffled_r2,
)
from lacewing.metrics import Bools, Floats

RECIPE = "recipe"  # the quantity that stands for knowing the recipe itself
_UPPER = 0.95  # of the permutations stay below the upper end that is told

# Quantities computed from what an attack itself ranks, by the attack's family.
_LOG_ODDS = frozenset({"gap", "spread", "ratio"})
_CONFIDENCE = frozenset(
    {"member_confidence", "other_confidence", "member_calibration_error", "other_calibration_error"}
)
_ANSWERS = frozenset({"train_accuracy", "test_accuracy", "accuracy_gap", "redrawn_fit"})
_PART: Mapping[str, frozenset[str]] = {
    "lira": _LOG_ODDS,
    "nig-t": _LOG_ODDS,
    "rmia": _LOG_ODDS,
    "base": _LOG_ODDS,
    "calibration": _LOG_ODDS,
    "threshold": _LOG_ODDS | _CONFIDENCE,
    "population": _LOG_ODDS | _CONFIDENCE,
    "quantile": _LOG_ODDS | _CONFIDENCE,
    "trajectory": _LOG_ODDS | _CONFIDENCE,
    "white-box": _LOG_ODDS | _CONFIDENCE,
    "discriminator": _LOG_ODDS | _CONFIDENCE | _ANSWERS,
    "adaptive": _LOG_ODDS | _CONFIDENCE | _ANSWERS,
    "span": frozenset(),  # it looks at weights
    "samia": _LOG_ODDS | _CONFIDENCE | _ANSWERS,
    "label-only": _ANSWERS,
}
_CORRECTNESS = "gap"  # the threshold attack that sees answers alone


@dataclass(frozen=True, slots=True)
class Predictor:
    """How much of the spread of a leak over networks one quantity predicts. Shares of 1; below 0: worse than the mean.

    None: the quantity or the leak does not vary, or there are too few families, seeds or networks.
    """

    attack: str
    metric: str
    quantity: str
    part_of_attack: bool | None  # whether it is computed from what the attack itself ranks; None: not known
    networks: int
    recipes: int
    families: int
    units: int  # seeds, or cuts of the records
    r2: float | None  # a quadratic, on networks of a family and a cut that it was not fitted to
    r2_line: float | None  # a straight line, likewise
    r2_same_recipes: float | None  # a quadratic, on networks of a cut alone that it was not fitted to

    @property
    def best(self) -> float | None:
        """The larger of both: a line cannot follow a bend, a quadratic fits few families badly between them."""
        known = [value for value in (self.r2, self.r2_line) if value is not None]
        return max(known, default=None)


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest R squared of several quantities, and what the largest is where they have nothing to do with the leak.

    Of each quantity the larger R squared of a line and a quadratic.
    """

    attack: str
    metric: str
    part_of_attack: bool  # of quantities that are computed from what the attack itself ranks, or of the others
    quantities: int
    quantity: str
    r2: float
    null_median: float  # of the largest, over leaks whose families have changed places
    null_upper: float  # which 5 % of them exceed
    permutations: int
    seed: int


def part_of_attack(quantity: str, attack: str, family: str) -> bool | None:
    """Whether ``quantity`` is computed from what an attack ranks, so that its prediction is circular."""
    if quantity in (RECIPE, "nonzero"):
        return False
    if attack == _CORRECTNESS and family == "threshold":
        return quantity in _ANSWERS
    part = _PART.get(family)
    return None if part is None else quantity in part


def predictors(
    quantities: Mapping[str, Sequence[float | None]],
    leaks: Mapping[tuple[str, str], Sequence[float | None]],
    recipe: Sequence[str],
    family: Sequence[str],
    unit: Sequence[int],
    attack_families: Mapping[str, str],
) -> tuple[list[Predictor], list[Largest]]:
    """The held-out R squared of every quantity alone, for every leak; and the largest beside that of chance.

    Args:
        quantities: by name, a value for each network; None: not measured on it.
        leaks: by (attack, metric), a value for each network; None: the attack did not run on it.
        recipe: of each network; those of one recipe differ in seed and initialisation alone.
        family: of each network, which its recipe decides; those of one family are left out together.
        unit: of each network; networks of one unit share training records and are left out together.
        attack_families: of each attack, as the registry has it.
    """
    recipes, families = (np.unique(np.asarray(names), return_inverse=True)[1] for names in (recipe, family))
    units = np.asarray(unit, np.int64)
    found: list[Predictor] = []
    chance: dict[tuple[str, str, bool], list[Floats]] = {}
    for name, values in [*quantities.items(), (RECIPE, [0.0] * len(recipe))]:
        x = _floats(values)
        for there, keys in _alike(leaks, ~np.isnan(x)):
            y = np.stack([_floats(leaks[key]) for key in keys], axis=1)[there]
            of, who, when, ours = families[there], recipes[there], units[there], x[there]
            none = np.full(len(keys), np.nan)
            r2, line, same = none, none, none
            parts = [part_of_attack(name, attack, attack_families.get(attack, "")) for attack, _ in keys]
            if name == RECIPE:
                same = recipe_r2(y, who, when)
            elif (curves := _both(ours, of, when)) is not None:
                line, r2 = (curve.r2(y) for curve in curves)
                same = held_out_r2(ours, y, of, when, degree=2, same_families=True)
                shuffled = np.max([shuffled_r2(curve, y, who, of) for curve in curves], axis=0)
                for place, (attack, metric) in enumerate(keys):
                    if not np.isnan(r2[place]):
                        chance.setdefault((attack, metric, bool(parts[place])), []).append(shuffled[:, place])
            for place, (attack, metric) in enumerate(keys):
                found.append(
                    Predictor(
                        attack=attack,
                        metric=metric,
                        quantity=name,
                        part_of_attack=parts[place],
                        networks=int(there.sum()),
                        recipes=len(np.unique(who)),
                        families=len(np.unique(of)),
                        units=len(np.unique(when)),
                        r2=_plain(r2[place]),
                        r2_line=_plain(line[place]),
                        r2_same_recipes=_plain(same[place]),
                    )
                )
    order, place_of = list(leaks), [*quantities, RECIPE]
    found.sort(key=lambda p: (order.index((p.attack, p.metric)), place_of.index(p.quantity)))
    return found, _largest(found, chance)


def _both(x_G: Floats, family_G: Integers, unit_G: Integers) -> tuple[Errors, Errors] | None:
    """A line and a quadratic."""
    line = errors(x_G, family_G, unit_G, degree=1)
    curve = errors(x_G, family_G, unit_G, degree=2)
    return None if line is None or curve is None else (line, curve)


def _largest(found: Sequence[Predictor], chance: Mapping[tuple[str, str, bool], Sequence[Floats]]) -> list[Largest]:
    rows = []
    for (attack, metric, part), shuffled in sorted(chance.items()):
        known = [
            (p.best, p.quantity)
            for p in found
            if (p.attack, p.metric, bool(p.part_of_attack)) == (attack, metric, part) and p.best is not None
        ]
        r2, quantity = max(known)
        largest_B = np.max(shuffled, axis=0)
        median, upper = np.quantile(largest_B, [0.5, _UPPER])
        rows.append(
            Largest(attack, metric, part, len(known), quantity, r2, float(median), float(upper), PERMUTATIONS, SEED)
        )
    return rows


def _alike(
    leaks: Mapping[tuple[str, str], Sequence[float | None]], measured: Bools
) -> list[tuple[Bools, list[tuple[str, str]]]]:
    """The leaks that are known of the same networks, with these networks."""
    found: dict[bytes, tuple[Bools, list[tuple[str, str]]]] = {}
    for key, values in leaks.items():
        there = measured & ~np.isnan(_floats(values))
        found.setdefault(there.tobytes(), (there, []))[1].append(key)
    return list(found.values())


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
