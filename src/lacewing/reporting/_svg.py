"""From a matplotlib figure to SVG text: the same bytes for the same figure, as a file and inside a page."""

from __future__ import annotations

import io
import itertools
import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, BAND = "#1d2430", "#5d6675", "#e3e6eb", "#cfe3dc"

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "lacewing",
    "svg.fonttype": "none",  # text stays text: small, selectable, read aloud
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same on every machine
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify_threshold": 0.3,
}


def style() -> Any:
    """Context manager: matplotlib's settings for our figures, the caller's restored afterwards."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(("backend", "interactive"))
    }
    return mpl.rc_context(settings | _STYLE)


def figure(width: float = 5.9, height: float = 4.2, *, fitted: bool = True) -> Figure:
    """An empty figure of ``width`` x ``height`` inches that belongs to no global state.

    ``fitted``: axes are fitted around their texts, which takes seconds for many axes.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained" if fitted else None)
    FigureCanvasSVG(made)
    return made


def roc_axes(ax: Any, floor: float) -> None:
    """Log-log axes of a ROC curve in per cent, both from the smallest rate that n resolves."""
    from matplotlib.ticker import FixedLocator, NullLocator

    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(floor, 1)
    ax.set_ylim(floor, 1.15)
    ticks = FixedLocator([t for t in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0) if t >= floor * 0.999])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(ticks)
        axis.set_minor_locator(NullLocator())
        percent_axis(axis)
    ax.set_xlabel("false-positive rate: non-members called members")
    ax.set_ylabel("true-positive rate")


def percent_axis(axis: Any) -> None:
    """Ticks of a share in per cent, with no more decimals than needed."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.6g}\u202f%".replace("-", "\u2212")))


def share_axis(axis: Any) -> None:
    """Ticks of an AUC as tables and sentences write it, ``0.85``."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.4g}".replace("-", "\u2212")))


def legend_above(ax: Axes, columns: int = 4, **options: Any) -> None:
    """A frameless legend over the axes, where it hides no point; in fewer columns where these would be too wide."""
    labels = [str(handle.get_label()) for handle in options.get("handles") or ax.get_legend_handles_labels()[0]]
    width = 0.9 * 72 * ax.figure.bbox.width / ax.figure.dpi
    while columns > 1 and _legend_width(labels, columns) > width:
        columns -= 1
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, columnspacing=1.3, **options)


def _legend_width(labels: list[str], columns: int) -> float:
    """About how wide a legend is, in points: the longest label of each column, with its handle and the space between.

    Matplotlib fills column by column, the first ones with a label more.
    """
    rows, longer = divmod(len(labels), columns)
    width, start = 0.0, 0
    for column in range(columns):
        end = start + rows + (column < longer)
        width += 33 + 5 * max(map(len, labels[start:end]), default=0)
        start = end
    return width


def to_svg(made: Figure, title: str, tips: dict[str, str] | None = None) -> str:
    """The figure as a standalone SVG document.

    ``tips`` maps the gid of an artist to the text that a browser shows while the pointer rests on it.
    """
    out = io.StringIO()
    made.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r"<!DOCTYPE.*?>\s*|<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", out.getvalue(), flags=re.DOTALL)
    for gid, tip in (tips or {}).items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{escape(tip)}</title>', 1)
    text = compact(text)
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: f"{tag[1]}<title>{escape(title)}</title>", text, count=1)


_COUNTED = r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib\.axis|legend|\w+Collection)_\d+"'
_UNSEEN = r'style="fill: #\w{6}; fill-opacity: 0; stroke: #\w{6}; stroke-opacity: 0"'  # marks that only hold a tip
_USES = r"(?:<use [^>]*/>\n)+</g>\n"
_ONE = rf'<g>\n(<g clip-path="[^"]*">\n{_USES})</g>\n'  # marks in a group that says nothing
_MARKS = rf'(<g clip-path="[^"]*")>\n{_USES}(?:\1>\n{_USES})*'


def compact(svg: str) -> str:
    """The same picture of matplotlib in about half as many bytes.

    Coordinates have two decimals (of a point), successive marks of one style share it, and ids are counted.
    """
    svg = re.sub(r"\n +", "\n", re.sub(_COUNTED, "", svg))
    svg = re.sub(r"<(?:path|use|text)\b[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _rounded, tag[0]), svg)
    svg = re.sub(_UNSEEN, 'style="opacity: 0"', svg)
    svg = re.sub(_MARKS, _style_once, re.sub(_ONE, r"\1", svg))
    ids: dict[str, str] = {}
    made = r'( id="|href="#|url\(#)([mpC][0-9a-f]{10})(?=["\)])'
    return re.sub(made, lambda found: found[1] + ids.setdefault(found[2], f"{found[2][0]}{len(ids)}"), svg)


def _rounded(number: re.Match[str]) -> str:
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _style_once(marks: re.Match[str]) -> str:
    """Successive marks with the style of several on their group, from which they inherit it."""
    groups = []
    found = re.findall(r'(<use [^>]*?)(?: style="([^"]*)")?/>\n', marks[0])
    for style, of in itertools.groupby(found, key=lambda use: use[1]):
        # The opacity of a group is of the group as a whole: marks that cover each other would not add up.
        each = f' style="{style}"' * (re.search(r"(?<!-)\bopacity", style) is not None)
        start = marks[1] + f' style="{style}"' * (style != "" and not each)
        groups.append("\n".join([f"{start}>", *(f"{use}{each}/>" for use, _ in of), "</g>\n"]))
    return "".join(groups)


def inline(svg: str, name: str, label: str) -> str:
    """The same SVG for use inside HTML: scales with its container, its ids are unique, ``label`` is its alt text."""
    body = svg[svg.index("<svg") :].replace("xlink:href", "href")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"\s*<title>.*?</title>", "", body, count=1, flags=re.DOTALL)  # the label says more
    box = re.search(r'viewBox="([^"]+)"', body)
    start = f'<svg role="img" aria-label="{escape(label)}" viewBox="{box[1] if box else "0 0 480 330"}">'
    return re.sub(r"<svg\b[^>]*>", lambda _: start, body, count=1)
