"""Accuracy against defence: what sparsity takes back of the leakage, and what it costs.

Every quantity compares a network with the dense one of the SAME seed: relative loss = -(acc - acc0)/acc0 in test
accuracy, relative gain = (D - D0)/D0 in defence D = 2 (1 - A), A the attack's balanced accuracy. Gonon et al., arXiv
2304.10553 (2023), claim a gain of 3.6 times the loss for networks with 3.4 % to 17.3 % non-zero weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Estimate, advantage, balanced_accuracy
from lacewing.results import SCHEMA, STOPPED, AttackResult, is_sparse
from lacewing.tradeoff._draws import Draws, attack_accuracy, draws_over_records, draws_over_seeds
from lacewing.tradeoff._matched import matches, on_the_way
from lacewing.tradeoff._slope import estimate_of, slope_of
from lacewing.tradeoff._types import (
    BAND_TOLERANCE,
    PAPER_BAND,
    PAPER_SLOPE,
    SEEDS_TO_BOOTSTRAP,
    Choice,
    Match,
    Pair,
    Point,
    Slope,
    Spread,
    TradeOff,
    Verdict,
    show,
)

__all__ = [
    "BAND_TOLERANCE",
    "PAPER_BAND",
    "PAPER_SLOPE",
    "SEEDS_TO_BOOTSTRAP",
    "Choice",
    "Match",
    "Pair",
    "Point",
    "Slope",
    "Spread",
    "TradeOff",
    "Verdict",
    "afford",
    "as_json",
    "on_the_way",
    "show",
    "tradeoff",
]


def tradeoff(
    attacks: Sequence[AttackResult],
    *,
    attack: str = "discriminator",
    band: tuple[float, float] = PAPER_BAND,
    resamples: int = 2000,
    seed: int = 0,
) -> TradeOff:
    """The trade-off of the networks that ``attack`` was run on, with slopes over densities in ``band`` (inclusive).

    Intervals are 95 % percentile bootstraps over seeds from five seeds on; below that over records, members and
    non-members of each seed drawn with replacement, the same ones for all networks of that seed (this leaves the
    spread over seeds out: ``by_seed`` shows it). A seed without a usable dense network is left out of every relative
    quantity and named in ``notes``. Raises `UsageError` for an attack without results, results given twice, and
    networks of one seed that were not attacked on the same records.
    """
    chosen = [result for result in attacks if result.attack == attack]
    if not attacks:
        raise UsageError("There is no result of an attack to trade off: run an attack first.")
    if not chosen:
        known = {a.attack for a in attacks}
        raise UsageError(f"No result of the attack '{attack}' is here: {did_you_mean(attack, known)}")
    if not 0 <= band[0] < band[1] <= 1 or resamples < 100:
        raise UsageError(f"band = {band} and resamples = {resamples}: give 0 <= low < high <= 1 and at least 100.")
    by_seed = _by_seed(chosen)
    notes: list[str] = []
    dense = {s: found for s, results in by_seed.items() if (found := _baseline(s, results, notes)) is not None}
    sparse = {s: [r for r in by_seed[s] if r is not dense[s] and r.network.method != STOPPED] for s in dense}
    pairs = tuple(_pair(r, dense[s], band) for s in dense for r in sparse[s])
    for s, baseline in dense.items():
        stops = [r for r in by_seed[s] if r.network.method == STOPPED]
        if stops and not any(on_the_way(r.network, baseline.network) for r in stops):
            notes.append(
                f"Seed {s}: the networks stopped early are not on the way of '{baseline.network.network}', so nothing "
                "is held against them at equal accuracy: they need its settings of training, and one machine."
            )
    over_seeds = len(dense) >= SEEDS_TO_BOOTSTRAP
    draw = draws_over_seeds if over_seeds else draws_over_records
    draws = draw(dense, sparse, pairs, resamples, seed)

    a0 = _dense_accuracy(list(dense.values()), draws if over_seeds else None)
    interval = (
        f"bootstrap over {len(dense)} seeds" if over_seeds else "bootstrap over records, spread over seeds left out"
    )
    methods = sorted({pair.method for pair in pairs if is_sparse(pair.method)}, key=lambda m: (m != "imp", m))
    slopes = [slope_of(m, pairs, draws, a0, tuple(dense), band, interval) for m in ("all", *methods)]
    points = _points(chosen, dense, band)
    cap = Estimate(*((a - 0.5) / (1 - a) for a in a0)) if a0 is not None and a0.high < 1 else None
    return TradeOff(
        attack=attack,
        band=band,
        seeds=tuple(dense),
        interval=interval,
        dense_balanced_accuracy=a0,
        dense_records=sum(r.n_members + r.n_nonmembers for r in dense.values()),
        cap=cap,
        cap_sentence=_cap_sentence(a0, cap),
        slope=slopes[0],
        slopes=tuple(slopes[1:]),
        pairs=pairs,
        points=points,
        pareto=_pareto(points),
        dominated=_dominated(points),
        matches=matches(by_seed, dense, resamples=resamples, seed=seed),
        notes=tuple(notes),
    )


def afford(tradeoff: TradeOff, percent: float) -> Choice | None:
    """The network of best mean defence whose mean relative accuracy loss is at most ``percent`` %, or None.

    Ties go to the lower density; the dense network (loss 0) competes too, stopped early it does not. Raises
    `UsageError` for a ``percent`` that is not finite.
    """
    if not math.isfinite(percent):
        raise UsageError(f"percent = {percent} is no number: give the relative loss you can afford, such as 2.")
    able = [
        (p, p.relative_loss.mean, p.relative_gain.mean)
        for p in tradeoff.points
        if p.relative_loss and p.relative_gain and p.relative_loss.mean * 100 <= percent + 1e-9 and p.method != STOPPED
    ]
    if not able:
        return None
    best, loss, gain = min(able, key=lambda each: (-each[0].defence.mean, each[0].density.mean, each[0].network))
    n = best.defence.n
    against = f"a relative gain of {gain:.1%} over the dense network"
    if best.method == "dense":
        against = "no sparse network within that loss has a higher one"
    sentence = (
        f"{best.network} (density {best.density.mean:.2%}): test accuracy {best.test_accuracy.mean:.3f}, a relative "
        f"loss of {loss:.1%} where {percent:g}% was allowed; defence {best.defence.mean:.3f}, {against}; means over "
        f"n = {n} seed{'s' * (n > 1)}. Verdict of the study: {tradeoff.slope.verdict}."
    )
    return Choice(best, percent, sentence)


def as_json(tradeoff: TradeOff) -> dict[str, Any]:
    """The trade-off as plain JSON: dicts, lists, strings, finite numbers or None, and a ``schema`` number."""
    plain = _plain(tradeoff)
    assert isinstance(plain, dict)
    return {"schema": SCHEMA, "paper_slope": PAPER_SLOPE, **plain}


def _dense_accuracy(dense: Sequence[AttackResult], draws: Draws | None) -> Estimate | None:
    """A0, the mean over seeds; its interval from the draws over seeds, or that of the records of all seeds as one."""
    if not dense:
        return None
    value = math.fsum(map(attack_accuracy, dense)) / len(dense)
    if draws is not None:
        return estimate_of(value, draws.a0_B)
    member = np.concatenate([r.member_N for r in dense])
    hit = np.concatenate([r.hit_N for r in dense])
    return Estimate(value, *balanced_accuracy(hit == member, member)[1:])


def _cap_sentence(a0: Estimate | None, cap: Estimate | None) -> str:
    if a0 is None or cap is None:
        return "The relative gain in defence has no cap that these records could show."
    return (
        f"While A is at least 1/2 no relative gain in defence exceeds (A0 - 1/2)/(1 - A0) = {show(cap)}, so no slope "
        f"holds far. The advantage 2 A - 1 (dense: {show(advantage(a0))}) does not share the defence's relative gain."
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
    """The seed's network called "dense", or its only one of that method; None, with a note, where it cannot serve."""
    kin = [r for r in results if r.network.method == "dense"]
    named = [r for r in kin if r.network.network == "dense"] or (kin if len(kin) == 1 else [])
    if not named:
        notes.append(f"Seed {seed} is left out of losses, gains and slopes: it has no dense network.")
    elif attack_accuracy(named[0]) == 1 or named[0].network.test_accuracy == 0:
        notes.append(
            f"Seed {seed} is left out of losses, gains and slopes: its dense network has defence or accuracy 0."
        )
    else:
        return named[0]
    return None


def _relative(result: AttackResult, dense: AttackResult) -> tuple[float, float]:
    """Relative loss in test accuracy and relative gain in defence."""
    acc, acc0 = result.network.test_accuracy, dense.network.test_accuracy
    d, d0 = 2 * (1 - attack_accuracy(result)), 2 * (1 - attack_accuracy(dense))
    return (acc0 - acc) / acc0, (d - d0) / d0


def _in_band(density: float, band: tuple[float, float]) -> bool:
    return band[0] - BAND_TOLERANCE <= density <= band[1] + BAND_TOLERANCE


def _pair(result: AttackResult, dense: AttackResult, band: tuple[float, float]) -> Pair:
    n = result.network
    return Pair(n.network, n.method, n.seed, n.density, *_relative(result, dense), _in_band(n.density, band))


def _points(
    results: Sequence[AttackResult], dense: Mapping[int, AttackResult], band: tuple[float, float]
) -> tuple[Point, ...]:
    """Dense first, then IMP, butterfly and others, each from the highest density down."""
    named: dict[str, list[AttackResult]] = {}
    for r in results:
        named.setdefault(r.network.network, []).append(r)
    points = []
    for name, of_name in named.items():
        relative = [_relative(r, dense[r.network.seed]) for r in of_name if r.network.seed in dense]
        density = _spread([r.network.density for r in of_name])
        points.append(
            Point(
                network=name,
                method=of_name[0].network.method,
                density=density,
                test_accuracy=_spread([r.network.test_accuracy for r in of_name]),
                defence=_spread([2 * (1 - attack_accuracy(r)) for r in of_name]),
                advantage=_spread([2 * attack_accuracy(r) - 1 for r in of_name]),
                relative_loss=_spread([loss for loss, _ in relative]) if relative else None,
                relative_gain=_spread([gain for _, gain in relative]) if relative else None,
                in_band=_in_band(density.mean, band),
            )
        )
    rank = {"dense": 0, "imp": 1, "butterfly": 2}
    return tuple(sorted(points, key=lambda p: (rank.get(p.method, 3), p.method, -p.density.mean, p.network)))


def _spread(values: Sequence[float]) -> Spread:
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(math.fsum(values) / len(values), min(values), max(values), sd, len(values))


def _pareto(points: Sequence[Point]) -> tuple[str, ...]:
    def beats(q: Point, p: Point) -> bool:
        a, d = q.test_accuracy.mean - p.test_accuracy.mean, q.defence.mean - p.defence.mean
        return min(a, d) >= 0 and max(a, d) > 0

    front = [p for p in points if not any(beats(q, p) for q in points)]
    return tuple(p.network for p in sorted(front, key=lambda p: (-p.test_accuracy.mean, p.density.mean)))


def _dominated(points: Sequence[Point]) -> dict[str, str]:
    imp = sorted((p for p in points if p.method == "imp"), key=lambda p: -p.defence.mean)
    found = {}
    for b in (p for p in points if p.method == "butterfly"):
        better = [
            p.network for p in imp if p.test_accuracy.mean > b.test_accuracy.mean and p.defence.mean > b.defence.mean
        ]
        if better:
            found[b.network] = better[0]
    return found


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
