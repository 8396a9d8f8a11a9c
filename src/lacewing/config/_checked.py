"""A part of a study from plain data, or one sentence that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from lacewing.config._bounds import BadField, BadLength, BadTogether, BadValue, shown
from lacewing.config._parts import Part
from lacewing.errors import UsageError, did_you_mean

P = TypeVar("P", bound=Part)
_MENDS = {  # by pydantic's name of the problem, where its own words are about Python
    "int_type": "give a whole number",
    "float_type": "give a number",
    "bool_type": "give true or false",
    "string_type": "give text, in quotes",
    "tuple_type": "give a list",
    "dict_type": "give a table of fields",
    "model_type": "give a table of fields",
    "model_attributes_type": "give a table of fields",
}


def validated(
    part: type[P],
    fields: Mapping[str, Any],
    where: str = "",
    *,
    field: str = "",
    context: Mapping[str, Any] | None = None,
) -> P:
    """The part with these fields.

    Args:
        part: what is made of them.
        fields: plain data.
        where: the beginning of the sentence of an error, such as the name of a file.
        field: what the part itself is called, to name its fields: ``networks.2``.
        context: for the part's validators.

    Raises:
        UsageError: it names the field and the mend.
    """
    try:
        return part.model_validate(fields, context=context)
    except ValidationError as error:
        sentence = _sentence(error, part, field)
        raise UsageError(f"{where}: {sentence}" if where else sentence) from None


def _sentence(error: ValidationError, part: type[Part], prefix: str) -> str:
    """The first problem in one sentence that names the field and, for an unknown field, the nearest known one."""
    problems = error.errors(include_url=False)
    # A misspelled field is told as that, and not as the required one that is missing for it.
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    field = ".".join([*([prefix] if prefix else []), *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        last = str(problem["loc"][-1])
        return f"unknown field '{field}'; {did_you_mean(last, _siblings(part, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"'{field}' is missing; add it."
    message = _MENDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    refusal = problem.get("ctx", {}).get("error")
    if isinstance(refusal, BadField):
        return message
    if isinstance(refusal, BadTogether):
        return f"{field + '.' if field else ''}{message}."
    if isinstance(refusal, BadLength):
        return f"{field} {message}."
    if problem["type"] == "value_error" and not isinstance(refusal, BadValue):
        return f"{field + ': ' if field else ''}{message}{'' if message.endswith(('.', '?')) else '.'}"
    return f"{field} = {shown(problem['input'])}: {message[0].lower()}{message[1:]}."


def _siblings(part: type[Part], loc: tuple[int | str, ...]) -> list[str]:
    here: type[Part] = part
    for step in loc:
        if isinstance(step, str) and step in here.model_fields:
            annotation = here.model_fields[step].annotation
            # The part itself, or the one that is optional or listed there.
            for each in (annotation, *get_args(annotation)):
                if isinstance(each, type) and issubclass(each, Part):
                    here = each
    return [f.alias or name for name, f in here.model_fields.items()]
