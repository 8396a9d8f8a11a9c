"""TPR at a low FPR, with intervals that account for the uncertain threshold, and the realised FPR."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics._checks import Estimate, Floats, check_confidence, checked
from lacewing.metrics._intervals import clopper_pearson

Form = Literal["valid", "narrow", "auto"]
_CRITICAL = 4.3  # of the joint likelihood at 95 %; found by simulation: the 3.84 of chi-squared covers too little
_NARROW_FROM = 10  # the narrow form needs this many expected non-members at or above the threshold
_NORMAL_95 = 1.959963984540054


def tpr_at_fpr(
    scores_N: npt.ArrayLike, member_N: npt.ArrayLike, fpr: float, confidence: float = 0.95, *, form: Form = "valid"
) -> Estimate:
    """The largest TPR whose empirical FPR is at most ``fpr`` (no interpolation), with an interval.

    The interval is for the largest TPR at an FPR of at most ``fpr`` in the population of members and non-members. The
    population's threshold is not known: the number j of non-members above it is a draw of Binomial(n, fpr). With up(k)
    the members strictly above the (k+1)-th largest of n non-members, up(-1) = 0, up(n) = m, and w_j the binomial's
    probabilities:

    - low: the alpha/2 quantile of sum_j w_j Beta(c_j, m - c_j + 1), c_j = up(j - 1); a Clopper-Pearson lower end
      averaged over the possible thresholds (c_j = 0: all mass at 0).
    - high: over every j the largest rate t >= up(j)/m whose joint likelihood is not too small,
      2 n KL(j/n || fpr) + 2 m KL(up(j)/m || t) <= 4.3 (at 95 %; scaled as the squared normal quantile otherwise).

    Both are ours. At 95 % they cover .956 to 1.00, with ties and saturated scores too; for fewer than 3.7/``fpr``
    non-members the lower end is 0 by construction (`least_nonmembers`).

    Args:
        scores_N: (N,) scores, higher for members.
        member_N: (N,) membership.
        fpr: a rate between 0 and 1.
        confidence: of the interval.
        form: ``valid`` is the interval above, which every result and gate of this package uses. ``narrow``, .87 to .92
            as wide, has both quantiles of sum_j w_j Beta(c_j + 1/2, m - c_j + 1/2) with
            c_j = (up(j - 1) + up(j))/2. It covers .951 on average where it holds: ``fpr`` n >= 10, and no ties
            among the records that the interval uses, which are all from the lowest possible threshold up; elsewhere
            it is refused. ``auto`` is narrow where that holds, else valid.

    Raises:
        UsageError: bad input, ``fpr`` below 1/non-members (no threshold has so small a rate), or a narrow
            interval where it does not hold.
    """
    scores, member = checked(scores_N, member_N)
    check_confidence(confidence)
    if form not in ("valid", "narrow", "auto"):
        raise UsageError(f"form = '{form}' is unknown: give 'valid', 'narrow' or 'auto'.")
    x, y = np.sort(scores[member]), np.sort(scores[~member])
    check_rate(fpr, len(y))
    m, n = len(x), len(y)
    value = int(_up(x, y, np.array([allowed(fpr, n)]))[0]) / m
    j, w = _ranks(n, fpr)
    below, upto = _up(x, y, j - 1), _up(x, y, j)
    tail = (1.0 - confidence) / 2
    if form != "valid":
        why = _not_narrow(x, y, fpr, int(j[-1]))
        if why is None:
            c: Floats = (below + upto) / 2
            low, high = _quantile(w, c + 0.5, m, tail), _quantile(w, c + 0.5, m, 1.0 - tail)
            # A rate of 0 or 1 has that end of its interval there.
            return Estimate(value, 0.0 if value == 0.0 else min(low, value), 1.0 if value == 1.0 else max(high, value))
        if form == "narrow":
            raise UsageError(f"The narrow interval of a TPR at an FPR of {fpr:g} does not hold here: {why}")
    low = _quantile(w, below.astype(np.float64), m, tail)
    return Estimate(value, min(low, value), max(_joint(j, upto, m, n, fpr, confidence), value))


def realised_fpr(scores_N: npt.ArrayLike, member_N: npt.ArrayLike, fpr: float, confidence: float = 0.95) -> Estimate:
    """The share of non-members at or above the threshold of `tpr_at_fpr`, with its Clopper-Pearson interval.

    The threshold is the lowest score whose empirical FPR is at most ``fpr``. With ties the share can be far below
    ``fpr``; 0 where the share at the highest score alone exceeds it. Raises as `tpr_at_fpr`.
    """
    scores, member = checked(scores_N, member_N)
    outside = np.sort(scores[~member])
    n = len(outside)
    check_rate(fpr, n)
    k = allowed(fpr, n)
    above = k if k >= n else n - int(np.searchsorted(outside, outside[n - 1 - k], "right"))
    return Estimate(above / n, *clopper_pearson(above, n, confidence))


def least_nonmembers(fpr: float, confidence: float = 0.95) -> int:
    """The fewest non-members with which the lower end of a TPR at ``fpr`` can lie above 0, about 3.7/``fpr`` at 95 %.

    With fewer, (1 - fpr)^n >= alpha/2: the threshold lies above all drawn non-members with too high a probability.
    """
    check_confidence(confidence)
    check_rate(fpr)
    n = math.floor(math.log((1.0 - confidence) / 2) / math.log1p(-fpr))
    return next(count for count in (max(n, 1), n + 1, n + 2) if (1.0 - fpr) ** count < (1.0 - confidence) / 2)


def allowed(fpr: float, n: int) -> int:
    """How many of n non-members may be at or above the threshold."""
    return min(math.floor(fpr * n + 1e-9), n)


def resolves(fpr: float, n: int) -> bool:
    """Whether n non-members can show a false-positive rate of ``fpr``: one of them is at most that share."""
    return fpr * n >= 1.0 - 1e-9


def check_rate(fpr: float, n: int | None = None) -> None:
    """Raise `UsageError` for a rate out of range, or too small for n non-members."""
    if not 0.0 < fpr < 1.0:
        raise UsageError(f"fpr = {fpr} is out of range: give a rate between 0 and 1.")
    if n is not None and not resolves(fpr, n):
        raise UsageError(
            f"A TPR at an FPR of {fpr:g} needs at least {math.ceil(1 / fpr - 1e-9)} non-members: {n} given."
        )


def _up(x: Floats, y: Floats, k: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """up(k): the members strictly above the (k+1)-th largest non-member; x and y rise."""
    found = len(x) - np.searchsorted(x, y[np.clip(len(y) - 1 - k, 0, len(y) - 1)], "right")
    return np.where(k < 0, 0, np.where(k >= len(y), len(x), found)).astype(np.int64)


def _ranks(n: int, fpr: float) -> tuple[npt.NDArray[np.int64], Floats]:
    """How many of n non-members are above the true threshold: j with its probability, without what is below 1e-14."""
    from scipy.special import gammaln, xlog1py, xlogy

    spread = 10.0 * math.sqrt(n * fpr * (1.0 - fpr)) + 30.0
    j = np.arange(max(0, math.floor(n * fpr - spread)), min(n, math.ceil(n * fpr + spread)) + 1)
    logs = gammaln(n + 1) - gammaln(j + 1) - gammaln(n - j + 1) + xlogy(j, fpr) + xlog1py(n - j, -fpr)
    w = np.exp(logs)
    kept = w > 1e-14
    return j[kept], w[kept] / w[kept].sum()


def _quantile(w: Floats, a: Floats, m: int, q: float) -> float:
    """The q quantile of sum_j w_j Beta(a_j, m + 1 - a_j), where a_j = 0 has its mass at 0."""
    from scipy.special import betainc, betaincinv

    a, inverse = np.unique(a, return_inverse=True)
    w = np.bincount(inverse, weights=w).astype(np.float64)
    if a[0] == 0.0:
        if w[0] >= q:
            return 0.0
        q, w, a = (q - w[0]) / (1.0 - w[0]), w[1:] / (1.0 - w[0]), a[1:]
    b = m + 1.0 - a
    low, high = (float(betaincinv(a[k], b[k], q)) for k in (0, -1))  # the quantiles of the parts rise with a
    return _root(lambda t: float(betainc(a, b, t) @ w - q), low, high)


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, by Ridders' method (IEEE Trans. Circuits and Systems 26, 1979)."""
    at_low, at_high = of(low), of(high)
    for _ in range(60):
        if at_low >= 0.0 or at_high <= 0.0 or high - low <= 1e-12 * high:
            break
        middle = (low + high) / 2
        at_middle = of(middle)
        step = (middle - low) * at_middle / math.sqrt(at_middle * at_middle - at_low * at_high)
        found = middle - step
        at_found = of(found)
        ends = sorted([(low, at_low), (middle, at_middle), (found, at_found), (high, at_high)])
        low, at_low = max(end for end in ends if end[1] <= 0.0)
        high, at_high = min(end for end in ends if end[1] >= 0.0)
    return high if at_high <= 0.0 else low


def _joint(j: npt.NDArray[np.int64], up: npt.NDArray[np.int64], m: int, n: int, fpr: float, confidence: float) -> float:
    """The upper end: the largest rate t that is likely enough for some j non-members above the threshold."""
    from scipy.special import ndtri, rel_entr

    critical = _CRITICAL * (float(ndtri(0.5 + confidence / 2)) / _NORMAL_95) ** 2
    share = j / n
    rest = critical - 2.0 * n * (rel_entr(share, fpr) + rel_entr(1.0 - share, 1.0 - fpr))
    p, rest = up[rest >= 0.0] / m, rest[rest >= 0.0]
    if p[-1] == 1.0:  # up rises with j
        return 1.0
    low, high = p, np.ones_like(p)
    for _ in range(50):
        middle = (low + high) / 2
        likely = 2.0 * m * (rel_entr(p, middle) + rel_entr(1.0 - p, 1.0 - middle)) <= rest
        low, high = np.where(likely, middle, low), np.where(likely, high, middle)
    return float(high.max())


def _not_narrow(x: Floats, y: Floats, fpr: float, most: int) -> str | None:
    """Why the narrow form does not hold, as the end of a sentence; ``most``: rank of the lowest non-member used."""
    if fpr * len(y) < _NARROW_FROM - 1e-9:
        return f"it needs {math.ceil(_NARROW_FROM / fpr - 1e-9)} non-members, and there are {len(y)}."
    bar = y[max(len(y) - 1 - most, 0)]
    read = np.sort(np.concatenate([x[x >= bar], y[y >= bar]]))
    if (read[1:] == read[:-1]).any():
        return "records near or above the threshold have equal scores."
    return None
