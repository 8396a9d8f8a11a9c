"""Tables of a results page from what a run folder describes: mechanism, stability and property, .csv and .json."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lacewing.mechanism import LABELS, QUANTITIES, RECIPE
from lacewing.results import read_results_csv
from lacewing.study.declared import load_study
from lacewing.tradeoff.stability import spreads

SHOWN = (
    "ratio",
    "gap",
    "spread",
    "member_confidence",
    "other_confidence",
    "other_calibration_error",
    "redrawn_fit",
    "nonzero",
)


def tables(folder: Path) -> Mapping[str, Callable[[], str]]:
    """The tables of this folder by the names that pages mark them with."""
    return {
        "quantities": lambda: quantities(folder),
        "predictors": lambda: predictors(folder),
        "temperature": lambda: temperature(folder),
        "spreads": lambda: spread_table(folder),
        "overlaps": lambda: overlaps(folder),
        "property": lambda: told(folder),
        "attackers": lambda: by_kind(folder),
    }


def quantities(folder: Path) -> str:
    """A row a recipe: means over its networks of what they do to their records."""
    with (folder / "mechanism.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def cells(network: str) -> Sequence[str]:
        mine = [row for row in rows if row["network"] == network]
        return network, *(_mean([float(row[name]) for row in mine if row[name]], name) for name in SHOWN)

    return table(("recipe", *(LABELS[name] for name in SHOWN)), map(cells, dict.fromkeys(r["network"] for r in rows)))


def _mean(values: Sequence[float], name: str) -> str:
    if not values:
        return "-"
    digits = ",.0f" if name == "nonzero" else ".2f" if name in ("ratio", "gap", "spread") else ".3f"
    return f"{fmean(values):{digits}}"


def predictors(folder: Path) -> str:
    """Held-out R squared of the AUC: a row a quantity, a column an attack."""
    rows = [p for p in _json(folder / "mechanism.json")["predictors"] if p["metric"] == "auc"]
    by_place = {(p["attack"], p["quantity"]): p for p in rows}
    attacks = list(dict.fromkeys(p["attack"] for p in rows))

    def cell(attack: str, quantity: str) -> str:
        p = by_place.get((attack, quantity))
        known = (
            []
            if p is None
            else [p[name] for name in (("r2_same_recipes",) if quantity == RECIPE else ("r2", "r2_line"))]
        )
        known = [value for value in known if value is not None]
        return "-" if p is None or not known else f"{max(known):.2f}{' †' if p['part_of_attack'] else ''}"

    there = [name for name in (*QUANTITIES, RECIPE) if any(name == quantity for _, quantity in by_place)]
    labels = {**LABELS, RECIPE: "the recipe itself"}
    return table(
        ("quantity", *attacks), ((labels[name], *(cell(attack, name) for attack in attacks)) for name in there)
    )


def temperature(folder: Path) -> str:
    """The dense networks with their logits divided by a number."""
    rows = _json(folder / "mechanism.json")["temperature"]
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    levels = dict.fromkeys((row["temperature"], row["as_sure_as"]) for row in rows)

    def cells(level: tuple[float, str]) -> Sequence[str]:
        mine = {row["attack"]: row for row in rows if (row["temperature"], row["as_sure_as"]) == level}
        first = next(iter(mine.values()))
        named = f"{level[0]:.2f}" + (f" (as sure as {level[1]})" if level[1] else "")
        described = (
            f"{first[name]:.3f}" for name in ("member_confidence", "other_confidence", "other_calibration_error")
        )
        return named, *described, f"{first['ratio']:.2f}", *(f"{mine[attack]['auc']:.3f}" for attack in attacks)

    head = ("divided by", "confidence, members", "confidence, others", "calibration error, others", "gap / spread")
    return table((*head, *(f"AUC, {attack}" for attack in attacks)), map(cells, levels))


def spread_table(folder: Path) -> str:
    """A row a recipe: accuracy and AUC, their spread over splits and over initialisations, from results.csv."""
    networks, attacks = read_results_csv(folder / "results.csv")
    attack = _json(folder / "stability.json")["attack"]
    halves = load_study(folder / "study.toml").data.split == "random-halves"
    rows = spreads(networks, attacks, attack, halves=halves)
    measures = ("test accuracy", "AUC")
    by_place = {(row.network, row.measure): row.spread for row in rows}

    def cells(network: str) -> Iterable[str]:
        yield network
        for measure in measures:
            found = by_place[network, measure]
            yield f"{found.mean:.3f}"
            yield from ("-" if sd is None else f"{sd:.4f}" for sd in (found.sd_between, found.sd_within))

    head = [
        f"{measure}{what}" for measure in ("test accuracy", f"{attack}, AUC") for what in ("", ": splits", ": inits")
    ]
    return table(("recipe", *head), (tuple(cells(network)) for network in dict.fromkeys(row.network for row in rows)))


def overlaps(folder: Path) -> str:
    """A row a recipe with masks: how much those of two initialisations share, beside random ones."""
    rows = _json(folder / "stability.json")["overlaps"]
    shown = (
        (
            row["network"],
            f"{100 * row['density']:.1f} %",
            f"{row['jaccard']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            f"{row['random']:.3f}",
            str(row["pairs"]),
        )
        for row in rows
    )
    return table(("recipe", "density", "overlap (range)", "random masks", "pairs"), shown)


def told(folder: Path) -> str:
    """A row a pair of shares and recipe: the accuracy of each attack with its interval."""
    rows = _json(folder / "property.json")["rows"]
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    by_place = {(row["first"], row["second"], row["network"], row["attack"]): row for row in rows}

    def cells(first: float, second: float, network: str) -> Iterable[str]:
        of = [by_place.get((first, second, network, attack)) for attack in attacks]
        density = next(row["density"] for row in of if row is not None)
        yield from (f"{first:g} or {second:g}", network, f"{100 * density:.1f} %")
        yield from (
            "-" if row is None else f"{row['accuracy']:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in of
        )

    places = dict.fromkeys((row["first"], row["second"], row["network"]) for row in rows)
    return table(("shares", "recipe", "density", *attacks), (tuple(cells(*place)) for place in places))


def by_kind(folder: Path) -> str:
    """A row a recipe: the strongest attack of each kind with its interval, and the difference to the dense network."""
    rows = _json(folder / "attackers.json")["rows"]
    kinds = list(dict.fromkeys(row["attackers"] for row in rows if row["value"] is not None))
    by_place = {(row["network"], row["attackers"]): row for row in rows}

    def cell(row: Mapping[str, Any]) -> str:
        if row["value"] is None:
            return f"not run: {row['not_run']}"
        scale, digits = (100.0, 1) if row["attackers"] == "attribute" else (1.0, 3)
        shown = {
            name: "-" if row[name] is None else f"{scale * row[name]:.{digits}f}"
            for name in ("value", "low", "high", "to_dense", "to_dense_low", "to_dense_high")
        }
        told = f"**{shown['value']}** [{shown['low']}, {shown['high']}] {row['attack']}"
        told += "" if row["corrected"] else ", over records and not corrected"
        if row["stands"] != "above":
            told += f", {row['stands']}{' the baseline' if row['stands'] != 'no verdict' else ''}"
        if row["to_dense"] is not None:
            told += f"; to dense {shown['to_dense']} [{shown['to_dense_low']}, {shown['to_dense_high']}]"
        return told

    names = dict.fromkeys(row["network"] for row in rows)
    heads = [f"{kind} ({by_place[next(iter(names)), kind]['measure']})" for kind in kinds]
    cells = (
        (name, f"{100 * by_place[name, kinds[0]]['density']:.1f} %", *(cell(by_place[name, kind]) for kind in kinds))
        for name in names
    )
    return table(("recipe", "density", *heads), cells)


def _json(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(tables(Path(sys.argv[1]))[sys.argv[2]]())
