"""Families of recipes at equal accuracy: the difference with its hull, and the verdicts of declared comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lacewing.config import Comparison, Tradeoff
from lacewing.metrics import Estimate, Floats, detectable
from lacewing.results import AttackResult, Kind, NetworkResult, Role
from lacewing.tradeoff import Answer, answers
from lacewing.tradeoff import _equal as package
from lacewing.tradeoff._answers import LEVEL
from simulations.draws import CURVES, PATHS, Studies, drawn
from simulations.figures import COVERS, FALSE, Figure, share, tidy

EFFECT = -0.02  # in A: the true difference that power is for
FEW = (3, 5, 8)
TOLD = 0.02  # share of studies without a common accuracy from which the table tells it


@dataclass(frozen=True)
class Setting:
    """A sparse family and control families whose leak is one curve of accuracy, and an offset of each family.

    With a ``path`` accuracy and leak are those of training for so long, and the ranges are of epochs.
    """

    control: tuple[float, float, int] = (0.66, 0.76, 8)  # accuracies from, to, and how many recipes
    sparse: tuple[float, float, int] = (0.67, 0.75, 5)
    curve: str = "quadratic"
    n: int = 1000
    spread: float = 0.006
    shadows: bool = True  # whether the accuracy of shadow networks decides which recipes are kept, else the targets'
    offsets: tuple[float, ...] = (0.0,)  # of each control family
    sparse_offsets: tuple[float, ...] = (0.0,)
    halves: bool = False
    path: str = ""

    @property
    def text(self) -> str:
        """As the table names it."""
        (low, high, many), (least, most, few) = self.control, self.sparse
        if self.path:
            epochs = f"{many} controls of {low:g} to {high:g} epochs, {few} sparse of {least:g} to {most:g}"
            return f"{self.path}, {epochs}, spread {tidy(self.spread)}"
        decided = "shadows decide" if self.shadows else "targets decide"
        return (
            f"{self.curve}, {many} controls at {tidy(low)} to {tidy(high)}, {few} sparse at {tidy(least)} to "
            f"{tidy(most)}, spread {tidy(self.spread)}, {decided}"
        )

    def families(self) -> list[tuple[str, Floats, float]]:
        """Name, accuracies (or epochs) and offset in leak of each, the sparse ones first."""
        return [
            *((f"sparse-{i}", np.linspace(*self.sparse), offset) for i, offset in enumerate(self.sparse_offsets)),
            *((f"control-{i}", np.linspace(*self.control), offset) for i, offset in enumerate(self.offsets)),
        ]

    def drawn(self, studies: int, seeds: int) -> tuple[Studies, Floats]:
        """Targets, and the accuracy (R, S, J) of shadows on records of their own."""
        there = self.families()
        accuracy = np.concatenate([places for _, places, _ in there])
        if self.path:
            accuracy, leak = PATHS[self.path](accuracy)
        else:
            leak = CURVES[self.curve](accuracy)
        leak = leak + np.concatenate([np.full(len(places), offset) for _, places, offset in there])
        key = f"{self.text}{self.n}{seeds}{self.offsets}{self.sparse_offsets}".encode()
        rng = np.random.default_rng(list(key))
        shape = (studies, 2 * seeds if self.halves else seeds)
        targets, shadows = (
            drawn(rng, shape, accuracy, leak, n=self.n, spread=self.spread, pairs=self.halves) for _ in range(2)
        )
        return targets, shadows.accuracy_RSJ


def equal(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """One sparse family against one control family: hull, false verdicts where it is a control in disguise, power."""
    base = Setting()
    settings = [replace(base, n=n, shadows=shadows) for n in (1000, 3000) for shadows in (True, False)]
    with_power = list(settings)
    if not quick:
        wide = [
            replace(base, spread=spread, shadows=shadows)
            for spread in (0.003, 0.012, 0.02)
            for shadows in (True, False)
        ]
        settings += wide
        ranges = ((0.66, 0.69, 4), (0.67, 0.75, 4), (0.73, 0.76, 4))
        settings += [replace(base, curve=curve, sparse=sparse) for curve in CURVES for sparse in ranges]
        low, high = 0.69, 0.73
        for many, few in ((20, 2), (2, 20), (20, 5), (5, 20), (10, 10), (4, 3)):
            wide_range, narrow = (low - 0.01, high + 0.01), (low, high)
            first, second = (wide_range, narrow) if many >= few else (narrow, wide_range)
            settings.append(replace(base, control=(*first, many), sparse=(*second, few)))
    for setting in settings:
        for seeds in seeds_of:
            yield from _equal(setting, seeds, studies, power=setting in with_power)


def folds(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """The same where leak is no function of accuracy: accuracy saturates or falls again along one path of both."""
    grids = [((2.0, 8.0, 6), (3.0, 5.0, 5)), ((3.0, 5.0, 6), (4.5, 8.0, 5))]
    if not quick:
        grids += [
            ((3.0, 8.0, 4), (3.0, 5.0, 20)),
            ((3.0, 8.0, 20), (3.0, 5.0, 2)),
            ((3.0, 5.0, 2), (3.0, 8.0, 20)),
            ((2.0, 8.0, 10), (4.0, 6.0, 4)),
            ((3.0, 8.0, 6), (2.0, 4.5, 6)),
        ]
    settings = [
        Setting(control, sparse, n=4500, spread=0.003, shadows=False, path=path)
        for path in PATHS
        for control, sparse in grids
    ]
    settings += [  # with about twice that noise
        Setting(control, sparse, n=1000, spread=0.006, shadows=False, path="short trainings")
        for control, sparse in grids[:2]
    ]
    for setting in settings:
        for seeds in seeds_of:
            yield from _equal(setting, seeds, studies, power=(setting.control, setting.sparse) == grids[0])


def _equal(setting: Setting, seeds: int, studies: int, *, power: bool) -> Iterator[Figure]:
    what = "difference at equal accuracy"

    def figure(name: str, value: float, studies: int = studies, **more: object) -> Figure:
        return Figure(what, setting.text, setting.n, seeds, name, value, studies, **more)  # type: ignore[arg-type]

    found = _differences(setting, seeds, studies)
    answered = [each for each in found if not isinstance(each, str)]
    if answered:
        inside = share([e.estimate.low <= 0 <= e.estimate.high for e in answered])
        width = float(np.median([e.estimate.high - e.estimate.low for e in answered]))
        yield figure("hull covers (median width)", inside, len(answered), wanted=(COVERS[0], 1.0), beside=width)
        false = math.fsum(e.p <= LEVEL for e in answered) / studies
        less = math.fsum(e.p <= LEVEL and e.p_less < e.p_more for e in answered) / studies
        yield figure("false verdicts (of them leaks less)", false, wanted=FALSE, beside=less)
    if len(answered) < (1 - TOLD) * studies:
        yield figure("no common accuracy", 1 - len(answered) / studies)
    if power and answered:
        told = detectable(float(np.sqrt(np.mean([e.sd**2 for e in answered]))), seeds).difference
        effects = [(EFFECT, f"power for {tidy(EFFECT)}")]
        if not setting.path:  # where few recipes are kept the mean size is that of the worst fits, beyond any leak
            effects.append((-told, "power at the size it prints (that size)"))
        for effect, name in effects:
            shifted = _differences(replace(setting, sparse_offsets=(effect,)), seeds, studies)
            right = [not isinstance(e, str) and e.p <= LEVEL and e.p_less < e.p_more for e in shifted]
            yield figure(name, share(right), beside=told if effect == -told else None)


def _differences(setting: Setting, seeds: int, studies: int) -> list[package.Equal | str]:
    """What the package says of each study, in arrays: the rule of a verdict of one family against one."""
    targets, shadows_RSJ = setting.drawn(studies, seeds)
    decided_RJ = (shadows_RSJ if setting.shadows else targets.accuracy_RSJ).mean(axis=1)
    first_J = np.arange(decided_RJ.shape[1]) < setting.sparse[2]
    found: list[package.Equal | str] = []
    for decided_J, accuracy_SJ, leak_SJ in zip(decided_RJ, *targets, strict=True):
        kept = package.common(decided_J, first_J)
        if not kept.enough:
            found.append("no common accuracy")
            continue
        of = kept.kept_J
        found.append(package.difference(accuracy_SJ[:, of], leak_SJ[:, of], first_J[of]))
    return found


def declared(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """Declared comparisons, from results to verdict: one control family, several, a list corrected after Holm."""
    few = tuple(s for s in seeds_of if s in FEW)
    ends = tuple(s for s in seeds_of if s in (3, 8))
    primary = Tradeoff(primary=Comparison(family="sparse-0", metric="loss.balanced_accuracy"))
    base = Setting(control=(0.66, 0.76, 6))
    cells = [(base, "one control family", seeds_of), (replace(base, offsets=(0.0,) * 3), "three equal controls", few)]
    if not quick:
        cells += [
            (replace(base, halves=True, shadows=False, n=808), "one control family, cuts of two seeds", ends),
            (replace(base, offsets=(0.0,) * 6), "six equal controls", ends),
            (replace(base, offsets=(0.0, 0.02, 0.04)), "three controls, two of them leak .02 and .04 more", ends),
        ]
    for setting, name, seeds_here in cells:
        for seeds in seeds_here:
            yield from _primary(primary, setting, name, seeds, studies)
    asked = tuple(
        Comparison(family=f"sparse-{i}", against="control-0", metric="loss.balanced_accuracy") for i in range(3)
    )
    listed = Tradeoff(comparisons=asked)
    for offsets, name in (
        ((0.0,) * 3, "three sparse families, none differs"),
        ((-0.04, 0.0, 0.0), "three sparse families, one leaks .04 less"),
    ):
        for seeds in ends[:1] if quick else few:
            yield from _holm(listed, replace(base, sparse_offsets=offsets), name, seeds, studies)


def _primary(asked: Tradeoff, setting: Setting, name: str, seeds: int, studies: int) -> Iterator[Figure]:
    what = "primary comparison"
    said = [answer[0].verdict for answer in _answers(asked, setting, seeds, studies)]
    false = share([verdict in ("leaks less", "leaks more") for verdict in said])
    less = share([verdict == "leaks less" for verdict in said])
    yield Figure(
        what, name, setting.n, seeds, "false verdicts (of them leaks less)", false, studies, FALSE, beside=less
    )
    shifted = replace(setting, sparse_offsets=(EFFECT,))
    found = share([answer[0].verdict == "leaks less" for answer in _answers(asked, shifted, seeds, studies)])
    yield Figure(what, name, setting.n, seeds, f"power for {tidy(EFFECT)}", found, studies)


def _holm(asked: Tradeoff, setting: Setting, name: str, seeds: int, studies: int) -> Iterator[Figure]:
    what = "list of comparisons, Holm"
    nulls = [i for i, offset in enumerate(setting.sparse_offsets) if offset == 0]
    said = [[answer.verdict for answer in of] for of in _answers(asked, setting, seeds, studies)]
    false = share([any(of[i] in ("leaks less", "leaks more") for i in nulls) for of in said])
    yield Figure(what, name, setting.n, seeds, "studies with a false verdict", false, studies, FALSE)
    if len(nulls) < len(setting.sparse_offsets):
        found = share([of[0] == "leaks less" for of in said])
        effect = tidy(setting.sparse_offsets[0])
        yield Figure(what, name, setting.n, seeds, f"power for {effect}", found, studies)


def _answers(asked: Tradeoff, setting: Setting, seeds: int, studies: int) -> Iterator[tuple[Answer, ...]]:
    targets, shadows_RSJ = setting.drawn(studies, seeds)
    recipes = [
        (family, f"{family}-{j}") for family, accuracies, _ in setting.families() for j in range(len(accuracies))
    ]
    target, shadow = _networks(recipes, "target"), _networks(recipes, "shadow")
    for accuracy_SJ, leak_SJ, shadow_SJ in zip(*targets, shadows_RSJ, strict=True):
        results = [
            AttackResult(target(s, j, accuracy), "loss", "", "", setting.n, setting.n, {"balanced_accuracy": leak})
            for s, of_seed in enumerate(zip(accuracy_SJ, leak_SJ, strict=True))
            for j, (accuracy, leak) in enumerate(zip(of_seed[0], map(_estimate, of_seed[1]), strict=True))
        ]
        others = [shadow(s, j, a) for s, of_seed in enumerate(shadow_SJ) for j, a in enumerate(of_seed)]
        yield answers(asked, results, others if setting.shadows else (), halves=setting.halves)


def _networks(recipes: list[tuple[str, str]], role: Role) -> Callable[[int, int, float], NetworkResult]:
    def made(seed: int, j: int, accuracy: float) -> NetworkResult:
        family, name = recipes[j]
        kind: Kind = "sparse" if family.startswith("sparse") else "control"
        method = "imp" if kind == "sparse" else "dense"
        return NetworkResult(name, method, role, seed, 1.0, 1.0, 1, 1, 1.0, float(accuracy), family=family, kind=kind)

    return made


def _estimate(value: float) -> Estimate:
    return Estimate(float(value), math.nan, math.nan)
