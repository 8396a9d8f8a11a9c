"""The rows of property.csv and property.json."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from statistics import fmean
from typing import Any, NamedTuple

from lacewing.metrics import clopper_pearson, mean_over_seeds
from lacewing.property._measure import Measured, n_leaked, permutation_p
from lacewing.results import Kind
from lacewing.support.text import cell

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SeedRow:
    """An attack on the networks of one recipe, seed and pair of worlds."""

    network: str
    method: str
    family: str
    kind: Kind | None
    density: float
    seed: int
    first: float  # shares of the two worlds
    second: float
    attack: str
    chosen: str  # the statistic that the attacker's own networks chose
    attacked: int  # networks of both worlds
    accuracy: float
    binomial_low: float  # over these networks alone: says nothing of other pools
    binomial_high: float
    auc: float
    test_accuracy: float  # of the attacked networks, on records that nobody was trained on


@dataclass(frozen=True, slots=True)
class PropertyRow:
    """An attack on a recipe and pair of worlds, over seeds."""

    network: str
    method: str
    family: str
    kind: Kind | None
    density: float
    first: float
    second: float
    attack: str
    chosen: str
    seeds: int
    attacked: int
    accuracy: float
    low: float
    high: float
    auc: float
    auc_low: float | None  # None: one seed
    auc_high: float | None
    n_leaked: float | None  # None: more than any number, an accuracy of 1
    n_leaked_low: float | None
    n_leaked_high: float | None
    p: float
    test_accuracy: float

    @property
    def found(self) -> bool:
        """Whether the interval of the accuracy lies above a half."""
        return self.low > 0.5


@dataclass(frozen=True)
class PropertyFindings:
    """What a study says about the properties that its networks tell."""

    of: str
    records: int  # in each training set
    networks: int  # of each world, seed and recipe
    rows: tuple[PropertyRow, ...]
    seeds: tuple[SeedRow, ...]
    missing: int = 0  # attacks that wait for networks
    poison: float = 0.0  # share of the records that the attacker of "snap" put into each training set
    poison_label: int | None = None


class One(NamedTuple):
    """A seed's row with the counts that the test over seeds needs."""

    row: SeedRow
    counts: Measured


def summarised(ones: Sequence[One]) -> list[PropertyRow]:
    """A row for each recipe, pair and attack, in the order in which they come.

    The interval of the accuracy takes the seed, which redraws the pools of records, as the unit: Student's t over
    seeds, widened to the exact binomial interval over all networks where that is wider (several seeds that are all
    right have no spread). With one seed it is the binomial one, which says nothing of other pools.
    """
    groups: dict[tuple[str, float, float, str], list[One]] = {}
    for one in ones:
        row = one.row
        groups.setdefault((row.network, row.first, row.second, row.attack), []).append(one)
    return [_summary(each) for each in groups.values()]


def _summary(ones: Sequence[One]) -> PropertyRow:
    rows = [one.row for one in ones]
    first, attacked = rows[0], sum(row.attacked for row in rows)
    right = math.fsum(row.accuracy * row.attacked for row in rows)
    low, high = clopper_pearson(min(right, attacked), attacked)
    accuracy = fmean(row.accuracy for row in rows)
    over = mean_over_seeds([row.accuracy for row in rows])
    area = mean_over_seeds([row.auc for row in rows])
    if over is not None:
        low, high = max(0.0, min(low, over.low)), min(1.0, max(high, over.high))
    leaked = [_finite(n_leaked(each, first.first, first.second)) for each in (accuracy, low, high)]
    return PropertyRow(
        network=first.network,
        method=first.method,
        family=first.family,
        kind=first.kind,
        density=fmean(row.density for row in rows),
        first=first.first,
        second=first.second,
        attack=first.attack,
        chosen=", ".join(dict.fromkeys(row.chosen for row in rows)),
        seeds=len(rows),
        attacked=attacked,
        accuracy=accuracy,
        low=low,
        high=high,
        auc=fmean(row.auc for row in rows),
        auc_low=None if area is None else max(0.0, area.low),
        auc_high=None if area is None else min(1.0, area.high),
        n_leaked=leaked[0],
        n_leaked_low=leaked[1],
        n_leaked_high=leaked[2],
        p=permutation_p([one.counts for one in ones]),
        test_accuracy=fmean(row.test_accuracy for row in rows),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_csv(rows: Iterable[SeedRow]) -> str:
    """property.csv: a row for each recipe, seed, pair of worlds and attack. Equal runs give equal bytes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["schema", *(field.name for field in fields(SeedRow))])
    for row in rows:
        table.writerow(map(cell, [SCHEMA, *astuple(row)]))
    return text.getvalue()


def as_json(found: PropertyFindings) -> dict[str, Any]:
    """property.json: the rows over seeds, and what they are of."""
    poisoned = {"poison": found.poison, "poison_label": found.poison_label} if found.poison else {}
    return {
        "schema": SCHEMA,
        "of": found.of,
        "records": found.records,
        "networks": found.networks,
        **poisoned,
        "missing": found.missing,
        "rows": [asdict(row) for row in found.rows],
    }
