"""Lower bounds on epsilon: the differential-privacy guarantees that the scores of an attack rule out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics._band import simultaneous_upper
from lacewing.metrics._checks import check_confidence, checked
from lacewing.metrics._roc import roc_counts


class EpsilonAudit(NamedTuple):
    """A lower bound on epsilon and the threshold that gave it (all None where the bound is 0)."""

    lower_bound: float  # at least 0
    threshold: float | None  # "member" is score >= threshold
    fpr: float | None  # observed at the threshold
    tpr: float | None
    found: Literal["members", "non-members"] | None  # kind of record told apart: FPR or FNR in the denominator


def epsilon_lower_bound(
    scores_N: npt.ArrayLike, member_N: npt.ArrayLike, delta: float = 1e-5, confidence: float = 0.95
) -> float:
    """The epsilon >= 0 below which the scores rule out (epsilon, delta)-differential privacy, at ``confidence``.

    Any (epsilon, delta)-DP training obeys TPR <= e^eps FPR + delta and 1 - FPR <= e^eps FNR + delta at every threshold
    (Kairouz, Oh, Viswanath, ICML 2015), so that
    epsilon >= max over thresholds of log((1 - delta - FNR)/FPR) and log((1 - delta - FPR)/FNR).
    FPR and FNR are replaced by upper bounds that hold for ALL thresholds at once, each kind of error at the square root
    of ``confidence`` (the two kinds of record are independent): the choice of threshold and side needs no further
    correction and no separate records. Deterministic; independent of the order of the records; ties are kept together.

    It assumes that the scores of members are independent draws of one distribution and those of non-members of
    another: exact for one record over many trainings; for many records of ONE network an approximation, for which
    `one_run_epsilon` needs no such assumption. Raises `UsageError` for a ``delta`` outside 0..1.
    """
    return epsilon_audit(scores_N, member_N, delta, confidence).lower_bound


def epsilon_audit(
    scores_N: npt.ArrayLike, member_N: npt.ArrayLike, delta: float = 1e-5, confidence: float = 0.95
) -> EpsilonAudit:
    """`epsilon_lower_bound` with the threshold behind it, the observed rates there, and the kind of record found."""
    scores, member = checked(scores_N, member_N)
    check_delta(delta)
    check_confidence(confidence)
    fp, tp = roc_counts(scores, member)
    n, m = int(fp[-1]), int(tp[-1])
    fpr_up = simultaneous_upper(n, math.sqrt(confidence))[fp]
    fnr_up = simultaneous_upper(m, math.sqrt(confidence))[m - tp]
    by_side = np.stack([log_ratio(fnr_up, fpr_up, delta), log_ratio(fpr_up, fnr_up, delta)])
    side, step = np.unravel_index(int(by_side.argmax()), by_side.shape)
    bound = float(by_side[side, step])
    if bound <= 0:
        return EpsilonAudit(0.0, None, None, None, None)
    threshold = float(np.unique(scores)[len(fp) - 1 - step])
    return EpsilonAudit(
        bound, threshold, float(fp[step] / n), float(tp[step] / m), "non-members" if side else "members"
    )


def one_run_epsilon(
    n_guesses: int, n_correct: int, n_canaries: int, delta: float = 1e-5, confidence: float = 0.95
) -> float:
    """The largest epsilon >= 0 ruled out by ONE training that included each canary by an independent fair coin.

    Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, Theorem 5.2 and appendix D:
    an auditor who answers r = ``n_guesses`` of m = ``n_canaries`` canaries (IN or OUT; the rest: no answer) has v =
    ``n_correct`` or more right under (epsilon, delta)-DP with probability at most

        p = f(v) + 2 m delta max_{1 <= i <= v} (f(v - i) - f(v)) / i,   f(k) = P[Binomial(r, e^eps/(1 + e^eps)) >= k].

    The bound is the epsilon at which p reaches 1 - confidence. r is fixed beforehand or chosen without the memberships
    (as many guesses as there are scores that far out), never to maximise the bound. Raises `UsageError` unless
    0 <= n_correct <= n_guesses <= n_canaries, n_canaries >= 1 and delta lies in 0..1.
    """
    check_guesses(n_guesses, n_correct, n_canaries)
    check_delta(delta)
    check_confidence(confidence)
    alpha = 1.0 - confidence
    return largest_rejected(lambda epsilon: _one_run_p(n_guesses, n_correct, n_canaries, delta, epsilon) < alpha)


def largest_rejected(rejected: Callable[[float], bool], tolerance: float = 1e-12) -> float:
    """The largest rejected value >= 0, from below (0 if none); ``rejected`` changes to False once."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
    while high - low > tolerance * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _one_run_p(r: int, v: int, m: int, delta: float, epsilon: float) -> float:
    from scipy.special import betainc, betaln, xlog1py, xlogy

    if v == 0:
        return 1.0
    wrong = math.exp(-epsilon) / (1.0 + math.exp(-epsilon))
    tail = float(betainc(v, r - v + 1, 1.0 - wrong))  # P[Binomial >= v]
    if delta == 0.0:
        return tail
    k = np.arange(v - 1, -1, -1)
    log_choose = -betaln(k + 1, r - k + 1) - math.log(r + 1)
    mass = np.exp(log_choose + xlog1py(k, -wrong) + xlogy(r - k, wrong))
    mean_mass = float(np.max(np.cumsum(mass) / np.arange(1, v + 1)))
    return min(1.0, tail + 2.0 * m * delta * mean_mass)


def log_ratio(
    numerator_error: npt.NDArray[np.float64], denominator_error: npt.NDArray[np.float64], delta: float
) -> npt.NDArray[np.float64]:
    """The epsilon that two error rates rule out, log((1 - delta - first)/second); -inf where the first is too large."""
    power = np.maximum(1.0 - delta - numerator_error, 0.0)
    with np.errstate(divide="ignore"):
        found: npt.NDArray[np.float64] = np.log(power) - np.log(denominator_error)
    return found


def check_guesses(n_guesses: int, n_correct: int, n_canaries: int) -> None:
    if not 0 <= n_correct <= n_guesses <= n_canaries or n_canaries < 1:
        raise UsageError(
            f"n_correct = {n_correct}, n_guesses = {n_guesses}, n_canaries = {n_canaries}: give 0 <= n_correct <= "
            "n_guesses <= n_canaries with at least one canary."
        )


def check_delta(delta: float) -> None:
    if not 0.0 <= delta <= 1.0:
        raise UsageError(f"delta = {delta} is out of range: give a probability between 0 and 1, such as 1e-5.")
