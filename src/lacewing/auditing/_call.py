"""How the user's model is called: a torch module, or any function from records to answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.attacks._types import Task
from lacewing.auditing import _outputs
from lacewing.auditing._inputs import Form, RawData
from lacewing.auditing._opened import opened, refuse_state
from lacewing.errors import UsageError
from lacewing.gradients import measuring
from lacewing.support.user_code import user_code

Array = npt.NDArray[Any]
Model = nn.Module | Callable[[Any], Any]
BATCH, _CALLABLE_BATCH = 250, 1000
_ROUNDING, _ROUNDING_HALF = 1e-3, 0.05  # by which answers may differ, in standard deviations of all answers
_HALF = (torch.float16, torch.bfloat16)


def check_model(model: object, who: str) -> None:
    """Raises `UsageError` unless ``model`` can be called."""
    refuse_state(model, who)
    if callable(model):
        return
    mend = ""
    if hasattr(model, "predict_proba"):
        mend = f", such as {who}.predict_proba" if who == "model" else ", such as the method predict_proba of it"
    raise UsageError(
        f"{who} is a {type(model).__name__}, which cannot be called: give a torch module or a function from records to "
        f"logits or probabilities{mend}."
    )


def answered(model: Model, records: RawData, who: str, task: Task) -> Array:
    """The answers (N, C) of ``model``, as it gives them; records are asked in a random order, the same every time.

    Raises `UsageError` that names ``who``: it fails, or answers another shape or values that are not finite.
    """
    model = opened(model, who)
    order = np.random.default_rng(300).permutation(len(records))
    x = records.x[order]
    step = BATCH if isinstance(model, nn.Module) else _CALLABLE_BATCH
    batches = [x[start : start + step] for start in range(0, len(x), step)]
    mend = "; give x as float32 if its values are quantities" if x.dtype.kind in "iu" else ""
    with user_code(f"{who}, asked about records of shape {x.shape[1:]} and dtype {x.dtype},", mend):
        if isinstance(model, nn.Module):
            with torch.no_grad(), measuring(model):
                given = [model(as_tensor(model, batch)) for batch in batches]
        else:
            given = [model(records.form.records(batch)) for batch in batches]
    parts = [_numpy(answer, who) for answer in given]
    for at, (part, batch) in enumerate(zip(parts, batches, strict=True)):
        if part.dtype.kind not in "iuf" or part.ndim not in (1, 2) or len(part) != len(batch):
            raise UsageError(
                f"{who} answered {part.dtype} of shape {part.shape} to {len(batch)} records: it must answer numbers, "
                "(records, classes)."
            )
        _outputs.check_columns(part.shape[1] if part.ndim == 2 else 1, task, f"the answers of {who}")
        parts[at] = part.reshape(len(part), -1)
    answers = np.empty((len(x), parts[0].shape[1]), np.result_type(*parts))
    answers[order] = np.concatenate(parts)
    if answers.dtype.kind != "f" or answers.dtype.itemsize < 4:
        answers = answers.astype(np.float32)
    if not np.isfinite(answers).all():
        raise UsageError(
            f"{who} answered NaN or infinite values: give finite numbers; floor log-probabilities, e.g. "
            "numpy.log(p.clip(1e-6)), or give the probabilities."
        )
    if (answers == answers[0]).all():
        raise UsageError(f"{who} answers the same to all {len(x)} records, so that there is nothing to tell them by.")
    return answers


def alike(a: Array, b: Array, model: Model) -> bool:
    """Whether a model's answers to the same records differ by no more than the rounding of other batch sizes."""
    coarse = isinstance(model, nn.Module) and any(p.dtype in _HALF for p in model.parameters())
    spread = float(np.std(a.astype(np.float64))) or 1.0
    return bool(np.abs(a.astype(np.float64) - b).max() <= (_ROUNDING_HALF if coarse else _ROUNDING) * spread)


def _numpy(answer: Any, who: str) -> Array:
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu()
        return np.asarray(answer.float() if answer.dtype in (torch.bfloat16, torch.float16) else answer)
    if hasattr(answer, "logits"):
        raise UsageError(f"{who} answers an object that has logits: give a function, lambda x: {who}(x).logits.")
    if isinstance(answer, Mapping):
        first = next(iter(answer), "logits")
        raise UsageError(
            f"{who} answers a dict: give a function that picks its entry, such as lambda x: f(x)[{first!r}]."
        )
    if isinstance(answer, tuple | list) and answer and hasattr(answer[0], "shape") and np.ndim(answer[0]) > 1:
        raise UsageError(
            f"{who} answers {len(answer)} arrays: give a function that picks one, such as lambda x: f(x)[0], or of a "
            "classifier of several labels numpy.stack([p[:, 1] for p in f(x)], axis=1)."
        )
    try:
        return np.asarray(answer.to_numpy() if hasattr(answer, "to_numpy") else answer)
    except ValueError as error:
        raise UsageError(f"{who} answers a {type(answer).__name__} that is no array ({error}).") from error


def as_tensor(model: nn.Module, x: Array) -> Tensor:
    """What a module takes: floats in its own precision; pixels (uint8 images) as floats; token ids as int64."""
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(parameter.device)
    if x.dtype.kind == "f" or x.dtype.kind == "b" or (x.dtype == np.uint8 and x.ndim == 4):
        return tensor.to(parameter.dtype)
    return tensor.to(torch.int64)


class Standardised(nn.Module):
    """The user's model behind standardised inputs, so that noise is in units of their standard deviation; its answers
    as logits.
    """

    def __init__(
        self,
        model: Model,
        mean: Array,
        std: Array,
        *,
        ndim: int,
        form: Form,
        dtype: np.dtype[Any],
        who: str,
        answers: _outputs.Form,
    ) -> None:
        super().__init__()
        self.who, self.answers = who, answers
        shape = (1, -1) + (1,) * (ndim - 2)
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        device = torch.device("cpu") if parameter is None else parameter.device
        self.mean, self.std = (torch.from_numpy(a).to(device).view(shape) for a in (mean, std))
        self.form, self.dtype = form, dtype
        if isinstance(model, nn.Module):
            self.inner = model
            self.precision = torch.float32 if parameter is None else parameter.dtype
        else:
            self.call = model
        if parameter is None:  # a place for who asks on which device the model is
            self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of standardised inputs."""
        raw = inputs * self.std + self.mean
        with user_code(f"{self.who}, asked about noisy or shifted records,"):
            if hasattr(self, "inner"):
                answer: Tensor = self.inner(raw.to(self.precision))
            else:
                answer = torch.from_numpy(
                    _numpy(self.call(self.form.records(raw.numpy().astype(self.dtype))), self.who)
                )
        logits: Tensor = self.answers.logits(torch, answer.reshape(len(answer), -1).float())
        return logits
