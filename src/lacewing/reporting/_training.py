"""The training of the first seed's networks, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.reporting import _svg
from lacewing.reporting._data import ReportData, percent, seeds_of, series
from lacewing.reporting._figures import DENSITY_TICKS, Drawing, control_label, nothing
from lacewing.reporting._svg import INK
from lacewing.results import NetworkResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_DASH = (0, (4, 2))


def training(data: ReportData, what: str) -> Drawing:
    """Training ``what`` ("loss" or "accuracy") by epoch: the first seed's targets.

    Networks that follow one another, such as the levels of IMP, are coloured by log density.
    """
    title = f"Training {what} by epoch"
    seed = min(seeds_of(data), default=0)
    order = {s.network: i for i, s in enumerate(series(data))}
    drawn = [n for n in data.networks if n.role == "target" and n.seed == seed and n.curve and n.network in order]
    # The dense network last, so that it lies on top.
    drawn.sort(key=lambda n: (n.baseline, not _in_sequence(data, n), order[n.network]))
    levels = [n for n in drawn if _in_sequence(data, n)]
    with _svg.style():
        fig = _svg.figure()
        ax = fig.add_subplot()
        shades = _shades([n.density for n in levels])
        for network in drawn:
            level = _in_sequence(data, network)
            colour = shades.to_rgba(network.density) if level else data.look(network.method).colour  # type: ignore[arg-type]
            width, dash = (2.2, "-") if network.baseline else (1.1, "-" if level else _DASH)
            epochs, values = _thin_curve(network, what)
            ax.plot(epochs, values, color=colour, linewidth=width, linestyle=dash)
        ax.set_xlabel("epoch")
        ax.set_ylabel(f"training {what}")
        if what == "loss":
            ax.set_ylim(bottom=0)
        else:
            _svg.percent_axis(ax.yaxis)
        _legend(ax, data, drawn)
        if levels:
            _density_bar(ax, data, shades, levels)
        if not drawn:
            nothing(ax, "no network has been trained yet")
        svg = _svg.to_svg(fig, title)
    caption = f"{len(drawn)} target networks of seed {seed}: mean over the training batches of each epoch."
    last = [(data.label(n.network, n.method), n.curve[-1]) for n in drawn]
    ends = ", ".join(f"{name} {percent(e.accuracy) if what == 'accuracy' else f'{e.loss:.3f}'}" for name, e in last)
    return Drawing(f"training-{what}", title, f"{title}. Last epoch: {ends or 'nothing yet'}.", caption, svg)


def _in_sequence(data: ReportData, network: NetworkResult) -> bool:
    """Whether it is one of several sparse networks that follow one another."""
    return network.sparse and data.look(network.method).sequence


def _shades(densities: Sequence[float]) -> ScalarMappable:
    """Colours of densities, on a log scale."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    shades = ListedColormap(colormaps["viridis"](np.linspace(0.7, 0.12, 48)))  # neither end vanishes on its page
    floor = min(densities, default=0.01) * 0.999
    return ScalarMappable(LogNorm(floor, max(*densities, floor * 1.01) if densities else 1.0), shades)


def _legend(ax: Axes, data: ReportData, drawn: Sequence[NetworkResult]) -> None:
    """A line for the dense network, and one for each method and its controls that no colour bar explains."""
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=INK, linewidth=2.2, label="dense")] if any(n.baseline for n in drawn) else []
    others = (n for n in drawn if not n.baseline and not _in_sequence(data, n))
    for method, control in dict.fromkeys((n.method, not n.sparse) for n in others):
        look = data.look(method)
        label = control_label(data, method) if control else look.label
        keys.append(Line2D([], [], color=look.colour, linestyle=_DASH, label=label))
    if keys:
        _svg.legend_above(ax, handles=keys)


def _density_bar(ax: Axes, data: ReportData, shades: ScalarMappable, levels: Sequence[NetworkResult]) -> None:
    """The colour bar of densities."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    densities = [n.density for n in levels]
    figure: Any = ax.figure
    bar = figure.colorbar(shades, ax=ax, pad=0.02, aspect=28)
    ticks = [t for t in DENSITY_TICKS if shades.norm.vmin <= t <= max(densities)]  # type: ignore[operator]
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks if len(levels) > 2 else sorted(set(densities))))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}\u202f%"))
    labels = dict.fromkeys(data.look(n.method).label for n in levels)
    bar.set_label(f"density of the {' or '.join(labels)} network")
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")  # no hairlines between the shades


def _thin_curve(network: NetworkResult, what: str) -> tuple[list[int], list[float]]:
    """Epochs and values, every k-th epoch of a long training and always the last."""
    step = max(1, len(network.curve) // 150)
    kept = list(network.curve[::step])
    if kept[-1] is not network.curve[-1]:
        kept.append(network.curve[-1])
    return [e.epoch for e in kept], [e.loss if what == "loss" else e.accuracy for e in kept]
