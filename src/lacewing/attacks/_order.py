"""Are the labels numbered as the model's outputs are? A renumbering of some classes leaves the others right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._deciding import SelfCheck
from lacewing.attacks._types import Task

_SURELY = 1e-3  # level of the test that most members of a class are answered as another one
_BETTER = 0.2  # by so much AUC another column ranks a label better than its own does
_FEWEST = 10  # members with a label, and without it, from which its AUC is looked at


def labels_in_order(answers_NC: npt.NDArray[Any], label_N: npt.NDArray[Any], task: Task) -> SelfCheck:
    """The check, on members, that no labels are answered in turn as one another: 3 as 5, and 5 as 3.

    A class is answered as another where most of its members are (one-sided binomial test against one half, 0.1 %); of
    several labels (N, L), where another label's column ranks its members better by 0.2 AUC. Only whole cycles count:
    a model may prefer one class to another, but not each of them to itself.
    """
    as_other = _labels(answers_NC, label_N) if task == "multi-label" else _classes(answers_NC, label_N)
    moved = sorted(label for label in as_other if _returns(label, as_other))
    word = "labels" if task == "multi-label" else "classes"
    name = "labels in the outputs' order"
    if not moved:
        return SelfCheck(name, True, f"No {word} are answered as one another.", decides="every attack")
    turns = ", ".join(f"{label} as {as_other[label]}" for label in moved[:5])
    more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
    return SelfCheck(
        name,
        False,
        f"The model answers {word} as one another ({turns}{more}): number the labels in the order of its outputs.",
        decides="every attack",
    )


def _returns(label: int, as_other: dict[int, int]) -> bool:
    """Whether one gets back to the label from what it is answered as, and so on."""
    at = label
    for _ in as_other:
        at = as_other.get(at, -1)
        if at == label:
            return True
    return False


def _classes(answers_NC: npt.NDArray[Any], label_N: npt.NDArray[Any]) -> dict[int, int]:
    from scipy.special import bdtrc

    predicted = answers_NC.argmax(axis=1)
    found = {}
    for label in np.unique(label_N):
        counts = np.bincount(predicted[label_N == label])
        most = int(counts.argmax())
        if most != label and bdtrc(int(counts[most]) - 1, int(counts.sum()), 0.5) < _SURELY:
            found[int(label)] = most
    return found


def _labels(answers_NL: npt.NDArray[Any], label_NL: npt.NDArray[Any]) -> dict[int, int]:
    from scipy.stats import rankdata

    having = label_NL.sum(axis=0)
    told = np.flatnonzero(np.minimum(having, len(label_NL) - having) >= _FEWEST)
    if not len(told):
        return {}
    n = having[told, None]
    sums = label_NL[:, told].T.astype(np.float64) @ rankdata(answers_NL[:, told], axis=0)
    auc = (sums - n * (n + 1) / 2) / (n * (len(label_NL) - n))  # [label, column]
    best = auc.argmax(axis=1)
    rows = np.arange(len(told))
    better = auc[rows, best] - auc[rows, rows] > _BETTER
    return {int(told[k]): int(told[best[k]]) for k in np.flatnonzero(better)}
