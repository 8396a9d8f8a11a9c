"""What explains the leak: the attack's accuracy over train accuracy, a mark for each target network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lacewing.reporting import _svg
from lacewing.reporting._data import ReportData, label_of, n_text, percent, seeds_of, seeds_text
from lacewing.reporting._figures import OTHER_DENSE, Drawing
from lacewing.reporting._svg import COLOUR, INK, MARKER, MUTED, OTHER, OTHER_MARKER
from lacewing.results import STOPPED, AttackResult
from lacewing.tradeoff import Explained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = {"imp": "IMP", STOPPED: "dense, stopped early"}


def figure(data: ReportData) -> Drawing | None:
    """A against train accuracy with the quadratic drawn over its range; None where nothing was fitted."""
    found = data.tradeoff
    if found is None or found.explained is None:
        return None
    title = "What explains the leak: A against train accuracy"
    fit = found.explained
    every = [a for a in data.attacks if a.attack == found.attack and a.network.role == "target"]
    measured = [a for a in every if a.metrics.get("balanced_accuracy") is not None]
    shown = [a for a in measured if a.network.train_accuracy > fit.least_train_accuracy]
    groups = _groups(shown, {p.network for p in found.points if p.kind == "dense"})
    with _svg.style():
        fig = _svg.figure(6.4, 4.2)
        ax = fig.add_subplot()
        low, high = (float(end(a.network.train_accuracy for a in shown)) for end in (min, max))
        margin = 0.04 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        x = np.linspace(low, high, 60)
        c0, c1, c2 = fit.coefficients
        ax.plot(x, c0 + c1 * x + c2 * x * x, color=MUTED, linewidth=1.4, label="quadratic", gid="quadratic")
        tips: dict[str, str] = {}
        for name, of_name in groups.items():
            tips |= _marks(ax, name, of_name, len(tips))
        ax.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=":")
        for axis in (ax.xaxis, ax.yaxis):
            _svg.percent_axis(axis)
        ax.set_xlabel("train accuracy")
        ax.set_ylabel("attack accuracy A")
        _svg.legend_above(ax, columns=3)
        svg = _svg.to_svg(fig, title, tips)
    label = f"{title}. {fit.sentence}"
    return Drawing("explained", title, label, _caption(data, fit, len(measured) - len(shown), found.attack), svg)


def _groups(shown: Sequence[AttackResult], baseline: set[str]) -> Mapping[str, list[AttackResult]]:
    """Results by method; dense networks of other recipes apart from the one that all are measured against."""
    found: dict[str, list[AttackResult]] = {}
    for a in sorted(shown, key=lambda a: (a.network.method != "dense", a.network.network, a.network.seed)):
        method = a.network.method
        other = method == "dense" and a.network.network not in baseline
        found.setdefault(OTHER_DENSE if other else method, []).append(a)
    return found


def _marks(ax: Axes, name: str, results: Sequence[AttackResult], start: int) -> dict[str, str]:
    colour = INK if name in (OTHER_DENSE, STOPPED) else COLOUR.get(name, OTHER)
    marker = {OTHER_DENSE: "s", STOPPED: "."}.get(name) or MARKER.get(name, OTHER_MARKER)
    x, y = [a.network.train_accuracy for a in results], [_accuracy(a) for a in results]
    face = "none" if name == OTHER_DENSE else colour
    label = _NAMES.get(name, name)
    ax.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=5.5, alpha=0.8, label=label)
    tips = {}
    for i, (a, at, leak) in enumerate(zip(results, x, y, strict=True), start):
        gid = f"tip-explained-{i}"
        ax.plot([at], [leak], "o", markersize=9, alpha=0.0, gid=gid)
        network = label_of(a.network.network, a.network.method)
        tips[gid] = f"{network}, seed {a.network.seed}: train accuracy {percent(at)}, A {percent(leak)}"
    return tips


def _accuracy(a: AttackResult) -> float:
    estimate = a.metrics["balanced_accuracy"]
    assert estimate is not None
    return estimate.value


def _caption(data: ReportData, fit: Explained, left_out: int, attack: str) -> str:
    text = (
        f"A mark for each target network, {seeds_text(seeds_of(data))}, and the quadratic fitted to all "
        f"{fit.networks}; attack “{attack}”, {n_text(data)}. Dotted: guessing."
    )
    if left_out:
        many = left_out > 1
        text += (
            f" {left_out} network{'s' * many} that fit{'s' * (not many)} at most "
            f"{percent(fit.least_train_accuracy, 0)} of {'their' if many else 'its'} training records "
            f"{'are' if many else 'is'} not shown and not part of the fit."
        )
    return text
