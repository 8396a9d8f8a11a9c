"""Draws of whole studies: accuracies and leaks of recipes over seeds, as trained networks and their records make them.

R studies, S seeds, J recipes. A recipe has a true accuracy and a true leak (balanced accuracy of the attack). The
network of a seed wobbles about both, by a part that all networks of the seed share (its split) and a part of its own,
each with a standard deviation of ``spread``. On top is the noise of n records: networks of one seed are measured on the
same records, so their noise correlates, and a record that a network gets right is one that the attack tells less from.
In docs/results/paper-short the spread is .004 in accuracy and .005 in leak for networks that finished their schedule
(both parts together); in docs/results/digits-halves .003 and .014.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from lacewing.metrics import Floats

SHARED = 0.33  # correlation of the records' noise of two networks of one seed
AGAINST = -0.35  # correlation of a network's noise in accuracy and in leak
Curve = Callable[[Floats], Floats]

CURVES: Mapping[str, Curve] = {  # leak against accuracy
    "quadratic": lambda a: 0.63 + 1.5 * (a - 0.71) + 4 * (a - 0.71) ** 2,
    "exponential": lambda a: 0.5 + 0.2 * np.exp((a - 0.76) / 0.03),
    "flat then steep": lambda a: 0.70 + 6 * np.maximum(a - 0.735, 0) + 0.3 * (a - 0.66),
    "kinked": lambda a: 0.58 + 0.5 * np.maximum(a - 0.68, 0) + 4 * np.maximum(a - 0.73, 0),
}


def _short(epochs: Floats) -> tuple[Floats, Floats]:
    """Accuracy and AUC of complete trainings of 2 to 8 epochs in docs/results/controls: accuracy folds back."""
    lengths = [2, 3, 4, 5, 6, 8]
    accuracy = PchipInterpolator(lengths, [0.5344, 0.6741, 0.7062, 0.7137, 0.7152, 0.7128])
    return accuracy(epochs), PchipInterpolator(lengths, [0.6006, 0.7144, 0.7952, 0.8376, 0.8651, 0.8905])(epochs)


Path = Callable[[Floats], tuple[Floats, Floats]]
PATHS: Mapping[str, Path] = {  # accuracy and leak along 2 to 8 epochs
    "short trainings": _short,
    "saturating": lambda t: (0.72 - 0.2 * np.exp((2 - t) / 0.9), 0.5 + 0.05 * t),
    "levelling off": lambda t: (np.minimum(0.715, 0.5 + 0.05 * t), 0.5 + 0.05 * t),
    "two corners": lambda t: (np.interp(t, [2, 3.5, 5, 8], [0.64, 0.66, 0.72, 0.72]), 0.5 + 0.05 * t),
}


class Studies(NamedTuple):
    """What was measured on the networks."""

    accuracy_RSJ: Floats
    leak_RSJ: Floats


def drawn(
    rng: np.random.Generator,
    shape: tuple[int, int],
    accuracy_J: npt.ArrayLike,
    leak_J: npt.ArrayLike,
    *,
    n: int,
    spread: float,
    leak_spread: float | None = None,
    pairs: bool = False,
) -> Studies:
    """Studies of ``shape`` = (R, S).

    Args:
        rng: source of randomness.
        shape: studies and seeds.
        accuracy_J: true accuracies.
        leak_J: true leaks.
        n: records: test records, and members and non-members of the attack.
        spread: of accuracy over seeds, for either part.
        leak_spread: the same of the leak; None: as ``spread``.
        pairs: whether seeds 2j and 2j + 1 have the same shared part, as the two halves of one cut.
    """
    studies, seeds = shape
    accuracy, leak = np.asarray(accuracy_J, np.float64), np.asarray(leak_J, np.float64)
    recipes = len(accuracy)

    def wobble(sd: float) -> Floats:
        common = rng.standard_normal((studies, seeds // 2 if pairs else seeds, 1))
        if pairs:
            common = np.repeat(common, 2, axis=1)
        wobbles: Floats = sd * (common + rng.standard_normal((studies, seeds, recipes)))
        return wobbles

    def records() -> Floats:
        common, own = rng.standard_normal((studies, seeds, 1)), rng.standard_normal((studies, seeds, recipes))
        noise: Floats = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
        return noise

    right, told = records(), records()
    told = AGAINST * right + np.sqrt(1 - AGAINST**2) * told
    return Studies(
        accuracy + wobble(spread) + np.sqrt(accuracy * (1 - accuracy) / n) * right,
        leak + wobble(spread if leak_spread is None else leak_spread) + np.sqrt(leak * (1 - leak) / (2 * n)) * told,
    )
