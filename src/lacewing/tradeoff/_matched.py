"""Sparse networks beside other networks at equal accuracy, or at equal density.

Sparsity, leakage and accuracy move together, so that two networks of different density say little about what sparsity
itself does (arXiv 2304.07234): the sparse one has to be held against a dense one of the same accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Bools, Estimate, Floats
from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff._draws import attack_accuracy, resampled
from lacewing.tradeoff._slope import estimate_of
from lacewing.tradeoff._types import SEEDS_TO_BOOTSTRAP, Against, At, Match, show


class _Path(NamedTuple):
    """Networks of one seed to walk along: K of them, from the one of the least accuracy or density on."""

    at: At
    against: Against
    networks: Sequence[AttackResult]


def matches(by_seed: Mapping[int, Sequence[AttackResult]], *, resamples: int, seed: int) -> tuple[Match, ...]:
    """Each sparse network beside what it has to be better than, over its seeds.

    Every sparse network is held against the dense one of its seed stopped early at equal test accuracy; butterfly
    networks also against the IMP sequence at equal test accuracy and at equal density. Between two networks of such a
    path accuracies of model and attack are interpolated linearly (over the logarithm of densities); a path is left
    where it first reaches the sparse network's value: the earliest stop, the sparsest level.

    Args:
        by_seed: seed -> results of one attack on all its targets.
        resamples: bootstrap draws behind each interval, over seeds from five seeds on, below over records.
        seed: of the draws.
    """
    found: dict[tuple[str, At, Against], dict[int, _Drawn]] = {}
    about: dict[str, AttackResult] = {}
    for s, results in by_seed.items():
        drawn = None
        for sparse in (r for r in results if r.network.sparse):
            for path in _paths(sparse, results):
                if drawn is None:  # the same records for every network of the seed
                    drawn = resampled(results, resamples, np.random.default_rng([seed, s, 1]))
                places = [results.index(r) for r in (sparse, *path.networks)]
                about.setdefault(sparse.network.network, sparse)
                found.setdefault((sparse.network.network, path.at, path.against), {})[s] = _beside(
                    sparse, path, *(accuracy_BJ[:, places] for accuracy_BJ in drawn)
                )
    rng = np.random.default_rng(seed)
    return tuple(
        _match(about[name], at, against, of_seed, resamples, rng) for (name, at, against), of_seed in found.items()
    )


def _paths(sparse: AttackResult, results: Sequence[AttackResult]) -> Iterator[_Path]:
    dense = [r for r in results if r.network.network == "dense"] or [r for r in results if r.network.method == "dense"]
    if len(dense) != 1:
        return
    stops = [r for r in results if r.network.method == "early-stopped" and _on_the_way(r.network, dense[0].network)]
    if stops:
        stops.sort(key=lambda r: len(r.network.curve))
        yield _Path("accuracy", "early-stopped", [*stops, dense[0]])
    if sparse.network.method == "butterfly":
        levels = [r for r in results if r.network.method == "imp"]
        if levels:
            levels.sort(key=lambda r: r.network.density)
            yield _Path("accuracy", "imp", [*levels, dense[0]])
            yield _Path("density", "imp", [*levels, dense[0]])


def _on_the_way(stopped: NetworkResult, dense: NetworkResult) -> bool:
    """Whether a network is a state of the dense one's own training, not of one by another recipe."""
    return dense.curve[: len(stopped.curve)] == stopped.curve


class _Drawn(NamedTuple):
    """Differences sparse - other of one seed: as measured, and B draws of them; both attack and test accuracy."""

    attack: float
    attack_B: Floats
    test: float
    test_B: Floats
    sparse: tuple[float, float]  # attack and test accuracy
    beyond: bool  # nothing on the path is as accurate, or as dense
    where: float  # epoch or density of the other


def _beside(sparse: AttackResult, path: _Path, attack_BJ: Floats, test_BJ: Floats) -> _Drawn:
    networks = [sparse, *path.networks]
    measured = np.array([[attack_accuracy(r), r.network.test_accuracy] for r in networks]).T
    attack_BJ, test_BJ = (
        np.concatenate([row[None], each]) for row, each in zip(measured, (attack_BJ, test_BJ), strict=True)
    )
    if path.against == "early-stopped":
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
        (float(measured[0, 0]), float(measured[1, 0])),
        bool(beyond_B[0]),
        where if path.against == "early-stopped" else math.exp(where),
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
        by_seed={s: d.attack for s, d in of_seed.items()},
        where={s: d.where for s, d in of_seed.items()},
        beyond=tuple(s for s, d in of_seed.items() if d.beyond),
        sentence=_sentence(sparse, at, against, attack, test, of_seed),
    )


def _sentence(
    sparse: AttackResult, at: At, against: Against, attack: Estimate, test: Estimate, of_seed: Mapping[int, _Drawn]
) -> str:
    other = "the dense network stopped early" if against == "early-stopped" else "iterative pruning"
    than = f"does not differ measurably in leakage from {other}"
    if attack.high < 0:
        than = f"leaks less than {other}"
    elif attack.low > 0:
        than = f"leaks more than {other}"
    sentence = f"{sparse.network.network} {than} at equal {at}: attack's balanced accuracy {_signed(attack)}"
    if at == "density":
        sentence += f", test accuracy {_signed(test)}"
    missed = [s for s, d in of_seed.items() if d.beyond]
    if missed:
        what = "accurate" if at == "accuracy" else "dense"
        sentence += (
            f" (seed {', '.join(map(str, missed))}: nothing to compare with is just as {what}; beside the nearest)"
        )
    return sentence + "."


def _signed(e: Estimate) -> str:
    return show(e) if e.value < 0 else f"+{show(e)}"
