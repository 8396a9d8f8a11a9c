"""Whether a run folder may be continued as another study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacewing.study.declared._study import Study


def difference(old: Study, new: Study) -> str | None:
    """What keeps a run folder of ``old`` from being continued as ``new``; None where ``new`` only adds to it.

    Seeds, initialisations, networks, IMP levels, epochs to stop early at and attacks may be added, a population outside
    the four sets where there was none, [property] or [attribute] where there was none, and poison of the first; nothing
    else may change. Initialisations of stacked networks may not be added: they have their places among those of other
    seeds.
    """
    before, after = old.as_dict(), new.as_dict()
    if old.data.split == new.data.split == "four-way" and not old.data.population:
        before["data"]["population"] = after["data"]["population"]  # no network depends on it
    if old.property is None:
        after.pop("property", None)  # its networks are their own
    elif new.property is not None and not old.property.poison:
        for name in ("poison", "poison_label"):  # poisoned networks are their own
            before["property"].pop(name, None)
            after["property"].pop(name, None)
    if old.attribute is None:
        after.pop("attribute", None)  # networks are asked about it after they are trained
    for path in ("run.seeds", "attacks.names"):
        part, name = path.split(".")
        gone = [item for item in before[part].pop(name) if item not in after[part][name]]
        after[part].pop(name)
        if gone:
            return f"{path} lacks {gone[0]!r}, which the folder has"
    was, now = (part["run"].pop("inits") for part in (before, after))
    stacked = any(new.train_of(network).stack > 1 for network in new.networks)
    if now < was or (now > was and stacked):
        return f"run.inits is {now} now and {was} in the folder" + (", whose networks are stacked" if now > was else "")
    there = {n.entry: n for n in new.networks}
    for network in old.networks:
        name = network.entry
        other = there.get(name)
        if other is None:
            return f"network '{name}' is missing, which the folder has"
        planned = {step.network for step in other.steps(new.train_of(other))}
        steps = network.steps(old.train_of(network))
        for step in steps[1:] if network.method == other.method else ():
            if step.network not in planned:
                return f"network '{name}' lacks '{step.network}', which the folder has"
        was, now = (n.model_dump(mode="json", exclude={"name", *network.adds}) for n in (network, other))
        changed = _first_difference(was, now)
        if changed:
            return f"network '{name}': {changed}"
    del before["networks"], after["networks"]
    return _first_difference(before, after)


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str | None:
    for key in sorted({*old, *new}):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            found = _first_difference(old[key], new[key], f"{path}{key}.")
            if found:
                return found
        elif old.get(key) != new.get(key):
            return f"{path}{key} is {new.get(key)!r} now and {old.get(key)!r} in the folder"
    return None
