"""Records as one array of numbers, and the form that user code takes them in: arrays, tensors, frames, dicts, texts.

Columns of a frame and fields of a dict stand side by side in a row. Words, dates, categories and missing values are
numbers of levels there, so that records can be hashed, divided and stored, and are given back as they were.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError

Array = npt.NDArray[Any]
Kind = Literal["array", "tensor", "frame", "polars", "series", "list", "array dict", "tensor dict"]
_JSON = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Form:
    """What user code takes records as. Fields beyond the first six count in keys of references only where they are set.

    ``levels``: by column or field, the values that its numbers stand for; None: the numbers are the values.
    """

    kind: Kind = "array"
    columns: tuple[Any, ...] = ()  # of a frame; the fields of a dict
    dtypes: tuple[Any, ...] = ()
    label_columns: tuple[Any, ...] = ()  # of a frame of labels
    label_dtype: str = ""  # of labels that are no classes; classes are int64
    flat_labels: bool = True  # (N,), whatever `RawData.y` has
    shapes: tuple[tuple[int, ...], ...] = ()  # of a dict's fields, of one record
    levels: tuple[tuple[Any, ...] | None, ...] = ()
    classes: tuple[Any, ...] = ()  # the user's names of the classes, in the order of their codes
    missing: bool = False  # there are missing values among numbers

    @property
    def is_dict(self) -> bool:
        """Whether records are dicts of fields."""
        return self.kind in ("array dict", "tensor dict")

    @property
    def all_float(self) -> bool:
        """Whether every value is a real number that is there, so that noise can be added to it."""
        return (
            not self.missing
            and not any(each is not None for each in self.levels)
            and all(str(dtype).lower().startswith("float") for dtype in self.dtypes)
        )

    @property
    def plain(self) -> bool:
        """Whether JSON holds it."""
        held = [*self.columns, *self.label_columns, *self.dtypes, *self.classes]
        held += [value for each in self.levels for value in each or ()]
        return all(type(value) in _JSON for value in held)

    def key(self) -> dict[str, Any]:
        """Its fields for keys of references, where later ones count only if they are set."""
        later = {field.name: field.default for field in fields(self)[6:] if field.default is not MISSING}
        found = {name: value for name, value in vars(self).items() if name not in later or value != later[name]}
        if self.classes == tuple(range(len(self.classes))):  # labels are handed out as without names
            found.pop("classes", None)
        return found

    def records(self, x: Array) -> Any:
        """``x`` (N, ...) in this form."""
        if self.is_dict:
            return dict(zip(self.columns, self._fields(x), strict=True))
        if self.levels:
            return self._coded(x)
        if self.kind == "tensor":
            return _tensor(x)
        if self.kind == "frame":
            frame = import_module("pandas").DataFrame(x, columns=list(self.columns))
            return frame.astype(dict(zip(self.columns, self.dtypes, strict=True)))
        if self.kind == "polars":
            polars = import_module("polars")
            return polars.DataFrame(
                [
                    _polars(name, x[:, at], dtype)
                    for at, (name, dtype) in enumerate(zip(self.columns, self.dtypes, strict=True))
                ]
            )
        return x

    def labels(self, y: Array) -> Any:
        """Labels of `RawData` in this form: classes as the user called them, others in the shape and dtype they had."""
        if self.label_dtype and not self.classes:
            y = (y[:, 0] if self.flat_labels and y.ndim == 2 else y).astype(self.label_dtype)
        if self.classes:
            y = np.array(self.classes, self.label_dtype or None)[y]
        if self.kind in ("frame", "series") and y.ndim == 1:
            return import_module("pandas").Series(y)
        if self.kind == "frame":
            return import_module("pandas").DataFrame(y, columns=list(self.label_columns) or None)
        if self.kind == "polars":
            polars = import_module("polars")
            if y.ndim == 1:
                return polars.Series(y.tolist() if y.dtype.kind in "UO" else y)
            return polars.DataFrame(y, schema=list(self.label_columns) or None)
        if self.kind in ("tensor", "tensor dict"):
            return _tensor(y) if y.dtype.kind in "buif" else y
        return y.tolist() if self.kind == "list" else y

    def _fields(self, x: Array) -> Iterable[Any]:
        at = 0
        for place, shape in enumerate(self.shapes):
            width = math.prod(shape)
            part = x[:, at : at + width].reshape(len(x), *shape)
            at += width
            if self.levels and self.levels[place] is not None:
                yield _restored(part, self.levels[place] or ()).tolist()
                continue
            part = part.astype(self.dtypes[place])
            yield _tensor(part) if self.kind == "tensor dict" else part

    def _coded(self, x: Array) -> Any:
        """Records with levels: columns of a frame, or texts."""
        columns = list(self.columns) or list(range(len(self.levels)))
        if self.kind in ("frame", "series"):
            pandas = import_module("pandas")
            given = [
                _pandas(x[:, at], dtype, levels)
                for at, (dtype, levels) in enumerate(zip(self.dtypes, self.levels, strict=True))
            ]
            if self.kind == "series":
                return pandas.Series(given[0])
            frame = pandas.DataFrame(dict(enumerate(given)))
            frame.columns = columns
            return frame
        values = [x[:, at] if levels is None else _restored(x[:, at], levels) for at, levels in enumerate(self.levels)]
        if self.kind == "polars":
            polars = import_module("polars")
            return polars.DataFrame(
                [_polars(name, column, dtype) for name, column, dtype in zip(columns, values, self.dtypes, strict=True)]
            )
        if self.kind == "list":
            return values[0].tolist()
        if not self.columns:  # an array of texts
            return values[0].astype(self.dtypes[0])  # of "str" as long as the longest
        table = np.empty((len(x), len(values)), object)
        for at, column in enumerate(values):
            table[:, at] = column
        return table.astype(self.dtypes[0])


def to_json(form: Form) -> str:
    """A form for another process, where it is `Form.plain`."""
    return json.dumps(vars(form))


def from_json(text: str) -> Form:
    """The inverse of `to_json`."""
    return Form(**{name: _tuples(value) for name, value in json.loads(text).items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def is_tensor(given: Any) -> bool:
    """Whether it is a torch tensor; loads no torch."""
    torch = sys.modules.get("torch")  # who gives a tensor has loaded it
    return torch is not None and isinstance(given, torch.Tensor)


def is_polars(given: Any) -> bool:
    """Whether it is of the package polars."""
    return type(given).__module__.partition(".")[0] == "polars"


def as_array(values: Any, what: str = "an array") -> Array:
    """Numbers or words (N, ...) of a tensor, a frame, a series, an array or a list.

    Raises `UsageError` that names ``what``: values are masked, sparse, nested, quantised, or there are none.
    """
    if is_tensor(values):
        values = on_cpu(values, what)
        return np.asarray(values.float() if str(values.dtype) == "torch.bfloat16" else values)
    parts = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise UsageError(f"{what} has masked values: fill them in, or drop these records.")
    if any(type(part).__module__.startswith("scipy.sparse") for part in parts):
        raise UsageError(f"{what} is sparse, of scipy: give it as an array, .toarray().")
    return np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)


def on_cpu(tensor: Any, what: str) -> Any:
    """A tensor that numpy takes. Raises `UsageError` that names ``what`` where there is none."""
    if tensor.is_nested:
        raise UsageError(f"{what} is a nested tensor: pad it to one shape, torch.nested.to_padded_tensor(x, 0.0).")
    if str(tensor.layout) != "torch.strided":
        raise UsageError(f"{what} is a sparse tensor: give it as a dense one, .to_dense().")
    if tensor.is_meta:
        raise UsageError(f"{what} is a tensor on the device 'meta', where it has no values: give one that has.")
    if tensor.is_quantized:
        raise UsageError(f"{what} is a quantised tensor: give .dequantize().")
    if str(tensor.dtype).startswith("torch.float8"):
        raise UsageError(f"{what} has dtype {tensor.dtype}, which numpy does not have: give .float().")
    return tensor.detach().cpu().resolve_conj().resolve_neg()


def _tensor(x: Array) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(x))


def objects(values: Sequence[Any]) -> Array:
    """(N,) an array of these very objects."""
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _restored(codes: Array, levels: tuple[Any, ...]) -> Array:
    return objects(levels)[codes.astype(np.int64)]


def _pandas(column: Array, dtype: Any, levels: tuple[Any, ...] | None) -> Any:
    pandas = import_module("pandas")
    if levels is None:
        return pandas.Series(column).astype(dtype)
    if dtype in ("category", "ordered category"):
        return pandas.Categorical.from_codes(
            column.astype(np.int64), categories=list(levels), ordered=dtype == "ordered category"
        )
    return pandas.Series(list(_restored(column, levels)), dtype=dtype)


def _polars(name: str, values: Array, dtype: Any) -> Any:
    polars = import_module("polars")
    wanted = getattr(polars, dtype) if isinstance(dtype, str) else dtype
    if values.dtype == object:
        return polars.Series(name, values.tolist(), dtype=wanted)
    return polars.Series(name, values).cast(wanted)
