"""What a report must not conclude: from few or equal seeds, from many looks, and before a study is finished."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lacewing import reporting as report
from lacewing.metrics import Estimate
from lacewing.reporting import _afford, _data, _families, _headline, _notes, _plane, _slopes, _slopes_by_attack
from lacewing.tradeoff import CHANGE, Spread, show_change, show_slope, tradeoff
from lacewing.tradeoff.cautions import failures


@pytest.fixture(scope="module")
def plain(reports: ModuleType) -> Any:
    return reports.report_data(seeds=(0, 1, 2), n=1000, levels=3)


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    return reports.compared()


def _dense(data: Any, values: Mapping[int, float], metric: str = "balanced_accuracy", half: float = 0.02) -> Any:
    """The same study with these accuracies of the attack on the dense networks, known to ``half``."""

    def changed(a: Any) -> Any:
        if a.network.network != "dense":
            return a
        v = values[a.network.seed]
        return dataclasses.replace(a, metrics={**a.metrics, metric: Estimate(v, v - half, v + half)})

    attacks = [changed(a) for a in data.attacks]
    found = None if data.tradeoff is None else tradeoff(attacks)
    return dataclasses.replace(data, attacks=attacks, tradeoff=found)


def _with(data: Any, **changes: Any) -> Any:
    return dataclasses.replace(data, tradeoff=dataclasses.replace(data.tradeoff, **changes))


def _page(data: Any, folder: Path) -> str:
    return unescape(report.write(folder, data).read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------- few and equal seeds


def test_no_leakage_is_said_only_where_the_dense_networks_do_not_leak_either(plain: Any) -> None:
    values = dict(enumerate((0.55, 0.95, 0.6)))
    few = _dense(plain, values)
    assert few.tradeoff.dense_balanced_accuracy.low < 0.5
    first, _ = _headline.headline(few)
    assert first.startswith(
        "Each of the 3 dense networks leaks its training records (attack accuracy 55.0 to 95.0\u202f%); there are too "
        "few seeds to estimate the mean (95\u202f% interval 15.9 to "
    )
    assert "t over 3 seeds" in first
    assert _headline.headline(_dense(plain, values, half=0.06))[0].startswith("No leakage found")  # .55 might be chance


def test_a_dense_network_at_chance_on_its_own_members_has_no_all_clear(plain: Any) -> None:
    quiet = _dense(plain, dict.fromkeys(range(3), 0.5), half=0.06)
    assert _headline.headline(quiet)[0].startswith("No leakage found")

    def wrong(a: Any) -> Any:
        label = np.arange(len(a.member_N)) % 4
        return dataclasses.replace(a, label_N=label, correct_N=label == 0)

    guessing = dataclasses.replace(quiet, attacks=[wrong(a) for a in quiet.attacks])
    n = int(guessing.attacks[0].member_N.sum())
    said = _headline.headline(guessing)[0]
    assert re.fullmatch(
        rf"This study cannot say what its dense network leaks: the network dense/target/\d is right about \d+ of {n} "
        r"members, no better than always answering the most frequent class \(\d+ of \d+\)\.",
        said,
    )
    signs = failures(guessing.networks, guessing.attacks, guessing.tradeoff)
    assert said in signs
    assert not any("no leakage found" in sign for sign in signs)
    assert "o leakage found" not in report.model_card(dataclasses.replace(guessing, failures=signs))


def test_the_same_holds_of_attacks_that_only_rank(reports: ModuleType) -> None:
    ranked = reports.report_data(names=("population",), seeds=(0, 1, 2), n=150, levels=1, butterflies=())
    few = _dense(ranked, dict(enumerate((0.55, 0.95, 0.6))), "auc")
    assert _headline.headline(few)[0].startswith(
        "Each of the 3 dense networks leaks its training records (AUC 0.550 to 0.950); there are too few seeds to"
    )


def test_the_attack_makes_no_decisions_is_said_only_where_it_makes_none(reports: ModuleType, plain: Any) -> None:
    ranked = reports.report_data(names=("population",), n=150, levels=1, butterflies=())
    assert "It makes no decisions" in " ".join(_headline.headline(ranked)[1])
    other = _with(plain, dense_balanced_accuracy=None)  # for another reason
    first, more = _headline.headline(other)
    assert "ranks a member above" in first
    assert "no decisions" not in " ".join(more)


def test_equal_seeds_have_the_interval_over_records_and_say_so(plain: Any) -> None:
    each = {s: Estimate(0.6, 0.57 - 0.01 * s, 0.63) for s in range(3)}
    found = _data.over_seeds(each, halves=False)
    assert found is not None
    assert found[0] == pytest.approx((0.6, 0.56, 0.63))
    assert found[1] == "over records, the seeds do not differ"
    equal = _dense(plain, dict.fromkeys(range(3), 0.6))
    a0 = equal.tradeoff.dense_balanced_accuracy
    assert a0 == pytest.approx((0.6, 0.58, 0.62))
    card = report.model_card(equal)
    row = next(line for line in card.splitlines() if line.startswith("| discriminator |"))
    assert "| 60.0 % (58.0 to 62.0 %), over records, the seeds do not differ |" in row  # the headline's interval


def test_a_mean_over_cuts_of_unequal_size_counts_each_cut_once() -> None:
    each = {0: Estimate(0.6, 0.5, 0.7), 1: Estimate(0.8, 0.7, 0.9), 2: Estimate(0.9, 0.8, 1.0)}
    found = _data.over_seeds(each, halves=True)
    assert found is not None
    assert found[0] == pytest.approx((0.8, 0.7, 0.9))


def test_an_interval_that_is_cut_is_cut_alike_everywhere(plain: Any) -> None:
    wide = _dense(plain, dict(enumerate((0.55, 0.95, 0.6))))
    assert wide.tradeoff.dense_balanced_accuracy.high == 1  # Student's t alone goes to 1.24
    assert "15.9 to 100.0\u202f%" in _headline.headline(wide)[0]
    assert "| 70.0 % (15.9 to 100.0 %) |" in report.model_card(wide)
    tiles = {tile.title: tile.detail for tile in _headline.tiles(wide)}
    assert "15.9 to 100.0\u202f%" in tiles["Attack accuracy, dense"]
    assert "0.0 to 168.3\u202f%" in tiles["Defence, dense"]


def test_the_tiles_end_where_defence_and_gain_end(plain: Any) -> None:
    wide = _with(plain, dense_balanced_accuracy=Estimate(0.7, 0.55, 1.24))
    (tile,) = [t for t in _headline.tiles(wide) if t.title == "Defence, dense"]
    assert "95\u202f% interval 0.0 to 90.0\u202f%" in tile.detail
    gain = Spread(0.5, -0.9, 2.0, 1.0, 3, -1.7, 2.7)
    points = [dataclasses.replace(p, relative_gain=gain) for p in wide.tradeoff.points]
    (tile,) = [t for t in _headline.tiles(_with(wide, points=points)) if t.title.startswith("Best sparse")]
    assert "95\u202f% interval \u2212100.0 to 270.0\u202f%" in tile.detail


@pytest.mark.parametrize(
    ("loss", "said", "cell"), [(-0.147, "is 14.7\u202f% more accurate", "14.7\u202f% more accurate")]
)
def test_a_network_that_gains_accuracy_is_more_accurate(plain: Any, loss: float, said: str, cell: str) -> None:
    points = [
        dataclasses.replace(p, relative_loss=Spread(loss, loss, loss, 0.0, 3)) if p.method == "imp" else p
        for p in plain.tradeoff.points
    ]
    better = _with(plain, points=points)
    row = _afford.affordable(better)[3]
    assert said in row.sentence
    assert row.loss.startswith(cell)
    assert said in " ".join(_headline.headline(better)[1])
    shown = [row.loss, row.sentence, *_headline.headline(better)[1], *(t.detail for t in _headline.tiles(better))]
    drawing = _plane.plane(better)
    assert not any(re.search("(loses|for) \u2212", text) for text in [*shown, drawing.label, drawing.svg])
    assert said in drawing.label


# ---------------------------------------------------------------------------------------------------------- many looks


def test_beside_the_slopes_under_each_attack_many_looks_are_said(reports: ModuleType, tmp_path: Path) -> None:
    many = reports.report_data(names=("discriminator", "loss"), n=150, levels=1, butterflies=())
    page = _page(many, tmp_path)
    section = page[page.index('<section id="slopes-by-attack"') :].partition("</section>")[0]
    assert _slopes.MANY_SLOPES in section
    assert "No p is corrected" in _slopes.MANY_SLOPES


# -------------------------------------------------------------------------------------------------------- not finished


@pytest.fixture(scope="module")
def open_(data: Any) -> Any:
    """A study of which one planned attack has not run."""
    slope = dataclasses.replace(
        data.tradeoff.slope, verdict="not finished", sentence="not finished: slope 2.5 so far (3 networks, 3 seeds)."
    )
    answer = dataclasses.replace(data.answers[0], p=None, p_corrected=None, verdict="no verdict", sentence="Not yet.")
    return dataclasses.replace(_with(data, slope=slope), answers=[answer], failures=[])


def test_the_slope_of_an_unfinished_study_is_a_number_without_a_test(open_: Any, tmp_path: Path) -> None:
    slope = open_.tradeoff.slope
    assert slope.p_paper is not None  # were it given, it would not be shown
    row = _slopes.row(slope, "x")
    assert (row.verdict, row.beside, row.p) == ("not finished", "–", "")
    (tile,) = [t for t in _headline.tiles(open_) if t.title.startswith("Slope")]
    assert tile.value == "not finished"
    number = f"{slope.ratio.value:.3g} so far"
    assert tile.detail.startswith(number)
    assert (row.slope, row.interval) == (number, "")
    plane = _plane.plane(open_).svg
    assert number in plane
    assert 'id="fan"' not in plane
    page = _page(open_, tmp_path)
    assert show_slope(slope) not in page
    assert not re.search("resolved", re.sub("slope not resolved", "", page))
    assert [note.title for note in _notes.notes(open_)] == ["This study is not finished"]
    assert "Not every planned attack has run: every number below may still change." in page
    assert "This study is not finished: not every planned attack has run." in report.model_card(open_)
    one = dataclasses.replace(slope, networks=("imp-01",))
    assert "<small>1 network</small>" in _page(_with(open_, slope=one), tmp_path / "one")


def test_no_attack_of_an_unfinished_study_is_tested(open_: Any) -> None:
    rows = _slopes_by_attack.slopes_by_attack(open_)
    assert {(row.verdict, row.p) for row in rows} == {("not finished", None)}
    assert _slopes_by_attack.in_words(rows).startswith(
        "No slope of these 2 attacks is tested before every planned attack has run."
    )
    known = {"loss": tradeoff(open_.attacks, attack="loss")}  # this one has run everywhere
    (loss,) = [
        row
        for row in _slopes_by_attack.slopes_by_attack(dataclasses.replace(open_, tradeoffs=known))
        if row.attack == "loss"
    ]
    assert loss.verdict == known["loss"].slope.verdict
    half = [rows[0], rows[1]._replace(verdict="slope resolved", p=0.01)]
    assert "1 is tested against the paper's 3.6, and 1 of them differs" in _slopes_by_attack.in_words(half)
    assert " 1 is not finished." in _slopes_by_attack.in_words(half)


def test_families_and_answers_of_an_unfinished_study_show_neither_interval_nor_p(open_: Any, tmp_path: Path) -> None:
    tested = [d for d in open_.tradeoff.differences if d.estimate is not None]
    assert tested
    groups = _families.groups(open_, stopped=False)
    rows = [*(row for group in groups for row in group.rows), *_families.answer_rows(open_)]
    assert any(row.reason == "not finished" for row in rows)
    for row in rows:
        assert (row.p, row.detectable) == ("–", "–")
        assert "[" not in row.difference
    assert show_change(tested[0].value) in {row.difference for row in rows}
    said = _page(open_, tmp_path) + report.model_card(open_).replace("\\", "")
    assert not any(d.estimate.text(CHANGE) in said for d in tested)


def test_the_card_names_why_families_are_not_compared_in_brief(data: Any) -> None:
    short = dict(line.split(": ") for line in _families.in_short(data))  # a colon, and one only
    assert short["butterfly - imp"] == "no common accuracy"
    assert short["butterfly - weight-decay"] == "too few recipes of common accuracy"


def test_what_a_difference_counts_is_its_own_unit(data: Any) -> None:
    answer = data.answers[0]
    cuts = dataclasses.replace(
        answer, differences=tuple(dataclasses.replace(d, unit="cut") for d in answer.differences)
    )
    ranked = dataclasses.replace(data, tradeoff=None, answers=[cuts])  # no attack of it makes decisions
    assert {row.seeds for row in _families.answer_rows(ranked)} == {"3 cuts"}
    assert {row.seeds for row in _families.answer_rows(data)} == {"3"}
