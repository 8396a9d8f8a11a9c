"""How the user's model is called: a torch module, an estimator, an ONNX file, or any function of records."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.attacks._types import Task
from lacewing.auditing import _outputs
from lacewing.auditing._classes import Classes, placed
from lacewing.auditing._estimator import Way, classes_of, is_estimator, is_onnx, way_of
from lacewing.auditing._form import Form
from lacewing.auditing._inputs import RawData, Reading
from lacewing.auditing._opened import opened, refuse_state
from lacewing.auditing._pick import Picker, numbers
from lacewing.auditing._stream import Streamed, blocks
from lacewing.errors import UsageError
from lacewing.gradients import device_of, measuring
from lacewing.support.user_code import user_code

Array = npt.NDArray[Any]
Model = Any  # a torch module, an estimator, the path of an ONNX file, or a function
BATCH, _CALLABLE_BATCH = 250, 1000
_ROUNDING, _ROUNDING_HALF = 1e-3, 0.05  # by which answers may differ, in standard deviations of all answers
_HALF = (torch.float16, torch.bfloat16)


class Wrapped(nn.Module):
    """The user's module as a map from one tensor of records to one of answers, whatever it takes and answers."""

    def __init__(self, inner: nn.Module, form: Form, picker: Picker) -> None:
        super().__init__()
        self.inner, self.form, self.picker = inner, form, picker

    def forward(self, records: Tensor) -> Any:
        """The numbers that the module answers; a dict of records is given as its named arguments."""
        if not self.form.is_dict:
            return self.picker(self.inner(records), len(records))
        fields, at = {}, 0
        for name, shape, dtype in zip(self.form.columns, self.form.shapes, self.form.dtypes, strict=True):
            width = math.prod(shape)
            field = records[:, at : at + width].reshape(len(records), *shape)
            fields[name] = field.to(_taken_as(self.inner, np.dtype(dtype), field.ndim))
            at += width
        return self.picker(self.inner(**fields), len(records))


class Function:
    """What is no torch module as a function from records to numbers."""

    def __init__(self, way: Way, form: Form, picker: Picker) -> None:
        self.way, self.form, self.picker = way, form, picker

    def __call__(self, records: Any) -> Array:
        """The numbers (N,) or (N, C) that it answers to records in the user's form."""
        count = len(next(iter(records.values()))) if isinstance(records, dict) else len(records)
        return numbers(self.picker(self.way.call(records), count), self.picker.who)


def check_model(model: object, who: str) -> None:
    """Raises `UsageError` unless ``model`` can be asked."""
    refuse_state(model, who)
    if callable(model) or is_estimator(model) or is_onnx(model):
        return
    mend = "; of files only .onnx is asked" if isinstance(model, str | Path) else ""
    raise UsageError(
        f"{who} is a {type(model).__name__}, which cannot be called: give a torch module, an estimator with "
        f"predict_proba, the path of an .onnx file, or a function from records to logits or probabilities{mend}."
    )


def reading(
    *models: Model, classes: Any, collate: Any, task: Task, stream: Callable[[str], None] | None, notes: list[str]
) -> Reading:
    """How records are read that these models are all asked about.

    Raises `UsageError`: classes or collate cannot be that, or models have other classes.
    """
    if collate is not None and not callable(collate):
        raise UsageError(f"collate is a {type(collate).__name__}: give a function from a list of items to a batch.")
    if classes is not None and task not in ("classification", "binary"):
        raise UsageError(f"classes names classes, and task='{task}' has none: leave it out.")
    if classes is not None and (isinstance(classes, str) or not hasattr(classes, "__iter__")):
        raise UsageError("classes must list the names of the classes, in the order of the model's answers.")
    every = [its for model in models if (its := classes_of(model)) is not None]
    if any(its != every[0] for its in every):
        raise UsageError("the models have other classes in their classes_, or in another order: give two of one task.")
    own = every[0] if every else None
    known = (
        Classes(classes, "classes") if classes is not None else Classes(own, "classes_ of the model") if own else None
    )
    if classes is not None and own is not None and tuple(Classes(own, "").names) != tuple(known.names if known else ()):
        raise UsageError("classes are not those that the estimator has in its classes_: leave them out.")
    modules = [model for model in models if isinstance(opened(model, "model"), nn.Module)]
    taken = [names for names in map(_arguments, modules) if names is not None]
    return Reading(
        words=not modules,
        missing=all(is_estimator(model) or classes_of(model) is not None for model in models),
        takes=frozenset.intersection(*taken) if taken else None,
        classes=known,
        collate=collate,
        stream=stream,
        notes=notes,
    )


def _arguments(model: nn.Module) -> frozenset[str] | None:
    """The names that forward of a module has for what it takes; None: not known."""
    try:
        found = [*inspect.signature(opened(model, "model").forward).parameters.values()]
    except ValueError:  # of a scripted module
        return None
    named = {each.name for each in found if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return frozenset(named) or None  # an exported program takes whatever is given


def prepared(model: Model, form: Form, who: str, task: Task) -> Wrapped | Function:
    """The model as it is asked. Raises `UsageError` where an estimator or a file does not fit the task."""
    if isinstance(model, Wrapped | Function):
        return model
    model = opened(model, who)
    picker = Picker(who, task, module=isinstance(model, nn.Module))
    if isinstance(model, nn.Module):
        return Wrapped(model, form, picker)
    return Function(way_of(model, who, task), form, picker)


def as_classes(model: Wrapped | Function, logits: Array, form: Form, who: str) -> Array:
    """Logits (N, C) in the columns of the classes that the records have."""
    own = model.way.classes if isinstance(model, Function) else None
    if own is None or not form.classes:
        return (
            logits
            if own is not None or len(form.classes) <= logits.shape[1]
            else placed(logits, form.classes[: logits.shape[1]], form.classes, who)
        )
    return placed(logits, own, form.classes, who)


def answered(model: Model, records: RawData, who: str, task: Task) -> Array:
    """The answers (N, C) of ``model``, as it gives them; records are asked in a random order, the same every time.

    Raises `UsageError` that names ``who``: it fails, or answers another shape or values that are not finite.
    """
    model = prepared(model, records.form, who, task)
    order = np.random.default_rng(300).permutation(len(records))
    x = records.x
    step = BATCH if isinstance(model, nn.Module) else _CALLABLE_BATCH
    say = x.say if isinstance(x, Streamed) else None
    batches = [order[rows] for rows in blocks(len(x), step)]
    told = f"asking {who}"
    mend = "; give x as float32 if its values are quantities" if x.dtype.kind in "iu" else ""
    with user_code(f"{who}, asked about records of shape {x.shape[1:]} and dtype {x.dtype},", mend):
        if isinstance(model, nn.Module):
            with torch.no_grad(), measuring(model):
                given = [model(as_tensor(model, x[order[rows]])) for rows in blocks(len(x), step, told, say)]
        else:
            given = [model(records.form.records(x[order[rows]])) for rows in blocks(len(x), step, told, say)]
    parts = [numbers(answer, who) for answer in given]
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


def as_tensor(model: nn.Module, x: Array) -> Tensor:
    """What a module takes: floats in its own precision; pixels (uint8 images) as floats; token ids as int64."""
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device_of(model))
    if isinstance(model, Wrapped) and model.form.is_dict:
        return tensor  # whose fields are converted one by one
    return tensor.to(_taken_as(model, x.dtype, x.ndim))


def _taken_as(model: nn.Module, dtype: np.dtype[Any], ndim: int) -> torch.dtype:
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return parameter.dtype if dtype.kind in "fb" or (dtype == np.uint8 and ndim == 4) else torch.int64


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
                    numbers(self.call(self.form.records(raw.numpy().astype(self.dtype))), self.who)
                )
        logits: Tensor = self.answers.logits(torch, answer.reshape(len(answer), -1).float())
        return logits
