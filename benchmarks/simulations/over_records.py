"""Intervals over records alone, which studies of fewer than three seeds have: they speak of the very networks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

from lacewing import metrics
from lacewing.metrics import Floats, Metric
from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff import PAPER_SLOPE, Slope, tradeoff
from simulations.draws import drawn
from simulations.figures import COVERS, Figure, share
from simulations.over_seeds import PAPER_SHORT, relative

RESAMPLES = 400  # of the bootstrap; the package's 2,000 take five times as long
EXACTLY = 10**12  # records that leave no noise: draws are the networks' true accuracies and leaks


def slopes(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """The slope of two seeds, with its mean loss and gain, against those of the same networks on endless records."""
    n, seeds, spread = 1000, 2, 0.006
    shape = PAPER_SHORT.with_slope(PAPER_SLOPE)
    rng = np.random.default_rng([6, n])
    studies = max(studies // 10, 30) if quick else studies
    true = drawn(rng, (studies, seeds), shape.accuracy_J, shape.leak_J, n=EXACTLY, spread=spread)
    inside: dict[str, list[bool]] = {"slope": [], "mean loss": [], "mean gain": []}
    widths: dict[str, list[float]] = {name: [] for name in inside}
    for accuracy_SJ, leak_SJ in zip(*true, strict=True):
        gain, loss = (float(values.mean()) for values in relative(accuracy_SJ, leak_SJ))
        found = _published(rng, accuracy_SJ, leak_SJ, n)
        assert found.ratio is not None
        assert found.mean_loss is not None
        assert found.mean_gain is not None
        for name, truth, (_, low, high) in (
            ("slope", gain / loss, found.ratio),
            ("mean loss", loss, found.mean_loss),
            ("mean gain", gain, found.mean_gain),
        ):
            inside[name].append((low is None or low <= truth) and (high is None or truth <= high))
            widths[name].append(math.inf if low is None or high is None else high - low)
    for name, of in inside.items():
        what, width = f"{name}, over records", float(np.median(widths[name]))
        simulated = "paper-short, the same networks on endless records"
        yield Figure(what, simulated, n, seeds, "covers (median width)", share(of), studies, COVERS, width)


def _published(rng: np.random.Generator, accuracy_SJ: Floats, leak_SJ: Floats, n: int) -> Slope:
    """Records that are hard for one network are hard for the others too: half of each record's noise is its own."""
    member = np.arange(2 * n) < n
    results = []
    for s, (accuracies, leaks) in enumerate(zip(accuracy_SJ, leak_SJ, strict=True)):
        shared = rng.standard_normal((2, 2 * n))
        for j, (accuracy, leak) in enumerate(zip(accuracies, leaks, strict=True)):
            noise = math.sqrt(0.5) * (shared + rng.standard_normal((2, 2 * n)))
            hit, correct = noise[0] < ndtri(leak), noise[1] < ndtri(accuracy)
            name, method, density = ("dense", "dense", 1.0) if j == 0 else (f"imp-{j}", "imp", 0.1)
            test = float(correct[~member].mean())
            network = NetworkResult(name, method, "target", s, density, density, 1, 1, 1.0, test)
            measured = {"balanced_accuracy": metrics.balanced_accuracy(hit == member, member)}
            records = {"record_N": np.arange(2 * n), "member_N": member, "hit_N": hit, "correct_N": correct}
            results.append(AttackResult(network, "loss", "", "", n, n, measured, **records))
    return tradeoff(results, attack="loss", resamples=RESAMPLES).slope


def paired(studies: int, seeds_of: tuple[int, ...], quick: bool) -> Iterator[Figure]:
    """`metrics.paired` of one seed: two networks whose members score .9 and .6 sd higher."""
    n, shifts, threshold = 1000, (0.9, 0.6), 0.45
    studies = max(studies // 10, 30) if quick else studies
    truths: dict[Metric, float] = {
        "auc": float(ndtr(shifts[0] / math.sqrt(2)) - ndtr(shifts[1] / math.sqrt(2))),
        "balanced_accuracy": float(ndtr(shifts[0] - threshold) - ndtr(shifts[1] - threshold)) / 2,
    }
    member = np.arange(2 * n) < n
    for metric, truth in truths.items():
        rng = np.random.default_rng([7, n, *metric.encode()])
        found = []
        for seed in range(studies):
            shared = rng.standard_normal(2 * n)
            pair = [math.sqrt(0.5) * (shared + rng.standard_normal(2 * n)) + shift * member for shift in shifts]
            if metric == "balanced_accuracy":
                pair = [scores > threshold for scores in pair]
            first, second = pair
            found.append(metrics.paired(first, second, member, metric, resamples=RESAMPLES, seed=seed).difference)
        inside = share([e.low <= truth <= e.high for e in found])
        width = float(np.median([e.high - e.low for e in found]))
        what = f"paired difference over records, {'AUC' if metric == 'auc' else 'balanced accuracy'}"
        simulated = "two networks on the same records"
        yield Figure(what, simulated, n, 1, "covers (median width)", inside, studies, COVERS, width)
