"""Accuracy against leak, a line for each family: the figure behind the verdicts at equal accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.reporting import _svg
from lacewing.reporting._data import (
    ReportData,
    n_text,
    number,
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

# Where a name stands beside the end of a line, in points, and on which side of it; the first place with room is taken.
_BESIDE: tuple[tuple[float, float, Any], ...] = (
    (7, -3, "left"), (-7, -3, "right"), (0, 7, "center"), (0, -14, "center"), (7, 5, "left"), (-7, 5, "right"),
    (7, -12, "left"), (-7, -12, "right"),
)  # fmt: skip


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
            show = number if metric == "auc" else percent
            tips |= _draw(ax, data, line, show, len(tips), color=colour, marker=marker, linestyle=dashes)
        _svg.percent_axis(ax.xaxis)
        if metric == "auc":
            _svg.share_axis(ax.yaxis)
        else:
            _svg.percent_axis(ax.yaxis)
        ax.set_xlabel("test accuracy")
        ax.set_ylabel(f"{LABELS[metric]} of {attack}")
        _svg.legend_above(ax, columns=3)
        _name_ends(ax, found, front, styles)
        svg = _svg.to_svg(fig, title, tips)
    return Drawing("families", title, f"{title}. {'; '.join(tips.values())}.", _caption(data), svg)


def _draw(
    ax: Axes, data: ReportData, line: Line, show: Callable[[float], str], start: int, **style: str
) -> dict[str, str]:
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
            f"{show(leak)}"
        )
    return tips


def _name_ends(
    ax: Axes, found: Sequence[Line], front: Sequence[Recipe], styles: Mapping[str, tuple[str, str, str]]
) -> None:
    """Write each family's name beside an end of its line where there is room: no other name, mark or line is there."""
    scale = 72 / ax.figure.dpi
    paths = {
        line.family: ax.transData.transform([(r.accuracy.mean, r.leak.mean) for r in line.recipes]) * scale
        for line in found
    }
    taken = [(x - 4, y - 4, x + 4, y + 4) for path in paths.values() for x, y in path]
    corners = [
        corner
        for before, after in itertools.pairwise(front)
        for corner in ((before.accuracy.mean, after.leak.mean), (after.accuracy.mean, after.leak.mean))
    ]
    steps_of = [ax.transData.transform(corners) * scale] if corners else []
    for path in (*paths.values(), *steps_of):
        for start, end in itertools.pairwise(path):
            steps = np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 3))
            taken += [(x - 1.5, y - 1.5, x + 1.5, y + 1.5) for x, y in steps]
    x0, y0, x1, y1 = (v * scale for v in ax.bbox.extents)
    for line in found:
        name = line.family.replace("$", "").lstrip("_")
        width, path = 5.2 * len(name), paths[line.family]
        for (x, y), (dx, dy, side) in itertools.product((path[-1], path[0]), _BESIDE):
            left = x + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (left, y + dy - 1, left + width, y + dy + 8)
            inside = box[0] > x0 and box[1] > y0 and box[2] < x1 and box[3] < y1
            if inside and not any(b[0] < box[2] and box[0] < b[2] and b[1] < box[3] and box[1] < b[3] for b in taken):
                at, leak = ax.transData.inverted().transform((x / scale, y / scale))
                ax.annotate(name, (at, leak), xytext=(dx, dy), textcoords="offset points", ha=side, fontsize=8,
                            color=styles[line.family][0])  # fmt: skip
                taken.append(box)
                break


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
        "other control beats. This line is not tested: it joins the lowest of many noisy points, and so lies too low."
    )
