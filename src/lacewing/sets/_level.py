"""Is any of a person's records a member? Scores of records, put together for each person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._deciding import SelfCheck
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Bools, Estimate, Floats
from lacewing.sets import _checked
from lacewing.support.text import entry

RATES = (0.01, 0.001)
SCHEMA = 1  # of JSON


@dataclass(frozen=True)
class SetResult:
    """How well sets with a member are told from those without. Sets are the units of all intervals."""

    what: str  # "groups", "ranges"
    variant: str
    score_S: Floats  # higher for sets with a member; private data, as scores of records are
    member_S: Bools  # whether any of its records is a member
    size_S: npt.NDArray[np.int64]  # records of each set
    metrics: Mapping[str, Estimate | None]  # as `lacewing.metrics.summary`, without decisions
    by_size: Estimate  # the AUC of the size alone: what a set's size gives away without a network
    selfchecks: tuple[SelfCheck, ...] = ()  # where a network was asked; one that fails leaves no "no leakage found"
    accuracy: str = ""  # of the network, in one line
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What was found, with n and intervals; or that the audit cannot tell, since a self-check failed."""
        auc = self.metrics["auc"]
        assert auc is not None
        n = f"n = {int(self.member_S.sum())} {self.what} with a member and {int((~self.member_S).sum())} without"
        size = (
            ""
            if self.by_size.low <= 0.5 <= self.by_size.high
            else (f" Their size alone has an AUC of {self.by_size.text()}, which no network gave away.")
        )
        failed = " ".join(check.sentence for check in self.selfchecks if not check.passed)
        if auc.low > 0.5:
            doubts = f" But this may be no leak of the model that is meant: {failed}" if failed else ""
            return f"Leakage found: {self.what} with a member are told with an AUC of {auc.text()}; {n}.{size}{doubts}"
        if failed:
            return f"This audit cannot say what the model leaks: {failed} No leakage was found at {n}.{size}"
        return f"No leakage found above an AUC of {max(auc.high, 0.5):.3f} at {n}; other attacks may find more.{size}"

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``, with a ``schema`` number; it holds nothing of single sets."""
        return {
            "schema": SCHEMA,
            "sentence": self.sentence,
            "what": self.what,
            "variant": self.variant,
            "n_with_member": int(self.member_S.sum()),
            "n_without": int((~self.member_S).sum()),
            "metrics": {name: None if found is None else found._asdict() for name, found in self.metrics.items()},
            "by_size": self.by_size._asdict(),
            "accuracy": self.accuracy or None,
            "selfchecks": [vars(check) for check in self.selfchecks],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        said = [f"check {'passed' if c.passed else 'FAILED'}: {c.sentence}" for c in self.selfchecks]
        lines = [self.sentence, *([self.accuracy] if self.accuracy else [])]
        return "\n".join([*lines, *map(entry, [*said, *(f"note: {note}" for note in self.notes)])])


def group_level(
    score_N: npt.ArrayLike,
    member_N: npt.ArrayLike,
    group_N: npt.ArrayLike,
    *,
    how: Literal["any", "mean"] = "any",
    null_Z: npt.ArrayLike | None = None,
    mixed: Literal["refuse", "member"] = "refuse",
) -> SetResult:
    """Is any of a person's records a member? One score a group, from an attack's scores of its records.

    "any" looks for one member among others: the smallest p-value of the group's records, corrected for their number
    (Sidak), as -log(1 - (1 - p)^size), so that a large group has no higher score by its size. "mean" is the mean score,
    which `lacewing.audit` takes for ``groups``; it is stronger where all records of a person were used.

    Args:
        score_N: higher for members.
        member_N: whether each record was trained on.
        group_N: whose each record is: whole numbers or words.
        how: see above.
        null_Z: for "any", scores of the same attack of records that the network did not train on, which the attacker
            knows, such as those of a shadow network's non-members; the p-value of a score is the share of them that
            reach it, one added to both. None: scores are standard normal at non-members, as those of ``lira-offline``.
        mixed: groups with members and non-members: "refuse" them, or count each as "member", since one record is.

    Raises:
        UsageError: lengths differ, scores are not finite, a record has no group, a group is on both sides and ``mixed``
            is "refuse", or one kind of groups is missing.
    """
    for name, value, known in (("how", how, ("any", "mean")), ("mixed", mixed, ("refuse", "member"))):
        if value not in known:
            raise UsageError(f"{name} = {value!r} is unknown: {did_you_mean(str(value), known)}")
    score, member = _checked.numbers(score_N, "score"), _checked.flags(member_N, "member")
    code = _checked.groups(group_N)
    if not score.shape == member.shape == code.shape or score.ndim != 1:
        raise UsageError(f"scores {score.shape}, member {member.shape} and group {code.shape}: give one each a record.")
    if not np.isfinite(score).all():
        raise UsageError("scores hold NaN or infinite values: give finite ones.")
    size = np.bincount(code)
    inside = np.bincount(code, member)
    both = int(((inside > 0) & (inside < size)).sum())
    if both and mixed != "member":
        raise UsageError(
            f"group: {both} groups hold members and non-members: keep each on one side, or say mixed='member', which "
            "counts a group as a member as soon as one of its records is."
        )
    if how == "mean":
        return of_sets("groups", "mean score", np.bincount(code, score) / size, inside > 0, size)
    p = _p_values(score, null_Z)
    least = np.ones(len(size))
    np.minimum.at(least, code, p)
    corrected = -np.expm1(size * np.log1p(-np.minimum(least, 1 - 1e-16)))
    return of_sets("groups", "smallest p-value, Sidak", -np.log(np.maximum(corrected, 1e-300)), inside > 0, size)


def of_sets(what: str, variant: str, score_S: Floats, member_S: Bools, size_S: npt.NDArray[Any]) -> SetResult:
    """The success of one score a set. Raises `UsageError` where sets with, or without, a member are missing."""
    if member_S.all() or not member_S.any():
        raise UsageError(f"{int(member_S.sum())} of {len(member_S)} {what} hold a member: both kinds are needed.")
    found = metrics.summary(score_S, member_S, None, fprs=RATES)
    by_size = metrics.auc(size_S.astype(np.float64), member_S)
    return SetResult(what, variant, score_S, member_S, size_S.astype(np.int64), found, by_size)


def _p_values(score: Floats, null_Z: npt.ArrayLike | None) -> Floats:
    """One-sided: how rarely a record that was not trained on reaches each score."""
    if null_Z is None:
        from scipy.special import ndtr

        return np.asarray(ndtr(-score), np.float64)
    null = np.sort(_checked.scores(null_Z, "null_Z, scores of records that were not trained on,"))
    reached = len(null) - np.searchsorted(null, score, side="left")
    return np.asarray((1 + reached) / (1 + len(null)), np.float64)
