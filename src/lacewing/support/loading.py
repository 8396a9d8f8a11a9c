"""The one loader of what users name ``package.module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lacewing.errors import UsageError, UserCodeError, did_you_mean
from lacewing.support.user_code import belongs_to_user, user_code

_NAME = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


def load_function(path: str, field: str) -> Callable[..., Any]:
    """The function called ``package.module:function``; its module is imported, and so run.

    What is installed comes first. Only a module that is not installed is looked for in the working directory, which is
    then appended to the search path of this process and of its workers. Nothing else of ours puts it there: a file in
    it that is called like an optional part of a library would be imported as that.

    Args:
        path: the name.
        field: the option or field that holds it, for messages.

    Raises:
        UsageError: the name is of another form, its module cannot be imported, or has no such function.
    """
    found = _NAME.fullmatch(path)
    if found is None:
        raise UsageError(f"{field}: '{path}' must read package.module:function, a module's name and not a file's.")
    module_name, name = found.groups()
    _admit_working_directory(module_name)
    try:
        with user_code(f"{field}: importing '{module_name}'", "; mend the module"):
            module = importlib.import_module(module_name)
    except UserCodeError as error:
        cause = error.__cause__
        absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if absent is None or not f"{module_name}.".startswith(f"{absent}."):
            raise
        raise UsageError(
            f"{field}: cannot import '{module_name}' ({cause}); run from its folder, or add that to PYTHONPATH."
        ) from cause
    belongs_to_user(module_name)
    try:
        function = getattr(module, name)
    except AttributeError:
        raise UsageError(
            f"{field}: '{module_name}' has no function '{name}'; {did_you_mean(name, vars(module))}"
        ) from None
    if not callable(function):
        raise UsageError(f"{field}: {path} is not callable; name a function.")
    return function  # type: ignore[no-any-return]


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
