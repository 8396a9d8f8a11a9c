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
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

Row = Mapping[str, str]
Pair = tuple[float, float]  # relative loss, relative gain
FIRST = "discriminator"
REFERENCES = ("lira-offline", "rmia-offline")
COMPARED = (FIRST, *REFERENCES, "label-augmentation", "gradient-norm")  # the paper's, and others by what they see
AT_FIXED_FPR = ("population", "quantile")  # they decide at 5 %: their balanced accuracy says little
VERDICTS = ("leaks less", "leaks more", "depends on where", "no measurable difference", "no counterpart")
MARK = re.compile(r"<!-- table: (\S+) -->\n+(?:\|.*(?:\n|\Z))*\n*")


def main(folder: Path) -> None:
    """Write the tables of one page."""
    page = folder / "README.md"
    page.write_text(with_tables(page.read_text("utf-8"), folder), "utf-8")


def with_tables(page: str, folder: Path) -> str:
    """A page whose tables are those of the folder's results."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "target" and row["attack"]]
    tradeoff = json.loads((folder / "tradeoff.json").read_text("utf-8"))
    made: Mapping[str, Callable[[], str]] = {
        "networks": lambda: networks([row for row in rows if row["attack"] == FIRST], tradeoff),
        "slopes": lambda: slopes(tradeoff),
        "slopes-otherwise": lambda: slopes_otherwise(rows, tradeoff),
        "equal-train-accuracy": lambda: equal_train_accuracy(rows),
        "taken-back": lambda: taken_back(rows),
        "matches": lambda: matches(tradeoff),
        "slopes-by-attack": lambda: slopes_by_attack(tradeoff),
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
    """All networks of the band together, then method by method."""

    def cells(slope: Mapping[str, Any]) -> Sequence[str]:
        estimate, loss = show(slope["estimate"], 2), show(slope["mean_loss"], 3)
        return slope["method"], str(slope["networks"]), estimate, by_seed(slope), loss, slope["verdict"]

    head = ("networks", "points", "slope [95 %]", "by seed", "mean relative loss", "verdict")
    return table(head, map(cells, (tradeoff["slope"], *tradeoff["slopes"])))


def slopes_otherwise(rows: Sequence[Row], tradeoff: Mapping[str, Any]) -> str:
    """Slopes over networks that lose as much as the dense one stopped early, and measured from other dense networks."""
    band = {point["network"] for point in tradeoff["points"] if point["in_band"]}
    most = 0.1

    def slope(method: str, base: str, attack: str, by_loss: bool) -> str:
        of_attack = [row for row in rows if row["attack"] == attack]
        found: dict[str, list[Pair]] = {seed: [] for seed in unique(row["seed"] for row in rows)}
        for name in unique(row["network"] for row in of_attack if row["method"] == method):
            both = [(row, find(of_attack, base, row["seed"])) for row in of_attack if row["network"] == name]
            changes = {row["seed"]: change(row, dense) for row, dense in both if dense is not None}
            if changes and (0 < fmean(loss for loss, _ in changes.values()) <= most if by_loss else name in band):
                for seed, pair in changes.items():
                    found[seed].append(pair)
        if not any(found.values()):
            return "-"
        seeds = ", ".join(f"{through_origin(pairs):.2f}" if pairs else "-" for pairs in found.values())
        return f"{through_origin([pair for pairs in found.values() for pair in pairs]):+.2f} ({seeds})"

    attacks = there(COMPARED, rows)
    first, *others = unique(row["network"] for row in rows if row["method"] == "dense")
    kinds = [(method, first, True) for method in ("early-stopped", "imp", "butterfly")]
    kinds += [(method, base, False) for base in others for method in ("imp", "butterfly")]
    head = ("networks", "measured from", "chosen by", *(f"{attack}: slope (by seed)" for attack in attacks))
    lines = (
        (
            method,
            base,
            f"mean loss over 0 up to {most:.0%}" if by_loss else "density in the band",
            *(slope(method, base, attack, by_loss) for attack in attacks),
        )
        for method, base, by_loss in kinds
    )
    return table(head, lines)


def equal_train_accuracy(rows: Sequence[Row]) -> str:
    """Differences to the dense network stopped early, where this one first has the train accuracy of the other."""
    metrics = {"A": "balanced_accuracy", "TPR at 1 %": "tpr_at_fpr_0.01"}
    asked = [(attack, "A") for attack in there(COMPARED, rows)]
    asked += [(attack, "TPR at 1 %") for attack in there(REFERENCES, rows)]
    first = next(row["network"] for row in rows if row["method"] == "dense")

    def cell(name: str, attack: str, metric: str) -> str:
        found = []
        for seed in unique(row["seed"] for row in rows):
            of_seed = [row for row in rows if (row["seed"], row["attack"]) == (seed, attack)]
            path = [row for row in of_seed if row["method"] == "early-stopped" or row["network"] == first]
            path.sort(key=lambda row: row["network"] == first)  # the early stops are in order of their epochs
            row = find(of_seed, name, seed)
            if path and row is not None:
                both = [(float(stop["train_accuracy"]), float(stop[metrics[metric]])) for stop in path]
                found.append(float(row[metrics[metric]]) - first_met(both, float(row["train_accuracy"])))
        return f"{fmean(found):+.3f} ({', '.join(f'{value:+.3f}' for value in found)})" if found else "-"

    names = unique(row["network"] for row in rows if row["method"] != "early-stopped" and row["network"] != first)
    head = ("network", *(f"{attack}, {metric}: mean (by seed)" for attack, metric in asked))
    return table(head, ((name, *(cell(name, attack, metric) for attack, metric in asked)) for name in names))


def taken_back(rows: Sequence[Row]) -> str:
    """The share of AUC - 1/2 on the dense network that is gone on each other one: of means over seeds."""
    first, *names = unique(row["network"] for row in rows if row["method"] != "early-stopped")

    def leak(name: str, attack: str) -> float | None:
        found = column([row for row in rows if (row["network"], row["attack"]) == (name, attack)], "auc")
        return fmean(found) - 0.5 if found else None

    def cells(attack: str) -> Sequence[str]:
        whole, parts = leak(first, attack), [leak(name, attack) for name in names]
        return attack, *("-" if part is None or not whole else f"{1 - part / whole:.2f}" for part in parts)

    return table(("attack", *names), map(cells, there(COMPARED, rows)))


def there(attacks: Iterable[str], rows: Sequence[Row]) -> Sequence[str]:
    """Those of the attacks that ran."""
    ran = {row["attack"] for row in rows}
    return [attack for attack in attacks if attack in ran]


def find(rows: Iterable[Row], network: str, seed: str) -> Row | None:
    """The row of a network and seed, if there is one."""
    return next((row for row in rows if (row["network"], row["seed"]) == (network, seed)), None)


def change(row: Row, base: Row) -> Pair:
    """Relative loss in test accuracy and relative gain in defence."""
    loss, gain = (float(row[name]) / float(base[name]) - 1 for name in ("test_accuracy", "defence"))
    return -loss, gain


def through_origin(pairs: Sequence[Pair]) -> float:
    """Least squares of gains on losses."""
    return sum(loss * gain for loss, gain in pairs) / sum(loss**2 for loss, _ in pairs)


def first_met(path: Sequence[tuple[float, float]], x: float) -> float:
    """The second value where the first, linear between neighbours, first is x; the nearest's where it never is."""
    for (x0, y0), (x1, y1) in pairwise(path):
        if min(x0, x1) <= x <= max(x0, x1):
            return y0 + (x - x0) / (x1 - x0) * (y1 - y0) if x1 != x0 else y0
    return min(path, key=lambda point: abs(point[0] - x))[1]


def matches(tradeoff: Mapping[str, Any]) -> str:
    """Sparse networks beside others, as in the report."""

    def places(match: Mapping[str, Any], name: str) -> str:
        digits = ".0f" if match["against"] == "early-stopped" else ".3f"
        return ", ".join(f"{place:{digits}}" for place in match[name].values())

    def cells(match: Mapping[str, Any]) -> Sequence[str]:
        beyond = f" (no equal in seed {', '.join(map(str, match['beyond']))})" if match["beyond"] else ""
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
        "epoch or density, by seed",
        "difference in A [95 %]",
        "by seed",
        "where it last has that accuracy",
        "verdict",
        "difference in test accuracy",
    )
    return table(
        head, map(cells, sorted(tradeoff.get("matches", ()), key=lambda match: (match["against"], match["at"])))
    )


def slopes_by_attack(tradeoff: Mapping[str, Any]) -> str:
    """A row per attack that decides about the dense network: its slopes."""
    methods = [slope["method"] for slope in tradeoff["slopes"]]

    def cells(found: Mapping[str, Any]) -> Sequence[str]:
        of = {slope["method"]: slope for slope in found["slopes"]}
        return (
            found["attack"],
            f"{found['dense_balanced_accuracy']['value']:.3f}",
            show(found["slope"]["estimate"], 2),
            *(
                f"{show(of[method]['estimate'], 2)} ({by_seed(of[method])})" if method in of else "-"
                for method in methods
            ),
        )

    head = ("attack", "A, dense", "slope, all [95 %]", *(f"slope, {method} [95 %] (by seed)" for method in methods))
    return table(head, map(cells, deciding(tradeoff)))


def verdicts(tradeoff: Mapping[str, Any]) -> str:
    """A row per attack that decides about the dense network: who leaks less or more at equal accuracy."""

    def against(found: Mapping[str, Any], other: str) -> Sequence[Mapping[str, Any]]:
        matches = found.get("matches", ())
        return [match for match in matches if (match["against"], match["at"]) == (other, "accuracy")]

    def counted(matches: Iterable[Mapping[str, Any]]) -> str:
        kinds = Counter(match["verdict"] for match in matches)
        return " / ".join(str(kinds[verdict]) for verdict in VERDICTS)

    def means(matches: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(f"{fmean(match[place]['value'] for match in matches):+.3f}" for place in places)

    def cells(found: Mapping[str, Any]) -> Sequence[str]:
        stopped = against(found, "early-stopped")
        equal = [match for match in stopped if match["verdict"] != "no counterpart"]
        of = {method: [match for match in equal if match["method"] == method] for method in methods}
        lowest = [match[place]["low"] for match in equal for place in places]
        return (
            found["attack"],
            counted(stopped),
            *(means(of[method]) if of[method] else "-" for method in methods),
            f"{min(lowest):+.3f}" if lowest else "-",
            counted(against(found, "imp")),
        )

    places = ("difference", "last_difference")
    methods = unique(match["method"] for match in tradeoff.get("matches", ()))
    head = (
        "attack",
        f"sparse against stopped early: {' / '.join(VERDICTS)}",
        *(f"mean difference in A, {method}: first place, last" for method in methods),
        "lowest end of an interval",
        "butterfly against IMP",
    )
    return table(head, map(cells, deciding(tradeoff)))


def deciding(tradeoff: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The trade-offs by each attack that decides about the dense network, but those that do at a fixed FPR."""
    found = (tradeoff, *tradeoff.get("other_attacks", {}).values())
    return [each for each in found if each["dense_balanced_accuracy"] and each["attack"] not in AT_FIXED_FPR]


def battery(rows: Sequence[Row], metric: str) -> str:
    """A row per attack and a column per network, early stops left out: means over seeds."""
    names = unique(row["network"] for row in rows if row["method"] != "early-stopped")

    def cells(attack: str) -> Sequence[str]:
        of = [[row for row in rows if (row["network"], row["attack"]) == (name, attack)] for name in names]
        return attack, *(f"{fmean(values):.3f}" if (values := column(each, metric)) else "-" for each in of)

    return table(("attack", *names), map(cells, unique(row["attack"] for row in rows)))


def by_seed(slope: Mapping[str, Any]) -> str:
    """A slope of tradeoff.json, seed by seed."""
    return ", ".join("-" if value is None else f"{value:.2f}" for value in slope["by_seed"].values())


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
