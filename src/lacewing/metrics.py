"""What an attack achieved, as numbers with exact or stated intervals: pure functions on arrays, float64 throughout.

Conventions: N records; ``scores_N`` is higher for members; ``member_N`` is True (or 1) for members. Every function
raises `UsageError` where scores are not finite, lengths differ, or members or non-members are missing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Estimate(NamedTuple):
    """A number with its confidence interval (95 % unless said otherwise)."""

    value: float
    low: float
    high: float


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial share, k successes in n trials (Clopper and Pearson, Biometrika 26, 1934).

    Low is the alpha/2 quantile of Beta(k, n-k+1), high the 1-alpha/2 quantile of Beta(k+1, n-k); 0 and 1 at the ends.
    Raises `UsageError` unless n >= 1, 0 <= k <= n and 0 < confidence < 1.
    """
    if n < 1 or not 0 <= k <= n:
        raise UsageError(f"k = {k} of n = {n} is no binomial share: give 0 <= k <= n with n at least 1.")
    return _beta_interval(k, n, confidence)


def roc(scores_N: npt.ArrayLike, member_N: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The ROC curve as ``(fpr, tpr)``, from (0, 0) to (1, 1), one step for each distinct score (ties move together)."""
    fp, tp = _roc_counts(*_checked(scores_N, member_N))
    return fp / fp[-1], tp / tp[-1]


def auc(scores_N: npt.ArrayLike, member_N: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """The area under the ROC curve, P(member's score > non-member's) + P(tie)/2, with DeLong's interval.

    Variance from midranks (DeLong et al., Biometrics 44, 1988; Sun and Xu, IEEE SPL 21, 2014); the interval is taken
    on the logit scale so that it stays inside 0..1. Where the variance is zero or undefined (perfect separation, all
    scores equal, a single record of a kind), the interval is the binomial one over min(members, non-members)
    independent pairs, each ordered rightly with probability AUC.
    """
    from scipy.special import ndtri

    scores, member = _checked(scores_N, member_N)
    _check_confidence(confidence)
    x, y = scores[member], scores[~member]
    m, n = len(x), len(y)
    ranks = _midranks(scores)
    # Placement values: the share of the other kind that each record beats, ties counted half.
    v_m = (ranks[member] - _midranks(x)) / n
    v_n = 1.0 - (ranks[~member] - _midranks(y)) / m
    value = min(max(float(v_m.mean()), 0.0), 1.0)
    variance = float(v_m.var(ddof=1)) / m + float(v_n.var(ddof=1)) / n if min(m, n) > 1 else 0.0
    if not (variance > 1e-30 and 0.0 < value < 1.0):
        pairs = min(m, n)
        return Estimate(value, *_beta_interval(value * pairs, pairs, confidence))
    centre = math.log(value / (1.0 - value))
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(variance) / (value * (1.0 - value))
    return Estimate(value, _expit(centre - half), _expit(centre + half))


def tpr_at_fpr(scores_N: npt.ArrayLike, member_N: npt.ArrayLike, fpr: float, confidence: float = 0.95) -> Estimate:
    """The largest TPR whose empirical FPR is at most ``fpr`` (no interpolation), with its Clopper-Pearson interval.

    The interval is that of the TPR at the threshold found. Raises `UsageError` (refuses) where ``fpr`` is below
    1/non-members: no threshold could show so small a rate.
    """
    scores, member = _checked(scores_N, member_N)
    n = int((~member).sum())
    if not 0.0 < fpr < 1.0:
        raise UsageError(f"fpr = {fpr} is out of range: give a rate between 0 and 1.")
    if fpr * n < 1.0 - 1e-9:
        raise UsageError(
            f"A TPR at an FPR of {fpr:g} needs at least {math.ceil(1 / fpr - 1e-9)} non-members: {n} given."
        )
    fp, tp = _roc_counts(scores, member)
    k = int(tp[np.searchsorted(fp, math.floor(fpr * n + 1e-9), side="right") - 1])
    m = int(tp[-1])
    return Estimate(k / m, *clopper_pearson(k, m, confidence))


def balanced_accuracy(decision_N: npt.ArrayLike, member_N: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """A = (TPR + TNR)/2 of yes/no decisions (True: "member"); 0.5 is what guessing achieves.

    The interval averages the Clopper-Pearson intervals of TPR and TNR at 1 - alpha/2 each: both hold at once with
    probability at least 1 - alpha, so the average does (conservative).
    """
    decision, member = _checked_bools(decision_N, member_N)
    shares = [decision[member], ~decision[~member]]
    value = math.fsum(float(share.mean()) for share in shares) / 2
    each = 1.0 - (1.0 - confidence) / 2
    low, high = np.mean([clopper_pearson(int(share.sum()), len(share), each) for share in shares], axis=0)
    return Estimate(value, float(low), float(high))


def best_threshold_accuracy(scores_N: npt.ArrayLike, member_N: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """The ORACLE: the largest balanced accuracy over all thresholds, chosen on the very records it is measured on.

    max over the ROC of (1 + TPR - FPR)/2: biased upwards, never an attack's accuracy. The interval holds for the best
    threshold of the population: by the Dvoretzky-Kiefer-Wolfowitz inequality (Massart's constant) at 1 - alpha/2 for
    each of the two curves, +- (e_m + e_n)/2 with e_n = sqrt(ln(4/alpha) / (2 n)).
    """
    _check_confidence(confidence)
    fp, tp = _roc_counts(*_checked(scores_N, member_N))
    value = float(np.max(1.0 + tp / tp[-1] - fp / fp[-1])) / 2
    error = sum(math.sqrt(math.log(4 / (1 - confidence)) / (2 * n)) for n in (int(tp[-1]), int(fp[-1]))) / 2
    return Estimate(value, max(value - error, 0.5), min(value + error, 1.0))


def resampled_means(columns_NJ: npt.ArrayLike, resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap: the column means (B, J) of 0/1 columns over B draws of N rows with replacement.

    A draw takes the same rows for all columns (paired). Memory stays below some 50 MB whatever B and N. Sums of whole
    numbers are exact in any order, so equal generators give equal bytes.
    """
    columns = np.asarray(columns_NJ, np.float64)
    n = len(columns)
    means = []
    for start in range(0, resamples, chunk := max(1, 1_000_000 // n)):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        count_BN = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        means.append(count_BN @ columns / n)
    return np.concatenate(means)


def defence(accuracy: Estimate) -> Estimate:
    """D = 2 (1 - A) of a balanced accuracy A: 1 where the attack guesses, 0 where it is always right."""
    return Estimate(*(2.0 * (1.0 - a) for a in (accuracy.value, accuracy.high, accuracy.low)))


def advantage(accuracy: Estimate) -> Estimate:
    """The membership advantage TPR - FPR = 2 A - 1 of a balanced accuracy A (Yeom et al., CSF 2018)."""
    return Estimate(*(2.0 * a - 1.0 for a in accuracy))


def _beta_interval(k: float, n: int, confidence: float) -> tuple[float, float]:
    from scipy.special import betainccinv, betaincinv  # far lighter to load than scipy.stats

    _check_confidence(confidence)
    tail = (1.0 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betainccinv(k + 1, n - k, tail)) if k < n else 1.0
    return low, high


def _roc_counts(scores: Floats, member: Bools) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """False and true positives for each distinct threshold, from "nobody" to "everybody"."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(order) - 1)  # last record of each run of ties
    tp = np.cumsum(member[order], dtype=np.int64)[last]
    return np.append(0, last + 1 - tp), np.append(0, tp)


def _midranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs (scipy.stats.rankdata, without loading scipy.stats)."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    midrank: Floats = np.cumsum(count) - (count - 1) / 2
    return midrank[inverse]


def _checked(scores_N: npt.ArrayLike, member_N: npt.ArrayLike) -> tuple[Floats, Bools]:
    scores = np.asarray(scores_N, np.float64)
    member = _kinds(member_N, scores, "scores")
    if not np.isfinite(scores).all():
        raise UsageError(f"scores hold {int((~np.isfinite(scores)).sum())} NaN or infinite values: give finite scores.")
    return scores, member


def _checked_bools(decision_N: npt.ArrayLike, member_N: npt.ArrayLike) -> tuple[Bools, Bools]:
    decision = np.asarray(decision_N)
    return _as_bools(decision, "decision"), _kinds(member_N, decision, "decision")


def _kinds(member_N: npt.ArrayLike, beside: npt.NDArray[np.generic], name: str) -> Bools:
    member = _as_bools(np.asarray(member_N), "member")
    if member.ndim != 1 or member.shape != beside.shape:
        raise UsageError(f"{name} has shape {beside.shape} and member {member.shape}: give two lists of equal length.")
    if member.all() or not member.any():
        raise UsageError(
            f"member marks {int(member.sum())} of {len(member)} records: members and non-members are needed."
        )
    return member


def _as_bools(array: npt.NDArray[np.generic], name: str) -> Bools:
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise UsageError(
            f"{name} holds values other than 0 and 1: give True or 1 for members, False or 0 for the rest."
        )
    return array.astype(np.bool_)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence = {confidence} is out of range: give a share between 0 and 1, such as 0.95.")


def _expit(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
