"""How well an attack tells two worlds apart: accuracy, AUC, leaked samples, and an exact permutation test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import auc, clopper_pearson


class Measured(NamedTuple):
    """An attack on the networks of one seed: how many of each world, and how many of them it says are of the second."""

    first: int
    second: int
    first_said: float  # of the first world's networks, those of which it says "the second"; a score of 0 counts half
    second_said: float
    auc: float

    @property
    def accuracy(self) -> float:
        """Share of networks whose world it names."""
        return (self.first - self.first_said + self.second_said) / (self.first + self.second)

    @property
    def binomial(self) -> tuple[float, float]:
        """The exact 95 % interval of the accuracy over these networks, for this draw of the pools alone."""
        return clopper_pearson(self.accuracy * (self.first + self.second), self.first + self.second)


def measured(score_M: npt.ArrayLike, second_M: npt.ArrayLike) -> Measured:
    """What decisions at 0, and the ranking, are worth.

    Args:
        score_M: of each attacked network, above 0 for the second world.
        second_M: True where the network is of the second world.

    Raises:
        UsageError: a world has no network, or a score is not finite.
    """
    scores, second = np.asarray(score_M, np.float64), np.asarray(second_M, bool)
    if not second.any() or second.all():
        raise UsageError("property: the attacked networks are of one world; give some of both.")
    said = (scores > 0) + 0.5 * (scores == 0)
    area = auc(scores, second).value
    return Measured(
        int((~second).sum()), int(second.sum()), float(said[~second].sum()), float(said[second].sum()), area
    )


def n_leaked(accuracy: float, first: float, second: float) -> float:
    """How many records of the training distribution, given to the attacker, would tell the worlds apart as well.

    Suri and Evans, "Formalizing and estimating distribution inference risks" (arXiv 2109.06024), as their code computes
    it: log(1 - (2 w - 1)^2) / log(max(min/max, (1 - max)/(1 - min))), w the accuracy, min and max the shares.
    It is the n at which a bound on the accuracy of any distinguisher of n records reaches w, so a record of which the
    attacker knew the property would give at most so much. 0 at an accuracy of .5 or below; infinite at 1. One record
    tells shares of 0 and 1 apart.

    Raises:
        UsageError: shares are equal or outside 0..1, or the accuracy is.
    """
    low, high = min(first, second), max(first, second)
    if not 0 <= low < high <= 1 or not 0 <= accuracy <= 1:
        raise UsageError(f"n_leaked of accuracy {accuracy} at shares {first} and {second}: give two shares of 0 to 1.")
    if accuracy <= 0.5:
        return 0.0
    if (low, high) == (0, 1):
        return 1.0
    if accuracy == 1:
        return math.inf
    ratio = max(low / high, (1 - high) / (1 - low))
    return math.log(1 - (2 * accuracy - 1) ** 2) / math.log(ratio)


def permutation_p(seeds: Sequence[Measured]) -> float:
    """The exact one-sided p of the decisions of all seeds, where the worlds of each seed's networks are shuffled.

    Within a seed the number of right answers is then hypergeometric (Fisher's exact test); over seeds these are
    independent, and the p is that of their sum. Scores of 0 are no decision: half of them count on each side.
    """
    total, reached = np.ones(1), 0
    for each in seeds:
        n, said = each.first + each.second, round(each.first_said + each.second_said)
        k = np.arange(min(each.second, said) + 1)
        log = [_log_choose(each.second, int(i)) + _log_choose(each.first, said - int(i)) for i in k]
        weights = np.exp(np.array(log) - _log_choose(n, said))
        total = np.convolve(total, weights)
        reached += math.floor(each.second_said)
    return float(min(1.0, total[reached:].sum()))


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
