"""What a training function depends on, as one digest: code, constants, defaults, closure and the globals it refers to.

Two functions of one digest train alike, given the same records and files. The digest is the same in every process, and
neither names of functions, line numbers nor comments change it.
"""

from __future__ import annotations

import builtins
import enum
import functools
import hashlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np

from lacewing.auditing._bytecode import absolute, names
from lacewing.support import sources

_ATOMS = (type(None), bool, int, float, complex, type(Ellipsis), type(NotImplemented))
_DESCRIPTORS = (
    MethodDescriptorType,
    WrapperDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ClassMethodDescriptorType,
)
_CACHED = type(functools.lru_cache(lambda: None))
_NO_RECIPE = frozenset(  # attributes of a class that do not change what it does, or repeat what its methods hold
    {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__annotate__"}
    | {"__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__", "__slotnames__"}
    | {"__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_abc_impl"}
)


def recipe(function: Callable[..., Any]) -> tuple[str, tuple[str, ...]]:
    """A hexadecimal digest of all that identifies ``function``, and what could not be identified.

    What it refers to is followed through its module and the user's others: functions and classes by their bytecode,
    plain data, arrays and tensors by content, objects by their class and what pickle would store of them, installed
    packages by version. Modules of the user that a function imports inside itself are imported, and what it reads of
    them counts as it is now. So do global settings of torch that training depends on, where they are not the usual
    ones. Not followed: files that it reads, environment variables, names that it makes at run time.

    Not identified are things whose state is not in reach (open files, generators, locks) or is trained (a torch module
    with parameters, an optimiser): each as "'net' (a Sequential)".
    """
    walk = _Walk()
    digest = walk.digest(function, "refit")
    settings = (repr(pair) for pair in _torch_settings())
    return _hash("recipe", sys.implementation.cache_tag or "", digest, *settings).hex(), tuple(
        dict.fromkeys(walk.unknown)
    )


class _Walk:
    """One walk over a function and what it refers to; what was met before has its digest already."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._done: dict[int, tuple[Any, bytes]] = {}  # the object itself, so that its id is not given to another
        self._open: dict[int, int] = {}  # what the walk is inside of: its depth, which stands for it where it recurs
        self._read: dict[str, bytes] = {}  # digests of the sources of modules

    def digest(self, thing: Any, where: str) -> bytes:
        """The digest of anything; ``where`` is how a user would call it."""
        if type(thing) in _ATOMS:
            return _hash(type(thing).__name__, repr(thing))
        if type(thing) in (str, bytes, bytearray):
            return _hash(type(thing).__name__, thing)
        if id(thing) in self._open:
            return _hash("recurs", str(self._open[id(thing)]))
        if id(thing) in self._done:
            return self._done[id(thing)][1]
        self._open[id(thing)] = len(self._open)
        try:
            found = self._object(thing, where)
        except Exception:  # of users' own properties and __reduce__, or nested too deeply
            found = self._unidentified(thing, where)
        finally:
            del self._open[id(thing)]
        self._done[id(thing)] = (thing, found)
        return found

    def _object(self, thing: Any, where: str) -> bytes:
        if isinstance(thing, FunctionType):
            return self._function(thing, where)
        if isinstance(thing, CodeType):
            return self._code(thing)
        if isinstance(thing, MethodType):
            return self._all("method", where, thing.__func__, thing.__self__)
        if isinstance(thing, functools.partial):
            return self._all("partial", where, type(thing), thing.func, thing.args, thing.keywords, vars(thing))
        if isinstance(thing, functools.partialmethod):
            return self._all("partialmethod", where, thing.func, thing.args, thing.keywords)
        if isinstance(thing, staticmethod | classmethod):
            return self._all(type(thing).__name__, where, thing.__func__)
        if isinstance(thing, property):
            return self._all("property", where, thing.fget, thing.fset, thing.fdel)
        if isinstance(thing, functools.cached_property):
            return self._all("cached property", where, thing.func)
        if type(thing) is _CACHED:
            return self._all("cached", where, thing.__wrapped__)  # in C: nothing else says what it calls
        if isinstance(thing, CellType):
            return self._cell(thing, where)
        if isinstance(thing, ModuleType):
            return self._module(thing, where)
        if isinstance(thing, type):
            return self._class(thing, where)
        if isinstance(thing, MethodWrapperType):
            return self._all("slot", where, thing.__name__, thing.__self__)
        if isinstance(thing, _DESCRIPTORS):
            return _hash("slot", thing.__objclass__.__module__, thing.__objclass__.__qualname__, thing.__name__)
        if isinstance(thing, BuiltinFunctionType):
            owner = thing.__self__
            if owner is None or isinstance(owner, ModuleType):
                return _library(getattr(owner, "__name__", "builtins"), thing.__qualname__)
            return self._all("builtin", where, thing.__name__, owner)
        return self._data(thing, where)

    def _data(self, thing: Any, where: str) -> bytes:
        if type(thing) in (list, tuple):
            return self._all(type(thing).__name__, where, *thing)
        if type(thing) in (dict, MappingProxyType):
            return self._mapping(thing, where)
        if type(thing) in (set, frozenset):
            return _hash(type(thing).__name__, *sorted(self._apart(each, where) for each in thing))
        if isinstance(thing, logging.Logger):
            return _hash("logger")
        if isinstance(thing, enum.Enum):
            return self._all("enum", where, type(thing), thing.name)
        if type(thing) is np.ndarray and not thing.dtype.hasobject:
            return _hash("array", repr(thing.dtype.descr), str(thing.shape), thing.tobytes())
        torch = sys.modules.get("torch")
        if torch is not None:
            if type(thing) in (torch.Tensor, torch.nn.Parameter):
                content = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                return _hash("tensor", type(thing).__name__, str(thing.dtype), str(tuple(thing.shape)), content)
            if isinstance(thing, torch.dtype | torch.device):
                return _hash("torch", repr(thing))
            if isinstance(thing, torch.optim.Optimizer):
                return self._unidentified(thing, where)
            if isinstance(thing, torch.nn.Module) and any(True for _ in (*thing.parameters(), *thing.buffers())):
                return self._unidentified(thing, where)
        if (name := _found_by_name(thing)) is not None and not sources.of_user(name[0]):
            return _library(*name)
        return self._instance(thing, where)

    def _instance(self, thing: Any, where: str) -> bytes:
        """An object by its class and by what pickle would store of it."""
        reduced = thing.__reduce_ex__(4)
        if isinstance(reduced, str):
            own = vars(thing) if hasattr(thing, "__dict__") else {}
            return self._all("named", where, type(thing), reduced, own)
        maker, arguments, state, items, pairs, *further = (*reduced, None, None, None, None)[:6]
        parts = [self.digest(each, where) for each in (type(thing), maker, arguments, *further)]
        state = state if isinstance(state, tuple) else (state,)
        parts += [self._mapping(s, where, ".") if type(s) is dict else self.digest(s, where) for s in state]
        parts += [self.digest(list(each or ()), where) for each in (items, pairs)]
        if _pickles_itself(type(thing)):  # and may leave out what training reads
            parts.append(self._mapping(_attributes(thing), where, "."))
        return _hash("object", *parts)

    def _function(self, function: FunctionType, where: str) -> bytes:
        if (name := _found_by_name(function)) is not None and not sources.of_user(name[0]):
            return _library(*name)
        code, known = function.__code__, function.__globals__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        own = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
        parts = [
            self._code(code),
            self.digest(function.__defaults__, where),
            self._mapping(function.__kwdefaults__ or {}, ""),
            self._mapping(own, where, "."),
            *(self._cell(cell, name) for name, cell in cells),
        ]
        if sources.of_user(known.get("__name__", "__main__")):
            parts += self._globals(code, known)
        return _hash("function", *parts)

    def _cell(self, cell: CellType, where: str) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:
            return _hash("empty")
        return self.digest(content, where)

    def _code(self, code: CodeType) -> bytes:
        return _hash(
            "code",
            code.co_code,
            code.co_exceptiontable,
            repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)),
            repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)),
            *(self.digest(constant, "a constant") for constant in code.co_consts),
        )

    def _globals(self, code: CodeType, known: Mapping[str, Any]) -> Iterator[bytes]:
        """What the names that a function's code refers to stand for, and the modules that it imports itself."""
        referred, imported, read = names(code)
        for name, *attributes in sorted(referred):
            if name in known:
                found = self._value(known[name], name, attributes)
            else:
                found = _hash("builtin" if hasattr(builtins, name) else "undefined")
            yield _hash("global", name, found)
        package = known.get("__package__") or ""
        for level, name in sorted(imported):
            yield self._sources(full := absolute(level, name, package))
            if sources.of_user(full):
                _module_of(full)  # so that packages hold their modules when these are read
        for level, name, chain in sorted(read):
            full = absolute(level, name, package)
            if sources.of_user(full) and (module := _module_of(full)) is not None:
                yield _hash("read", full, self._value(module, full, chain))

    def _value(self, value: Any, where: str, attributes: Iterable[str]) -> bytes:
        """A global, and of a user's module what the code reads of it."""
        read = list[bytes]()
        for attribute in attributes:
            if not isinstance(value, ModuleType) or not sources.of_user(value.__name__):
                break
            read.append(self._sources(value.__name__))
            if not hasattr(value, attribute):
                return _hash("undefined", *read)
            value, where = getattr(value, attribute), f"{where}.{attribute}"
        return _hash("value", self.digest(value, where), *read)

    def _module(self, module: ModuleType, where: str) -> bytes:
        """A module that is handed about: of a user's its source and all that it holds now."""
        name = module.__name__
        if not sources.of_user(name):
            return _library(name, "")
        before = len(self.unknown)
        held = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        content = [_hash(key, self.digest(held[key], key)) for key in sorted(held)]
        del self.unknown[before:]  # nobody knows whether it is read; its source is known
        return _hash("module", self._sources(name), *content)

    def _class(self, thing: type, where: str) -> bytes:
        name = _found_by_name(thing)
        if name is not None and not sources.of_user(name[0]):
            return _library(*name)
        parts = [self.digest(type(thing), where), *(self.digest(base, where) for base in thing.__bases__)]
        held = {name: value for name, value in vars(thing).items() if name not in _NO_RECIPE}
        return _hash("class", *parts, *(_hash(key, self.digest(held[key], key)) for key in sorted(held)))

    def _mapping(self, thing: Mapping[Any, Any], where: str, link: str = "") -> bytes:
        def called(key: Any) -> str:
            if not isinstance(key, str):
                return where
            return f"{where}{link}{key}" if link or not where else f"{where}[{key!r}]"

        pairs = ((self.digest(key, where), self.digest(value, called(key))) for key, value in thing.items())
        return _hash("dict", *(part for pair in pairs for part in pair))

    def _all(self, kind: str, where: str, *things: Any) -> bytes:
        return _hash(kind, *(self.digest(thing, where) for thing in things))

    def _apart(self, thing: Any, where: str) -> bytes:
        """The digest of an element of a set, which does not depend on which elements came before it."""
        before = dict(self._done)
        try:
            return self.digest(thing, where)
        finally:
            self._done = before

    def _sources(self, module: str) -> bytes:
        if module not in self._read:
            found = sources.modules(module)
            self._read[module] = _hash("sources", *(text for name in sorted(found) for text in (name, found[name])))
        return self._read[module]

    def _unidentified(self, thing: Any, where: str) -> bytes:
        self.unknown.append(f"'{where}' (a {type(thing).__name__})")
        return _hash("unidentified", type(thing).__module__, type(thing).__qualname__)


def _hash(kind: str, *parts: str | bytes | bytearray) -> bytes:
    """SHA-256 of the parts, each behind its length so that no two lists of parts read alike."""
    found = hashlib.sha256()
    for part in (kind, *parts):
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(f"{len(content)}:".encode())
        found.update(content)
    return found.digest()


def _library(module: str, name: str) -> bytes:
    return _hash("library", module, name, sources.version(module))


def _found_by_name(thing: Any) -> tuple[str, str] | None:
    """(module, name) under which the thing itself can be imported; None where that gives nothing, or another thing."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is thing else None


def _module_of(name: str) -> ModuleType | None:
    """A user's module, imported as the training function is about to; None where that fails."""
    with suppress(Exception, SystemExit):
        return importlib.import_module(name)
    return None


def _pickles_itself(kind: type) -> bool:
    """Whether it is user code that says what pickle stores of a class's objects."""
    for base in kind.__mro__:
        if any(name in vars(base) for name in ("__getstate__", "__reduce__", "__reduce_ex__")):
            return base is not object and sources.of_user(base.__module__)
    return False


def _attributes(thing: Any) -> dict[str, Any]:
    """All attributes of an object itself, those in slots among them."""
    slots = [name for base in type(thing).__mro__ for name in _listed(vars(base).get("__slots__", ()))]
    held = {
        name: getattr(thing, name) for name in slots if name not in ("__dict__", "__weakref__") and hasattr(thing, name)
    }
    return held | dict(getattr(thing, "__dict__", {}))


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _torch_settings() -> Iterator[tuple[str, str]]:
    """Global settings of torch that change what a training gives, where they are not as torch starts."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    cudnn = torch.backends.cudnn
    usual: list[tuple[str, Callable[[], Any], Any]] = [
        ("default dtype", torch.get_default_dtype, torch.float32),
        ("default device", torch.get_default_device, torch.device("cpu")),
        ("deterministic", torch.are_deterministic_algorithms_enabled, False),
        ("precision of products", torch.get_float32_matmul_precision, "highest"),
        ("cudnn.deterministic", lambda: cudnn.deterministic, False),
        ("cudnn.benchmark", lambda: cudnn.benchmark, False),
        ("cudnn.allow_tf32", lambda: cudnn.allow_tf32, True),
        ("cudnn.enabled", lambda: cudnn.enabled, True),
    ]
    for name, read, value in usual:
        with suppress(AttributeError, RuntimeError):
            if (now := read()) != value:
                yield name, str(now)
