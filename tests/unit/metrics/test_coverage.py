"""Simulated studies of `benchmarks/coverage.py`: drawn as they say, and intervals that do not hold are found."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.slow
def test_every_interval_and_verdict_holds_as_far_as_few_studies_tell():
    script = [sys.executable, str(ROOT / "benchmarks" / "coverage.py"), "--quick"]
    done = subprocess.run(script, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stdout.count("| slope | ") > 10
    assert "; 0 lie outside it" in done.stdout


def test_a_figure_is_outside_only_beyond_its_noise():
    from simulations.figures import COVERS, FALSE, Figure, average, summary, table

    covers = Figure("A0", "shape", 1000, 3, "covers (median width)", 0.92, 300, COVERS, 0.05)
    false = Figure("verdict", "null", 1000, 8, "false verdicts", 0.03, 300, FALSE)
    assert not covers.outside(4)  # .93 has a standard error of .0147 in 300 studies
    assert replace(covers, studies=100_000).outside(4)
    assert replace(covers, value=0.84).outside(4)
    assert replace(covers, value=1.0).outside(2)
    assert replace(covers, value=math.nan).outside(4)
    assert not false.outside(4)
    assert replace(false, value=0.14).outside(4)
    assert not replace(false, value=0.5, wanted=None).outside(4)
    assert average([covers, false, replace(false, value=0.05)]) == pytest.approx(0.04)
    bad = replace(covers, value=0.84, seeds=8)
    lines = table([covers, bad, false], 2).splitlines()
    assert lines[2].count("|") == lines[0].count("|")
    assert "| .920 (.05) |" in lines[2]
    assert "| .840* (.05) |" in lines[2]
    assert "1 lie outside it" in summary([covers, bad, false], 2)
    assert "none" in table([replace(covers, value=math.nan, beside=None)], 2)


def test_an_interval_that_is_too_narrow_is_found(monkeypatch):
    from lacewing.metrics import _seeds
    from simulations import over_seeds

    assert not any(figure.outside(4) for figure in over_seeds.means(300, (3,), True))
    monkeypatch.setattr(_seeds, "_quantile", lambda confidence, seeds: 1.96)  # the normal one: three seeds cover .81
    assert all(figure.outside(4) for figure in over_seeds.means(300, (3,), True))


def test_a_verdict_that_is_false_too_often_is_found(monkeypatch):
    from simulations import families

    setting = families.Setting()
    before = [f for f in families._equal(setting, 5, 200, power=False) if f.name.startswith("false")]
    assert not before[0].outside(4)
    monkeypatch.setattr(families, "LEVEL", 0.3)
    after = [f for f in families._equal(setting, 5, 200, power=False) if f.name.startswith("false")]
    assert after[0].outside(4)
    assert after[0].value > before[0].value


def test_draws_have_the_spread_and_the_correlations_that_they_say():
    from simulations.draws import AGAINST, SHARED, drawn

    rng, n, a, leak = np.random.default_rng(0), 1000, 0.75, 0.6
    accuracy, leaks = drawn(rng, (20_000, 2), [a, a], [leak, leak], n=n, spread=0.0)
    assert accuracy.std() == pytest.approx(math.sqrt(a * (1 - a) / n), rel=0.02)
    assert leaks.std() == pytest.approx(math.sqrt(leak * (1 - leak) / (2 * n)), rel=0.02)
    assert np.corrcoef(accuracy[:, 0].T)[0, 1] == pytest.approx(SHARED, abs=0.03)
    assert np.corrcoef(accuracy[:, 0, 0], leaks[:, 0, 0])[0, 1] == pytest.approx(AGAINST, abs=0.03)
    assert np.corrcoef(accuracy[:, :, 0].T)[0, 1] == pytest.approx(0, abs=0.03)
    accuracy, leaks = drawn(rng, (20_000, 4), [a, a], [leak, leak], n=10**12, spread=0.01, leak_spread=0.03, pairs=True)
    assert accuracy.std() == pytest.approx(0.01 * math.sqrt(2), rel=0.02)
    assert leaks.std() == pytest.approx(0.03 * math.sqrt(2), rel=0.02)
    assert np.corrcoef(accuracy[:, 0].T)[0, 1] == pytest.approx(0.5, abs=0.03)
    between = np.corrcoef(accuracy[:, :, 0].T)
    assert between[0, 1] == pytest.approx(0.5, abs=0.03)  # two seeds of one cut
    assert between[1, 2] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("slope", [3.6, 0.0, 7.5])
def test_a_shape_has_the_slope_that_it_is_given(slope):
    from simulations.over_seeds import PAPER_SHORT

    truth, loss = PAPER_SHORT.with_slope(slope).truth()
    assert truth == pytest.approx(slope, abs=1e-12)
    assert loss == pytest.approx(1 - (0.739 + 0.719 + 0.709 + 0.684) / 4 / 0.753)


@pytest.mark.parametrize("fpr", [0.01, 0.001])
def test_the_true_rate_of_scores_is_that_of_very_many_of_them(fpr):
    from simulations.rates import EQUAL, NORMAL

    member = np.arange(1_000_000) < 500_000
    for scores in (*NORMAL, *EQUAL):
        drawn = scores.draw(np.random.default_rng(1), member)
        inside, outside = drawn[member], np.sort(drawn[~member])
        threshold = outside[-1 - int(fpr * len(outside))]  # strictly above it: at most fpr, unless it is the top
        assert (inside > threshold).mean() == pytest.approx(scores.tpr(fpr), abs=0.006)


def test_the_published_table_is_that_of_the_script():
    """Its quickest rows, with as many studies as the table has: the whole takes a quarter of an hour."""
    from simulations import over_seeds
    from simulations.figures import table

    seeds = (3, 5, 8, 16)
    made = [*over_seeds.means(2000, seeds, False), *over_seeds.powers(2000, seeds, False)]
    published = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8").splitlines()
    rows = table(made, 2).splitlines()
    assert len(rows) == 2 + 4
    assert [row for row in rows if row not in published] == []
