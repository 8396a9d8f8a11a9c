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
STRONGEST = (FIRST, "lira-offline", "rmia-offline", "label-augmentation")  # of each family, where the page compares few
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
        "slopes-otherwise": lambda: slopes_otherwise([row for row in rows if row["attack"] == FIRST], tradeoff),
        "equal-train-accuracy": lambda: equal_train_accuracy(rows),
        "taken-back": lambda: taken_back(rows),
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
    """All networks of the band together, then method by method."""

    def cells(slope: Mapping[str, Any]) -> Sequence[str]:
        by_seed = ("-" if value is None else f"{value:.2f}" for value in slope["by_seed"].values())
        estimate, loss = show(slope["estimate"], 2), show(slope["mean_loss"], 3)
        return slope["method"], str(slope["networks"]), estimate, ", ".join(by_seed), loss, slope["verdict"]

    head = ("networks", "points", "slope [95 %]", "by seed", "mean relative loss", "verdict")
    return table(head, map(cells, (tradeoff["slope"], *tradeoff["slopes"])))


def slopes_otherwise(rows: Sequence[Row], tradeoff: Mapping[str, Any]) -> str:
    """Slopes over networks that lose as much as the dense one stopped early, and measured from other dense networks."""
    low, high = map(float, tradeoff["band"])
    most = 0.1

    def of_loss(_: float, losses: Sequence[float]) -> bool:
        return 0 < fmean(losses) <= most

    def in_band(density: float, _: Sequence[float]) -> bool:
        return low <= density <= high

    def lines(base: str, rule: str, chosen: Callable[[float, Sequence[float]], bool]) -> Iterable[Sequence[str]]:
        for method in ("early-stopped", "imp", "butterfly"):
            found: dict[str, list[Pair]] = {seed: [] for seed in unique(row["seed"] for row in rows)}
            for name in unique(row["network"] for row in rows if row["method"] == method):
                of = {row["seed"]: row for row in rows if row["network"] == name}
                changes = {seed: change(row, one(rows, base, seed)) for seed, row in of.items()}
                if chosen(float(next(iter(of.values()))["density"]), [loss for loss, _ in changes.values()]):
                    for seed, pair in changes.items():
                        found[seed].append(pair)
            if every := [pair for pairs in found.values() for pair in pairs]:
                slopes = ", ".join(f"{through_origin(pairs):.2f}" for pairs in found.values() if pairs)
                loss = f"{fmean(loss for loss, _ in every):+.3f}"
                yield method, base, rule, str(len(every)), f"{through_origin(every):+.2f}", slopes, loss

    first, *others = unique(row["network"] for row in rows if row["method"] == "dense")
    made = [*lines(first, f"mean loss over 0 up to {most:.0%}", of_loss)]
    made += [line for base in others for line in lines(base, "density in the band", in_band)]
    head = ("networks", "measured from", "chosen by", "points", "slope", "by seed", "mean relative loss")
    return table(head, made)


def equal_train_accuracy(rows: Sequence[Row]) -> str:
    """Differences in A, sparse - dense stopped early, where this one first has the train accuracy of the other."""
    attacks = there(STRONGEST, rows)

    def differences(name: str, attack: str) -> list[float]:
        found = []
        for seed in unique(row["seed"] for row in rows):
            of_seed = [row for row in rows if (row["seed"], row["attack"]) == (seed, attack)]
            path = [row for row in of_seed if row["method"] == "early-stopped"] + [one(of_seed, "dense", seed)]
            both = [(float(row["train_accuracy"]), float(row["balanced_accuracy"])) for row in path]
            sparse = one(of_seed, name, seed)
            dense = first_met(both, float(sparse["train_accuracy"]))
            found.append(float(sparse["balanced_accuracy"]) - dense)
        return found

    def cell(values: Sequence[float]) -> str:
        return f"{fmean(values):+.3f} ({', '.join(f'{value:+.3f}' for value in values)})"

    names = unique(row["network"] for row in rows if row["method"] in ("imp", "butterfly"))
    head = ("network", *(f"{attack}: mean (by seed)" for attack in attacks))
    return table(head, ((name, *(cell(differences(name, attack)) for attack in attacks)) for name in names))


def taken_back(rows: Sequence[Row]) -> str:
    """The share of AUC - 1/2 on the dense network that is gone on each other one: of means over seeds."""
    names = unique(row["network"] for row in rows if row["method"] != "early-stopped" and row["network"] != "dense")

    def leak(name: str, attack: str) -> float:
        return fmean(column([r for r in rows if (r["network"], r["attack"]) == (name, attack)], "auc")) - 0.5

    def cells(attack: str) -> Sequence[str]:
        whole = leak("dense", attack)
        return attack, *(f"{1 - leak(name, attack) / whole:.2f}" for name in names)

    return table(("attack", *names), map(cells, there(STRONGEST, rows)))


def there(attacks: Iterable[str], rows: Sequence[Row]) -> Sequence[str]:
    """Those of the attacks that ran."""
    ran = {row["attack"] for row in rows}
    return [attack for attack in attacks if attack in ran]


def one(rows: Iterable[Row], network: str, seed: str) -> Row:
    """The row of a network and seed."""
    (found,) = (row for row in rows if (row["network"], row["seed"]) == (network, seed))
    return found


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


def verdicts(tradeoff: Mapping[str, Any]) -> str:
    """A row per attack that decides about the dense network: slopes, and who leaks less or more at equal accuracy."""

    def counted(found: Mapping[str, Any], against: str) -> str:
        kinds = Counter(
            match["verdict"]
            for match in found.get("matches", ())
            if (match["against"], match["at"]) == (against, "accuracy")
        )
        return " / ".join(str(kinds[verdict]) for verdict in VERDICTS)

    def pooled(found: Mapping[str, Any]) -> Sequence[str]:
        both = [
            (match["difference"], match["last_difference"])
            for match in found.get("matches", ())
            if (match["against"], match["at"]) == ("early-stopped", "accuracy")
        ]
        if not both:
            return "-", "-"
        first, last = (f"{fmean(pair[place]['value'] for pair in both):+.3f}" for place in (0, 1))
        return f"{first}, {last}", f"{min(each['low'] for pair in both for each in pair):+.3f}"

    def cells(found: Mapping[str, Any]) -> Sequence[str]:
        of = {slope["method"]: slope["estimate"] for slope in found["slopes"]}
        return (
            found["attack"],
            f"{found['dense_balanced_accuracy']['value']:.3f}",
            show(found["slope"]["estimate"], 2),
            *(show(of.get(method), 2) for method in methods),
            counted(found, "early-stopped"),
            *pooled(found),
            counted(found, "imp"),
        )

    methods = [slope["method"] for slope in tradeoff["slopes"]]
    head = ("attack", "A, dense", "slope, all", *(f"slope, {method}" for method in methods))
    counts = (
        f"sparse against stopped early: {' / '.join(VERDICTS)}",
        "mean difference in A at the first place, at the last",
        "lowest end of an interval",
        "butterfly against IMP",
    )
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
