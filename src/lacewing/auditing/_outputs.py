"""What a network answers, brought to one form: logits of classes or labels, or predicted quantities.

Every attack reads log-odds, so that probabilities are converted, exactly up to the rounding that they were given with.
What has lost the information that attacks read (rounded probabilities, the largest k alone) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import CLASSES, Task
from lacewing.errors import UsageError, did_you_mean

Outputs = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]
Array = npt.NDArray[Any]
_ROWS_TO_TELL = 10  # of so few rows nothing is concluded
_SUM = 1e-3  # by which a row of probabilities may miss 1
_STEPS = (10, 100, 1_000, 10_000)  # values that are multiples of 1/step are rounded
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


def as_logits(answers: Array, task: Task, outputs: Outputs | None, name: str) -> tuple[Array, Form, str | None]:
    """Logits (.., N, C) of the answers (.., N, C or 1), their form, and a note where that was told by their values.

    Args:
        answers: finite numbers.
        task: a binary model's single column becomes two, (0, logit of class 1); quantities stay as they are.
        outputs: what they are; None: rows that sum to 1 are probabilities, all else that passes for logits is.
        name: of the answers, for messages.

    Raises:
        UsageError: they are not what ``outputs`` says, were rounded or cut, or are not told from probabilities.
    """
    if task == "regression":
        return answers, Form("logits"), None
    single = task == "binary" and answers.shape[-1] == 1
    note = None
    if outputs is None:
        kind, note = _told(answers, task, single, name)
    else:
        kind = outputs
        _check(answers, kind, single or task == "multi-label", name)
    if kind in ("probabilities", "sigmoid") and not np.logical_or(answers == 0, answers == 1).all():
        _refuse_rounded(answers, declared=outputs is not None, one_a_row=single or task == "multi-label", name=name)
    elif kind in ("probabilities", "sigmoid"):
        raise UsageError(f"{name} are 0 and 1 alone: give probabilities or logits, not the predicted class.")
    form = Form(kind, single, task == "multi-label", _least(answers), _least(1.0 - answers))
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


def _told(answers: Array, task: Task, single: bool, name: str) -> tuple[Outputs, str | None]:
    """What the answers are, by their values."""
    rows = answers.reshape(-1, answers.shape[-1])
    if len(rows) < _ROWS_TO_TELL:
        return "logits", None
    if rows.min() >= 0 and rows.max() <= 1:
        if not single and task in CLASSES and _sums_to_one(rows):
            _refuse_few(rows, name)
            return "probabilities", f"{name} were taken as probabilities, since each row sums to 1."
        _refuse_cut(rows, name)
        meant = "'probabilities' (of class 1)" if single else "'sigmoid' (each column between 0 and 1 on its own)"
        sums = rows.sum(axis=1)
        if not single and task in CLASSES and np.median(np.abs(sums - 1)) < 0.05:
            raise UsageError(
                f"{name} are rounded or incomplete probabilities: their rows sum to between {sums.min():.3f} and "
                f"{sums.max():.3f}, not to 1. Rounding hides what attacks read: give them in full, or the logits."
            )
        raise UsageError(
            f"{name} lie between 0 and 1, and do not look like logits: say what they are, outputs={meant} or 'logits'."
        )
    if not single and task in CLASSES and rows.max() <= 0 and _sums_to_one(np.exp(rows)):
        p = np.exp(rows)
        _refuse_few(rows, name)
        _refuse_rounded(p, declared=False, one_a_row=False, name=name, floor=p.min())
        return "log-probabilities", None
    _refuse_cut(rows, name)
    return "logits", None


def _check(answers: Array, kind: Outputs, one_a_row: bool, name: str) -> None:
    """Refuse answers that are not what they are said to be."""
    rows = answers.reshape(-1, answers.shape[-1])
    if kind == "logits":
        if not one_a_row and len(rows) >= _ROWS_TO_TELL and rows.min() >= 0 and _sums_to_one(rows):
            raise UsageError(f"{name} are probabilities (each row sums to 1): say outputs='probabilities'.")
        return
    p = np.exp(rows) if kind == "log-probabilities" else rows
    if p.min() < 0 or p.max() > 1 + _SUM:
        raise UsageError(f"{name} range from {rows.min():.4g} to {rows.max():.4g}: they are no {kind}.")
    if kind != "sigmoid" and not one_a_row and not _sums_to_one(p):
        sums = p.sum(axis=1)
        raise UsageError(
            f"{name}: rows of {kind} must sum to 1, and these sum to between {sums.min():.3f} and {sums.max():.3f}: "
            "give every class, unrounded, or the logits."
        )
    if kind != "sigmoid" and not one_a_row:
        _refuse_few(rows, name)
    if kind == "log-probabilities":
        _refuse_rounded(p, declared=True, one_a_row=one_a_row, name=name, floor=p.min())


def _sums_to_one(p: Array) -> bool:
    return bool((np.abs(p.sum(axis=1, dtype=np.float64) - 1.0) <= _SUM).all())


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
    values, place, counts = np.unique(varied, return_inverse=True, return_counts=True)
    most = int(counts.argmax())
    of_columns = (place.reshape(varied.shape) == most).sum(axis=0)
    if counts[most] > max(_FILLED * varied.size, 2) and of_columns.max() < _ALIKE * counts[most]:
        raise UsageError(
            f"{name} hold the value {values[most]:.6g} in {counts[most] / varied.size:.0%} of their places: only the "
            "largest outputs seem to be there, or they were cut or rounded. Give the logits of all classes."
        )


def _refuse_rounded(p: Array, *, declared: bool, one_a_row: bool, name: str, floor: float | None = None) -> None:
    """Refuse probabilities that are all multiples of a tenth to a ten-thousandth; votes of a forest, which are exact
    and sum to 1, pass where they are declared to be probabilities."""
    rows = p.reshape(-1, p.shape[-1]).astype(np.float64)
    if len(rows) < _ROWS_TO_TELL:
        return
    values = rows if floor is None else rows[rows > floor * 1.01]
    step = next((step for step in _STEPS if (np.abs(values * step - np.round(values * step)) < 1e-4).all()), None)
    if step is None:
        return
    exact = not one_a_row and (np.abs(rows.sum(axis=1) - 1) < 1e-6).all()
    if declared and exact:
        return
    mend = " (or say outputs='probabilities' if the model's answers are such steps, as votes of a forest are)"
    raise UsageError(
        f"{name} are probabilities rounded to multiples of {1 / step:g}, which hides what attacks read: give them in "
        f"full, or the logits{mend if exact and not declared else ''}."
    )
