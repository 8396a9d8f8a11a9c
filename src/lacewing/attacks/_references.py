"""Whether reference networks are what attacks take them for: distinct, none of them the target, and like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._fit import LEVEL, p_better
from lacewing.attacks._logits import phi
from lacewing.attacks._measure import grade, graded, mean_by_group
from lacewing.attacks._types import Observed, References
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats, auc

# Rounding to float16 or bfloat16 puts a value off by up to these shares of itself.
_FLOAT16, _BFLOAT16 = 2.0**-11, 2.0**-8
_FINE = 2.0**-18  # what the order of sums in float32 changes, and more
_TINY = 1e-6
# Almost constant networks differ by less than the rounding of their level: copies must also agree to 1 % of what
# distinguishes one record from another.
_SHARE = 0.01
# A copy whose weights were rounded, and that computes in float32: its answers are off by a few times _FLOAT16, in any
# direction. Two trainings may agree to that, too: what a good fit of N records varies by, from one half of them to
# another, is about 1 / sqrt(N) of what is left of the truth. So it must agree to far less than that.
_RECOMPUTED, _SAMPLING = 2.0**-6, 0.02
_PROBED = 64  # rows that every pair is compared on first
_ASKED = 16  # references whose certainty is compared
_FEW = 50  # records or groups
_SPARE = 3  # fewest distinct rows beyond one a class; hard answers (0 and 1, clipped) of two networks may be equal
TOLERANCE = 0.05  # accuracies that differ by less count as alike


def refuse_twins(
    answers: Mapping[str, npt.NDArray[np.floating]],
    *,
    mend: str,
    latest: str | None = None,
    shifted: bool = True,
    truth: npt.NDArray[np.floating] | None = None,
) -> list[str]:
    """Refuse networks that are one and the same, by what they answered to the same records.

    Copies in float16 or bfloat16 are found, and copies with a constant added to each row: where one network's answers
    are of such a precision, by its rounding; else by agreement that two trainings do not reach. Answers that take
    hardly more values than there are classes cannot tell one network from two: where such are equal, a note is
    returned.

    Args:
        answers: by the network's name, each (N, C) or, of log-odds under Q queries, (N, Q).
        mend: the end of the error's sentence: what to do instead.
        latest: compare this network with the others; None: compare all pairs.
        shifted: whether a constant for each row has no meaning, as in logits.
        truth: what the answers predict, of a regression: good networks agree on it, and differ in what is left.

    Raises:
        UsageError: it names the two networks.
    """
    names = [*answers]
    n = len(answers[names[0]])
    rows = np.unique(np.linspace(0, n - 1, _PROBED).astype(int))
    coarse = {name: _coarse(answers[name]) for name in names}
    notes = []
    for i, name in enumerate(names):
        if latest is not None and name != latest:
            continue
        for other in names[:i] if latest is None else names[:i] + names[i + 1 :]:
            a, b = answers[name], answers[other]
            stored = (coarse[name], coarse[other])
            if not all(_close(a[some], b[some], stored, shifted) for some in (rows, slice(None))):
                continue
            distinct = _distinct(a.astype(np.float64), shifted)
            if distinct is not None:
                notes.append(
                    f"{name} and {other} answered the same everywhere, but took only {distinct} different answers: "
                    "whether they are one network cannot be told."
                )
            elif _alike(a, b, stored, shifted, 0.0 if truth is None else truth):
                raise UsageError(f"{name} is the same network as {other}, by its answers: {mend}")
    return notes


def like_target(target: Observed, references: References) -> tuple[bool, str]:
    """Whether references know their own members, and others, about as well as the target does.

    What is compared is the share of records that are answered right; of labels the mean AUC, of quantities the share
    that are answered better than by a constant. Where logits of references were made of their log-odds: of records
    whose class has more than half of the probability. Means must agree with the target's within 0.05 or three standard
    errors. No single reference may be at chance on its own members, and worse there than the target, unless the target
    is at chance too. Where the target is more certain about members than about others (AUC of the log-odds three
    standard errors above 0.5), so must references be, on average by a quarter as much; never may they be less certain
    about their own: else they are not of the membership that was given. Groups count as one record, on each side of a
    network's membership. Returns the verdict and a sentence with numbers.
    """
    graded_KN, own = _graded(target, references)
    apart, kinds, worse = list[str](), list[str](), set[int]()
    mean: dict[str, list[str]] = {"target": [], "references": []}
    for kind, name in ((True, "members"), (False, "non-members")):
        there = np.flatnonzero((references.in_KN == kind).any(axis=1))
        if not len(there):
            continue
        sides = [by_group(graded_KN[k], references.in_KN[k] == kind, target.group_N) for k in there]
        mine = by_group(own, target.member_N == kind, target.group_N)
        theirs = np.array([side.mean() for side in sides])
        alone = np.array([side.var() / len(side) for side in sides])  # squared standard errors
        spread = mine.var()
        if len(mine) < _FEW:  # a share near 0 or 1 understates what it varies by: references say it better
            spread = max(spread, np.mean([side.var() for side in sides]))
        of_mine = spread / len(mine)
        error = math.sqrt(of_mine + max(theirs.var(), alone.mean()) / len(theirs))
        if abs(theirs.mean() - mine.mean()) > max(TOLERANCE, 3 * error):
            apart.append(name)
        if kind:
            errors = np.sqrt(of_mine + alone)
            worse = set(there[mine.mean() - theirs > np.maximum(TOLERANCE, 3 * errors)].tolist())
        kinds.append(name)
        mean["target"].append(f"{mine.mean():.3f}")
        mean["references"].append(f"{theirs.mean():.3f}")
    wrong = [f"not alike on {' and '.join(apart)}, so a real attacker's would be better"] * bool(apart)
    label, group = target.label_N, target.group_N
    if p_better(own > 0, label, target.member_N, group_N=group, benefit_N=target.benefit_N) <= LEVEL:
        benefit = references.benefit_KN
        lost = [
            references.name_K[k]
            for k in sorted(worse)
            if p_better(
                graded_KN[k] > 0,
                label,
                references.in_KN[k],
                group_N=group,
                benefit_N=None if benefit is None else benefit[k],
            )
            > LEVEL
        ]
        if lost:
            wrong.append(f"no better than chance on what they trained on: {_listed(lost)}")
    if (certainty := _membership(target, references)) is not None:
        wrong.append(certainty)
    said = ", ".join(f"{name} {' and '.join(values)}" for name, values in mean.items())
    what = (
        "Share of records whose class has more than half of the probability,"
        if references.of_phi
        else grade(target.task)
    )
    return not wrong, f"{what} on {' and '.join(kinds)}: {said} on average: {'; '.join(wrong) or 'alike'}."


def _graded(target: Observed, references: References) -> tuple[Floats, Floats]:
    """What is compared, (K, N) and (N,); see `like_target`."""
    if target.benefit_N is not None and references.benefit_KN is not None:
        of_labels = target.task == "multi-label"
        theirs = references.benefit_KN + 0.5 if of_labels else references.benefit_KN > 0
    elif references.of_phi and references.phi_KNQ is not None and target.phi_NQ is not None:
        return (references.phi_KNQ[:, :, 0] > 0).astype(np.float64), (target.phi_NQ[:, 0] > 0).astype(np.float64)
    else:
        theirs = np.argmax(references.logits_KNC, axis=2) == target.label_N
    return np.asarray(theirs, np.float64), graded(target)


def _membership(target: Observed, references: References) -> str | None:
    """What is wrong where references do not know their own members, and the target does; or others better."""
    group = target.group_N
    own = _told_apart(phi(target.logits_NC, target.label_N), target.member_N, group)
    partly = np.flatnonzero(references.in_KN.any(axis=1) & ~references.in_KN.all(axis=1))[:_ASKED]
    if not len(partly):
        return None
    theirs = [_told_apart(phi(references.logits_KNC[k], target.label_N), references.in_KN[k], group) for k in partly]
    mean = float(np.mean([found.value for found in theirs]))
    error = math.sqrt(np.mean([((found.high - found.low) / 3.92) ** 2 for found in theirs]) / len(theirs))
    surely = own.value - 3 * (own.value - own.low) / 1.96 > 0.5
    if surely and mean - 0.5 < (own.value - 0.5) / 4:
        return (
            f"the target is more certain about its members (AUC {own.value:.3f}), references are not about theirs "
            f"({mean:.3f} on average): did they train on these records?"
        )
    if mean + 3 * error < 0.5:
        return (
            f"references are less certain about their members than about others (AUC {mean:.3f} on average): is their "
            "membership inverted?"
        )
    return None


def _told_apart(score_N: Floats, inside_N: Bools, group_N: npt.NDArray[np.integer] | None) -> Estimate:
    """The AUC of scores; of groups, on each side, by their means."""
    sides = [by_group(score_N, inside_N == kind, group_N) for kind in (True, False)]
    return auc(np.concatenate(sides), np.repeat([True, False], [len(side) for side in sides]))


def by_group(values_N: npt.NDArray[Any], of: Bools, group_N: npt.NDArray[np.integer] | None) -> Floats:
    """The values of the records ``of``; of each group among them, the mean."""
    values: Floats = values_N[of].astype(np.float64)
    return values if group_N is None else mean_by_group(values, group_N[of])


def by_side(group_N: npt.NDArray[np.integer] | None, inside_N: Bools) -> npt.NDArray[np.integer] | None:
    """Codes of groups for a network that trained on a part of some: each such group becomes two."""
    return None if group_N is None else np.unique(2 * group_N.astype(np.int64) + inside_N, return_inverse=True)[1]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _coarse(answers: npt.NDArray[np.floating]) -> float:
    """The rounding of a 16-bit format that holds all the answers, as a share of a value; 0: none does."""
    single = answers.astype(np.float32)
    if answers.dtype != np.float16 and not (single == answers).all():
        return 0.0
    if not (np.ascontiguousarray(single).view(np.uint32) & 0xFFFF).any():
        return _BFLOAT16
    with np.errstate(over="ignore"):
        return _FLOAT16 if (single.astype(np.float16) == single).all() else 0.0


def _close(
    a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], stored: tuple[float, float], shifted: bool
) -> bool:
    """Whether (N, C) answers differ by no more than rounding, in every place."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not shifted and stored[0] != stored[1]:  # one is the other, rounded
        return bool((np.abs(a - b) <= (max(stored) + _FINE) * np.maximum(np.abs(a), np.abs(b)) + _TINY).all())
    if not shifted and max(stored):  # of one precision
        return bool((np.abs(a - b) <= _FINE * np.abs(a)).all())
    largest = np.maximum(np.abs(a).max(axis=1, keepdims=True), np.abs(b).max(axis=1, keepdims=True))
    if shifted:
        a, b = _centred(a), _centred(b)
    # Where a shift may have been added each copy is rounded once, and the rows' means are off by as much again.
    share = 2 * sum(stored) + _FINE if max(stored) else _RECOMPUTED
    return bool((np.abs(a - b) <= share * largest + _TINY).all())


def _alike(
    a: npt.NDArray[np.floating],
    b: npt.NDArray[np.floating],
    stored: tuple[float, float],
    shifted: bool,
    truth: npt.NDArray[np.floating] | float,
) -> bool:
    """Whether (N, C) answers agree in what distinguishes the records, beyond what is true of them."""
    if max(stored) and not shifted:
        return True  # each value is the other's rounding
    a, b = a.astype(np.float64), b.astype(np.float64)
    if shifted:
        a, b = _centred(a), _centred(b)
    own = a - truth
    share = _SHARE if max(stored) else min(_SHARE, _SAMPLING / math.sqrt(len(a)))
    return float(np.square(a - b).mean()) <= share**2 * float(np.square(own - own.mean(axis=0)).mean()) + _TINY**2


def _distinct(a: Floats, shifted: bool) -> int | None:
    """How many different rows there are, where these are too few to tell networks apart; else None."""
    classes = len(np.unique(a.argmax(axis=1))) if shifted else 2
    rows = np.unique((_centred(a) if shifted else a).astype(np.float32), axis=0)
    return None if len(rows) >= classes + _SPARE else len(rows)


def _centred(a: npt.NDArray[np.floating]) -> Floats:
    centred: Floats = a - a.mean(axis=-1, keepdims=True)
    return centred
