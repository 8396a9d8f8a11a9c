"""Labels of every task, and what a network's answers say about them: one number a record, higher for members.

- classification, binary: log-odds of the given class, which the attacks compute from logits themselves;
- multi-label (L labels, 0 or 1): the sum over labels of the log-odds of the given value;
- regression (D quantities): minus the logarithm of the squared error, each quantity in units of its variance, averaged
  over quantities. It ranks records as the negative squared error does (for D = 1 as the absolute error, too), and the
  difference of two networks is the logarithm of the ratio of their errors, so that references scale it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attacks._deciding import SelfCheck
from lacewing.attacks._order import labels_in_order
from lacewing.attacks._types import CLASSES, Observed, Task
from lacewing.attacks.selfchecks import same_labels
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats

Array = npt.NDArray[Any]
_EXACT = 1e-6  # of the labels' variance, added to every squared error: an error of 0 stays finite


def checked_labels(labels: Array, task: Task, name: str) -> Array:
    """(N,) int64 classes from 0; (N, L) int64 of 0 and 1; or (N, D) float64 quantities.

    Raises `UsageError` that names ``name`` and says which task the labels look like, for none is guessed.
    """
    if task == "regression":
        return _quantities(labels, name)
    if task == "multi-label":
        return _several(labels, name)
    if labels.ndim == 2 and labels.shape[1] > 1:
        one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        mend = (
            "these rows are one-hot, so give y.argmax(1)"
            if one_hot
            else "say task='multi-label' if a record may have several labels, task='regression' for quantities"
        )
        raise UsageError(f"{name} has shape {labels.shape}, and a class is one number a record: {mend}.")
    if labels.ndim != 1:
        raise UsageError(f"{name} has shape {labels.shape}: give one label a record, such as y.ravel() of a column.")
    if labels.dtype.kind not in "buif":
        raise UsageError(
            f"{name} has dtype {labels.dtype}, and classes are whole numbers from 0: give classes=, their "
            "names in the order of the model's answers, or number them as the model does."
        )
    if labels.dtype.kind == "f":
        whole = bool((labels == np.floor(labels)).all())
        mend = ("give y.astype(int) for classes, or " if whole else "") + "say task='regression' for quantities"
        raise UsageError(f"{name} has dtype {labels.dtype}, and classes are whole numbers from 0: {mend}.")
    if len(labels) and labels.min() < 0:
        mend = "-1 and 1 become 0 and 1 by (y + 1) // 2" if set(np.unique(labels)) <= {-1, 1} else "number them anew"
        raise UsageError(f"{name} holds {labels.min()}: classes must be whole numbers from 0 to classes - 1; {mend}.")
    if task == "binary" and len(labels) and labels.max() > 1:
        raise UsageError(f"{name} holds {labels.max()}: labels of a binary task are 0 and 1.")
    return labels.astype(np.int64)


def check_fit(columns: int, labels: Array, task: Task, name: str) -> None:
    """Raises `UsageError` unless answers of so many columns go with the checked labels."""
    if task in CLASSES:
        if labels.max() >= columns:
            raise UsageError(
                f"y holds the label {labels.max()}, and {name} answers {columns} classes: labels must be below that."
            )
    elif columns != labels.shape[1]:
        raise UsageError(f"{name} answers {columns} numbers a record and y has {labels.shape[1]}: give as many labels.")


def scored(
    answers: Array, labels: Array, task: Task, name: str, *, variance_D: Floats | None = None
) -> tuple[Array, npt.NDArray[np.int64]]:
    """(.., N, C) logits and (N,) labels as the attacks take them, of answers (.., N, C) and checked labels.

    Multi-label, regression: C = 2, logits (0, number), label 1. ``variance_D`` is that of the audited records'
    quantities, for records of a population; None: of the labels given. Raises `UsageError` where answers and labels
    do not fit each other.
    """
    check_fit(answers.shape[-1], labels, task, name)
    if task in CLASSES:
        return answers, labels
    number = _number(answers.astype(np.float64), labels, task, variance_D)
    return np.stack([np.zeros_like(number), number], axis=-1), np.ones(len(labels), np.int64)


class Quality(NamedTuple):
    """How well a network answers: a share or R^2 of members and of non-members, and each record's gain."""

    members: float
    nonmembers: float
    benefit_N: Floats | None  # over the best constant answer; None: classes, whose answers are right or wrong


def quality(answers: Array, labels: Array, member_N: Bools, task: Task) -> Quality:
    """Shares of right answers, (classification, binary), of right labels (multi-label), or R^2 (regression).

    R^2 is 1 - (sum of squared errors) / (sum of squares about the mean of each side), averaged over quantities. The
    constant answer of a regression is the members' mean; labels are compared with chance by their ranking.
    """
    if task in CLASSES:
        right = np.argmax(answers, axis=1) == labels
        return Quality(float(right[member_N].mean()), float(right[~member_N].mean()), None)
    if task == "multi-label":
        hits = ((answers > 0) == labels).mean(axis=1)
        return Quality(float(hits[member_N].mean()), float(hits[~member_N].mean()), _ranked(answers, labels, member_N))
    answers = answers.astype(np.float64)
    explained = []
    for side in (member_N, ~member_N):
        total = np.maximum(((labels[side] - labels[side].mean(axis=0)) ** 2).sum(axis=0), np.finfo(float).tiny)
        explained.append(float(np.mean(1 - ((labels[side] - answers[side]) ** 2).sum(axis=0) / total)))
    _check_units(answers[member_N], labels[member_N], explained[0])
    return Quality(explained[0], explained[1], _gained(answers, labels, member_N))


def checks(answers: Array, labels: Array, observed: Observed) -> tuple[SelfCheck, ...]:
    """The self-checks that need the labels themselves, of answers (N, C) to all records."""
    of = observed.member_N
    order = labels_in_order(answers[of], labels[of], observed.task) if observed.task != "regression" else None
    source = same_labels(labels, observed) if observed.task not in CLASSES else None
    return tuple(check for check in (order, source) if check is not None)


def benefits(answers_KNC: Array, labels: Array, in_KN: Bools, task: Task) -> Floats | None:
    """(K, N): the gains of K networks, each beside its own members; None: classes.

    A network without members is compared with the best constant answer to all records.
    """
    if task in CLASSES:
        return None
    sides = (inside if inside.any() else ~inside for inside in in_KN)
    gain = _ranked if task == "multi-label" else _gained
    return np.stack([gain(answers, labels, of) for answers, of in zip(answers_KNC, sides, strict=True)])


def _gained(answers: Array, labels: Array, member_N: Bools) -> Floats:
    """(N,) by how much squared errors are below those of the members' mean, in units of the members' variance."""
    spread = np.maximum(labels[member_N].var(axis=0), np.finfo(float).tiny)
    squares = (labels - labels[member_N].mean(axis=0)) ** 2 - (labels - answers.astype(np.float64)) ** 2
    gain: Floats = (squares / spread).mean(axis=1)
    return gain


def _ranked(answers: Array, labels: Array, member_N: Bools) -> Floats:
    """(N,) values whose mean over a side is the AUC of its labels, less 1/2, averaged over labels that vary there.

    Their spread is that of the AUC (DeLong et al., Biometrics 44, 1988): a record adds to the AUC by how much the
    share of records that it is ranked right of differs from the AUC, over the share of records that are like it.
    An AUC needs no cut, so that rare labels and weighted losses, of which all answers may lie on one side, count too.
    """
    ranked = np.zeros(len(labels))
    for side in (member_N, ~member_N):
        parts = []
        for answer, has in zip(answers[side].T, labels[side].T == 1, strict=True):
            if has.all() or not has.any():
                continue
            inside, outside = np.sort(answer[has]), np.sort(answer[~has])
            below = (np.searchsorted(outside, answer, "left") + np.searchsorted(outside, answer, "right")) / 2
            above = (
                len(inside) - (np.searchsorted(inside, answer, "left") + np.searchsorted(inside, answer, "right")) / 2
            )
            share = np.where(has, below / len(outside), above / len(inside))
            auc = float(share[has].mean())
            parts.append(auc - 0.5 + (share - auc) / np.where(has, has.mean(), 1 - has.mean()))
        if parts:
            ranked[side] = np.mean(parts, axis=0)
    return ranked


def _check_units(answers: Floats, labels: Floats, explained: float) -> None:
    """Raises `UsageError` where answers are those of the labels in another unit: a line maps them far better."""
    if answers.shape[1] > 1 or not (answers.std() > 0 and labels.std() > 0):
        return
    correlation = float(np.corrcoef(answers[:, 0], labels[:, 0])[0, 1])
    slope = correlation * float(labels.std() / answers.std())
    if correlation**2 > max(0.3, explained + 0.2) and not 1 / 3 < slope < 3:
        raise UsageError(
            f"the answers explain {explained:.0%} of the members' quantities, and {correlation**2:.0%} if they are "
            f"multiplied by {slope:.3g}: y and the answers seem to be in different units; give both in one."
        )


def _number(answers: Floats, labels: Array, task: Task, variance_D: Floats | None) -> Floats:
    if task == "multi-label":
        odds: Floats = ((2 * labels - 1) * answers).sum(axis=-1)
        return odds
    variance = labels.var(axis=0) if variance_D is None else variance_D
    scaled = (answers - labels) ** 2 / np.where(variance > 0, variance, 1.0)
    number: Floats = -np.log(scaled.mean(axis=-1) + _EXACT)
    return number


def _quantities(labels: Array, name: str) -> Floats:
    if labels.dtype.kind not in "buif" or labels.ndim not in (1, 2):
        raise UsageError(f"{name} has dtype {labels.dtype} and shape {labels.shape}: give quantities, (N,) or (N, D).")
    quantities: Floats = labels.astype(np.float64).reshape(len(labels), -1)
    if not np.isfinite(quantities).all():
        raise UsageError(f"{name} holds NaN or infinite values: drop these records.")
    if len(quantities) and (quantities == quantities[0]).all():
        raise UsageError(f"{name} holds the same quantity for every record: there is nothing to predict.")
    return quantities


def _several(labels: Array, name: str) -> npt.NDArray[np.int64]:
    if labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise UsageError(f"{name} has shape {labels.shape}: give (N, L), 1 for each label that a record has, else 0.")
    return labels.astype(np.int64)
