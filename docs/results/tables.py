"""tradeoff.json and the tables of a results page, from its results.csv and study.toml alone.

python docs/results/tables.py docs/results/paper-short

computes tradeoff.json anew and writes each table that the folder's README.md has under a line ``<!-- table: NAME -->``.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from descriptions import table
from descriptions import tables as described

from lacewing.metrics import Estimate
from lacewing.results import STOPPED, AttackResult, Epoch, NetworkResult, read_results_csv
from lacewing.study.declared import load_study
from lacewing.study.plan import make_plan
from lacewing.tradeoff import (
    BUTTERFLY,
    IMP,
    Answer,
    Difference,
    Line,
    Recipe,
    Slope,
    Spread,
    TradeOff,
    answers,
    as_json,
    lines,
    show_slope,
    tradeoff,
    tradeoffs,
)

REFERENCES = ("lira-offline", "rmia-offline")
COMPARED = ("discriminator", *REFERENCES, "label-augmentation", "gradient-norm")  # the paper's, others by what they see
AT_FIXED_FPR = ("population", "quantile")  # they decide at 5 %: their balanced accuracy says little
MARK = re.compile(r"<!-- table: (\S+) -->\n+(?:\|.*(?:\n|\Z))*\n*")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a study found: its results, and the trade-off by each attack that decides, the leading one first."""

    folder: Path
    networks: Sequence[NetworkResult]
    attacks: Sequence[AttackResult]
    tradeoffs: Mapping[str, TradeOff]
    halves: bool
    declared: Sequence[Answer]

    @property
    def lead(self) -> TradeOff:
        """By the leading attack."""
        return next(iter(self.tradeoffs.values()))


def main(folder: Path) -> None:
    """Write tradeoff.json and the tables of one page."""
    found, document = read(folder)
    (folder / "tradeoff.json").write_text(json.dumps(document), "utf-8")
    page = folder / "README.md"
    page.write_text(with_tables(page.read_text("utf-8"), found), "utf-8")


def read(folder: Path) -> tuple[Found, Mapping[str, object]]:
    """What the folder's results.csv says, and tradeoff.json."""
    study = load_study(folder / "study.toml")
    networks, attacks = read_results_csv(folder / "results.csv")
    models = {"": {}} | {entry.entry: {"entry": entry.entry} for entry in study.networks if entry.model}
    jobs = {job.network: job for job in make_plan(study, data_digest="", models=models).networks}

    def known(network: NetworkResult) -> NetworkResult:
        """With its family and kind, and as many epochs as it was trained for, which early stops are ordered by."""
        job = jobs.get(network.network)
        if job is None:
            return network
        curve = tuple(Epoch(epoch, 0.0, 0.0, 0.0) for epoch in range(1, job.last_epoch + 1))
        return dataclasses.replace(network, family=job.family, kind=job.kind, curve=curve)

    networks = [known(network) for network in networks]
    attacks = [dataclasses.replace(result, network=known(result.network)) for result in attacks]
    halves = study.data.split == "random-halves"
    by_attack = tradeoffs(study.attacks.names, attacks, networks=networks, halves=halves)
    declared = answers(study.tradeoff, attacks, networks, halves=halves)
    lead, *others = by_attack
    document = as_json(by_attack[lead], declared, {name: by_attack[name] for name in others})
    return Found(folder, networks, attacks, by_attack, halves, declared), document


def with_tables(page: str, found: Found) -> str:
    """A page whose tables are those of the folder's results."""
    made: Mapping[str, Callable[[], str]] = {
        **described(found.folder),
        "networks": lambda: networks(found),
        "declared": lambda: declared(found),
        "recipes": lambda: recipes(found),
        "slopes": lambda: slopes(found.lead),
        "slopes-otherwise": lambda: slopes_otherwise(found),
        "differences": lambda: differences(found),
        "explained": lambda: explained(found),
        "taken-back": lambda: taken_back(found),
        "matches": lambda: matches(found.lead),
        "slopes-by-attack": lambda: slopes_by_attack(found),
        "auc": lambda: battery(found, "auc"),
        "tpr-at-1-percent": lambda: battery(found, "tpr_at_fpr_0.01"),
        "tpr-at-0.1-percent": lambda: battery(found, "tpr_at_fpr_0.001"),
    }
    for mark in MARK.finditer(page):
        if mark[1] not in made:
            sys.exit(f"There is no table {mark[1]}; there are {', '.join(made)}.")
    filled = MARK.sub(lambda mark: f"<!-- table: {mark[1]} -->\n\n{made[mark[1]]()}\n\n", page)
    return filled.rstrip("\n") + "\n"


def networks(found: Found) -> str:
    """A row per network: means over seeds with their interval, or with fewer than three seeds their range."""
    lead = found.lead
    points = {point.network: point for point in lead.points}
    aside = any(point.population_accuracy for point in lead.points)
    train: dict[str, list[float]] = {}
    for result in found.attacks:
        if result.attack == lead.attack:
            train.setdefault(result.network.network, []).append(result.network.train_accuracy)

    def cells(name: str) -> Sequence[str]:
        point = points[name]
        gain = point.relative_gain if point.kind != "dense" else None
        row = [
            name,
            percent(point.density.mean),
            f"{fmean(train[name]):.3f}",
            over_seeds(point.test_accuracy, ".3f"),
            over_seeds(Spread(*map(_halved, point.advantage)), ".3f"),
            "" if gain is None else over_seeds(gain, "+.1%"),
        ]
        return row + [over_seeds(point.population_accuracy, ".3f") if point.population_accuracy else ""] * aside

    head = ["network", "density", "train accuracy", "test accuracy", "A", "relative gain in defence"]
    return table(
        head + ["accuracy on the population"] * aside, map(cells, unique(a.network.network for a in found.attacks))
    )


def _halved(advantage: float | int | None) -> float | int | None:
    """A from 2 A - 1; the standard deviation and the count of a spread are not shown."""
    return advantage if advantage is None or isinstance(advantage, int) else (advantage + 1) / 2


def declared(found: Found) -> str:
    """The declared questions: a row for each family that one is compared with."""

    def cells(answer: Answer, d: Difference, first: bool) -> Sequence[str]:
        kind = "primary" if answer.primary else "declared"
        corrected = "" if answer.p_corrected is None else f"p = {answer.p_corrected:.2g}"
        asked = f"{answer.family}, {answer.metric} ({kind}): {answer.verdict} {corrected}".rstrip()
        kept = f"{len(d.recipes)} and {len(d.against_recipes)} recipes" if d.value is not None else d.reason or ""
        if d.value is not None and d.direction not in (None, "leak"):
            kept += {"both": "; both directions", "neither": "; neither direction fits"}[d.direction]
        return asked if first else "", d.against, _difference(d), kept

    rows = [cells(a, d, first=i == 0) for a in found.declared for i, d in enumerate(a.differences)]
    return table(("question and answer", "against", "difference [95 %]", "kept, or why not"), rows)


def recipes(found: Found) -> str:
    """Every recipe of every family by accuracy: means over seeds with their interval, by the leading attack."""
    of = [a for a in found.attacks if a.attack == found.lead.attack]
    families = lines(of, "auc", halves=found.halves)
    tails = {r.network: r.leak for line in lines(of, "tpr_at_fpr_0.01", halves=found.halves) for r in line.recipes}

    def cells(line: Line, r: Recipe) -> Sequence[str]:
        shown = (over_seeds(spread, ".3f") for spread in (r.accuracy, r.leak, tails[r.network]))
        return line.family, line.kind, r.network, *shown

    rows = [cells(line, r) for line in families for r in line.recipes]
    lead = found.lead.attack
    return table(("family", "kind", "recipe", "test accuracy", f"{lead}, AUC", f"{lead}, TPR at 1 %"), rows)


def slopes(lead: TradeOff) -> str:
    """All networks of the band together, then method by method."""
    head = (
        "networks", "in the band", "slope [95 %]", "by seed", "mean relative loss [95 %]",
        "gain - 3.6 loss [95 %], p", "least squares through the origin", "in words",
    )  # fmt: skip
    return table(head, (_slope_cells(slope) for slope in (lead.slope, *lead.slopes)))


def _slope_cells(slope: Slope) -> Sequence[str]:
    return (
        slope.method,
        str(len(slope.networks)),
        show_slope(slope),
        by_seed(slope),
        interval(slope.mean_loss, "+.3f"),
        "-" if slope.p_paper is None else f"{interval(slope.beside_paper, '+.3f')}, {slope.p_paper:.2g}",
        "-" if slope.least_squares is None else f"{slope.least_squares:.2f}",
        slope.verdict,
    )


def slopes_otherwise(found: Found) -> str:
    """Slopes measured from the other dense networks, with which no sparse network was trained."""
    first = next(a.network.network for a in found.attacks if a.network.kind == "dense")
    others = unique(
        a.network.network for a in found.attacks if a.network.method == "dense" and a.network.network != first
    )

    def measured_from(base: str, a: AttackResult) -> AttackResult:
        return dataclasses.replace(a, network=dataclasses.replace(a.network, kind="dense")) if _named(a, base) else a

    def cells(base: str, method: str) -> Sequence[str]:
        kept = [measured_from(base, a) for a in found.attacks if a.network.method == method or _named(a, base)]
        row = [method, base]
        for attack in there(COMPARED, found):
            measured = tradeoff(kept, attack=attack, halves=found.halves).slope
            row.append(f"{show_slope(measured)} ({by_seed(measured)})")
        return row

    head = ("networks", "measured from", *(f"{attack}: slope [95 %] (by seed)" for attack in there(COMPARED, found)))
    return table(head, (cells(base, method) for base in others for method in (IMP, BUTTERFLY)))


def _named(result: AttackResult, network: str) -> bool:
    return result.network.network == network


def differences(found: Found) -> str:
    """Family against family at equal accuracy, by the attacks that are compared: exploratory, or description."""
    metrics = {"balanced_accuracy": "A", "auc": "AUC", "tpr_at_fpr_0.01": "TPR at 1 %"}
    asked = [
        (attack, metric) for attack in there(COMPARED[:3], found) for metric in metrics if attack in found.tradeoffs
    ]
    rows: dict[tuple[str, str], dict[tuple[str, str], Difference]] = {}
    for attack, metric in asked:
        for d in found.tradeoffs[attack].differences:
            if d.metric == metric:
                rows.setdefault((f"{d.family} - {d.against}", d.at), {})[attack, metric] = d

    def cells(families: str, at: str, of: Mapping[tuple[str, str], Difference]) -> Sequence[str]:
        first = next(iter(of.values()))
        kept = f"{len(first.recipes)} and {len(first.against_recipes)} recipes"
        about = f"{kept}, described, not tested" if first.descriptive and first.value is not None else kept
        if first.value is None:
            about = first.reason or ""
        return families, at, *(_difference(of.get(key)) for key in asked), about

    head = ("families", "at equal", *(f"{attack}, {metrics[metric]}" for attack, metric in asked), "kept, or why not")
    return table(
        head,
        (
            cells(*key, of)
            for key, of in sorted(rows.items(), key=lambda row: (row[0][0], row[0][1] != "test accuracy"))
        ),
    )


def _difference(d: Difference | None) -> str:
    if d is None or d.value is None:
        return "-"
    if d.estimate is None:
        return f"{d.value:+.3f}"
    told = "" if d.detectable is None else f", tells {d.detectable.difference:.3f}"
    return f"{interval(d.estimate, '+.3f')}, p = {d.p:.2g}{told}"


def explained(found: Found) -> str:
    """What train accuracy explains of A over networks, and what the method adds."""
    lines = (
        (attack, str(e.networks), f"{e.r_squared:.1%}", f"{e.method_adds:+.2%}")
        for attack in there(COMPARED, found)
        if attack in found.tradeoffs and (e := found.tradeoffs[attack].explained) is not None
    )
    return table(("attack", "networks", "a quadratic in train accuracy explains", "the method adds (adjusted)"), lines)


def taken_back(found: Found) -> str:
    """The share of AUC - 1/2 on the dense network that is gone on each other one: of means over seeds."""
    first, *names = unique(a.network.network for a in found.attacks if a.network.method != STOPPED)

    def leak(name: str, attack: str) -> float | None:
        values = column([a for a in found.attacks if (a.network.network, a.attack) == (name, attack)], "auc")
        return fmean(values) - 0.5 if values else None

    def cells(attack: str) -> Sequence[str]:
        whole, parts = leak(first, attack), [leak(name, attack) for name in names]
        return attack, *("-" if part is None or not whole else f"{1 - part / whole:.2f}" for part in parts)

    return table(("attack", *names), map(cells, there(COMPARED, found)))


def matches(lead: TradeOff) -> str:
    """Sparse networks beside others, point by point: a description."""
    head = (
        "network", "against, at equal", "epoch or density, by seed", "difference in A", "by seed",
        "where it last has that accuracy",
    )  # fmt: skip

    lines = []
    for match in sorted(lead.matches, key=lambda match: (match.against, match.at)):
        digits = ".0f" if match.against == STOPPED else ".3f"
        places = {
            name: ", ".join(f"{place:{digits}}" for place in getattr(match, name).values())
            for name in ("where", "last_where")
        }
        beyond = f" (no equal in seed {', '.join(map(str, match.beyond))})" if match.beyond else ""
        last = f"{match.last_difference:+.3f} at {places['last_where']}"
        lines.append((
            match.network,
            f"{match.against}, {match.at}",
            places["where"] + beyond,
            f"{match.difference:+.3f}",
            ", ".join(f"{value:+.3f}" for value in match.by_seed.values()),
            "the same" if match.one_place else last,
        ))  # fmt: skip
    return table(head, lines)


def slopes_by_attack(found: Found) -> str:
    """A row per attack that decides about the dense network: its slopes."""
    methods = [slope.method for slope in found.lead.slopes]
    methods = methods if len(methods) == 1 else ["all", *methods]

    def cells(by: TradeOff) -> Sequence[str]:
        of = {slope.method: slope for slope in (by.slope, *by.slopes)}
        shown = []
        for method in methods:
            slope = of.get(method)
            shown.append("-" if slope is None else f"{show_slope(slope)} ({by_seed(slope)})")
        return by.attack, interval(by.dense_balanced_accuracy, ".3f"), *shown

    able = [t for t in found.tradeoffs.values() if t.dense_balanced_accuracy and t.attack not in AT_FIXED_FPR]
    head = ("attack", "A, dense [95 %]", *(f"slope, {method} [95 %] (by seed)" for method in methods))
    return table(head, map(cells, able))


def battery(found: Found, metric: str) -> str:
    """A row per attack and a column per network, early stops left out: means over seeds."""
    names = unique(a.network.network for a in found.attacks if a.network.method != STOPPED)

    def cells(attack: str) -> Sequence[str]:
        of = [[a for a in found.attacks if (a.network.network, a.attack) == (name, attack)] for name in names]
        return attack, *(f"{fmean(values):.3f}" if (values := column(each, metric)) else "-" for each in of)

    return table(("attack", *names), map(cells, unique(a.attack for a in found.attacks)))


def there(attacks: Iterable[str], found: Found) -> Sequence[str]:
    """Those of the attacks that ran."""
    ran = {a.attack for a in found.attacks}
    return [attack for attack in attacks if attack in ran]


def by_seed(slope: Slope) -> str:
    """A slope, seed by seed; of more than four its range."""
    values = [value for value in slope.by_seed.values() if value is not None]
    if len(slope.by_seed) > 4:
        return f"{min(values):.2f} to {max(values):.2f} in {len(values)} of {len(slope.by_seed)}" if values else "-"
    return ", ".join("-" if value is None else f"{value:.2f}" for value in slope.by_seed.values())


def column(results: Iterable[AttackResult], metric: str) -> list[float]:
    """The values of a metric; what was refused is left out."""
    return [e.value for result in results if (e := result.metrics.get(metric)) is not None]


def over_seeds(spread: Spread, digits: str) -> str:
    """The mean with its interval over seeds, or of fewer than three its range."""
    mean = f"{spread.mean:{digits}}"
    if spread.low is not None and spread.high is not None:
        return f"{mean} [{spread.low:{digits}}, {spread.high:{digits}}]"
    return mean if spread.n == 1 else f"{mean} ({spread.min:{digits}} to {spread.max:{digits}})"


def interval(estimate: Estimate | None, digits: str) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return "-"
    value, low, high = (f"{end:{digits}}" for end in estimate)
    return f"{value} [{low}, {high}]"


def percent(share: float) -> str:
    """A density."""
    return f"{100 * share:.2f} %"


def unique(names: Iterable[str]) -> list[str]:
    """Each name once, in order."""
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
