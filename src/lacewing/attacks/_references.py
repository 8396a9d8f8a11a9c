"""Whether reference networks are what attacks take them for: distinct, none of them the target, and like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._logits import phi
from lacewing.attacks._types import Observed, References
from lacewing.errors import UsageError
from lacewing.metrics import Floats, auc, clopper_pearson

# Copies of one network's outputs differ by rounding alone. The coarsest storage in use is bfloat16, whose values are
# off by up to 2^-9 of themselves (float16: 2^-11): once for each copy, and once more where the rows' means, which may
# differ by a shift, are taken off. 2^-6 of a row's largest value is twice the sum.
_ROUNDING, _TINY = 2.0**-6, 1e-6
# Networks that are almost constant differ by less than the rounding of their level. So copies must also agree to 1 % of
# what distinguishes one record from another: two trainings of one recipe differ by far more of it.
_SHARE = 0.01
_PROBED = 64  # rows that every pair is compared on first
_ASKED = 16  # references whose certainty is compared
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

    Copies in float16 or bfloat16 are found, and copies with a constant added to each row. Answers that take hardly more
    values than there are classes cannot tell one network from two: where such are equal, a note is returned.

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
    rows = np.unique(np.linspace(0, len(answers[names[0]]) - 1, _PROBED).astype(int))
    probes = np.stack([answers[name][rows].astype(np.float64) for name in names])
    notes = []
    for i, name in enumerate(names):
        if latest is not None and name != latest:
            continue
        others = range(i) if latest is None else [j for j in range(len(names)) if j != i]
        close = _within_rounding(probes[i], probes[others], shifted)
        for other in (names[j] for j, near in zip(others, close, strict=True) if near):
            a, b = (answers[each].astype(np.float64) for each in (name, other))
            if not _within_rounding(a, b, shifted):
                continue
            distinct = _distinct(a, shifted)
            if distinct is not None:
                notes.append(
                    f"{name} and {other} answered the same everywhere, but took only {distinct} different answers: "
                    "whether they are one network cannot be told."
                )
            elif _alike(a, b, shifted, 0.0 if truth is None else truth):
                raise UsageError(f"{name} is the same network as {other}, by its answers: {mend}")
    return notes


def like_target(target: Observed, references: References) -> tuple[bool, str]:
    """Whether references of a classification know their own members, and others, about as well as the target.

    Mean accuracies must agree with the target's within 0.05 or three standard errors. No single reference may be at
    chance on its own members (not above the share of their most frequent class, one-sided 95 %) unless the target is.
    Where the target is more certain about members than about others (AUC of the log-odds above 0.5), so must references
    be, on average by a quarter as much: else they are not of the membership that was given. Returns the verdict and a
    sentence with numbers.
    """
    right_KN = np.argmax(references.logits_KNC, axis=2) == target.label_N
    own = np.argmax(target.logits_NC, axis=1) == target.label_N
    apart, kinds = list[str](), list[str]()
    mean: dict[str, list[str]] = {"target": [], "references": []}
    for kind, name in ((True, "members"), (False, "non-members")):
        there = (references.in_KN == kind).any(axis=1)
        if not there.any():
            continue
        theirs = np.array([right_KN[k][references.in_KN[k] == kind].mean() for k in np.flatnonzero(there)])
        mine = own[target.member_N == kind]
        error = math.sqrt(mine.var() / len(mine) + theirs.var() / len(theirs))
        if abs(theirs.mean() - mine.mean()) > max(TOLERANCE, 3 * error):
            apart.append(name)
        kinds.append(name)
        mean["target"].append(f"{mine.mean():.3f}")
        mean["references"].append(f"{theirs.mean():.3f}")
    wrong = [f"not alike on {' and '.join(apart)}, so a real attacker's would be better"] * bool(apart)
    lost = []
    if not _at_chance(own, target.label_N, target.member_N):
        each = zip(references.name_K, right_KN, references.in_KN, strict=True)
        lost = [name for name, right, inside in each if inside.any() and _at_chance(right, target.label_N, inside)]
    if lost:
        wrong.append(f"no better than chance on what they trained on: {_listed(lost)}")
    if (certainty := _membership(target, references)) is not None:
        wrong.append(certainty)
    said = ", ".join(f"{name} {' and '.join(values)}" for name, values in mean.items())
    return not wrong, f"Accuracy on {' and '.join(kinds)}: {said} on average: {'; '.join(wrong) or 'alike'}."


def _membership(target: Observed, references: References) -> str | None:
    """What is wrong where the target is more certain about its members, and references are not about theirs."""
    own = auc(phi(target.logits_NC, target.label_N), target.member_N)
    partly = np.flatnonzero(references.in_KN.any(axis=1) & ~references.in_KN.all(axis=1))[:_ASKED]
    if own.low <= 0.5 or not len(partly):
        return None
    theirs = [auc(phi(references.logits_KNC[k], target.label_N), references.in_KN[k]).value for k in partly]
    if np.mean(theirs) - 0.5 >= (own.value - 0.5) / 4:
        return None
    return (
        f"the target is more certain about its members (AUC {own.value:.3f}), references are not about theirs "
        f"({np.mean(theirs):.3f} on average): did they train on these records?"
    )


def _at_chance(right_N: npt.NDArray[np.bool_], label_N: npt.NDArray[np.integer], rows_N: npt.NDArray[np.bool_]) -> bool:
    right, labels = right_N[rows_N], label_N[rows_N]
    most = int(np.unique(labels, return_counts=True)[1].max())
    return clopper_pearson(int(right.sum()), len(right), confidence=0.9)[0] <= most / len(labels)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _within_rounding(a: Floats, b: Floats, shifted: bool) -> Any:
    """Whether (.., N, C) answers differ by no more than rounding, over the last two axes."""
    largest = np.maximum(np.abs(a).max(axis=-1, keepdims=True), np.abs(b).max(axis=-1, keepdims=True))
    if shifted:
        a, b = _centred(a), _centred(b)
    return (np.abs(a - b) <= _ROUNDING * largest + _TINY).all(axis=(-2, -1))


def _alike(a: Floats, b: Floats, shifted: bool, truth: npt.NDArray[np.floating] | float) -> bool:
    """Whether (N, C) answers agree in what distinguishes the records, beyond what is true of them."""
    if shifted:
        a, b = _centred(a), _centred(b)
    own = a - truth
    return float(np.square(a - b).mean()) <= _SHARE**2 * float(np.square(own - own.mean(axis=0)).mean())


def _distinct(a: Floats, shifted: bool) -> int | None:
    """How many different rows there are, where these are too few to tell networks apart; else None."""
    classes = len(np.unique(a.argmax(axis=1))) if shifted else 2
    rows = np.unique((_centred(a) if shifted else a).astype(np.float32), axis=0)
    return None if len(rows) >= classes + _SPARE else len(rows)


def _centred(a: Floats) -> Floats:
    centred: Floats = a - a.mean(axis=-1, keepdims=True)
    return centred
