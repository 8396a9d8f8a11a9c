"""The sortable table of networks: both roles, every metric with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lacewing.metrics import clopper_pearson
from lacewing.reporting._data import ReportData, density_text, leading_attack, number, percent, realised
from lacewing.reporting._looks import Key
from lacewing.results import LABELS, AttackResult, NetworkResult, repeat
from lacewing.tradeoff import ordered


class Cell(NamedTuple):
    """What is shown, its interval, the value it sorts by ("" sorts last), and what is said under the pointer."""

    text: str
    interval: str = ""
    sort: str = ""
    tip: str = ""


class TableRow(NamedTuple):
    """A network and the leading attack on it, if any."""

    role: str
    key: Key
    cells: list[Cell]


class Table(NamedTuple):
    """Column titles, each with whether it is numeric, the rows, and the attack's variant where all rows share it."""

    columns: list[tuple[str, bool]]
    rows: list[TableRow]
    variant: str


def networks(data: ReportData) -> Table:
    """A row per network, with the leading attack; shadow networks and networks not attacked yet have dashes.

    The other attacks are in the matrix, and all their numbers in results.csv.
    """
    clean = any(n.clean_test_accuracy is not None for n in data.networks)
    holdout = any(n.holdout_accuracy is not None for n in data.networks)
    inits = any(n.init for n in data.runs.networks)
    columns = [
        ("Network", False),
        ("Role", False),
        ("Seed.init" if inits else "Seed", True),
        ("Density", True),
        ("Test accuracy", True),
    ]
    columns += [(title, True) for title in LABELS.values()]
    columns += [("Train accuracy", True)]
    population = any(n.population_accuracy is not None for n in data.networks)
    columns += [("Clean test accuracy", True)] * clean + [("Held-out accuracy", True)] * holdout
    columns += [("Population accuracy", True)] * population
    private = any(n.privacy is not None for n in data.networks)
    columns += [("Epsilon (DP-SGD)", True)] * private
    columns += [("Prunable density", True), ("Non-zero", True), ("n (members + others)", True), ("Attack", False)]

    lead = leading_attack(data)
    attacked: dict[str, list[AttackResult]] = {}
    every, found = data.runs.networks or data.networks, data.runs.attacks or data.attacks
    for attack in found:
        if attack.attack == lead:
            attacked.setdefault(attack.network.id, []).append(attack)
    # Target and shadow sets of a study have the same sizes, so any attack on the seed tells n.
    sizes = {a.network.seed: (a.n_members, a.n_nonmembers) for a in data.attacks}
    methods = ordered(n.method for n in every)
    variants = {result.variant for of in attacked.values() for result in of}
    rows = []
    for network in sorted(every, key=lambda n: _place(n, methods)):
        for result in attacked.get(network.id, [None]):
            cells = _cells(data, network, result, sizes.get(network.seed), clean, holdout, population, private)
            rows.append(TableRow(network.role, data.key(network.method, network.kind), cells))
    if len(variants) != 1:
        return Table(columns, rows, "")
    return Table(columns[:-1], [row._replace(cells=row.cells[:-1]) for row in rows], *variants)


def _place(n: NetworkResult, methods: Sequence[str]) -> tuple[bool, bool, int, bool, str, int, int]:
    """Targets before shadows and by method, controls of a method after its others; then all early stops, by epoch."""
    rank = len(n.curve) if n.stopped else methods.index(n.method)
    return n.stopped, n.role != "target", rank, n.kind == "control", n.network, n.seed, n.init


def _cells(
    data: ReportData,
    network: NetworkResult,
    result: AttackResult | None,
    size: tuple[int, int] | None,
    clean: bool,
    holdout: bool,
    population: bool,
    private: bool,
) -> list[Cell]:
    # Records held out for tuning were not trained on, so the train accuracy's n is not the number of members.
    n_train = size[0] if size and network.holdout_accuracy is None else None
    n_test = size[1] if size else None
    cells = [
        Cell(
            data.label(network.network, network.method),
            "control" if network.kind == "control" and not network.stopped else "",
            network.network,
        ),
        Cell(network.role, sort=network.role),
        Cell(seed := repeat(network.seed, network.init), sort=seed),
        Cell(density_text(network.density), sort=_sorted(network.density)),
        _share(network.test_accuracy, n_test),
    ]
    cells += [Cell("–") if result is None else _estimate(result, m) for m in LABELS]
    cells.append(_share(network.train_accuracy, n_train))
    cells += [_share(network.clean_test_accuracy, n_test)] * clean + [_share(network.holdout_accuracy, None)] * holdout
    cells += [_share(network.population_accuracy, None)] * population
    cells += [_epsilon(network)] * private
    cells.append(Cell(density_text(network.density_prunable), sort=_sorted(network.density_prunable)))
    cells.append(Cell(f"{network.nonzero:,}", f"of {network.parameters:,}", str(network.nonzero)))
    if result is None:
        return [*cells, Cell("–"), Cell("–")]
    n = result.n_members + result.n_nonmembers
    cells.append(Cell(f"{result.n_members:,} + {result.n_nonmembers:,}", sort=str(n)))
    return [*cells, Cell(result.attack, result.variant, f"{result.attack} {result.variant}")]


def _sorted(value: float) -> str:
    """A number as its column sorts it."""
    return f"{value:.7g}"


def _estimate(result: AttackResult, metric: str) -> Cell:
    estimate = result.metrics.get(metric)
    if estimate is None:
        return Cell("–", "n too small" if metric.startswith("tpr_at_fpr") else "no decisions")
    value, low, high = estimate
    if metric == "auc":
        return Cell(number(value), f"{number(low)} to {number(high)}", _sorted(value))
    ends = f"{_digits(low)} to {_digits(high)}"
    reached = realised({result.network.seed: result}, metric).removeprefix(", ")
    return Cell(percent(value), ends, _sorted(value), f"realised {reached}" if reached else "")


def _epsilon(network: NetworkResult) -> Cell:
    """Epsilon, below it delta; the whole sentence under the pointer."""
    if network.privacy is None:
        return Cell("–")
    if network.epsilon is None:
        return Cell("none", "clipping alone", tip=str(network.privacy))
    return Cell(f"{network.epsilon:.4g}", f"at delta {network.delta:g}", _sorted(network.epsilon), str(network.privacy))


def _digits(share: float) -> str:
    return percent(share).removesuffix("\u202f%")


def _share(share: float | None, n: int | None) -> Cell:
    """An accuracy with its exact (Clopper-Pearson) interval where n is known."""
    if share is None:
        return Cell("–")
    interval = ""
    if n:
        low, high = clopper_pearson(round(share * n), n)
        interval = f"{_digits(low)} to {_digits(high)}"
    return Cell(percent(share), interval, _sorted(share))
