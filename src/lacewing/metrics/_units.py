"""What is replicated: seeds, or, where two seeds train on complementary halves of the records, their cuts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lacewing.metrics._checks import Estimate, Floats
from lacewing.metrics._seeds import FEWEST_SEEDS, mean_over_seeds


@dataclass(frozen=True)
class Units:
    """The seeds of a study, in groups that share one cut of the records; a group counts once."""

    groups: tuple[tuple[int, ...], ...]
    unit: Literal["seed", "cut"]

    @classmethod
    def of(cls, seeds: Iterable[int], *, halves: bool) -> Units:
        """Under random halves seeds 2j and 2j + 1 are one group, else each seed is one."""
        groups: dict[int, list[int]] = {}
        for seed in sorted(seeds):
            groups.setdefault(seed // 2 if halves else seed, []).append(seed)
        return cls(tuple(map(tuple, groups.values())), "cut" if halves else "seed")

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def enough(self) -> bool:
        """Whether they allow a verdict."""
        return len(self) >= FEWEST_SEEDS

    @property
    def text(self) -> str:
        """``3 seeds``, or ``8 cuts (16 seeds)``."""
        counted = f"{len(self)} {self.unit}{'s' * (len(self) != 1)}"
        seeds = sum(map(len, self.groups))
        return f"{counted} ({seeds} seed{'s' * (seeds != 1)})" if self.unit == "cut" else counted

    def within(self, seeds: Iterable[int]) -> Units:
        """The same groups of these seeds alone."""
        there = set(seeds)
        kept = (tuple(seed for seed in group if seed in there) for group in self.groups)
        return Units(tuple(group for group in kept if group), self.unit)

    def average(self, values: Mapping[int, float]) -> Floats:
        """The mean of each group; every seed must have a value."""
        return np.array([math.fsum(values[seed] for seed in group) / len(group) for group in self.groups])

    def mean(self, values: Mapping[int, float]) -> float:
        """The mean over the groups."""
        return float(self.average(values).mean())

    def interval(self, values: Mapping[int, float], confidence: float = 0.95) -> Estimate | None:
        """The mean with its t interval; None where they do not allow a verdict, or all are the same."""
        if not self.enough or not spread(self.average(values)):
            return None
        return mean_over_seeds(self.average(values), confidence)

    def over_records(self, by_seed: Mapping[int, Estimate]) -> Estimate:
        """The mean of the seeds' own values, and of the ends of their intervals over records."""
        return Estimate(*(self.mean({seed: e[i] for seed, e in by_seed.items()}) for i in range(3)))

    def estimate(self, by_seed: Mapping[int, Estimate], most: float = 1.0) -> tuple[Estimate, str]:
        """The mean of a share with its interval, cut to 0..``most``, and what that is over.

        That is t over the groups; with fewer than three, or where all are the same, the mean of the seeds' own
        intervals over records. The networks of several seeds share records, so that pooling these would be too narrow.
        """
        found = self.interval({seed: e.value for seed, e in by_seed.items()})
        if found is not None:
            return Estimate(found.value, max(found.low, 0.0), min(found.high, most)), f"t over {self.text}"
        why = alike(self.unit) if self.enough else "the spread over seeds left out"
        return self.over_records(by_seed), f"over records, {why}"

    def rows(self, seeds: Sequence[int]) -> Floats:
        """What each of these seeds weighs in the mean over the groups, as (len(seeds),) weights that sum to 1.

        A seed that occurs several times shares its weight among the occurrences.
        """
        share = {seed: 1 / len(self) / len(group) for group in self.groups for seed in group}
        counted = {seed: seeds.count(seed) for seed in set(seeds)}
        return np.array([share[seed] / counted[seed] for seed in seeds])


def alike(unit: str) -> str:
    """Why a mean of three seeds or more has no interval over them."""
    return f"the {unit}s do not differ"


def spread(values: Floats) -> bool:
    """Whether values differ by more than rounding: of equal ones no test over seeds can be made."""
    return float(np.ptp(values)) > 1e-12 * max(1.0, float(np.abs(values).max()))


def shared(seeds: Sequence[Iterable[int]]) -> list[int]:
    """The seeds that every one has, ascending."""
    return sorted(set.intersection(*map(set, seeds))) if seeds else []
