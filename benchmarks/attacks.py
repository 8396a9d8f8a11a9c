"""LiRA and RMIA at full size: Lacewing's functions against a plain loop over records, in one run.

    python benchmarks/attacks.py [--records 60000] [--references 64] [--queries 18] [--population 10000] [--repeats 3]
    python benchmarks/attacks.py --quick

Log-odds are float32 and simulated: normal, shifted per record, higher where a network trained on the record; each
network trained on a random half. The loops are what one would write for a single record with numpy and scipy.stats;
they run on the first ``--loop-records`` records and their time is extrapolated to all of them. Before timing, both
sides must agree on those records to 1e-9. The best of ``--repeats`` runs counts. Peak memory is that of the whole
process so far, inputs included.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import norm

from lacewing.attacks import lira, rmia
from lacewing.attacks._lira import MIN_STD
from lacewing.support.machine import usable_cores


def simulated(records: int, references: int, queries: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Target phi (N, Q), reference phi (K, N, Q), both float32, and reference membership (K, N)."""
    rng = np.random.default_rng(seed)
    member_KN = rng.random((references + 1, records)) < 0.5
    hardness = 2 * rng.standard_normal((records, 1), np.float32)
    phi = np.empty((references + 1, records, queries), np.float32)
    for network, member in zip(phi, member_KN, strict=True):
        rng.standard_normal(out=network, dtype=np.float32)
        network += hardness
        network += 2 * member[:, None]
    return phi[0], phi[1:], member_KN[1:]


def lira_loop(target: Any, reference: Any, inside: Any, records: int) -> Any:
    """Online LiRA, own variances, medians: one record after the other."""
    scores = np.empty(records)
    for n in range(records):
        score = 0.0
        for seen, sign in ((reference[inside[:, n], n], 1), (reference[~inside[:, n], n], -1)):
            values = seen.astype(np.float64)
            spread = np.maximum(values.std(axis=0), MIN_STD)
            score += sign * norm.logpdf(target[n].astype(np.float64), np.median(values, axis=0), spread).mean()
        scores[n] = score
    return scores


def rmia_loop(p: Any, references: Any, inside: Any, p_z: Any, references_z: Any, records: int) -> Any:
    """Offline RMIA, gamma = 1, a = 0.3: one record after the other, each against all population records."""
    ratio_z = p_z / ((1.3 * references_z.mean(axis=0) + 0.7) / 2)
    scores = np.empty(records)
    for n in range(records):
        ratio = p[n] / ((1.3 * references[~inside[:, n], n].mean() + 0.7) / 2)
        scores[n] = np.mean(ratio / ratio_z >= 1.0)
    return scores


def timed(function: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The result, and the best time in seconds."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return result, best


def compare(
    name: str, given: argparse.Namespace, ours: Callable[[], Any], loop: Callable[[int], Any] | None
) -> float | None:
    """Print one line: our time, the loop's, and the peak memory of the process so far; how often ours fits into its."""
    scores, seconds = timed(ours, given.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # KiB on Linux
    beside = f"{'':>18}"
    if loop is not None:
        some = min(given.records, given.loop_records)
        expected, loop_seconds = timed(lambda: loop(some), 1)
        np.testing.assert_allclose(scores[:some], expected, rtol=1e-9, atol=1e-9)
        loop_seconds *= given.records / some
        beside = f"{loop_seconds:>8.1f} s{loop_seconds / seconds:>7.0f}x"
    print(f"{name:<34}{seconds:>8.2f} s{beside}{peak:>8.2f} GB", flush=True)
    return None if loop is None else loop_seconds / seconds


def compare_lira(given: argparse.Namespace) -> float | None:
    target, reference, inside = simulated(given.records, given.references, given.queries)
    ratio = compare(
        "LiRA online, per-record, median",
        given,
        lambda: lira(target, reference, inside),
        lambda some: lira_loop(target, reference, inside, some),
    )
    others: dict[str, dict[str, Any]] = {
        "LiRA online, per-record, mean": {"centre": "mean"},
        "LiRA online, pooled, median": {"variance": "pooled"},
        "LiRA online, global, median": {"variance": "global"},
        "LiRA offline, per-record, median": {"mode": "offline"},
    }
    for name, options in others.items():
        compare(name, given, partial(lira, target, reference, inside, **options), None)
    return ratio


def compare_rmia(given: argparse.Namespace) -> None:
    phi, phi_K, inside = simulated(given.records, given.references, 1)
    phi_z, phi_Kz, _ = simulated(given.population, given.references, 1, seed=1)
    p, p_K, p_z, p_Kz = (1 / (1 + np.exp(-x[..., 0].astype(np.float64))) for x in (phi, phi_K, phi_z, phi_Kz))
    compare(
        "RMIA offline",
        given,
        lambda: rmia(p, p_K, inside, p_z, p_Kz, mode="offline"),
        lambda some: rmia_loop(p, p_K, inside, p_z, p_Kz, some),
    )
    compare("RMIA online", given, lambda: rmia(p, p_K, inside, p_z, p_Kz), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("records", 60000), ("references", 64), ("queries", 18), ("population", 10000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loop-records", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="few records")
    given = parser.parse_args()
    if given.quick:
        given.records, given.population, given.repeats, given.loop_records = 300, 100, 1, 20
    print(
        f"{given.records:,} records, K = {given.references}, Q = {given.queries}, Z = {given.population:,}; loops run "
        f"on {min(given.records, given.loop_records):,} records, extrapolated; {usable_cores()} cores"
    )
    print(f"{'attack':<34}{'lacewing':>10}{'loop':>10}{'ratio':>8}{'peak RSS':>11}")
    ratio = compare_lira(given)
    compare_rmia(given)
    print(f"ratio: {ratio:.0f}, loop / lacewing, LiRA online")


if __name__ == "__main__":
    main()
