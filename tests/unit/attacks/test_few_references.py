"""`benchmarks/references.py`: references are drawn as it says, and gains are paired differences over seeds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lacewing.attacks import lira, phi

ROOT = Path(__file__).parents[3]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import references

    return references


def networks(benchmark, records=40, classes=3):
    rng = np.random.default_rng(0)
    half = rng.random((benchmark.PAIRS, records)).argsort(axis=1) < records // 2
    inside = np.stack([half, ~half], axis=1).reshape(-1, records)
    logits = rng.normal(size=(len(inside), records, classes)).astype(np.float32)
    population = rng.normal(size=(len(inside), 20, classes)).astype(np.float32)
    label, of_population = rng.integers(classes, size=records), rng.integers(classes, size=20)
    return benchmark.Networks(logits, label, inside, population, of_population, (1.0, 0.5))


@pytest.mark.parametrize("budget", [2, 4, 8, 16])
def test_references_are_whole_pairs_and_never_the_targets_own(benchmark, budget):
    for target in range(0, 2 * benchmark.PAIRS, 2):
        found = benchmark.drawn(target, budget, np.random.default_rng(target))
        assert len(set(found)) == budget
        assert {network ^ 1 for network in found} == set(found)
        assert not {target, target ^ 1} & set(found)


def test_every_attack_is_given_the_target_and_its_references(benchmark):
    made = networks(benchmark)
    which = [4, 5]
    held = benchmark.held_by(made, 0, which)
    found = benchmark.scores_of(held)
    named = {name for mode in benchmark.NEW for name in (*benchmark.NEW[mode], *benchmark.BASELINES[mode])}
    assert named <= set(found)
    target = phi(made.logits_MNC[0], made.label_N)[:, None]
    others = np.stack([phi(made.logits_MNC[k], made.label_N) for k in which])[:, :, None]
    expected = lira(target, others, made.in_MN[which], variance="global")
    np.testing.assert_array_equal(found["lira-online"](), expected)
    for name in named:
        assert np.isfinite(found[name]()).all()


def test_gains_are_paired_differences_with_students_interval(benchmark):
    rng = np.random.default_rng(1)
    new, old = rng.normal(size=6), rng.normal(size=6)
    seeds = [{("new", 4): (0.5, n), ("old", 4): (0.4, o)} for n, o in zip(new, old, strict=True)]
    low, high = stats.t.interval(0.95, 5, (new - old).mean(), stats.sem(new - old))
    assert benchmark.gain(seeds, "new", "old", 4, 1) == pytest.approx(((new - old).mean(), low, high))
    assert benchmark.gain(seeds, "new", "old", 4, 0) == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.slow
def test_the_quick_form_prints_both_tables():
    script = [sys.executable, str(ROOT / "benchmarks" / "references.py"), "--quick"]
    done = subprocess.run(script, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "| digits | `nig-t-online` |" in done.stdout
    assert "| digits | `base-online` | `rmia-online` | TPR at 1 % |" in done.stdout
