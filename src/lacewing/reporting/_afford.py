"""Which network one can afford, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lacewing.reporting._data import LEAST_GAIN, ReportData, density_text, percent, span_text, spread_text
from lacewing.reporting._headline import loss_text, moved
from lacewing.tradeoff import TradeOff, afford, beside_it, price_of

PERCENTS = (0, 1, 2, 5, 10, 20)  # of relative accuracy loss, answered without JavaScript too


class AffordRow(NamedTuple):
    """A row of the table "I can afford to lose p %"."""

    percent: float
    network: str
    density: str
    loss: str
    gain: str
    defence: str
    sentence: str


def pareto(data: ReportData) -> list[str]:
    """The networks of the Pareto front with their densities, best accuracy first, and the number of early stops."""
    found = data.tradeoff
    points = {p.network: p for p in found.points} if found is not None else {}
    front = [points[name] for name in found.pareto] if found is not None else []
    listed = [
        data.label(p.network, p.method) + f" ({density_text(p.density.mean)})" * p.sparse + " (control)" * p.control
        for p in front
        if not p.stopped
    ]
    stops = sum(p.stopped for p in front)
    return listed + [f"and the dense network stopped early, at {stops} epoch{'s' * (stops > 1)}"] * bool(stops)


def affordable(data: ReportData, percents: Sequence[float] = PERCENTS) -> list[AffordRow]:
    """For each p the network of best defence that loses at most p % of the dense network's accuracy."""
    return [_row(data, data.tradeoff, p) for p in percents] if data.tradeoff is not None else []


def afford_steps(data: ReportData) -> list[dict[str, Any]]:
    """The same answer for every p: a list of {from, network, sentence}, valid from that p up to the next one."""
    if data.tradeoff is None:
        return []
    points = [p for p in data.tradeoff.points if not p.stopped]
    losses = {p.relative_loss.mean * 100 for p in points if p.relative_loss is not None}
    steps: list[dict[str, Any]] = []
    for start in sorted({0.0, *(loss for loss in losses if loss > 0)}):
        answer = _row(data, data.tradeoff, start)
        if not steps or steps[-1]["sentence"] != answer.sentence:
            steps.append({"from": start, "network": answer.network, "sentence": answer.sentence})
    return steps


def _row(data: ReportData, found: TradeOff, p: float) -> AffordRow:
    choice = afford(found, p, data.prices, collapsed=data.collapsed)
    if choice is None or choice.point.relative_loss is None or choice.point.relative_gain is None:
        nothing = "No network keeps that much of the dense network's accuracy."
        return AffordRow(p, "none", "–", "–", "–", "–", nothing)
    point, loss, gain = choice.point, choice.point.relative_loss, choice.point.relative_gain
    name = data.label(point.network, point.method)
    many = f"(means over {point.defence.n} seed{'s' * (point.defence.n > 1)})"
    if point.kind == "dense":
        sentence = "The dense network itself."
    elif point.control:
        sentence = f"This control {moved(loss.mean)} and gains {percent(gain.mean)} of its defence {many}."
    else:
        sentence = (
            f"It keeps {density_text(point.density.mean)} of the parameters, {moved(loss.mean)} and gains "
            f"{percent(gain.mean)} of its defence {many}."
        )
    other = choice.beside
    sentence += f" {beside_it(point, other, data.label(other.network, other.method) if other is not None else '')}"
    sentence += price_of(point, other, data.prices)
    return AffordRow(
        p,
        name,
        density_text(point.density.mean),
        f"{loss_text(loss.mean)} ({span_text(loss, found)})",
        spread_text(gain, found, LEAST_GAIN),
        spread_text(point.defence, found, least=0.0),
        sentence,
    )
