"""Metrics of an attack's yes/no decisions: balanced accuracy, advantage, defence, and the best threshold."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lacewing.metrics._checks import Estimate, check_confidence, checked, checked_bools
from lacewing.metrics._intervals import clopper_pearson
from lacewing.metrics._roc import roc_counts


def balanced_accuracy(decision_N: npt.ArrayLike, member_N: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """A = (TPR + TNR)/2 of yes/no decisions (True: "member"); 0.5 is what guessing achieves.

    The interval joins the Clopper-Pearson intervals (l, u) of TPR p and TNR q by MOVER (Zou and Donner, Statistics in
    Medicine 27, 2008, section 2): A - sqrt((p - l_p)^2 + (q - l_q)^2)/2 to A + sqrt((u_p - p)^2 + (u_q - q)^2)/2. At
    95 % it covers .952 to .968, at 1.02 times the width of the normal approximation (ours, by exact enumeration).
    """
    decision, member = checked_bools(decision_N, member_N)
    rates, below, above = [], [], []
    for right in (decision[member], ~decision[~member]):
        rate = float(right.mean())
        low, high = clopper_pearson(int(right.sum()), len(right), confidence)
        rates.append(rate)
        below.append(rate - low)
        above.append(high - rate)
    value = math.fsum(rates) / 2
    return Estimate(value, max(value - math.hypot(*below) / 2, 0.0), min(value + math.hypot(*above) / 2, 1.0))


def best_threshold_accuracy(scores_N: npt.ArrayLike, member_N: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """The ORACLE: the largest balanced accuracy over all thresholds, chosen and measured on the same records.

    max over the ROC of (1 + TPR - FPR)/2: biased upwards, never an attack's accuracy. The interval holds for the best
    threshold of the population: by the Dvoretzky-Kiefer-Wolfowitz inequality (Massart's constant) at 1 - alpha/2 for
    each of the two curves, +- (e_m + e_n)/2 with e_n = sqrt(ln(4/alpha) / (2 n)).
    """
    check_confidence(confidence)
    fp, tp = roc_counts(*checked(scores_N, member_N))
    value = float(np.max(1.0 + tp / tp[-1] - fp / fp[-1])) / 2
    error = sum(math.sqrt(math.log(4 / (1 - confidence)) / (2 * n)) for n in (int(tp[-1]), int(fp[-1]))) / 2
    return Estimate(value, max(value - error, 0.5), min(value + error, 1.0))


def defence(accuracy: Estimate) -> Estimate:
    """D = 2 (1 - A) of a balanced accuracy A: 1 where the attack guesses, 0 where it is always right."""
    return Estimate(*(2.0 * (1.0 - a) for a in (accuracy.value, accuracy.high, accuracy.low)))


def advantage(accuracy: Estimate) -> Estimate:
    """The membership advantage TPR - FPR = 2 A - 1 of a balanced accuracy A (Yeom et al., CSF 2018)."""
    return Estimate(*(2.0 * a - 1.0 for a in accuracy))
