"""For a wanted accuracy the recipe of least leak: the table "What would you pick?"."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lacewing.config import Comparison
from lacewing.reporting._data import ReportData, leading_attack, number, random_halves
from lacewing.results import LABELS
from lacewing.tradeoff import Line, Pick, Price, Recipe, Spread, lines, pick

_STEP, _STEPS = 0.02, 6  # accuracies that a table answers for
_NOT_APART = " *"


def measured(data: ReportData) -> tuple[str, str] | None:
    """The attack and the metric that are drawn: the primary question's, else the leading attack's."""
    primary = next((answer for answer in data.answers if answer.primary), None)
    if primary is not None:
        asked = Comparison(family=primary.family, against=primary.against, metric=primary.metric)
        return asked.attack, asked.column
    lead = leading_attack(data)
    if lead is None:
        return None
    decides = any(a.metrics.get("balanced_accuracy") is not None for a in data.attacks if a.attack == lead)
    return lead, "balanced_accuracy" if decides else "auc"


class PickRow(NamedTuple):
    """The recipe of least leak for a wanted test accuracy, and the best of the other side, sparse or not."""

    accuracy: str
    recipe: str
    cells: list[str]  # its accuracy, leak, epochs and seconds
    beside: str
    beside_cells: list[str]  # leak, epochs and seconds
    sentence: str


def picks(data: ReportData) -> dict[str, Any] | None:
    """What one would pick for several accuracies, two points apart; None where fewer than two recipes were measured."""
    what = measured(data)
    found = [] if what is None else family_lines(data, *what)
    recipes = [recipe for line in found for recipe in line.recipes]
    if what is None or len(recipes) < 2:
        return None
    attack, metric = what
    highest = max(recipe.accuracy.mean for recipe in recipes)
    rows: list[PickRow] = []
    for step in range(_STEPS):
        wanted = (math.floor(highest / _STEP + 1e-9) - step) * _STEP
        picked = pick(found, max(wanted, 0.0), metric=f"{LABELS[metric]} of {attack}", prices=data.prices)
        if picked is not None and wanted > 0:
            rows.append(_pick_row(data, picked))
    return {"rows": rows, "metric": f"{LABELS[metric]} of {attack}"}


def _pick_row(data: ReportData, picked: Pick) -> PickRow:
    def cells(recipe: Recipe, price: Price | None) -> list[str]:
        return [_spread(recipe.leak), *(["–", "–"] if price is None else [f"{price.epochs:,}", price.time])]

    other = picked.other
    return PickRow(
        accuracy=number(picked.accuracy, 2),
        recipe=data.label(picked.recipe.network, picked.recipe.method),
        cells=[_spread(picked.recipe.accuracy), *cells(picked.recipe, picked.price)],
        beside="–"
        if other is None
        else data.label(other.network, other.method) + _NOT_APART * (picked.apart is not True),
        beside_cells=["–"] * 3 if other is None else cells(other, picked.other_price),
        sentence=picked.sentence,
    )


def _spread(spread: Spread) -> str:
    if spread.low is None or spread.high is None:
        return number(spread.mean)
    return f"{number(spread.mean)} ({number(spread.low)} to {number(spread.high)})"


def family_lines(data: ReportData, attack: str, metric: str) -> list[Line]:
    """Every family by one attack and metric."""
    return lines((a for a in data.attacks if a.attack == attack), metric, halves=random_halves(data))
