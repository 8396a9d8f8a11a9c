"""Studies as text: read from TOML, changed with --set, written back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lacewing.config import DEEPEST, LONGEST_TEXT, plain, shown, validated
from lacewing.errors import UsageError, did_you_mean
from lacewing.study.declared._study import Study
from lacewing.study.declared._vary import expanded
from lacewing.support.formats import TOML_BYTES, NotTOML, parse_toml, read_toml
from lacewing.support.shipped import builtin_studies


def load_study(study: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Study:
    """A study from a built-in name, a TOML file or a mapping, with ``a.b=c`` overrides applied.

    A mapping may hold paths, and numbers and arrays of numpy, beside what TOML can say.

    Raises:
        UsageError: no such study, a TOML error, an unknown field or a bad value; the message names it and the mend.
    """
    where = "study"
    if isinstance(study, Mapping):
        fields = plain(study, where)  # a copy, which --set may change
    elif isinstance(study, str | Path):
        fields, where = _named(str(study))
    else:
        raise UsageError(f"study is a {type(study).__name__}; give a built-in name, a TOML file or a mapping.")
    for override in overrides:
        _set(fields, override)
    fields, places = expanded(plain(fields, where), where)
    return validated(Study, fields, where, context={"places": tuple(places)})


def recorded_study(fields: Mapping[str, Any], methods: Mapping[str, Any]) -> Study:
    """The study that a run folder holds, without user code.

    Args:
        fields: as `Study.as_dict` gives them.
        methods: by the place of an entry whose method is not the package's own, what `lacewing.methods.record` made.

    Raises:
        UsageError: it is no study that this version reads.
    """
    return validated(Study, plain(fields, "study"), "study", context={"methods": methods})


def _named(study: str) -> tuple[dict[str, Any], str]:
    """The fields of a built-in study or of a file, and what a sentence calls it."""
    builtin = builtin_studies()
    if study in builtin:
        return parse_toml(builtin[study], f"study '{study}'"), f"study '{study}'"
    if len(study) > LONGEST_TEXT or "\0" in study:
        raise UsageError(f"study {shown(study)} is neither a name nor the path of a file; check it.")
    path = Path(study)
    is_file = os.path.isfile(path)  # noqa: PTH113  Path.is_file raises for a name that is too long
    if path.suffix != ".toml" and not is_file:
        raise UsageError(f"unknown study {shown(study)}: {did_you_mean(study, builtin)} A study file ends in .toml.")
    if not is_file and not os.path.lexists(path):
        raise UsageError(f"no study file {path}; check the path.")
    return read_toml(path), str(path)


def _set(fields: dict[str, Any], override: str) -> None:
    """Apply one ``a.b=c`` to nested dicts and lists; the value is TOML, or a bare string."""
    if not isinstance(override, str):
        raise UsageError(f"--set {shown(override)} must be text that reads field=value.")
    told = f"--set {shown(override)}"
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"{told} must read field=value, e.g. --set train.epochs=10.")
    *parents, last = path.strip().split(".")
    if len(parents) > DEEPEST:
        raise UsageError(f"{told}: the field lies more than {DEEPEST} tables deep; a study has no such field.")
    value = _value(text, told)
    here: Any = fields
    for step in parents:
        if isinstance(here, list):
            here = here[_index(here, step, told)]
        elif isinstance(here, dict):
            here = here.setdefault(step, {})
        else:
            raise UsageError(f"{told}: {shown(step)} is inside a plain value, not a table.")
    if isinstance(here, list):
        here[_index(here, last, told)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"{told}: {shown(last)} is inside a plain value, not a table.")


def _value(text: str, told: str) -> Any:
    """What stands behind the ``=``: one value in TOML, else the text itself."""
    if len(text) > TOML_BYTES:
        raise UsageError(f"{told} is longer than {TOML_BYTES:,} characters; write a study file.")
    try:
        found = parse_toml(f"v = {text}", told)
    except NotTOML:
        return text.strip()
    if set(found) != {"v"}:
        raise UsageError(f"{told} sets more than one field; give each its own --set.")
    return found["v"]


def _index(items: list[Any], step: str, told: str) -> int:
    if not (step.isascii() and step.isdecimal() and len(step) < 9) or int(step) >= len(items):
        raise UsageError(f"{told}: {shown(step)} is not a position from 0 to {len(items) - 1} of that list.")
    return int(step)


def to_toml(study: Study) -> str:
    """The study as TOML that ``load_study`` reads back to the same study."""
    fields = study.as_dict()
    tables = {key: fields.pop(key) for key in list(fields) if isinstance(fields[key], dict)}
    networks = fields.pop("networks")
    lines = [f"{key} = {_toml_value(value)}" for key, value in fields.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in table.items())]
    for network in networks:
        lines += ["", "[[networks]]", *(f"{k} = {_toml_value(v)}" for k, v in network.items() if v != {})]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_value(k)} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's, too, but for escaped surrogates and a bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
