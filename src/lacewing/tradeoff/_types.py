"""What a trade-off consists of: networks beside the dense one of their seed, slopes, and an answer to a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lacewing.metrics import Estimate

PAPER_SLOPE = 3.6
PAPER_BAND = (0.034, 0.173)  # densities, as the paper rounds them
BAND_TOLERANCE = 0.0005
SEEDS_TO_BOOTSTRAP = 5  # from so many seeds on the interval is over seeds, below over records
At = Literal["accuracy", "density"]
Against = Literal["early-stopped", "imp"]
MatchVerdict = Literal["leaks less", "leaks more", "depends on where", "no measurable difference", "no counterpart"]
Verdict = Literal["no network in the band", "no trade-off measurable", "slope not resolved", "slope resolved"]


class Spread(NamedTuple):
    """A quantity over n seeds; sd (n - 1 in the denominator) is None for a single seed."""

    mean: float
    min: float
    max: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Pair:
    """A network beside the dense network of its seed."""

    network: str
    method: str
    seed: int
    density: float
    relative_loss: float  # -(acc - acc0)/acc0
    relative_gain: float  # (D - D0)/D0
    in_band: bool


@dataclass(frozen=True)
class Point:
    """A network over all its seeds. The relative quantities are None where no seed has its dense network."""

    network: str
    method: str
    density: Spread
    test_accuracy: Spread
    defence: Spread
    advantage: Spread
    relative_loss: Spread | None
    relative_gain: Spread | None
    in_band: bool


@dataclass(frozen=True)
class Slope:
    """Least squares through the origin of relative gain on relative loss over the networks of the band."""

    method: str  # "all" or a method
    estimate: Estimate | None  # sum(gain loss)/sum(loss^2); None: not defined
    mean_loss: Estimate | None
    by_seed: Mapping[int, float | None]
    networks: int  # points of the fit: networks times seeds
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Match:
    """A sparse network beside others of its seed at equal test accuracy or density; differences are sparse - other."""

    network: str
    method: str
    density: float
    at: At
    against: Against
    balanced_accuracy: float  # of the attack on the sparse network, mean over its seeds
    test_accuracy: float
    difference: Estimate  # in the attack's balanced accuracy; below 0: the sparse network leaks less
    test_difference: Estimate  # in test accuracy; at equal accuracy 0 but where `beyond`
    interval: str  # what the intervals were drawn over
    by_seed: Mapping[int, float]  # the difference of each seed
    where: Mapping[int, float]  # the epoch, or the density, that the sparse network was held against: the first
    # The same at the last epoch, or density, of that accuracy: another one where accuracy does not only rise.
    last_difference: Estimate
    last_where: Mapping[int, float]
    beyond: tuple[int, ...]  # seeds in which nothing on the other side is just as accurate, or as dense: the nearest
    # "depends on where": first and last disagree; "no counterpart": the nearest differs in accuracy beyond its
    # interval, or in density.
    verdict: MatchVerdict
    sentence: str

    @property
    def one_place(self) -> bool:
        """Whether the first and the last place are the same in every seed; in draws they may still differ."""
        return all(math.isclose(place, self.last_where[seed]) for seed, place in self.where.items())


@dataclass(frozen=True)
class TradeOff:
    """What a study says about one attack: see the module for the formulas."""

    attack: str
    band: tuple[float, float]
    seeds: tuple[int, ...]  # those that have a dense network
    interval: str  # what the intervals of slopes and losses were drawn over
    dense_balanced_accuracy: Estimate | None  # A0
    dense_records: int  # records behind A0, all seeds together
    cap: Estimate | None  # (A0 - 1/2)/(1 - A0): no relative gain in defence is larger while A >= 1/2
    cap_sentence: str
    slope: Slope  # all methods together
    slopes: tuple[Slope, ...]  # each method by itself
    pairs: tuple[Pair, ...]
    points: tuple[Point, ...]
    pareto: tuple[str, ...]  # networks that none beats in mean test accuracy and mean defence, best accuracy first
    dominated: Mapping[str, str]  # butterfly network -> IMP network with higher mean accuracy and higher mean defence
    matches: tuple[Match, ...]  # at equal accuracy: against the dense network stopped early, and butterfly against IMP
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """An answer to "I can afford to lose p % of accuracy: which network?"."""

    point: Point
    percent: float
    sentence: str


def show(e: Estimate) -> str:
    """An estimate with its interval, as sentences quote it."""
    return f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]"
