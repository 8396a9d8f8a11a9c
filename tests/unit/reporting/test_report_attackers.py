"""The section "Which attack at which density" of the report."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import ModuleType

import pytest

from lacewing.attackers import gathered
from lacewing.attacks import ATTACKS
from lacewing.reporting import ReportData, _attackers, write


def _data(reports: ModuleType, *names: str) -> ReportData:
    data = reports.report_data(seeds=range(3), n=100, names=names, levels=2)
    return dataclasses.replace(data, attackers=gathered(data.networks, data.attacks, registry=ATTACKS))


@pytest.mark.slow
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


def test_the_pointer_says_what_is_not_corrected_and_what_waits(reports: ModuleType) -> None:
    data = _data(reports, "loss", "lira-offline", "discriminator-all-levels")
    assert data.attackers is not None
    first, second, *_ = data.attackers.rows
    cell = dataclasses.replace(
        second.cells["membership"], alike=True, corrected=False, compared=("loss", "gap"), waiting=("base-online",)
    )
    told = _attackers._shown(dataclasses.replace(second, cells={"membership": cell}), cell).title
    assert "do not differ, at 95\u202f%, not corrected for 2 attacks." in told
    assert "To dense: loss less gap on the dense network. Not finished, and not counted: base-online." in told
    section = _attackers.section(data)
    assert section is not None
    assert section["answer"].startswith(("No: ", "Not excluded: "))
    assert [len(row.cells) for row in section["rows"]] == [5] * len(data.attackers.rows)
    assert "corrected for 2 attacks" in _attackers._shown(first, first.cells["membership"]).title


def test_one_kind_of_attack_has_no_section(reports: ModuleType) -> None:
    data = _data(reports, "loss", "lira-offline")
    assert _attackers.section(data) is None
    assert _attackers.figure(data) is None
