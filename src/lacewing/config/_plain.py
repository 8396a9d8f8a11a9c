"""Plain data: what TOML can say and a study can hold, from whatever a TOML file or a user's mapping holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from lacewing.errors import UsageError
from lacewing.support.text import visible

DEEPEST, MOST, LONGEST_KEY, LONGEST_TEXT = 10, 50_000, 100, 4_096  # tables in tables, values in all, characters


def plain(value: Any, where: str) -> Any:
    """A copy of ``value`` that is made of dict, list, str, int (of 64 bits), float, bool and None alone.

    A path becomes text, a number or an array of numpy that of Python.

    Raises:
        UsageError: something else is in it, or too much of it; the sentence begins with ``where`` and names the field.
    """
    left = MOST

    def copied(value: Any, field: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        at = f"{where}: {field or 'the study'}"
        if left < 0:
            raise UsageError(f"{where}: there are more than {MOST:,} values in it; a study has far fewer.")
        if depth > DEEPEST:
            raise UsageError(f"{at} lies more than {DEEPEST} tables or lists deep; a study has no such field.")
        value = _of_numpy(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                raise UsageError(f"{at} is a whole number of more than 64 bits; give a smaller one.")
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            return _text(value, at)
        if isinstance(value, Mapping):
            return {
                (name := _name(key, at)): copied(item, f"{field}.{name}".lstrip("."), depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [copied(item, f"{field}.{place}".lstrip("."), depth + 1) for place, item in enumerate(value)]
        raise UsageError(
            f"{at} is a {type(value).__name__}; a study holds text, numbers, true or false, lists and tables alone."
        )

    return copied(value, "", 0)


def _of_numpy(value: Any) -> Any:
    numpy = sys.modules.get("numpy")  # who gives a value of it has loaded it
    if numpy is None:
        return value
    if isinstance(value, numpy.generic | numpy.ndarray) and value.dtype.kind in "biufU" and value.size <= MOST:
        return value.tolist()
    return value


def _text(text: str, at: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"{at} has {len(text):,} characters; at most {LONGEST_TEXT:,} are read.")
    odd = next((c for c in text if c in "\n\t" or visible(c) != c), None)
    if odd is not None:
        raise UsageError(f"{at} holds the control character U+{ord(odd):04X}; leave it out.")
    return str.__str__(text)


def _name(key: Any, at: str) -> str:
    if not isinstance(key, str):
        raise UsageError(f"{at} has a field named by a {type(key).__name__}; name fields by text.")
    if len(key) > LONGEST_KEY:
        raise UsageError(f"{at} has a field whose name has {len(key):,} characters; no field is named so.")
    return _text(key, at)
