"""The trade-off under each attack, also under stronger ones than the paper's: slopes as rows, defence as panels."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.errors import UsageError
from lacewing.reporting import _svg
from lacewing.reporting._data import (
    PAPER_ATTACK,
    ReportData,
    Series,
    attack_names,
    estimates,
    n_text,
    percent,
    random_halves,
    results_of,
    seeds_of,
    seeds_text,
    series,
    share_text,
    unfinished,
)
from lacewing.reporting._figures import FULL, Drawing, by_method, nothing
from lacewing.reporting._looks import marks
from lacewing.reporting._slopes import NOT_FINISHED, SlopeRow, row
from lacewing.reporting._svg import BAND as BAND_COLOUR
from lacewing.reporting._svg import INK, MUTED
from lacewing.results import AttackResult
from lacewing.tradeoff import PAPER_BAND, PAPER_SLOPE, Verdict, tradeoff

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RESAMPLES = 1000  # per attack; the leading attack's trade-off comes with the data
_COLUMNS = 4
_LEVEL = 0.05

Defences = Mapping[str, Mapping[int, float]]  # by network, then by seed
_TESTED: Container[Verdict | None] = ("no loss measured", "slope not resolved", "slope resolved")


class AttackSlope(NamedTuple):
    """One attack's slope, with what it finds on the dense network."""

    row: SlopeRow | None  # None: not defined, see `reason`
    attack: str
    dense: str  # A0 with its interval
    reason: str
    strength: float  # A0, or -1: the strongest attack comes first
    borrowed: bool  # the dense network's result is the paper's discriminator's
    verdict: Verdict | None
    p: float | None  # of gain - 3.6 loss


def slopes_by_attack(data: ReportData) -> list[AttackSlope]:
    """A row for each attack that ran and makes decisions, the strongest on the dense network first.

    An attack that is about sparse networks alone (one who knows their mask, say) has no result on the dense network;
    its gain is then measured against what the paper's discriminator finds there.
    """
    rows = []
    for name in attack_names(data):
        chosen = [a for a in data.attacks if a.attack == name and a.network.role == "target"]
        if any(a.metrics.get("balanced_accuracy") is not None for a in chosen):
            rows.append(_slope(data, name, chosen))
    return sorted(rows, key=lambda row: -row.strength)


def _slope(data: ReportData, name: str, chosen: list[AttackResult]) -> AttackSlope:
    borrowed = not any(a.network.baseline for a in chosen)
    found = data.tradeoffs.get(name)
    if found is None and data.tradeoff is not None and data.tradeoff.attack == name:
        found = data.tradeoff
    made = found is None or (borrowed and found.dense_balanced_accuracy is None)
    if found is None or made:
        if borrowed:
            chosen = [*chosen, *_dense_of_paper(data, name)]
        try:  # raises where the networks of a seed were not attacked alike: that is said, and the page goes on
            found = tradeoff(chosen, attack=name, halves=random_halves(data), resamples=_RESAMPLES)
        except UsageError as error:
            return AttackSlope(None, name, "–", str(error), -1.0, borrowed, None, None)
    a0, slope = found.dense_balanced_accuracy, found.slope
    if a0 is None:
        text = "No relative gain: the attack has no result on a dense network."
        return AttackSlope(None, name, "–", text, -1.0, borrowed, None, None)
    if made and _waits(data):  # a trade-off that was made here does not know what has not run
        slope = dataclasses.replace(slope, verdict=NOT_FINISHED)
    p = slope.p_paper if slope.verdict in _TESTED else None
    return AttackSlope(row(slope, name), name, share_text(a0), "", a0.value, borrowed, slope.verdict, p)


def _waits(data: ReportData) -> bool:
    """Whether a network or an attack of the study is missing."""
    others = any(each.slope.verdict == NOT_FINISHED for each in data.tradeoffs.values())
    return others or unfinished(data) or data.missing > 0


def _dense_of_paper(data: ReportData, name: str) -> list[AttackResult]:
    return [
        dataclasses.replace(a, attack=name)
        for a in data.attacks
        if a.attack == PAPER_ATTACK and a.network.role == "target" and a.network.baseline
    ]


def in_words(rows: list[AttackSlope]) -> str:
    """What is found over all attacks, in one or two sentences."""
    if not rows:
        return "No attack here makes decisions, so no defence and no slope can be given; the matrix above compares AUC."
    top = rows[0]
    strongest = f" The strongest on the dense network is “{top.attack}”: A {top.dense}." if top.strength > 0 else ""
    waiting = sum(row.verdict == NOT_FINISHED for row in rows)
    if waiting == len(rows):
        return f"No slope of these {waiting} attacks is tested before every planned attack has run.{strongest}"
    tested = [row.p for row in rows if row.p is not None and row.verdict in _TESTED]
    if not tested:
        return (
            f"No slope of these {len(rows)} attacks is tested against the paper's {PAPER_SLOPE}: that takes three "
            f"seeds, an attack above chance on the dense network, and a loss at which a gain of {PAPER_SLOPE} times as "
            f"much is possible.{strongest}"
        )
    away = sum(row.verdict == "slope resolved" for row in rows)
    excluded = sum(p < _LEVEL for p in tested)
    open_ = f" {waiting} {_are(waiting)} not finished." if waiting else ""
    return (
        f"Of {len(rows)} attacks that make decisions {away} {'has' if away == 1 else 'have'} a slope whose set leaves "
        f"out 0. {len(tested)} {_are(len(tested))} tested against the paper's {PAPER_SLOPE}, and {excluded} of them "
        f"differ{'s' * (excluded == 1)} at p < {_LEVEL}, each by itself and not corrected for their number.{open_}"
        f"{strongest}"
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def panels(data: ReportData) -> Drawing:
    """Defence over log density, a panel for each attack with decisions, all on the same axes."""
    title = "Defence against density under each attack"
    found, shown = results_of(data), [s for s in series(data) if not (s.control and s.density >= FULL)]
    values: dict[str, Defences] = {}
    for name in attack_names(data):
        of_network = {
            entry.network: {seed: e.value for seed, e in of_seed.items()}
            for entry in shown
            if (of_seed := estimates(found.get((entry.network, name), {}), "defence"))
        }
        if of_network:
            values[name] = of_network
    with _svg.style():
        fig, axes = _grid(len(values))
        if not values:
            axes[0].set_visible(True)
            nothing(axes[0], "no attack with decisions has run")
        for ax, name in zip(axes, values, strict=False):
            _panel(ax, data, [s for s in shown if s.network in values[name]], values[name])
            ax.set_title(name, fontsize=8.5, loc="left", color=INK)
        _shared_axes(axes[: len(values)], values, shown)
        svg = _svg.to_svg(fig, title)
    without = [name for name in attack_names(data) if name not in values and any(n == name for _, n in found)]
    seeds = seeds_of(data)
    methods = [data.look(method) for method in dict.fromkeys(s.method for s in shown if s.sparse)]
    caption = (
        f"Means over {seeds_text(seeds) if seeds else 'seeds'}; bars span the seeds; {n_text(data)}. Dashed: the dense "
        f"network under the same attack; dotted: attack at chance; shaded: the paper's band."
    )
    if methods:
        caption += f" Marks: {marks(methods)}{'; hollow: controls' * any(s.control for s in shown)}."
    if without:
        caption += f" Without decisions, so not shown: {', '.join(without)}."
    return Drawing("defence-attacks", title, f"{title}. {_alternative(data, values, shown)}", caption, svg)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with at least ``count`` axes in rows of `_COLUMNS`; those beyond are hidden."""
    columns = min(_COLUMNS, max(count, 1))
    rows = max(1, -(-count // columns))
    width, height = 2.45 * columns + 0.75, 1.95 * rows + 0.8
    fig = _svg.figure(width, height, fitted=False)
    grid: Any = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    fig.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.1 / width,
        bottom=0.6 / height,
        top=1 - 0.28 / height,
        wspace=0.1,
        hspace=0.32,
    )
    fig.supxlabel("density (log scale)", fontsize=9, color=INK, y=0.08 / height, va="bottom")
    fig.supylabel("defence D = 2 (1 − A)", fontsize=9, color=INK, x=0.02 / width, ha="left")
    axes = list(grid.flat)
    for ax in axes[count:]:
        ax.set_visible(False)
    for i, ax in enumerate(axes[:count]):
        ax.tick_params(labelsize=8)
        ax.tick_params(axis="x", labelbottom=i + columns >= count)
    return fig, axes


def _shared_axes(axes: Sequence[Axes], values: Mapping[str, Defences], shown: Sequence[Series]) -> None:
    """One range of densities and of defences for all panels."""
    from matplotlib.ticker import FixedLocator, NullLocator

    every = [v for of_network in values.values() for of_seed in of_network.values() for v in of_seed.values()]
    left, right = min(min([s.density for s in shown], default=0.03) / 1.35, PAPER_BAND[0] / 1.35), 1.3
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlim(left, right)
        ax.set_ylim(min([*every, 0.5]) - 0.04, max([*every, 1.0]) + 0.04)
        ax.xaxis.set_major_locator(FixedLocator([t for t in (0.01, 0.1, 1.0) if left <= t <= right]))
        ax.xaxis.set_minor_locator(NullLocator())
        _svg.percent_axis(ax.xaxis)
        _svg.percent_axis(ax.yaxis)


def _panel(ax: Axes, data: ReportData, shown: list[Series], of_network: Defences) -> None:
    ax.axvspan(*PAPER_BAND, color=BAND_COLOUR, alpha=0.55, linewidth=0)
    ax.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=":")
    for entry in (s for s in shown if s.baseline):
        ax.axhline(fmean(of_network[entry.network].values()), color=INK, linewidth=1.1, linestyle=(0, (5, 3)))
    for (method, control), of_method in by_method(shown).items():
        look = data.look(method)
        ax.plot(
            [s.density for s in of_method],
            [fmean(of_network[s.network].values()) for s in of_method],
            color=look.colour,
            marker=look.marker,
            markersize=4,
            markerfacecolor="none" if control else look.colour,
            linewidth=1.4,
            linestyle="-" if look.sequence and not control else "none",
        )
        spans = [(s.density, of_network[s.network].values()) for s in of_method]
        low, high = [min(v) for _, v in spans], [max(v) for _, v in spans]
        ax.vlines([x for x, _ in spans], low, high, color=look.colour, linewidth=0.9)


def _alternative(data: ReportData, values: Mapping[str, Defences], shown: list[Series]) -> str:
    parts = []
    for name, of_network in values.items():
        ends = [s for s in shown if s.network in of_network]
        first, last = ends[0], min(ends, key=lambda s: s.density)
        means = [percent(fmean(of_network[s.network].values())) for s in (first, last)]
        parts.append(f"{name}: {data.look(first.method).label} {means[0]}, sparsest {means[1]}")
    return "; ".join(parts) or "Nothing to show yet."
