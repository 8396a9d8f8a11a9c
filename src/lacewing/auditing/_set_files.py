"""Audits of sets of records in files, as the command line names them: of a network, or of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lacewing import sets
from lacewing.attacks._types import Task
from lacewing.auditing import _files, _inputs, _outputs
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._sets import audit_ranges, audit_usage
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.sets import SetResult, Usage
from lacewing.support.formats import Arrays
from lacewing.support.loading import load_function

_RANGES = ("x", "y", "member", "low", "high", "label")


def audit_ranges_files(
    *,
    model: str,
    weights: Path | str | None,
    data: Path | str,
    others: Sequence[Path | str] = (),
    task: Task = "classification",
    outputs: Outputs | None = None,
    **options: Any,
) -> SetResult:
    """``audit_ranges`` of a model in files.

    Args:
        model: see `audit_model_files`, as are ``weights``, ``task`` and ``outputs``.
        data: an ``.npz`` with ``x`` (N, D), ``y``, ``member`` (1 or 0), and of the ranges ``low`` and ``high`` (R, D)
            and ``label`` (R,).
        others: weights of further networks of the factory, which trained on none of these records.
        options: of `audit_ranges`.

    Raises:
        UsageError: a file is missing, of another kind, or does not fit the others; see also `audit_ranges`.
    """
    arrays = _files.arrays_of(Path(data), _RANGES, _RANGES)
    _outputs.check(task, outputs)
    records, member = _files.records_of(arrays, data, task)
    labels = records.form.labels(records.y)
    return audit_ranges(
        _files.model_of(model, weights, records, task),
        (records.x[member], labels[member]),
        (records.x[~member], labels[~member]),
        low=arrays["low"],
        high=arrays["high"],
        label=arrays["label"],
        others=[_files.network_of(model, each, records, task) for each in others],
        task=task,
        outputs=outputs,
        **options,
    )


def audit_usage_files(
    *,
    model: str,
    weights: Path | str | None,
    data: Path | str,
    refit: str,
    task: Task = "classification",
    outputs: Outputs | None = None,
    **options: Any,
) -> Usage:
    """``audit_usage`` of a model in files: ``data`` is an ``.npz`` with ``x`` and ``y``, ``refit`` a function's name.

    Other arguments and errors as for `audit_model_files` and `audit_usage`.
    """
    arrays = _files.arrays_of(Path(data), ("x", "y"), ("x", "y"))
    _outputs.check(task, outputs)
    records = _inputs.read((arrays["x"], arrays["y"]), f"{data}: x, y", task)
    return audit_usage(
        _files.model_of(model, weights, records, task),
        (records.x, records.form.labels(records.y)),
        refit=load_function(refit, "refit"),
        task=task,
        outputs=outputs,
        **options,
    )


def audit_range_scores(path: Path | str) -> SetResult:
    """Ranges by the scores of an attack: an ``.npz`` with ``score`` and ``member``, and optionally ``size``.

    ``score`` is (R,), of ranges, or (R, Q), of points within each; ``member`` (R,) is 1 where a range holds a member;
    ``size`` (R,) is how many records each holds. Raises `UsageError`, see `audit_ranges`.
    """
    arrays = _scores(path, ("score", "member", "size"), ("score", "member"))
    score, member = np.asarray(arrays["score"], np.float64), _flags(arrays, "member", path)
    if score.ndim not in (1, 2) or len(score) != len(member) or member.ndim != 1 or not np.isfinite(score).all():
        raise UsageError(
            f"{path}: score has shape {score.shape} and member {member.shape}: give a finite score of each range, or "
            "of each of its points, (ranges, points), and a flag a range."
        )
    size = arrays.get("size", np.ones(len(member)))
    if size.shape != member.shape or size.dtype.kind not in "uif" or not np.all(size >= 1):
        raise UsageError(f"{path}: size has shape {size.shape}: give how many records each range holds, at least 1.")
    points = score[:, None] if score.ndim == 1 else score
    variant = "given scores" if score.ndim == 1 else f"mean of the upper half of {points.shape[1]} points' given scores"
    return sets.of_sets("ranges", variant, sets.range_scores(points), member, size)


def audit_usage_scores(path: Path | str) -> Usage:
    """Usage by the scores of an attack: an ``.npz`` with ``score`` (N,), ``known_score`` and ``known_member`` (K, M).

    The known networks are of the same recipe, and their membership of the M records that the attack scored is known.
    Raises `UsageError`, see `lacewing.sets.usage`.
    """
    names = ("score", "known_score", "known_member")
    arrays = _scores(path, names, names)
    scores, members = arrays["known_score"], _flags(arrays, "known_member", path)
    if scores.ndim != 2 or members.shape != scores.shape:
        raise UsageError(
            f"{path}: known_score has shape {scores.shape} and known_member {members.shape}: give a row of each for "
            "every network of known membership."
        )
    return sets.usage(arrays["score"], [sets.Known(*pair) for pair in zip(scores, members, strict=True)])


def _scores(path: Path | str, names: Sequence[str], needed: Sequence[str]) -> Arrays:
    """Arrays of numbers."""
    arrays = _files.arrays_of(Path(path), names, needed, what="scores")
    for name, values in arrays.items():
        if values.dtype.kind not in "buif":
            raise UsageError(f"{path}: {name} holds {values.dtype} values: give numbers.")
    return arrays


def _flags(arrays: Arrays, name: str, path: Path | str) -> Bools:
    if not np.isin(arrays[name], (0, 1)).all():
        raise UsageError(f"{path}: {name} must hold 1 for members and 0 for the others.")
    return arrays[name].astype(bool)
