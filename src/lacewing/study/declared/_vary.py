"""`vary`: one [[networks]] entry that stands for a family of networks, which differ in one setting or in several."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from lacewing.config import shown
from lacewing.errors import UsageError
from lacewing.methods import SHARED, short_name

MOST = 200  # networks of one entry
_TABLES = ("", "train", "train.optimizer_options", "model", "model.options")  # "": settings of the method
_WORD = re.compile(r"[^a-z0-9.]+")


def expanded(fields: dict[str, Any], where: str) -> tuple[dict[str, Any], list[int]]:
    """A study's fields with an entry for each combination of the values in `vary`.

    ``vary = {"train.epochs" = [20, 40]}`` of an entry called short makes short-020 and short-040, of the family short.
    A product of several fields joins the values in the order of the keys: wide-016-0.1. It makes a family for each
    combination of the values of the other fields than ``along``, which is that along which a family's recipes differ:
    "levels" where the entry has several, else the first field. A declared ``family`` without ``along`` holds them all.

    Args:
        fields: of a study, as plain data.
        where: the beginning of the sentence of an error.

    Returns:
        The fields, and for each of their entries the place of the one that it comes from.

    Raises:
        UsageError: a `vary` that is no table of lists, names a field of no table, or gives two networks one name; an
            `along` that is not varied.
    """
    entries = fields.get("networks")
    if not isinstance(entries, list):
        return fields, []
    made: list[Any] = []
    places = []
    for place, entry in enumerate(entries):
        if isinstance(entry, dict) and "along" in entry and "vary" not in entry:
            raise UsageError(f"{where}: networks.{place}.along is of an entry with vary; leave it out.")
        found = _family(entry, f"{where}: networks.{place}") if isinstance(entry, dict) and "vary" in entry else [entry]
        made += found
        places += [place] * len(found)
    return {**fields, "networks": made}, places


def _family(entry: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    vary = entry["vary"]
    if not isinstance(vary, dict) or not vary:
        raise UsageError(
            f'{where}.vary = {shown(vary)}: give a table of lists, such as {{ "train.epochs" = [20, 40] }}.'
        )
    for path, values in vary.items():
        table, _, field = path.rpartition(".")
        if table not in _TABLES or not field or path in ("method", *SHARED):
            raise UsageError(
                f"{where}.vary: '{path[:80]}' cannot be varied; name a field of [train] or [model], as in "
                '"train.epochs", or a setting of the method.'
            )
        if not isinstance(values, list) or not values:
            raise UsageError(f"{where}.vary.{path} = {shown(values)}: give a list of values.")
        if field in _table(entry, table, where):
            raise UsageError(f"{where}: '{path}' is set beside vary, which varies it; remove one of the two.")
    count = 1
    for values in vary.values():
        count *= len(values)
    if count > MOST:
        raise UsageError(f"{where}.vary makes {count:,} networks: at most {MOST}; name fewer values.")
    for name in ("name", "family"):
        if name in entry and not (isinstance(entry[name], str) and entry[name]):
            raise UsageError(f"{where}.{name} = {shown(entry[name])}: give text, in quotes.")
    base = entry.get("name", short_name(str(entry.get("method", ""))))
    levels = entry.get("levels", 1) != 1
    along = entry.get("along", "levels" if levels else next(iter(vary)))
    if along not in (*vary, *["levels"] * levels):
        raise UsageError(
            f"{where}.along = {shown(along)}: name a field of vary{', or levels' if levels else ''}, along which the "
            "recipes of a family differ."
        )
    made = []
    for values in itertools.product(*vary.values()):
        network = {name: value for name, value in entry.items() if name not in ("vary", "along")}
        for path, value in zip(vary, values, strict=True):
            table, _, field = path.rpartition(".")
            _set(network, table, field, value, where)
        told = {path: _text(value, where) for path, value in zip(vary, values, strict=True)}
        network["name"] = "-".join([base, *told.values()])
        if "family" not in entry or "along" in entry:
            others = [text for path, text in told.items() if path != along]
            network["family"] = "-".join([entry.get("family", base), *others])
            if levels and along != "levels":
                network.setdefault("level_families", True)
        made.append(network)
    names = [network["name"] for network in made]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{where}.vary: two networks would be called '{twice}'; give each value once.")
    return made


def _set(network: dict[str, Any], table: str, field: str, value: Any, where: str) -> None:
    """Set a field of a table of ``network``, whose own tables stay as they are."""
    made = {**_table(network, table, where), field: value}
    while table:
        table, _, name = table.rpartition(".")
        made = {**_table(network, table, where), name: made}
    network.update(made)


def _table(entry: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found: Any = entry
    for part in name.split(".") if name else ():
        found = found.get(part, {})
        if not isinstance(found, dict):
            raise UsageError(f"{where}.{name} = {shown(found)}: give a table of fields.")
    return found  # type: ignore[no-any-return]


def _text(value: Any, where: str) -> str:
    """A value as a part of a network's name: whole numbers have three digits, so that names sort as their values do."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int) and value >= 0:
        return f"{value:03d}"
    if value == []:  # a perceptron without hidden layers
        return "none"
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return "x".join(str(item) if isinstance(item, int) else _text(item, where) for item in value)
    minus = "minus" if isinstance(value, int | float) and value < 0 else ""
    found = minus + _WORD.sub("-", str(value).lower().replace("e+", "e").lstrip("-")).strip("-.")
    if not found or isinstance(value, list | dict):
        raise UsageError(f"{where}.vary: {shown(value)} cannot be a part of a network's name; give numbers or words.")
    return found
