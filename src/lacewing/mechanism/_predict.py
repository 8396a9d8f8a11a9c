"""Which quantity predicts the leak of networks that the prediction has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Bools, Floats

FEWEST_RECIPES = 5  # with one left out, four are left for the three coefficients of a quadratic
RECIPE = "recipe"  # the quantity that stands for knowing the recipe itself
_EQUAL = 1e-12

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
    "white-box": _LOG_ODDS | _CONFIDENCE,
    "discriminator": _LOG_ODDS | _CONFIDENCE | _ANSWERS,
    "adaptive": _LOG_ODDS | _CONFIDENCE | _ANSWERS,
    "samia": _LOG_ODDS | _CONFIDENCE | _ANSWERS,
    "label-only": _ANSWERS,
}
_CORRECTNESS = "gap"  # the threshold attack that sees answers alone


@dataclass(frozen=True, slots=True)
class Predictor:
    """How much of the spread of a leak over networks one quantity predicts. Shares of 1; below 0: worse than the mean.

    None: the quantity or the leak does not vary, or there are too few recipes, seeds or networks.
    """

    attack: str
    metric: str
    quantity: str
    part_of_attack: bool | None  # whether it is computed from what the attack itself ranks; None: not known
    networks: int
    recipes: int
    units: int  # seeds, or cuts of the records
    r2: float | None  # a quadratic, on networks of a recipe and a cut that it was not fitted to
    r2_line: float | None  # a straight line, likewise
    r2_same_recipes: float | None  # a quadratic, on networks of a cut alone that it was not fitted to

    @property
    def best(self) -> float | None:
        """The larger of both: a line cannot follow a bend, a quadratic fits few recipes badly between them."""
        known = [value for value in (self.r2, self.r2_line) if value is not None]
        return max(known, default=None)


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
    unit: Sequence[int],
    families: Mapping[str, str],
) -> list[Predictor]:
    """The held-out R squared of every quantity alone, for every leak.

    Args:
        quantities: by name, a value for each network; None: not measured on it.
        leaks: by (attack, metric), a value for each network; None: the attack did not run on it.
        recipe: of each network; those of one recipe differ in seed and initialisation alone.
        unit: of each network; networks of one unit share training records and are left out together.
        families: of each attack, as the registry has it.
    """
    recipes = np.unique(np.asarray(recipe), return_inverse=True)[1]
    units = np.asarray(unit, np.int64)
    found = []
    for name, values in [*quantities.items(), (RECIPE, [0.0] * len(recipe))]:
        x = _floats(values)
        for there, keys in _alike(leaks, ~np.isnan(x)):
            y = np.stack([_floats(leaks[key]) for key in keys], axis=1)[there]
            who, when, ours = recipes[there], units[there], x[there]
            if name == RECIPE:
                r2 = line = np.full(len(keys), np.nan)
                same = _of_recipe(y, who, when)
            else:
                r2 = held_out_r2(ours, y, who, when, degree=2)
                line = held_out_r2(ours, y, who, when, degree=1)
                same = held_out_r2(ours, y, who, when, degree=2, same_recipes=True)
            for place, (attack, metric) in enumerate(keys):
                found.append(
                    Predictor(
                        attack=attack,
                        metric=metric,
                        quantity=name,
                        part_of_attack=part_of_attack(name, attack, families.get(attack, "")),
                        networks=int(there.sum()),
                        recipes=len(np.unique(who)),
                        units=len(np.unique(when)),
                        r2=_plain(r2[place]),
                        r2_line=_plain(line[place]),
                        r2_same_recipes=_plain(same[place]),
                    )
                )
    order, place_of = list(leaks), [*quantities, RECIPE]
    return sorted(found, key=lambda p: (order.index((p.attack, p.metric)), place_of.index(p.quantity)))


def held_out_r2(
    x_G: Floats,
    y_GA: Floats,
    recipe_G: npt.NDArray[np.integer],
    unit_G: npt.NDArray[np.integer],
    *,
    degree: int,
    same_recipes: bool = False,
) -> Floats:
    """(A,) R squared of a polynomial in x on networks that it was not fitted to; nan where there is none.

    For each recipe and unit the polynomial is fitted by least squares to the networks of ALL OTHER recipes and units,
    and predicts those of this recipe in this unit. R squared is 1 - (sum of squared errors) / (sum of squared errors of
    the mean of the same networks), so that a quantity that tells nothing has 0 or less. Leaving out the unit alone is
    not enough: every recipe is in every unit, so that a curve could pass through the recipes' means by chance.

    Beyond the values that were fitted the polynomial is not continued: the nearest of these stands in.

    Args:
        x_G: a value for each network.
        y_GA: leaks, a column for each.
        recipe_G: the recipe of each network.
        unit_G: what each network shares training records with.
        degree: 1 or 2; less where the fitted networks have no more than ``degree`` different values.
        same_recipes: leave out the unit alone.
    """
    none = np.full(y_GA.shape[1], np.nan)
    enough = len(np.unique(recipe_G)) >= FEWEST_RECIPES and len(np.unique(unit_G)) >= 2
    if not enough or not _varies(x_G):
        return none
    error, spread = np.zeros(y_GA.shape[1]), np.zeros(y_GA.shape[1])
    for fitted, left_out in _folds(recipe_G, unit_G, same_recipes=same_recipes):
        x, y = x_G[fitted], y_GA[fitted]
        mean, scale = x.mean(), x.std()
        if not _varies(x):
            coefficients, degree_ = y.mean(axis=0)[None], 0
        else:
            degree_ = min(degree, len(np.unique(x)) - 1)
            coefficients = np.linalg.lstsq(_powers((x - mean) / scale, degree_), y, rcond=None)[0]
        at = np.clip(x_G[left_out], x.min(), x.max())
        predicted = _powers((at - mean) / (scale if degree_ else 1.0), degree_) @ coefficients
        error += ((y_GA[left_out] - predicted) ** 2).sum(axis=0)
        spread += ((y_GA[left_out] - y.mean(axis=0)) ** 2).sum(axis=0)
    return _share(error, spread)


def _of_recipe(y_GA: Floats, recipe_G: npt.NDArray[np.integer], unit_G: npt.NDArray[np.integer]) -> Floats:
    """(A,) R squared of the mean of the same recipe in the other units."""
    error, spread = np.zeros(y_GA.shape[1]), np.zeros(y_GA.shape[1])
    for fitted, left_out in _folds(recipe_G, unit_G, same_recipes=True):
        for recipe in np.unique(recipe_G[left_out]):
            own, known = left_out & (recipe_G == recipe), fitted & (recipe_G == recipe)
            if known.any():
                error += ((y_GA[own] - y_GA[known].mean(axis=0)) ** 2).sum(axis=0)
                spread += ((y_GA[own] - y_GA[fitted].mean(axis=0)) ** 2).sum(axis=0)
    return _share(error, spread)


def _folds(
    recipe_G: npt.NDArray[np.integer], unit_G: npt.NDArray[np.integer], *, same_recipes: bool
) -> Iterator[tuple[Bools, Bools]]:
    """What is fitted and what is predicted, (G,) each."""
    for unit in np.unique(unit_G):
        here = unit_G == unit
        if same_recipes:
            yield ~here, here
            continue
        for recipe in np.unique(recipe_G[here]):
            yield ~here & (recipe_G != recipe), here & (recipe_G == recipe)


def _powers(x: Floats, degree: int) -> Floats:
    return np.stack([x**power for power in range(degree + 1)], axis=1)


def _share(error: Floats, spread: Floats) -> Floats:
    return np.where(spread > _EQUAL, 1 - error / np.maximum(spread, _EQUAL), np.nan)


def _varies(x: Floats) -> bool:
    return len(x) > 1 and float(np.ptp(x)) > _EQUAL * max(1.0, float(np.abs(x).max()))


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
