"""The section "Why networks leak" of the report."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import ModuleType

import pytest

from lacewing.mechanism import QUANTITIES, Mechanism, NetworkRow, TemperatureRow, predictors
from lacewing.reporting import ReportData, write

ROWS = ("ratio", "gap", "spread", "member_confidence", "other_confidence")


def _with_mechanism(data: ReportData, *, apart: bool = True) -> ReportData:
    """The report's input with a mechanism whose ratio follows the leak; ``apart``: each recipe is left out alone."""
    area = {a.network.id: a.metrics["auc"].value for a in data.attacks if a.attack == "lira-online"}
    rows = [
        NetworkRow(
            id=n.id,
            network=n.network,
            method=n.method,
            family=n.family,
            kind=n.kind,
            seed=n.seed,
            others=7,
            ratio=area[n.id] * 3,
            gap=2.0,
            spread=0.5 + n.seed / 100,
            member_confidence=0.9 + n.seed / 100,
            other_confidence=0.7,
            member_calibration_error=0.1,
            other_calibration_error=0.2,
            redrawn=0,
            redrawn_fit=None,
            nonzero=n.nonzero,
            train_accuracy=n.train_accuracy,
            test_accuracy=n.test_accuracy,
            accuracy_gap=n.train_accuracy - n.test_accuracy,
        )
        for n in data.networks
        if n.role == "target"
    ]
    leaks = {
        (attack, metric): [
            a.metrics[metric].value if a.metrics[metric] else None for a in data.attacks if a.attack == attack
        ]
        for attack in ("loss", "lira-online")
        for metric in ("auc", "tpr_at_fpr_0.01")
    }
    values = {name: [getattr(row, name) for row in rows] for name in QUANTITIES if name != "redrawn_fit"}
    kinds = {"loss": "threshold", "lira-online": "lira"}
    recipe, family = [r.network for r in rows], [r.network if apart else r.family for r in rows]
    found, largest = predictors(values, leaks, recipe, family, [r.seed // 2 for r in rows], kinds)
    temperature = [
        TemperatureRow(
            "dense", t, sure, 8, 0.9 / t, 0.7 / t, 0.1, 0.2, 2.0, 2.0 / t, 1.0 / t, "lira-online", 0.91 - t / 1000
        )
        for t, sure in ((1.0, ""), (2.0, ""), (1.5, "imp-01"))
    ]
    mechanism = Mechanism(tuple(rows), tuple(found), tuple(largest), tuple(temperature), "cut")
    return dataclasses.replace(data, mechanism=mechanism)


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> ReportData:
    names = ("loss", "lira-online")
    return _with_mechanism(reports.report_data(seeds=range(8), n=300, names=names, halves=True, levels=6))


@pytest.fixture(scope="module")
def page(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("why"), data).read_text()


def _section(page: str) -> str:
    (found,) = re.findall(r'<section id="why".*?</section>', page, flags=re.DOTALL)
    return found


def test_the_section_says_what_predicts_and_what_is_circular(data: ReportData, page: str) -> None:
    section = _section(page)
    assert isinstance(data.mechanism, Mechanism)
    best = {p.quantity: p.best for p in data.mechanism.predictors if (p.attack, p.metric) == ("lira-online", "auc")}
    assert best["ratio"] > 0.95
    assert f"“gap / spread” predicts most, R² {best['ratio']:.2f}" in section
    (chance,) = [row for row in data.mechanism.largest if (row.attack, row.metric) == ("lira-online", "auc") and
                 row.part_of_attack]  # fmt: skip
    told = f"chance gives {chance.null_median:.2f} in the median and, in one of 20, more than {chance.null_upper:.2f}"
    assert f"(the largest of 2; {told})" in section  # the gap does not vary
    # The ratio is part of both attacks; confidence is part of the loss attack alone.
    lines = {name: re.search(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', section, re.DOTALL) for name in
             ("gap / spread", "confidence, members", "non-zero parameters")}  # fmt: skip
    daggers = {name: line[1].count("†") for name, line in lines.items() if line}
    assert daggers == {"gap / spread": 2, "confidence, members": 1, "non-zero parameters": 0}
    assert "from 0.900 to 0.600" in section  # members' confidence, at the fitted temperature
    assert "no test here and no verdict" in section
    assert "72 networks of 9 recipes in 3 families, 4 cuts (8 seeds)" in section


def test_the_figure_has_a_panel_for_each_quantity_and_a_mark_for_each_recipe(data: ReportData, page: str) -> None:
    assert isinstance(data.mechanism, Mechanism)
    recipes = {row.network for row in data.mechanism.networks}
    assert page.count('id="why-tip-why-') == 6 * len(recipes)


def test_without_other_networks_there_is_no_section_and_one_line_says_why(tmp_path: Path, reports: ModuleType) -> None:
    data = dataclasses.replace(reports.report_data(seeds=(0,), levels=1), mechanism="No section: <one> seed.")
    page = write(tmp_path, data).read_text()
    assert '<section id="why"' not in page
    assert "No section: &lt;one&gt; seed." in page
    assert not (tmp_path / "figures" / "why.svg").exists()


def test_of_few_families_nothing_is_predicted_and_the_rest_is_shown(tmp_path: Path, reports: ModuleType) -> None:
    names = ("loss", "lira-online")
    few = reports.report_data(seeds=range(4), n=200, names=names, halves=True, levels=5)
    section = _section(write(tmp_path, _with_mechanism(few, apart=False)).read_text())
    assert "needs at least 5 families of recipes and two cuts" in section
    assert "Here are 32 networks of 8 recipes in 3 families, 2 cuts (4 seeds)" in section
    assert "held-out R squared of each quantity alone" not in section
    assert "What each recipe does to its records" in section
