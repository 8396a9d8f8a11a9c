"""What a network answers, brought to one form: logits of classes or labels, or predicted quantities.

Every attack reads log-odds, so that probabilities are converted, exactly up to the rounding that they were given with.
What has lost the information that attacks read (rounded probabilities, the largest k alone) is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import Task
from lacewing.errors import UsageError, did_you_mean

Outputs = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]
Array = npt.NDArray[Any]
_ROWS_TO_TELL = 10  # of so few rows nothing is concluded
_SUM = 1e-3  # by which a row of probabilities may miss 1
_STEPS = (10, 100, 1_000, 10_000)  # values that are multiples of 1/step are rounded
_DIVIDED = 1_000  # rows of which is asked whether they were rounded and divided by their sum
_FILLED = 0.1  # share of all entries with one value, above which that value is a filler
_ALIKE = 0.9  # share of rows with k values above the smallest, from which on the others count as left out
_SMALLEST = 1e-6  # what a probability of 0 counts as, unless a smaller one is among them


def check(task: str, outputs: str | None) -> None:
    """Raises `UsageError` unless both are known and fit each other; ``outputs`` None: what they are is looked at."""
    if task not in get_args(Task):
        raise UsageError(f"task: there is no '{task}': {did_you_mean(str(task), get_args(Task))}")
    if outputs is not None and outputs not in get_args(Outputs):
        raise UsageError(f"outputs: there is no '{outputs}': {did_you_mean(str(outputs), get_args(Outputs))}")
    if task == "regression" and outputs is not None:
        raise UsageError(f"outputs = '{outputs}' says what the answers of classes are; leave it out of a regression.")
    if task == "multi-label" and outputs == "log-probabilities":
        raise UsageError(
            "outputs = 'log-probabilities' are of classes; a multi-label model answers logits or sigmoids."
        )


def check_columns(columns: int, task: Task, name: str) -> None:
    """Raises `UsageError` for classes in a single column, and for more than two columns of a binary task."""
    if task == "classification" and columns < 2:
        raise UsageError(
            f"{name} are one number a record: say what it is, task='binary' (the logit or probability of class 1) or "
            "task='regression'; a classifier answers a column for each of its classes."
        )
    if task == "binary" and columns > 2:
        raise UsageError(f"{name} have {columns} columns: a binary model answers one or two; leave out task='binary'.")


def as_logits(
    answers: Array, task: Task, outputs: Outputs | None, name: str, like: Form | None = None
) -> tuple[Array, Form, str | None]:
    """Logits (.., N, C) of the answers (.., N, C or 1), their form, and a note where that was told by their values.

    Args:
        answers: finite numbers.
        task: a binary model's single column becomes two, (0, logit of class 1); quantities stay as they are.
        outputs: what they are; None: rows that sum to 1 are probabilities, all else that passes for logits is.
        name: of the answers, for messages.
        like: the form of the target's answers, whose floors serve, so that a probability of 0 counts the same.

    Raises:
        UsageError: they are not what ``outputs`` says, were rounded or cut, or are not told from probabilities.
    """
    if task == "regression":
        return answers, Form("logits"), None
    single = task == "binary" and answers.shape[-1] == 1
    rows = answers.reshape(-1, answers.shape[-1])
    alone = single or task == "multi-label"  # each number is one of its own, not a share of its row
    note = None
    kind = outputs or _told(rows, alone, single, name)
    if outputs is not None:
        _check(rows, kind, alone, name)
    if len(rows) >= _ROWS_TO_TELL:
        note = _refuse_lost(rows, kind, alone=alone, declared=outputs is not None, name=name)
    if outputs is None and kind == "probabilities":
        note = f"{name} were taken as probabilities, since each row sums to 1."
    floors = (like.least, like.least_left) if like else (_least(answers), _least(1.0 - answers))
    form = Form(kind, single, task == "multi-label", *floors)
    return form.logits(np, answers), form, note


@dataclass(frozen=True)
class Form:
    """In which form a network answers, and what a probability of 0 or 1 counts as."""

    kind: Outputs
    single: bool = False  # of a binary model: one column, that of class 1
    labels: bool = False  # of a multi-label model: each column on its own
    least: float = _SMALLEST
    least_left: float = _SMALLEST  # of 1 - p

    def logits(self, xp: Any, answers: Any) -> Any:
        """Logits (.., C) of answers (.., C or 1), an array or tensor, by the functions of ``xp``, numpy or torch."""
        if self.kind == "sigmoid" or (self.kind == "probabilities" and (self.single or self.labels)):
            odds = xp.log(xp.clip(answers, self.least, None)), xp.log(xp.clip(1.0 - answers, self.least_left, None))
            logits = odds[0] - odds[1]
        elif self.kind == "probabilities":
            logits = xp.log(xp.clip(answers, self.least, None))
        elif self.kind == "log-probabilities" and self.single:
            logits = answers - xp.log(xp.clip(-xp.expm1(answers), self.least_left, None))
        else:
            logits = answers
        return xp.concatenate([0.0 * logits, logits], -1) if self.single else logits


def _least(p: Array) -> float:
    """The smallest probability above 0, or one in a million: a 0 counts as that."""
    positive = p[p > 0]
    return min(_SMALLEST, float(positive.min())) if positive.size else _SMALLEST


def _told(rows: Array, alone: bool, single: bool, name: str) -> Outputs:
    """What the answers are, by their values."""
    if len(rows) < _ROWS_TO_TELL:
        return "logits"
    if rows.min() >= 0 and rows.max() <= 1:
        if not alone and _sums_to_one(rows):
            return "probabilities"
        _refuse_incomplete(rows, alone, name)
        if not alone:
            _refuse_cut(rows, name)
        meant = "'probabilities' (of class 1)" if single else "'sigmoid' (each column between 0 and 1 on its own)"
        raise UsageError(
            f"{name} lie between 0 and 1, and do not look like logits: say what they are, outputs={meant}"
            f"{' or outputs=' + repr('logits') if alone or rows.shape[1] < 3 else ''}."
        )
    if not alone and rows.max() <= 0 and _sums_to_one(np.exp(rows)):
        return "log-probabilities"
    return "logits"


def _check(rows: Array, kind: Outputs, alone: bool, name: str) -> None:
    """Refuse answers that are not what they are said to be."""
    if kind == "logits":
        if alone or len(rows) < _ROWS_TO_TELL or rows.min() < 0:
            return
        if _sums_to_one(rows):
            raise UsageError(f"{name} are probabilities (each row sums to 1): say outputs='probabilities'.")
        _refuse_incomplete(rows, alone, name)
        if rows.max() <= 1 and rows.shape[1] > 2:
            raise UsageError(
                f"{name} all lie between 0 and 1, as sigmoids do and logits do not: say outputs='sigmoid'."
            )
        return
    p = np.exp(rows) if kind == "log-probabilities" else rows
    if p.min() < 0 or p.max() > 1 + _SUM:
        raise UsageError(f"{name} range from {rows.min():.4g} to {rows.max():.4g}: they are no {kind}.")
    if kind != "sigmoid" and not alone and not _sums_to_one(p):
        sums = p.sum(axis=1)
        raise UsageError(
            f"{name}: rows of {kind} must sum to 1, and these sum to between {sums.min():.3f} and {sums.max():.3f}: "
            "give every class, unrounded, or the logits."
        )


def _refuse_lost(rows: Array, kind: Outputs, *, alone: bool, declared: bool, name: str) -> str | None:
    """Refuse answers that lost what attacks read: rounded, cut to the largest few, or the predicted class alone.

    Returns a note where they may have been rounded and are declared to be what they are.
    """
    shares = kind in ("probabilities", "log-probabilities") and not alone  # of a row that sums to 1
    if len(np.unique(rows)) <= 2:
        if declared and shares:
            return None  # of a tree whose leaves hold one class each
        raise UsageError(
            f"{name} take two values alone, as predicted classes do: give probabilities or logits"
            f"{' (of a fully grown tree say outputs=' + repr('probabilities') + ')' if shares else ''}."
        )
    if kind == "logits":
        sums = rows.sum(axis=1)
        if not alone and rows.min() >= 0 and rows.max() > 1 and np.ptp(sums) <= _SUM * sums.mean():
            raise UsageError(
                f"each row of {name} sums to {sums[0]:.4g}: if they are percentages or votes, divide them by that and "
                "say outputs='probabilities'."
            )
    elif (step := _step(_floored(rows, kind))) is not None:
        return _votes(np.exp(rows) if kind == "log-probabilities" else rows, step, kind, alone, declared, name)
    if shares:
        _refuse_divided(_floored(rows, kind), name)
        _refuse_few(rows, name)
    elif kind == "logits" and not declared and not alone:
        _refuse_cut(rows, name)
    usual = rows == (rows.min() if shares else 1.0 if kind == "sigmoid" else np.nan)  # values that may repeat in a row
    _refuse_filled(np.where(usual, np.nan, rows), name)
    return None


def _sums_to_one(p: Array) -> bool:
    return bool((np.abs(p.sum(axis=1, dtype=np.float64) - 1.0) <= _SUM).all())


def _refuse_incomplete(rows: Array, alone: bool, name: str) -> None:
    """Refuse rows that nearly sum to 1."""
    sums = rows.sum(axis=1)
    if not alone and rows.max() <= 1 and np.median(np.abs(sums - 1)) < 0.05:
        raise UsageError(
            f"{name} are rounded or incomplete probabilities: their rows sum to between {sums.min():.3f} and "
            f"{sums.max():.3f}, not to 1. Rounding hides what attacks read: give them in full, or the logits."
        )


def _refuse_filled(rows: Array, name: str) -> None:
    """Refuse rows of which most repeat one value in a third of their columns, in place of what was left out."""
    classes = rows.shape[1]
    times = max(2, -(-classes // 3))
    varied = np.sort(rows[(rows != rows[:, :1]).any(axis=1)], axis=1)
    if classes < 3 or not len(varied):
        return
    filled = (varied[:, times - 1 :] == varied[:, : classes - times + 1]).any(axis=1).mean()
    if filled > 0.5:
        raise UsageError(
            f"{name} repeat one value in {times} or more of {classes} columns, in {filled:.0%} of the rows: only the "
            "largest outputs seem to be there. Give the logits of all classes."
        )


def _refuse_few(rows: Array, name: str) -> None:
    """Refuse probabilities of which every row holds the largest k alone."""
    given = (rows > rows.min()).sum(axis=1)
    k = int(np.median(given))
    if 1 < k < rows.shape[1] and np.mean(given == k) > _ALIKE:
        raise UsageError(
            f"{name} give {k} of {rows.shape[1]} classes a probability in nearly every row: the others seem to be left "
            "out. Give the probabilities or logits of all classes."
        )


def _refuse_cut(rows: Array, name: str) -> None:
    """Refuse rows in which one value stands for what was left out: the largest k alone, or logits cut at 0.

    Such a value stands in many columns. A value that repeats in one column is no filler: a network whose hidden units
    are all at zero answers its biases. Nor is it in rows that are constant.
    """
    varied = rows[(rows != rows[:, :1]).any(axis=1)]
    if rows.shape[1] < 3 or varied.size == 0:
        return
    largest = varied == varied.max(axis=1, keepdims=True)  # 0 where the usual way to stabilise has subtracted it
    values, counts = np.unique(varied[~largest], return_counts=True)
    if not values.size:
        return
    most, times = values[counts.argmax()], int(counts.max())
    of_columns = ((varied == most) & ~largest).sum(axis=0)
    if times > max(_FILLED * varied.size, 2) and of_columns.max() < _ALIKE * times:
        raise UsageError(
            f"{name} hold the value {most:.6g} in {times / varied.size:.0%} of their places: only the largest outputs "
            "seem to be there, or they were cut or rounded. Give the logits of all classes (say outputs='logits' if "
            "the model bounds its logits itself)."
        )


def _floored(rows: Array, kind: Outputs) -> Array:
    """The probabilities, of log-probabilities with the smallest as 0, which has no logarithm."""
    p = (np.exp(rows) if kind == "log-probabilities" else rows).astype(np.float64)
    return np.where(p <= math.exp(rows.min()) * 1.01, 0.0, p) if kind == "log-probabilities" else p


def _step(p: Array) -> int | None:
    """1/step is what all probabilities are multiples of; None: they are multiples of nothing down to 1/10,000.

    Of values other than 0 and 1, since a sure network answers these, and nearly these, without rounding.
    """
    inner = p[(p != 0) & (p != 1)]
    for step in _STEPS:
        nearest = np.round(inner * step)
        close = np.abs(inner * step - nearest) < 3e-7 * step + 1e-6
        if inner.size and (close & (nearest > 0) & (nearest < step)).all():
            return step
    return None


def _refuse_divided(p: Array, name: str) -> None:
    """Refuse probabilities that were rounded, and then divided by the sum of their row so that it is 1 again.

    Each row holds multiples of 1/s with s near 100 or 1,000: what its rounded values added up to. An s that serves all
    rows is a number of votes; where far smaller ones serve most rows, they are counts in the leaves of a tree.
    """
    some = p[:: -(-len(p) // _DIVIDED)]
    inner = some[((some > 0) & (some < 1)).sum(axis=1) > 1]
    if len(inner) < _ROWS_TO_TELL:
        return
    for step in (100, 1_000):
        off = math.ceil(3 * math.sqrt(p.shape[1] / 12)) + 1  # the sum of C rounding errors, in steps
        fits = np.stack([_multiples(inner, s) for s in range(step - off, step + off + 1)])
        if not fits.any(axis=0).all() or fits.all(axis=1).any():
            continue
        if np.mean(np.any([_multiples(inner, s) for s in range(2, step // 2 + 1)], axis=0)) < 0.5:
            raise UsageError(
                f"{name} are probabilities rounded to multiples of {1 / step:g} and then divided by the sum of each "
                "row. Rounding hides what attacks read: give them in full, or the logits."
            )


def _multiples(p: Array, s: int) -> Array:
    """Which rows hold multiples of 1/s alone."""
    parts = p * s
    rows: Array = ((np.abs(parts - np.round(parts)) < 3e-7 * s + 1e-6) & ((parts > 0.5) | (p == 0))).all(axis=1)
    return rows


def _votes(p: Array, step: int, kind: Outputs, alone: bool, declared: bool, name: str) -> str:
    """A note about probabilities that are multiples of 1/step: votes, as of a forest, which sum to 1 exactly.

    Raises `UsageError` where they are not declared to be probabilities, or do not sum to 1: then they were rounded.
    """
    exact = alone or bool((np.abs(p.sum(axis=1, dtype=np.float64) - 1) < 1e-5 * p.shape[1]).all())
    if not (declared and exact):
        mend = f" (of votes of a forest, which are such multiples, say outputs='{kind}')" if exact else ""
        raise UsageError(
            f"{name} are probabilities rounded to multiples of {1 / step:g}, which hides what attacks read: give them "
            f"in full, or the logits{mend}."
        )
    return (
        f"{name} are multiples of {1 / step:g}: exact if they are votes, as of a forest; if they were rounded, the "
        "leak is larger than it looks."
    )
