"""The section "Which attack at which density" of the report."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import ModuleType

from lacewing.attackers import gathered
from lacewing.attacks import ATTACKS
from lacewing.reporting import ReportData, _attackers, write


def _data(reports: ModuleType, *names: str) -> ReportData:
    data = reports.report_data(seeds=range(3), n=100, names=names, levels=2)
    return dataclasses.replace(data, attackers=gathered(data.networks, data.attacks, registry=ATTACKS))


def test_every_recipe_has_a_cell_for_each_kind(tmp_path: Path, reports: ModuleType) -> None:
    data = _data(reports, "loss", "lira-offline", "discriminator-all-levels")
    page = write(tmp_path, data).read_text()
    assert data.attackers is not None
    (section,) = re.findall(r'<section id="attackers".*?</section>', page, flags=re.DOTALL)
    body = section[section.index("<tbody>") :]
    assert body.count("<tr>") == len(data.attackers.rows)
    assert body.count("<td") == len(data.attackers.rows) * 7
    assert body.count(">not run<") == sum(c.value is None for row in data.attackers.rows for c in row.cells.values())
    first = data.attackers.rows[0].cells["membership"]
    assert f">{first.value:.3f}<small>" in body
    assert "No: none of the" in section or "Not excluded:" in section
    svg = (tmp_path / "figures" / "attackers.svg").read_text()
    assert "Membership" in svg
    assert "Adaptive" in svg
    assert "Property" not in svg  # it did not run


def test_one_kind_of_attack_has_no_section(reports: ModuleType) -> None:
    data = _data(reports, "loss", "lira-offline")
    assert _attackers.section(data) is None
    assert _attackers.figure(data) is None
