"""How often each lower bound on epsilon exceeds the truth, and how near it comes: mechanisms of known epsilon.

    python benchmarks/epsilon.py [--runs 1000] [--delta 1e-5] [--quick]

First table, bounds from scores: n members and n non-members, each told independently by the mechanism; the hull with
thresholds from the measured records themselves is the published form, which is not part of the package. Second table,
bounds from one training: m canaries with fair coins, of which the g surest are guessed. Each cell: the median bound,
and in brackets the share of runs above the true epsilon, which must not exceed 5 % (plus the noise of so many runs). A
dash: not valid for this mechanism. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lacewing import metrics
from lacewing.metrics import _epsilon_more as more
from lacewing.metrics._epsilon import log_ratio

Draw = Callable[[np.random.Generator, Any], Any]
Mechanism = tuple[str, Draw, float, bool]  # name, scores of records, true epsilon, whether it is Gaussian-DP


def gaussian(mu: float, delta: float) -> Mechanism:
    return f"Gaussian, mu {mu:g}", lambda rng, inside: rng.normal(mu * inside, 1), more._epsilon_of_mu(mu, delta), True


def laplace(eps: float) -> Mechanism:
    return "Laplace", lambda rng, inside: rng.laplace(eps * inside, 1), eps, False


def response(eps: float) -> Mechanism:
    truth = 1 / (1 + math.exp(-eps))

    def told(rng: np.random.Generator, inside: Any) -> Any:
        return (rng.random(len(inside)) < np.where(inside, truth, 1 - truth)).astype(float)

    return "randomised response", told, eps, False


def hull_on_the_same_records(scores: Any, member: Any, delta: float) -> float:
    """The published form: Bonferroni over the K hull thresholds of the measured records."""
    thresholds = more._hull_thresholds(scores[member], scores[~member])
    if not len(thresholds):
        return 0.0
    below = [np.searchsorted(np.sort(scores[kind]), thresholds) for kind in (member, ~member)]
    m, n, local = int(member.sum()), int((~member).sum()), 0.05 / (2 * len(thresholds))
    fnr, fpr = more._upper(below[0], m, local), more._upper(n - below[1], n, local)
    return max(0.0, float(max(log_ratio(fnr, fpr, delta).max(), log_ratio(fpr, fnr, delta).max())))


def cell(bounds: Sequence[float] | None, true: float) -> str:
    if bounds is None:
        return "–"
    return f"{np.median(bounds):.2f} ({100 * np.mean(np.array(bounds) > true + 1e-9):.1f} %)"


def from_scores(mechanism: Mechanism, n: int, runs: int, delta: float) -> str:
    name, draw, true, is_gaussian = mechanism
    rng, member = np.random.default_rng(0), np.arange(2 * n) < n
    functions: list[Callable[..., float] | None] = [
        metrics.epsilon_lower_bound,
        metrics.epsilon_hull_bonferroni_split,
        metrics.epsilon_gaussian_dp if is_gaussian else None,
        hull_on_the_same_records,
    ]
    drawn = [draw(rng, member) for _ in range(runs)]
    cells = [cell(None if f is None else [f(s, member, delta) for s in drawn], true) for f in functions]
    return f"| {name} | {true:.2f} | {n:,} | {' | '.join(cells)} |"


def from_one_run(mechanism: Mechanism, m: int, g: int, runs: int, delta: float) -> str:
    name, draw, true, is_gaussian = mechanism
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(runs):
        inside = rng.random(m) < 0.5
        scores = draw(rng, inside)
        centred = (
            scores - (scores.max() + scores.min()) / 2 if name.startswith("rand") else scores - _centre(name, true)
        )
        surest = np.argsort(-np.abs(centred), kind="stable")[:g]
        counts.append(int(((centred > 0) == inside)[surest].sum()))
    functions: list[Callable[..., float] | None] = [
        metrics.one_run_epsilon,
        metrics.one_run_fdp_epsilon,
        metrics.one_run_gaussian_dp_epsilon if is_gaussian else None,
    ]
    cells = []
    for f in functions:
        known = {} if f is None else {c: f(g, c, m, delta) for c in set(counts)}
        cells.append(cell(None if f is None else [known[c] for c in counts], true))
    return f"| {name} | {true:.2f} | {m:,} | {g:,} | {' | '.join(cells)} |"


def _centre(name: str, true: float) -> float:
    """Halfway between what a member and a non-member tell."""
    return float(name.split()[-1]) / 2 if name.startswith("Gaussian") else true / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--quick", action="store_true", help="two runs a cell")
    given = parser.parse_args()
    if given.quick:
        given.runs = 2
    mechanisms = [*(gaussian(mu, given.delta) for mu in (0.5, 1.0, 2.0)), laplace(1.0), response(1.0), response(3.0)]
    print("| mechanism | true epsilon | n of each | all thresholds | hull, split | Gaussian-DP | hull, same records |")
    print("|---|---|---|---|---|---|---|")
    for mechanism in mechanisms:
        for n in (200, 1000, 5000):
            print(from_scores(mechanism, n, given.runs, given.delta), flush=True)
    print("\n| mechanism | true epsilon | canaries | guesses | one-run | one-run f-DP | one-run Gaussian-DP |")
    print("|---|---|---|---|---|---|---|")
    for mechanism in mechanisms:
        for m, g in ((1000, 1000), (1000, 100), (10_000, 1000)):
            print(from_one_run(mechanism, m, g, given.runs, given.delta), flush=True)


if __name__ == "__main__":
    main()
