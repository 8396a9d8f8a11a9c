"""What attacks and audits of many records take, each beside a plain form of the same computation, in one run.

    python benchmarks/scoring.py [--quick] [--repeats 3] [--only discriminator lira ...]

Ours and the peer run in turns in one process, on one thread; CPU seconds, medians. Before timing both sides must agree.
Memory is what a child process needs beyond its inputs at its peak (elsewhere than on Linux beyond its peak before).
``--quick`` takes small inputs, for tests.
"""

from __future__ import annotations

import argparse
import atexit
import math
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from lacewing.support.machine import peak_memory


class Row(NamedTuple):
    """One computation twice, and a check of both results."""

    ours: Callable[[], Any]
    peer: Callable[[], Any]
    agree: Callable[[Any, Any], None]


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def discriminator(quick: bool) -> Row:
    """Nine perceptrons; scikit-learn's MLPClassifier."""
    from sklearn.neural_network import MLPClassifier

    from lacewing.attacks import _discriminator as module

    n, classes, rng = 300 if quick else 6000, 10, np.random.default_rng(0)

    def seen() -> tuple[Any, Any]:
        member, label = rng.random(n) < 0.5, rng.integers(classes, size=n)
        logits = 2 * rng.normal(size=(n, classes))
        logits[np.arange(n), label] += 3 + member
        return module.features(logits, label, np.exp(rng.normal(size=n) - 0.4 * member), classes), member

    given = (*seen(), *seen())

    def peer() -> Any:
        data = module.prepare(*given, seed=0)
        ask, scores = data.ask, {}
        shapes = [(hidden, rate) for hidden in module.HIDDEN for rate in module.LEARNING_RATES]
        for index, (hidden, rate) in enumerate(shapes):
            fit = MLPClassifier(
                hidden,
                learning_rate_init=rate,
                batch_size=min(len(data.fit), max(200, -(-len(data.fit) // 40))),
                max_iter=module.EPOCHS,
                n_iter_no_change=module.EPOCHS + 1,
                tol=0.0,
                random_state=int(np.random.SeedSequence([0, index]).generate_state(1)[0]),
            ).fit(data.fit, data.fit_is.astype(int))
            scores[str(index)] = fit.predict_proba(ask)[:, 1]
        return module.choose(scores, data)

    return Row(
        lambda: module.discriminate(*given, seed=0),
        peer,
        lambda a, b: close(a.scores_N, b.scores_N),
    )


def quantile(quick: bool, classes: int) -> Row:
    """The regressions of the quantile attack, six folds; scikit-learn's RidgeCV."""
    from sklearn.linear_model import RidgeCV

    from lacewing.attacks import _quantile as module
    from lacewing.attacks._logits import phi

    n, rng = 300 if quick else 10_000, np.random.default_rng(0)
    logits, label = 2 * rng.normal(size=(n, classes)), rng.integers(classes, size=n)
    logits[np.arange(n), label] += 4
    x, y, fold = module.other_class_features(logits, label), phi(logits, label), rng.permutation(n) % 5
    folds = [np.ones(n, bool), *(fold != k for k in range(5))]

    def peer() -> list[Any]:
        found = []
        for kept in folds:
            z = x[kept] - x[kept].mean(axis=0)
            spread = z.std(axis=0)
            z /= np.where(spread > 1e-12, spread, 1.0)
            line = RidgeCV(alphas=module.PENALTIES).fit(z, y[kept])
            residual = np.abs(y[kept] - line.predict(z))
            floor = math.sqrt(np.mean(residual**2)) / 1000
            RidgeCV(alphas=module.PENALTIES).fit(z, np.log(np.maximum(residual, floor)))
            found.append(line.predict(z))
        return found

    def agree(a: list[Any], b: list[Any]) -> None:
        for kept, ours, line in zip(folds, a, b, strict=True):
            close(x[kept] @ ours.mean_F + ours.mean, line)

    return Row(lambda: [module.fit_gaussian(x[kept], y[kept]) for kept in folds], peer, agree)


def references(quick: bool) -> tuple[Any, Any, Any]:
    """Target (N,), references (K, N), all float32 in 0..1, and membership (K, N)."""
    n, k = (2000, 32) if quick else (1_000_000, 256)
    rng = np.random.default_rng(0)
    return rng.random(n, np.float32), rng.random((k, n), np.float32), rng.random((k, n), np.float32) < 0.5


def lira(quick: bool) -> Row:
    """LiRA online; numpy's masked median and variance, a chunk of records at a time."""
    from lacewing.attacks import lira as ours

    target, reference, inside = references(quick)

    def peer() -> Any:
        scores = []
        for start in range(0, len(target), 4096):
            some, score = slice(start, start + 4096), 0.0
            for chosen, sign in ((inside[:, some], 1), (~inside[:, some], -1)):
                values = np.where(chosen, reference[:, some].astype(np.float64), np.nan)
                std = np.nanstd(values, axis=0)
                z = (target[some] - np.nanmedian(values, axis=0)) / std
                score = score + sign * (-(z**2) / 2 - np.log(std))
            scores.append(score)
        return np.concatenate(scores)

    return Row(lambda: ours(target[:, None], reference[:, :, None], inside), peer, close)


def rmia(quick: bool) -> Row:
    """RMIA offline; the same with whole arrays of float64."""
    from lacewing.attacks import rmia as ours

    target, reference, inside = references(quick)
    rng = np.random.default_rng(1)
    target_z, reference_z = rng.random(10_000), rng.random((len(reference), 10_000))

    def peer() -> Any:
        out = ~inside
        mean = np.where(out, reference.astype(np.float64), 0.0).sum(axis=0) / out.sum(axis=0)
        ratio_z = np.sort(target_z / ((1.3 * reference_z.mean(axis=0) + 0.7) / 2))
        return np.searchsorted(ratio_z, target / ((1.3 * mean + 0.7) / 2), side="right") / len(ratio_z)

    return Row(lambda: ours(target, reference, inside, target_z, reference_z, mode="offline"), peer, close)


def band(quick: bool) -> Row:
    """The band over all thresholds behind epsilon; plain bisection."""
    from lacewing.metrics import _band as module

    n, level = 2000 if quick else 500_000, math.sqrt(0.95)

    def ours() -> Any:
        module._band.cache_clear()
        module._local.cache_clear()
        return module._band(n, level)[1]

    def peer() -> Any:
        grid = module._grid(n)
        low, high = math.log((1 - level) / len(grid)), math.log(1 - level)
        while high - low > 1e-3:
            middle = (low + high) / 2
            holds = module._holds(n, grid, module._bounds(n, grid, math.exp(middle))) >= level
            low, high = (middle, high) if holds else (low, middle)
        return module._bounds(n, grid, math.exp(low))

    return Row(ours, peer, np.testing.assert_array_equal)


def audit(quick: bool) -> Row:
    """An audit of scores in a CSV file; numpy's loadtxt and scikit-learn's AUC, without intervals and checks."""
    from sklearn.metrics import roc_auc_score

    import lacewing as lw
    from lacewing.metrics import _band as module

    n, rng = 2000 if quick else 1_000_000, np.random.default_rng(0)
    member = rng.random(n) < 0.5
    path = Path(tempfile.gettempdir()) / f"lacewing-scores-{os.getpid()}.csv"
    lines = (f"{a:.6f},{int(b)}\n" for a, b in zip(rng.normal(size=n) + 0.5 * member, member, strict=True))
    path.write_text("score,member\n" + "".join(lines), encoding="utf-8")
    atexit.register(path.unlink, missing_ok=True)

    def ours() -> float:
        module._band.cache_clear()
        module._local.cache_clear()
        found = lw.audit_scores(path).attacks[0].metrics["auc"]
        assert found is not None
        return float(found.value)

    def peer() -> float:
        score, inside = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
        return float(roc_auc_score(inside, score))

    return Row(ours, peer, close)


ROWS: dict[str, Callable[[bool], Row]] = {
    "discriminator": discriminator,
    "quantile, 10 classes": lambda quick: quantile(quick, 10),
    "quantile, 100 classes": lambda quick: quantile(quick, 100),
    "lira": lira,
    "rmia": rmia,
    "band": band,
    "audit": audit,
}


def extra_memory(name: str, quick: bool, peer: bool, answer: Any) -> None:
    """In a child: puts the GB of the peak beyond what stands once the inputs are there."""
    warnings.simplefilter("ignore")  # of peers: fits that end before they converge
    row, forget = ROWS[name](quick), Path("/proc/self/clear_refs")
    with suppress(OSError):  # there is none but on Linux
        forget.write_text("5", "ascii")  # the peak so far, of making the inputs
    before = peak_memory() or math.nan
    (row.peer if peer else row.ours)()
    answer.put(((peak_memory() or math.nan) - before) / 1024**3)


def measured_memory(name: str, quick: bool, peer: bool) -> float:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=extra_memory, args=(name, quick, peer, answer))
    child.start()
    found: float = answer.get()
    child.join()
    return found


def cpu_seconds(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'what':<24}{'lacewing':>10}{'peer':>10}{'peer / ours':>13}{'more GB':>9}{'peer GB':>9}")
    with threadpool_limits(1):
        for name in given.only:
            row, taken = ROWS[name](given.quick), []
            for _ in range(1 if given.quick else given.repeats):
                (ours, seconds), (peer, peer_seconds) = cpu_seconds(row.ours), cpu_seconds(row.peer)
                row.agree(ours, peer)
                taken.append((seconds, peer_seconds))
            mine, theirs = (statistics.median(column) for column in zip(*taken, strict=True))
            del row
            memory = "".join(f"{measured_memory(name, given.quick, peer):>9.2f}" for peer in (False, True))
            print(f"{name:<24}{mine:>8.2f} s{theirs:>8.2f} s{theirs / mine:>13.1f}{memory}", flush=True)


if __name__ == "__main__":
    main()
