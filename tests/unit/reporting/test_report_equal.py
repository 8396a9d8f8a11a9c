"""Declared answers, families at equal accuracy and controls in a report: one number, with one interval, everywhere."""

from __future__ import annotations

import dataclasses
import json
import re
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lacewing import reporting as report
from lacewing.metrics import Estimate
from lacewing.reporting import (
    _data,
    _explained,
    _families,
    _figures,
    _headline,
    _notes,
    _plane,
    _slopes,
    _slopes_by_attack,
    _svg,
)
from lacewing.results import LABELS
from lacewing.study.result import Result
from lacewing.tradeoff import CHANGE, EXPLORATORY, as_json, family_of, show_change, show_ratio, show_slope
from lacewing.tradeoff.cautions import failures

VERDICTS = re.compile("leaks? (less|more)|slope (not )?resolved", re.IGNORECASE)


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    return reports.compared(population=True)


@pytest.fixture(scope="module")
def few(reports: ModuleType) -> Any:
    return reports.compared(seeds=(0, 1))


@pytest.fixture(scope="module")
def plain(reports: ModuleType) -> Any:
    """The same study without controls and early stops."""
    return reports.compared(controls=0, stops=(), declared=None)


@pytest.fixture(scope="module")
def page(data: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _page(data, tmp_path_factory.mktemp("equal"))


def _page(data: Any, folder: Path) -> str:
    return unescape(report.write(folder, data).read_text(encoding="utf-8"))


def _result(data: Any, folder: Path) -> Result:
    return Result(
        folder,
        tuple(data.networks),
        tuple(data.attacks),
        data.tradeoff,
        tuple(data.failures),
        (),
        (),
        0,
        answers=tuple(data.answers),
    )


def _card(data: Any) -> str:
    return report.model_card(data).replace("\\", "")


# ------------------------------------------------------------------------------------------------- the same everywhere


def test_page_card_terminal_and_json_say_the_same_number_with_the_same_interval(
    data: Any, page: str, tmp_path: Path
) -> None:
    card, terminal = _card(data), str(_result(data, tmp_path))
    plain = json.loads(json.dumps(as_json(data.tradeoff, data.answers)))
    slope = plain["slope"]["ratio"]
    assert slope["low"] is not None
    quoted = f"{slope['value']:.3g} [{slope['low']:.3g}, {slope['high']:.3g}]"
    assert quoted == show_ratio(data.tradeoff.slope.ratio)
    for said in (page, card, terminal):
        assert quoted in said
        assert plain["power_sentence"] in said
        assert plain["declared"][0]["sentence"] in said
    (difference,) = plain["declared"][0]["differences"]
    value, low, high = (show_change(difference["estimate"][end]) for end in ("value", "low", "high"))
    assert float(value) == pytest.approx(difference["estimate"]["value"], abs=0.0005)
    (row,) = _families.answer_rows(data)
    assert row.difference == f"{value} [{low}, {high}]"
    assert row.difference in plain["declared"][0]["sentence"]
    a0 = plain["dense_balanced_accuracy"]
    interval = (
        f"{100 * a0['value']:.1f}\u202f% (95\u202f% interval {100 * a0['low']:.1f} to {100 * a0['high']:.1f}\u202f%"
    )
    assert interval in page
    assert interval.replace("\u202f", " ") in card
    # The card's table has the leading attack on the dense network too: the same interval once more.
    ends = f"({100 * a0['low']:.1f} to {100 * a0['high']:.1f} %)"
    assert re.search(rf"\| discriminator \|.*\| {100 * a0['value']:.1f} % {re.escape(ends)} \|", card)


def test_with_two_seeds_the_card_and_the_headline_agree_on_the_interval_over_records(few: Any) -> None:
    a0 = few.tradeoff.dense_balanced_accuracy
    ends = f"({100 * a0.low:.1f} to {100 * a0.high:.1f} %)"
    assert f"| {100 * a0.value:.1f} % {ends} |" in _card(few)


def test_slopes_in_every_table_are_the_trade_offs_own(data: Any) -> None:
    for slope, row in zip((data.tradeoff.slope, *data.tradeoff.slopes), _slopes.rows(data), strict=True):
        assert row.slope == show_slope(slope) == show_ratio(slope.ratio)
        assert row.p == f"p = {slope.p_paper:.2g}"
        assert float(row.least_squares) == pytest.approx(slope.least_squares, rel=0.01)
        assert row.loss.startswith(f"{100 * slope.mean_loss.value:.1f}")
        assert row.networks == str(len(slope.networks))
    lead = next(row for row in _slopes_by_attack.slopes_by_attack(data) if row.attack == "discriminator")
    assert lead.row is not None
    assert lead.row._replace(name="") == _slopes.rows(data)[0]._replace(name="")


# ------------------------------------------------------------------------------------------- declared, and exploratory


def test_the_primary_answer_comes_directly_after_the_first_sentence(data: Any, plain: Any) -> None:
    _, more = _headline.headline(data)
    assert more[0] == data.answers[0].sentence
    assert more[1].startswith("Balanced accuracy of the attack")
    assert more[-2].startswith(data.tradeoff.slope.sentence[:1].upper() + data.tradeoff.slope.sentence[1:])
    assert more[-1] == data.tradeoff.power_sentence
    assert _headline.headline(plain)[1][0].startswith("Balanced accuracy of the attack")


def test_only_the_choices_answer_and_the_slope_carry_verdict_words(data: Any, page: str) -> None:
    page = re.sub(
        r"\s+",
        " ",
        re.sub(r"<svg.*?</svg>|<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL),
    )
    for allowed in (data.answers[0].sentence, data.answers[0].sentence.split("? ")[0]):
        page = page.replace(allowed, "")
    tables = re.sub(r'<table class="plain slopes".*?</table>', "", page)  # their column of verdicts on the slope
    answers = re.sub(r'<table class="plain fits" id="answers-table">.*?</table>', "", tables)
    first = data.tradeoff.slope.sentence
    rest = answers.replace(first[:1].upper() + first[1:], "")
    found = {match[0] for match in VERDICTS.finditer(rest)}
    assert found <= {"Slope not resolved", "slope not resolved"}  # looked for and quoted among the signs of failure


def test_with_two_seeds_nothing_carries_a_verdict(few: Any, tmp_path: Path) -> None:
    page, card, terminal = _page(few, tmp_path), _card(few), str(_result(few, tmp_path))
    assert few.tradeoff.slope.verdict == "fewer than three seeds"
    asked = few.answers[0].sentence.split("? ")[0]  # the question itself, which says "leak less"
    for said in (page.replace(asked, ""), card.replace(asked, ""), terminal.replace(asked, "")):
        assert "No verdict" in said
        assert not re.search("leaks (less|more)|slope resolved", said)
    each = few.tradeoff.slope.by_seed
    assert f"Single seeds: seed 0: {each[0]:.3g}, seed 1: {each[1]:.3g}." in page
    assert "over records, the spread over seeds left out" in page
    assert all(d.estimate is None for d in few.tradeoff.differences)
    (tile,) = [tile for tile in _headline.tiles(few) if tile.title.startswith("Best sparse")]
    assert re.search(r"range .* over 2 seeds", tile.detail)
    assert "95" not in tile.detail


def test_what_is_exploratory_is_said_once_a_section(data: Any, page: str, tmp_path: Path) -> None:
    for name in ("answer", "tradeoff", "equal", "slopes-by-attack"):
        section = page[page.index(f'<section id="{name}"') :].partition("</section>")[0]
        assert section.count(EXPLORATORY) == 1, name
    assert EXPLORATORY in _card(data)
    assert str(_result(data, tmp_path)).count(EXPLORATORY) == 1


def test_a_study_without_a_question_says_so_and_how_one_is_choices(plain: Any, tmp_path: Path) -> None:
    page = _page(plain, tmp_path)
    assert "This study declared no question before it ran" in page
    assert "[tradeoff] primary = {" in page
    assert 'id="answers-table"' not in page
    told = re.search(r"\[tradeoff\] primary = (\{.*?\})", _families.UNDECLARED)
    assert told is not None
    import tomllib

    from lacewing.config import Comparison

    Comparison.model_validate(tomllib.loads(f"primary = {told[1]}")["primary"])  # what the page proposes is accepted


# ------------------------------------------------------------------------------------------------------------ families


def test_the_table_has_every_difference_with_interval_p_and_detectable_difference(data: Any) -> None:
    both = [group for stopped in (False, True) for group in _families.groups(data, stopped=stopped)]
    groups = {group.title: group.rows for group in both}
    for d in data.tradeoff.differences:
        note = " (description)" if d.at == "train accuracy" else ""
        rows = groups[f"{d.family} - {d.against}, at equal {d.at}{note}"]
        found = [row for row in rows if row.metric == LABELS[d.metric]]
        if not found:
            assert [row.metric for row in rows] == ["every metric"]
            assert d.value is None
            continue
        (row,) = found
        assert row.reason == (d.reason or "")
        assert row.kept == f"{len(d.recipes)} + {len(d.against_recipes)}"
        if d.estimate is not None:
            assert row.difference == d.estimate.text(CHANGE)
            assert float(row.p) == pytest.approx(d.p, rel=0.06)
            assert float(row.detectable) == pytest.approx(d.detectable.difference, abs=0.0005)
        else:
            assert (row.p, row.detectable) == ("–", "–")
    first = next(iter(groups))
    assert first == "imp - weight-decay, at equal test accuracy"  # what can be tested stands before the descriptions
    assert any(d.estimate is not None for d in data.tradeoff.differences)
    assert "imp-01" in groups[first][0].recipes


def test_what_was_observed_in_mid_schedule_stands_apart_and_has_no_verdict(data: Any, page: str) -> None:
    stops = {family_of(n) for n in data.networks if n.stopped}
    assert stops
    for stopped in (False, True):
        for group in _families.groups(data, stopped=stopped):
            assert any(name in group.title.partition(",")[0].split(" - ") for name in stops) is stopped
    start, end = page.index('<section id="on-the-way"'), page.index('<section id="attacks"')
    assert all(name in page[start:end] for name in stops)
    assert not re.search(r"leaks (less|more)\b(?! otherwise)", page[start:end])
    equal = page[page.index('<section id="equal"') : start]
    assert "mid-schedule" not in equal


def test_no_metric_with_a_value_is_folded_away(data: Any) -> None:
    d = data.tradeoff.differences[0]
    same = [
        dataclasses.replace(d, metric=m, value=0.1, estimate=None, reason="x") for m in ("auc", "balanced_accuracy")
    ]
    none = [dataclasses.replace(each, value=None) for each in same]
    shown = [
        [
            row.metric
            for stopped in (False, True)
            for group in _families.groups(_with(data, differences=tuple(of)), stopped=stopped)
            for row in group.rows
        ]
        for of in (same, none, [same[0], none[1]])
    ]
    assert shown == [["AUC", "Attack accuracy A"], ["every metric"], ["AUC", "Attack accuracy A"]]


def test_what_cannot_be_compared_takes_a_line_a_family_and_a_row_a_question(data: Any) -> None:
    asked = ("imp", "weight-decay", "test accuracy")
    d = next(d for d in data.tradeoff.differences if (d.family, d.against, d.at) == asked)
    none = dataclasses.replace(d, value=None, estimate=None, p=None, detectable=None)
    two = [dataclasses.replace(none, against=name, reason=f"no common accuracy ({name})") for name in ("a", "b")]
    few = dataclasses.replace(none, against="c", reason="too few recipes (2)")
    found = _families.shown(_with(data, differences=(d, *two, few)), stopped=False)["test"]
    assert [group.against for group in found.compared] == [d.against]
    (line,) = found.uncompared
    assert line.family == "imp"
    assert line.others == {
        "no common accuracy": [("a", "no common accuracy (a)"), ("b", "no common accuracy (b)")],
        "too few recipes": [("c", "too few recipes (2)")],
    }
    answer = dataclasses.replace(data.answers[0], differences=(d, *two, few))
    rows = _families.answer_rows(dataclasses.replace(data, answers=[answer]))
    assert [row.against for row in rows] == [d.against, "a, b", "c"]
    assert rows[1].whole_reason == "a: no common accuracy (a); b: no common accuracy (b)"
    assert [bool(row.question) for row in rows] == [True, False, False]


def _with(data: Any, **changes: Any) -> Any:
    return dataclasses.replace(data, tradeoff=dataclasses.replace(data.tradeoff, **changes))


def test_families_of_one_recipe_are_named_beside_the_table_and_are_no_alarm(data: Any, page: str) -> None:
    (note,) = [note for note in data.tradeoff.notes if "one recipe" in note]
    assert not any("one recipe" in each.title + each.text for each in _notes.notes(data))
    assert note in page


def test_several_answers_keep_their_rows_and_their_corrected_p(reports: ModuleType) -> None:
    metric = "discriminator.balanced_accuracy"
    asked = {
        "primary": {"family": "imp", "against": "weight-decay", "metric": metric},
        "comparisons": [
            {"family": "imp", "against": "weight-decay", "metric": "loss.auc"},
            {"family": "imp", "against": "weight-decay", "metric": "discriminator.auc"},
        ],
    }
    data = reports.compared(declared=asked, stops=())
    rows = _families.answer_rows(data)
    assert [row.question.rpartition(" ")[2] for row in rows] == ["(primary)", "(declared)", "(declared)"]
    assert "Holm" not in rows[0].p_corrected
    assert [row.p_corrected for row in rows[1:]] == [f"{a.p_corrected:.2g} (Holm)" for a in data.answers[1:]]
    assert [line for line in _card(data).splitlines() if line.startswith("- Declared comparison")] == [
        f"- {a.sentence}" for a in data.answers[1:]
    ]


# ----------------------------------------------------------------------------------------------------- what explains it


def test_the_figure_has_a_mark_for_each_target_network_and_the_fitted_curve(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    new = _svg.figure
    monkeypatch.setattr(_svg, "figure", lambda *size: made.append(new(*size)) or made[-1])
    drawing = _explained.figure(data)
    assert drawing is not None
    ax = made[0].axes[0]
    least = data.tradeoff.explained.least_train_accuracy
    wanted = {
        (a.network.train_accuracy, a.metrics["balanced_accuracy"].value)
        for a in data.attacks
        if a.attack == "discriminator" and a.network.train_accuracy > least
    }
    marks = [line for line in ax.lines if line.get_label()[0] != "_" and line.get_gid() != "quadratic"]
    drawn = {tuple(at) for line in marks for at in line.get_xydata()}
    assert drawn == wanted
    assert {line.get_label() for line in marks} == {
        "dense",
        _figures.OTHER_DENSE,
        "dense, stopped early",
        "IMP",
        "butterfly",
    }
    (curve,) = [line for line in ax.lines if line.get_gid() == "quadratic"]
    x, y = curve.get_data()
    oracle = np.polynomial.Polynomial.fit(*np.array(sorted(wanted)).T, 2)
    assert y == pytest.approx(oracle(x), abs=1e-9)
    assert (x[0], x[-1]) == (min(a for a, _ in wanted), max(a for a, _ in wanted))
    assert data.tradeoff.explained.sentence in drawing.label


def test_networks_that_were_left_out_of_the_fit_are_counted(reports: ModuleType) -> None:
    young = reports.compared(stops=(5, 30))
    drawing = _explained.figure(young)
    assert drawing is not None
    assert "3 networks that fit at most 80\u202f% of their training records are not shown" in drawing.caption
    fewer = [a for a in young.attacks if a.network.network != "early-005" or a.network.seed == 0]
    one = _explained.figure(dataclasses.replace(young, attacks=fewer))
    assert one is not None
    assert "1 network that fits at most 80\u202f% of its training records is not shown" in one.caption
    assert _explained.figure(dataclasses.replace(young, tradeoff=None)) is None


# ------------------------------------------------------------------------------------------------------------ controls


def test_controls_are_dense_networks_that_nothing_is_measured_against(data: Any, plain: Any) -> None:
    lowest = dataclasses.replace(data, networks=sorted(data.networks, key=lambda n: n.network, reverse=True))
    assert [s.network for s in _data.series(lowest)][:2] == ["dense", "decay-1"]  # "decay" sorts before "dense"
    assert _figures.against_density(data, "defence") == _figures.against_density(plain, "defence")
    assert _slopes_by_attack.panels(data) == _slopes_by_attack.panels(plain)
    chosen = [s.network for s in _figures.roc_choice(_data.series(data), data.look)]
    assert [name for name in chosen if name.startswith(("decay", "dense"))] == ["dense"]
    assert "### Dense network: dense, density 100 %" in _card(data)
    for attack in ("discriminator", "loss"):
        rows = [next(r for r in _slopes_by_attack.slopes_by_attack(d) if r.attack == attack) for d in (data, plain)]
        assert rows[0].dense == rows[1].dense


def test_controls_are_no_sign_of_failure(data: Any, plain: Any) -> None:
    signs = [failures(d.networks, d.attacks, d.tradeoff, classes=10) for d in (data, plain)]
    assert signs[0] == signs[1]
    assert not any(
        "No control" in s for s in failures(data.networks, data.attacks, data.tradeoff, classes=10, study=data.study)
    )


def test_an_attack_near_chance_names_n_of_a_network_and_what_its_interval_is_over(reports: ModuleType) -> None:
    for seeds in ((0, 1), (0, 1, 2)):
        d = reports.report_data(seeds=seeds, n=400, leak=0.0, levels=2)
        chance = dataclasses.replace(d.tradeoff, dense_balanced_accuracy=Estimate(0.51, 0.49, 0.53))
        (said,) = [s for s in failures(d.networks, d.attacks, chance, classes=10) if "near chance" in s]
        assert "n = 800 records a network" in said
        assert d.tradeoff.interval in said
        assert str(d.tradeoff.dense_records) not in said


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2)])
def test_few_seeds_are_a_sign_to_read_with_care(data: Any, few: Any, seeds: tuple[int, ...]) -> None:
    found = few if len(seeds) == 2 else data
    signs = failures(found.networks, found.attacks, found.tradeoff, classes=10)
    assert any(s.startswith("No verdict without three seeds") for s in signs) == (len(seeds) == 2)


def test_the_plane_tells_controls_from_the_dense_network(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    new = _svg.figure
    monkeypatch.setattr(_svg, "figure", lambda *size: made.append(new(*size)) or made[-1])
    _plane.plane(data)
    ax = made[0].axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels.count("dense") == labels.count(_figures.OTHER_DENSE) == 1
    assert f"slope {show_ratio(data.tradeoff.slope.ratio)}" in labels


def test_a_question_about_an_attack_that_only_ranks_is_answered_without_a_trade_off(
    reports: ModuleType, tmp_path: Path
) -> None:
    asked = {"primary": {"family": "imp", "against": "weight-decay", "metric": "population.auc"}}
    ranked = reports.compared(names=("population",), declared=asked, stops=())
    assert ranked.tradeoff is None
    (answer,) = ranked.answers
    assert answer.differences[0].estimate is not None
    page, card, terminal = _page(ranked, tmp_path), _card(ranked), str(_result(ranked, tmp_path))
    assert all(answer.sentence in said for said in (page, card, terminal))
    assert answer.differences[0].estimate.text(CHANGE) in page
    assert 'id="families-table"' not in page


def test_of_a_study_that_is_not_finished_no_p_is_shown(data: Any) -> None:
    (answer,) = data.answers
    open_ = dataclasses.replace(answer, p=None, p_corrected=None, verdict="no verdict", sentence="No verdict yet.")
    assert answer.differences[0].p is not None
    (row,) = _families.answer_rows(dataclasses.replace(data, answers=[open_]))
    assert (row.p, row.p_corrected, row.verdict) == ("–", "", "no verdict")
