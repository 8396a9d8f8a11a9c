"""Several initialisations on one split, averaged: whatever counts seeds sees one network for each seed and role.

The networks of one split share their members, so that they are no repeats of each other. The mean of a measure over
them is what the seed measures; the seed stays the unit of replication.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Estimate, Floats
from lacewing.results import AttackResult, NetworkResult

_MEANS = ("density", "density_prunable", "train_accuracy", "test_accuracy")
_LATER = ("clean_test_accuracy", "holdout_accuracy", "population_accuracy")  # each may be None


@dataclass(frozen=True)
class _Averaged(AttackResult):
    """The mean of one attack over initialisations. ``hit_N`` and ``correct_N`` are shares of them, 0..1."""

    runs: tuple[AttackResult, ...] = ()  # one for each initialisation; other arrays are those of the first

    def roc(self) -> tuple[Floats, Floats]:
        """At each false-positive rate of any run the mean of the largest true-positive rates reached up to it."""
        rocs = [run.roc() for run in self.runs]
        fpr = np.unique(np.concatenate([one for one, _ in rocs]))
        tpr = [of[np.searchsorted(one, fpr, side="right") - 1] for one, of in rocs]
        return fpr, np.mean(tpr, axis=0)


def networks_over_inits(networks: Iterable[NetworkResult]) -> list[NetworkResult]:
    """One network for each name, role and seed: the mean of its initialisations, under the first one's id.

    Accuracies and densities are means, None where one is missing; counts are rounded means, and the training curve is
    the first one's.
    """
    grouped: dict[tuple[str, str, int], list[NetworkResult]] = {}
    for network in networks:
        grouped.setdefault((network.network, network.role, network.seed), []).append(network)
    return [_network(sorted(of, key=lambda n: n.init)) for of in grouped.values()]


def attacks_over_inits(attacks: Iterable[AttackResult]) -> list[AttackResult]:
    """One result for each attack, network, role and seed: the mean of its initialisations.

    A metric is the mean of theirs, and so are both ends of its interval over records: the standard deviation of a mean
    is at most the mean of standard deviations, so that the interval is as wide as it has to be or wider. Where one
    refused the metric there is none. A seed with one initialisation keeps its result as it is.

    Raises:
        UsageError: an initialisation was given twice, or two of one split were not attacked on the same records.
    """
    grouped: dict[tuple[str, str, str, int], list[AttackResult]] = {}
    for result in attacks:
        n = result.network
        grouped.setdefault((result.attack, n.network, n.role, n.seed), []).append(result)
    return [_attack(sorted(of, key=lambda r: r.network.init)) for of in grouped.values()]


def _network(of: Sequence[NetworkResult]) -> NetworkResult:
    first = of[0]
    if len(of) == 1:
        return replace(first, init=0) if first.init else first
    changed: dict[str, Any] = {name: fmean(getattr(n, name) for n in of) for name in _MEANS}
    changed |= {name: _mean([getattr(n, name) for n in of]) for name in _LATER}
    changed |= {name: round(fmean(getattr(n, name) for n in of)) for name in ("parameters", "nonzero")}
    return replace(first, init=0, **changed)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _attack(of: Sequence[AttackResult]) -> AttackResult:
    first, inits = of[0], [r.network.init for r in of]
    if len(set(inits)) < len(inits):
        twice = next(r for r in of if inits.count(r.network.init) > 1)
        raise UsageError(
            f"{twice.network.id}: give one result of the attack for each target network, seed and initialisation."
        )
    network = _network([r.network for r in of])
    if len(of) == 1:
        return first if network is first.network else replace(first, network=network)
    found: dict[str, Estimate | None] = {}
    for name in first.metrics:
        each = [r.metrics.get(name) for r in of]
        known = [e for e in each if e is not None]
        found[name] = Estimate(*(fmean(ends) for ends in zip(*known, strict=True))) if len(known) == len(of) else None
    kept = {name: getattr(first, name) for name in AttackResult.__dataclass_fields__}
    shares: dict[str, Any] = {name: _share(of, name) for name in ("hit_N", "correct_N")}
    return _Averaged(**{**kept, "network": network, "metrics": found, **shares}, runs=tuple(of))


def _share(of: Sequence[AttackResult], name: str) -> npt.NDArray[Any]:
    """The mean over initialisations of what is true or false of each record; empty where one has none."""
    columns = [getattr(r, name) for r in of]
    if not all(len(column) for column in columns):
        return np.zeros(0)
    if not all(np.array_equal(r.record_N, of[0].record_N) for r in of):
        raise UsageError(
            f"{of[0].network.id} and {of[-1].network.id} were not attacked on the same records: attack both again."
        )
    mean: npt.NDArray[np.float64] = np.mean(columns, axis=0)
    return mean
