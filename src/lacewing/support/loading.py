"""The one loader of what users add: ``package.module:name``, or a name that an installed package adds."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lacewing.errors import UsageError, UserCodeError, did_you_mean
from lacewing.support.user_code import belongs_to_user, user_code

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint  # what it imports takes a sixth of the time of `lacewing --help`

METHODS, ATTACKS, DATASETS, MODELS = (  # groups of entry points
    "lacewing.methods",
    "lacewing.attacks",
    "lacewing.datasets",
    "lacewing.models",
)
_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


def is_path(name: str) -> bool:
    """Whether a name has the form ``package.module:name``, and so is neither built in nor added by a package."""
    return _PATH.fullmatch(name) is not None


def load_object(path: str, field: str) -> Any:
    """The object called ``package.module:name``; its module is imported, and so run.

    What is installed comes first. Only a module that is not installed is looked for in the working directory, which is
    then appended to the search path of this process and of its workers. Nothing else of ours puts it there: a file in
    it that is called like an optional part of a library would be imported as that.

    Args:
        path: the name.
        field: the option or field that holds it, for messages.

    Raises:
        UsageError: the name is of another form, its module cannot be imported, or does not define it.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise UsageError(f"{field}: '{path}' must read package.module:name, a module's name and not a file's.")
    module_name, name = found.groups()
    _admit_working_directory(module_name)
    try:
        return _imported(module_name, name, f"{field}: importing '{module_name}'", "; mend the module")
    except _AbsentError as error:
        raise UsageError(
            f"{field}: cannot import '{module_name}' ({error}); run from its folder, or add that to PYTHONPATH."
        ) from error.__cause__
    except _LacksError as error:
        raise UsageError(f"{field}: {error}") from None


def load_function(path: str, field: str) -> Callable[..., Any]:
    """As `load_object`. Raises `UsageError` also where the object cannot be called."""
    function = load_object(path, field)
    if not callable(function):
        raise UsageError(f"{field}: {path} is not callable; name a function.")
    return function  # type: ignore[no-any-return]


def installed(group: str) -> dict[str, EntryPoint]:
    """What installed packages add to a group of entry points, by name. Imports none of it.

    Args:
        group: ``METHODS``, ``ATTACKS``, ``DATASETS`` or ``MODELS``.
    """
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def load_installed(entry: EntryPoint, field: str) -> Any:
    """The object of an entry point; its module is imported, and so run.

    Raises:
        UsageError: it cannot be loaded; the sentence names the package that adds it.
    """
    package = entry.dist.name if entry.dist is not None else entry.module
    place = f"{field}: '{entry.name}' of the installed package '{package}'"
    mend = f"upgrade '{package}', or uninstall it"
    found = _PATH.fullmatch(entry.value)
    if found is None:
        raise UsageError(f"{place} cannot be loaded: '{entry.value}' is not of the form package.module:name; {mend}.")
    module_name, name = found.groups()
    try:
        return _imported(module_name, name, f"{place}: importing '{module_name}'", f"; {mend}")
    except (_AbsentError, _LacksError) as error:
        raise UsageError(f"{place} cannot be loaded ({str(error).rstrip('.?')}); {mend}.") from error.__cause__


def load_users(name: str, group: str, field: str, *, built_in: Iterable[str]) -> Any:
    """What a name stands for that is not built in: ``package.module:name``, or what an installed package adds.

    Args:
        name: as the user wrote it.
        group: of entry points, see `installed`.
        field: that holds the name, for messages.
        built_in: names that are known without any package.

    Raises:
        UsageError: nothing has this name, several packages add it, or it cannot be loaded.
    """
    if ":" in name:
        return load_object(name, field)
    refuse_ambiguous([name], group, field, built_in=built_in)
    there = installed(group)
    if name not in there:
        raise UsageError(
            f"{field}: unknown name '{name}': {did_you_mean(name, {*built_in, *there})} Your own is named as "
            "package.module:name."
        )
    return load_installed(there[name], field)


def refuse_ambiguous(names: Iterable[str], group: str, field: str, *, built_in: Iterable[str]) -> None:
    """Raise `UsageError` where an installed package adds a name that is built in, or that another package adds."""
    from importlib.metadata import entry_points

    there = entry_points(group=group)
    for name in there.names.intersection(names):
        packages = sorted({e.dist.name if e.dist is not None else e.value for e in there.select(name=name)})
        if name in set(built_in):
            raise UsageError(
                f"{field}: '{name}' is built in, and the installed package '{packages[0]}' adds the same name: "
                "uninstall it, or upgrade it to a version with another name."
            )
        if len(packages) > 1:
            raise UsageError(
                f"{field}: the installed packages {' and '.join(map(repr, packages))} all add '{name}': uninstall all "
                "but one."
            )


def module_of(name: str, group: str) -> str:
    """The module that a name which `load_users` loaded is in."""
    return name.partition(":")[0] if ":" in name else installed(group)[name].module


def source_digest(thing: Any, field: str) -> str:
    """SHA-256 (hexadecimal) of the source of the module that defines a function or class, or of a module.

    Of an instance it is the module of its class, of a `functools.partial` that of its function.

    Raises:
        UsageError: there is no source, so that results of this code could not be told apart from older ones.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    module = thing if isinstance(thing, ModuleType) else inspect.getmodule(thing)
    try:
        source = inspect.getsource(module)  # type: ignore[arg-type]
    except (OSError, TypeError):
        name = getattr(module, "__name__", None) or getattr(thing, "__name__", type(thing).__name__)
        raise UsageError(
            f"{field}: '{name}' has no source file, so what it makes cannot be cached; put the code into a .py file."
        ) from None
    return hashlib.sha256(source.encode()).hexdigest()


class _AbsentError(Exception):
    """The module itself, or a package that it is in, is not there."""


class _LacksError(Exception):
    """The module does not define the name."""


def _imported(module_name: str, name: str, place: str, mend: str) -> Any:
    try:
        with user_code(place, mend), redirect_stdout(sys.stderr):  # stdout is for results
            module = importlib.import_module(module_name)
    except UserCodeError as error:
        cause = error.__cause__
        absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if absent is None or not f"{module_name}.".startswith(f"{absent}."):
            raise
        raise _AbsentError(str(cause)) from cause
    belongs_to_user(module_name)
    try:
        return getattr(module, name)
    except AttributeError:
        raise _LacksError(f"'{module_name}' does not define '{name}'; {did_you_mean(name, vars(module))}") from None


def _admit_working_directory(module_name: str) -> None:
    top = module_name.partition(".")[0]
    if top in sys.modules:
        return
    found = importlib.util.find_spec(top)
    if found is not None and found.origin is not None:  # one without is a namespace: any folder of that name
        return
    with suppress(FileNotFoundError):  # of a working directory that was removed
        here = os.getcwd()  # noqa: PTH109  (as Python writes it in sys.path)
        if here not in sys.path:
            sys.path.append(here)
