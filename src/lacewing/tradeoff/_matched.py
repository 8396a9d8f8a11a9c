"""Sparse networks beside other networks of their seed, point by point, at equal accuracy or at equal density.

A description without a verdict: which of many noisy points a network is compared with depends on noise, and nobody
would use a dense network from the middle of its training. Verdicts come from fits of family against family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lacewing.metrics import Floats, Units
from lacewing.results import STOPPED, AttackResult, NetworkResult
from lacewing.tradeoff._draws import attack_accuracy
from lacewing.tradeoff._paper import BUTTERFLY, IMP, Against, imp_levels
from lacewing.tradeoff._types import At, Match


class _Path(NamedTuple):
    """Networks of one seed to walk along: K of them, from the one of the least accuracy or density on."""

    at: At
    against: Against
    networks: Sequence[AttackResult]


def matches(
    by_seed: Mapping[int, Sequence[AttackResult]], dense: Mapping[int, AttackResult], units: Units
) -> tuple[Match, ...]:
    """Each sparse network beside others, over its seeds.

    Every sparse network is compared with the dense one of its seed stopped early at equal test accuracy; butterfly
    networks also against the IMP sequence at equal test accuracy and at equal density. Between two networks of such a
    path accuracies of model and attack are interpolated linearly (over the logarithm of densities). The difference is
    taken where the path first has the sparse network's value, from the earliest stop or the sparsest level on, and once
    more where it last has it: the first favours the path where accuracy wobbles, the last the sparse network. Where the
    path never has it, both are the nearest network.

    Args:
        by_seed: seed -> results of one attack on all its targets.
        dense: seed -> the one of them on the dense network; seeds without are left out.
        units: what is averaged first.
    """
    found: dict[tuple[str, At, Against], dict[int, _Beside]] = {}
    for s, baseline in dense.items():
        for sparse in (r for r in by_seed[s] if r.network.sparse):
            for path in _paths(sparse, by_seed[s], baseline):
                found.setdefault((sparse.network.network, path.at, path.against), {})[s] = _beside(sparse, path)
    return tuple(_match(at, against, of_seed, units) for (_, at, against), of_seed in found.items())


def _paths(sparse: AttackResult, results: Sequence[AttackResult], dense: AttackResult) -> Iterator[_Path]:
    stops = [r for r in results if is_checkpoint_of(r.network, dense.network)]
    if stops:
        stops.sort(key=lambda r: len(r.network.curve))
        yield _Path("accuracy", STOPPED, [*stops, dense])
    if sparse.network.method == BUTTERFLY:
        levels = imp_levels(results)
        if levels:
            yield _Path("accuracy", IMP, [*levels, dense])
            yield _Path("density", IMP, [*levels, dense])


def is_checkpoint_of(stopped: NetworkResult, dense: NetworkResult) -> bool:
    """Whether ``stopped`` is a state of ``dense`` during its training, rather than of another recipe or machine.

    Their training curves tell; without them, as of results that were read from results.csv, the answer is no.
    """
    return stopped.stopped and bool(stopped.curve) and dense.curve[: len(stopped.curve)] == stopped.curve


class _Beside(NamedTuple):
    """Differences sparse - other of one seed, and the epoch or density of the other, at the first and last place."""

    sparse: AttackResult
    attack: float
    last: float  # in the attack's accuracy too, where the path last has the sparse network's accuracy
    test: float
    where: float
    last_where: float
    beyond: bool  # nothing on the path is equally accurate, or equally dense


class _Place(NamedTuple):
    """A place between two networks of a path: a share (0 to 1) of the way from ``low`` to ``high``."""

    low: int
    high: int
    share: float

    def of(self, y_K: Floats) -> float:
        return float(y_K[self.low] + self.share * (y_K[self.high] - y_K[self.low]))


def _beside(sparse: AttackResult, path: _Path) -> _Beside:
    stopped = path.against == STOPPED
    attack_K = np.array([attack_accuracy(r) for r in path.networks])
    test_K = np.array([r.network.test_accuracy for r in path.networks])
    ways_K = np.array([float(len(r.network.curve)) if stopped else math.log(r.network.density) for r in path.networks])
    at_density = path.at == "density"
    x = math.log(sparse.network.density) if at_density else sparse.network.test_accuracy
    first, last, beyond = _places(ways_K if at_density else test_K, x)
    where, last_where = (place.of(ways_K) if stopped else math.exp(place.of(ways_K)) for place in (first, last))
    return _Beside(
        sparse=sparse,
        attack=attack_accuracy(sparse) - first.of(attack_K),
        last=attack_accuracy(sparse) - last.of(attack_K),
        test=sparse.network.test_accuracy - first.of(test_K),
        where=where,
        last_where=last_where,
        beyond=beyond,
    )


def _places(x_K: Floats, x: float) -> tuple[_Place, _Place, bool]:
    """Where a path first meets x, rising or falling, and where it last does; the nearest of a path that never does.

    The third of what is returned says whether it never does.
    """
    over_K, under_K = x_K >= x, x_K <= x
    met = np.flatnonzero((under_K[:-1] & over_K[1:]) | (over_K[:-1] & under_K[1:]))  # on the way to the next network
    if not len(met):
        nearest = int(np.abs(x_K - x).argmin())
        place = _Place(nearest, nearest, 0.0)
        return place, place, True

    def place_at(low: int, flat: float) -> _Place:
        width = float(x_K[low + 1] - x_K[low])
        return _Place(low, low + 1, (x - float(x_K[low])) / width if width else flat)

    return place_at(int(met[0]), 0.0), place_at(int(met[-1]), 1.0), False


def _match(at: At, against: Against, of_seed: Mapping[int, _Beside], units: Units) -> Match:
    network = next(iter(of_seed.values())).sparse.network
    there = units.within(of_seed)

    def mean(of: Callable[[_Beside], float]) -> float:
        return there.mean({s: of(b) for s, b in of_seed.items()})

    return Match(
        network=network.network,
        method=network.method,
        density=network.density,
        at=at,
        against=against,
        balanced_accuracy=mean(lambda b: attack_accuracy(b.sparse)),
        test_accuracy=mean(lambda b: b.sparse.network.test_accuracy),
        difference=mean(lambda b: b.attack),
        test_difference=mean(lambda b: b.test),
        by_seed={s: b.attack for s, b in of_seed.items()},
        where={s: b.where for s, b in of_seed.items()},
        last_difference=mean(lambda b: b.last),
        last_by_seed={s: b.last for s, b in of_seed.items()},
        last_where={s: b.last_where for s, b in of_seed.items()},
        beyond=tuple(s for s, b in of_seed.items() if b.beyond),
    )
