"""Accuracy against defence: by how much sparsity lowers the leakage, and what it costs in accuracy.

Every quantity compares a network with the dense one of the SAME seed: relative loss = -(acc - acc0)/acc0 in test
accuracy, relative gain = (D - D0)/D0 in defence D = 2 (1 - A), A the attack's balanced accuracy. Gonon et al., arXiv
2304.10553 (2023), claim a gain of 3.6 times the loss for networks with 3.4 % to 17.3 % non-zero weights.

The unit of replication is the seed; several initialisations on its split are averaged first. With three seeds or more
every interval is over seeds (Student's t, Fieller's set); with fewer it is over records and carries no verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Estimate, Units, advantage, alike
from lacewing.results import SCHEMA, AttackResult, NetworkResult
from lacewing.tradeoff._afford import afford, beside_it, price_of
from lacewing.tradeoff._answers import History, Waiting, answers, question
from lacewing.tradeoff._draws import attack_accuracy, check_same_records, draws_over_records
from lacewing.tradeoff._explained import explained
from lacewing.tradeoff._families import difference, differences, families, family_of, untested
from lacewing.tradeoff._frontier import Line, Recipe, control_frontier, lines
from lacewing.tradeoff._inits import attacks_over_inits, networks_over_inits
from lacewing.tradeoff._matched import is_checkpoint_of, matches
from lacewing.tradeoff._paper import BUTTERFLY, IMP, dominated, ordered
from lacewing.tradeoff._pick import Pick, pick
from lacewing.tradeoff._points import pair_of, pareto, points_of
from lacewing.tradeoff._power import power_of
from lacewing.tradeoff._price import Price
from lacewing.tradeoff._slope import slope_of
from lacewing.tradeoff._types import (
    BAND_TOLERANCE,
    CHANGE,
    EXPLORATORY,
    PAPER_BAND,
    PAPER_SLOPE,
    SHORT,
    Answer,
    AnswerVerdict,
    Choice,
    Difference,
    Explained,
    Match,
    Pair,
    Point,
    Regressor,
    Slope,
    Spread,
    TradeOff,
    Verdict,
    show_change,
    show_ratio,
    show_slope,
)

__all__ = [
    "BAND_TOLERANCE",
    "BUTTERFLY",
    "CHANGE",
    "EXPLORATORY",
    "IMP",
    "PAPER_BAND",
    "PAPER_SLOPE",
    "SHORT",
    "Answer",
    "AnswerVerdict",
    "Choice",
    "Difference",
    "Explained",
    "History",
    "Line",
    "Match",
    "Pair",
    "Pick",
    "Point",
    "Price",
    "Recipe",
    "Regressor",
    "Slope",
    "Spread",
    "TradeOff",
    "Units",
    "Verdict",
    "Waiting",
    "afford",
    "alike",
    "answers",
    "as_json",
    "attacks_over_inits",
    "beside_it",
    "control_frontier",
    "difference",
    "families",
    "family_of",
    "is_checkpoint_of",
    "lines",
    "networks_over_inits",
    "ordered",
    "pick",
    "price_of",
    "question",
    "show_change",
    "show_ratio",
    "show_slope",
    "tradeoff",
    "tradeoffs",
    "untested",
]


def tradeoff(
    attacks: Sequence[AttackResult],
    *,
    attack: str = "discriminator",
    networks: Sequence[NetworkResult] = (),
    halves: bool = False,
    finished: bool = True,
    band: tuple[float, float] = PAPER_BAND,
    resamples: int = 2000,
    seed: int = 0,
) -> TradeOff:
    """The trade-off of the networks that ``attack`` was run on, with slopes over densities in ``band`` (inclusive).

    A seed without a usable dense network is left out of every relative quantity and named in ``notes``.

    Args:
        attacks: results on target networks; those read from results.csv, which hold no records, serve as well.
        attack: the one whose trade-off it is.
        networks: all networks; the accuracy of shadows decides which recipes are compared at equal accuracy.
        halves: whether the study is under random halves, where seeds 2j and 2j + 1 share one cut of the records: each
            such pair is averaged and counts once.
        finished: whether the attack was run on every planned network; else nothing is tested.
        band: of densities.
        resamples: bootstrap draws over records, for studies of fewer than three seeds.
        seed: of these draws.

    Raises:
        UsageError: an attack without results, results given twice, networks of one seed that were not attacked on the
            same records.
    """
    chosen, networks = _chosen(attacks, attack, band, resamples), networks_over_inits(networks)
    found = _compared(chosen)
    pairs = tuple(pair_of(r, baseline, band) for s, baseline in found.dense.items() for r in found.others[s])
    units = Units.of(found.dense, halves=halves)
    every = Units.of(found.baselines, halves=halves)
    measured = {s: e for s, r in found.baselines.items() if (e := r.metrics["balanced_accuracy"]) is not None}
    a0, interval = every.estimate(measured) if measured else (None, "no dense network")
    draws = None if units.enough else draws_over_records(found.dense, found.others, resamples, seed)
    slope, *slopes = [
        slope_of(method, names, pairs, draws, a0, units, band, finished=finished)
        for method, names in found.sparse.items()
    ]
    points = points_of(chosen, found.dense, band, units)
    cap = Estimate(*((a - 0.5) / (1 - a) for a in a0)) if a0 is not None and a0.high < 1 else None
    apart, alone = differences(families(chosen), networks, Units.of(found.by_seed, halves=halves), finished=finished)
    notes = list(found.notes)
    if alone and apart:
        notes.append(f"Families of one recipe are not compared at equal accuracy: {', '.join(sorted(alone))}.")
    power, power_sentence = power_of(found.baselines, found.others, every)
    return TradeOff(
        attack=attack,
        band=band,
        seeds=tuple(found.baselines),
        unit=units.unit,
        replicates=len(every),
        interval=interval,
        dense_balanced_accuracy=a0,
        dense_records=sum(r.n_members + r.n_nonmembers for r in found.baselines.values()),
        cap=cap,
        cap_sentence=_cap_sentence(a0, cap),
        slope=slope,
        slopes=tuple(slopes),
        pairs=pairs,
        points=points,
        pareto=pareto(points),
        dominated=dominated(points),
        differences=apart,
        power=power,
        power_sentence=power_sentence,
        explained=explained(chosen),
        matches=matches(found.by_seed, found.dense, units),
        notes=tuple(notes),
    )


def _chosen(
    attacks: Sequence[AttackResult], attack: str, band: tuple[float, float], resamples: int
) -> list[AttackResult]:
    """The results of the attack; refused where there are none, or other arguments make no sense."""
    chosen = attacks_over_inits(result for result in attacks if result.attack == attack)
    if not attacks:
        raise UsageError("There is no result of an attack to trade off: run an attack first.")
    if not chosen:
        known = {a.attack for a in attacks}
        raise UsageError(f"No result of the attack '{attack}' is here: {did_you_mean(attack, known)}")
    if not 0 <= band[0] < band[1] <= 1 or resamples < 100:
        raise UsageError(f"band = {band} and resamples = {resamples}: give 0 <= low < high <= 1 and at least 100.")
    return chosen


class _Compared(NamedTuple):
    """The results of one attack, by seed, and what they are compared with."""

    by_seed: Mapping[int, Sequence[AttackResult]]
    baselines: Mapping[int, AttackResult]  # on the dense network of the seeds that have one
    others: Mapping[int, Sequence[AttackResult]]  # of these seeds, without early stops
    dense: Mapping[int, AttackResult]  # of `baselines` those that losses and gains can be relative to
    sparse: Mapping[str, frozenset[str]]  # the names of those that slopes are of: of "all", then of each method
    notes: Sequence[str]


def _compared(chosen: Sequence[AttackResult]) -> _Compared:
    by_seed = _by_seed(chosen)
    notes: list[str] = []
    baselines = {s: found for s, results in by_seed.items() if (found := _baseline(s, results, notes)) is not None}
    others = {s: [r for r in by_seed[s] if r is not baselines[s] and not r.network.stopped] for s in baselines}
    for s, baseline in baselines.items():
        check_same_records([baseline, *others[s]])
    dense = {s: baseline for s, baseline in baselines.items() if _usable(s, baseline, notes)}
    notes += _unrelated_stops(by_seed, dense)
    networks = [r.network for s in dense for r in others[s] if r.network.sparse]
    if apart := frozenset(n.network for n in networks if _other_length(n, dense[n.seed].network)):
        notes.append(
            f"Trained for another number of epochs than the dense network, and so left out of the slope: "
            f"{', '.join(sorted(apart))}."
        )
    networks = [n for n in networks if n.network not in apart]
    sparse = {"all": frozenset(n.network for n in networks)}
    for method in ordered(n.method for n in networks):
        sparse[method] = frozenset(n.network for n in networks if n.method == method)
    return _Compared(by_seed, baselines, others, dense, sparse, notes)


def _other_length(network: NetworkResult, dense: NetworkResult) -> bool:
    """Whether it was trained for more or fewer epochs than the dense one; results.csv alone does not tell."""
    return bool(network.curve and dense.curve) and network.curve[-1].epoch != dense.curve[-1].epoch


def _unrelated_stops(by_seed: Mapping[int, Sequence[AttackResult]], dense: Mapping[int, AttackResult]) -> Iterable[str]:
    """A note for each seed whose early stops are not states of its dense network."""
    for s, baseline in dense.items():
        stops = [r for r in by_seed[s] if r.network.stopped]
        curves = any(r.network.curve for r in stops)  # which results.csv does not hold
        if curves and not any(is_checkpoint_of(r.network, baseline.network) for r in stops):
            yield (
                f"Seed {s}: the networks stopped early are not checkpoints of '{baseline.network.network}', so no "
                "network is compared with them at equal accuracy. They need the same training settings, on one machine."
            )


def tradeoffs(
    names: Iterable[str],
    attacks: Sequence[AttackResult],
    *,
    networks: Sequence[NetworkResult] = (),
    halves: bool = False,
    unfinished: Collection[str] = (),
) -> dict[str, TradeOff]:
    """The trade-off of each attack that decides about every record whether it is a member, in the order of ``names``.

    Args:
        names: attacks; those without results, and those that only rank records, are left out.
        attacks: results of all of them.
        networks: see `tradeoff`, like ``halves``.
        unfinished: attacks that were not run on every planned network.
    """
    ran = {name: [a for a in attacks if a.attack == name] for name in names}
    decided = [n for n, of in ran.items() if of and all(a.metrics["balanced_accuracy"] is not None for a in of)]
    return {
        name: tradeoff(attacks, attack=name, networks=networks, halves=halves, finished=name not in unfinished)
        for name in decided
    }


def as_json(
    tradeoff: TradeOff | None, declared: Sequence[Answer] = (), others: Mapping[str, TradeOff] | None = None
) -> dict[str, Any]:
    """The trade-off as plain JSON: dicts, lists, strings, finite numbers or None, and a ``schema`` number.

    Args:
        tradeoff: by the leading attack.
        declared: the answers to the comparisons that the study declared.
        others: by other attacks.
    """
    plain = {} if tradeoff is None else _plain(tradeoff)
    found = {"schema": SCHEMA, "paper_slope": PAPER_SLOPE, "declared": _plain(tuple(declared)), **plain}
    return found | ({"other_attacks": {name: as_json(each) for name, each in others.items()}} if others else {})


def _cap_sentence(a0: Estimate | None, cap: Estimate | None) -> str:
    if a0 is None or cap is None:
        return "The relative gain in defence has no cap that these records could show."
    return (
        f"The relative gain in defence has a limit: a network that leaks nothing (A = 1/2) gains (A0 - 1/2)/(1 - A0) = "
        f"{cap.text(SHORT)}. Beyond it a larger loss of accuracy gains no more, so no slope goes on for ever. The "
        f"advantage 2 A - 1 (dense: {advantage(a0).text(SHORT)}) falls to 0 there."
    )


def _by_seed(results: Iterable[AttackResult]) -> dict[int, list[AttackResult]]:
    grouped: dict[int, dict[str, AttackResult]] = {}
    for r in sorted(results, key=lambda r: r.network.seed):
        of_seed = grouped.setdefault(r.network.seed, {})
        if r.network.role != "target" or r.network.network in of_seed:
            raise UsageError(f"{r.network.id}: give one result of the attack for each target network and seed.")
        of_seed[r.network.network] = r
    return {s: list(of_seed.values()) for s, of_seed in grouped.items()}


def _baseline(seed: int, results: Sequence[AttackResult], notes: list[str]) -> AttackResult | None:
    """The seed's dense network, or None, with a note.

    Where no kinds are known that is the network called "dense", or the only one of that method.
    """
    kin = [r for r in results if r.network.baseline]
    named = [r for r in kin if r.network.network == "dense"] or (kin if len(kin) == 1 else [])
    if not named:
        notes.append(f"Seed {seed} is left out of losses, gains and slopes: it has no dense network.")
        return None
    return named[0]


def _usable(seed: int, dense: AttackResult, notes: list[str]) -> bool:
    """Whether losses and gains can be relative to it; a note where not."""
    if attack_accuracy(dense) < 1 and dense.network.test_accuracy > 0:
        return True
    notes.append(f"Seed {seed} is left out of losses, gains and slopes: its dense network has defence or accuracy 0.")
    return False


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float):  # numpy's float64 is one
        return float(value) if math.isfinite(value) else None
    return value
