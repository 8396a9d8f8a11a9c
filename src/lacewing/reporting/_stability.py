"""The section "Stability": the spread over splits and over initialisations, and what is not stable, in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.reporting._data import ReportData, Series, density_text, number, percent, seeds_of, seeds_text, series
from lacewing.reporting._figures import Drawing, nothing
from lacewing.reporting._looks import Key
from lacewing.tradeoff.stability import DEVIATIONS, DROP, Overlap, Stability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LISTED = 8  # networks that a sentence names
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 2)))
_SHADES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7f3c8d")
READING = (
    "SD: standard deviation. Splits: over seeds, each of which draws the records anew; inits: over other "
    "initialisations and orders of training on one split. Both are estimates of the one-way random-effects analysis "
    "of variance (method of moments; a negative variance is shown as 0), with their degrees of freedom. With few of "
    "them an estimate may be far off. Two seeds that share one cut of the records are one split: networks of one cut "
    "are not compared, and the degrees of freedom count cuts. A study of several seeds with one initialisation each "
    "has both in its intervals."
)
OVERLAP = (
    "Overlap: weights that both masks keep, of those that either keeps (Jaccard), over the initialisations of one "
    "split; random: the same of random masks with as many weights in each layer. Hidden units of two initialisations "
    "have no common order, so a low overlap does not mean that the networks compute different things."
)


class Row(NamedTuple):
    """A recipe of the table of spreads, or of overlaps."""

    key: Key
    label: str
    cells: Sequence[str]


def section(data: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where each seed has one initialisation."""
    found = data.stability
    if found is None:
        return None
    return {
        "sentences": _sentences(data, found),
        "rows": _rows(data, found),
        "columns": [
            "Test accuracy",
            "SD over splits, points",
            "SD over inits, points",
            f"AUC of {found.attack or 'the attack'}",
            "SD over splits",
            "SD over inits",
        ],
        "degrees": _degrees(found),
        "reading": READING,
        "overlaps": [_overlap_row(data, each) for each in found.overlaps],
        "overlap_reading": OVERLAP,
    }


def _rows(data: ReportData, found: Stability) -> list[Row]:
    by_measure = {(s.network, s.measure): s.spread for s in found.spreads}
    rows = []
    for entry in series(data):
        cells: list[str] = []
        for measure, show in (("test accuracy", percent), ("AUC", number)):
            spread = by_measure.get((entry.network, measure))
            if spread is None:
                cells += ["–"] * 3
                continue
            sds = (spread.sd_between, spread.sd_within)
            cells.append(show(spread.mean))
            cells += ["–" if sd is None else number(100 * sd, 2) if show is percent else number(sd, 4) for sd in sds]
        rows.append(Row(data.key(entry.method, entry.kind), data.label(entry.network, entry.method), cells))
    return rows


def _degrees(found: Stability) -> str:
    """The degrees of freedom of both estimates, where they are the same for every recipe, else their ranges."""

    def span(values: set[int]) -> str:
        return str(min(values)) if len(values) == 1 else f"{min(values)} to {max(values)}"

    if not found.spreads:
        return ""
    between, within = ({getattr(s.spread, name) for s in found.spreads} for name in ("df_between", "df_within"))
    return f"Degrees of freedom: {span(between)} for splits, {span(within)} for initialisations, for each recipe."


def _sentences(data: ReportData, found: Stability) -> list[str]:
    said = [
        f"Every network was trained with {found.inits} initialisations and orders on the split of each seed "
        f"({seeds_text(seeds_of(data)) if data.networks else 'no seed yet'}). Everywhere else in this report they are "
        "averaged within the seed."
    ]
    said += _larger(found)
    if found.collapsed:
        each = []
        for one in found.collapsed[:_LISTED]:
            why = "at chance" if one.others is None else f"the others of its recipe {percent(one.others)}"
            each.append(f"{one.id} {percent(one.test_accuracy)} ({why})")
        said.append(f"Collapsed: {_count(found.collapsed, 'network')} ({_listed(each, len(found.collapsed))}).")
    else:
        said.append(
            f"No network collapsed: none is at chance, and none lies more than {100 * DROP:.0f} points and "
            f"{DEVIATIONS:g} standard deviations below the others of its recipe."
        )
    if found.diverged:
        names = [sentence.partition(":")[0] for sentence in found.diverged]
        said.append(f"Diverged: {_count(names, 'network')} ({_listed(names[:_LISTED], len(names))}).")
    else:
        said.append("No network diverged.")
    said += _masks(data, found)
    return said


def _larger(found: Stability) -> list[str]:
    """Which of both spreads is the larger one, over recipes.

    Variances are averaged before they are cut at 0: the mean of cut ones finds a spread where there is none.
    """
    said = []
    for measure in ("test accuracy", "AUC"):
        both = [
            (s.spread.variance_between, s.spread.sd_within**2)
            for s in found.spreads
            if s.measure == measure and s.spread.variance_between is not None and s.spread.sd_within is not None
        ]
        if not both:
            continue
        between, within = (max(0.0, fmean(values)) ** 0.5 for values in zip(*both, strict=True))
        points = measure == "test accuracy"
        what = "Test accuracy" if points else f"The AUC of “{found.attack}”"
        first, second = (f"{number(100 * sd, 2)} points" if points else number(sd, 4) for sd in (between, within))
        said.append(
            f"{what}: standard deviation {first} over splits and {second} over initialisations of one split (roots of "
            f"the mean variances over {len(both)} recipe{'s' * (len(both) != 1)})."
        )
    return said


def _masks(data: ReportData, found: Stability) -> list[str]:
    said = []
    if found.overlaps:
        labels = {s.network: data.label(s.network, s.method) for s in series(data)}
        least = min(found.overlaps, key=lambda each: each.jaccard - each.random)
        most = max(found.overlaps, key=lambda each: each.jaccard - each.random)
        each = [
            f"{labels.get(o.network, o.network)}: {number(o.jaccard)}, random {number(o.random)}"
            for o in ([most] if most is least else [most, least])
        ]
        differ = (
            "Masks of two initialisations share little more than random ones"
            if most.jaccard - most.random < 0.1
            else "Masks of two initialisations share more than random ones"
        )
        said.append(f"{differ} ({'; '.join(each)}).")
    if found.dropped:
        said.append(f"{_count(range(found.dropped), 'mask')} that the overlap needs were dropped (--keep signals).")
    return said


def _count(items: Sequence[object], word: str) -> str:
    return f"{len(items)} {word}{'s' * (len(items) != 1)}"


def _listed(shown: Sequence[str], count: int) -> str:
    return "; ".join(shown) + (f"; and {count - len(shown)} more" if count > len(shown) else "")


def _overlap_row(data: ReportData, each: Overlap) -> Row:
    entry = next((s for s in series(data) if s.network == each.network), None)
    method, kind = (entry.method, entry.kind) if entry is not None else ("imp", None)
    cells = [
        percent(each.density),
        f"{number(each.jaccard)} ({number(each.low)} to {number(each.high)})",
        number(each.random),
        str(each.pairs),
    ]
    return Row(data.key(method, kind), data.label(each.network, method), cells)


class _Line(NamedTuple):
    """Recipes that differ in their epochs alone, by epochs."""

    label: str
    dense: bool
    recipes: Mapping[int, Series]


def figure(data: ReportData) -> Drawing | None:
    """Test accuracy and leak over the epochs of training; None where no recipe is trained for several lengths."""
    found = data.stability
    panels = _panels(data) if found is not None else {}
    if found is None or not panels:
        return None
    from lacewing.reporting import _svg

    title = "Test accuracy and leak over the length of training"
    with _svg.style():
        fig = _svg.figure(3.3 * len(panels) + 0.6, 5.4)
        axes = fig.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
        for column, (name, lines) in enumerate(panels.items()):
            for row, what in enumerate(("accuracy", "AUC")):
                ax = axes[row][column]
                _draw(ax, lines, what)
                if row == 0:
                    ax.set_title(name)
                    _svg.percent_axis(ax.yaxis)
                else:
                    ax.set_xlabel("epochs of training")
                if column == 0:
                    ax.set_ylabel("test accuracy" if row == 0 else f"AUC of {found.attack}")
        handles: dict[str, Any] = {}
        for ax in axes[0]:
            handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        if not handles:
            nothing(axes[0][0], "no network has been trained yet")
        fig.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4)
        svg = _svg.to_svg(fig, title)
    caption = (
        f"Lines: means over {seeds_text(seeds_of(data))}, each the mean of its {found.inits} initialisations; bands "
        "run from the lowest seed to the highest. Every point is a complete schedule of its own, not a state on the "
        "way."
    )
    ends = ", ".join(f"{name}: {', '.join(line.label for line in lines)}" for name, lines in panels.items())
    return Drawing("stability", title, f"{title}. {ends}.", caption, svg)


def _panels(data: ReportData) -> dict[str, list[_Line]]:
    """By what follows the entry's name (the level): a line for each group of entries alike but for their epochs."""
    base = int(data.study.get("train", {}).get("epochs", 0))
    entries = sorted(data.study.get("networks", ()), key=lambda e: -len(str(e.get("name", ""))))
    lines: dict[tuple[str, str], dict[int, Series]] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for entry in series(data):
        of = next((e for e in entries if _is_of(entry, e)), None)
        if of is None:
            continue
        train = dict(of.get("train") or {})
        epochs = int(train.pop("epochs", base))
        rest = {**{k: v for k, v in of.items() if k not in ("name", "family", "level_families")}, "train": train}
        key = json.dumps(rest, sort_keys=True, default=str)
        settings[key] = rest
        level = entry.network.removeprefix(str(of.get("name") or of.get("method"))) if entry.sparse else ""
        lines.setdefault((level, key), {})[epochs] = entry
    kept = {place: of for place, of in lines.items() if len(of) > 1}
    dense = [_Line("dense", True, of) for (level, _), of in kept.items() if not level]
    panels: dict[str, list[_Line]] = {}
    for (level, key), of in sorted(kept.items()):
        if level:
            density = density_text(fmean(s.density for s in of.values()))
            name = f"{data.look(next(iter(of.values())).method).label}{level.replace('-', ' ')} ({density})"
            panels.setdefault(name, [*dense]).append(_Line(_told(key, kept, settings), False, of))
    return panels or ({"dense": dense} if dense else {})


def _is_of(entry: Series, declared: Mapping[str, Any]) -> bool:
    name = str(declared.get("name") or declared.get("method"))
    return entry.method == declared.get("method") and f"{entry.network}-".startswith(f"{name}-")


def _told(key: str, kept: Mapping[tuple[str, str], object], settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of a line that differ among the lines of its method."""
    own = settings[key]
    others = [settings[k] for _, k in kept if settings[k].get("method") == own.get("method")]
    differing = [name for name in own if any(other.get(name) != own[name] for other in others)]
    told = ", ".join(f"{name} {own[name]}" for name in differing)
    return told or str(own.get("method"))


def _draw(ax: Axes, lines: Sequence[_Line], what: str) -> None:
    number_ = 0
    for line in lines:
        points = []
        for epochs, entry in sorted(line.recipes.items()):
            values = entry.accuracy if what == "accuracy" else {s: e.value for s, e in entry.metric("auc").items()}
            if values:
                points.append((epochs, list(values.values())))
        if not points:
            continue
        colour = "#1d2430" if line.dense else _SHADES[number_ % len(_SHADES)]
        dash = "-" if line.dense else _DASHES[number_ % len(_DASHES)]
        number_ += not line.dense
        x = [epochs for epochs, _ in points]
        ax.fill_between(x, [min(v) for _, v in points], [max(v) for _, v in points], color=colour, alpha=0.13, lw=0)
        ax.plot(x, [fmean(v) for _, v in points], color=colour, linestyle=dash, marker="o", markersize=3.5,
                label=line.label)  # fmt: skip
    ax.set_xscale("log")
    if ticks := sorted({epochs for line in lines for epochs in line.recipes}):
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
