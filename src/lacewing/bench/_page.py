"""A benchmark as text and as figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lacewing.bench._linear import DENSE, PASSES, WAYS, LayerRow
from lacewing.bench._machine import Machine
from lacewing.bench._networks import NetworkRow
from lacewing.reporting import _svg
from lacewing.reporting._looks import OWN
from lacewing.tradeoff import BUTTERFLY, IMP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAMILY = {"dense": _svg.INK, BUTTERFLY: OWN[BUTTERFLY].colour, "pruned": OWN[IMP].colour}
MARKERS = "o^sDvP*X"


def text(machine: Machine, linear: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> str:
    """An overview of ratios, then every line with its spread, its share of the roofline and its memory."""
    parts = [
        str(machine),
        "Ratios are to dense in the same setting. 'roofline': the time that the counted flops and bytes take at these "
        "peaks,\nas a share of the time measured; above 100 % the caches hold what the count has moved through memory.",
        *_overviews(linear),
        *_details(linear),
        *_networks(networks),
    ]
    return "\n\n".join(parts)


def _overviews(linear: Sequence[LayerRow]) -> Iterator[str]:
    for dtype, passes in _unique((row.dtype, row.passes) for row in linear):
        shown = [row for row in linear if (row.dtype, row.passes) == (dtype, passes)]
        yield _overview(f"{dtype}, {passes}: time / dense", shown)


def _overview(title: str, rows: Sequence[LayerRow]) -> str:
    """Ratios to dense: a line for each way, a column for each setting."""
    cells = _unique((row.n, row.batch) for row in rows)
    ratios = {(row.way, row.n, row.batch): row.ratio for row in rows}
    density = {row.n: f"{row.density:.1%}" for row in rows}

    def line(name: str, values: Iterable[object]) -> str:
        return f"{name:<30}" + "".join(f"{value:>7}" for value in values)

    lines = [
        title,
        line("n", (n for n, _ in cells)),
        line("density", (density[n] for n, _ in cells)),
        line("batch", (batch for _, batch in cells)),
    ]
    for way in _unique(row.way for row in rows):
        found = [ratios[way, n, batch] for n, batch in cells]
        if any(ratio is not None for ratio in found) and way != DENSE:
            lines.append(line(way, map(_short, found)))
    return "\n".join(lines)


def _details(linear: Sequence[LayerRow]) -> Iterator[str]:
    for (dtype, passes, n, batch), group in groupby(linear, lambda row: (row.dtype, row.passes, row.n, row.batch)):
        rows = list(group)
        lines = [
            f"{dtype}, {passes}, n = {n}, batch {batch}, density {rows[0].density:.2%}",
            f"{'':<30}{'ms':>10}{'least':>10}{'greatest':>10}{'/ dense':>9}{'roofline':>10}{'weights':>12}{'peak':>12}",
        ]
        lines += [_detail(row) for row in rows]
        yield "\n".join(lines)


def _detail(row: LayerRow) -> str:
    if row.missing is not None or row.median is None or row.low is None or row.high is None:
        return f"{row.way:<30}  {row.missing}"
    times = "".join(f"{1000 * seconds:>10.4g}" for seconds in (row.median, row.low, row.high))
    return (
        f"{row.way:<30}{times}{_short(row.ratio):>9}{row.of_roofline or 0:>10.0%}"
        f"{_megabytes(row.weights_bytes):>12}{_megabytes(row.peak_bytes):>12}"
    )


def _networks(networks: Sequence[NetworkRow]) -> Iterator[str]:
    for (dtype, what), group in groupby(networks, lambda row: (row.dtype, row.what)):
        lines = [
            f"ResNet-20, {dtype}, {what}",
            f"{'':<32}{'density':>8}{'ms':>10}{'least':>10}{'greatest':>10}{'/ dense':>9}{'peak':>12}{'on disk':>12}",
        ]
        for row in group:
            times = "".join(f"{1000 * seconds:>10.4g}" for seconds in (row.median, row.low, row.high))
            lines.append(
                f"{row.network:<32}{row.density:>8.2%}{times}{_short(row.ratio):>9}"
                f"{_megabytes(row.peak_bytes):>12}{row.disk_bytes / 1e3:>9.0f} kB"
            )
        yield "\n".join(lines)


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))


def _short(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.3g} MB"


def files(machine: Machine, linear: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> Mapping[str, str]:
    """The text, and a figure for the layers in each dtype and for the networks."""
    found = {"butterfly.txt": text(machine, linear, networks) + "\n"}
    for dtype in _unique(row.dtype for row in linear):
        found[f"linear-{dtype}.svg"] = _linear_figure(machine, [row for row in linear if row.dtype == dtype])
    if networks:
        found["networks.svg"] = _networks_figure(machine, networks)
    return found


def _linear_figure(machine: Machine, rows: Sequence[LayerRow]) -> str:
    """Ratio to dense over n: a panel for each batch and pass, a line for each way."""
    batches, ways = _unique(row.batch for row in rows), _unique(row.way for row in rows if row.ratio is not None)
    title = f"Time of a linear layer against dense, {rows[0].dtype}, {machine.name}"
    with _svg.style():
        made = _svg.figure(3.0 * max(3, len(batches)), 6.2)
        panels = made.subplots(len(PASSES), len(batches), sharex=True, sharey=True, squeeze=False)
        for line, passes in zip(panels, PASSES, strict=True):
            for ax, batch in zip(line, batches, strict=True):
                shown = [row for row in rows if (row.passes, row.batch) == (passes, batch)]
                _ratio_lines(ax, shown, ways)
                ax.set_title(f"{passes}, batch {batch}", fontsize=9)
        for ax in panels[-1]:
            ax.set_xlabel("n: rows and columns")
        for line in panels:
            line[0].set_ylabel("time / dense")
        handles, labels = panels[0][0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside upper left", ncols=3)
        return _svg.to_svg(made, title)


def _ratio_lines(ax: Axes, rows: Sequence[LayerRow], ways: Sequence[str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    counts: dict[str, int] = {}
    for way in ways:
        family = WAYS[way].family
        counts[family] = place = counts.get(family, -1) + 1
        points = [(row.n, row.ratio) for row in rows if row.way == way and row.ratio is not None]
        if way == DENSE:
            ax.axhline(1, color=FAMILY[family], linewidth=1.2, label=way)
        else:
            style = {"color": FAMILY[family], "marker": MARKERS[place], "alpha": 1 - 0.18 * place}
            ax.plot([n for n, _ in points], [ratio for _, ratio in points], linewidth=1.4, label=way, **style)  # type: ignore[arg-type]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(_unique(row.n for row in rows)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))


def _networks_figure(machine: Machine, rows: Sequence[NetworkRow]) -> str:
    """Ratio to dense of each version: a panel for each pass, a marker for each dtype; and the size on disk."""
    whats, names = _unique(row.what for row in rows), _unique(row.network for row in rows)[::-1]
    title = f"ResNet-20 dense, butterfly and pruned, {machine.name}"
    with _svg.style():
        made = _svg.figure(3.0 * (len(whats) + 1), 2.6)
        *panels, disk = made.subplots(1, len(whats) + 1, sharey=True)
        for ax, what in zip(panels, whats, strict=True):
            for marker, dtype in zip(MARKERS, _unique(row.dtype for row in rows), strict=False):
                shown = [row for row in rows if (row.what, row.dtype) == (what, dtype)]
                ax.scatter([row.ratio for row in shown], [names.index(row.network) for row in shown], marker=marker,
                           color=[FAMILY[row.family] for row in shown], label=dtype)  # fmt: skip
            ax.axvline(1, color=_svg.MUTED, linewidth=1, linestyle=":")
            ax.set_xlim(0, 1.08 * max(row.ratio for row in rows if row.what == what))
            ax.set_title(what, fontsize=9)
            ax.set_xlabel("time / dense")
        sizes = {row.network: row.disk_bytes / 1e3 for row in rows}
        families = {row.network: row.family for row in rows}
        colours = [FAMILY[families[name]] for name in names]
        disk.barh(range(len(names)), [sizes[name] for name in names], color=colours, height=0.5)
        disk.set_title("parameters on disk", fontsize=9)
        disk.set_xlabel("kB")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].legend(loc="lower left")
        return _svg.to_svg(made, title)
