"""The trade-off plane: what each sparse network loses in accuracy against what it gains in defence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lacewing.reporting import _slopes, _svg
from lacewing.reporting._data import (
    ReportData,
    density_text,
    lost,
    n_text,
    percent,
    percent_range,
    seeds_text,
)
from lacewing.reporting._figures import Drawing, control_label, nothing
from lacewing.reporting._svg import INK, MUTED
from lacewing.results import STOPPED
from lacewing.tradeoff import PAPER_SLOPE, Point, TradeOff, is_checkpoint_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIT = "#009e73"
_PLACES = ((8, -3, "left"), (6, 6, "left"), (-8, -3, "right"), (0, 8, "center"), (0, -15, "center"))
_FAR = 0.35  # relative losses beyond this would squeeze all others into a corner


def plane(data: ReportData) -> Drawing:
    """Relative gain in defence over relative loss in accuracy: seeds, means, the slope's fan, the paper's line, cap."""
    title = "The trade-off plane"
    found = data.tradeoff
    with _svg.style():
        fig = _svg.figure(6.4, 4.8)
        ax = fig.add_subplot()
        for axis in (ax.xaxis, ax.yaxis):
            _svg.percent_axis(axis)
        ax.set_xlabel("relative loss in test accuracy")
        ax.set_ylabel("relative gain in defence")
        every = [] if found is None else [p for p in found.points if p.relative_loss is not None]
        points = [p for p in every if not p.stopped]
        if found is None or not points:
            nothing(ax, "no attack has run yet" if found is None else "no dense network to compare with")
            svg = _svg.to_svg(fig, title)
            return Drawing("tradeoff", title, f"{title}. Nothing to show yet.", "Nothing to compare yet.", svg)
        stops = _stops(data, every)
        hidden, capped = _limits(ax, found, points, list(stops.values()))
        _lines(ax, found, capped)
        tips = _points(ax, data, found, points) | _stopped(ax, data, stops)
        _svg.legend_above(ax, columns=3)
        fig.draw_without_rendering()  # settles the layout, so that labels know where they are
        right, value = ax.get_xlim()[1], _slope(found)
        fit = [(0.0, 0.0), (right, value * right)] if value is not None else []
        _label(ax, data, points, [*_path(stops), *fit])
        svg = _svg.to_svg(fig, title, tips)
    caption = _caption(data, found, hidden, capped) + _stops_caption(stops)
    return Drawing("tradeoff", title, f"{title}. {_summary(data, [*points, *stops.values()])}", caption, svg)


def _stops(data: ReportData, points: Sequence[Point]) -> dict[int, Point]:
    """The dense network's early stops by epoch, from the last one that is below every sparse network's accuracy on."""
    dense = {n.seed: n for n in data.networks if n.role == "target" and n.network == "dense"}
    epochs = {
        n.network: len(n.curve)
        for n in data.networks
        if n.role == "target" and n.seed in dense and is_checkpoint_of(n, dense[n.seed])
    }
    stops = sorted(((epochs[p.network], p) for p in points if p.network in epochs), key=lambda stop: stop[0])
    least = min((p.test_accuracy.mean for p in points if p.sparse), default=0.0)
    first = next((i for i, (_, p) in enumerate(stops) if p.test_accuracy.mean >= least), len(stops))
    return dict(stops[max(first - 1, 0) :])


def _path(stops: Mapping[int, Point]) -> list[tuple[float, float]]:
    """Relative losses and gains along the dense network's training, which ends at no loss and no gain."""
    means = [
        (p.relative_loss.mean, p.relative_gain.mean) for p in stops.values() if p.relative_loss and p.relative_gain
    ]
    return [*means, (0.0, 0.0)] if means else []


def _limits(ax: Axes, found: TradeOff, points: Sequence[Point], stops: Sequence[Point]) -> tuple[int, bool]:
    """Set the axes; returns how many networks lie beyond the right edge, and whether the cap is in view.

    The networks set the right edge: early stops of little accuracy would press them together.
    """
    losses = [0.0, *(p.relative_loss for p in found.pairs)]
    near = [loss for loss in losses if loss <= _FAR] if any(p.relative_loss > _FAR for p in found.pairs) else losses
    right = max(*near, 0.02) if len(near) > 1 else max(*losses, 0.02)
    seen = [(p.relative_loss, p.relative_gain) for p in found.pairs]
    seen += [(p.relative_loss.mean, p.relative_gain.mean) for p in stops if p.relative_loss and p.relative_gain]
    left = min([0.0, *(loss for loss, _ in seen)])
    gains = [0.0, *(gain for loss, gain in seen if loss <= right)]
    top, bottom = max(*gains, 0.02), min(gains)
    capped = found.cap is not None and 0 < found.cap.value <= 2.2 * top
    if capped and found.cap is not None:
        top = max(top, found.cap.value)
    ax.set_xlim(left - 0.06 * (right - left), right + 0.08 * (right - left))
    ax.set_ylim(bottom - 0.08 * (top - bottom), top + 0.12 * (top - bottom))
    beyond = [p for p in points if p.relative_loss is not None and p.relative_loss.mean > ax.get_xlim()[1]]
    return len(beyond), capped


def _lines(ax: Axes, found: TradeOff, capped: bool) -> None:
    x = np.array([0.0, ax.get_xlim()[1]])
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.axvline(0, color=MUTED, linewidth=0.8)
    value, ratio = _slope(found), found.slope.ratio
    if value is not None and ratio is not None:
        top = ax.get_ylim()[1]
        if (
            ratio.low is not None and found.slope.verdict != _slopes.NOT_FINISHED
        ):  # without an upper end everything above the lower one is in the set
            high = np.maximum(top, ratio.low * x) if ratio.high is None else ratio.high * x
            ax.fill_between(x, ratio.low * x, high, color=_FIT, alpha=0.16, linewidth=0, gid="fan")
        ax.plot(x, value * x, color=_FIT, linewidth=1.8, label=f"slope {_slopes.text(found.slope)}", gid="slope")
    ax.plot(
        x,
        PAPER_SLOPE * x,
        color=MUTED,
        linewidth=1.3,
        linestyle=(0, (5, 3)),
        label=f"paper: {PAPER_SLOPE}",
        gid="paper",
    )
    if capped and found.cap is not None:
        ax.axhline(found.cap.value, color=INK, linewidth=1, linestyle=(0, (1, 2)), gid="cap")
        ax.annotate(
            "cap: attack at chance",
            (0.012, found.cap.value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color=MUTED,
            fontsize=8.5,
        )


def _slope(found: TradeOff) -> float | None:
    """The slope that is drawn: none where the attack on the dense network is not above chance."""
    measurable = found.slope.ratio is not None and found.slope.verdict != "no trade-off measurable"
    return found.slope.ratio.value if measurable and found.slope.ratio is not None else None


def _points(ax: Axes, data: ReportData, found: TradeOff, points: Sequence[Point]) -> dict[str, str]:
    """Seeds small and pale, means large; filled are the dense network and what makes the slope, hollow the others."""
    tips = {}
    several = len(found.seeds) > 1
    for pair in found.pairs if several else ():
        look = data.look(pair.method)
        style = {"color": look.colour, "markersize": 3.6, "alpha": 0.5, "mew": 0.0 if look.marker not in "x+" else 0.8}
        ax.plot([pair.relative_loss], [pair.relative_gain], look.marker, **style)  # type: ignore[arg-type]
    named: set[str] = set()
    for point in points:
        if point.relative_loss is None or point.relative_gain is None:
            continue
        look = data.look(point.method)
        x, y = point.relative_loss.mean, point.relative_gain.mean
        filled = not point.control and (point.in_band or not point.sparse)
        style = {"color": look.colour, "marker": look.marker, "linestyle": "none"}
        face = look.colour if filled else "none"
        ax.plot([x], [y], markerfacecolor=face, markersize=7.5, mew=1.4, zorder=4, **style)  # type: ignore[arg-type]
        name = control_label(data, point.method) if point.control else look.label
        if name not in named:
            named.add(name)
            face = "none" if point.control else look.colour
            ax.plot([], [], markerfacecolor=face, markersize=7, label=name, **style)  # type: ignore[arg-type]
        gid = f"tip-{point.network}"
        ax.plot([x], [y], "o", markersize=13, alpha=0.0, gid=gid, zorder=5)
        tips[gid] = (
            f"{data.label(point.network, point.method)}, density {density_text(point.density.mean)}: "
            f"{lost(x, ' accuracy')}, gains {percent(y)} defence"
        )
    return tips


def _stopped(ax: Axes, data: ReportData, stops: Mapping[int, Point]) -> dict[str, str]:
    """The dense network during its training, which ends at no loss and no gain."""
    path = _path(stops)
    if not path:
        return {}
    x, y = zip(*path, strict=True)
    ax.plot(x, y, color=INK, linewidth=1, linestyle=(0, (3, 1.5)), label=data.look(STOPPED).label, gid="stopped")
    tips = {}
    for (epoch, point), (loss, gain) in zip(stops.items(), path, strict=False):
        if loss <= ax.get_xlim()[1]:
            gid = f"tip-stop-{epoch}"
            ax.plot([loss], [gain], ".", color=INK, markersize=4)
            ax.plot([loss], [gain], "o", markersize=9, alpha=0.0, gid=gid, zorder=3.5)
            name = data.label(point.network, point.method)
            tips[gid] = f"{name}: {lost(loss, ' accuracy')}, gains {percent(gain)} defence"
    return tips


def _label(ax: Axes, data: ReportData, points: Sequence[Point], path: Sequence[tuple[float, float]]) -> None:
    """Write densities of sparse networks and names of others beside the means where there is room.

    The text under the pointer has them all.
    """
    scale = 72 / ax.figure.dpi
    centres = [
        ax.transData.transform((p.relative_loss.mean, p.relative_gain.mean)) * scale
        for p in points
        if p.relative_loss is not None and p.relative_gain is not None
    ]
    x0, y0, x1, y1 = (v * scale for v in ax.bbox.extents)
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in centres]
    zero = ax.transData.transform((0, 0)) * scale
    # No label on the axes through zero, nor on a line.
    taken += [(x0, zero[1] - 1, x1, zero[1] + 1), (zero[0] - 1, y0, zero[0] + 1, y1)]
    for start, end in itertools.pairwise(path):
        line = np.linspace(start, end, max(2, round(60 * abs(end[0] - start[0]) / ax.get_xlim()[1])))
        taken += [(x - 2, y - 2, x + 2, y + 2) for x, y in ax.transData.transform(line) * scale]
    for point, (x, y) in zip(points, centres, strict=True):
        text = density_text(point.density.mean) if point.sparse else data.label(point.network, point.method)
        width, height = 5.6 * len(text), 9.0
        for dx, dy, side in _PLACES:
            left = x + dx - {"left": 0.0, "right": width, "center": width / 2}[side]
            box = (left, y + dy - 1, left + width, y + dy + height)
            inside = box[0] > x0 and box[1] > y0 and box[2] < x1 and box[3] < y1
            if inside and not any(b[0] < box[2] and box[0] < b[2] and b[1] < box[3] and box[1] < b[3] for b in taken):
                ax.annotate(
                    text,
                    (point.relative_loss.mean, point.relative_gain.mean),  # type: ignore[union-attr]
                    xytext=(dx, dy),
                    textcoords="offset points",
                    ha=side,
                    fontsize=8.5,
                    color=data.look(point.method).colour,
                )
                taken.append(box)
                break


def _summary(data: ReportData, points: Sequence[Point]) -> str:
    parts = [
        f"{data.label(p.network, p.method)}"
        + f" (density {density_text(p.density.mean)})" * p.sparse
        + f" {lost(p.relative_loss.mean)} and gains {percent(p.relative_gain.mean)}"
        for p in points
        if p.kind != "dense" and p.relative_loss is not None and p.relative_gain is not None
    ]
    return "; ".join(parts) + "." if parts else "Only the dense network has been attacked."


def _stops_caption(stops: Mapping[int, Point]) -> str:
    if not stops:
        return ""
    epochs = f"epoch{'s' * (len(stops) > 1)} {', '.join(map(str, stops))}"
    return f" The dashed line is the dense network stopped early ({epochs}, means over seeds)."


def _caption(data: ReportData, found: TradeOff, hidden: int, capped: bool) -> str:
    sizes = "Large marks are means, small ones single seeds. " if len(found.seeds) > 1 else ""
    text = (
        f"Each network against the dense network of its seed ({seeds_text(found.seeds)}; {n_text(data)}). {sizes}"
        f"Labels are densities; filled marks lie in the paper's band of {percent_range(*found.band)} density and make "
        f"the slope ({_slopes.row(found.slope, '').interval or found.slope.verdict})."
    )
    if found.cap is not None and found.cap.value > 0 and not capped:
        text += f" The cap of the gain, {percent(found.cap.value)}, lies above the figure."
    if hidden:
        text += (
            f" {hidden} network{'s' * (hidden > 1)} with a larger loss lie{'s' * (hidden == 1)} beyond the right edge."
        )
    return text
