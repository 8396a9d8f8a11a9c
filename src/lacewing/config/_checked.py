"""A part of a study from plain data, or one sentence that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from lacewing.config._networks import KINDS
from lacewing.config._parts import Part
from lacewing.errors import UsageError, did_you_mean

P = TypeVar("P", bound=Part)


def validated(part: type[P], fields: Mapping[str, Any], where: str) -> P:
    """The part with these fields.

    Raises:
        UsageError: it begins with ``where`` and names the field and the mend.
    """
    try:
        return part.model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"{where}: {_sentence(error, part)}") from None


def _sentence(error: ValidationError, part: type[Part]) -> str:
    """The first problem in one sentence that names the field and, for an unknown field, the nearest known one."""
    problem = error.errors()[0]
    tags = set(KINDS)
    steps = [s for i, s in enumerate(problem["loc"]) if not (s in tags and i == 2)]  # drop the union's tag
    field = ".".join(str(s) for s in steps)
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{field}'; {did_you_mean(str(steps[-1]), _siblings(part, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"'{field}' is missing; add it."
    if problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        method = problem.get("ctx", {}).get("tag", "nothing")
        return f"{field}.method is {method!r}; {did_you_mean(str(method), tags)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}."
    return f"{field} = {problem['input']!r}: {message[0].lower()}{message[1:]}."


def _siblings(part: type[Part], loc: tuple[int | str, ...]) -> list[str]:
    here: type[Part] = part
    for step in loc:
        if isinstance(step, str) and step in KINDS:
            here = KINDS[step]
        elif isinstance(step, str) and step in here.model_fields:
            annotation = here.model_fields[step].annotation
            if isinstance(annotation, type) and issubclass(annotation, Part):
                here = annotation
    return [f.alias or name for name, f in here.model_fields.items()]
