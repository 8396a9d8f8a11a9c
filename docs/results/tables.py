"""The tables of a results page, as Markdown, from its results.csv and tradeoff.json.

python docs/results/tables.py docs/results/paper-short
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

Row = Mapping[str, str]
FIRST = "discriminator"  # the paper's attack


def main(folder: Path) -> None:
    """Print every table."""
    with (folder / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "target" and row["attack"]]
    tradeoff = json.loads((folder / "tradeoff.json").read_text())
    first = [row for row in rows if row["attack"] == FIRST]
    gains = {point["network"]: point["relative_gain"] for point in tradeoff["points"]}
    print("## Networks\n")
    print(
        table(
            ("network", "density", "train accuracy", "test accuracy", "A", "relative gain in defence"),
            networks(first, gains),
        )
    )
    print("\n## Slopes\n")
    print(table(("networks", "points", "slope [95 %]", "by seed", "mean relative loss", "verdict"), slopes(tradeoff)))
    print("\n## At equal accuracy, or density\n")
    head = (
        "network",
        "density",
        "against",
        "at equal",
        "where",
        "verdict",
        "difference in A [95 %]",
        "where it last has that accuracy",
        "by seed",
        "test accuracy",
    )
    print(table(head, matched(tradeoff)))
    print("\n## AUC, and TPR at 1 % FPR, of every attack (means over seeds)\n")
    for metric in ("auc", "tpr_at_fpr_0.01"):
        names = [name for name in unique(row["network"] for row in rows) if not name.startswith("early")]
        print(table((metric, *names), battery(rows, names, metric)) + "\n")


def networks(rows: Sequence[Row], gains: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    """A row per network; values of the seeds in their order."""
    for name in unique(row["network"] for row in rows):
        of = sorted((row for row in rows if row["network"] == name), key=lambda row: int(row["seed"]))
        gain = gains.get(name)
        yield (
            name,
            f"{float(of[0]['density']):.2%}".replace("%", " %"),
            each(of, "train_accuracy"),
            each(of, "test_accuracy"),
            ", ".join(interval(row, "balanced_accuracy") for row in of),
            ""
            if gain is None or name == "dense"
            else f"{gain['mean']:+.1%}" + f" ({gain['min']:+.1%} to {gain['max']:+.1%})" * (gain["n"] > 1),
        )


def slopes(tradeoff: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    """All networks of the band together, then method by method."""
    for slope in (tradeoff["slope"], *tradeoff["slopes"]):
        by_seed = ", ".join("-" if value is None else f"{value:.2f}" for value in slope["by_seed"].values())
        yield (
            slope["method"],
            str(slope["networks"]),
            show(slope["estimate"], 2),
            by_seed,
            show(slope["mean_loss"], 3),
            slope["verdict"],
        )


def matched(tradeoff: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    """Sparse networks beside others, as in the report."""
    for match in sorted(tradeoff.get("matches", ()), key=lambda match: (match["against"], match["at"])):
        places = [
            f"{value:.0f}" if match["against"] == "early-stopped" else f"{value:.3g}"
            for value in match["where"].values()
        ]
        yield (
            match["network"],
            f"{match['density']:.2%}".replace("%", " %"),
            match["against"],
            match["at"],
            ", ".join(places) + (f" (beyond: seed {', '.join(map(str, match['beyond']))})" if match["beyond"] else ""),
            match["verdict"],
            show(match["difference"], 3),
            show(match["last_difference"], 3) if match["last_where"] != match["where"] else "the same",
            ", ".join(f"{value:+.3f}" for value in match["by_seed"].values()),
            show(match["test_difference"], 3),
        )


def battery(rows: Sequence[Row], names: Sequence[str], metric: str) -> Iterable[Sequence[str]]:
    """A row per attack; the mean over seeds."""
    for attack in unique(row["attack"] for row in rows):
        found = [
            [float(r[metric]) for r in rows if (r["network"], r["attack"]) == (name, attack) and r[metric]]
            for name in names
        ]
        yield attack, *(f"{fmean(values):.3f}" if values else "-" for values in found)


def each(rows: Sequence[Row], name: str) -> str:
    """A column's values."""
    return ", ".join(f"{float(row[name]):.3f}" for row in rows)


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
