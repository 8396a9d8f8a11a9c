"""Checks of the arrays that metrics take; each error names the argument."""

from __future__ import annotations

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

    def text(self, form: str = ".3f", *, percent: bool = False) -> str:
        """``0.712 [0.690, 0.733]``, or ``71.2 % [69.0, 73.3]``; each number in the format ``form``."""
        value, low, high = (f"{100 * number if percent else number:{form}}" for number in self)
        return f"{value}{' %' * percent} [{low}, {high}]"


def checked(scores_N: npt.ArrayLike, member_N: npt.ArrayLike) -> tuple[Floats, Bools]:
    scores = np.asarray(scores_N, np.float64)
    member = kinds(member_N, scores, "scores")
    if not np.isfinite(scores).all():
        raise UsageError(f"scores hold {int((~np.isfinite(scores)).sum())} NaN or infinite values: give finite scores.")
    return scores, member


def checked_bools(decision_N: npt.ArrayLike, member_N: npt.ArrayLike) -> tuple[Bools, Bools]:
    decision = np.asarray(decision_N)
    return as_bools(decision, "decision"), kinds(member_N, decision, "decision")


def kinds(member_N: npt.ArrayLike, beside: npt.NDArray[np.generic], name: str) -> Bools:
    member = as_bools(np.asarray(member_N), "member")
    if member.ndim != 1 or member.shape != beside.shape:
        raise UsageError(f"{name} has shape {beside.shape} and member {member.shape}: give two lists of equal length.")
    if member.all() or not member.any():
        raise UsageError(
            f"member marks {int(member.sum())} of {len(member)} records: members and non-members are needed."
        )
    return member


def as_bools(array: npt.NDArray[np.generic], name: str) -> Bools:
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise UsageError(
            f"{name} holds values other than 0 and 1: give True or 1 for members, False or 0 for the rest."
        )
    return array.astype(np.bool_)


def check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence = {confidence} is out of range: give a share between 0 and 1, such as 0.95.")
