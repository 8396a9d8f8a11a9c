"""``lacewing list``: the built-in studies, and what a study can name, with one sentence each."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lacewing.cli._common import Json
from lacewing.errors import UsageError, did_you_mean
from lacewing.support import loading
from lacewing.support.text import entry, print_json, say

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Listed(NamedTuple):
    """One name.

    Attributes:
        name: as in a study.
        sentence: a description, or why it cannot be used.
        package: the installed package that adds it; None: built in.
        usable: whether a study can name it.
    """

    name: str
    sentence: str
    package: str | None = None
    usable: bool = True


def rows(kind: str) -> list[Listed]:
    """The built-in names, then those that installed packages add, whose modules are imported.

    Args:
        kind: "methods", "attacks", "datasets", "models" or "studies", which packages do not add.

    Raises:
        UsageError: unknown kind.
    """
    if kind not in _KINDS:
        raise UsageError(f"list {kind}: {did_you_mean(kind, _KINDS)}")
    group, own, sentence = _KINDS[kind]
    built_in = own()
    points = loading.installed(group).values() if group is not None else ()
    added = [_added(point, kind, built_in, sentence) for point in points]
    return [*(Listed(name, said) for name, said in built_in.items()), *added]


def show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="methods, attacks, datasets, models or studies.")],
    as_json: Json = False,
) -> None:
    """List methods, attacks, data sets, models or studies.

    It lists what is built in and what installed packages add. Studies can also name your own as package.module:name.
    """
    found = rows(kind)
    if as_json:
        print_json({"schema": 1, kind: [row._asdict() for row in found]})
        return
    width = max(len(row.name) for row in found)
    for row in found:
        origin = "" if row.package is None else f" (added by {row.package})"
        say(entry(f"{row.name:<{width}}  {row.sentence}{origin}"))


def _added(point: EntryPoint, kind: str, built_in: Mapping[str, str], sentence: Callable[[Any], str]) -> Listed:
    package = point.dist.name if point.dist is not None else point.module
    try:
        thing = loading.load_users(point.name, point.group, kind, built_in=built_in)
    except UsageError as error:
        return Listed(point.name, str(error).splitlines()[0], package, usable=False)
    return Listed(point.name, sentence(thing), package)


def _doc(thing: Any) -> str:
    """The first sentence of the docstring of a function or class."""
    text = inspect.getdoc(thing) if callable(thing) else None
    first = " ".join((text or "It has no docstring.").split("\n\n")[0].replace("``", "").split())
    return first if first.endswith((".", "?", "!")) else f"{first}."


def _attack(thing: Any) -> str:
    from lacewing.attacks import Attack

    return thing.threat_model if isinstance(thing, Attack) else _doc(thing)


def _attacks() -> dict[str, str]:
    from lacewing.attacks import ATTACKS

    return {name: attack.threat_model for name, attack in ATTACKS.items()}


def _datasets() -> dict[str, str]:
    from lacewing import data

    found = {}
    for name in data.names():
        info = data.describe(name)
        shape = "x".join(map(str, info.shape))
        found[name] = f"{info.records} records of {shape}, {info.classes} classes; {info.source}"
    return found


def _models() -> dict[str, str]:
    from lacewing import models

    return dict(models.SENTENCES)


def _methods() -> dict[str, str]:
    from lacewing.methods import METHODS

    return {name: _doc(method) for name, method in METHODS.items()}


def _studies() -> dict[str, str]:
    """The first sentence of the comment that each file begins with."""
    from lacewing.support.shipped import builtin_studies  # study.declared brings numpy and pydantic

    found = {}
    for name, text in sorted(builtin_studies().items()):
        lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        comment = " ".join(line.removeprefix("#").strip() for line in lines)
        found[name] = re.split(r"(?<=[.?]) ", comment, maxsplit=1)[0]
    return found


_KINDS: dict[str, tuple[str | None, Callable[[], dict[str, str]], Callable[[Any], str]]] = {
    "methods": (loading.METHODS, _methods, _doc),
    "attacks": (loading.ATTACKS, _attacks, _attack),
    "datasets": (loading.DATASETS, _datasets, _doc),
    "models": (loading.MODELS, _models, _doc),
    "studies": (None, _studies, _doc),
}
