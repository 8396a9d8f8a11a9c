"""The rows of attribute.csv and attribute.json: guesses of columns, of the networks of a study."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from statistics import fmean
from typing import Any

from lacewing.metrics import Estimate, Units
from lacewing.results import Kind
from lacewing.support.text import cell

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SeedRow:
    """An attack on one column by one network. Shares are of records, or of groups where records have groups."""

    network: str
    method: str
    family: str
    kind: Kind | None
    density: float
    seed: int
    init: int
    column: str  # its place in the table, or several of a one-hot attribute: "3", "7+8+9"
    values: int  # how many it has
    attack: str
    n_members: int
    n_nonmembers: int
    members: float  # share whose value is guessed
    nonmembers: float
    imputed_members: float  # share that imputation guesses, without the network
    imputed_nonmembers: float
    surplus: float  # (members - imputed_members) - (nonmembers - imputed_nonmembers)
    surplus_low: float  # over these records alone: says nothing of other draws of them
    surplus_high: float
    test_accuracy: float


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """An attack on a recipe, the mean over columns and seeds."""

    network: str
    method: str
    family: str
    kind: Kind | None
    density: float
    attack: str
    columns: int
    seeds: int
    units: int  # what is replicated: seeds, or the cuts of the records that two seeds share
    members: float
    nonmembers: float
    imputed_members: float
    imputed_nonmembers: float
    surplus: float
    low: float | None  # Student's t over the units, see ``alike``; None: fewer than three
    high: float | None
    test_accuracy: float
    alike: bool = False  # the units do not differ, and the interval is the mean of the seeds' own over records

    @property
    def found(self) -> bool:
        """Whether the interval of the surplus lies above 0."""
        return self.low is not None and self.low > 0

    @property
    def below_imputation(self) -> bool:
        """Whether who does without the network guesses more of the members' values."""
        return self.members < self.imputed_members


@dataclass(frozen=True)
class AttributeFindings:
    """What a study says about the columns that its networks tell."""

    columns: tuple[str, ...]
    rows: tuple[AttributeRow, ...]
    seeds: tuple[SeedRow, ...]
    halves: bool = False  # whether seeds 2j and 2j + 1 share one cut of the records
    missing: int = 0  # networks whose columns are not guessed yet


def summarised(rows: Sequence[SeedRow], *, halves: bool) -> list[AttributeRow]:
    """A row for each recipe and attack, in the order in which they come.

    Columns and initialisations of a seed are averaged first: the seed, which redraws the split, is what is replicated.
    With ``halves`` seeds 2j and 2j + 1 share one cut of the records, and count as one.
    """
    groups: dict[tuple[str, str], list[SeedRow]] = {}
    for row in rows:
        groups.setdefault((row.network, row.attack), []).append(row)
    return [_summary(each, halves) for each in groups.values()]


def by_seed(rows: Iterable[SeedRow]) -> dict[int, Estimate]:
    """The surplus of each seed, the mean over its columns and initialisations; so are both ends, over its records."""
    seeds: dict[int, list[SeedRow]] = {}
    for row in rows:
        seeds.setdefault(row.seed, []).append(row)
    names = ("surplus", "surplus_low", "surplus_high")
    return {seed: Estimate(*(fmean(getattr(r, name) for r in of) for name in names)) for seed, of in seeds.items()}


def _summary(rows: Sequence[SeedRow], halves: bool) -> AttributeRow:
    first, seeds = rows[0], by_seed(rows)
    units = Units.of(seeds, halves=halves)
    surplus = {seed: each.value for seed, each in seeds.items()}
    over = units.interval(surplus)
    alike = units.enough and over is None
    if alike:
        over = units.over_records(seeds)
    shares = ("members", "nonmembers", "imputed_members", "imputed_nonmembers", "density", "test_accuracy")
    return AttributeRow(
        network=first.network,
        method=first.method,
        family=first.family,
        kind=first.kind,
        attack=first.attack,
        columns=len({row.column for row in rows}),
        seeds=len(seeds),
        units=len(units),
        surplus=units.mean(surplus),
        low=None if over is None else over.low,
        high=None if over is None else over.high,
        alike=alike,
        **{name: fmean(getattr(row, name) for row in rows) for name in shares},
    )


def as_csv(rows: Iterable[SeedRow]) -> str:
    """attribute.csv: a row for each network, column and attack. Equal runs give equal bytes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["schema", *(field.name for field in fields(SeedRow))])
    for row in rows:
        table.writerow(map(cell, [SCHEMA, *astuple(row)]))
    return text.getvalue()


def as_json(found: AttributeFindings) -> dict[str, Any]:
    """attribute.json: the rows over seeds, and what they are of."""
    return {
        "schema": SCHEMA,
        "columns": list(found.columns),
        "missing": found.missing,
        "rows": [asdict(row) for row in found.rows],
    }
