"""The user's classes: their names or numbers in the order of a model's answers, and what a model never saw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError

Array = npt.NDArray[Any]
UNSEEN = 1e-6  # probability of a class that a model never saw


class Classes:
    """Codes of labels: those of the model's classes in its order, then further ones that non-members have."""

    def __init__(self, names: Iterable[Any], source: str) -> None:
        self.names = [_plain(name) for name in names]
        self.source = source  # where they are from, for messages
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"{source} names a class twice: give each once, in the order of the model's answers.")
        self.own = tuple(self.names)

    def coded(self, labels: Array, name: str, *, known: bool) -> tuple[npt.NDArray[np.int64], int]:
        """(N,) codes and how many classes the model does not have; ``known``: these are refused."""
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise UsageError(f"{name} has shape {labels.shape}: give one label a record.")
        given = [_plain(label) for label in labels.tolist()]
        places = {each: place for place, each in enumerate(self.names)}
        values = dict.fromkeys(given)
        new = [value for value in values if value not in places]
        if new and (known or len(new) == len(values)):
            raise UsageError(
                f"{name} holds a label in record {given.index(new[0]) + 1} that is not among {self.source} "
                f"({_listed(self.own)}): give labels as the model was trained on them."
            )
        for value in new:
            places[value] = len(self.names)
            self.names.append(value)
        return np.array([places[value] for value in given], np.int64), len(new)


def placed(logits: Array, own: tuple[Any, ...], wanted: tuple[Any, ...], who: str) -> Array:
    """Logits (N, C') of a model with classes ``own`` in the columns of ``wanted``; what it never saw has 1e-6.

    Raises `UsageError` where it has a class that is not wanted, or answers more or fewer columns than it has classes.
    """
    own = tuple(map(_plain, own))
    if own == wanted or not wanted:
        return logits
    if foreign := [each for each in own if each not in wanted]:
        raise UsageError(f"{who} has the class {foreign[0]!r}, which is not among {_listed(wanted)}.")
    if logits.shape[1] != len(own):
        raise UsageError(f"{who} answers {logits.shape[1]} columns and has {len(own)} classes: give one for each.")
    top = logits.max(axis=1, keepdims=True)
    total = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    found = np.repeat(total + np.log(UNSEEN), len(wanted), axis=1).astype(logits.dtype)
    found[:, [wanted.index(each) for each in own]] = logits
    return found


def _plain(value: Any) -> Any:
    """A label as Python has it: 1 for numpy's 1, for 1.0 and for True, a word for numpy's."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def _listed(names: Iterable[Any]) -> str:
    names = [repr(name) for name in names]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
