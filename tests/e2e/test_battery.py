"""Studies with many attacks: random halves, added attacks, one attack that cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest

NAMES = ["loss", "lira-online", "rmia-online", "population", "label-noise", "gradient-norm-support"]


@pytest.fixture
def halves(study: Path) -> Path:
    """Six networks a recipe, each on a random half."""
    text = study.read_text().replace('dataset = "digits"', 'dataset = "digits"\nsplit = "random-halves"\ncanaries = 20')
    study.write_text(text.replace("levels = 2", "levels = 1").replace("seeds = [0]", "seeds = [0, 1, 2, 3, 4, 5]"))
    return study


def _attacks(names: list[str]) -> str:
    return f"attacks.names={json.dumps(names)}"


@pytest.mark.slow
def test_every_network_is_audited_by_every_attack_and_attacks_added_later_give_the_same_bytes(
    small: ModuleType, halves: Path, tmp_path: Path
) -> None:
    done = small.lacewing("run", halves, "--set", _attacks(NAMES), "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "whole" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    audited = {(row["network"], row["seed"], row["attack"]) for row in rows if row["attack"]}
    wanted = {(network, str(seed), name) for network in ("dense", "imp-01") for seed in range(6) for name in NAMES}
    # which is about sparse networks
    assert audited == {(n, s, a) for n, s, a in wanted if n != "dense" or a != "gradient-norm-support"}
    for row in rows:
        assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])
        assert "K = 4" in row["variant"] or row["attack"] not in ("lira-online", "rmia-online")
    report = (tmp_path / "whole" / "report.html").read_text()
    assert "canaries" in report

    parts = tmp_path / "parts"
    for names in (["loss"], ["loss", "lira-online"], NAMES):
        done = small.lacewing("run", halves, "--set", _attacks(names), "--out", parts, "--processes", 1)
        assert done.returncode == 0, done.stderr
    for name in ("results.csv", "tradeoff.json"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_slices_of_random_halves_merge_and_the_attacks_between_them_run(
    small: ModuleType, halves: Path, tmp_path: Path
) -> None:
    declared = ("--set", _attacks(["loss", "lira-online"]))
    for name, only in (("even", "network=dense"), ("odd", "method=imp")):
        done = small.lacewing("run", halves, *declared, "--only", only, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert small.lacewing("run", halves, *declared, "--out", tmp_path / "whole").returncode == 0
    merged = small.lacewing("merge", tmp_path / "merged", tmp_path / "even", tmp_path / "odd")
    assert merged.returncode == 0, merged.stderr
    assert (tmp_path / "merged" / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()


@pytest.mark.slow
def test_an_attack_that_cannot_run_fails_alone(small: ModuleType, study: Path, tmp_path: Path) -> None:
    few = ("--set", "data.population=0.1", "--set", _attacks(["loss", "quantile", "population"]))
    done = small.lacewing("run", study, *few, "--out", tmp_path / "run", "--json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert len(found["failed"]) == 3  # dense and two levels
    assert all("quantile on" in sentence and "100" in sentence for sentence in found["failed"])
    with (tmp_path / "run" / "results.csv").open() as stream:
        assert {row["attack"] for row in csv.DictReader(stream)} - {""} == {"loss", "population"}
