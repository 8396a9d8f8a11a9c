"""What was run: the study's settings, and what the attacker is assumed to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lacewing.reporting._data import ReportData, leading_attack, random_halves
from lacewing.results import STOPPED

TRUST = (
    "Every file that these numbers are made from had the SHA-256 that was recorded when it was written. That finds "
    "damage and partial alteration. It does not find a run folder that was rewritten as a whole: results that somebody "
    "sends you are worth what you trust the sender."
)


class Fact(NamedTuple):
    """A setting of the study and its value, as a person reads it."""

    name: str
    value: str


def settings(data: ReportData) -> list[tuple[str, list[Fact]]]:
    """The resolved study by part, with n of each set and the data's digest."""
    study = data.study
    groups = []
    for part, title in (("data", "Data"), ("model", "Model"), ("train", "Training"), ("signals", "Signals")):
        if study.get(part):
            groups.append((title, list(_flat(study[part]))))
    if groups and groups[0][0] == "Data":
        groups[0][1].extend(_sizes(data))
    networks = [Fact(entry_name(data, n), _network_text(n)) for n in study.get("networks", ())]
    if networks:
        groups.append(("Networks", networks))
    groups.append(("Attacks and repeats", [*_flat(study.get("attacks", {})), *_flat(study.get("run", {}))]))
    return groups


def _flat(part: Mapping[str, Any]) -> Iterator[Fact]:
    for key, value in part.items():
        yield Fact("attacks" if key == "names" else key.replace("_", " "), text_of(value))


def text_of(value: Any) -> str:
    """A value of a setting as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {text_of(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(text_of, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _sizes(data: ReportData) -> list[Fact]:
    groups = " groups" if data.study.get("data", {}).get("groups") else ""
    about = [Fact(f"digest (SHA-256){' of records and groups' * bool(groups)}", data.data_digest)]
    if data.copies is not None:
        about.insert(0, Fact("records with an exact copy", f"{data.copies:,}"))
    if not data.attacks:
        return about
    members, others = {a.n_members for a in data.attacks}, {a.n_nonmembers for a in data.attacks}

    def span(counts: set[int]) -> str:
        return "–".join(f"{n:,}" for n in sorted({min(counts), max(counts)})) + groups

    return [
        Fact("members" if random_halves(data) else "target-train (members)", f"n = {span(members)}"),
        Fact("non-members" if random_halves(data) else "target-test (non-members)", f"n = {span(others)}"),
        *about,
    ]


def entry_name(data: ReportData, entry: Mapping[str, Any]) -> str:
    """A [[networks]] entry's own name, or its method's label."""
    return str(entry.get("name") or data.look(str(entry.get("method", "network"))).label)


def _network_text(network: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in network.items() if k not in ("method", "name") and v not in ({}, None)}
    if not rest.get("level_families"):
        rest.pop("level_families", None)
    if network.get("method") == STOPPED and not network.get("epochs") and not network.get("shares"):
        rest["epochs"] = "about twenty, evenly spaced on a log scale"
    return text_of(rest) or "as above"


def threat_models(data: ReportData) -> list[str]:
    """What the leading attack's attacker is assumed to know and to be able to do; the table of attacks has the rest."""
    lead = leading_attack(data)
    return list(dict.fromkeys(f"{a.attack}: {a.threat_model}" for a in data.attacks if a.attack == lead))
