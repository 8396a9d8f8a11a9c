"""What an attacker knows about an unknown column, and every guess of it from a network's answers under each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attribute._guess import Floats, Indices, by_confidence, by_label, imputation, likeliest
from lacewing.config import MOST_VALUES
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.support.mapped import Stored, blocks

ODDS = 1e6  # log-odds are cut at this, since a network that answers with infinities is as sure as one can be
_KNOWS = "The attacker knows a record but for the column, with its label,"
ATTACKS: Mapping[str, str] = {
    "csmia": f"{_KNOWS} and sees the model's class probabilities under each value of the column.",
    "lomia": f"{_KNOWS} and sees the model's predicted class under each value of the column.",
    "likeliest": f"{_KNOWS} sees the model's class probabilities under each value, and has records of the same source "
    "to learn from which value goes with the other columns.",
}
IMPUTATION = f"{_KNOWS} and has records of the same source."


class Rows(NamedTuple):
    """Records of a table, without the column."""

    other_NF: Floats
    label_N: Indices
    value_N: Indices  # of the column, 0..V-1


class Answers(NamedTuple):
    """What a network answers with the column set to each of V values."""

    odds_NV: Floats  # log-odds of the given class
    answer_NV: Floats  # of the class that is answered
    right_NV: Bools  # whether that is the given one


class Guesses(NamedTuple):
    """Values guessed of N records."""

    by_attack: Mapping[str, Indices]
    imputed_N: Indices


def values_of(x_ND: Stored, places: Sequence[int], name: str) -> tuple[npt.NDArray[Any], Indices]:
    """The (V, P) values that columns of a table take together, and which of them each record has.

    Args:
        x_ND: the table.
        places: of the columns, from 0; several for one attribute in one-hot columns.
        name: of the columns, for messages.

    Raises:
        UsageError: they have one value alone, or more than 20 (`MOST_VALUES`).
    """
    columns = np.concatenate([block[:, list(places)] for block in blocks(x_ND)])
    values, code = np.unique(columns, axis=0, return_inverse=True)
    if len(values) < 2:
        raise UsageError(f"{name} has one value in all records: there is nothing to guess.")
    if len(values) > MOST_VALUES:
        raise UsageError(
            f"{name} has {len(values)} values, and the model is asked under each: give one of at most {MOST_VALUES}, "
            "such as a column that was cut into classes before training."
        )
    return values, np.asarray(code.reshape(-1), np.int64)


def rows(x_ND: npt.NDArray[Any], label_N: Indices, value_N: Indices, places: Sequence[int]) -> Rows:
    """Records of a table without the columns at ``places``."""
    return Rows(np.delete(x_ND, list(places), axis=1).astype(np.float64), label_N, value_N)


def guesses(answers: Answers, asked: Rows, known: Rows, values: int, *, seed: int) -> Guesses:
    """What every attack of `ATTACKS` guesses, and imputation without the network.

    Args:
        answers: of the network, about the records of ``asked``, whose ``value_N`` is not used.
        asked: the records whose value is guessed.
        known: other records of the source, from which imputation learns.
        values: V.
        seed: of the forests.

    Raises:
        UsageError: shapes differ, or a number is not finite.
    """
    classes = 1 + int(max(asked.label_N.max(), known.label_N.max()))
    labelled = [np.column_stack([part.other_NF, np.eye(classes)[part.label_N]]) for part in (asked, known)]
    prior = imputation(labelled[1], known.value_N, labelled[0], values, seed=seed)
    unlabelled = imputation(known.other_NF, known.value_N, asked.other_NF, values, seed=seed)
    found = {
        "csmia": by_confidence(answers.answer_NV, answers.right_NV),
        "lomia": by_label(answers.right_NV, labelled[0], prior, seed=seed),
        "likeliest": likeliest(answers.odds_NV, unlabelled),
    }
    return Guesses(found, np.asarray(prior.argmax(axis=1), np.int64))
