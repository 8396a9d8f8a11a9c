"""ROC of many attacks on one network: log-log, a line an attack, with the band that its seeds or its n leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lacewing.metrics import Floats, clopper_pearson
from lacewing.reporting import _svg
from lacewing.reporting._data import (
    PAPER_ATTACK,
    ReportData,
    Series,
    attack_names,
    density_text,
    estimates,
    percent,
    results_of,
    seeds_text,
    series,
)
from lacewing.reporting._figures import Drawing, nothing
from lacewing.reporting._svg import MUTED
from lacewing.results import AttackResult, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

NETWORKS = 6  # drawn, beside the table that holds all of them
_POINTS = 72  # rates of a curve, log-spaced
# Okabe & Ito once more, dashes as a second sign; the paper's attack is always the first.
_STYLES = (
    ("#1d2430", "-"),
    ("#0072b2", "-"),
    ("#d55e00", (0, (5, 1.5))),
    ("#009e73", "-"),
    ("#cc79a7", (0, (1.5, 1.2))),
    ("#8a6d00", (0, (6, 1.5, 1.5, 1.5))),
    ("#5b9bd5", (0, (4, 1, 1, 1, 1, 1))),
    ("#7f3c8d", (0, (2.5, 1.2))),
)
COLOURS = len(_STYLES)
_REST = "#9aa3af"

Results = Mapping[str, Mapping[int, AttackResult]]  # by attack, then by seed


class Curve(NamedTuple):
    """TPR (G) over FPR (G) from 1/non-members on: the mean over seeds and its band."""

    fpr_G: Floats
    tpr_G: Floats
    low_G: Floats
    high_G: Floats


def curve(results: Sequence[AttackResult]) -> Curve | None:
    """At each rate the largest TPR whose FPR is at most that rate: the mean over seeds, with lowest and highest.

    A single seed has the pointwise exact (Clopper-Pearson, 95 %) interval of its TPR instead. Rates below
    1/non-members of the smallest network are left out, as no threshold could show them. None: no ROC is here.
    """
    kept = [r for r in results if r.score_N.size]
    if not kept:
        return None
    floor = 1.0 / min(max(r.n_nonmembers, 1) for r in kept)
    grid = np.geomspace(floor, 1.0, _POINTS) if floor < 1 else np.ones(1)
    rocs = [r.roc() for r in kept]
    reached = np.stack([tpr[np.searchsorted(fpr, grid * (1 + 1e-9), side="right") - 1] for fpr, tpr in rocs])
    if len(kept) > 1:
        return Curve(grid, reached.mean(axis=0), reached.min(axis=0), reached.max(axis=0))
    n = kept[0].n_members
    exact = {k: clopper_pearson(k, n) for k in sorted({round(float(t) * n) for t in reached[0]})}
    ends = np.array([exact[round(float(t) * n)] for t in reached[0]])
    return Curve(grid, reached[0], ends[:, 0], ends[:, 1])


def highlighted(results: Sequence[Results]) -> list[str]:
    """The attacks that get a colour, the same in every figure: the paper's, then the strongest by mean AUC."""
    means: dict[str, list[float]] = {}
    for of_attack in results:
        for name, of_seed in of_attack.items():
            means.setdefault(name, []).extend(e.value for e in estimates(of_seed, "auc").values())
    ranked = sorted((n for n in means if means[n]), key=lambda n: (n != PAPER_ATTACK, -fmean(means[n])))
    return ranked[:COLOURS]


def draw(name: str, title: str, results: Results, coloured: Sequence[str], about: str) -> Drawing:
    """One network's figure; ``coloured`` attacks have a colour and a band, the others are thin and grey."""

    curves = {attack: found for attack, of_seed in results.items() if (found := curve(list(of_seed.values())))}
    floor = min((float(c.fpr_G[0]) for c in curves.values()), default=1e-3)
    floor = min(floor, 0.5)
    tips: dict[str, str] = {}
    with _svg.style():
        fig = _svg.figure(9.2, 5.0)
        ax = fig.add_subplot()
        ax.plot([floor, 1.0], [floor, 1.0], color=MUTED, linewidth=1, linestyle=":", label="chance")
        keys = _curves(ax, curves, coloured, floor)
        for i, attack in enumerate(curves):
            tips[f"curve-{i}"] = f"{attack}: AUC {_auc(results[attack])}"
        _svg.roc_axes(ax, floor)
        if curves:
            ax.legend(handles=keys, loc="center left", bbox_to_anchor=(1.01, 0.5))
        else:
            nothing(ax, "no attack has run yet")
        svg = _svg.to_svg(fig, title, tips)
    summary = ", ".join(f"{attack} {_auc(results[attack])}" for attack in curves)
    return Drawing(name, title, f"{title}. AUC: {summary or 'nothing to show yet'}.", _caption(results, about), svg)


def _curves(ax: Axes, curves: Mapping[str, Curve], coloured: Sequence[str], floor: float) -> list[Line2D]:
    """Draw all curves; returns the legend's handles, chance last."""
    handles: dict[str, Line2D] = {}
    rest = [attack for attack in curves if attack not in coloured]
    for i, (attack, found) in enumerate(curves.items()):
        seen = found.tpr_G > 0
        x, y = found.fpr_G[seen], found.tpr_G[seen]
        if attack in rest:
            label = f"{len(rest)} other attack{'s' * (len(rest) > 1)}"
            (line,) = ax.plot(x, y, color=_REST, linewidth=0.8, alpha=0.8, label=label, zorder=1.5, gid=f"curve-{i}")
            handles[""] = line
            continue
        rank = list(coloured).index(attack)
        colour, dash = _STYLES[rank]
        low = np.maximum(found.low_G[seen], floor / 2)  # a log axis has no zero
        ax.fill_between(x, low, np.maximum(found.high_G[seen], low), color=colour, alpha=0.11, linewidth=0)
        (line,) = ax.plot(
            x, y, color=colour, linestyle=dash, linewidth=1.8, label=attack, zorder=3 - 0.1 * rank, gid=f"curve-{i}"
        )
        handles[attack] = line
    ordered = [handles[attack] for attack in coloured if attack in handles]
    return [*ordered, *([handles[""]] if "" in handles else []), ax.lines[0]]


def _auc(of_seed: Mapping[int, AttackResult]) -> str:
    values = [e.value for e in estimates(of_seed, "auc").values()]
    return f"{fmean(values):.3f}" if values else "not given"


def _caption(results: Results, about: str) -> str:
    seeds = sorted({seed for of_seed in results.values() for seed in of_seed})
    every = [r for of_seed in results.values() for r in of_seed.values()]
    if not every:
        return "Nothing to show yet."
    members, others = {r.n_members for r in every}, {r.n_nonmembers for r in every}
    n = f"n\u00a0=\u00a0{_span(members)} members and {_span(others)} non-members"
    if len(seeds) > 1:
        band = f"Lines are means over {seeds_text(seeds)}, bands run from the lowest seed to the highest at each rate"
    else:
        band = "Bands are pointwise exact 95\u202f% intervals of the true-positive rate (one network)"
    return (
        f"{about}{band}; {n} per network. Left of 1/n there is no estimate, so curves start there. Grey lines name "
        "themselves under the pointer."
    )


def _span(counts: set[int]) -> str:
    return "–".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))


def choice(
    shown: Sequence[Series], found: Mapping[tuple[str, str], object], look: Callable[[str], Look]
) -> list[Series]:
    """The networks drawn: the dense one, the sparsest of each method and of each sequence in the band, then others."""
    attacked = [s for s in shown if any(network == s.network for network, _ in found)]
    if len(attacked) <= NETWORKS:
        return attacked
    first = [s for s in attacked if s.baseline][:1]
    methods = dict.fromkeys(s.method for s in attacked if s.sparse)
    for method in methods:
        first.append(min((s for s in attacked if s.sparse and s.method == method), key=lambda s: s.density))
    for method in methods:
        banded = [s for s in attacked if s.method == method and s.in_band and look(method).sequence]
        first += [s for s in banded[-1:] if s not in first]
    rest = [s for s in attacked if s not in first]
    step = max(1, len(rest) // max(1, NETWORKS - len(first)))
    kept = [*first, *rest[::step]][:NETWORKS]
    return [s for s in attacked if s in kept]


def by_network(data: ReportData) -> list[tuple[str, Drawing]]:
    """A figure for each chosen network, and the label to choose it by; none for fewer than two attacks."""
    names, found, shown = attack_names(data), results_of(data), series(data)
    if len({name for _, name in found}) < 2:
        return []
    of_network: dict[str, Results] = {
        s.network: {name: found[s.network, name] for name in names if (s.network, name) in found} for s in shown
    }
    coloured = highlighted(list(of_network.values()))
    made = []
    for i, entry in enumerate(choice(shown, found, data.look)):
        label = f"{data.label(entry.network, entry.method)} ({density_text(entry.density)})"
        accuracy = percent(fmean(entry.accuracy.values()))
        about = f"{label}, test accuracy {accuracy}. "
        title = f"ROC of every attack on {label}"
        made.append((label, draw(f"roc-attacks-{i}", title, of_network[entry.network], coloured, about)))
    return made
