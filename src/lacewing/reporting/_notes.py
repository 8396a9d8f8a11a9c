"""What a reader must not miss, and the line under the title."""

from __future__ import annotations

from typing import NamedTuple

from lacewing.reporting._data import ReportData, attack_names, seeds_of, seeds_text, unfinished
from lacewing.reporting._families import ALONE

CHECKS = (
    "attack near chance",
    "too few seeds to estimate the mean leak",
    "fewer than three seeds",
    "slope not resolved",
    "accuracy collapsed",
    "memorisation incomplete",
    "target and shadow networks unlike each other",
    "butterfly below IMP in means",
    "a last batch of a single record",
    "no control at equal accuracy",
)

_TITLES = ("Accuracy collapsed", "Target and shadow do not resemble each other")


class Note(NamedTuple):
    """Something a reader must not miss. ``kind``: care, failed or unfinished."""

    kind: str
    title: str
    text: str


def notes(data: ReportData) -> list[Note]:
    """Unfinished and failed work first, then the failure signatures."""
    made = []
    attacked = {attack.network.id for attack in data.attacks}
    waiting = sum(n.role == "target" and n.id not in attacked for n in data.networks)
    parts = [f"{data.missing} of {len(data.networks) + data.missing} planned networks not trained yet"] * bool(
        data.missing
    )
    parts += [f"{waiting} trained target network{'s' * (waiting > 1)} not attacked yet"] * bool(waiting)
    if unfinished(data) and not parts:
        parts = ["Not every planned attack has run"]
    if parts:
        text = (
            f"{', '.join(parts)}: every number below may still change. The command at the end of this page continues."
        )
        made.append(Note("unfinished", "This study is not finished", text))
    if data.damaged:
        text = (
            f"{', '.join(data.damaged)}: nothing on this page is made from them, and what needs them is missing. The "
            "command at the end of this page makes them again."
        )
        made.append(Note("failed", f"Lost or damaged files: {len(data.damaged)}", text))
    made += [Note("failed", "A job failed", text) for text in data.jobs_failed]
    noted = data.tradeoff.notes if data.tradeoff is not None else ()
    for sentence in (*data.failures, *(note for note in noted if not note.startswith(ALONE))):
        title, colon, rest = sentence.partition(": ")
        known = next((t for t in _TITLES if sentence.startswith(t)), None)
        if known is None and colon and len(title) <= 80:
            made.append(Note("care", title, rest[:1].upper() + rest[1:]))
        else:
            made.append(Note("care", known or "Read with care", sentence))
    return made


def subtitle(data: ReportData) -> str:
    """What was attacked, in one line."""
    part = data.study.get("data", {})
    model = data.study.get("model", {})
    seeds = seeds_of(data)
    names = [str(part.get("dataset", "")), str(model.get("name") or model.get("factory") or "")]
    stops = sum(n.stopped for n in data.networks)
    counted = f"{len(data.networks) - stops} networks" + f" and {stops} early stops" * bool(stops)
    bits = [*(name for name in names if name), counted]
    if seeds:
        bits.append(seeds_text(seeds))
    ran = {a.attack for a in data.attacks}
    names = [name for name in attack_names(data) if name in ran]
    what = f"attack: {names[0]}" if len(names) == 1 else f"{len(names)} attacks" if names else "no attack yet"
    return " · ".join([*bits, what])
