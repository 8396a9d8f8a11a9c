"""Networks beside the dense one of their seed, and over their seeds: losses, gains, the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lacewing.metrics import Units
from lacewing.results import AttackResult
from lacewing.tradeoff._draws import attack_accuracy
from lacewing.tradeoff._families import family_of, kind_of
from lacewing.tradeoff._paper import ordered
from lacewing.tradeoff._types import BAND_TOLERANCE, Pair, Point, Spread


def _relative(result: AttackResult, dense: AttackResult) -> tuple[float, float]:
    """Relative loss in test accuracy and relative gain in defence."""
    acc, acc0 = result.network.test_accuracy, dense.network.test_accuracy
    d, d0 = 2 * (1 - attack_accuracy(result)), 2 * (1 - attack_accuracy(dense))
    return (acc0 - acc) / acc0, (d - d0) / d0


def _in_band(density: float, band: tuple[float, float]) -> bool:
    return band[0] - BAND_TOLERANCE <= density <= band[1] + BAND_TOLERANCE


def pair_of(result: AttackResult, dense: AttackResult, band: tuple[float, float]) -> Pair:
    n = result.network
    return Pair(n.network, n.method, n.seed, n.density, *_relative(result, dense), _in_band(n.density, band))


def points_of(
    results: Sequence[AttackResult],
    dense: Mapping[int, AttackResult],
    band: tuple[float, float],
    units: Units,
) -> tuple[Point, ...]:
    """Dense first, then IMP, butterfly and others, each method's from the highest density down."""
    named: dict[str, list[AttackResult]] = {}
    for r in results:
        named.setdefault(r.network.network, []).append(r)
    points = []
    for name, of_name in named.items():
        relative = {r.network.seed: _relative(r, dense[r.network.seed]) for r in of_name if r.network.seed in dense}
        aside = {r.network.seed: r.network.population_accuracy for r in of_name}
        known = {s: value for s, value in aside.items() if value is not None}
        first = of_name[0].network
        density = spread_over({r.network.seed: r.network.density for r in of_name}, units)
        points.append(
            Point(
                network=name,
                method=first.method,
                density=density,
                test_accuracy=spread_over({r.network.seed: r.network.test_accuracy for r in of_name}, units),
                defence=spread_over({r.network.seed: 2 * (1 - attack_accuracy(r)) for r in of_name}, units),
                advantage=spread_over({r.network.seed: 2 * attack_accuracy(r) - 1 for r in of_name}, units),
                relative_loss=spread_over({s: loss for s, (loss, _) in relative.items()}, units) if relative else None,
                relative_gain=spread_over({s: gain for s, (_, gain) in relative.items()}, units) if relative else None,
                in_band=_in_band(density.mean, band),
                family=family_of(first),
                kind=kind_of(first),
                population_accuracy=spread_over(known, units) if known else None,
            )
        )
    methods = ordered(p.method for p in points)
    return tuple(sorted(points, key=lambda p: (methods.index(p.method), -p.density.mean, p.network)))


def spread_over(by_seed: Mapping[int, float], units: Units) -> Spread:
    values = list(by_seed.values())
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    of = Units.of(by_seed, halves=units.unit == "cut")
    over = of.interval(by_seed)
    low, high = (None, None) if over is None else over[1:]
    return Spread(of.mean(by_seed), min(values), max(values), sd, len(values), low, high)


def pareto(points: Sequence[Point]) -> tuple[str, ...]:
    def beats(q: Point, p: Point) -> bool:
        a, d = q.test_accuracy.mean - p.test_accuracy.mean, q.defence.mean - p.defence.mean
        return min(a, d) >= 0 and max(a, d) > 0

    front = [p for p in points if not any(beats(q, p) for q in points)]
    return tuple(p.network for p in sorted(front, key=lambda p: (-p.test_accuracy.mean, p.density.mean)))
