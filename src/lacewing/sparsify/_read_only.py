"""Composed weights are read-only: they are made anew at each call, so that what is written into one is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from lacewing.errors import UsageError

_ASSIGNING = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
_WRITING = {"__set__", "__setitem__", *(f"__i{name}__" for name in _ASSIGNING)}
_COPYING = {"__deepcopy__", "__reduce_ex__"}


class ReadOnly(Tensor):
    """A tensor that refuses to be written to, like all views of it (``data``, ``detach()``, ``t()``).

    It can be read, differentiated and computed with; results are ordinary tensors, and so is ``clone()``. Writing
    through ``numpy()``, and ``set_``, cannot be refused.
    """

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Refuse functions that write to such a tensor; protect results that share its memory."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if any(isinstance(tensor, ReadOnly) for tensor in _flat(_written(name, args, kwargs))):
            refuse("assigning" if name.startswith("__") else name)
        if name in _COPYING:
            args = (args[0].as_subclass(Tensor), *args[1:])
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
            memory = {_memory(tensor) for tensor in _flat([args, kwargs]) if isinstance(tensor, ReadOnly)}
            return _protected(found, memory)


def read_only(weight: Tensor) -> Tensor:
    """The weight as a tensor that refuses to be written to; as it is under tracing and ``torch.func``."""
    if type(weight) is not Tensor or torch.compiler.is_compiling() or transformed(weight):
        return weight
    return weight.as_subclass(ReadOnly)


def refuse(what: str) -> NoReturn:
    """Raise the error of writing to a composed weight."""
    raise UsageError(
        f"{what} would write to the weight of a butterfly layer, which is composed anew from its factors at each call, "
        "so that nothing would change: write to layer.factors, set a matrix near one with layer.set_matrix(matrix), or "
        "take a copy, layer.weight.detach().clone()."
    )


def _written(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Arguments that a function of this name writes to."""
    first = args[0] if args else next(iter(kwargs.values()), None)
    in_place = name in _WRITING or (name.endswith("_") and not name.endswith("__")) or kwargs.get("inplace") is True
    return [first if in_place else None, kwargs.get("out")]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _protected(found: Any, memory: set[int]) -> Any:
    if isinstance(found, list | tuple) and not hasattr(found, "_fields"):
        return type(found)(_protected(item, memory) for item in found)
    if type(found) is Tensor and found.layout is torch.strided and _memory(found) in memory:
        return found.as_subclass(ReadOnly)
    return found


def transformed(x: Tensor) -> bool:
    """Whether ``torch.func`` (vmap, grad, jvp) wraps the tensor."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))
