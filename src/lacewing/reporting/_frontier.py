"""Accuracy against leak, a line for each family: the figure behind the verdicts at equal accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lacewing.reporting import _svg
from lacewing.reporting._data import (
    ReportData,
    n_text,
    percent,
    random_halves,
    seeds_of,
    seeds_text,
)
from lacewing.reporting._figures import Drawing
from lacewing.reporting._looks import family_styles
from lacewing.reporting._picks import family_lines, measured
from lacewing.reporting._svg import MUTED
from lacewing.results import LABELS
from lacewing.tradeoff import Line, Recipe, Units, control_frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def figure(data: ReportData) -> Drawing | None:
    """Every family of complete recipes; None where none has two recipes, so that there is no line to draw."""
    what = measured(data)
    if what is None:
        return None
    attack, metric = what
    found = family_lines(data, attack, metric)
    if not any(len(line.recipes) > 1 for line in found):
        return None
    title = f"Accuracy against leak, by family: {LABELS[metric]} of {attack}"
    front = control_frontier(found)
    with _svg.style():
        fig = _svg.figure(6.4, 4.6)
        ax = fig.add_subplot()
        _frontier(ax, front)
        tips: dict[str, str] = {}
        styles = family_styles(data.networks, data.look)
        for line in found:
            colour, marker, dashes = styles[line.family]
            tips |= _draw(ax, data, line, len(tips), color=colour, marker=marker, linestyle=dashes)
        for axis in (ax.xaxis, ax.yaxis):
            _svg.percent_axis(axis)
        ax.set_xlabel("test accuracy")
        ax.set_ylabel(f"{LABELS[metric]} of {attack}")
        _svg.legend_above(ax, columns=3)
        svg = _svg.to_svg(fig, title, tips)
    return Drawing("families", title, f"{title}. {'; '.join(tips.values())}.", _caption(data), svg)


def _draw(ax: Axes, data: ReportData, line: Line, start: int, **style: str) -> dict[str, str]:
    x = [recipe.accuracy.mean for recipe in line.recipes]
    y = [recipe.leak.mean for recipe in line.recipes]
    low = [recipe.leak.low for recipe in line.recipes]
    high = [recipe.leak.high for recipe in line.recipes]
    if len(x) > 1 and None not in (*low, *high):
        ax.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)  # type: ignore[arg-type]
    face = style["color"] if line.kind == "sparse" else "none"
    label = line.family if line.kind == "sparse" else f"{line.family} ({line.kind})"
    name = label.replace("$", "").lstrip("_")
    ax.plot(x, y, label=name, markerfacecolor=face, markersize=6, linewidth=1.4, zorder=3, **style)  # type: ignore[arg-type]
    tips = {}
    for i, (recipe, at, leak) in enumerate(zip(line.recipes, x, y, strict=True), start):
        gid = f"tip-family-{i}"
        ax.plot([at], [leak], "o", markersize=11, alpha=0.0, gid=gid, zorder=5)
        tips[gid] = (
            f"{data.label(recipe.network, recipe.method)} ({line.family}): test accuracy {percent(at)}, leak "
            f"{percent(leak)}"
        )
    return tips


def _frontier(ax: Axes, front: Sequence[Recipe]) -> None:
    if len(front) > 1:
        x, y = [r.accuracy.mean for r in front], [r.leak.mean for r in front]
        ax.step(x, y, where="pre", color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="frontier of controls")


def _caption(data: ReportData) -> str:
    seeds = seeds_of(data)
    units = Units.of(seeds, halves=random_halves(data))
    bands = f"bands: 95\u202f% intervals over {units.text}" if units.enough else f"{units.text} are too few for bands"
    return (
        f"A mark is a recipe with its complete schedule, mean over {seeds_text(seeds)}; {bands}; {n_text(data)}. Lines "
        "join the recipes of a family. Lower is less leak, further right more accurate. Dotted: the controls that no "
        "other control beats. It is drawn and not tested, for the least of many noisy points is too low."
    )
