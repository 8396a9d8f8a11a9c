"""Studies as text: read from TOML, changed with --set, written back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from lacewing.config._checked import validated
from lacewing.config._study import Study
from lacewing.errors import UsageError, did_you_mean


def builtin_studies() -> dict[str, str]:
    """The shipped studies: name -> TOML text."""
    folder = resources.files("lacewing") / "studies"
    return {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in folder.iterdir() if p.name.endswith(".toml")}


def load_study(study: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Study:
    """A study from a built-in name, a TOML file or a mapping, with ``a.b=c`` overrides applied.

    Raises:
        UsageError: no such study, a TOML error, an unknown field or a bad value; the message names it and the mend.
    """
    if isinstance(study, Mapping):
        fields, where = json.loads(json.dumps(study, default=str)), "study"  # str: a Path, a numpy number
    else:
        text, where = _study_text(str(study))
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{where} is not valid TOML: {error}.") from None
    for override in overrides:
        _set(fields, override)
    return validated(Study, fields, where)


def _study_text(study: str) -> tuple[str, str]:
    builtin = builtin_studies()
    path = Path(study)
    if study in builtin:
        return builtin[study], f"study '{study}'"
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text("utf-8"), str(path)
        except FileNotFoundError:
            raise UsageError(f"no study file {path}; check the path.") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not a text file; a study is written in TOML.") from None
    raise UsageError(f"unknown study '{study}': {did_you_mean(study, builtin)} A study file ends in .toml.")


def _set(fields: dict[str, Any], override: str) -> None:
    """Apply one ``a.b=c`` to nested dicts and lists; the value is TOML, or a bare string."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {override!r} must read field=value, e.g. --set train.epochs=10.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    here: Any = fields
    for step in parents:
        if isinstance(here, list):
            here = here[_index(here, step, override)]
        elif isinstance(here, dict):
            here = here.setdefault(step, {})
        else:
            raise UsageError(f"--set {override!r}: '{step}' is inside a plain value, not a table.")
    if isinstance(here, list):
        here[_index(here, last, override)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"--set {override!r}: '{last}' is inside a plain value, not a table.")


def _index(items: list[Any], step: str, override: str) -> int:
    if not step.isdecimal() or int(step) >= len(items):
        raise UsageError(f"--set {override!r}: '{step}' is not a position from 0 to {len(items) - 1} of that list.")
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
        lines += ["", "[[networks]]", *(f"{key} = {_toml_value(value)}" for key, value in network.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_value(k)} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's, too, but for escaped surrogates and a bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
