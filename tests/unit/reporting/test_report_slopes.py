"""Slopes and means over seeds as a report shows them: sets whole, intervals with what they are over."""

from __future__ import annotations

import dataclasses
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lacewing import metrics
from lacewing import reporting as report
from lacewing.metrics import Estimate, mean_over_seeds
from lacewing.reporting import _choices, _data, _families, _plane, _slopes, _svg, _table
from lacewing.tradeoff import Spread
from lacewing.tradeoff._types import NO_INTERVAL, NO_SPREAD


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    return reports.compared(population=True)


def _with(data: Any, **changes: Any) -> Any:
    return dataclasses.replace(data, tradeoff=dataclasses.replace(data.tradeoff, **changes))


def _page(data: Any, folder: Path) -> str:
    return unescape(report.write(folder, data).read_text(encoding="utf-8"))


# -------------------------------------------------------------------------------------------------------------- slopes


UNBOUNDED = "no loss measured"


@pytest.mark.parametrize(
    ("ratio", "seeds", "verdict", "shown", "tile"),
    [
        ((3.21, 1.5, 6.04), 3, "slope resolved", "3.21 [1.5, 6.04]", ("3.21", "[1.5, 6.04], over them")),
        (
            (1.0, -1.0, 3.0),
            3,
            "slope not resolved",
            "1 [-1, 3]",
            ("1", "[-1, 3], over them; slope not resolved"),
        ),
        (
            (4.0, 1.25, None),
            3,
            UNBOUNDED,
            "4 [at least 1.25]",
            ("at least 1.25", "no loss measured; 4 [at least 1.25], over them"),
        ),
        (
            (4.0, None, None),
            3,
            UNBOUNDED,
            "4 [no bound]",
            ("no bound", "no loss measured; 4 [no bound], over them"),
        ),
        ((None, None, None), 3, UNBOUNDED, "none", ("no bound", "no loss measured")),
        (
            (2.0, 1.0, None),
            2,
            "fewer than three seeds",
            "2 [at least 1]",
            ("2", "[at least 1], over them; fewer than three seeds"),
        ),
        (None, 3, "no network in the band", "none", ("not measured", "no network in the band")),
        ((2.0, 1.0, 3.0), 3, "not finished", "2 so far", ("not finished", "2 so far")),
        ((None, None, None), 3, "not finished", "none so far", ("not finished", "none so far")),
    ],
)
def test_a_slope_shows_its_set_whole(data: Any, ratio: Any, seeds: int, verdict: Any, shown: str, tile: Any) -> None:
    slope = dataclasses.replace(
        data.tradeoff.slope,
        ratio=metrics.Ratio(*ratio) if ratio else None,
        seeds=seeds,
        verdict=verdict,
        interval="over them",
    )
    assert _slopes.row(slope, "x").slope == shown
    assert _slopes.short(slope) == tile


def test_a_slope_of_few_seeds_read_from_a_table_has_no_interval(data: Any) -> None:
    slope = dataclasses.replace(data.tradeoff.slope, ratio=metrics.Ratio(2.5, None, None), interval=NO_INTERVAL)
    assert _slopes.row(slope, "x").slope == "2.5"  # not "no bound", which would be a finding
    alike = dataclasses.replace(slope, interval=NO_SPREAD, verdict="slope not resolved")
    assert _slopes.short(alike) == ("2.5", "no interval: the seeds do not differ; slope not resolved")


def test_each_seeds_slope_is_shown_and_of_many_the_range(data: Any) -> None:
    slope = dataclasses.replace(
        data.tradeoff.slope, by_seed={0: 1.234, 1: None, 2: -0.5}, verdict="fewer than three seeds"
    )
    assert _slopes.by_seed(slope) == "0: 1.23, 1: no loss, 2: -0.5"
    assert _slopes.said(slope).endswith(" Single seeds: seed 0: 1.23, seed 1: no loss, seed 2: -0.5.")
    many = dataclasses.replace(slope, by_seed={**dict(enumerate([1.0, 2.0, 3.0, 4.0])), 4: None})
    assert _slopes.by_seed(many) == "1 to 4, no loss in 1 (5 seeds)"
    one = dataclasses.replace(slope, by_seed={0: None, 1: None, 2: 36.24, 3: None, 4: None})
    assert _slopes.by_seed(one) == "36.2 in one seed, no loss in 4"
    assert _slopes.by_seed(dataclasses.replace(one, by_seed=dict.fromkeys(range(5)))) == "no loss in any seed"
    three = dataclasses.replace(slope, verdict="slope resolved")
    assert "Single seeds" not in _slopes.said(three)


@pytest.mark.parametrize(("low", "high"), [(1.25, None), (None, None)])
def test_a_slope_without_an_upper_end_has_an_open_fan(
    data: Any, low: float | None, high: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    new = _svg.figure
    monkeypatch.setattr(_svg, "figure", lambda *size: made.append(new(*size)) or made[-1])
    ratio = data.tradeoff.slope.ratio._replace(low=low, high=high)
    slope = dataclasses.replace(data.tradeoff.slope, ratio=ratio, verdict="no loss measured")
    _plane.plane(_with(data, slope=slope))
    ax = made[0].axes[0]
    fans = [c for c in ax.collections if c.get_gid() == "fan"]
    assert len(fans) == (low is not None)
    if fans:
        (path,) = fans[0].get_paths()
        assert path.vertices[:, 1].max() >= ax.get_ylim()[1]


# ------------------------------------------------------------------------------------------------- numbers over seeds


def test_over_seeds_is_t_from_three_on_and_over_cuts_of_two_seeds(data: Any) -> None:
    each = {s: Estimate(0.6 + 0.01 * s, 0.5 + 0.01 * s, 0.7 + 0.01 * s) for s in (0, 1, 2, 3, 4, 5)}
    found = _data.over_seeds(each, halves=False)
    assert found == (mean_over_seeds([e.value for e in each.values()]), "t over 6 seeds")
    found = _data.over_seeds(each, halves=True)
    assert found is not None
    assert found[1] == "t over 3 cuts (6 seeds)"
    assert found[0] == mean_over_seeds([0.605, 0.625, 0.645])
    some = _data.over_seeds({s: each[s] for s in (0, 1)}, halves=False)
    assert some is not None
    assert some[0] == pytest.approx((0.605, 0.505, 0.705))
    assert some[1].startswith("over records, the spread over seeds left out")
    assert _data.over_seeds({}, halves=False) is None


def test_an_interval_over_seeds_of_a_share_stays_within_what_a_share_can_be() -> None:
    found = _data.over_seeds({s: Estimate(v, v, v) for s, v in enumerate((0.0, 0.001, 0.05))}, halves=False)
    assert found is not None
    assert found[0].low == 0
    assert found[0].high > 0.05


def test_a_spread_names_its_interval_or_its_range(data: Any) -> None:
    found = data.tradeoff
    assert _data.span_text(Spread(0.1, 0.05, 0.2, None, 1), found) == "one seed"
    assert _data.span_text(Spread(0.1, 0.05, 0.2, 0.1, 2), found) == "range 5.0 to 20.0\u202f% over 2 seeds"
    whole = Spread(0.1, 0.05, 0.2, 0.1, 3, 0.01, 0.19)
    assert _data.span_text(whole, found) == "95\u202f% interval 1.0 to 19.0\u202f%, t over 3 seeds"
    cuts = dataclasses.replace(found, unit="cut", seeds=tuple(range(6)), replicates=3)
    assert _data.span_text(whole._replace(n=6), cuts).endswith("t over 3 cuts (6 seeds)")


def test_under_random_halves_cuts_are_what_is_counted(reports: ModuleType, tmp_path: Path) -> None:
    halves = reports.compared(seeds=range(6), halves=True, n=150, levels=3, stops=(), controls=0, declared=None)
    page = _page(halves, tmp_path)
    assert "t over 3 cuts (6 seeds)" in page
    assert "Fieller's set over 3 cuts (6 seeds)" in page
    tested = [row for group in _families.groups(halves, stopped=False) for row in group.rows]
    assert {row.seeds for row in tested} == {"3 cuts"}


# --------------------------------------------------------------------------------------------------- table of networks


def test_population_accuracy_is_a_column_where_a_network_has_one(reports: ModuleType, data: Any) -> None:
    titles = [title for title, _ in _table.networks(data).columns]
    place = titles.index("Population accuracy")
    shown = {row.cells[place].sort for row in _table.networks(data).rows}
    assert {f"{n.population_accuracy:.7g}" for n in data.networks} == shown
    assert "Population accuracy" not in [
        title for title, _ in _table.networks(reports.report_data(n=60, levels=1)).columns
    ]
    assert all(len(row.cells) == len(titles) for row in _table.networks(data).rows)


def test_the_realised_fpr_stands_beside_a_tpr_where_results_hold_it(data: Any, tmp_path: Path) -> None:
    reached = Estimate(0.0085, 0.001, 0.02)
    attacks = [
        dataclasses.replace(a, metrics={**a.metrics, "realised_fpr_0.01": reached, "realised_fpr_0.001": None})
        for a in data.attacks
    ]
    held = dataclasses.replace(data, attacks=attacks)
    place = [title for title, _ in _table.networks(held).columns].index("TPR at 1\u202f% FPR")
    tips = {row.cells[place].tip for row in _table.networks(held).rows if row.role == "target"}
    assert tips == {"realised FPR 0.85\u202f%"}
    without = [
        dataclasses.replace(a, metrics={k: v for k, v in a.metrics.items() if "realised" not in k})
        for a in data.attacks
    ]
    bare = _table.networks(dataclasses.replace(data, attacks=without))
    assert not any(cell.tip for row in bare.rows for cell in row.cells)
    assert "%), FPR 0.85 % |" in report.model_card(held)
    assert 'title="realised FPR 0.85\u202f%"' in _page(held, tmp_path)


def test_the_choices_say_how_the_slope_and_verdicts_are_made(data: Any) -> None:
    here = {c.choice: c for c in _choices.choices(data)}
    assert "Fieller" in here["Slope"].here
    assert "least squares" in here["Slope"].whose
    assert "declared before" in here["Verdicts"].here
