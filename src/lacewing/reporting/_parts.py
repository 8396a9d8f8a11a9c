"""Results on parts of the records, the most vulnerable ones, and what no attack here tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lacewing.reporting._data import (
    MostVulnerable,
    ReportData,
    Slice,
    in_order,
    number,
    percent,
    percent_range,
    series,
)

if TYPE_CHECKING:
    from lacewing.attacks import Attack

CANARIES = "canaries"


class SliceCell(NamedTuple):
    """AUC on one part of one network's records."""

    text: str
    small: str
    title: str


class SliceTable(NamedTuple):
    """One attack on the parts of one kind: a row a part, a column a network."""

    title: str
    part: str
    columns: list[str]
    rows: list[tuple[str, list[SliceCell]]]


class VulnerableRow(NamedTuple):
    """The most vulnerable records of a network, put together; ``listed`` is empty unless records are shown."""

    network: str
    attack: str
    records: str
    found: str
    rest: str
    audits: str
    listed: list[tuple[str, str]]


def slices(data: ReportData, *, canaries: bool) -> list[SliceTable]:
    """A table for each attack and kind of part: of the canaries alone, or of everything else."""
    labels = {s.network: data.label(s.network, s.method) for s in series(data)}
    stops = {n.network for n in data.networks if n.stopped}
    grouped: dict[tuple[str, str], list[Slice]] = {}
    for part in data.slices:
        if (part.name == CANARIES) == canaries and part.network not in stops:
            grouped.setdefault((part.attack, part.name), []).append(part)
    tables = []
    for (attack, name), parts in grouped.items():
        networks = sorted(dict.fromkeys(p.network for p in parts), key=[*labels, ""].index if labels else str)
        by_cell = {(p.value, p.network): p for p in parts}
        rows = [
            (value, [(_canary_cell if canaries else _cell)(by_cell.get((value, network))) for network in networks])
            for value in dict.fromkeys(p.value for p in parts)
        ]
        title = f"AUC by {name}" if not canaries else "Canaries, mislabelled on purpose: members found at 1\u202f% FPR"
        title += f", attack “{attack}”" if attack else ""
        tables.append(SliceTable(title, name, [labels.get(n, n) or "AUC" for n in networks], rows))
    return tables


def _cell(part: Slice | None) -> SliceCell:
    if part is None:
        return SliceCell("–", "", "not measured")
    n = f"{part.n_members:,} members, {part.n_nonmembers:,} non-members"
    if part.auc is None:
        return SliceCell("–", f"n {part.n_members:,} + {part.n_nonmembers:,}", f"too few of a kind: {n}")
    ends = f"{number(part.auc.low)}–{number(part.auc.high)}"
    return SliceCell(number(part.auc.value), f"{ends}; n {part.n_members:,} + {part.n_nonmembers:,}", n)


def _canary_cell(part: Slice | None) -> SliceCell:
    if part is None:
        return SliceCell("–", "", "not measured")
    n = f"n {part.n_members:,} + {part.n_nonmembers:,}"
    if part.found is None:
        return SliceCell("–", n, "too few members among the canaries, or other non-members for a rate of 1 %")
    false = f"{part.false} of {part.n_nonmembers:,} canaries that are no members lie above the threshold"
    return SliceCell(percent(part.found.value), f"{percent_range(part.found.low, part.found.high)}; {n}", false)


def vulnerable(data: ReportData) -> list[VulnerableRow]:
    """A row for each network and attack. Single records only where the report was asked to show them."""
    labels = {s.network: data.label(s.network, s.method) for s in series(data)}
    return [_vulnerable(row, labels, data.show_records) for row in data.vulnerable]


def _vulnerable(row: MostVulnerable, labels: Mapping[str, str], show: bool) -> VulnerableRow:
    return VulnerableRow(
        network=labels.get(row.network, row.network),
        attack=row.attack,
        records=f"{row.records:,}",
        found=percent(row.found),
        rest=percent(row.found_rest),
        audits=str(row.audits),
        listed=[(str(record), number(score)) for record, score in row.listed] if show else [],
    )


def untested(ran: Iterable[str], registry: Mapping[str, Attack], refused: Iterable[str] = ()) -> str:
    """One sentence: the attacks of this package that did not run, and what no membership attack tests.

    ``refused`` ones are listed elsewhere, each with its reason.
    """
    listed = set(refused)
    did = {*ran, *listed}
    left = [name for name in in_order(registry, registry) if name not in did and registry[name].source is None]
    attacks = f"the {len(listed)} attack{'s' * (len(listed) > 1)} listed as not run; " if listed else ""
    attacks += f"these attacks of lacewing: {', '.join(left)}; " if left else ""
    return (
        f"Not tested: {attacks}attackers who change the training data or see the training itself, other kinds of "
        "leakage (reconstruction, attributes, properties of the data set), and records of other sources."
    )
