"""ROC curve and AUC of an attack's scores."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lacewing.metrics._checks import Bools, Estimate, Floats, check_confidence, checked
from lacewing.metrics._intervals import beta_interval


def roc(scores_N: npt.ArrayLike, member_N: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The ROC curve as ``(fpr, tpr)``, from (0, 0) to (1, 1), one step for each distinct score (ties move together)."""
    fp, tp = roc_counts(*checked(scores_N, member_N))
    return fp / fp[-1], tp / tp[-1]


def auc(scores_N: npt.ArrayLike, member_N: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """The area under the ROC curve, P(member's score > non-member's) + P(tie)/2, with DeLong's interval.

    Variance from midranks (DeLong et al., Biometrics 44, 1988; Sun and Xu, IEEE SPL 21, 2014); the interval is taken
    on the logit scale so that it stays inside 0..1. Where the variance is zero or undefined (perfect separation, all
    scores equal, a single record of a kind), the interval is the binomial one over min(members, non-members)
    independent pairs, each ordered rightly with probability AUC.
    """
    from scipy.special import ndtri

    scores, member = checked(scores_N, member_N)
    check_confidence(confidence)
    x, y = scores[member], scores[~member]
    m, n = len(x), len(y)
    ranks = midranks(scores)
    # Placement values: the share of the other kind that each record beats, ties counted half.
    v_m = (ranks[member] - midranks(x)) / n
    v_n = 1.0 - (ranks[~member] - midranks(y)) / m
    value = min(max(float(v_m.mean()), 0.0), 1.0)
    variance = float(v_m.var(ddof=1)) / m + float(v_n.var(ddof=1)) / n if min(m, n) > 1 else 0.0
    if not (variance > 1e-30 and 0.0 < value < 1.0):
        pairs = min(m, n)
        return Estimate(value, *beta_interval(value * pairs, pairs, confidence))
    centre = math.log(value / (1.0 - value))
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(variance) / (value * (1.0 - value))
    return Estimate(value, expit(centre - half), expit(centre + half))


def roc_counts(scores: Floats, member: Bools) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """False and true positives for each distinct threshold, from "nobody" to "everybody"."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(order) - 1)  # last record of each run of ties
    tp = np.cumsum(member[order], dtype=np.int64)[last]
    return np.append(0, last + 1 - tp), np.append(0, tp)


def midranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs (scipy.stats.rankdata, without loading scipy.stats)."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    midrank: Floats = np.cumsum(count) - (count - 1) / 2
    return midrank[inverse]


def expit(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
