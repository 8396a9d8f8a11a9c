"""The section "Which attack at which density": every kind of attack on every recipe, and what it says of sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.attackers import BASELINES, HOLDS, MEASURES, NAMES, Attackers, Cell, KindOfAttack, answer
from lacewing.attackers import Row as Recipe
from lacewing.metrics import Estimate
from lacewing.reporting import _svg
from lacewing.reporting._data import ReportData, density_text, number, percent, signed
from lacewing.reporting._figures import Drawing
from lacewing.reporting._looks import Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READING = (
    "Each cell is the strongest attack of its kind on these networks: the highest mean over seeds of all that ran. "
    "That choice favours the attacker, so that the 95\u202f% interval (Student's t over seeds) is corrected for the "
    "number of attacks of the kind (Bonferroni); where seeds do not differ it is over records, and the pointer says "
    "whether it is corrected. “to dense” is the difference to the dense network, seed by seed, with its own 95\u202f% "
    "interval: between the strongest on either of the attacks that both have. Who needs a mask has no dense "
    "counterpart and counts as well; adaptive attackers can run membership attacks too, and theirs is to membership "
    "on the dense network. An attack counts once it has every seed. The pointer shows the other attacks. Shaded: the "
    "interval lies above the baseline."
)
_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # of density: panels are narrow
_STANDING = {
    "above": "",
    "not above": "not above the baseline",
    "below": "below the baseline",
    "no verdict": "no verdict",
    "not run": "",
}
_PANEL = {
    "membership": "Membership",
    "adaptive": "Adaptive",
    "property": "Property",
    "reconstruction": "Reconstruction",
    "attribute": "Attribute",
}


class Shown(NamedTuple):
    """A cell: the number, smaller lines below it, the words behind them, and whether it is marked."""

    text: str
    small: tuple[str, ...] = ()
    title: str = ""
    shade: str = ""


class Row(NamedTuple):
    """A recipe."""

    key: Key
    label: str
    density: str
    accuracy: str
    cells: list[Shown]


def section(data: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where fewer than two kinds of attack ran."""
    found = data.attackers
    if found is None or len(found.ran) < 2:
        return None
    rows = []
    for row in found.rows:
        recipe = row.recipe
        key, label = data.key(recipe.method, recipe.kind), data.label(recipe.network, recipe.method)
        cells = [_shown(row, cell) for cell in row.cells.values()]
        rows.append(Row(key, label, density_text(recipe.density), percent(recipe.test_accuracy), cells))
    first, *others = answer(found)
    return {
        "answer": first,
        "others": others,
        "columns": [(_PANEL[kind], f"{MEASURES[kind]}; {_baseline(kind)}") for kind in BASELINES],
        "rows": rows,
        "reading": READING,
        "holds": [_holds(found, kind) for kind in BASELINES],
    }


def _baseline(kind: KindOfAttack) -> str:
    value, who = BASELINES[kind]
    return f"{who}: {number(value, 1)}" if value else f"beside {who}"


def _holds(found: Attackers, kind: KindOfAttack) -> str:
    about = f" Here: {found.about[kind]}" if kind in found.about else ""
    return f"{NAMES[kind].capitalize()}: the attacker {HOLDS[kind]}.{about}"


def _shown(row: Recipe, cell: Cell) -> Shown:
    if cell.value is None:
        return Shown("not run", (cell.why,))
    scale, digits = _scale(cell.kind)
    if cell.low is None or cell.high is None:
        small = [f"no verdict: {cell.units}"]
    else:
        small = [f"{number(scale * cell.low, digits)} to {number(scale * cell.high, digits)}"]
        small += [_STANDING[cell.standing]] * bool(_STANDING[cell.standing])
    small.append(cell.attack)
    small += ["guesses fewer than imputation"] * cell.below_prior
    if cell.difference is not None and not row.recipe.baseline:
        small += _difference(cell.difference, scale, digits)
    others = "; ".join(f"{name} {number(scale * value, digits)}" for name, value in cell.others)
    over = f"over records, since the {cell.units} do not differ" if cell.alike else f"over {cell.units}"
    corrected = "corrected" if cell.corrected else "at 95\u202f%, not corrected"
    title = f"{others}. Interval {over}, {corrected} for {cell.tried} attack{'s' * (cell.tried != 1)}."
    title += f" {cell.attack} {cell.about}." if cell.about else ""
    if cell.compared and not row.recipe.baseline:
        title += f" To dense: {cell.compared[0]} less {cell.compared[1]} on the dense network."
    if cell.waiting:
        title += f" Not finished, and not counted: {', '.join(cell.waiting)}."
    reach = 0.3 if cell.kind == "attribute" else 0.5
    shade = f"{min(max((cell.value - cell.baseline) / reach, 0.0), 1.0):.3f}" if cell.standing == "above" else ""
    text = signed(scale * cell.value, digits) if cell.kind == "attribute" else number(scale * cell.value, digits)
    return Shown(text, tuple(small), title, shade)


def _scale(kind: KindOfAttack) -> tuple[float, int]:
    """A surplus is shown in points, the others as shares."""
    return (100.0, 1) if kind == "attribute" else (1.0, 3)


def _difference(found: Estimate, scale: float, digits: int) -> list[str]:
    low, high = (signed(scale * end, digits) for end in (found.low, found.high))
    return [f"to dense {signed(scale * found.value, digits)}", f"({low} to {high})"]


def figure(data: ReportData) -> Drawing | None:
    """Success against density, a panel a kind of attack; None where the section is not shown."""
    found = data.attackers
    if found is None or len(found.ran) < 2:
        return None
    kinds = found.ran
    title = "Success of the strongest attack of each kind, against density"
    with _svg.style():
        fig = _svg.figure(2.35 * len(kinds) + 0.6, 3.7)
        axes = fig.subplots(1, len(kinds), squeeze=False)[0]
        for ax, kind in zip(axes, kinds, strict=True):
            _panel(ax, data, found, kind)
        handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        fig.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=min(6, 1 + len(kinds)))
        svg = _svg.to_svg(fig, title)
    alt = "; ".join(f"{_PANEL[kind]}: {_range(found, kind)}" for kind in kinds)
    caption = (
        "Dotted: the baseline, which an attacker without the network reaches. Bars: 95\u202f% intervals; those over "
        "seeds are corrected for the number of attacks of the kind, as in the table. Hollow: controls. No bar: no "
        "verdict."
    )
    return Drawing("attackers", title, f"{title}. {alt}.", caption, svg)


def _range(found: Attackers, kind: KindOfAttack) -> str:
    scale, digits = _scale(kind)
    values = [scale * cell.value for row in found.rows if (cell := row.cells[kind]).value is not None]
    return f"{number(min(values), digits)} to {number(max(values), digits)} over {len(values)} recipes"


def _panel(ax: Axes, data: ReportData, found: Attackers, kind: KindOfAttack) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    scale, _ = _scale(kind)
    methods: dict[tuple[str, bool], list[Recipe]] = {}
    for row in found.rows:
        if row.cells[kind].value is not None:
            methods.setdefault((row.recipe.method, row.recipe.kind == "control"), []).append(row)
    for (method, control), rows in methods.items():
        look = data.look(method)
        face = "white" if control else look.colour
        label = data.label(rows[0].recipe.network, method) if len(rows) == 1 else look.label
        density = [row.recipe.density for row in rows]
        values = [scale * (row.cells[kind].value or 0.0) for row in rows]
        ax.plot(
            density,
            values,
            color=look.colour,
            marker=look.marker,
            markerfacecolor=face,
            markersize=5,
            linewidth=1.2 * look.sequence,
            label=label,
        )
        for row in rows:
            cell = row.cells[kind]
            if cell.low is not None and cell.high is not None:
                ends = [scale * cell.low, scale * cell.high]
                ax.plot([row.recipe.density] * 2, ends, color=look.colour, linewidth=0.9, alpha=0.7)
    ax.axhline(scale * BASELINES[kind][0], color=_svg.MUTED, linewidth=1, linestyle=":")
    ax.set_xscale("log")
    low = min(row.recipe.density for row in found.rows)
    ax.set_xlim(low / 1.5, 1.5)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if low / 1.5 <= tick <= 1.5]))
    ax.xaxis.set_minor_locator(NullLocator())
    _svg.percent_axis(ax.xaxis)
    _svg.share_axis(ax.yaxis)
    ax.set_title(_PANEL[kind])
    ax.set_xlabel("density")
    ax.set_ylabel("surplus, points" if kind == "attribute" else MEASURES[kind].partition(" of")[0])
