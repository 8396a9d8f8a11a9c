"""What a trade-off knows by name: the paper's two kinds of sparse networks, compared with each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from lacewing.results import STOPPED, AttackResult

if TYPE_CHECKING:
    from lacewing.tradeoff._types import Point

IMP: Final = "imp"
BUTTERFLY: Final = "butterfly"
Against = Literal["early-stopped", "imp"]  # what a sparse network is compared with point by point

_ORDER = ("dense", IMP, BUTTERFLY, STOPPED)


def ordered(methods: Iterable[str]) -> list[str]:
    """Each method once: those of the package first, then others in the order in which they are given."""
    return sorted(dict.fromkeys(methods), key=lambda method: _ORDER.index(method) if method in _ORDER else len(_ORDER))


def imp_levels(results: Sequence[AttackResult]) -> list[AttackResult]:
    """The levels of the IMP sequence, the sparsest first; of several, those of the one called "imp", or none."""
    sequences: dict[str, list[AttackResult]] = {}
    for r in results:
        if r.network.method == IMP:
            sequences.setdefault(r.network.network.rpartition("-")[0], []).append(r)
    levels = next(iter(sequences.values())) if len(sequences) == 1 else sequences.get(IMP, [])
    return sorted(levels, key=lambda r: r.network.density)


def dominated(points: Sequence[Point]) -> dict[str, str]:
    """Each butterfly network below an IMP network in mean accuracy and mean defence, and the best such IMP network."""
    imp = sorted((p for p in points if p.method == IMP), key=lambda p: -p.defence.mean)
    found = {}
    for b in (p for p in points if p.method == BUTTERFLY):
        better = [
            p.network for p in imp if p.test_accuracy.mean > b.test_accuracy.mean and p.defence.mean > b.defence.mean
        ]
        if better:
            found[b.network] = better[0]
    return found
