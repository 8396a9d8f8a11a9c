"""At equal accuracy: sparse networks beside the dense one stopped early, butterfly networks beside iterative pruning.

It answers whether sparsity itself protects, or whether any network of that accuracy would leak as little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing._report import _svg
from lacewing._report._data import (
    SEEDS_LISTED,
    ReportData,
    density_text,
    label_of,
    n_text,
    percent,
    seeds_text,
    series,
    signed,
)
from lacewing._report._figures import Drawing
from lacewing._report._svg import COLOUR, INK, MARKER, MUTED, OTHER, OTHER_MARKER
from lacewing.results import STOPPED, Estimate
from lacewing.tradeoff import Match, TradeOff

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.27  # inches
_OTHER = {STOPPED: "the dense network stopped early", "imp": "iterative pruning"}
_AT = {"accuracy": "test accuracy", "density": "density"}


class MatchRow(NamedTuple):
    """A sparse network beside what it is held against; differences are in points, sparse - other."""

    network: str
    method: str
    density: str
    accuracy: str
    accuracy_difference: str  # "" where the other one is as accurate
    attacked: str
    where: str
    beyond: str  # the seeds in which nothing there is just as accurate, or as dense
    difference: str
    interval: str
    last: str  # where the other last has that accuracy, and the difference there; "" where nothing changes by that
    seeds: str  # each seed's difference, or the range of many
    below: str  # of many, how many are below 0
    every_seed: str


class MatchGroup(NamedTuple):
    """All networks that are held against one kind of other network, e.g. the dense one stopped early."""

    title: str
    rows: list[MatchRow]


class Equal(NamedTuple):
    """The section: its answer, its table, whether butterfly networks have a part in it, and the seeds behind it."""

    lead: list[str]
    groups: list[MatchGroup]
    pruning: bool
    seeds: str


def answer(found: TradeOff | None) -> list[str]:
    """How many sparse networks leak less, or more, than the dense one stopped early at equal accuracy.

    A sentence each for that, and for butterfly networks beside iterative pruning at equal accuracy and at equal
    density. Empty where no early stop was attacked.
    """
    groups = _groups(found)
    said = [_counted(group) for group in groups.values()]
    if groups and found is not None:
        intervals = " or ".join(dict.fromkeys(m.interval for group in groups.values() for m in group))
        said.append(f"By the attack “{found.attack}”, {seeds_text(found.seeds)}, 95 % intervals {intervals}.")
    if groups and found is not None and (a0 := found.dense_balanced_accuracy) is not None and a0.low <= 0.5:
        said.append("The attack does not beat guessing on the dense network, so no difference was to be expected.")
    return said


def _groups(found: TradeOff | None) -> dict[tuple[str, str], list[Match]]:
    """Matches by what they are held against and at what; none without early stops."""
    groups: dict[tuple[str, str], list[Match]] = {}
    for against, at in ((STOPPED, "accuracy"), ("imp", "accuracy"), ("imp", "density")):
        chosen = [m for m in found.matches if (m.against, m.at) == (against, at)] if found is not None else []
        if chosen:
            groups[against, at] = chosen
    return groups if (STOPPED, "accuracy") in groups else {}


def _counted(group: Sequence[Match]) -> str:
    n, first = len(group), group[0]
    less, more, either, apart = (
        sum(m.verdict == verdict for m in group)
        for verdict in ("leaks less", "leaks more", "depends on where", "no counterpart")
    )
    at, other = f"At equal {_AT[first.at]}", _OTHER[first.against]
    kind = "sparse network" if first.against == STOPPED else "butterfly network"
    same = n - less - more - either - apart
    place = "stop" if first.against == STOPPED else "level"
    if same == n:
        whose = f"none of the {n} {kind}s differs" if n > 1 else f"the {kind} does not differ"
        return f"{at} {whose} measurably in leakage from {other}."
    if n in (less, more):
        whose = f"all {n} {kind}s leak" if n > 1 else f"the {kind} leaks"
        return f"{at} {whose} {'less' if less else 'more'} than {other}."
    if n == either:
        whose = f"all {n} {kind}s" if n > 1 else f"the {kind}"
        return f"{at} it depends on the {place} how {whose} and {other} compare."
    if n == apart == 1:
        return f"{at} the {kind} has no counterpart in {other}."
    parts = [
        f"{less or 'none'} of the {n} {kind}s leak{'s' * (less <= 1)} less than {other}",
        f"{more or 'none'} leak{'s' * (more <= 1)} more",
    ]
    parts += [f"{same} {'does' if same == 1 else 'do'} not differ measurably"] * bool(same)
    parts += [f"for {either} it depends on the {place}"] * bool(either)
    parts += [f"{apart} {'has' if apart == 1 else 'have'} no counterpart of equal {_AT[first.at]}"] * bool(apart)
    return f"{at} {', '.join(parts[:-1])} and {parts[-1]}."


def equal(data: ReportData) -> Equal | None:
    """The section "At equal accuracy"; None where no sparse network can be held against an early stop."""
    groups = _ordered(data)
    if data.tradeoff is None or not groups:
        return None
    made = [MatchGroup(_title(*key), [_row(m) for m in group]) for key, group in groups.items()]
    pruning = any(against == "imp" for against, _ in groups)
    return Equal(answer(data.tradeoff), made, pruning, seeds_text(data.tradeoff.seeds))


def _ordered(data: ReportData) -> dict[tuple[str, str], list[Match]]:
    place = {s.network: i for i, s in enumerate(series(data))}
    groups = _groups(data.tradeoff)
    return {key: sorted(group, key=lambda m: place.get(m.network, len(place))) for key, group in groups.items()}


def _title(against: str, at: str) -> str:
    return f"Against {_OTHER[against]}, at equal {_AT[at]}"


def _row(m: Match) -> MatchRow:
    test = m.test_difference
    apart = m.at == "density" or bool(m.beyond)
    values = m.by_seed.values()
    seeds, below = ", ".join(f"{seed}: {_points(value)}" for seed, value in m.by_seed.items()), ""
    if len(values) > SEEDS_LISTED:
        seeds = f"{_points(min(values))} to {_points(max(values))}"
        below = f"below 0 in {sum(value < 0 for value in values)} of {len(values)}"
    return MatchRow(
        network=label_of(m.network, m.method),
        method=m.method,
        density=density_text(m.density),
        accuracy=percent(m.test_accuracy),
        accuracy_difference=f"{_points(test.value)} ({_ends(test)})" if apart else "",
        attacked=percent(m.balanced_accuracy),
        where=_where(m, m.where),
        beyond=_beyond(m),
        difference=_points(m.difference.value),
        interval=_ends(m.difference),
        last=_last(m),
        seeds=seeds,
        below=below,
        every_seed=", ".join(f"seed {seed}: {_points(value)}" for seed, value in m.by_seed.items()),
    )


def _beyond(m: Match) -> str:
    """The seeds in which nothing can be held against the network at its own accuracy or density."""
    if not m.beyond:
        return ""
    seeds = seeds_text(m.beyond)
    if len(m.beyond) > SEEDS_LISTED:
        seeds = f"{len(m.beyond)} of {len(m.by_seed)} seeds"
    return f"nothing just as {'accurate' if m.at == 'accuracy' else 'dense'} in {seeds}"


def _last(m: Match) -> str:
    if m.one_place and m.verdict != "depends on where":
        return ""
    where = "in draws" if m.one_place else f"at {_where(m, m.last_where)}"
    return f"last {where}: {_points(m.last_difference.value)} ({_ends(m.last_difference)})"


def _where(m: Match, places: Mapping[int, float]) -> str:
    """The epoch, or the density, that the network is held against: its range over seeds."""
    low, high = min(places.values()), max(places.values())
    if m.against == STOPPED:
        ends = [f"{value:.1f}".removesuffix(".0") for value in (low, high)]
        return f"epoch {' to '.join(dict.fromkeys(ends))}"
    return f"density {' to '.join(dict.fromkeys(density_text(value) for value in (low, high)))}"


def _points(share: float) -> str:
    return signed(100 * share, 2)


def _ends(e: Estimate) -> str:
    return f"{_points(e.low)} to {_points(e.high)}"


def figure(data: ReportData) -> Drawing:
    """Each network's difference in the attack's balanced accuracy with its interval, a panel for each comparison."""
    title = "Leakage at equal accuracy"
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
            tips |= _panel(ax, group, f"{key[0]}-{key[1]}")
            ax.set_title(_title(*key), fontsize=9, loc="left", color=INK)
        _shared_axis(grid[-1, 0], groups)
        svg = _svg.to_svg(fig, title, tips)
    return Drawing("equal-accuracy", title, f"{title}. {_alternative(groups)}", _caption(data, found, groups), svg)


def _panel(ax: Axes, group: Sequence[Match], name: str) -> dict[str, str]:
    """A row for each network: its mean and interval, below them each seed."""
    tips = {}
    ax.axvline(0, color=MUTED, linewidth=1)
    for y, m in enumerate(group):
        colour, marker = COLOUR.get(m.method, OTHER), MARKER.get(m.method, OTHER_MARKER)
        value, low, high = m.difference
        ax.plot([low, high], [y, y], color=colour, linewidth=1.5, linestyle=(0, (1, 1.6)) if m.beyond else "-")
        if _last(m):
            ax.plot(m.last_difference[1:], [y - 0.25] * 2, color=colour, linewidth=1, alpha=0.6)
            ax.plot([m.last_difference.value], [y - 0.25], ".", color=colour, markersize=4, alpha=0.6)
        face = colour if m.verdict in ("leaks less", "leaks more") else "white"
        ax.plot([value], [y], marker, color=colour, markerfacecolor=face, markersize=6.5, mew=1.4, zorder=4)
        if len(m.by_seed) > 1:
            seeds = list(m.by_seed.values())
            ax.plot(seeds, [y + 0.3] * len(seeds), "|", color=colour, markersize=4.5, mew=1, alpha=0.75)
        gid = f"tip-{name}-{y}"
        ax.plot([value], [y], "o", markersize=13, alpha=0.0, gid=gid, zorder=5)
        last = f"; {_last(m)}" if _last(m) else ""
        tips[gid] = f"{label_of(m.network, m.method)}: {_points(value)} points ({_ends(m.difference)}){last}"
    ax.set_yticks(range(len(group)), [f"{label_of(m.network, m.method)}, {density_text(m.density)}" for m in group])
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(group) - 0.4, -0.7)
    return tips


def _shared_axis(ax: Axes, groups: Mapping[tuple[str, str], Sequence[Match]]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    of_all = (m for group in groups.values() for m in group)
    every = [end for m in of_all for end in (*m.difference, *m.last_difference, *m.by_seed.values())]
    low, high = min([*every, -0.005]), max([*every, 0.005])
    ax.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{100 * x:+.4g}".replace("-", "\u2212").replace("+0", "0"))
    )
    gap = 4 * "\u00a0"  # plain spaces would be shown as one
    ax.set_xlabel(f"\u2190 sparse leaks less{gap}difference in A, points{gap}sparse leaks more \u2192")


def _alternative(groups: Mapping[tuple[str, str], Sequence[Match]]) -> str:
    parts = [
        f"{_title(*key)}: "
        + "; ".join(
            f"{label_of(m.network, m.method)} {_points(m.difference.value)} ({_ends(m.difference)})"
            f"{', ' * bool(_last(m))}{_last(m)}"
            for m in group
        )
        for key, group in groups.items()
    ]
    return f"Differences in points. {'. '.join(parts)}."


def _caption(data: ReportData, found: TradeOff, groups: Mapping[tuple[str, str], Sequence[Match]]) -> str:
    every = [m for group in groups.values() for m in group]
    ticks = "; ticks below them are single seeds" if any(len(m.by_seed) > 1 for m in every) else ""
    text = (
        f"Balanced accuracy A of the attack “{found.attack}”, sparse network minus the other. Marks are means over "
        f"{seeds_text(found.seeds)} with 95\u202f% intervals {every[0].interval}, filled where it leaks less or "
        f"more: where that interval, and that of the last place, leave out 0 and the other is equal{ticks}; "
        f"{n_text(data)}."
    )
    if any(map(_last, every)):
        text += " Thin lines above: the same where the other last has that accuracy."
    if any(m.beyond for m in every):
        text += " Dotted: in some seed nothing there is just as accurate, or as dense."
    return text
