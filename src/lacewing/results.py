"""What a study found, as plain data: the rows behind results.csv, tradeoff.json and the report."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics import Estimate as Estimate
from lacewing.support.formats import read_csv
from lacewing.support.text import cell

Role = Literal["target", "shadow"]
Kind = Literal["dense", "sparse", "control"]
Trait = Literal[
    "sparse",  # the network has fewer weights than its dense version, whichever the method
    "masked",  # it has a mask: its architecture is the dense one, and pruned weights are zero
    "levels",  # it is a level of a chain that prunes step by step
]
SCHEMA = 1
_FROM_DISK = {"strict": True, "extra": "forbid", "allow_inf_nan": False}  # how pydantic reads a class of these
MARKERS: Final = "so^vD<>pPhX*dH8.x+"  # those with an area first
LABEL: Final = 60  # characters of a label
STOPPED: Final = "early-stopped"  # the method of dense networks observed before their training's end: controls


def is_sparse(method: str, kind: Kind | None = None) -> bool:
    """Whether networks of a kind have fewer parameters than the dense one; where it is not known, those of a method."""
    return method not in ("dense", STOPPED) if kind is None else kind == "sparse"


def is_baseline(method: str, kind: Kind | None = None) -> bool:
    """Whether a network is the dense one that others are measured against; if the kind is unknown, any dense one."""
    return method == "dense" if kind is None else kind == "dense"


def repeat(seed: int, init: int) -> str:
    """A seed and an initialisation on its split as ids have them: ``0``, and from the second on ``0.1``, ``0.2``."""
    return f"{seed}.{init}" if init else str(seed)


@dataclass(frozen=True, slots=True)
class Look:
    """How the networks of a method appear in figures, tables and sentences."""

    __pydantic_config__: ClassVar = _FROM_DISK

    label: str  # "IMP"
    colour: str  # "#0072b2"; of Okabe and Ito's palette, distinct with every common colour blindness
    marker: str  # one of `MARKERS`, as matplotlib draws them: says the method a second time
    sequence: bool = False  # whether they follow one another, as the levels of pruning do: a line joins them

    def __post_init__(self) -> None:
        """Refuse what no figure can show.

        Raises:
            ValueError: it begins with the name of the field.
        """
        if not 1 <= len(self.label) <= LABEL:
            raise ValueError(f"label: {self.label!r:.60} has {len(self.label)} characters; give 1 to {LABEL}")
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.colour):
            raise ValueError(f"colour: {self.colour!r:.60} is no colour; write one as '#0072b2'")
        if self.marker not in tuple(MARKERS):
            raise ValueError(f"marker: {self.marker!r:.60} is unknown; choose one of {' '.join(MARKERS)}")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of training: mean cross-entropy and accuracy over the batches as they were trained on.

    The loss is without label smoothing. Under mixup both are of mixed records, whose two labels count by their shares.
    """

    __pydantic_config__: ClassVar = _FROM_DISK

    epoch: int
    loss: float
    accuracy: float
    lr: float


@dataclass(frozen=True, slots=True)
class Privacy:
    """What DP-SGD guarantees each record of a training set, or that it guarantees nothing."""

    noise: float  # standard deviation of the noise over the clipping norm
    epsilon: float | None = None  # None: no guarantee
    delta: float | None = None
    trainings: int = 1  # on the same records, whose guarantees add up

    def __str__(self) -> str:
        if self.epsilon is None or self.delta is None:
            return "no guarantee: gradients are clipped, and no noise is added to them"
        epsilon = metrics.rounded_up(self.epsilon, 4)
        told = f"epsilon {epsilon:.4g} at delta {self.delta:g} (noise multiplier {self.noise:.4g}"
        told += f", {self.trainings} trainings)" if self.trainings > 1 else ")"
        # An audit's members and non-members are of training sets of one size, so that a record is replaced.
        most = metrics.most_tpr(*metrics.dp_replaced(self.epsilon, self.delta), 0.01)
        limit = f"at 1 % FPR it allows an attack a TPR of at most {100 * most:.3g} %"
        if most >= 0.9995:
            limit = "it is too large to exclude any attack: at 1 % FPR it allows a TPR of 100 %"
        return f"{told}, a guarantee under the accountant's assumptions; {limit}"


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """A trained network. Accuracies are shares in 0..1 on the records of its own role."""

    __pydantic_config__: ClassVar = _FROM_DISK

    network: str  # "dense", "imp-03", "butterfly-s3-l2"
    method: str  # "dense", "imp", "butterfly", "early-stopped"
    role: Role
    seed: int
    density: float  # non-zero parameters / all parameters of the dense network, 0..1
    density_prunable: float  # the same over the weights that the method may set to zero
    parameters: int
    nonzero: int
    train_accuracy: float
    test_accuracy: float
    clean_test_accuracy: float | None = None  # against the labels before redrawing; None without label noise
    holdout_accuracy: float | None = None  # on the part of the training data held out for tuning
    # On records that no network trains on and nobody audits: the same in every seed. None: the study has none.
    population_accuracy: float | None = None
    family: str = ""  # recipes that are compared as one: a [[networks]] entry, or several that declare it
    kind: Kind | None = None  # dense: what the others are measured against; None: not known
    init: int = 0  # which initialisation and order of training on the seed's split
    # DP-SGD: the noise multiplier, 0 for clipping alone; epsilon at delta, None where there is no guarantee.
    dp_noise: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    dp_trainings: int = 1  # on the same records, which epsilon composes
    curve: tuple[Epoch, ...] = ()

    @property
    def sparse(self) -> bool:
        """See `is_sparse`."""
        return is_sparse(self.method, self.kind)

    @property
    def baseline(self) -> bool:
        """See `is_baseline`."""
        return is_baseline(self.method, self.kind)

    @property
    def stopped(self) -> bool:
        """Whether it is a dense network observed before its training's end."""
        return self.method == STOPPED

    @property
    def privacy(self) -> Privacy | None:
        """What its training guarantees; None: it was not trained by DP-SGD."""
        return None if self.dp_noise is None else Privacy(self.dp_noise, self.epsilon, self.delta, self.dp_trainings)

    @property
    def id(self) -> str:
        """The name by which a network of a run folder is addressed, e.g. ``imp-03/target/0``; see `repeat`."""
        return f"{self.network}/{self.role}/{repeat(self.seed, self.init)}"


@dataclass(frozen=True)
class AttackResult:
    """One attack on one target network: metrics with intervals, and the arrays behind them (N records)."""

    network: NetworkResult
    attack: str  # "discriminator"
    variant: str  # e.g. "mlp 30-30"
    threat_model: str
    n_members: int
    n_nonmembers: int
    metrics: Mapping[str, Estimate | None]  # None: refused, because n does not allow it
    notes: Mapping[str, Any] = field(default_factory=dict)  # e.g. the candidates and the one chosen
    record_N: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    member_N: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    # Whether the attack was right; empty for an attack that makes no decisions (its balanced accuracy is None).
    hit_N: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    correct_N: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))  # the network was right
    score_N: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # higher for members
    label_N: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # the given class
    # The network's probability of its answer.
    confidence_N: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    canary_N: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))  # empty: no canaries

    def roc(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """FPR and TPR at every threshold, from (0, 0) to (1, 1): see `lacewing.metrics.roc`. Empty without scores."""
        return metrics.roc(self.score_N, self.member_N) if self.score_N.size else (np.zeros(0), np.zeros(0))


REALISED = ("realised_fpr_0.01", "realised_fpr_0.001")  # of non-members at or above the threshold of that TPR at FPR
LABELS = {  # the metrics of an attack, as tables name them
    "balanced_accuracy": "Attack accuracy A",
    "auc": "AUC",
    "tpr_at_fpr_0.01": "TPR at 1\u202f% FPR",
    "tpr_at_fpr_0.001": "TPR at 0.1\u202f% FPR",
    "defence": "Defence D",
    "advantage": "Advantage",
    "oracle_balanced_accuracy": "Oracle A",
}
METRICS = (*LABELS, *REALISED)  # the order of results.csv; each with _low and _high


def strongest_first(results: Iterable[AttackResult]) -> list[AttackResult]:
    """Results by AUC, the highest first; equal ones by the lower end of its interval, then as they were.

    The one order in which an audit shows its attacks.
    """

    def strength(result: AttackResult) -> tuple[float, float]:
        found = result.metrics.get("auc")
        return (-math.inf, -math.inf) if found is None else (found.value, found.low)

    return sorted(results, key=strength, reverse=True)


def by_realised_fpr(results: Iterable[AttackResult], metric: str) -> list[tuple[Estimate, list[str]]]:
    """Each realised FPR with the attacks whose threshold shows it, the most common one first; none where refused.

    ``metric`` is one of the ``realised_fpr_X`` of `METRICS`. Attacks without equal scores share one.
    """
    names: dict[Estimate, list[str]] = {}
    for result in results:
        found = result.metrics.get(metric)
        if found is not None:
            names.setdefault(found, []).append(result.attack)
    return sorted(names.items(), key=lambda each: -len(each[1]))


_ABOUT = (
    "network",
    "method",
    "role",
    "seed",
    "density",
    "density_prunable",
    "parameters",
    "nonzero",
    "train_accuracy",
    "test_accuracy",
)
_ATTACK = ("attack", "variant", "threat_model", "n_members", "n_nonmembers")
_LATER = ("clean_test_accuracy", "holdout_accuracy", "population_accuracy", "family", "kind", "init")
_PRIVACY = ("dp_noise", "epsilon", "delta", "dp_trainings")  # where a network was trained by DP-SGD
_COUNTED = (*_ABOUT[3:], *_LATER[:3], "init", *_PRIVACY)  # columns of numbers
_NETWORK = TypeAdapter(NetworkResult)
_ROUNDING = 1e-9  # of the ends of intervals


def with_ends(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """A metric and the ends of its interval as three columns, ``name``, ``name_low`` and ``name_high``."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate or (None, None, None), strict=True))


def results_csv(networks: Iterable[NetworkResult], attacks: Iterable[AttackResult]) -> str:
    """results.csv: a row per network and attack; a network that no attack was run on has a row of its own.

    It holds no times, paths or machine facts, so that equal runs give equal bytes. Where a network was trained by
    DP-SGD there are the columns dp_noise, epsilon, delta and dp_trainings. Words that a spreadsheet
    would compute as a formula begin with an apostrophe.
    """
    measured = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    by_network: dict[str, list[AttackResult]] = {}
    for result in attacks:
        by_network.setdefault(result.network.id, []).append(result)
    text = io.StringIO()
    networks = list(networks)
    later = (*_LATER, *_PRIVACY) if any(network.dp_noise is not None for network in networks) else _LATER
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["schema", *_ABOUT, *_ATTACK, *measured, *later])
    for network in networks:
        for found in by_network.get(network.id, [None]):
            row = [SCHEMA, *(getattr(network, name) for name in _ABOUT)]
            row += [getattr(found, name) if found else None for name in _ATTACK]
            for metric in METRICS:
                estimate = (found.metrics.get(metric) if found else None) or (None, None, None)
                row += (None if value is None or math.isnan(value) else value for value in estimate)
            table.writerow(map(cell, [*row, *(getattr(network, name) for name in later)]))
    return text.getvalue()


def read_results_csv(path: str | Path) -> tuple[list[NetworkResult], list[AttackResult]]:
    """The networks and attacks of a results.csv, without what it does not hold: curves, notes, records and scores.

    With `lacewing.tradeoff.tradeoff` slopes, differences and their intervals over seeds are computed from it again.

    Raises:
        UsageError: it is no results.csv of this schema; the sentence names the line and the column.
        OSError: it cannot be read.
    """
    place = Path(path)
    head, *rows = read_csv(place) or [[]]
    lacking = [name for name in ("schema", *_ABOUT, *_ATTACK) if name not in head]
    if lacking:
        raise UsageError(f"{place} is no results.csv: the column {lacking[0]} is missing.")
    if twice := next((name for name in head if head.count(name) > 1), None):
        raise UsageError(f"{place} has two columns '{twice}'; leave one.")
    networks: dict[str, NetworkResult] = {}
    attacks: dict[tuple[str, str], AttackResult] = {}
    for number, cells in enumerate(rows, 2):
        if len(cells) != len(head):
            raise UsageError(f"{place}, line {number}: {len(cells)} cells under {len(head)} columns.")
        row = {name: value.removeprefix("'") for name, value in zip(head, cells, strict=True) if value != ""}
        try:
            about = {name: row[name] for name in (*_ABOUT, *_LATER, *_PRIVACY) if name in row}
            if odd := next((name for name in _COUNTED if not _plain(about.get(name, "0"))), None):
                raise ValueError(odd)
            found = _NETWORK.validate_strings(about)
            network = networks.setdefault(found.id, found)
            if row["schema"] != str(SCHEMA):
                raise ValueError("schema")
            if wrong := impossible(found):
                raise ValueError(wrong)
            if network != found:
                raise ValueError("the network's columns differ from an earlier line, which")
            if "attack" in row:
                if (found.id, row["attack"]) in attacks:
                    raise ValueError(f"a second line of the attack '{row['attack']}' on {found.id}")
                measured = {metric: _estimate(row, metric) for metric in METRICS if metric in head}
                plain = {name: row.get(name, "") for name in ("attack", "variant", "threat_model")}
                counts = {name: _whole(row[name], name) for name in ("n_members", "n_nonmembers")}
                attacks[found.id, row["attack"]] = AttackResult(network=network, metrics=measured, **plain, **counts)  # type: ignore[arg-type]
        except (ValidationError, ValueError, KeyError) as error:
            what = error.errors()[0]["loc"] if isinstance(error, ValidationError) else error
            raise UsageError(f"{place}, line {number}: {what} is not what this version writes.") from None
    return list(networks.values()), list(attacks.values())


def impossible(network: NetworkResult) -> str | None:
    """The first field that holds a number which no network has; None: all are possible. nan is none."""
    shares = ("density", "density_prunable", "train_accuracy", "test_accuracy", *_LATER[:3])
    for name in shares:
        share = getattr(network, name)
        if share is not None and not 0 <= share <= 1:
            return name
    if network.density == 0:
        return "density"
    if not 0 < network.nonzero <= network.parameters:
        return "nonzero"
    if network.delta is not None and not 0 < network.delta < 1:
        return "delta"
    if network.dp_trainings < 1:
        return "dp_trainings"
    return next((name for name in ("seed", "init", "dp_noise", "epsilon") if (getattr(network, name) or 0) < 0), None)


def _plain(text: str) -> bool:
    """Whether a number is written in digits alone: Python reads 1_0 as 10, and the digits of every script."""
    return text.isascii() and "_" not in text


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise ValueError(name)
    return int(text)


def _estimate(row: Mapping[str, str], metric: str) -> Estimate | None:
    """A metric of a row of results.csv; ends that the file leaves out are nan."""
    if metric not in row:
        return None
    cells = [row.get(f"{metric}{end}", "nan") for end in ("", "_low", "_high")]
    value, low, high = (float(cell) if _plain(cell) else math.inf for cell in cells)
    least, most = (-1.0, 1.0) if metric == "advantage" else (0.0, 2.0 if metric == "defence" else 1.0)
    if not least <= value <= most or low > value + _ROUNDING or high < value - _ROUNDING:
        raise ValueError(metric)
    return Estimate(value, low, high)
