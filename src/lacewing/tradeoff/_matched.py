"""Sparse networks beside other networks at equal accuracy, or at equal density.

Sparsity, leakage and accuracy move together, so that two networks of different density say little about what sparsity
itself does (arXiv 2304.07234): the sparse one has to be held against a dense one of the same accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    path accuracies of model and attack are interpolated linearly (over the logarithm of densities); a path is left
    where it first reaches the sparse network's value: the earliest stop, the sparsest level.

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
    """Differences sparse - other of one seed: as measured, and B draws of them; both attack and test accuracy."""

    attack: float
    attack_B: Floats
    test: float
    test_B: Floats
    sparse: tuple[float, float]  # attack and test accuracy
    beyond: bool  # nothing on the path is just as accurate, or as dense
    where: float  # epoch or density of the other


def _beside(sparse: AttackResult, path: _Path, draws_2BJ: Floats) -> _Drawn:
    """What was measured, and its draws: attack and test accuracy of the sparse network and of the J - 1 of the path."""
    networks = [sparse, *path.networks]
    measured_2J = np.array([[attack_accuracy(r), r.network.test_accuracy] for r in networks]).T
    attack_BJ, test_BJ = np.concatenate([measured_2J[:, None], draws_2BJ], axis=1)
    if path.against == STOPPED:
        places = [float(len(r.network.curve)) for r in path.networks]
    else:
        places = [math.log(r.network.density) for r in path.networks]
    x_BJ = test_BJ
    if path.at == "density":
        x_BJ = np.broadcast_to([math.log(sparse.network.density), *places], test_BJ.shape)
    upper_B, share_B, beyond_B = _first_reach(x_BJ[:, 1:], x_BJ[:, 0])

    def along(y_BK: Floats) -> Floats:
        rows = np.arange(len(y_BK))
        low_B: Floats = y_BK[rows, np.maximum(upper_B - 1, 0)]
        high_B: Floats = y_BK[rows, upper_B]
        return low_B + share_B * (high_B - low_B)

    attack_B = attack_BJ[:, 0] - along(attack_BJ[:, 1:])
    test_B = test_BJ[:, 0] - along(test_BJ[:, 1:])
    where = float(along(np.broadcast_to(places, (len(attack_B), len(places))))[0])
    return _Drawn(
        float(attack_B[0]),
        attack_B[1:],
        float(test_B[0]),
        test_B[1:],
        (float(measured_2J[0, 0]), float(measured_2J[1, 0])),
        bool(beyond_B[0]),
        where if path.against == STOPPED else math.exp(where),
    )


def _first_reach(x_BK: Floats, x_B: Floats) -> tuple[npt.NDArray[np.int64], Floats, Bools]:
    """The first place of a path that reaches x, and how far x lies on the way there from the place before (0 to 1).

    A path that begins above x is taken at its first place, one that never gets there at its highest; the third of what
    is returned says where.
    """
    reaches_BK = x_BK >= x_B[:, None]
    never_B: Bools = x_BK.max(axis=1) < x_B
    upper_B: npt.NDArray[np.int64] = np.where(never_B, x_BK.argmax(axis=1), reaches_BK.argmax(axis=1))
    rows = np.arange(len(x_B))
    high, low = x_BK[rows, upper_B], x_BK[rows, np.maximum(upper_B - 1, 0)]
    between = ~never_B & (upper_B > 0)
    share_B = np.ones(len(x_B))
    share_B[between] = (x_B - low)[between] / (high - low)[between]
    return upper_B, share_B, never_B | (x_BK[:, 0] > x_B)


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
    attack = estimate([d.attack for d in seeds], [d.attack_B for d in seeds])
    test = estimate([d.test for d in seeds], [d.test_B for d in seeds])
    mean = [math.fsum(d.sparse[i] for d in seeds) / len(seeds) for i in (0, 1)]
    beyond = tuple(s for s, d in of_seed.items() if d.beyond)
    verdict = _verdict(attack, test, beyond, at)
    interval = f"over {len(seeds)} seeds" if over_seeds else "over records, spread over seeds left out"
    return Match(
        network=sparse.network.network,
        method=sparse.network.method,
        density=sparse.network.density,
        at=at,
        against=against,
        balanced_accuracy=mean[0],
        test_accuracy=mean[1],
        difference=attack,
        test_difference=test,
        interval=interval,
        by_seed={s: d.attack for s, d in of_seed.items()},
        where={s: d.where for s, d in of_seed.items()},
        beyond=beyond,
        verdict=verdict,
        sentence=_sentence(sparse, at, against, attack, test, verdict, interval, of_seed),
    )


def _verdict(attack: Estimate, test: Estimate, beyond: Sequence[int], at: At) -> MatchVerdict:
    """Only where the other is equal: in accuracy within the interval of the difference, in density wholly."""
    equal = test.low <= 0 <= test.high if at == "accuracy" else not beyond
    if not equal:
        return "no counterpart"
    if attack.high < 0:
        return "leaks less"
    return "leaks more" if attack.low > 0 else "no measurable difference"


def _sentence(
    sparse: AttackResult,
    at: At,
    against: Against,
    attack: Estimate,
    test: Estimate,
    verdict: MatchVerdict,
    interval: str,
    seeds: Collection[int],
) -> str:
    other = "the dense network stopped early" if against == STOPPED else "iterative pruning"
    name = sparse.network.network
    than = {
        "leaks less": f"{name} leaks less than {other} at equal {at}",
        "leaks more": f"{name} leaks more than {other} at equal {at}",
        "no measurable difference": f"{name} does not differ measurably in leakage from {other} at equal {at}",
        "no counterpart": f"{name} has no counterpart of equal {at} in {other}; beside the nearest",
    }[verdict]
    sentence = f"{than}: balanced accuracy of the attack '{sparse.attack}' {_signed(attack)}"
    if at == "density" or verdict == "no counterpart":
        sentence += f", test accuracy {_signed(test)}"
    which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"{sentence} ({which}; 95 % intervals {interval})."


def _signed(e: Estimate) -> str:
    return show(e) if e.value < 0 else f"+{show(e)}"
