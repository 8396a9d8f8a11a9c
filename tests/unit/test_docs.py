"""The documents name what is there."""

from __future__ import annotations

import csv
import functools
import importlib.util
import json
import math
import re
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lacewing import metrics
from lacewing.attackers import gathered
from lacewing.attacks import ATTACKS
from lacewing.results import AttackResult, NetworkResult
from lacewing.study.declared import builtin_studies

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"])


def test_every_attack_has_a_page_and_a_row() -> None:
    index = (ROOT / "docs" / "attacks" / "README.md").read_text()
    for attack in ATTACKS.values():
        assert f"| `{attack.name}` |" in index
        page = (ROOT / "docs" / "attacks" / f"{attack.family}.md").read_text()
        assert f"`{attack.name}`" in page, attack.name
    named = re.findall(r"^\|[^|]*\| `([a-z-]+)` \|", index, re.MULTILINE)
    assert sorted(named) == sorted(ATTACKS)


def test_every_built_in_study_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in builtin_studies() if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), target


@functools.cache
def _script(name: str) -> ModuleType:
    """A script of docs/results."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "results" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    sys.path.insert(0, str(ROOT / "docs" / "results"))  # as a script has it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@functools.cache
def _read(study: str) -> Any:
    """What a study of docs/results found, and its tradeoff.json."""
    return _script("tables").read(ROOT / "docs" / "results" / study)


def _close(found: Any, wanted: Any) -> bool:
    """Whether two JSON documents agree: numbers to ten digits, since linear algebra rounds as the processor does."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_close(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_close, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-10)
    return bool(found == wanted)


def _pages() -> list[Any]:
    """The results pages with tables; those of many networks take seconds."""
    quick = ("paper-short", "cifar10-small", "digits-halves")
    with_tables = [p for p in (ROOT / "docs" / "results").glob("*/README.md") if "<!-- table: " in p.read_text("utf-8")]
    names = sorted(page.parent.name for page in with_tables)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("study", _pages())
def test_tables_of_results_are_those_of_their_csv(study: str) -> None:
    page = (ROOT / "docs" / "results" / study / "README.md").read_text("utf-8")
    found, _ = _read(study)
    assert _script("tables").with_tables(page, found) == page


@pytest.mark.parametrize("study", ["paper-short", "cifar10-small", "digits-halves"])
def test_tradeoff_json_of_results_is_that_of_their_csv(study: str) -> None:
    folder = ROOT / "docs" / "results" / study
    _, document = _read(study)
    assert _close(json.loads((folder / "tradeoff.json").read_text("utf-8")), json.loads(json.dumps(document)))


def test_the_table_of_attackers_is_that_of_its_csv_files() -> None:
    folder = ROOT / "docs" / "results" / "attackers"
    found, _ = _read("attackers")
    rows = {
        (row["network"], row["attackers"]): row for row in json.loads((folder / "attackers.json").read_text())["rows"]
    }
    again = gathered(found.networks, found.attacks, registry=ATTACKS).table()
    of_results = [row for row in again if row["value"] is not None]
    assert {row["attackers"] for row in of_results} == {"membership", "adaptive", "reconstruction"}
    for row in of_results:
        wanted = rows[row["network"], row["attackers"]]
        assert all(_close(row[name], wanted[name]) for name in ("attack", "value", "low", "high", "to_dense_high"))
    for name, file, column in (("property", "property.csv", "accuracy"), ("attribute", "attribute.csv", "surplus")):
        with (folder / file).open(newline="") as handle:
            read = list(csv.DictReader(handle))
        for network in dict.fromkeys(row["network"] for row in read):
            means = {
                attack: statistics.mean(
                    float(row[column]) for row in read if (row["network"], row["attack"]) == (network, attack)
                )
                for attack in dict.fromkeys(row["attack"] for row in read if row["network"] == network)
            }
            wanted = rows[network, name]
            assert wanted["value"] == pytest.approx(max(means.values()))
            assert means[wanted["attack"]] == pytest.approx(wanted["value"])


def test_packed_decisions_are_read_back_and_give_the_metrics(tmp_path: Path) -> None:
    decisions = _script("decisions")
    rng = np.random.default_rng(0)
    attacks = []
    for seed, name, attack in (
        (0, "dense", "loss"),
        (0, "dense", "auc-only"),
        (1, "dense", "loss"),
        (1, "imp-01", "gap"),
    ):
        network = NetworkResult(name, "dense", "target", seed, 1.0, 1.0, 9, 9, 1.0, 0.5)
        record, member = rng.permutation(500)[:101], rng.random(101) < 0.5
        correct, hit = rng.random((2, 101)) < 0.7
        hit = hit if attack != "auc-only" else np.zeros(0, bool)
        attacks.append(
            AttackResult(
                network, attack, "", "", 9, 9, {}, record_N=record, member_N=member, hit_N=hit, correct_N=correct
            )
        )
    decisions.write(tmp_path / "decisions.npz", attacks)
    found = {(d.network, d.attack): d for d in decisions.read(tmp_path / "decisions.npz")}
    assert set(found) == {(a.network.id, a.attack) for a in attacks if a.hit_N.size}
    for a in (a for a in attacks if a.hit_N.size):
        d, order = found[a.network.id, a.attack], np.argsort(a.record_N)
        assert np.array_equal(d.record_N, a.record_N[order])
        assert np.array_equal(d.member_N, a.member_N[order])
        assert np.array_equal(d.correct_N, a.correct_N[order])
        expected = metrics.balanced_accuracy(a.hit_N == a.member_N, a.member_N)
        assert d.measured()["balanced_accuracy"] == expected


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in (ROOT / "docs/results").glob("*/decisions.npz")))
def test_published_decisions_give_the_results_beside_them(folder: str) -> None:
    assert _script("decisions").differences(ROOT / "docs" / "results" / folder) == []


@pytest.mark.parametrize("study", ["paper-short", "cifar10-small"])
@pytest.mark.parametrize(
    "name",
    [
        "networks",
        "slopes",
        "slopes-otherwise",
        "matches",
        "differences",
        "explained",
        "taken-back",
        "slopes-by-attack",
        "auc",
        "tpr-at-0.1-percent",
    ],
)
def test_every_table_can_be_made_of_every_study(study: str, name: str) -> None:
    tables = _script("tables")
    found, _ = _read(study)
    page = tables.with_tables(f"Before.\n\n<!-- table: {name} -->\nAfter.\n", found)
    assert page.startswith(f"Before.\n\n<!-- table: {name} -->\n\n| ")
    assert page.endswith("|\n\nAfter.\n")
    assert len({line.count("|") for line in page.splitlines() if line.startswith("|")}) == 1
    assert tables.with_tables(page, found) == page


@pytest.mark.parametrize("study", ["cifar10-small", "digits-halves"])
def test_blocks_of_results_are_the_means_of_their_csv(study: str) -> None:
    folder = ROOT / "docs" / "results" / study
    with (folder / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "target" and row["attack"]]
    columns = {"AUC": "auc", "TPR at 1 % FPR": "tpr_at_fpr_0.01"}
    blocks = re.findall(r"^```text\n(.*?)^```$", (folder / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    compared = 0
    for table in (part for block in blocks for part in block.split("\n\n")):
        head, *lines = table.strip().splitlines()
        titles = [title for title in columns if title in head]
        networks = re.findall(r"(?:dense|imp-\d+|butterfly\S+)", head)
        each = [columns[title] for title in titles for _ in range(len(networks) // len(titles))]
        for line in lines:
            attack, *shown = line.split()
            for network, column, value in zip(networks, each, shown, strict=True):
                of = [float(row[column]) for row in rows if (row["attack"], row["network"]) == (attack, network)]
                assert value == (f"{statistics.mean(of):.3f}" if of else "–"), (attack, network, column)
                compared += 1
    assert compared > 150
