"""Point by point, as description: each sparse network beside others of its seed at equal accuracy or density.

Which of many noisy points a network is compared with depends on noise, so there are no intervals and no verdicts here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.reporting import _svg
from lacewing.reporting._data import (
    SEEDS_LISTED,
    ReportData,
    density_text,
    n_text,
    percent,
    seeds_text,
    series,
)
from lacewing.reporting._figures import Drawing
from lacewing.reporting._looks import Key
from lacewing.reporting._svg import INK, MUTED
from lacewing.results import STOPPED
from lacewing.tradeoff import IMP, Match, TradeOff, show_change

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.27  # inches
_OTHER = {STOPPED: "the dense network stopped early", IMP: "iterative pruning"}
_AT = {"accuracy": "test accuracy", "density": "density"}


class MatchRow(NamedTuple):
    """A sparse network beside what it is compared with; differences are sparse - other."""

    network: str
    key: Key
    density: str
    accuracy: str
    accuracy_difference: str  # "" where the other one is as accurate
    attacked: str
    where: str
    beyond: str  # the seeds in which nothing there is equally accurate, or equally dense
    difference: str
    last: str  # where the other last has that accuracy, and the difference there; "" where nothing changes by that
    seeds: str  # each seed's difference, or the range of many
    below: str  # of many, how many are below 0
    every_seed: str


class MatchGroup(NamedTuple):
    """All networks that are compared with one kind of other network, e.g. the dense one stopped early."""

    title: str
    rows: list[MatchRow]


class Matched(NamedTuple):
    """The tables, whether early stops and butterfly networks have a part in them, and the seeds behind them."""

    groups: list[MatchGroup]
    stopped: bool
    pruning: bool
    seeds: str


def matched(data: ReportData) -> Matched | None:
    """Every match; None where no sparse network can be compared with another one point by point."""
    groups = _ordered(data)
    if data.tradeoff is None or not groups:
        return None
    made = [MatchGroup(_title(*key), [_row(data, m) for m in group]) for key, group in groups.items()]
    others = {against for against, _ in groups}
    return Matched(made, STOPPED in others, IMP in others, seeds_text(data.tradeoff.seeds))


def _ordered(data: ReportData) -> dict[tuple[str, str], list[Match]]:
    """Matches by what they are compared with and at what, in the order of the page's networks."""
    place = {s.network: i for i, s in enumerate(series(data))}
    groups: dict[tuple[str, str], list[Match]] = {}
    for against, at in ((STOPPED, "accuracy"), (IMP, "accuracy"), (IMP, "density")):
        every = data.tradeoff.matches if data.tradeoff is not None else ()
        chosen = [m for m in every if (m.against, m.at) == (against, at)]
        if chosen:
            groups[against, at] = sorted(chosen, key=lambda m: place.get(m.network, len(place)))
    return groups


def _title(against: str, at: str) -> str:
    return f"Against {_OTHER[against]}, at equal {_AT[at]}"


def _row(data: ReportData, m: Match) -> MatchRow:
    apart = m.at == "density" or bool(m.beyond)
    values = m.by_seed.values()
    seeds, below = ", ".join(f"{seed}: {show_change(value)}" for seed, value in m.by_seed.items()), ""
    if len(values) > SEEDS_LISTED:
        seeds = f"{show_change(min(values))} to {show_change(max(values))}"
        below = f"below 0 in {sum(value < 0 for value in values)} of {len(values)}"
    return MatchRow(
        network=data.label(m.network, m.method),
        key=data.key(m.method, "sparse"),
        density=density_text(m.density),
        accuracy=percent(m.test_accuracy),
        accuracy_difference=show_change(m.test_difference) if apart else "",
        attacked=percent(m.balanced_accuracy),
        where=_where(m, m.where),
        beyond=_beyond(m),
        difference=show_change(m.difference),
        last=_last(m),
        seeds=seeds,
        below=below,
        every_seed=", ".join(f"seed {seed}: {show_change(value)}" for seed, value in m.by_seed.items()),
    )


def _beyond(m: Match) -> str:
    """The seeds in which nothing can be compared with the network at its own accuracy or density."""
    if not m.beyond:
        return ""
    seeds = seeds_text(m.beyond)
    if len(m.beyond) > SEEDS_LISTED:
        seeds = f"{len(m.beyond)} of {len(m.by_seed)} seeds"
    return f"nothing equally {'accurate' if m.at == 'accuracy' else 'dense'} in {seeds}"


def _last(m: Match) -> str:
    return "" if m.one_place else f"last at {_where(m, m.last_where)}: {show_change(m.last_difference)}"


def _where(m: Match, places: Mapping[int, float]) -> str:
    """The epoch, or the density, that the network is compared with: its range over seeds."""
    low, high = min(places.values()), max(places.values())
    if m.against == STOPPED:
        ends = [f"{value:.1f}".removesuffix(".0") for value in (low, high)]
        return f"epoch {' to '.join(dict.fromkeys(ends))}"
    return f"density {' to '.join(dict.fromkeys(density_text(value) for value in (low, high)))}"


def figure(data: ReportData) -> Drawing:
    """Each network's difference in the attack's balanced accuracy, a panel for each comparison."""
    title = "Difference in A, point by point"
    groups = _ordered(data)
    found = data.tradeoff
    assert found is not None
    sizes = [len(group) for group in groups.values()]
    tips: dict[str, str] = {}
    with _svg.style():
        fig = _svg.figure(6.4, _ROW * sum(sizes) + 0.45 * len(sizes) + 0.75)
        ratios = [size + 0.3 for size in sizes]
        grid: Any = fig.subplots(len(sizes), 1, sharex=True, squeeze=False, height_ratios=ratios)
        for ax, (key, group) in zip(grid[:, 0], groups.items(), strict=True):
            tips |= _panel(ax, data, group, f"{key[0]}-{key[1]}")
            ax.set_title(_title(*key), fontsize=9, loc="left", color=INK)
        _shared_axis(grid[-1, 0], groups)
        svg = _svg.to_svg(fig, title, tips)
    return Drawing(
        "equal-accuracy", title, f"{title}. {_alternative(data, groups)}", _caption(data, found, groups), svg
    )


def _panel(ax: Axes, data: ReportData, group: Sequence[Match], name: str) -> dict[str, str]:
    """A row for each network: its mean, below it each seed; above it, fainter, the last place's mean."""
    tips = {}
    ax.axvline(0, color=MUTED, linewidth=1)
    for y, m in enumerate(group):
        look = data.look(m.method)
        colour = look.colour
        if _last(m):
            ax.plot([m.last_difference], [y - 0.25], ".", color=colour, markersize=4, alpha=0.6)
        style = {"color": colour, "markerfacecolor": "white", "markersize": 6.5, "alpha": 0.45 if m.beyond else 1.0}
        ax.plot([m.difference], [y], look.marker, mew=1.4, zorder=4, **style)  # type: ignore[arg-type]
        if len(m.by_seed) > 1:
            seeds = list(m.by_seed.values())
            ax.plot(seeds, [y + 0.3] * len(seeds), "|", color=colour, markersize=4.5, mew=1, alpha=0.75)
        gid = f"tip-{name}-{y}"
        ax.plot([m.difference], [y], "o", markersize=13, alpha=0.0, gid=gid, zorder=5)
        tips[gid] = f"{data.label(m.network, m.method)}: {_told(m)}"
    ax.set_yticks(range(len(group)), [f"{data.label(m.network, m.method)}, {density_text(m.density)}" for m in group])
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(group) - 0.4, -0.7)
    return tips


def _told(m: Match) -> str:
    return "; ".join([show_change(m.difference), *filter(None, [_last(m)])])


def _shared_axis(ax: Axes, groups: Mapping[tuple[str, str], Sequence[Match]]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    of_all = (m for group in groups.values() for m in group)
    every = [end for m in of_all for end in (m.difference, m.last_difference, *m.by_seed.values())]
    low, high = min([*every, -0.005]), max([*every, 0.005])
    ax.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+.4g}".replace("-", "\u2212") if x else "0"))
    ax.set_xlabel("difference in A: sparse network minus the other")


def _alternative(data: ReportData, groups: Mapping[tuple[str, str], Sequence[Match]]) -> str:
    parts = [
        f"{_title(*key)}: " + "; ".join(f"{data.label(m.network, m.method)} {_told(m)}" for m in group)
        for key, group in groups.items()
    ]
    return f"{'. '.join(parts)}."


def _caption(data: ReportData, found: TradeOff, groups: Mapping[tuple[str, str], Sequence[Match]]) -> str:
    every = [m for group in groups.values() for m in group]
    ticks = "; ticks below them are single seeds" if any(len(m.by_seed) > 1 for m in every) else ""
    text = (
        f"Attack accuracy A of “{found.attack}”, sparse network minus the other. Marks are means over "
        f"{seeds_text(found.seeds)}{ticks}; {n_text(data)}. Without intervals: which point is met depends on noise."
    )
    if any(map(_last, every)):
        text += " Dots above: the same where the other last has that accuracy."
    if any(m.beyond for m in every):
        text += " Pale: in some seed nothing there is equally accurate, or equally dense."
    return text
