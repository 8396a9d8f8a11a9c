"""Estimators in the manner of scikit-learn, and ONNX files: what of them is asked, and which classes they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lacewing.attacks._types import Task
from lacewing.auditing._form import as_array
from lacewing.auditing._outputs import Outputs
from lacewing.errors import UsageError, UserCodeError, needs_extra
from lacewing.support.user_code import user_code

_WAYS = ("predict_proba", "decision_function")
_TYPES = {  # of ONNX tensors that hold numbers
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class Way(NamedTuple):
    """How something that is no torch module is asked."""

    call: Callable[[Any], Any]
    classes: tuple[Any, ...] | None = None  # of its columns; None: it does not say
    outputs: Outputs | None = None  # what it answers; None: to be said, or told by values
    note: str | None = None


def is_estimator(model: Any) -> bool:
    """Whether it predicts and cannot be called itself."""
    return not callable(model) and any(hasattr(model, way) for way in (*_WAYS, "predict"))


def is_onnx(model: Any) -> bool:
    """Whether it is the path of an ONNX file."""
    return isinstance(model, str | Path) and str(model).endswith(".onnx")


def classes_of(model: Any) -> tuple[Any, ...] | None:
    """The classes of an estimator, or of the one that a bound predict_proba or decision_function belongs to."""
    owner = model if is_estimator(model) else getattr(model, "__self__", None)
    if owner is not model and getattr(model, "__name__", "") not in _WAYS:
        return None
    found = getattr(owner, "classes_", None)
    if found is None or (isinstance(found, list) and any(np.ndim(each) for each in found)):
        return None  # of several labels
    array = np.asarray(found)
    return tuple(array.tolist()) if array.ndim == 1 else None


def way_of(model: Any, who: str, task: Task) -> Way:
    """How to ask an estimator, an ONNX file or a function. Raises `UsageError` where that does not fit the task."""
    if is_onnx(model):
        return _onnx(Path(model), who, task)
    if not is_estimator(model):
        return Way(model, classes_of(model) if task in ("classification", "binary") else None)
    kind = type(model).__name__
    if task == "regression":
        if not hasattr(model, "predict") or any(hasattr(model, way) for way in _WAYS):
            raise UsageError(f"{who} is a {kind}, a classifier, and task='regression': leave out the task.")
        return Way(model.predict, note=f"{who} is a {kind}: its predict was asked.")
    way = next((way for way in _WAYS if hasattr(model, way)), None)
    if way is None:
        raise UsageError(
            f"{who} is a {kind} with neither predict_proba nor decision_function: say task='regression' if it predicts "
            f"quantities; of a classifier that only predicts classes nothing more can be read (an SVC has "
            "decision_function; for others give a function from records to probabilities)."
        )
    note = f"{who} is a {kind}: its {way} was asked."
    if task == "multi-label":
        return Way(lambda x: _of_labels(getattr(model, way)(x)), None, "sigmoid" if way == _WAYS[0] else "logits", note)
    classes = classes_of(model)
    if way == "predict_proba":
        return Way(model.predict_proba, classes, "probabilities", note)
    return Way(lambda x: _of_margins(model, x, classes, who), classes, "logits", f"{note} Its margins count as logits.")


def _of_labels(answer: Any) -> Any:
    """(N, L) of the list of (N, 2) that scikit-learn answers for L labels."""
    if isinstance(answer, list):
        return np.stack([np.asarray(each)[:, -1] for each in answer], axis=1)
    return answer


def _of_margins(model: Any, x: Any, classes: tuple[Any, ...] | None, who: str) -> Any:
    margins = as_array(model.decision_function(x))
    if margins.ndim == 1:
        return np.stack([np.zeros_like(margins), margins], axis=1)
    if classes is not None and margins.shape[1] != len(classes):
        raise UserCodeError(
            f"{who} answers {margins.shape[1]} margins and has {len(classes)} classes: give the estimator with "
            "decision_function_shape='ovr', or with predict_proba."
        )
    return margins


def _onnx(path: Path, who: str, task: Task) -> Way:
    try:
        import onnxruntime
    except ImportError as error:
        raise needs_extra("asking an ONNX file", str(error.name), "onnx") from None
    if not path.is_file():
        raise UsageError(f"{who}: there is no file {path}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many classes of its own
        raise UsageError(f"{who}: {path} cannot be read as ONNX ({' '.join(str(error).split())[:200]}).") from None
    names = [output.name for output in session.get_outputs()]
    fixed = [each.shape[0] for each in session.get_inputs() if each.shape and isinstance(each.shape[0], int)]
    step = fixed[0] if fixed else None

    def ask(records: Any) -> Any:
        feeds = _feeds(session.get_inputs(), records, who)
        count = len(next(iter(feeds.values())))
        with user_code(f"{who}: {path.name}, asked about {count} records,"):
            if step is None:
                return _answers(dict(zip(names, session.run(names, feeds), strict=True)))
            parts = []
            for start in range(0, count, step):
                rows = np.minimum(np.arange(start, start + step), count - 1)  # the last record fills the last batch
                answers = session.run(names, {key: value[rows] for key, value in feeds.items()})
                parts.append(_answers(dict(zip(names, answers, strict=True))))
            return {key: np.concatenate([part[key] for part in parts])[:count] for key in parts[0]}

    return Way(ask, note=f"{who} is {path.name}: it was asked through onnxruntime.")


def _feeds(inputs: Any, records: Any, who: str) -> dict[str, Any]:
    """What each input of an ONNX file gets: the records, a field of a dict, or a column of a frame."""
    if isinstance(records, Mapping):
        given = dict(records)
    elif hasattr(records, "columns") and len(inputs) > 1:
        given = {str(column): as_array(records[column])[:, None] for column in records.columns}
    elif len(inputs) == 1:
        given = {inputs[0].name: records}
    else:
        given = {}
    if missing := [each.name for each in inputs if each.name not in given]:
        raise UserCodeError(
            f"{who} has the inputs {', '.join(each.name for each in inputs)}, and the records lack {missing[0]}: give "
            "a dict or a frame with these names."
        )
    return {each.name: _fed(as_array(given[each.name]), each.type) for each in inputs}


def _fed(values: Any, wanted: str) -> Any:
    if wanted == "tensor(string)":
        return np.asarray(values, object)
    return np.ascontiguousarray(values, _TYPES.get(wanted, values.dtype))


def _answers(found: dict[str, Any]) -> dict[str, Any]:
    """Answers by name; probabilities as a list of dicts, as converters of scikit-learn write them, as an array."""
    return {
        name: np.array([[row[key] for key in value[0]] for row in value], np.float32)
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
        else np.asarray(value)
        for name, value in found.items()
    }
