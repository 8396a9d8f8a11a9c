"""Equal accuracy in a report: dense networks stopped early are described beside the others, never one of them."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lacewing import reporting as report
from lacewing.metrics import Estimate
from lacewing.reporting import (
    _afford,
    _card,
    _choices,
    _figures,
    _headline,
    _matched,
    _matrix,
    _notes,
    _parts,
    _plane,
    _rocs,
    _svg,
    _table,
    _training,
)
from lacewing.reporting import _slopes_by_attack as by_attack
from lacewing.study.result import Result
from lacewing.tradeoff import Spread, tradeoff
from lacewing.tradeoff.cautions import failures

NAMES = ("discriminator", "loss")
# network: test accuracy, strength of the attack. Dense at .66 leaks between its epochs 20 and 30.
GRID = {
    "dense": (0.70, 2.0),
    "imp-01": (0.68, 0.5),
    "imp-02": (0.66, 2.4),
    "imp-03": (0.62, 1.0),
    "butterfly-s3-l3": (0.66, 0.6),
    "early-001": (0.08, 0.0),
    "early-010": (0.50, 0.1),
    "early-020": (0.64, 1.1),
    "early-030": (0.69, 1.6),
}
# Dense has .66 between epochs 10 and 15, 15 and 20, and 20 and 30.
WOBBLING = GRID | {"early-010": (0.64, 0.1), "early-015": (0.70, 0.2), "early-020": (0.64, 1.1)}
EPOCHS = {"early-001": 1, "early-010": 10, "early-015": 15, "early-020": 20, "early-030": 30}


def _study(reports: ModuleType, grid: dict[str, tuple[float, float]], seeds: tuple[int, ...] = (0, 1)) -> Any:
    """A study of these networks, the attack on each as strong as told; early stops learn from the dense network."""
    base = reports.report_data(n=100, seeds=seeds, levels=3, butterflies=("butterfly-s3-l3",), names=NAMES)
    found = []
    for net in base.networks:
        stops = EPOCHS if net.method == "dense" else {}
        at = [
            dataclasses.replace(net, network=n, method="early-stopped", kind="control", curve=net.curve[:e])
            for n, e in stops.items()
        ]
        found += [dataclasses.replace(n, test_accuracy=grid[n.network][0]) for n in (net, *at) if n.network in grid]
    attacks = [reports.attack(n, 600, grid[n.network][1], name) for n in found if n.role == "target" for name in NAMES]
    traded = tradeoff(attacks, resamples=300)
    signs = failures(found, attacks, traded, classes=10)
    return dataclasses.replace(base, networks=found, attacks=attacks, tradeoff=traded, failures=signs)


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    return _study(reports, GRID)


@pytest.fixture(scope="module")
def plain(reports: ModuleType) -> Any:
    return _study(reports, {name: facts for name, facts in GRID.items() if name not in EPOCHS})


@pytest.fixture(scope="module")
def page(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("matched"), data)


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("+", "").removesuffix("\u202f%"))


def _result(data: Any, folder: Path) -> Result:
    networks, attacks = tuple(data.networks), tuple(data.attacks)
    return Result(folder, networks, attacks, data.tradeoff, tuple(data.failures), (), (), 0)


def test_a_study_shows_its_sparse_networks_as_it_does_without_early_stops(data: Any, plain: Any) -> None:
    assert any(p.method == "early-stopped" for p in data.tradeoff.points)
    for drawing in (
        lambda d: _figures.against_density(d, "accuracy"),
        lambda d: _figures.against_density(d, "defence"),
        _figures.roc,
        lambda d: _training.training(d, "loss"),
        lambda d: _training.training(d, "accuracy"),
        by_attack.panels,
        _rocs.by_network,
        _matrix.matrices,
        _matrix.sentences,
        by_attack.slopes_by_attack,
        _headline.headline,
        _headline.tiles,
        _afford.afford_steps,
        lambda d: _afford.affordable(d, [0, 5, 9, 12, 90]),
        _card._chosen,
    ):
        assert drawing(data) == drawing(plain)
    # The control would have been the best of all, so that leaving it out was put to the test.
    gains = {p.network: p.relative_gain.mean - p.relative_loss.mean for p in data.tradeoff.points}
    assert max(gains, key=gains.__getitem__) == "early-010"


VERDICTS = re.compile("leaks? (less|more)|resolved|differs? measurably")


def test_point_by_point_nothing_has_an_interval_or_a_verdict(data: Any, tmp_path: Path) -> None:
    text = unescape(report.write(tmp_path, data).read_text(encoding="utf-8"))
    section = text[text.index('<section id="equal"') : text.index('<section id="attacks"')]
    assert not VERDICTS.search(section)
    assert section.count("exploratory: not declared before the study ran") == 1
    drawing = _matched.figure(data)
    assert not VERDICTS.search(drawing.svg + drawing.caption + drawing.label)
    rows = [row for group in _matched.matched(data).groups for row in group.rows]  # type: ignore[union-attr]
    assert not any(" to " in row.difference or "[" in row.difference for row in rows)


def test_the_table_holds_each_match(data: Any) -> None:
    section = _matched.matched(data)
    assert section is not None
    shown = {(group.title, row.network): row for group in section.groups for row in group.rows}
    assert len(shown) == len(data.tradeoff.matches) == 4 + 2
    others = {"early-stopped": "the dense network stopped early", "imp": "iterative pruning"}
    for m in data.tradeoff.matches:
        title = f"Against {others[m.against]}, at equal {'test accuracy' if m.at == 'accuracy' else 'density'}"
        row = shown[title, m.network]
        assert _number(row.difference) == pytest.approx(m.difference, abs=0.0005)
        seeds = {int(s): _number(v) for s, v in (part.split(": ") for part in row.seeds.split(", "))}
        assert seeds == pytest.approx(dict(m.by_seed), abs=0.0005)
        assert _number(row.accuracy) == pytest.approx(100 * m.test_accuracy, abs=0.05)
        assert _number(row.attacked) == pytest.approx(100 * m.balanced_accuracy, abs=0.05)
        assert bool(row.accuracy_difference) == (m.at == "density")
    first = section.groups[0].rows
    assert [row.network for row in first] == ["imp-01", "imp-02", "imp-03", "butterfly-s3-l3"]
    assert first[1].where == "epoch 24"  # .66 lies at two fifths of the way from .64 at 20 to .69 at 30


def test_where_accuracy_wobbles_the_last_place_is_shown_beside_the_first(reports: ModuleType, tmp_path: Path) -> None:
    wobbling = _study(reports, WOBBLING)
    plain = {row.network: row for row in _matched.matched(_study(reports, GRID)).groups[0].rows}  # type: ignore[union-attr]
    assert {row.last for row in plain.values()} == {""}
    section = _matched.matched(wobbling)
    assert section is not None
    rows = {row.network: row for row in section.groups[0].rows}
    match = next(m for m in wobbling.tradeoff.matches if m.network == "imp-02" and m.against == "early-stopped")
    assert match.difference != match.last_difference
    assert rows["imp-02"].last == f"last at epoch 24: {match.last_difference:+.3f}"
    text = unescape(report.write(tmp_path, wobbling).read_text(encoding="utf-8"))
    assert rows["imp-02"].last in text
    assert "Dots above" in text
    assert "Dots above" not in _matched.figure(_study(reports, GRID)).caption


def test_of_many_seeds_the_range_is_shown_and_each_under_the_pointer(data: Any) -> None:
    (match, *_) = data.tradeoff.matches
    differences = {seed: 0.01 * seed - 0.025 for seed in range(6)}
    many = dataclasses.replace(match, by_seed=differences, beyond=(0, 1, 2, 3, 5))
    found = dataclasses.replace(data.tradeoff, matches=(many,))
    section = _matched.matched(dataclasses.replace(data, tradeoff=found))
    assert section is not None
    (row,) = section.groups[0].rows
    assert row.seeds == "-0.025 to +0.025"
    assert row.below == "below 0 in 3 of 6"
    assert row.every_seed.split(", ")[2] == "seed 2: -0.005"
    assert row.beyond == "nothing equally accurate in 5 of 6 seeds"


def test_a_network_that_no_dense_one_matches_is_named(reports: ModuleType, tmp_path: Path) -> None:
    better = _study(reports, {**GRID, "imp-01": (0.75, 0.5)}, seeds=(3,))
    section = _matched.matched(better)
    assert section is not None
    row, *others = section.groups[0].rows
    assert row.beyond == "nothing equally accurate in seed 3"
    assert row.accuracy_difference == "+0.050"
    assert not any(other.beyond for other in others)
    text = report.write(tmp_path, better).read_text(encoding="utf-8")
    assert "nothing equally accurate in seed 3" in text
    assert "Pale: in some seed nothing there is equally accurate, or equally dense." in text
    assert "ticks below" not in text  # of one seed there is nothing to show beside the mean


def test_the_figure_is_svg_and_says_each_difference(page: Path, data: Any) -> None:
    figure = page.parent / "figures" / "equal-accuracy.svg"
    assert ET.parse(figure).getroot().tag.endswith("svg")
    text = unescape(figure.read_text(encoding="utf-8"))
    drawing = _matched.figure(data)
    for m in data.tradeoff.matches:
        value = f"{m.difference:+.3f}"
        assert value in text
        assert value in drawing.label
    assert "n\u00a0=\u00a0600 members" in drawing.caption
    assert "seeds 0, 1" in drawing.caption


@pytest.mark.parametrize("grid", [GRID, WOBBLING])
def test_the_figure_draws_means_about_zero_and_fills_none(
    reports: ModuleType, grid: dict[str, tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _study(reports, grid)
    made: list[Any] = []
    new = _svg.figure
    monkeypatch.setattr(_svg, "figure", lambda *size: made.append(new(*size)) or made[-1])
    _matched.figure(data)
    ax = made[0].axes[0]
    left, right = ax.get_xlim()
    assert left < 0 < right
    held = [m for m in data.tradeoff.matches if m.against == "early-stopped"]
    marks = [line for line in ax.lines if line.get_zorder() == 4]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([m.difference for m in held])
    assert {line.get_markerfacecolor() for line in marks} == {"white"}
    assert not [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"][1:]
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "."]
    assert dots == pytest.approx([m.last_difference for m in held if not m.one_place])
    assert bool(dots) == (grid != GRID)


def test_the_plane_has_the_early_stops_as_one_line_that_leaves_the_axes_alone(
    data: Any, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    new = _svg.figure
    monkeypatch.setattr(_svg, "figure", lambda *size: made.append(new(*size)) or made[-1])
    drawing = _plane.plane(data)
    _plane.plane(plain)
    ax, without = made[0].axes[0], made[1].axes[0]
    assert ax.get_xlim() == without.get_xlim()
    (line,) = [line for line in ax.lines if line.get_gid() == "stopped"]
    assert line.get_label() == "dense, stopped early"
    points = {p.network: p for p in data.tradeoff.points}
    # The least accurate sparse network has .62: epoch 10 at .50 is the one more, epoch 1 is not drawn.
    way = [
        (points[n].relative_loss.mean, points[n].relative_gain.mean) for n in ("early-010", "early-020", "early-030")
    ]
    assert [tuple(at) for at in line.get_xydata()] == [*way, (0.0, 0.0)]
    assert "epochs 10, 20, 30" in drawing.caption
    assert "dense at epoch 20 loses" in drawing.label
    assert [text.get_text() for text in ax.get_legend().get_texts()].count("early-stopped") == 0


def test_a_second_dense_network_stands_under_its_own_name_in_the_plane(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    new = _svg.figure
    monkeypatch.setattr(_svg, "figure", lambda *size: made.append(new(*size)) or made[-1])
    dense = next(p for p in data.tradeoff.points if p.network == "dense")
    places = {"relative_loss": Spread(0.05, 0.05, 0.05, None, 1), "relative_gain": Spread(0.3, 0.3, 0.3, None, 1)}
    narrow = dataclasses.replace(dense, network="narrow", **places)
    found = dataclasses.replace(data.tradeoff, points=(*data.tradeoff.points, narrow))
    _plane.plane(dataclasses.replace(data, tradeoff=found))
    written = [text.get_text() for text in made[0].axes[0].texts]
    assert written.count("narrow") == 1
    assert written.count("dense") <= 1


def test_the_page_has_the_section_after_the_trade_off(page: Path, data: Any) -> None:
    text = unescape(page.read_text(encoding="utf-8"))
    order = [text.index(f'id="{name}"') for name in ("answer", "tradeoff", "equal", "attacks", "density", "networks")]
    assert order == sorted(order)
    assert "on the test records that the attack is measured on" in text
    assert "20 networks and 16 early stops" in _notes.subtitle(data)


def test_without_early_stops_butterfly_stands_beside_pruning_alone(plain: Any, tmp_path: Path) -> None:
    section = _matched.matched(plain)
    assert section is not None
    assert (section.stopped, section.pruning) == (False, True)
    assert [group.title for group in section.groups] == [
        "Against iterative pruning, at equal test accuracy",
        "Against iterative pruning, at equal density",
    ]
    text = report.write(tmp_path, plain).read_text(encoding="utf-8")
    assert "at the first epoch of its training" not in text


def test_texts_of_the_study_stay_inert_in_section_and_figure(data: Any, tmp_path: Path) -> None:
    hostile = "<script>alert('x')</script>"

    def rename(network: Any) -> Any:
        return dataclasses.replace(network, network=hostile) if network.network == "imp-02" else network

    attacks = [dataclasses.replace(a, network=rename(a.network)) for a in data.attacks]
    named = dataclasses.replace(
        data, networks=list(map(rename, data.networks)), attacks=attacks, tradeoff=tradeoff(attacks, resamples=100)
    )
    text = report.write(tmp_path, named).read_text(encoding="utf-8")
    assert hostile in unescape(text)
    assert "<script>alert" not in text
    figure = tmp_path / "figures" / "equal-accuracy.svg"
    assert not [e for e in ET.parse(figure).iter() if e.tag.endswith("script")]


def test_the_table_of_networks_ends_with_the_early_stops_by_epoch(data: Any) -> None:
    rows = [(row.cells[0].text, row.cells[1].text) for row in _table.networks(data).rows]
    stops = [row for row in rows if row[0].startswith("dense at")]
    assert rows[-len(stops) :] == stops
    assert len(stops) == 16
    targets = [name for name, role in stops if role == "target"]
    assert list(dict.fromkeys(targets)) == [f"dense at epoch {epoch}" for epoch in (1, 10, 20, 30)]


def test_early_stops_are_listed_as_our_choice_and_are_no_part_of_the_records(data: Any) -> None:
    control = next(c for c in _choices.choices(data) if c.choice.startswith("Control"))
    assert "epochs 1, 10, 20, 30" in control.here
    assert control.whose == "ours"
    stops = [name for name in EPOCHS if name in GRID]
    alone = [report.Slice("canaries", "mislabelled", 9, 8, None, name, "discriminator") for name in ("dense", *stops)]
    (table,) = _parts.slices(dataclasses.replace(data, slices=alone), canaries=True)
    assert table.columns == ["dense"]


def test_the_front_says_that_early_stops_lie_on_it_and_names_none(data: Any) -> None:
    front = _afford.pareto(data)
    assert not any("early" in name for name in front[:-1])
    on_it = sum(name in EPOCHS for name in data.tradeoff.pareto)
    assert on_it
    assert front[-1].startswith(f"and the dense network stopped early, at {on_it} epoch")


def test_the_console_leaves_early_stops_out(data: Any, plain: Any, tmp_path: Path) -> None:
    result = _result(data, tmp_path)
    said = str(result)
    assert "early-0" not in said
    assert said.splitlines() == str(_result(plain, tmp_path)).splitlines()
    assert {row["network"] for row in result.table()} == set(GRID)  # who reads rows gets all of them
    assert "early-0" not in result._repr_html_()
    for p in (8, 12, 95):  # an early stop has more defence than any sparse network within the last
        assert result.afford(p) == _result(plain, tmp_path).afford(p)


def test_no_sign_of_failure_comes_from_an_early_stop(data: Any, plain: Any) -> None:
    signs = failures(data.networks, data.attacks, data.tradeoff, classes=10)
    assert signs == failures(plain.networks, plain.attacks, plain.tradeoff, classes=10)
    collapsed = [dataclasses.replace(n, test_accuracy=0.1) if n.network == "imp-03" else n for n in data.networks]
    apart = [
        dataclasses.replace(n, test_accuracy=0.9) if (n.method, n.role) == ("early-stopped", "shadow") else n
        for n in collapsed
    ]
    (found,) = [s for s in failures(apart, data.attacks, data.tradeoff, classes=10) if "collapsed" in s]
    assert found.startswith("Accuracy collapsed in 4 of 20 networks")
    assert not any("resemble" in s for s in failures(apart, data.attacks, data.tradeoff, classes=10))


def test_a_study_without_a_control_is_told_how_to_add_one(reports: ModuleType, data: Any, plain: Any) -> None:
    def hint(found: Any, **changes: Any) -> list[str]:
        networks, traded = changes.get("networks", found.networks), changes.get("tradeoff", found.tradeoff)
        signs = failures(networks, found.attacks, traded, classes=10, study=found.study)
        return [sign for sign in signs if sign.startswith("No control at equal accuracy: ")]

    (said,) = hint(plain)
    assert 'method = "dense"' in said  # a control that could carry a verdict
    assert "[tradeoff] primary" in said
    assert len(hint(data)) == 1  # dense networks stopped early describe and test nothing
    chance = dataclasses.replace(plain.tradeoff, dense_balanced_accuracy=Estimate(0.51, 0.49, 0.53))
    assert hint(plain, tradeoff=chance) == []  # where nothing leaks there is nothing to hold equal
    assert re.search("control at equal accuracy", " ".join(_notes.CHECKS))
