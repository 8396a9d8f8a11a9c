"""The figures of a report. Each takes the report's data and returns SVG with a caption that states n and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from lacewing.reporting import _svg
from lacewing.reporting._data import (
    ReportData,
    Series,
    density_text,
    label_of,
    n_text,
    percent,
    seeds_of,
    seeds_text,
    series,
)
from lacewing.reporting._svg import BAND as BAND_COLOUR
from lacewing.reporting._svg import COLOUR, INK, MARKER, MUTED, OTHER, OTHER_MARKER
from lacewing.results import NetworkResult
from lacewing.tradeoff import PAPER_BAND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DENSITY_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_DASH = (0, (4, 2))
OTHER_DENSE = "dense, other recipes"
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
    """Test accuracy (``what="accuracy"``) or defence (``"defence"``) of target networks over a log density axis."""
    from matplotlib.ticker import FixedLocator, NullLocator

    title = "Test accuracy against density" if what == "accuracy" else "Defence against density"
    shown = [s for s in series(data) if _values(s, what) and not s.control]
    with _svg.style():
        fig = _svg.figure()
        ax = fig.add_subplot()
        low = min([s.density for s in shown], default=0.03)
        left, right = min(low / 1.35, PAPER_BAND[0] / 1.35), 1.3
        ax.set_xscale("log")
        ax.set_xlim(left, right)
        ax.axvspan(*PAPER_BAND, color=BAND_COLOUR, alpha=0.55, linewidth=0, gid="band")
        tips: dict[str, str] = {}
        for entry in (s for s in shown if s.method == "dense"):
            values = list(_values(entry, what).values())
            ax.axhspan(min(values), max(values), color=INK, alpha=0.08, linewidth=0)
            ax.axhline(fmean(values), color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=f"{entry.network} (level)")
        for method in dict.fromkeys(s.method for s in shown if s.sparse):
            tips |= _method(ax, [s for s in shown if s.method == method], what, method)
        if what == "defence" and shown:
            ax.axhline(1.0, color=MUTED, linewidth=1, linestyle=":", label="attack at chance")
        ax.xaxis.set_major_locator(FixedLocator([t for t in _DENSITY_TICKS if left <= t <= right]))
        ax.xaxis.set_minor_locator(NullLocator())
        _svg.percent_axis(ax.xaxis)
        _svg.percent_axis(ax.yaxis)
        ax.set_xlabel("density: non-zero share of all parameters (log scale)")
        ax.set_ylabel("test accuracy" if what == "accuracy" else "defence D = 2 (1 − A)")
        ax.margins(y=0.12)
        ax.annotate(
            "paper's band 3.4–17.3\u202f%",
            (PAPER_BAND[0] * 1.06, 0.02),
            xycoords=("data", "axes fraction"),
            color=MUTED,
            fontsize=8,
        )
        if shown:
            _svg.legend_above(ax)
        else:
            nothing(ax, "no attack has run yet" if what == "defence" else "no network has been trained yet")
        svg = _svg.to_svg(fig, title, tips)
    seeds = seeds_of(data)
    spread = "bars span the seeds" if len(seeds) > 1 else "bars are 95\u202f% intervals over records"
    if what == "accuracy" and len(seeds) < 2:
        spread = "one seed, so no spread is shown"
    extra = f"; {n_text(data)}" if what == "defence" else ""
    caption = f"Mean over {seeds_text(seeds) if seeds else 'seeds'}; {spread}; small dots are single seeds{extra}."
    ends = ", ".join(
        f"{label_of(s.network, s.method)} at {density_text(s.density)}: {percent(fmean(_values(s, what).values()))}"
        for s in shown
    )
    return Drawing(f"{what}-density", title, f"{title}. {ends or 'Nothing to show yet'}.", caption, svg)


def _values(entry: Series, what: str) -> dict[int, float]:
    if what == "accuracy":
        return dict(entry.accuracy)
    return {seed: estimate.value for seed, estimate in entry.metric("defence").items()}


def _method(ax: Axes, shown: Sequence[Series], what: str, method: str) -> dict[str, str]:
    """One method's means (a line only for IMP, whose levels follow one another), seeds and spread."""
    colour, marker = COLOUR.get(method, OTHER), MARKER.get(method, OTHER_MARKER)
    means = [fmean(_values(s, what).values()) for s in shown]
    name = {"imp": "IMP"}.get(method, method)
    line = "-" if method == "imp" else "none"
    densities = [s.density for s in shown]
    ax.plot(densities, means, color=colour, marker=marker, markersize=6, linewidth=1.8, linestyle=line, label=name)
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
        tips[gid] = f"{label_of(entry.network, method)}, density {density_text(entry.density)}: {percent(mean)}"
    return tips


def nothing(ax: Axes, why: str) -> None:
    """Say inside empty axes why they are empty."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def roc_choice(shown: Sequence[Series]) -> list[Series]:
    """The networks whose ROC is drawn: dense, the sparsest IMP in the band (else the sparsest), up to 3 butterflies."""
    attacked = [s for s in shown if s.attacked]
    imp = [s for s in attacked if s.method == "imp"]
    sparsest = ([s for s in imp if s.in_band] or imp)[-1:]
    others = [s for s in attacked if s.method not in ("dense", "imp")]
    if len(others) > 3:  # ends and middle, by density
        others = [others[0], others[len(others) // 2], others[-1]]
    return [s for s in attacked if s.method == "dense"][:1] + sparsest + others


def roc(data: ReportData) -> Drawing:
    """ROC on log-log axes, of the first seed; a curve stops at a false-positive rate of one record."""

    title = "ROC of the attack, log-log"
    chosen = roc_choice(series(data))
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
            colour = COLOUR.get(entry.method, OTHER)
            dash = dashes[met.setdefault(entry.method, 0) % len(dashes)]
            met[entry.method] += 1
            fpr, tpr = _thin_roc(*attack.roc(), floor)
            label = f"{label_of(entry.network, entry.method)} ({density_text(entry.density)})"
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
    summary = ", ".join(f"{label_of(s.network, s.method)} AUC {auc.value:.3f}" for s, auc in areas if auc is not None)
    return Drawing("roc", title, f"{title}. {summary or 'Nothing to show yet'}.", caption, svg)


def _thin_roc(fpr: np.ndarray, tpr: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve from ``floor`` on at no more than ``_LINES`` rates, log-spaced; at each, the rate truly reached."""
    grid = np.union1d(np.geomspace(floor, 1.0, _LINES), fpr[(fpr >= floor)] if fpr.size <= _LINES else [1.0])
    reached = tpr[np.searchsorted(fpr, grid * (1 + 1e-12), side="right") - 1]
    seen = reached > 0
    return grid[seen], reached[seen]


def training(data: ReportData, what: str) -> Drawing:
    """Training ``what`` ("loss" or "accuracy") by epoch: first seed's targets, IMP levels coloured by log density."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    title = f"Training {what} by epoch"
    seed = min(seeds_of(data), default=0)
    order = {s.network: i for i, s in enumerate(series(data))}
    drawn = [n for n in data.networks if n.role == "target" and n.seed == seed and n.curve and n.network in order]
    drawn.sort(key=lambda n: (_baseline(n), n.method != "imp", order[n.network]))  # dense last, so on top
    imp = [n.density for n in drawn if n.method == "imp"]
    with _svg.style():
        fig = _svg.figure()
        ax = fig.add_subplot()
        shades = ListedColormap(colormaps["viridis"](np.linspace(0.7, 0.12, 48)))  # neither end vanishes on its page
        floor = min(imp, default=0.01) * 0.999
        scale = LogNorm(floor, max(*imp, floor * 1.01) if imp else 1.0)
        for network in drawn:
            colour = shades(scale(network.density)) if network.method == "imp" else COLOUR.get(network.method, OTHER)
            width, dash = (2.2, "-") if _baseline(network) else (1.1, "-" if network.method == "imp" else _DASH)
            epochs, values = _thin_curve(network, what)
            ax.plot(epochs, values, color=colour, linewidth=width, linestyle=dash)
        ax.set_xlabel("epoch")
        ax.set_ylabel(f"training {what}")
        if what == "loss":
            ax.set_ylim(bottom=0)
        else:
            _svg.percent_axis(ax.yaxis)
        keys = [Line2D([], [], color=INK, linewidth=2.2, label="dense")] if any(_baseline(n) for n in drawn) else []
        for method in dict.fromkeys(n.method for n in drawn if n.method != "imp" and not _baseline(n)):
            label = OTHER_DENSE if method == "dense" else method
            keys.append(Line2D([], [], color=COLOUR.get(method, OTHER), linestyle=_DASH, label=label))
        if keys:
            _svg.legend_above(ax, handles=keys)
        if imp:
            bar = fig.colorbar(ScalarMappable(scale, shades), ax=ax, pad=0.02, aspect=28)
            ticks = [t for t in _DENSITY_TICKS if floor <= t <= max(imp)] if len(imp) > 2 else sorted(set(imp))
            bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
            bar.ax.yaxis.set_minor_locator(NullLocator())
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}\u202f%"))
            bar.set_label("density of the IMP network")
            bar.outline.set_visible(False)
            if bar.solids is not None:
                bar.solids.set_edgecolor("face")  # no hairlines between the shades
        if not drawn:
            nothing(ax, "no network has been trained yet")
        svg = _svg.to_svg(fig, title)
    caption = f"{len(drawn)} target networks of seed {seed}: mean over the training batches of each epoch."
    last = [(label_of(n.network, n.method), n.curve[-1]) for n in drawn]
    ends = ", ".join(f"{name} {percent(e.accuracy) if what == 'accuracy' else f'{e.loss:.3f}'}" for name, e in last)
    return Drawing(f"training-{what}", title, f"{title}. Last epoch: {ends or 'nothing yet'}.", caption, svg)


def _baseline(network: NetworkResult) -> bool:
    """Whether it is the dense network that all others are held against."""
    return network.method == "dense" and network.kind != "control"


def _thin_curve(network: NetworkResult, what: str) -> tuple[list[int], list[float]]:
    """Epochs and values, every k-th epoch of a long training and always the last."""
    step = max(1, len(network.curve) // 150)
    kept = list(network.curve[::step])
    if kept[-1] is not network.curve[-1]:
        kept.append(network.curve[-1])
    return [e.epoch for e in kept], [e.loss if what == "loss" else e.accuracy for e in kept]
