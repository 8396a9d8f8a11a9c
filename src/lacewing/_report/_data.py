"""What a report is made from, and the groupings that its figures, sentences and tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lacewing.results import AttackResult, Estimate, NetworkResult
from lacewing.tradeoff import BAND_TOLERANCE, PAPER_BAND, Spread, TradeOff


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows. Densities, accuracies and metrics are shares; a report prints them in per cent."""

    study: Mapping[str, Any]  # resolved, as in the run folder
    networks: Sequence[NetworkResult]  # both roles, with their curves
    attacks: Sequence[AttackResult]
    tradeoff: TradeOff | None  # None: no attack has run yet
    failures: Sequence[str]  # signatures of a result that must be read with care, one sentence each
    environment: Mapping[str, str]  # versions and machine
    jobs_failed: Sequence[str]
    command: str  # runs or continues the study
    data_digest: str  # SHA-256 of the data set
    missing: int  # planned networks that are not trained yet


@dataclass(frozen=True)
class Series:
    """The target networks of one name, one per seed."""

    network: str
    method: str
    density: float
    accuracy: Mapping[int, float]  # by seed: test accuracy
    attacked: Mapping[int, AttackResult]  # by seed: the leading attack

    @property
    def in_band(self) -> bool:
        """Whether the density lies where the paper states its slope."""
        return PAPER_BAND[0] - BAND_TOLERANCE <= self.density <= PAPER_BAND[1] + BAND_TOLERANCE

    def metric(self, name: str) -> dict[int, Estimate]:
        """The metric by seed, without those that n refused."""
        found = {seed: attack.metrics.get(name) for seed, attack in self.attacked.items()}
        return {seed: estimate for seed, estimate in found.items() if estimate is not None}


def leading_attack(data: ReportData) -> str | None:
    """The attack that headline and figures are about: the trade-off's."""
    return data.tradeoff.attack if data.tradeoff is not None else None


def series(data: ReportData) -> list[Series]:
    """Target networks by name: dense first, then by method and falling density."""
    lead = leading_attack(data)
    attacked: dict[str, dict[int, AttackResult]] = {}
    for attack in data.attacks:
        if attack.attack == lead and attack.network.role == "target":
            attacked.setdefault(attack.network.network, {}).setdefault(attack.network.seed, attack)
    names: dict[str, list[NetworkResult]] = {}
    for network in data.networks:
        if network.role == "target":
            names.setdefault(network.network, []).append(network)
    found = [
        Series(
            network=name,
            method=members[0].method,
            density=fmean(m.density for m in members),
            accuracy={m.seed: m.test_accuracy for m in sorted(members, key=lambda m: m.seed)},
            attacked=dict(sorted(attacked.get(name, {}).items())),
        )
        for name, members in names.items()
    ]
    return sorted(found, key=lambda s: (s.method != "dense", s.method != "imp", s.method, -s.density, s.network))


def seeds_of(data: ReportData) -> list[int]:
    """The seeds that have a trained target network."""
    return sorted({n.seed for n in data.networks if n.role == "target"})


def percent(share: float, digits: int = 1) -> str:
    """``0.1234`` as ``12.3 %``, with a narrow no-break space and a true minus sign."""
    return f"{_number(100 * share, digits)}\u202f%"


def percent_range(low: float, high: float, digits: int = 1) -> str:
    """``(0.1, 0.2)`` as ``10.0 to 20.0 %``."""
    return f"{_number(100 * low, digits)} to {_number(100 * high, digits)}\u202f%"


def number(value: float, digits: int = 3) -> str:
    """A plain number with a true minus sign."""
    return _number(value, digits)


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return ("" if float(text) == 0 else "\u2212" if value < 0 else "") + text.lstrip("-")


def spread_text(spread: Spread, digits: int = 1) -> str:
    """A mean in per cent with its range over seeds, where there is more than one."""
    over = f" ({percent_range(spread.min, spread.max, digits)} over {spread.n} seeds)" if spread.n > 1 else ""
    return percent(spread.mean, digits) + over


def density_text(density: float) -> str:
    """A density in per cent: one decimal from 1 % on, two below."""
    return "100\u202f%" if density >= 0.9995 else percent(density, 1 if density >= 0.01 else 2)


def label_of(name: str, method: str) -> str:
    """How a person names a network: ``imp-03`` is IMP 3, ``butterfly-s3-l2`` is butterfly S3 L2."""
    if method == "imp" and name.startswith("imp-"):
        return f"IMP {name[4:].lstrip('0') or '0'}"
    if method == "butterfly" and name.startswith("butterfly-"):
        return f"butterfly {name[10:].replace('-', ' ').upper()}"
    return name


def seeds_text(seeds: Sequence[int]) -> str:
    """``seed 0`` or ``seeds 0, 1, 2``."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def n_text(data: ReportData) -> str:
    """``n = 1,000 members and 1,000 non-members per network``."""
    if not data.attacks:
        return "no attack yet"
    members, others = {a.n_members for a in data.attacks}, {a.n_nonmembers for a in data.attacks}

    def span(counts: set[int]) -> str:
        return "\u2013".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))

    return f"n\u00a0=\u00a0{span(members)} members and {span(others)} non-members per network"
