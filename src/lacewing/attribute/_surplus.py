"""How much better members' values are guessed than non-members', beside imputation: what is leaked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats, clopper_pearson


@dataclass(frozen=True)
class Success:
    """How often values are guessed right. Intervals are of 95 % but for ``surplus``, see `compare`."""

    members: Estimate  # share of members whose value is guessed; over groups where records have groups
    nonmembers: Estimate
    surplus: Estimate  # (members' hits less imputation's) less (non-members' hits less imputation's)
    p_value: float  # one-sided, that the surplus is not above 0
    n_members: int  # records, or groups of them
    n_nonmembers: int


def compare(
    hit_N: npt.ArrayLike,
    imputed_N: npt.ArrayLike,
    member_N: Bools,
    group_N: npt.NDArray[np.integer] | None = None,
    *,
    confidence: float = 0.95,
) -> Success:
    """Compare guesses on members with those on non-members, record by record beside imputation.

    What the network learned of the distribution helps on both sides, and what is easy to impute is easy on both: the
    surplus subtracts both. Its interval and p-value are Welch's (t test of the differences' means on the two sides), of
    groups' means where records have groups. Variances are those with one difference of 1 and one of -1 more on each
    side, since few differences understate them (after Agresti and Caffo, The American Statistician 54, 2000). Shares
    have Clopper-Pearson's intervals; those of groups are Student's, cut at 0 and 1.

    Args:
        hit_N: whether the attack guessed the value.
        imputed_N: whether imputation did.
        member_N: True for members.
        group_N: codes of groups that count as one; each on one side.
        confidence: of the surplus.

    Raises:
        UsageError: shapes differ, or a side has fewer than two records or groups.
    """
    hit, imputed = np.asarray(hit_N, bool), np.asarray(imputed_N, bool)
    member = np.asarray(member_N, bool)
    if not hit.shape == imputed.shape == member.shape:
        raise UsageError(f"hit {hit.shape}, imputed {imputed.shape} and member {member.shape} must be of one length.")
    sides = [_units(hit, imputed, group_N, of) for of in (member, ~member)]
    if min(len(side) for side, _ in sides) < 2:
        raise UsageError("Members and non-members need at least two records or groups each.")
    surplus, p_value = _welch(sides[0][1], sides[1][1], confidence)
    shares = [_share(values, exact=group_N is None) for values, _ in sides]
    return Success(shares[0], shares[1], surplus, p_value, *(len(values) for values, _ in sides))


def _units(hit: Bools, imputed: Bools, group_N: npt.NDArray[np.integer] | None, of: Bools) -> tuple[Floats, Floats]:
    """(units,) hits and hits less imputation's, of the records ``of`` or the means of their groups."""
    values, extra = hit[of].astype(np.float64), hit[of].astype(np.float64) - imputed[of]
    if group_N is None:
        return values, extra
    _, group = np.unique(group_N[of], return_inverse=True)
    size = np.bincount(group)
    return np.bincount(group, values) / size, np.bincount(group, extra) / size


def _welch(inside: Floats, outside: Floats, confidence: float) -> tuple[Estimate, float]:
    from scipy.special import stdtr, stdtrit

    padded = [np.concatenate([side, [1.0, -1.0]]) for side in (inside, outside)]
    parts = [float(side.var(ddof=1)) / len(side) for side in padded]
    freedom = sum(parts) ** 2 / sum(p**2 / (len(s) - 1) for p, s in zip(parts, (inside, outside), strict=True))
    error, value = math.sqrt(sum(parts)), float(inside.mean() - outside.mean())
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return Estimate(value, value - half, value + half), float(stdtr(freedom, -value / error))


def _share(values: Floats, *, exact: bool) -> Estimate:
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    if exact:
        return Estimate(mean, *clopper_pearson(float(values.sum()), n))
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))
