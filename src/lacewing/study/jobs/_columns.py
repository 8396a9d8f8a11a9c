"""[attribute]: guess columns of the audited records from a network's answers under each value, and by imputation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import attribute
from lacewing.attacks import phi
from lacewing.errors import DivergedError, UsageError
from lacewing.study.jobs._stored import POPULATION
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.plan import NetworkJob

if TYPE_CHECKING:
    from torch import nn

_OTHERS = (2, 3)  # in `Split.part_N`: the shadow's records, of which the target network knows nothing


def guess_columns(
    work: Workspace, job: NetworkJob, model: nn.Module, audited_N: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[Any]]:
    """Whether each attack, and imputation, guesses each of J attributes of each audited record; False of the others.

    Raises:
        DivergedError: the network answers with NaN or infinity.
    """
    declared, records = work.study.attribute, work.records
    assert declared is not None
    known = _known(work, job.seed)
    places = declared.places(work.dataset.columns)
    hits = {name: np.zeros((len(records), len(places)), bool) for name in (*attribute.ATTACKS, "imputed")}
    counts = []
    for place, (columns, name) in enumerate(zip(places, declared.names, strict=True)):
        values, code = attribute.values_of(records.x, columns, f"column {name}")
        parts = [
            attribute.rows(records.x[rows], records.y[rows], code[rows], columns)
            for rows in (np.flatnonzero(audited_N), known)
        ]
        answers = _under_each(work, job, model, records.x[audited_N], records.y[audited_N], columns, values)
        found = attribute.guesses(answers, parts[0], parts[1], len(values), seed=job.seed)
        for attack, guess_N in {**found.by_attack, "imputed": found.imputed_N}.items():
            hits[attack][audited_N, place] = guess_N == parts[0].value_N
        counts.append(len(values))
    return {**{f"{name}_NJ": hit for name, hit in hits.items()}, "values_J": np.array(counts, np.int32)}


def named_places(work: Workspace) -> tuple[tuple[int, ...], ...] | None:
    """The places of the columns of [attribute], which keys hold where it calls any by its name; None: it does not.

    Raises:
        UsageError: the table has no column of this name.
    """
    declared = work.study.attribute
    if declared is None or not any(isinstance(each, str) for each in declared.columns):
        return None
    return declared.places(work.dataset.columns)


def check_columns(work: Workspace) -> None:
    """Refuse columns that these records have not, or of which nobody could learn anything.

    Raises:
        UsageError: it names the column and the mend.
    """
    declared, records = work.study.attribute, work.records
    if declared is None:
        return
    if records.x.ndim != 2:
        shape = " x ".join(map(str, records.x.shape[1:]))
        raise UsageError(
            f"attribute.columns: a record of {records.dataset} is {shape}, and a column is one of a table."
        )
    width = records.x.shape[1]
    for columns, name in zip(declared.places(work.dataset.columns), declared.names, strict=True):
        if max(columns) >= width:
            raise UsageError(
                f"attribute.columns: there is no column {max(columns)}: the table has {width}, from 0 to {width - 1}."
            )
        if len(columns) == width:
            raise UsageError("attribute.columns: they are all columns of the table; leave another.")
        try:
            _, code = attribute.values_of(records.x, columns, f"column {name}")
        except UsageError as error:
            raise UsageError(f"attribute.columns: {error}") from None
        for seed in work.study.run.seeds:
            if len(np.unique(code[_known(work, seed)])) < 2:
                raise UsageError(
                    f"attribute.columns: column {name} has one value in the records that imputation learns from in "
                    f"seed {seed}: name a column that varies more, or raise data.records."
                )


def _known(work: Workspace, seed: int) -> npt.NDArray[np.int64]:
    """The records that imputation learns from: the target network's are not among them, nor those it is audited on.

    Raises:
        UsageError: there are none.
    """
    part = work.split(seed).part_N(len(work.records))
    if work.study.data.split == "four-way":
        return np.flatnonzero(np.isin(part, _OTHERS))
    found = np.flatnonzero(part == POPULATION)
    if len(found) < 2:
        raise UsageError(
            "attribute: imputation learns from records that no network trains on: set data.population, e.g. to 0.2."
        )
    return found


def _under_each(
    work: Workspace,
    job: NetworkJob,
    model: nn.Module,
    x_ND: npt.NDArray[Any],
    label_N: npt.NDArray[np.int64],
    columns: tuple[int, ...],
    values_VP: npt.NDArray[Any],
) -> attribute.Answers:
    """What the network answers with the columns set to each of their values."""
    from lacewing import signals

    odds, answer, right = [], [], []
    for value in values_VP:
        asked = x_ND.copy()
        asked[:, list(columns)] = value
        none = np.zeros(len(asked), bool)
        logits, _ = signals.observe(model, asked, normalisation=work.normalisation, sensitivity_of=none, draws=1)
        if not np.isfinite(logits).all():
            raise DivergedError(f"{job.id}: the trained network answers with NaN or infinity; try a smaller train.lr.")
        best = logits.argmax(axis=1)
        odds.append(phi(logits, label_N))
        answer.append(phi(logits, best))
        right.append(best == label_N)
    limit = attribute.ODDS
    odds_NV, answer_NV = (np.clip(np.stack(each, axis=1), -limit, limit) for each in (odds, answer))
    return attribute.Answers(odds_NV, answer_NV, np.stack(right, axis=1))
