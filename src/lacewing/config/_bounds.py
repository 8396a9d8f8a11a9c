"""What a field of a study may hold at most, each bound with its reason, and how values are told in a sentence."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import AfterValidator

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
LONGEST_NAME = 64
_MOST_KEYWORDS = 50
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # of Windows


class BadValue(ValueError):
    """Goes on from "<field> = <value>: "."""


class BadLength(ValueError):
    """Goes on from "<field> "."""


class BadField(ValueError):
    """A whole sentence, told as it is."""


class BadTogether(ValueError):
    """Fields of a part that do not fit each other; goes on from the part, "<part>.", with the name of a field."""


def at_most(most: float, why: str) -> AfterValidator:
    """Refuse a number above ``most``; ``why`` ends the sentence "at most ..., since"."""

    told = f"{most:g}" if isinstance(most, float) else f"{most:,}"

    def check(value: float) -> float:
        if value > most:
            raise BadValue(f"at most {told}, since {why}")
        return value

    return AfterValidator(check)


def at_least(least: float, why: str, *, or_zero: bool = False) -> AfterValidator:
    """Refuse a number below ``least``, but for 0 with ``or_zero``; ``why`` ends the sentence "at least ..., since"."""

    def check(value: float) -> float:
        if value < least and not (or_zero and value == 0):
            raise BadValue(f"{'0 or ' * or_zero}at least {least:g}, since {why}")
        return value

    return AfterValidator(check)


def no_longer_than(most: int, why: str) -> AfterValidator:
    """Refuse a list or text of more than ``most`` items or characters."""

    def check(value: Any) -> Any:
        if len(value) > most:
            unit = "characters" if isinstance(value, str) else "values"
            raise BadLength(f"has {len(value):,} {unit}: at most {most:,}, since {why}")
        return value

    return AfterValidator(check)


def ascending(what: str) -> AfterValidator:
    """Refuse a list that does not ascend, or holds a ``what`` twice."""

    def check(values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(set(values)):
            raise ValueError(f"{shown(list(values))} must ascend, no {what} twice")
        return values

    return AfterValidator(check)


def distinct(what: str) -> AfterValidator:
    """Refuse a list that holds a ``what`` twice."""

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{shown(list(values))} names {what} twice")
        return values

    return AfterValidator(check)


def keywords(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what cannot be given to a function by name, or is no plain data that a key can be made of."""
    if len(options) > _MOST_KEYWORDS:
        raise BadLength(f"has {len(options):,} names: at most {_MOST_KEYWORDS}, since no model takes more")
    for name, value in options.items():
        if not name.isidentifier():
            raise ValueError(f"{shown(name)} cannot name an argument; give names such as depth")
        if not _is_plain(value):
            raise ValueError(f"{name} = {shown(value)}: give a finite number, text, true or false, or a list of these")
    return options


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _folder_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{shown(name)} must be lower-case letters, digits, '-' and '.': it names a folder")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{shown(name)} has {len(name):,} characters: at most {LONGEST_NAME}, since it names a folder")
    if name.endswith(".") or name.partition(".")[0] in _DEVICES:
        raise ValueError(f"{name!r} cannot name a folder on Windows; choose another name")
    return name


folder_name = AfterValidator(_folder_name)


def shown(value: object) -> str:
    """A value as it is told in a sentence: its beginning where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} ..."
