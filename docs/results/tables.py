"""The tables of a results page, from its results.csv and tradeoff.json.

python docs/results/tables.py docs/results/paper-short

writes each table anew that the folder's README.md has under a line ``<!-- table: NAME -->``.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

Row = Mapping[str, str]
FIRST = "discriminator"  # the paper's attack
VERDICTS = ("leaks less", "leaks more", "depends on where", "no measurable difference", "no counterpart")
MARK = re.compile(r"<!-- table: (\S+) -->\n+(?:\|.*(?:\n|\Z))*\n*")


def main(folder: Path) -> None:
    """Write the tables of one page."""
    page = folder / "README.md"
    page.write_text(with_tables(page.read_text("utf-8"), folder), "utf-8")


def with_tables(page: str, folder: Path) -> str:
    """A page whose tables are those of the folder's results."""
    with (folder / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "target" and row["attack"]]
    tradeoff = json.loads((folder / "tradeoff.json").read_text())
    made: Mapping[str, Callable[[], str]] = {
        "networks": lambda: networks([row for row in rows if row["attack"] == FIRST], tradeoff),
        "slopes": lambda: slopes(tradeoff),
        "matches": lambda: matches(tradeoff),
        "verdicts": lambda: verdicts(tradeoff),
        "auc": lambda: battery(rows, "auc"),
        "tpr-at-1-percent": lambda: battery(rows, "tpr_at_fpr_0.01"),
        "tpr-at-0.1-percent": lambda: battery(rows, "tpr_at_fpr_0.001"),
    }
    for found in MARK.finditer(page):
        if found[1] not in made:
            sys.exit(f"{folder}: there is no table {found[1]}; there are {', '.join(made)}.")
    return MARK.sub(lambda found: f"<!-- table: {found[1]} -->\n\n{made[found[1]]()}\n\n", page)


def networks(rows: Sequence[Row], tradeoff: Mapping[str, Any]) -> str:
    """A row per network: means over seeds with their range; of one seed, A with its interval."""
    gains = {point["network"]: point["relative_gain"] for point in tradeoff["points"]}

    def cells(name: str) -> Sequence[str]:
        of = [row for row in rows if row["network"] == name]
        gain = gains.get(name)
        return (
            name,
            percent(float(of[0]["density"])),
            ranged(column(of, "train_accuracy")),
            ranged(column(of, "test_accuracy")),
            interval(of[0], "balanced_accuracy") if len(of) == 1 else ranged(column(of, "balanced_accuracy")),
            "" if gain is None or name == "dense" else f"{gain['mean']:+.1%}" + spread(gain, "+.1%"),
        )

    head = ("network", "density", "train accuracy", "test accuracy", "A", "relative gain in defence")
    return table(head, map(cells, unique(row["network"] for row in rows)))


def slopes(tradeoff: Mapping[str, Any]) -> str:
    """All networks of the band together, then method by method; dense networks stopped early by their loss."""

    def cells(slope: Mapping[str, Any]) -> Sequence[str]:
        by_seed = ("-" if value is None else f"{value:.2f}" for value in slope["by_seed"].values())
        estimate, loss = show(slope["estimate"], 2), show(slope["mean_loss"], 3)
        return slope["method"], str(slope["networks"]), estimate, ", ".join(by_seed), loss, slope["verdict"]

    def stopped(most: float) -> Iterable[Sequence[str]]:
        points = [p for p in tradeoff["points"] if p["method"] == "early-stopped" and p["relative_loss"]]
        both = [(point["relative_loss"]["mean"], point["relative_gain"]["mean"]) for point in points]
        both = [(loss, gain) for loss, gain in both if 0 < loss <= most]
        if both:
            slope = sum(loss * gain for loss, gain in both) / sum(loss**2 for loss, _ in both)
            name = f"dense, stopped early: losses over 0 up to {most:.0%}, means over seeds"
            yield name, str(len(both)), f"{slope:+.2f}", "", f"{fmean(loss for loss, _ in both):+.3f}", ""

    head = ("networks", "points", "slope [95 %]", "by seed", "mean relative loss", "verdict")
    return table(head, [*map(cells, (tradeoff["slope"], *tradeoff["slopes"])), *stopped(0.1)])


def matches(tradeoff: Mapping[str, Any]) -> str:
    """Sparse networks beside others, as in the report."""

    def places(match: Mapping[str, Any], name: str) -> str:
        digits = ".0f" if match["against"] == "early-stopped" else ".3f"
        return ", ".join(f"{place:{digits}}" for place in match[name].values())

    def cells(match: Mapping[str, Any]) -> Sequence[str]:
        beyond = f" (beyond in seed {', '.join(map(str, match['beyond']))})" if match["beyond"] else ""
        last = show(match["last_difference"], 3)
        if places(match, "last_where") != places(match, "where"):
            last += f" at {places(match, 'last_where')}"
        return (
            match["network"],
            f"{match['against']}, {match['at']}",
            places(match, "where") + beyond,
            show(match["difference"], 3),
            ", ".join(f"{value:+.3f}" for value in match["by_seed"].values()),
            "the same" if last == show(match["difference"], 3) else last,
            match["verdict"],
            show(match["test_difference"], 3) if beyond or match["at"] == "density" else "0",
        )

    head = (
        "network",
        "against, at equal",
        "first at",
        "difference in A [95 %]",
        "by seed",
        "where it last has that accuracy",
        "verdict",
        "difference in test accuracy",
    )
    return table(
        head, map(cells, sorted(tradeoff.get("matches", ()), key=lambda match: (match["against"], match["at"])))
    )


def verdicts(tradeoff: Mapping[str, Any]) -> str:
    """A row per attack that decides about the dense network: slopes, and who leaks less or more at equal accuracy."""

    def counted(found: Mapping[str, Any], against: str) -> str:
        kinds = Counter(
            match["verdict"]
            for match in found.get("matches", ())
            if (match["against"], match["at"]) == (against, "accuracy")
        )
        return " / ".join(str(kinds[verdict]) for verdict in VERDICTS)

    def cells(found: Mapping[str, Any]) -> Sequence[str]:
        of = {slope["method"]: slope["estimate"] for slope in found["slopes"]}
        return (
            found["attack"],
            f"{found['dense_balanced_accuracy']['value']:.3f}",
            show(found["slope"]["estimate"], 2),
            *(show(of.get(method), 2) for method in methods),
            counted(found, "early-stopped"),
            counted(found, "imp"),
        )

    methods = [slope["method"] for slope in tradeoff["slopes"]]
    head = ("attack", "A, dense", "slope, all", *(f"slope, {method}" for method in methods))
    counts = (f"sparse against stopped early: {' / '.join(VERDICTS)}", "butterfly against IMP")
    found = (tradeoff, *tradeoff.get("other_attacks", {}).values())
    return table((*head, *counts), (cells(each) for each in found if each["dense_balanced_accuracy"]))


def battery(rows: Sequence[Row], metric: str) -> str:
    """A row per attack and a column per network, early stops left out: means over seeds."""
    names = unique(row["network"] for row in rows if row["method"] != "early-stopped")

    def cells(attack: str) -> Sequence[str]:
        of = [[row for row in rows if (row["network"], row["attack"]) == (name, attack)] for name in names]
        return attack, *(f"{fmean(values):.3f}" if (values := column(each, metric)) else "-" for each in of)

    return table(("attack", *names), map(cells, unique(row["attack"] for row in rows)))


def column(rows: Iterable[Row], name: str) -> list[float]:
    """The numbers of a column; what was refused is left out."""
    return [float(row[name]) for row in rows if row[name]]


def ranged(values: Sequence[float]) -> str:
    """The mean, and of several the least and the largest."""
    mean = f"{fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def spread(found: Mapping[str, float], digits: str) -> str:
    """The range of a quantity of tradeoff.json over its seeds."""
    return f" ({found['min']:{digits}} to {found['max']:{digits}})" if found["n"] > 1 else ""


def percent(share: float) -> str:
    """A density."""
    return f"{100 * share:.2f} %"


def interval(row: Row, name: str) -> str:
    """A metric with its interval."""
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def show(estimate: Mapping[str, float] | None, digits: int) -> str:
    """An estimate of tradeoff.json with its interval, signed."""
    if estimate is None:
        return "-"
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def unique(names: Iterable[str]) -> list[str]:
    """Each name once, in order."""
    return list(dict.fromkeys(names))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
