"""Which part of what a model answers holds its numbers: an answer may be a dict, a tuple, or an object with logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lacewing.attacks._types import Task
from lacewing.auditing._form import as_array, on_cpu
from lacewing.errors import UsageError, UserCodeError

Array = npt.NDArray[Any]


class Picker:
    """Picks the numbers of an answer. The first answer decides where they are, the same for every later one."""

    def __init__(self, who: str, task: Task, *, module: bool) -> None:
        self.who, self.task, self.module = who, task, module
        self.where: Any = None  # a key or a place in a tuple; None: the answer itself
        self.how = ""  # "key", "place", "attribute", or "" before the first answer
        self.note: str | None = None

    def __call__(self, answer: Any, count: int) -> Any:
        """The part of an answer to ``count`` records. Raises `UsageError` where it is not known which it is."""
        if not self.how:
            self._look(answer, count)
        try:
            if self.how == "attribute":
                return answer.logits
            return answer if self.how == "whole" else answer[self.where]
        except (AttributeError, LookupError, TypeError):
            raise UserCodeError(
                f"{self.who} answers a {type(answer).__name__}, and answered in another form before."
            ) from None

    def _look(self, answer: Any, count: int) -> None:
        if isinstance(answer, Mapping):
            parts: dict[Any, Any] = dict(answer)
            if parts.get("logits") is not None:
                self.how, self.where = "key", "logits"
                return
            self._only(parts, count, "key", f"a dict of {_listed(parts)}", "f(x)[{!r}]")
        elif isinstance(answer, tuple | list) and _has_arrays(answer, count):
            parts = dict(enumerate(answer))
            self._only(parts, count, "place", f"a {type(answer).__name__} of {_listed(parts)}", "f(x)[{!r}]")
        elif hasattr(answer, "logits") and not hasattr(answer, "shape"):
            self.how = "attribute"
        else:
            self.how = "whole"

    def _only(self, parts: Mapping[Any, Any], count: int, how: str, what: str, mend: str) -> None:
        """Take the one part that can be the answer."""
        can = [at for at, part in parts.items() if self._fits(part, count)]
        if len(can) == 1:
            self.how, self.where = how, can[0]
            if len(parts) > 1:
                self.note = (
                    f"{self.who} answers {what}: {can[0]!r} was taken, the only one of shape (records, numbers)."
                )
            return
        first = can[0] if can else next(iter(parts), 0)
        give = (
            f"a module whose forward returns that one, such as self.model(x)[{first!r}]"
            if self.module
            else f"a function that picks it, such as lambda x: {mend.format(first)}"
        )
        several = "of a classifier of several labels give numpy.stack([p[:, 1] for p in f(x)], axis=1); " * (
            self.task == "multi-label"
        )
        raise UserCodeError(
            f"{self.who} answers {what}, and {'more than one' if can else 'none'} of these can be its logits for "
            f"{count} records: {several}give {give}."
        )

    def _fits(self, part: Any, count: int) -> bool:
        shape = tuple(getattr(part, "shape", ()))
        if not shape or shape[0] != count or len(shape) > 2 or not _is_real(part):
            return False
        single = self.task in ("binary", "regression", "multi-label")
        return (len(shape) == 2 and shape[1] > 1) or (single and (len(shape) == 1 or shape[1] == 1))


def numbers(answer: Any, who: str) -> Array:
    """An answer as an array of real numbers."""
    if isinstance(answer, Tensor):
        answer = on_cpu(answer, f"what {who} answers")
        return np.asarray(answer.float() if answer.dtype in (torch.bfloat16, torch.float16) else answer)
    try:
        return as_array(answer, f"what {who} answers")
    except ValueError as error:
        raise UsageError(f"{who} answers a {type(answer).__name__} that is no array ({error}).") from error


def _has_arrays(answer: Any, count: int) -> bool:
    """Whether a tuple or list is one of several things, and not the rows of one."""
    arrays = any(len(tuple(getattr(part, "shape", ()))) > 1 for part in answer)
    return arrays or (isinstance(answer, tuple) and len(answer) != count and any(hasattr(p, "shape") for p in answer))


def _is_real(part: Any) -> bool:
    return part.dtype.is_floating_point if isinstance(part, Tensor) else getattr(part.dtype, "kind", "") == "f"


def _listed(parts: Mapping[Any, Any]) -> str:
    shown = [
        f"{at!r} {tuple(part.shape)}" if hasattr(part, "shape") else f"{at!r} ({type(part).__name__})"
        for at, part in list(parts.items())[:6]
    ]
    return ", ".join(shown) + (" and more" if len(parts) > 6 else "")
