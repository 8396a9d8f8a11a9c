"""What a trade-off consists of: networks beside the dense one of their seed, slopes, differences between families."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lacewing.metrics import Detectable, Estimate, Ratio
from lacewing.results import STOPPED, Kind, is_sparse
from lacewing.tradeoff._paper import Against

PAPER_SLOPE = 3.6
PAPER_BAND = (0.034, 0.173)  # densities, as the paper rounds them
BAND_TOLERANCE = 0.0005
EXPLORATORY = "exploratory: not declared before the study ran, and not corrected for multiple comparisons"
NOT_TESTED = "nothing is tested before every planned attack has run"
NO_SPREAD = "no interval: the seeds do not differ"
NO_INTERVAL = "no interval: the records are not at hand"  # of fewer than three seeds, read from results.csv
Regressor = Literal["test accuracy", "train accuracy"]
At = Literal["accuracy", "density"]
Verdict = Literal[
    "not finished",
    "no network in the band",
    "no trade-off measurable",
    "fewer than three seeds",
    "no loss measured",
    "slope not resolved",
    "slope resolved",
]
AnswerVerdict = Literal["leaks less", "leaks more", "no measurable difference", "no common accuracy", "no verdict"]


class Spread(NamedTuple):
    """A quantity over n seeds; sd (n - 1 in the denominator) is None for a single seed."""

    mean: float
    min: float
    max: float
    sd: float | None
    n: int
    low: float | None = None  # 95 %, t over seeds (or cuts); None: fewer than three
    high: float | None = None


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
    family: str = ""
    kind: Kind | None = None
    population_accuracy: Spread | None = None

    @property
    def sparse(self) -> bool:
        """See `lacewing.results.is_sparse`."""
        return is_sparse(self.method, self.kind)

    @property
    def stopped(self) -> bool:
        """Whether it is the dense network observed before its training's end."""
        return self.method == STOPPED

    @property
    def control(self) -> bool:
        """Whether it is a control: neither sparse nor the dense network that the others are measured against."""
        return self.kind == "control" and not self.stopped


@dataclass(frozen=True)
class Slope:
    """Mean relative gain over mean relative loss of the networks of the band that every seed has."""

    method: str  # "all" or a method
    ratio: Ratio | None  # None: not defined; an end that is None is no bound
    interval: str  # what the ratio's set is over, or `NO_INTERVAL`, or `NO_SPREAD`
    mean_loss: Estimate | None
    mean_gain: Estimate | None
    # gain - 3.6 loss, mean over seeds with its t interval and p: where 0 is inside, the paper's slope is not excluded.
    # None where nothing is tested: fewer than three seeds, an attack at chance, 3.6 beyond the cap of the gain.
    beside_paper: Estimate | None
    p_paper: float | None
    least_squares: float | None  # through the origin over all points; noise in the loss pulls it toward zero
    by_seed: Mapping[int, float | None]
    networks: tuple[str, ...]
    seeds: int  # or cuts, where seeds share one
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Match:
    """A sparse network beside others of its seed at equal test accuracy or density; differences are sparse - other.

    A description, point by point: which of many noisy points is met depends on noise, so it carries no verdict.
    """

    network: str
    method: str
    density: float
    at: At
    against: Against
    balanced_accuracy: float  # of the attack on the sparse network, mean over its seeds
    test_accuracy: float
    difference: float  # in the attack's balanced accuracy, mean over seeds; below 0: the sparse network leaks less
    test_difference: float  # in test accuracy; at equal accuracy 0 but where `beyond`
    by_seed: Mapping[int, float]  # the difference of each seed
    where: Mapping[int, float]  # the epoch, or the density, that the sparse network was compared with: the first
    # The same at the last epoch, or density, of that accuracy: another one where accuracy does not only rise.
    last_difference: float
    last_by_seed: Mapping[int, float]
    last_where: Mapping[int, float]
    beyond: tuple[
        int, ...
    ]  # seeds in which nothing on the other side is equally accurate, or equally dense: the nearest

    @property
    def one_place(self) -> bool:
        """Whether the first and the last place are the same in every seed."""
        return all(math.isclose(place, self.last_where[seed]) for seed, place in self.where.items())


@dataclass(frozen=True)
class Difference:
    """The difference in one metric, first family - second, at equal accuracy; exploratory unless it was declared."""

    family: str
    against: str
    metric: str  # as results name it: "balanced_accuracy", "auc", "tpr_at_fpr_0.01"
    at: Regressor
    recipes: tuple[str, ...]  # of the first family, kept at common accuracy
    against_recipes: tuple[str, ...]
    kept: bool  # whether enough recipes have a common accuracy
    seeds: int  # or cuts, see `unit`
    unit: Literal["seed", "cut"]
    value: float | None  # by the quadratic curve; None: see `reason`
    # With the hull of both curve shapes' 95 % intervals over seeds. None where nothing is tested, as are all below.
    estimate: Estimate | None
    p: float | None
    p_less: float | None  # one-sided
    p_more: float | None
    detectable: Detectable | None
    descriptive: bool  # can never carry a verdict: snapshots of a schedule, or not at equal test accuracy
    reason: str | None  # why there is no value, or nothing is tested, or what else was tested
    # What the p are of. "leak": leak at equal accuracy. "both": accuracy at equal leak too, since leak may be no
    # function of accuracy. "neither": both are no functions, every p is 1. None: nothing is tested.
    direction: Literal["leak", "both", "neither"] | None = None


@dataclass(frozen=True)
class Answer:
    """What a declared comparison found."""

    primary: bool
    family: str
    against: str
    metric: str  # as declared, "lira.tpr@0.01"
    differences: tuple[Difference, ...]  # one for each family that it is compared with
    p: float | None
    p_corrected: float | None  # Holm's over the declared list; of the primary question the same as p
    verdict: AnswerVerdict
    sentence: str


@dataclass(frozen=True)
class Explained:
    """How much of the leak train accuracy explains over networks, and what the method adds to it."""

    least_train_accuracy: float  # networks below are left out
    networks: int
    r_squared: float  # of a quadratic in train accuracy
    method_adds: float  # to the explained share, one constant for each method; adjusted for the number of coefficients
    coefficients: tuple[float, float, float]  # constant, linear, quadratic, in train accuracy
    sentence: str


@dataclass(frozen=True)
class TradeOff:
    """What a study says about one attack: see the module for the formulas."""

    attack: str
    band: tuple[float, float]
    seeds: tuple[int, ...]  # those that have a dense network
    unit: Literal["seed", "cut"]  # what is replicated; a cut: two seeds on complementary halves of the records
    replicates: int
    interval: str  # what intervals are over
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
    differences: tuple[Difference, ...]  # family against family at equal accuracy
    power: Detectable | None  # smallest difference in A between a sparse and the dense network that the seeds tell
    power_sentence: str
    explained: Explained | None
    matches: tuple[Match, ...]  # point by point: against the dense network stopped early, and butterfly against IMP
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """An answer to "I can afford to lose p % of accuracy: which network?"."""

    point: Point
    percent: float
    sentence: str
    beside: Point | None = None  # the best within the same loss of the other side: of sparse families, or of all others


SHORT = ".3g"  # how sentences quote an estimate
CHANGE = "+z.3f"  # how sentences and tables quote a difference: with its sign, never -0.000


def show_slope(slope: Slope) -> str:
    """A slope with its set, where it has one."""
    if slope.ratio is None or slope.ratio.value is None:
        return "none"
    bare = slope.interval in (NO_INTERVAL, NO_SPREAD, NOT_TESTED)
    return f"{slope.ratio.value:.3g}" if bare else show_ratio(slope.ratio)


def show_change(value: float) -> str:
    """A difference in A, an AUC or a rate, with its sign."""
    return f"{value:{CHANGE}}"


def show_ratio(ratio: Ratio) -> str:
    """A ratio with its set, whole: an end that the set does not have is said."""
    if ratio.value is None:
        return "none"
    if ratio.low is not None and ratio.high is not None:
        return Estimate(ratio.value, ratio.low, ratio.high).text(SHORT)
    return f"{ratio.value:.3g} [{'no bound' if ratio.low is None else f'at least {ratio.low:.3g}'}]"
