"""The figures of a report. Each takes the report's data and returns SVG with a caption that states n and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from lacewing.reporting import _svg
from lacewing.reporting._data import (
    ReportData,
    Series,
    density_text,
    n_text,
    percent,
    seeds_of,
    seeds_text,
    series,
)
from lacewing.reporting._svg import BAND as BAND_COLOUR
from lacewing.reporting._svg import INK, MUTED
from lacewing.results import Look
from lacewing.tradeoff import PAPER_BAND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DENSITY_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OTHER_DENSE = "dense, other recipes"
FULL = 0.9995  # a density that is shown as 100 %
_LINES = 300  # points kept of a long line: more than a screen shows


@dataclass(frozen=True)
class Drawing:
    """A finished figure: ``name`` is its file's stem, ``label`` its text alternative."""

    name: str
    title: str
    label: str
    caption: str
    svg: str


def against_density(data: ReportData, what: str) -> Drawing:
    """Test accuracy (``what="accuracy"``) or defence (``"defence"``) of target networks over a log density axis.

    Controls as dense as the dense network are left out: they would hide it.
    """
    title = "Test accuracy against density" if what == "accuracy" else "Defence against density"
    shown = [s for s in series(data) if _values(s, what) and not (s.control and s.density >= FULL)]
    with _svg.style():
        fig = _svg.figure()
        ax = fig.add_subplot()
        density_axis(ax, shown)
        tips: dict[str, str] = {}
        for entry in (s for s in shown if s.baseline):
            values = list(_values(entry, what).values())
            ax.axhspan(min(values), max(values), color=INK, alpha=0.08, linewidth=0)
            ax.axhline(fmean(values), color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=f"{entry.network} (level)")
        for (method, control), of_method in by_method(shown).items():
            tips |= _method(ax, data, of_method, what, method, control=control)
        if what == "defence" and shown:
            ax.axhline(1.0, color=MUTED, linewidth=1, linestyle=":", label="attack at chance")
        _svg.percent_axis(ax.yaxis)
        ax.set_ylabel("test accuracy" if what == "accuracy" else "defence D = 2 (1 − A)")
        ax.margins(y=0.12)
        if shown:
            _svg.legend_above(ax)
        else:
            nothing(ax, "no attack has run yet" if what == "defence" else "no network has been trained yet")
        svg = _svg.to_svg(fig, title, tips)
    ends = ", ".join(
        f"{data.label(s.network, s.method)} at {density_text(s.density)}: {percent(fmean(_values(s, what).values()))}"
        for s in shown
    )
    label = f"{title}. {ends or 'Nothing to show yet'}."
    return Drawing(f"{what}-density", title, label, _density_caption(data, what), svg)


def density_axis(ax: Axes, shown: Sequence[Series]) -> None:
    """A log axis of densities as wide as the networks and the paper's band, which is shaded."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low = min([s.density for s in shown], default=0.03)
    left, right = min(low / 1.35, PAPER_BAND[0] / 1.35), 1.3
    ax.set_xscale("log")
    ax.set_xlim(left, right)
    ax.axvspan(*PAPER_BAND, color=BAND_COLOUR, alpha=0.55, linewidth=0, gid="band")
    ax.xaxis.set_major_locator(FixedLocator([t for t in DENSITY_TICKS if left <= t <= right]))
    ax.xaxis.set_minor_locator(NullLocator())
    _svg.percent_axis(ax.xaxis)
    ax.set_xlabel("density: non-zero share of all parameters (log scale)")
    ax.annotate(
        "paper's band 3.4–17.3\u202f%",
        (PAPER_BAND[0] * 1.06, 0.02),
        xycoords=("data", "axes fraction"),
        color=MUTED,
        fontsize=8,
    )


def by_method(shown: Sequence[Series]) -> dict[tuple[str, bool], list[Series]]:
    """All but the dense network by method and whether they are controls, in the order of the page."""
    found: dict[tuple[str, bool], list[Series]] = {}
    for entry in shown:
        if not entry.baseline:
            found.setdefault((entry.method, entry.control), []).append(entry)
    return found


def _density_caption(data: ReportData, what: str) -> str:
    seeds = seeds_of(data)
    spread = "bars span the seeds" if len(seeds) > 1 else "bars are 95\u202f% intervals over records"
    if what == "accuracy" and len(seeds) < 2:
        spread = "one seed, so no spread is shown"
    extra = f"; {n_text(data)}" if what == "defence" else ""
    return f"Mean over {seeds_text(seeds) if seeds else 'seeds'}; {spread}; small dots are single seeds{extra}."


def _values(entry: Series, what: str) -> dict[int, float]:
    if what == "accuracy":
        return dict(entry.accuracy)
    return {seed: estimate.value for seed, estimate in entry.metric("defence").items()}


def control_label(data: ReportData, method: str) -> str:
    """What a figure's legend calls the controls of a method."""
    return OTHER_DENSE if method == "dense" else f"{data.look(method).label} (control)"


def _method(
    ax: Axes, data: ReportData, shown: Sequence[Series], what: str, method: str, *, control: bool
) -> dict[str, str]:
    """One method's means, seeds and spread; a line joins networks that follow one another. Controls are hollow."""
    look = data.look(method)
    colour = look.colour
    means = [fmean(_values(s, what).values()) for s in shown]
    densities = [s.density for s in shown]
    ax.plot(
        densities,
        means,
        color=colour,
        marker=look.marker,
        markersize=6,
        markerfacecolor="none" if control else colour,
        linewidth=1.8,
        linestyle="-" if look.sequence and not control else "none",
        label=control_label(data, method) if control else look.label,
    )
    tips = {}
    for entry, mean in zip(shown, means, strict=True):
        values = _values(entry, what)
        if len(values) > 1:
            low, high = min(values.values()), max(values.values())
            ax.plot([entry.density] * len(values), list(values.values()), ".", color=colour, markersize=3.5, alpha=0.75)
        elif what == "defence":
            _, low, high = next(iter(entry.metric("defence").values()))
        else:
            low = high = mean
        ax.vlines(entry.density, low, high, color=colour, linewidth=1.2, alpha=0.75)
        gid = f"tip-{entry.network}"
        ax.plot([entry.density], [mean], "o", markersize=13, alpha=0.0, gid=gid)
        tips[gid] = f"{data.label(entry.network, method)}, density {density_text(entry.density)}: {percent(mean)}"
    return tips


def nothing(ax: Axes, why: str) -> None:
    """Say inside empty axes why they are empty."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def roc_choice(shown: Sequence[Series], look: Callable[[str], Look]) -> list[Series]:
    """The networks whose ROC is drawn: the dense one, one of each sequence, and up to three other sparse ones.

    Of a sequence, such as the levels of IMP, it is the sparsest in the paper's band, else the sparsest.
    """
    attacked = [s for s in shown if s.attacked]
    sparse = [s for s in attacked if s.sparse]
    ends, others = [], []
    for method in dict.fromkeys(s.method for s in sparse):
        of_method = [s for s in sparse if s.method == method]
        if look(method).sequence:
            ends += ([s for s in of_method if s.in_band] or of_method)[-1:]
        else:
            others += of_method
    if len(others) > 3:  # ends and middle, by density
        others = [others[0], others[len(others) // 2], others[-1]]
    return [s for s in attacked if s.baseline][:1] + ends + others


def roc(data: ReportData) -> Drawing:
    """ROC on log-log axes, of the first seed; a curve stops at a false-positive rate of one record."""
    title = "ROC of the attack, log-log"
    chosen = roc_choice(series(data), data.look)
    seed = min((next(iter(s.attacked)) for s in chosen), default=0)
    with _svg.style():
        fig = _svg.figure()
        ax = fig.add_subplot()
        curves = [(s, s.attacked[seed]) for s in chosen if seed in s.attacked and s.attacked[seed].score_N.size]
        floor = min((1 / max(a.n_nonmembers, 1) for _, a in curves), default=1e-3)
        grid = np.array([floor, 1.0])
        ax.plot(grid, grid, color=MUTED, linewidth=1, linestyle=":", label="chance")
        dashes = ["-", (0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2))]
        met: dict[str, int] = {}
        for entry, attack in curves:
            colour = data.look(entry.method).colour
            dash = dashes[met.setdefault(entry.method, 0) % len(dashes)]
            met[entry.method] += 1
            fpr, tpr = _thin_roc(*attack.roc(), floor)
            label = f"{data.label(entry.network, entry.method)} ({density_text(entry.density)})"
            ax.plot(fpr, tpr, color=colour, linestyle=dash, linewidth=1.8, label=label, drawstyle="steps-post")
        _svg.roc_axes(ax, floor)
        if curves:
            ax.legend(loc="lower right")
        else:
            nothing(ax, "no attack has run yet")
        svg = _svg.to_svg(fig, title)
    caption = (
        f"Seed {seed}; {n_text(data)}. Left of 1/n there is no estimate, so the axes end there. Higher is worse for "
        "privacy; the dotted line is guessing."
    )
    areas = [(s, a.metrics.get("auc")) for s, a in curves]
    summary = ", ".join(f"{data.label(s.network, s.method)} AUC {auc.value:.3f}" for s, auc in areas if auc is not None)
    return Drawing("roc", title, f"{title}. {summary or 'Nothing to show yet'}.", caption, svg)


def _thin_roc(fpr: np.ndarray, tpr: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve from ``floor`` on at no more than ``_LINES`` rates, log-spaced; at each, the rate truly reached."""
    grid = np.union1d(np.geomspace(floor, 1.0, _LINES), fpr[(fpr >= floor)] if fpr.size <= _LINES else [1.0])
    reached = tpr[np.searchsorted(fpr, grid * (1 + 1e-12), side="right") - 1]
    seen = reached > 0
    return grid[seen], reached[seen]
