"""Which code is in force: installed packages by version, users' modules by their source and all that they import."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lacewing.support.user_code import is_users


def of_user(name: str) -> bool:
    """Whether a module, by its full name, is the user's own: a script, or a file outside of installed packages."""
    if name == "__main__":
        return True
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is not None:
        return is_users(file)
    if module is None and (place := _place(name)) is not None:
        return is_users(str(place))
    return name.partition(".")[0] not in sys.stdlib_module_names


def version(name: str) -> str:
    """The version of the installed package that a module is in; "" where no package says so."""
    top = name.partition(".")[0]
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(top)
    with suppress(importlib.metadata.PackageNotFoundError, IndexError, KeyError):
        return importlib.metadata.version(_distributions()[top][0])
    return str(getattr(sys.modules.get(top), "__version__", ""))


def modules(name: str) -> dict[str, str]:
    """What a module's code depends on, itself included, by module: digests of users' sources, versions of packages.

    Imports are followed from user module to user module as the sources state them, and nothing is imported. Neither
    comments nor the place of a file change a digest. A module that cannot be found stands there as "absent".
    """
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        top = each.partition(".")[0]
        if each in found or top in found or top in sys.stdlib_module_names:
            continue
        place = _place(each)
        if place is None:
            found[each] = "absent"
        elif not is_users(str(place)):
            found[top] = version(top)
        elif place.is_dir():
            found[each] = "namespace"
        else:
            content = place.read_bytes()
            try:
                tree = ast.parse(content)
            except (SyntaxError, ValueError):  # an extension module
                found[each] = hashlib.sha256(content).hexdigest()
                continue
            found[each] = hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()
            waiting += _imports(tree, each, is_package=place.name == "__init__.py")
    return found


def _imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """The modules, and the packages that they are in, that a source imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            if not base:
                continue
            yield from _with_parents(base)
            for alias in node.names:  # a name that is imported from a package may be a module of it
                if _place(f"{base}.{alias.name}") is not None:
                    yield f"{base}.{alias.name}"


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _place(name: str) -> Path | None:
    """The file of a module, or a folder of a namespace package; None where there is none. Imports nothing."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is not None:
        return Path(file)
    search: list[str] | None = None
    if spec is None:
        for part in _with_parents(name):
            try:
                spec = importlib.machinery.PathFinder.find_spec(part, search)
            except (ImportError, ValueError):
                return None
            if spec is None:
                return None
            search = [*(spec.submodule_search_locations or ())]
    assert spec is not None
    if spec.origin is not None and Path(spec.origin).is_file():
        return Path(spec.origin)
    return Path(next(iter(spec.submodule_search_locations))) if spec.submodule_search_locations else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(found)) for name, found in importlib.metadata.packages_distributions().items()}
