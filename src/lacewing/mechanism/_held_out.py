"""R squared of one quantity on networks of families and records that the fit has not seen, and what chance gives.

Pure functions on arrays: G networks, A leaks, F families, R recipes, B permutations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Bools, Floats

FEWEST_FAMILIES = 5  # with one left out, four are left for the three coefficients of a quadratic
PERMUTATIONS = 999
SEED = 0  # of the permutations
_EQUAL = 1e-12

Integers = npt.NDArray[np.integer]


class Errors(NamedTuple):
    """Leaks y to errors of prediction: ``of_curve_GG @ y``, and those of the mean of the same networks."""

    of_curve_GG: Floats
    of_mean_GG: Floats

    def r2(self, y_GA: Floats) -> Floats:
        """(A,) R squared; nan where the leak does not vary."""
        error, spread = (((of @ y_GA) ** 2).sum(axis=0) for of in self)
        return _share(error, spread)


def held_out_r2(
    x_G: Floats, y_GA: Floats, family_G: Integers, unit_G: Integers, *, degree: int, same_families: bool = False
) -> Floats:
    """(A,) R squared of a polynomial in x on networks that it was not fitted to; nan where there is none.

    For each family and unit the polynomial is fitted by least squares to the networks of ALL OTHER families and units,
    and predicts those of this family in this unit. R squared is 1 - (sum of squared errors) / (sum of squared errors of
    the mean of the same networks), so that a quantity that tells nothing has 0 or less. Leaving out the unit alone is
    not enough: every recipe is in every unit, so that a curve could pass through the recipes' means by chance. Nor is
    leaving out the recipe: the others of its family lie nearby in quantity and leak, for whatever reason.

    Beyond the values that were fitted the polynomial is not continued: the nearest of these stands in.

    Args:
        x_G: a value for each network.
        y_GA: leaks, a column for each.
        family_G: of each network; what varies one setting.
        unit_G: what each network shares training records with.
        degree: 1 or 2; less where the fitted networks have no more than ``degree`` different values.
        same_families: leave out the unit alone.
    """
    found = errors(x_G, family_G, unit_G, degree=degree, same_families=same_families)
    return np.full(y_GA.shape[1], np.nan) if found is None else found.r2(y_GA)


def errors(
    x_G: Floats, family_G: Integers, unit_G: Integers, *, degree: int, same_families: bool = False
) -> Errors | None:
    """What `held_out_r2` does to leaks, which is linear in them; None: too few families or units, or x is constant."""
    enough = len(np.unique(family_G)) >= FEWEST_FAMILIES and len(np.unique(unit_G)) >= 2
    if not enough or not _varies(x_G):
        return None
    of_curve, of_mean = np.eye(len(x_G)), np.eye(len(x_G))
    for fitted, left_out in folds(family_G, unit_G, same=same_families):
        x, rows = x_G[fitted], np.ix_(left_out, fitted)
        of_mean[rows] = -1 / len(x)
        if not _varies(x):
            of_curve[rows] = -1 / len(x)
            continue
        mean, scale = x.mean(), x.std()
        most = min(degree, len(np.unique(x)) - 1)
        at = np.clip(x_G[left_out], x.min(), x.max())
        inverse = np.linalg.pinv(_powers((x - mean) / scale, most), rcond=np.finfo(float).eps * len(x))
        of_curve[rows] = -_powers((at - mean) / scale, most) @ inverse
    return Errors(of_curve, of_mean)


def recipe_r2(y_GA: Floats, recipe_G: Integers, unit_G: Integers) -> Floats:
    """(A,) R squared of the mean of the same recipe in the other units."""
    error, spread = np.zeros(y_GA.shape[1]), np.zeros(y_GA.shape[1])
    for fitted, left_out in folds(recipe_G, unit_G, same=True):
        for recipe in np.unique(recipe_G[left_out]):
            own, known = left_out & (recipe_G == recipe), fitted & (recipe_G == recipe)
            if known.any():
                error += ((y_GA[own] - y_GA[known].mean(axis=0)) ** 2).sum(axis=0)
                spread += ((y_GA[own] - y_GA[fitted].mean(axis=0)) ** 2).sum(axis=0)
    return _share(error, spread)


def shuffled_r2(how: Errors, y_GA: Floats, recipe_G: Integers, family_G: Integers) -> Floats:
    """(B, A) R squared of leaks whose families have changed places: what unrelated quantities reach.

    A network's leak is its family's mean, plus what its recipe differs from that, plus what it differs from its recipe.
    A permutation gives every family the mean of another one, and permutes the recipes' differences within families;
    the third part stays. So the leaks keep the spread between families, within them and over networks. The permutations
    are the same for every quantity that was measured on the same families and recipes.
    """
    family_G, recipe_G = (np.unique(group, return_inverse=True)[1] for group in (family_G, recipe_G))
    of_recipe = family_G[np.unique(recipe_G, return_index=True)[1]]
    families, recipes = np.eye(family_G.max() + 1)[family_G], np.eye(recipe_G.max() + 1)[recipe_G]
    family_FA = families.T @ y_GA / families.sum(axis=0)[:, None]
    recipe_RA = recipes.T @ y_GA / recipes.sum(axis=0)[:, None]
    rest_GA = y_GA - recipes @ recipe_RA
    recipe_RA = recipe_RA - family_FA[of_recipe]

    rng = np.random.default_rng(SEED)
    family_FB = rng.permuted(np.tile(np.arange(families.shape[1])[:, None], PERMUTATIONS), axis=0)
    recipe_RB = np.tile(np.arange(len(of_recipe))[:, None], PERMUTATIONS)
    for family in range(families.shape[1]):
        mine = of_recipe == family
        recipe_RB[mine] = rng.permuted(recipe_RB[mine], axis=0)

    sums = []
    for of_GG in how:
        parts, rests = of_GG @ np.hstack([families, recipes]), of_GG @ rest_GA
        each = []
        for a in range(y_GA.shape[1]):
            columns = np.column_stack([parts, rests[:, a]])
            shuffled_KB = np.vstack([family_FA[family_FB, a], recipe_RA[recipe_RB, a], np.ones(PERMUTATIONS)])
            each.append((shuffled_KB * (columns.T @ columns @ shuffled_KB)).sum(axis=0))
        sums.append(np.stack(each, axis=1))
    return _share(*sums)


def folds(family_G: Integers, unit_G: Integers, *, same: bool) -> Iterator[tuple[Bools, Bools]]:
    """What is fitted and what is predicted, (G,) each."""
    for unit in np.unique(unit_G):
        here = unit_G == unit
        if same:
            yield ~here, here
            continue
        for family in np.unique(family_G[here]):
            yield ~here & (family_G != family), here & (family_G == family)


def _powers(x: Floats, degree: int) -> Floats:
    return np.stack([x**power for power in range(degree + 1)], axis=1)


def _share(error: Floats, spread: Floats) -> Floats:
    return np.where(spread > _EQUAL, 1 - error / np.maximum(spread, _EQUAL), np.nan)


def _varies(x: Floats) -> bool:
    return len(x) > 1 and float(np.ptp(x)) > _EQUAL * max(1.0, float(np.abs(x).max()))
