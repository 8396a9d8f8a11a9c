"""Other published lower bounds on epsilon, each valid under the assumption in its name."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics._band import simultaneous_upper
from lacewing.metrics._checks import Floats, check_confidence, checked
from lacewing.metrics._epsilon import check_delta, check_guesses, largest_rejected, log_ratio
from lacewing.metrics._roc import roc_counts

_CHOOSING = 0.1  # of each kind of record; in simulations shares of .2 and more gave smaller bounds, .05 about the same

EPSILON_ASSUMED = {
    "hull_bonferroni_split": "It assumes nothing more than the main bound. A random tenth of the records chooses the "
    "thresholds, and the others are measured there, corrected after Bonferroni for the number of thresholds.",
    "gaussian_dp": "It is valid only if the training is Gaussian-DP, as added Gaussian noise makes it. For ordinary "
    "training it is no bound.",
}  # bound of `other_epsilon_bounds` -> what it assumes, in sentences


def other_epsilon_bounds(
    scores_N: npt.ArrayLike, member_N: npt.ArrayLike, delta: float = 1e-5, confidence: float = 0.95
) -> dict[str, float]:
    """Further bounds from the same scores as `epsilon_lower_bound`, under the names in `EPSILON_ASSUMED`.

    Each holds at ``confidence`` on its own; the largest of several holds at a lower confidence.
    """
    return {
        "hull_bonferroni_split": epsilon_hull_bonferroni_split(scores_N, member_N, delta, confidence),
        "gaussian_dp": epsilon_gaussian_dp(scores_N, member_N, delta, confidence),
    }


def epsilon_hull_bonferroni_split(
    scores_N: npt.ArrayLike,
    member_N: npt.ArrayLike,
    delta: float = 1e-5,
    confidence: float = 0.95,
    seed: int = 0,
) -> float:
    """The epsilon >= 0 ruled out at the hull thresholds of the ROC, chosen on a part of the records.

    Clopper-Pearson bounds of FPR and FNR at one threshold are Nasr, Song, Thakurta, Papernot, Carlini (IEEE S&P 2021);
    jax_privacy (`CanaryScoreAuditor`, its default) corrects them after Bonferroni for the K thresholds at the corners
    of the concave hull of the ROC, alpha/(2 K) for each rate. There K and the thresholds come from the records that are
    measured, so that Bonferroni's inequality, which is about a list fixed beforehand, gives no guarantee. Here a random
    tenth of the members and of the non-members gives the K corners (without "nobody" and "everybody"), and the other
    nine tenths alone give FPR and FNR there, at alpha/(2 K) each. The correction is for the 2 K rates that are bounded;
    both sides, log((1 - delta - FNR)/FPR) and log((1 - delta - FPR)/FNR), use the same bounds.

    It assumes what `epsilon_lower_bound` does. ``seed`` draws the tenth; the order of the records does not matter. 0
    where a kind has a single record. Raises `UsageError` for a ``delta`` outside 0..1.
    """
    scores, member = checked(scores_N, member_N)
    check_delta(delta)
    check_confidence(confidence)
    rng = np.random.default_rng(seed)
    chosen_on, measured_on = zip(*(_divided(scores[kind], rng) for kind in (member, ~member)), strict=True)
    if not all(map(len, (*chosen_on, *measured_on))):
        return 0.0
    thresholds = _hull_thresholds(*chosen_on)
    if not len(thresholds):
        return 0.0
    in_scores, out_scores = (np.sort(part) for part in measured_on)
    local = (1.0 - confidence) / (2 * len(thresholds))
    fnr_up = _upper(np.searchsorted(in_scores, thresholds), len(in_scores), local)
    fpr_up = _upper(len(out_scores) - np.searchsorted(out_scores, thresholds), len(out_scores), local)
    bounds = np.concatenate([log_ratio(fnr_up, fpr_up, delta), log_ratio(fpr_up, fnr_up, delta)])
    return max(0.0, float(bounds.max()))


def epsilon_gaussian_dp(
    scores_N: npt.ArrayLike, member_N: npt.ArrayLike, delta: float = 1e-5, confidence: float = 0.95
) -> float:
    """The epsilon >= 0 at ``delta`` of the largest mu that the scores rule out as a mu-Gaussian-DP guarantee.

    Under mu-GDP (Dong, Roth, Su, JRSS B 84, 2022) every threshold has Phi^-1(1 - FPR) - Phi^-1(FNR) <= mu; Nasr et al.,
    "Tight Auditing of Differentially Private Machine Learning" (USENIX Security 2023), turn this into a bound from one
    threshold's Clopper-Pearson bounds. Here FPR and FNR have the upper bounds of `epsilon_lower_bound`, which hold at
    all thresholds at once, so that the largest mu over thresholds may be taken. Corollary 2.13 of Dong, Roth, Su gives
    the epsilon: delta = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2).

    **Valid only if training is Gaussian-DP**, as noise added once to one statistic is, and DP-SGD nearly is over many
    steps: a leak at any threshold counts as a leak of Gaussian shape. For other mechanisms, such as randomised
    response, it exceeds the true epsilon. Otherwise it assumes what `epsilon_lower_bound` does. Raises `UsageError`
    unless 0 < delta <= 1 (at 0 the epsilon of every mu > 0 is infinite).
    """
    scores, member = checked(scores_N, member_N)
    _check_positive(delta)
    check_confidence(confidence)
    from scipy.special import ndtri

    fp, tp = roc_counts(scores, member)
    n, m = int(fp[-1]), int(tp[-1])
    fpr_up = simultaneous_upper(n, math.sqrt(confidence))[fp]
    fnr_up = simultaneous_upper(m, math.sqrt(confidence))[m - tp]
    return _epsilon_of_mu(float(np.max(-ndtri(fpr_up) - ndtri(fnr_up))), delta)


def one_run_fdp_epsilon(
    n_guesses: int, n_correct: int, n_canaries: int, delta: float = 1e-5, confidence: float = 0.95
) -> float:
    """`one_run_epsilon` by f-DP: the largest epsilon that ONE training with fair coins rules out, for (epsilon, delta).

    Mahloujifar, Melis, Chaudhuri, "Auditing f-Differential Privacy in One Run" (ICML 2025, arXiv 2410.22235), the
    algorithm with abstention, with the trade-off function of (epsilon, delta)-DP: nothing else is assumed of training.
    Let g = ``n_guesses`` of m = ``n_canaries`` be answered, and S_i = P(i or more are right). For each canary and
    guess, if "guessed so, and right as one of i or more" has probability p, then the same outputs have at least F(p)
    under the other coin, where the guess is wrong and the others as right as before. Averaged over canaries, with F
    convex,

        sum over j >= i - 1 of (g - j) P(j right) >= m F(sum over j >= i of j P(j right) / m),
        F(p) = max(0, e^-epsilon (p - delta), 1 - delta - e^epsilon (1 - p)).

    With S_c = 1 - confidence for c = ``n_correct`` and no mass above c, which is the least that it can be, these give
    the least S_(c-1), .., S_0; epsilon is ruled out where S_0 exceeds 1.

    g must be **fixed before the scores are seen**, as in "the 100 that score highest and the 100 that score lowest":
    the proof takes g as a constant, while public code chooses it by a threshold on the scores. Which canaries are
    guessed may depend on the scores. Raises `UsageError` as `one_run_epsilon` does.
    """
    check_guesses(n_guesses, n_correct, n_canaries)
    check_delta(delta)
    check_confidence(confidence)

    def rejected(epsilon: float) -> bool:
        grown = math.exp(epsilon)

        def least(p: float) -> float:
            return max(0.0, (p - delta) / grown, 1.0 - delta - grown * (1.0 - p))

        return _one_run_rejected(least, n_guesses, n_correct, n_canaries, 1.0 - confidence)

    return largest_rejected(rejected, tolerance=1e-7)


def one_run_gaussian_dp_epsilon(
    n_guesses: int, n_correct: int, n_canaries: int, delta: float = 1e-5, confidence: float = 0.95
) -> float:
    """`one_run_fdp_epsilon` for training that is mu-Gaussian-DP: the epsilon at ``delta`` of the largest mu ruled out.

    F(p) = Phi(Phi^-1(p) - mu), the case that Mahloujifar, Melis, Chaudhuri (2025) evaluate; epsilon from mu as in
    `epsilon_gaussian_dp`. **Valid only if training is Gaussian-DP** in each canary, and with the number of guesses
    fixed before the scores are seen. Raises `UsageError` as `one_run_epsilon` does, and for ``delta`` = 0.
    """
    check_guesses(n_guesses, n_correct, n_canaries)
    _check_positive(delta)
    check_confidence(confidence)
    from scipy.special import ndtr, ndtri

    def rejected(mu: float) -> bool:
        def least(p: float) -> float:
            return float(ndtr(ndtri(p) - mu))

        return _one_run_rejected(least, n_guesses, n_correct, n_canaries, 1.0 - confidence)

    return _epsilon_of_mu(largest_rejected(rejected, tolerance=1e-7), delta)


def _one_run_rejected(least: Callable[[float], float], g: int, c: int, m: int, alpha: float) -> bool:
    """Whether c or more right of g guesses have a probability below alpha under a trade-off function."""
    right, wrong = alpha * c, alpha * (g - c)  # sums over j >= i of j P(j) and (g - j) P(j); together g S_i
    for i in range(c - 1, -1, -1):
        more = max(wrong, m * least(min(1.0, right / m)))
        if more == wrong:  # S_i = S_(i+1): the rest is the same too
            return False
        right += (more - wrong) * i / (g - i)
        wrong = more
        if right + wrong > g:
            return True
    return False


def _epsilon_of_mu(mu: float, delta: float) -> float:
    """The epsilon of mu-GDP at delta, rounded down; 0 for mu <= 0."""
    if mu <= 0.0:
        return 0.0
    from scipy.special import log_ndtr

    def exceeds(epsilon: float) -> bool:
        first = float(log_ndtr(mu / 2 - epsilon / mu))
        second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
        return math.exp(first) * -math.expm1(min(0.0, second - first)) > delta

    return largest_rejected(exceeds)


def _divided(values: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Split the values at random into those that choose thresholds and those that are measured."""
    mixed = rng.permutation(np.sort(values))
    choosing = max(1, round(_CHOOSING * len(mixed)))
    return mixed[:choosing], mixed[choosing:]


def _hull_thresholds(in_scores: Floats, out_scores: Floats) -> Floats:
    """The thresholds ("member" is score >= threshold) at the corners of the ROC's concave hull without its two ends."""
    scores = np.concatenate([in_scores, out_scores])
    fp, tp = (k.tolist() for k in roc_counts(scores, np.arange(len(scores)) < len(in_scores)))
    corners: list[int] = []
    for k in range(len(fp)):
        while len(corners) >= 2:
            i, j = corners[-2:]
            if (tp[j] - tp[i]) * (fp[k] - fp[j]) > (tp[k] - tp[j]) * (fp[j] - fp[i]):
                break
            corners.pop()  # not above the line between its neighbours
        corners.append(k)
    falling: Floats = np.unique(scores)[::-1]
    return falling[np.array(corners[1:-1], np.int64) - 1]


def _upper(k: npt.NDArray[np.int64], n: int, alpha: float) -> Floats:
    """One-sided Clopper-Pearson upper bounds of rates with k of n at level 1 - alpha."""
    from scipy.special import betainccinv

    bound: Floats = np.where(k < n, betainccinv(k + 1.0, np.maximum(n - k, 1) + 0.0, alpha), 1.0)
    return bound


def _check_positive(delta: float) -> None:
    check_delta(delta)
    if delta == 0.0:
        raise UsageError("delta = 0 has no finite epsilon under Gaussian-DP: give a positive delta, such as 1e-5.")
