"""How stable a study's numbers are: the spread over splits and over initialisations, collapsed networks, masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Components, variance_components
from lacewing.results import AttackResult, NetworkResult

Masks = Mapping[str, npt.NDArray[np.bool_]]  # by parameter: which weights are kept
SCHEMA = 2  # 2: variance_between; under random halves the spread over splits is that over cuts
DROP = 0.05  # least drop in test accuracy below the others of a recipe that counts as a collapse
DEVIATIONS = 5.0  # and by how many of their standard deviations
_FEWEST = 3  # other networks that tell how far a recipe spreads


@dataclass(frozen=True)
class RecipeSpread:
    """One measure of a recipe's target networks, its spread over splits and over initialisations apart."""

    network: str
    measure: str  # "test accuracy", "AUC"
    spread: Components


@dataclass(frozen=True)
class Collapse:
    """A network whose test accuracy is at chance, or far below that of the other networks of its recipe and role."""

    id: str
    test_accuracy: float
    others: float | None  # the median of the others; None: it is at chance


@dataclass(frozen=True)
class Overlap:
    """How much masks of one recipe and split share between initialisations: kept by both / kept by either."""

    network: str
    density: float  # share of the masked weights that is kept, mean
    pairs: int
    jaccard: float  # mean over the pairs
    low: float
    high: float
    random: float  # of random masks with the same counts by layer


@dataclass(frozen=True)
class Stability:
    """What several initialisations on one split tell."""

    inits: int
    attack: str | None  # whose AUC is the leak
    spreads: tuple[RecipeSpread, ...]
    collapsed: tuple[Collapse, ...]
    diverged: tuple[str, ...]  # a sentence for each network that could not be trained
    overlaps: tuple[Overlap, ...]
    dropped: int  # masks that are not there any more


def as_json(found: Stability) -> dict[str, Any]:
    """stability.json: spreads, networks that collapsed or diverged, and the overlap of masks."""
    return {
        "schema": SCHEMA,
        "inits": found.inits,
        "attack": found.attack,
        "spreads": spread_rows(found),
        "collapsed": [asdict(each) for each in found.collapsed],
        "diverged": list(found.diverged),
        "overlaps": [asdict(each) for each in found.overlaps],
        "dropped": found.dropped,
    }


def spread_rows(found: Stability) -> list[dict[str, Any]]:
    """A row for each recipe and measure."""
    return [{"network": each.network, "measure": each.measure, **each.spread._asdict()} for each in found.spreads]


def spreads(
    networks: Iterable[NetworkResult], attacks: Iterable[AttackResult], attack: str | None, *, halves: bool
) -> tuple[RecipeSpread, ...]:
    """Test accuracy and the AUC of ``attack`` of every recipe's targets, see `lacewing.metrics.variance_components`.

    Args:
        networks: all networks.
        attacks: results of all attacks.
        attack: whose AUC is the leak.
        halves: whether seeds 2j and 2j + 1 share one cut of the records, which then counts as one split.
    """
    measured: dict[tuple[str, str], dict[int, list[float]]] = {}
    for n in networks:
        if n.role == "target" and not n.stopped:
            measured.setdefault((n.network, "test accuracy"), {}).setdefault(n.seed, []).append(n.test_accuracy)
    for r in attacks:
        auc = r.metrics.get("auc")
        if r.attack == attack and r.network.role == "target" and not r.network.stopped and auc is not None:
            measured.setdefault((r.network.network, "AUC"), {}).setdefault(r.network.seed, []).append(auc.value)
    order = dict.fromkeys(network for network, _ in measured)
    return tuple(
        RecipeSpread(network, measure, _components(measured[network, measure], halves=halves))
        for network in order
        for measure in ("test accuracy", "AUC")
        if (network, measure) in measured
    )


def _components(by_seed: Mapping[int, Sequence[float]], *, halves: bool) -> Components:
    return variance_components(list(by_seed.values()), cut=[seed // 2 for seed in by_seed] if halves else None)


def collapsed(networks: Sequence[NetworkResult], classes: int) -> tuple[Collapse, ...]:
    """Networks at chance, and those far below the others of their recipe and role, whatever their seeds and inits.

    At chance: test accuracy of at most 1.5/classes, which for few classes is at most 0.05 above 1/classes. Far below:
    lower than the median of the others by more than 0.05 and more than five of their standard deviations, where there
    are at least three.
    """
    chance = min(1.5 / classes, 1 / classes + 0.05)
    alike: dict[tuple[str, str], list[NetworkResult]] = {}
    for n in networks:
        if not n.stopped:
            alike.setdefault((n.network, n.role), []).append(n)
    found = []
    for of in alike.values():
        for n in of:
            if n.test_accuracy <= chance:
                found.append(Collapse(n.id, n.test_accuracy, None))
                continue
            others = [other.test_accuracy for other in of if other is not n]
            if len(others) < _FEWEST:
                continue
            if median(others) - n.test_accuracy > max(DROP, DEVIATIONS * stdev(others)):
                found.append(Collapse(n.id, n.test_accuracy, median(others)))
    return tuple(found)


def overlap(network: str, splits: Iterable[Sequence[Masks]]) -> Overlap | None:
    """How much the masks of a recipe share, over all pairs of initialisations within a split; None: there is no pair.

    Two independent random masks that keep k and k' of a layer's n weights share k k'/n in the mean; ``random`` is the
    ratio of these means summed over layers, for the very counts of each pair.

    Args:
        network: the recipe's name.
        splits: for each split, the masks of its initialisations.
    """
    shared, chance, density = [], [], []
    for masks in splits:
        density += [_kept(mask) / sum(layer.size for layer in mask.values()) for mask in masks]
        for first, second in combinations(masks, 2):
            both = sum(int((first[name] & second[name]).sum()) for name in first)
            expected = sum(
                int(first[name].sum()) * int(second[name].sum()) / first[name].size
                for name in first
                if first[name].size
            )
            kept = _kept(first) + _kept(second)
            if not kept:  # two masks that keep nothing share nothing that could be told
                continue
            shared.append(both / (kept - both))
            chance.append(expected / (kept - expected))
    if not shared:
        return None
    return Overlap(network, fmean(density), len(shared), fmean(shared), min(shared), max(shared), fmean(chance))


def _kept(masks: Masks) -> int:
    return sum(int(mask.sum()) for mask in masks.values())
