"""The section "Why networks leak": what networks do to their records, which of it predicts the leak, temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.mechanism import (
    FEWEST_FAMILIES,
    LABELS,
    PERMUTATIONS,
    QUANTITIES,
    RECIPE,
    Largest,
    Mechanism,
    NetworkRow,
    Predictor,
    left_out_with,
)
from lacewing.reporting._data import (
    ReportData,
    attack_names,
    leading_attack,
    number,
    percent,
    random_halves,
    seeds_of,
    seeds_text,
)
from lacewing.reporting._figures import Drawing
from lacewing.reporting._looks import Key, family_styles
from lacewing.results import LABELS as METRICS
from lacewing.tradeoff import Units

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OUTPUTS = ("ratio", "gap", "spread", "member_confidence", "other_confidence", "member_calibration_error",
            "other_calibration_error")  # fmt: skip
_TESTED = ("auc", "tpr_at_fpr_0.01", "balanced_accuracy")
_REFERENCES = ("lira-online", "lira-offline", "rmia-online", "rmia-offline")  # by preference, for the figure
_LEGEND = 6  # columns
_PLACE = {"left": 0.07, "right": 0.985, "bottom": 0.075, "top": 0.86, "wspace": 0.07, "hspace": 0.36}
_PANELS = ("ratio", "gap", "member_confidence", "other_calibration_error", "nonzero", "accuracy_gap")
READING = (
    "R squared is 1 minus the squared error of the prediction over that of the mean: 1 is perfect, 0 or less tells "
    "nothing. Each network is predicted from one quantity (of the count of parameters: its logarithm), by a straight "
    "line and by a quadratic that were fitted to the recipes of other families on other draws of the records. The "
    "larger R squared is shown, which favours every quantity alike; the pointer shows both. “The recipe itself” "
    "predicts by the mean of the same recipe's networks on other draws: the rest is how networks of one recipe differ. "
    "Chance is the largest R squared of as many quantities after families have exchanged their leaks "
    f"({PERMUTATIONS} permutations): of a few families, something unrelated often seems to predict."
)
CIRCULAR = (
    "A dagger marks a quantity that is computed from what the attack itself ranks: that it predicts the attack is "
    "arithmetic, not an explanation. LiRA ranks log-odds against their gap and spread, loss and confidence attacks "
    "rank a network's own probabilities, and the attack “gap” ranks correctness, which accuracies count."
)
LIMITS = (
    "This is a description. Recipes were chosen, not drawn, quantities were measured, not set, and networks of one "
    "seed share records, so there is no test here and no verdict. A quantity that predicts the leak need not cause it."
)


class Cell(NamedTuple):
    """A number of a table, a smaller one below, the words behind both, and whether it is marked."""

    text: str
    small: str = ""
    title: str = ""
    shade: str = ""
    circular: bool = False


class Row(NamedTuple):
    """A recipe, a quantity or a temperature."""

    label: str
    cells: list[Cell]
    key: Key | None = None


class Grid(NamedTuple):
    """R squared in one metric: a row a quantity, a column an attack."""

    metric: str
    title: str
    columns: list[str]
    rows: list[Row]


def section(data: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where the study has no networks to compare."""
    found = data.mechanism
    if isinstance(found, str):
        return None
    return {
        "sentences": _sentences(data, found),
        "columns": [_named(name) for name in _measured(found)],
        "recipes": _recipes(data, found),
        "grids": _grids(data, found),
        "temperature": _temperatures(data, found),
        "temperature_columns": _temperature_columns(found),
        "attack": _attack(data),
        "reading": READING,
        "circular": CIRCULAR,
        "limits": LIMITS,
        "over": _over(data, found),
    }


def _measured(found: Mechanism) -> list[str]:
    return [name for name in QUANTITIES if any(getattr(row, name) is not None for row in found.networks)]


def _named(quantity: str) -> str:
    """A quantity as the title of a column, with its unit."""
    return LABELS[quantity] + ", nats" * (quantity in ("gap", "spread"))


def _attack(data: ReportData) -> str | None:
    """The attack whose leak the figure and the sentences are about: one with references where one ran."""
    ran = {a.attack for a in data.attacks}
    return next((name for name in _REFERENCES if name in ran), leading_attack(data))


def _over(data: ReportData, found: Mechanism) -> str:
    recipes, families = len({row.network for row in found.networks}), len(set(map(left_out_with, found.networks)))
    units = Units.of({row.seed for row in found.networks}, halves=random_halves(data))
    counted = f"{recipes} recipe{'s' * (recipes != 1)} in {families} famil{'ies' if families != 1 else 'y'}"
    return f"{len(found.networks)} networks of {counted}, {units.text}"


def _sentences(data: ReportData, found: Mechanism) -> list[str]:
    attack = _attack(data)
    mine = [p for p in found.predictors if p.attack == attack and p.metric == "auc" and p.quantity != RECIPE]
    known = {kind: [p for p in mine if p.best is not None and bool(p.part_of_attack) is kind] for kind in (True, False)}
    if not known[True] and not known[False]:
        need = f"at least {FEWEST_FAMILIES} families of recipes and two {found.unit}s that were attacked"
        why = "Recipes of one family resemble each other, so that a prediction must leave out the whole family"
        return [
            f"Which quantity predicts the leak is not asked: that needs {need}. {why}. Here are {_over(data, found)}."
        ]
    said = [
        f"Over {_over(data, found)}: how well does one quantity of a network predict the AUC of “{attack}” in families "
        f"and {found.unit}s that the prediction has not seen?"
    ]
    chance = {row.part_of_attack: row for row in found.largest if (row.attack, row.metric) == (attack, "auc")}
    if known[False]:
        said.append(f"Of what is not part of the attack, {_best(known[False], chance.get(False))}.")
    if known[True]:
        said.append(f"Of what the attack itself is computed from, {_best(known[True], chance.get(True))}.")
    return said + _said_of_temperature(data, found)


def _best(known: Sequence[Predictor], chance: Largest | None) -> str:
    r2, label = max((p.best if p.best is not None else -math.inf, LABELS[p.quantity]) for p in known)
    of = f"the largest of {len(known)}" if len(known) > 1 else "the only one"
    if r2 <= 0:
        return f"nothing predicts it: the largest R² of {len(known)} is {number(r2, 2)} ({label})"
    beside = "" if chance is None else f"; {_chance(chance, r2)}"
    return f"“{label}” predicts most, R² {number(r2, 2)} ({of}{beside})"


def _chance(row: Largest, r2: float) -> str:
    """What the largest R squared is after families have exchanged their leaks."""
    what = f"chance gives {number(row.null_median, 2)} in the median and, in one of 20, more than"
    within = ", so that it may be chance" if r2 <= row.null_upper else ""
    return f"{what} {number(row.null_upper, 2)}{within}"


def _said_of_temperature(data: ReportData, found: Mechanism) -> list[str]:
    attack = next((row.attack for row in found.temperature if row.attack in _REFERENCES), None)
    rows = [row for row in found.temperature if row.attack == attack]
    plain = next((row for row in rows if row.temperature == 1), None)
    if plain is None or len(rows) < 2:
        return []
    moved = next((row for row in rows if row.as_sure_as), max(rows, key=lambda row: row.temperature))
    areas = _areas(data, attack)
    of_it = [areas[row.id] for row in found.networks if row.network == moved.as_sure_as and row.id in areas]
    own = fmean(of_it) if of_it else None
    beside = "" if own is None else f"; the AUC of “{moved.as_sure_as}” itself, as sure as that, is {number(own)}"
    return [
        f"Dividing the logits of the dense networks by {number(moved.temperature, 2)} lowers the confidence in members "
        f"from {number(plain.member_confidence)} to {number(moved.member_confidence)} and moves the AUC of “{attack}” "
        f"from {number(plain.auc)} to {number(moved.auc)}{beside}."
    ]


def _by_recipe(found: Mechanism) -> dict[str, list[NetworkRow]]:
    rows: dict[str, list[NetworkRow]] = {}
    for row in found.networks:
        rows.setdefault(row.network, []).append(row)
    return rows


def _recipes(data: ReportData, found: Mechanism) -> list[Row]:
    """A row a recipe: its leak, then each quantity, as means and ranges over seeds."""
    attack, names = _attack(data), _measured(found)
    results = _areas(data, attack)
    shown = []
    for network, rows in _by_recipe(found).items():
        leak = [results[row.id] for row in rows if row.id in results]
        cells = [_cell("auc", leak)]
        cells += [_cell(name, [getattr(row, name) for row in rows if getattr(row, name) is not None]) for name in names]
        first = rows[0]
        shown.append(Row(data.label(network, first.method), cells, data.key(first.method, first.kind)))
    return shown


def _cell(name: str, values: Sequence[float]) -> Cell:
    if not values:
        return Cell("–", title="not measured")
    spread = f"{_text(name, min(values))} to {_text(name, max(values))}"
    count = f"{len(values)} network{'s' * (len(values) != 1)}"
    if min(values) == max(values):
        return Cell(_text(name, fmean(values)), "", count)
    return Cell(_text(name, fmean(values)), spread, f"mean and range over {count}")


def _text(name: str, value: float) -> str:
    if name == "nonzero":
        return f"{value:,.0f}"
    if name in ("ratio", "gap", "spread"):
        return number(value, 2)
    return percent(value) if name.endswith(("accuracy", "accuracy_gap", "fit")) else number(value)


def _grids(data: ReportData, found: Mechanism) -> list[Grid]:
    by_place = {(p.attack, p.metric, p.quantity): p for p in found.predictors}
    grids = []
    for metric in _TESTED:
        attacks = [name for name in attack_names(data) if _asked(found, name, metric)]
        if not attacks:
            continue
        rows = [
            Row(_quantity(name), [_r2(by_place.get((attack, metric, name))) for attack in attacks])
            for name in [*_measured(found), RECIPE]
        ]
        grids.append(Grid(metric, METRICS[metric], attacks, rows))
    return grids


def _asked(found: Mechanism, attack: str, metric: str) -> bool:
    return any(p.r2 is not None for p in found.predictors if (p.attack, p.metric) == (attack, metric))


def _quantity(name: str) -> str:
    return "the recipe itself" if name == RECIPE else LABELS[name]


def _r2(p: Predictor | None) -> Cell:
    value = None if p is None else p.r2_same_recipes if p.quantity == RECIPE else p.best
    if p is None or value is None:
        return Cell("–", title="it does not vary over these networks, or too few families were attacked")
    title = (
        f"{p.attack}: {p.networks} networks of {p.recipes} recipes in {p.families} families, {p.units} seeds or cuts"
    )
    if p.quantity == RECIPE:
        return Cell(number(value, 2), "", title)
    title += f"; line {_maybe(p.r2_line)}, quadratic {_maybe(p.r2)}, with the same families fitted too "
    title += _maybe(p.r2_same_recipes) + _PART[p.part_of_attack]
    shade = "" if p.part_of_attack else f"{min(max(value, 0.0), 1.0):.3f}"
    return Cell(number(value, 2), "", title, shade, bool(p.part_of_attack))


_PART = {True: "; part of the attack", False: "", None: "; whether it is part of the attack is not known"}


def _maybe(value: float | None) -> str:
    return "–" if value is None else number(value, 2)


def _temperatures(data: ReportData, found: Mechanism) -> list[Row]:
    attacks = list(dict.fromkeys(row.attack for row in found.temperature))
    rows = []
    for at in dict.fromkeys((row.temperature, row.as_sure_as) for row in found.temperature):
        mine = {row.attack: row for row in found.temperature if (row.temperature, row.as_sure_as) == at}
        first = next(iter(mine.values()))
        label = number(first.temperature, 2)
        label += f", as sure of members as {first.as_sure_as}" if first.as_sure_as else ""
        cells = [Cell(number(mine[name].auc) if name in mine else "–") for name in attacks]
        cells += [Cell(_shown(name, getattr(first, name))) for name in _OUTPUTS]
        rows.append(Row(label, cells))
    return rows


def _shown(name: str, value: float | None) -> str:
    return "–" if value is None else _text(name, value)


def _temperature_columns(found: Mechanism) -> list[str]:
    """The columns of the table of temperatures."""
    attacks = dict.fromkeys(row.attack for row in found.temperature)
    return [*(f"AUC of {name}" for name in attacks), *map(_named, _OUTPUTS)]


def figure(data: ReportData) -> Drawing | None:
    """The AUC of an attack over six quantities, a mark for each network; None where there is nothing to show."""
    found, attack = data.mechanism, _attack(data)
    if isinstance(found, str) or attack is None:
        return None
    by_network = _areas(data, attack)
    rows = [row for row in found.networks if row.id in by_network and row.ratio is not None]
    if len({row.network for row in rows}) < 2:
        return None
    from lacewing.reporting import _svg

    r2 = {p.quantity: p.best for p in found.predictors if (p.attack, p.metric) == (attack, "auc")}
    title = f"What goes with the leak: AUC of “{attack}” over six quantities of each network"
    families: dict[str, list[NetworkRow]] = {}
    for row in rows:
        families.setdefault(row.family or row.network, []).append(row)
    styles = family_styles(data.networks, data.look)
    tips: dict[str, str] = {}
    with _svg.style():
        fig = _svg.figure(9.6, 6.4, fitted=False)
        axes = fig.subplots(2, 3, sharey=True, gridspec_kw=_PLACE)
        for place, (ax, name) in enumerate(zip(axes.flat, _PANELS, strict=True)):
            for family, of_family in families.items():
                tips |= _marks(ax, data, name, of_family, by_network, styles[family][:2], len(tips))
            _panel(ax, name, r2.get(name), left=place % 3 == 0)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="upper left", ncols=_LEGEND)
        svg = _svg.to_svg(fig, title, tips)
    told = [f"{LABELS[name]} {_maybe(r2.get(name))}" for name in _PANELS]
    caption = (
        f"A small mark for each network, a large one for the mean of a recipe; {_over(data, found)}; "
        f"{seeds_text(seeds_of(data))}. R² is in families and {found.unit}s that the "
        f"fit had not seen."
    )
    return Drawing("why", title, f"{title}. Held-out R squared: {', '.join(told)}.", caption, svg)


def _areas(data: ReportData, attack: str | None) -> dict[str, float]:
    """The AUC of an attack by the ids of networks."""
    every = {a.network.id: a.metrics.get("auc") for a in data.runs.attacks or data.attacks if a.attack == attack}
    return {name: estimate.value for name, estimate in every.items() if estimate is not None}


def _marks(
    ax: Axes,
    data: ReportData,
    name: str,
    rows: Sequence[NetworkRow],
    leak: Mapping[str, float],
    style: tuple[str, str],
    start: int,
) -> dict[str, str]:
    colour, marker = style
    x, y = [getattr(row, name) for row in rows], [leak[row.id] for row in rows]
    ax.plot(x, y, marker, color=colour, markersize=2.6, alpha=0.35, markeredgewidth=0)
    tips, recipes = {}, dict.fromkeys(row.network for row in rows)
    for i, recipe in enumerate(recipes):
        mine = [row for row in rows if row.network == recipe]
        at, height = fmean(getattr(row, name) for row in mine), fmean(leak[row.id] for row in mine)
        gid = f"tip-why-{start + i}"
        ax.plot(
            [at], [height], marker, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.6,
            label=(mine[0].family or recipe).replace("$", "").lstrip("_") or "other" if i == 0 else None, gid=gid,
        )  # fmt: skip
        label = data.label(recipe, mine[0].method)
        tips[gid] = f"{label}: {LABELS[name]} {_text(name, at)}, AUC {number(height)}, mean of {len(mine)} networks"
    return tips


def _panel(ax: Axes, name: str, r2: float | None, *, left: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from lacewing.reporting import _svg

    if name == "nonzero":
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    elif name == "accuracy_gap":
        _svg.percent_axis(ax.xaxis)
    ax.set_xlabel(_named(name) + (" (log scale)" if name == "nonzero" else ""))
    if left:
        ax.set_ylabel("AUC")
    ax.set_title("" if r2 is None else f"R² {number(r2, 2)}", fontsize=10, loc="left")
