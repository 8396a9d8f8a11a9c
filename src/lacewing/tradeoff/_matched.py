"""Sparse networks beside other networks at equal accuracy, or at equal density.

Sparsity, leakage and accuracy move together, so that two networks of different density say little about what sparsity
itself does (arXiv 2304.07234): the sparse one has to be held against a dense one of the same accuracy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Bools, Estimate, Floats
from lacewing.results import STOPPED, AttackResult, NetworkResult
from lacewing.tradeoff._draws import attack_accuracy, resampled
from lacewing.tradeoff._slope import estimate_of
from lacewing.tradeoff._types import SEEDS_TO_BOOTSTRAP, Against, At, Match, MatchVerdict, show


class _Path(NamedTuple):
    """Networks of one seed to walk along: K of them, from the one of the least accuracy or density on."""

    at: At
    against: Against
    networks: Sequence[AttackResult]


def matches(
    by_seed: Mapping[int, Sequence[AttackResult]], dense: Mapping[int, AttackResult], *, resamples: int, seed: int
) -> tuple[Match, ...]:
    """Each sparse network beside what it has to be better than, over its seeds.

    Every sparse network is held against the dense one of its seed stopped early at equal test accuracy; butterfly
    networks also against the IMP sequence at equal test accuracy and at equal density. Between two networks of such a
    path accuracies of model and attack are interpolated linearly (over the logarithm of densities). The difference is
    taken where the path first has the sparse network's value, from the earliest stop or the sparsest level on, and once
    more where it last has it: the first favours the path where accuracy wobbles, the last the sparse network, and a
    verdict needs both. Where the path never has it, both are the nearest network.

    Args:
        by_seed: seed -> results of one attack on all its targets.
        dense: seed -> the one of them on the dense network; seeds without are left out.
        resamples: bootstrap draws behind each interval, over seeds where a network has five or more, else over records.
        seed: of the draws.
    """
    beside: dict[tuple[str, At, Against], dict[int, tuple[AttackResult, _Path]]] = {}
    for s, baseline in dense.items():
        for sparse in (r for r in by_seed[s] if r.network.sparse):
            for path in _paths(sparse, by_seed[s], baseline):
                beside.setdefault((sparse.network.network, path.at, path.against), {})[s] = sparse, path
    found: dict[tuple[str, At, Against], dict[int, _Drawn]] = {key: {} for key in beside}
    for s in dense:
        of_seed = {key: each[s] for key, each in beside.items() if s in each}
        drawn = {key for key in of_seed if len(beside[key]) < SEEDS_TO_BOOTSTRAP}
        needed = {id(r): r for key in drawn for r in (of_seed[key][0], *of_seed[key][1].networks)}
        order = {each: place for place, each in enumerate(needed)}
        if drawn:  # the same records for every network of the seed
            rng = np.random.default_rng([seed, s, 1])
            draws_2BJ = np.array(resampled(list(needed.values()), resamples, rng))
        for key, (sparse, path) in of_seed.items():
            networks = (sparse, *path.networks)
            none = np.zeros((2, 0, len(networks)))
            draws = draws_2BJ[:, :, [order[id(r)] for r in networks]] if key in drawn else none
            found[key][s] = _beside(sparse, path, draws)
    rng = np.random.default_rng(seed)
    return tuple(
        _match(next(iter(beside[key].values()))[0], key[1], key[2], of_seed, resamples, rng)
        for key, of_seed in found.items()
    )


def _paths(sparse: AttackResult, results: Sequence[AttackResult], dense: AttackResult) -> Iterator[_Path]:
    stops = [r for r in results if on_the_way(r.network, dense.network)]
    if stops:
        stops.sort(key=lambda r: len(r.network.curve))
        yield _Path("accuracy", STOPPED, [*stops, dense])
    if sparse.network.method == "butterfly":
        levels = _imp_levels(results)
        if levels:
            yield _Path("accuracy", "imp", [*levels, dense])
            yield _Path("density", "imp", [*levels, dense])


def _imp_levels(results: Sequence[AttackResult]) -> list[AttackResult]:
    """The levels of the IMP sequence, the sparsest first; of several, those of the one called "imp", or none."""
    sequences: dict[str, list[AttackResult]] = {}
    for r in results:
        if r.network.method == "imp":
            sequences.setdefault(r.network.network.rpartition("-")[0], []).append(r)
    levels = next(iter(sequences.values())) if len(sequences) == 1 else sequences.get("imp", [])
    return sorted(levels, key=lambda r: r.network.density)


def on_the_way(stopped: NetworkResult, dense: NetworkResult) -> bool:
    """Whether a network is the dense one stopped early: one by another recipe, or trained elsewhere, is not."""
    return stopped.method == STOPPED and dense.curve[: len(stopped.curve)] == stopped.curve


class _Drawn(NamedTuple):
    """Differences sparse - other of one seed, as measured and in B draws, and the epoch or density of the other."""

    attack: float
    attack_B: Floats
    last: float  # in the attack's accuracy too, where the path last has the sparse network's accuracy
    last_B: Floats
    test: float
    test_B: Floats
    sparse: tuple[float, float]  # attack and test accuracy
    beyond: bool  # nothing on the path is just as accurate, or as dense
    where: float
    last_where: float


class _Places(NamedTuple):
    """In each draw a place between two networks of a path: a share (0 to 1) of the way from ``low`` to ``high``."""

    low_B: npt.NDArray[np.int64]
    high_B: npt.NDArray[np.int64]
    share_B: Floats

    def of(self, y_BK: Floats) -> Floats:
        rows = np.arange(len(y_BK))
        low_B: Floats = y_BK[rows, self.low_B]
        return low_B + self.share_B * (y_BK[rows, self.high_B] - low_B)


def _beside(sparse: AttackResult, path: _Path, draws_2BJ: Floats) -> _Drawn:
    """What was measured, and its draws: attack and test accuracy of the sparse network and of the J - 1 of the path."""
    networks = [sparse, *path.networks]
    measured_2J = np.array([[attack_accuracy(r), r.network.test_accuracy] for r in networks]).T
    attack_BJ, test_BJ = np.concatenate([measured_2J[:, None], draws_2BJ], axis=1)
    stopped = path.against == STOPPED
    ways = [float(len(r.network.curve)) if stopped else math.log(r.network.density) for r in path.networks]
    x_BJ = test_BJ
    if path.at == "density":
        x_BJ = np.broadcast_to([math.log(sparse.network.density), *ways], test_BJ.shape)
    first, last, beyond_B = _places(x_BJ[:, 1:], x_BJ[:, 0])
    attack_B, last_B = (attack_BJ[:, 0] - places.of(attack_BJ[:, 1:]) for places in (first, last))
    test_B = test_BJ[:, 0] - first.of(test_BJ[:, 1:])
    where, last_where = (float(places.of(np.broadcast_to(ways, x_BJ[:, 1:].shape))[0]) for places in (first, last))
    return _Drawn(
        attack=float(attack_B[0]),
        attack_B=attack_B[1:],
        last=float(last_B[0]),
        last_B=last_B[1:],
        test=float(test_B[0]),
        test_B=test_B[1:],
        sparse=(float(measured_2J[0, 0]), float(measured_2J[1, 0])),
        beyond=bool(beyond_B[0]),
        where=where if stopped else math.exp(where),
        last_where=last_where if stopped else math.exp(last_where),
    )


def _places(x_BK: Floats, x_B: Floats) -> tuple[_Places, _Places, Bools]:
    """Where a path first meets x, rising or falling, and where it last does; the nearest of a path that never does.

    The third of what is returned says in which draws it never does.
    """
    over_BK, under_BK = x_BK >= x_B[:, None], x_BK <= x_B[:, None]
    met_BK = (under_BK[:, :-1] & over_BK[:, 1:]) | (over_BK[:, :-1] & under_BK[:, 1:])  # on the way to the next network
    never_B: Bools = np.logical_not(met_BK.any(axis=1))
    nearest_B = np.abs(x_BK - x_B[:, None]).argmin(axis=1)
    rows = np.arange(len(x_B))

    def places(low_B: npt.NDArray[np.int64], flat: float) -> _Places:
        low_B, high_B = np.where(never_B, nearest_B, low_B), np.where(never_B, nearest_B, low_B + 1)
        low, high = x_BK[rows, low_B], x_BK[rows, high_B]
        share_B = np.full(len(x_B), flat)  # where both are x
        np.divide(x_B - low, high - low, out=share_B, where=high != low)
        return _Places(low_B, high_B, share_B)

    last_B = met_BK.shape[1] - 1 - met_BK[:, ::-1].argmax(axis=1)
    return places(met_BK.argmax(axis=1), 0.0), places(last_B, 1.0), never_B


def _match(
    sparse: AttackResult,
    at: At,
    against: Against,
    of_seed: Mapping[int, _Drawn],
    resamples: int,
    rng: np.random.Generator,
) -> Match:
    over_seeds = len(of_seed) >= SEEDS_TO_BOOTSTRAP
    shares_BS = np.full((1, len(of_seed)), 1 / len(of_seed))
    if over_seeds:
        shares_BS = rng.multinomial(len(of_seed), shares_BS[0], size=resamples) / len(of_seed)

    def estimate(measured: Sequence[float], draws: Sequence[Floats]) -> Estimate:
        drawn_B = shares_BS @ np.array(measured) if over_seeds else np.mean(draws, axis=0)
        found = estimate_of(math.fsum(measured) / len(measured), drawn_B)
        assert found is not None  # nothing here can be undefined
        return found

    seeds = list(of_seed.values())
    difference = estimate([d.attack for d in seeds], [d.attack_B for d in seeds])
    last = estimate([d.last for d in seeds], [d.last_B for d in seeds])
    test = estimate([d.test for d in seeds], [d.test_B for d in seeds])
    mean = [math.fsum(d.sparse[i] for d in seeds) / len(seeds) for i in (0, 1)]
    beyond = tuple(s for s, d in of_seed.items() if d.beyond)
    match = Match(
        network=sparse.network.network,
        method=sparse.network.method,
        density=sparse.network.density,
        at=at,
        against=against,
        balanced_accuracy=mean[0],
        test_accuracy=mean[1],
        difference=difference,
        test_difference=test,
        interval=f"over {len(seeds)} seeds" if over_seeds else "over records, spread over seeds left out",
        by_seed={s: d.attack for s, d in of_seed.items()},
        where={s: d.where for s, d in of_seed.items()},
        last_difference=last,
        last_where={s: d.last_where for s, d in of_seed.items()},
        beyond=beyond,
        verdict=_verdict(difference, last, test, beyond, at),
        sentence="",
    )
    return dataclasses.replace(match, sentence=_sentence(match, sparse.attack))


def _verdict(first: Estimate, last: Estimate, test: Estimate, beyond: Sequence[int], at: At) -> MatchVerdict:
    """Only where the other is equal: in accuracy within the interval of the difference, in density wholly."""
    equal = test.low <= 0 <= test.high if at == "accuracy" else not beyond
    if not equal:
        return "no counterpart"
    said = {_sign(first), _sign(last)}
    return said.pop() if len(said) == 1 else "depends on where"


def _sign(difference: Estimate) -> MatchVerdict:
    if difference.high < 0:
        return "leaks less"
    return "leaks more" if difference.low > 0 else "no measurable difference"


def _sentence(m: Match, attack: str) -> str:
    other = "the dense network stopped early" if m.against == STOPPED else "iterative pruning"
    said = {
        "leaks less": f"{m.network} leaks less than {other} at equal {m.at}",
        "leaks more": f"{m.network} leaks more than {other} at equal {m.at}",
        "depends on where": (
            f"{m.network} beside {other} at equal {m.at}: {_sign(m.difference)} at the first of that accuracy, "
            f"{_sign(m.last_difference)} at the last{' in some of the draws' * m.one_place}"
        ),
        "no measurable difference": f"{m.network} does not differ measurably in leakage from {other} at equal {m.at}",
        "no counterpart": f"{m.network} has no counterpart of equal {m.at} in {other}; beside the nearest",
    }[m.verdict]
    sentence = f"{said}: balanced accuracy of the attack '{attack}' {_signed(m.difference)}"
    if not m.one_place or m.verdict == "depends on where":
        sentence += f" at the first, {_signed(m.last_difference)} at the last"
    if m.at == "density" or m.verdict == "no counterpart":
        sentence += f", test accuracy {_signed(m.test_difference)}"
    which = f"seed{'s' * (len(m.by_seed) > 1)} {', '.join(map(str, m.by_seed))}"
    return f"{sentence} ({which}; 95 % intervals {m.interval})."


def _signed(e: Estimate) -> str:
    return show(e) if e.value < 0 else f"+{show(e)}"
