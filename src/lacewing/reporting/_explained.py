"""What explains the leak: the attack's accuracy over train accuracy, a mark for each target network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lacewing.reporting import _svg
from lacewing.reporting._data import ReportData, n_text, percent, seeds_of, seeds_text
from lacewing.reporting._figures import Drawing, control_label
from lacewing.reporting._svg import MUTED
from lacewing.results import AttackResult
from lacewing.tradeoff import Explained

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    groups = _groups(shown, {p.network for p in found.points if p.control})
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
        for (method, control), of_method in groups.items():
            tips |= _marks(ax, data, method, of_method, len(tips), control=control)
        ax.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=":")
        for axis in (ax.xaxis, ax.yaxis):
            _svg.percent_axis(axis)
        ax.set_xlabel("train accuracy")
        ax.set_ylabel("attack accuracy A")
        _svg.legend_above(ax, columns=3)
        svg = _svg.to_svg(fig, title, tips)
    label = f"{title}. {fit.sentence}"
    return Drawing("explained", title, label, _caption(data, fit, len(measured) - len(shown), found.attack), svg)


def _groups(shown: Sequence[AttackResult], controls: Collection[str]) -> Mapping[tuple[str, bool], list[AttackResult]]:
    """Results by method and whether they are on controls, those of the dense network first."""
    found: dict[tuple[str, bool], list[AttackResult]] = {}
    for a in sorted(shown, key=lambda a: (not a.network.baseline, a.network.network, a.network.seed)):
        found.setdefault((a.network.method, a.network.network in controls), []).append(a)
    return found


def _marks(
    ax: Axes, data: ReportData, method: str, results: Sequence[AttackResult], start: int, *, control: bool
) -> dict[str, str]:
    look = data.look(method)
    x, y = [a.network.train_accuracy for a in results], [_accuracy(a) for a in results]
    face = "none" if control else look.colour
    label = control_label(data, method) if control else look.label
    style = {"color": look.colour, "markerfacecolor": face, "markersize": 5.5, "alpha": 0.8}
    ax.plot(x, y, look.marker, label=label, **style)  # type: ignore[arg-type]
    tips = {}
    for i, (a, at, leak) in enumerate(zip(results, x, y, strict=True), start):
        gid = f"tip-explained-{i}"
        ax.plot([at], [leak], "o", markersize=9, alpha=0.0, gid=gid)
        network = data.label(a.network.network, a.network.method)
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
