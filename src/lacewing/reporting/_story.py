"""What to read with care, which network one can afford, the Pareto front, and the line under the title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lacewing.reporting._data import (
    LEAST_GAIN,
    ReportData,
    attack_names,
    density_text,
    label_of,
    percent,
    seeds_of,
    seeds_text,
    span_text,
    spread_text,
    unfinished,
)
from lacewing.reporting._families import ALONE
from lacewing.reporting._headline import loss_text, moved
from lacewing.results import STOPPED
from lacewing.tradeoff import TradeOff, afford

AFFORD = (0, 1, 2, 5, 10, 20)  # per cent of relative accuracy loss, answered without JavaScript too
CHECKS = (
    "attack near chance",
    "too few seeds to tell the mean leak",
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


class Answer(NamedTuple):
    """A row of the table "I can afford to lose p %"."""

    percent: float
    network: str
    density: str
    loss: str
    gain: str
    defence: str
    sentence: str


def pareto(found: TradeOff | None) -> list[str]:
    """The networks of the Pareto front with their densities, best accuracy first, and the number of early stops."""
    points = {p.network: p for p in found.points} if found is not None else {}
    front = [points[name] for name in found.pareto] if found is not None else []
    listed = [
        f"{label_of(p.network, p.method)} ({density_text(p.density.mean)})" if p.method != "dense" else p.network
        for p in front
        if p.method != STOPPED
    ]
    stops = sum(p.method == STOPPED for p in front)
    return listed + [f"and the dense network stopped early, at {stops} epoch{'s' * (stops > 1)}"] * bool(stops)


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


def affordable(data: ReportData, percents: Sequence[float] = AFFORD) -> list[Answer]:
    """For each p the network of best defence that loses at most p % of the dense network's accuracy."""
    return [_answer(data.tradeoff, p) for p in percents] if data.tradeoff is not None else []


def afford_steps(data: ReportData) -> list[dict[str, Any]]:
    """The same answer for every p: a list of {from, network, sentence}, valid from that p up to the next one."""
    if data.tradeoff is None:
        return []
    points = [p for p in data.tradeoff.points if p.method != STOPPED]
    losses = {p.relative_loss.mean * 100 for p in points if p.relative_loss is not None}
    steps: list[dict[str, Any]] = []
    for start in sorted({0.0, *(loss for loss in losses if loss > 0)}):
        answer = _answer(data.tradeoff, start)
        if not steps or steps[-1]["sentence"] != answer.sentence:
            steps.append({"from": start, "network": answer.network, "sentence": answer.sentence})
    return steps


def _answer(found: TradeOff, p: float) -> Answer:
    choice = afford(found, p)
    if choice is None or choice.point.relative_loss is None or choice.point.relative_gain is None:
        nothing = "No network keeps that much of the dense network's accuracy."
        return Answer(p, "none", "–", "–", "–", "–", nothing)
    point, loss, gain = choice.point, choice.point.relative_loss, choice.point.relative_gain
    name = label_of(point.network, point.method)
    if point.method == "dense":
        sentence = "The dense network itself: no sparse network within that loss has more defence."
    else:
        sentence = (
            f"It keeps {density_text(point.density.mean)} of the parameters, {moved(loss.mean)} and gains "
            f"{percent(gain.mean)} of its defence (means over "
            f"{point.defence.n} seed{'s' * (point.defence.n > 1)})."
        )
    return Answer(
        p,
        name,
        density_text(point.density.mean),
        f"{loss_text(loss.mean)} ({span_text(loss, found)})",
        spread_text(gain, found, LEAST_GAIN),
        spread_text(point.defence, found, least=0.0),
        sentence,
    )


def subtitle(data: ReportData) -> str:
    """What was attacked, in one line."""
    part = data.study.get("data", {})
    model = data.study.get("model", {})
    seeds = seeds_of(data)
    names = [str(part.get("dataset", "")), str(model.get("name") or model.get("factory") or "")]
    stops = sum(n.method == STOPPED for n in data.networks)
    counted = f"{len(data.networks) - stops} networks" + f" and {stops} early stops" * bool(stops)
    bits = [*(name for name in names if name), counted]
    if seeds:
        bits.append(seeds_text(seeds))
    ran = {a.attack for a in data.attacks}
    names = [name for name in attack_names(data) if name in ran]
    what = f"attack: {names[0]}" if len(names) == 1 else f"{len(names)} attacks" if names else "no attack yet"
    return " · ".join([*bits, what])
