"""The section "What networks tell of a property": which of two shares of it their training records have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.property import ATTACKS, PropertyFindings, PropertyRow
from lacewing.reporting._data import ReportData, density_text, number, percent
from lacewing.reporting._figures import Drawing
from lacewing.reporting._looks import Key
from lacewing.reporting._why import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {
    "log-odds": "log-odds",
    "kl": "KL attack",
    "outputs": "outputs, learned",
    "weights": "weights, in any order",
    "fixed": "weights by input and class",
    "mask": "mask alone",
    "snap": "SNAP (poisons training)",
}
_STYLE = {  # colour and marker by attack
    "log-odds": ("#0072b2", "o"),
    "kl": ("#5b9bd5", "s"),
    "outputs": ("#009e73", "D"),
    "weights": ("#d55e00", "^"),
    "fixed": ("#b8860b", "v"),
    "mask": ("#7f3c8d", "X"),
    "snap": ("#444444", "P"),
}
_ABSENT = Cell("–", title="it has not run: these networks have no mask, or wait to be trained")
_PANELS = 4  # pairs of worlds that the figure shows
READING = (
    "Each number is the share of attacked networks whose world the attack names; .5 is guessing. Below it the interval "
    "takes the seed, which redraws the pools of records, as the unit (Student's t over seeds, never narrower than the "
    "exact binomial interval over all networks); with one seed it is the binomial one, which says nothing of other "
    "pools. The pointer shows the AUC, what the attacker looked at, the exact permutation p of the decisions, and "
    "n_leaked (Suri and Evans 2021): so many training records, given to the attacker, would tell as much. Shaded: the "
    "interval lies above .5. Many attacks on many networks are shown, and nothing is corrected for their number."
)
LIMITS = (
    "The attacker is a strong one: it has networks of its own of both worlds, trained by the same recipe on records of "
    "the same source, and knows that the share is one of the two. A property that it cannot tell in this way is not "
    "shown to be safe from one who knows more."
)


class Row(NamedTuple):
    """A recipe."""

    key: Key
    label: str
    density: str
    accuracy: str
    cells: list[Cell]


class Group(NamedTuple):
    """The recipes of a pair of worlds."""

    title: str
    rows: list[Row]


def section(data: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where the study declares no property, or nothing was told apart yet."""
    found = data.property
    if found is None or not found.rows:
        return None
    attacks = [name for name in ATTACKS if any(row.attack == name for row in found.rows)]
    return {
        "sentences": _sentences(data, found),
        "columns": [LABELS[name] for name in attacks],
        "groups": [_group(data, rows, attacks) for rows in _by_pair(found).values()],
        "holds": holds(attacks),
        "reading": READING,
        "limits": LIMITS,
    }


def holds(attacks: Iterable[str]) -> list[str]:
    """What the attacker of each holds, a sentence."""
    return [f"{LABELS[name]}: the attacker {ATTACKS[name].threat_model}." for name in attacks]


def poison(found: PropertyFindings) -> list[str]:
    """What SNAP's attacker puts into training sets, a sentence; none where nobody poisons."""
    if not found.poison:
        return []
    return [
        f"For SNAP {percent(found.poison, _digits(found.poison))} of the training records are the attacker's, with the "
        f"property and labelled {found.poison_label}; it is about further networks, which train on them. The other "
        "attacks are about networks that nobody poisoned."
    ]


def _by_pair(found: PropertyFindings) -> dict[tuple[float, float], list[PropertyRow]]:
    pairs: dict[tuple[float, float], list[PropertyRow]] = {}
    for row in found.rows:
        pairs.setdefault((row.first, row.second), []).append(row)
    return pairs


def pair(worlds: tuple[float, float]) -> str:
    """The shares of two worlds in words."""
    return " or ".join(percent(share, _digits(share)) for share in worlds)


def _digits(share: float) -> int:
    return 0 if abs(100 * share - round(100 * share)) < 1e-9 else 1


def _sentences(data: ReportData, found: PropertyFindings) -> list[str]:
    half = found.networks // 2
    seeds = max(row.seeds for row in found.rows)
    said = [
        f"Are so many of a network's {found.records:,} training records “{found.of}”, or so many? The attacker has "
        f"{half} networks of each world of its own, and {half} of each are attacked, for each recipe, over {seeds} "
        f"seed{'s' * (seeds != 1)}."
    ]
    for worlds, rows in _by_pair(found).items():
        named = [
            _best(rows, ("log-odds", "kl", "outputs"), "from answers"),
            _best(rows, ("mask",), "from the mask alone"),
            _best(rows, ("snap",), "from answers, where the attacker poisons training"),
        ]
        said.append(f"{pair(worlds)}: {'; '.join(text for text in named if text)}.")
    said += poison(found)
    if found.missing:
        said.append(f"{found.missing} comparison{'s' * (found.missing != 1)} of worlds wait for networks.")
    return said


def _best(rows: Sequence[PropertyRow], attacks: Sequence[str], how: str) -> str:
    """The range over recipes of the best of some attacks."""
    best: dict[str, float] = {}
    for row in rows:
        if row.attack in attacks:
            best[row.network] = max(best.get(row.network, 0.0), row.accuracy)
    if not best:
        return ""
    low, high = min(best.values()), max(best.values())
    span = number(low, 2) if low == high else f"{number(low, 2)} to {number(high, 2)} over {len(best)} recipes"
    of = "" if len(attacks) == 1 else f" (the best of {len(attacks)} attacks, which favours the attacker)"
    return f"{how} {span}{of}"


def _group(data: ReportData, rows: Sequence[PropertyRow], attacks: Sequence[str]) -> Group:
    by_recipe: dict[str, dict[str, PropertyRow]] = {}
    for row in rows:
        by_recipe.setdefault(row.network, {})[row.attack] = row
    made = []
    for network, of in by_recipe.items():
        first = next(iter(of.values()))
        cells = [cell(of[name]) if name in of else _ABSENT for name in attacks]
        key, label = data.key(first.method, first.kind), data.label(network, first.method)
        made.append(Row(key, label, density_text(first.density), percent(first.test_accuracy), cells))
    return Group(pair((rows[0].first, rows[0].second)), made)


def cell(row: PropertyRow) -> Cell:
    """The accuracy with its interval, and the rest of the row in its title."""
    leaked = "more than can be said" if row.n_leaked is None else number(row.n_leaked, 0)
    low = "0" if row.n_leaked_low is None else number(row.n_leaked_low, 0)
    area = number(row.auc)
    if row.auc_low is not None and row.auc_high is not None:
        area += f" [{number(row.auc_low)}, {number(row.auc_high)}]"
    title = (
        f"AUC {area}; looked at {row.chosen}; p {row.p:.2g}; n_leaked {leaked} (at least {low} at the lower end); "
        f"{row.attacked} networks, {row.seeds} seeds"
    )
    shade = f"{min(max(2 * row.accuracy - 1, 0.0), 1.0):.3f}" if row.found else ""
    return Cell(number(row.accuracy), f"{number(row.low)} to {number(row.high)}", title, shade)


def figure(data: ReportData) -> Drawing | None:
    """Accuracy of each attack against density, a panel a pair of worlds; None where the section is not shown."""
    found = data.property
    if found is None or not found.rows:
        return None
    from lacewing.reporting import _svg

    pairs = list(_by_pair(found).items())[:_PANELS]
    title = f"Telling two shares of “{found.of}” apart, against density"
    with _svg.style():
        fig = _svg.figure(3.4 * len(pairs) + 0.9, 3.9)
        axes = fig.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
        for ax, (worlds, rows) in zip(axes, pairs, strict=True):
            _draw(ax, rows)
            ax.set_title(pair(worlds))
        axes[0].set_ylabel("networks whose world is named")
        handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
        fig.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=1 + len(pairs))
        svg = _svg.to_svg(fig, title)
    ends = "; ".join(f"{pair(worlds)}: {len({row.network for row in rows})} recipes" for worlds, rows in pairs)
    caption = (
        "Filled: sparse and dense networks; hollow: controls. Bars: 95\u202f% intervals over seeds, as in the table; "
        "points of one density are set apart for the eye."
    )
    return Drawing("property", title, f"{title}. {ends}.", caption, svg)


def _draw(ax: Axes, rows: Sequence[PropertyRow]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    from lacewing.reporting import _svg
    from lacewing.reporting._figures import DENSITY_TICKS

    names = [name for name in ATTACKS if any(row.attack == name for row in rows)]
    low = min(row.density for row in rows)
    for place, name in enumerate(names):
        colour, marker = _STYLE[name]
        apart = 1.025 ** (place - (len(names) - 1) / 2)
        of = sorted((row for row in rows if row.attack == name), key=lambda row: row.density)
        line = [row for row in of if row.kind != "control"]
        ax.plot(
            [row.density * apart for row in line],
            [row.accuracy for row in line],
            color=colour, marker=marker, markersize=5, linewidth=1.2, label=LABELS[name],
        )  # fmt: skip
        for row in of:
            ax.plot([row.density * apart] * 2, [row.low, row.high], color=colour, linewidth=0.9, alpha=0.7)
            if row.kind == "control":
                ax.plot([row.density * apart], [row.accuracy], color=colour, marker=marker, markersize=5, mfc="white")
    ax.axhline(0.5, color=_svg.MUTED, linewidth=1, linestyle=":")
    ax.set_xscale("log")
    ax.set_xlim(low / 1.4, 1.4)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in DENSITY_TICKS if low / 1.4 <= tick <= 1.4]))
    ax.xaxis.set_minor_locator(NullLocator())
    _svg.percent_axis(ax.xaxis)
    ax.set_xlabel("density (log scale)")
    ax.set_ylim(min(0.3, *(row.low for row in rows)) - 0.02, 1.03)
