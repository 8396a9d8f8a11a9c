"""The report as bytes: complete, inert, deterministic, and honest about what is missing."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lacewing import reporting as report
from lacewing.reporting import _afford, _choices, _data, _figures, _headline, _looks, _notes, _plane, _svg, _table
from lacewing.results import LABELS, REALISED
from lacewing.tradeoff import PAPER_BAND, PAPER_SLOPE, Spread, afford

HOSTILE = "<script>alert('x')</script>"
FIGURES = {"tradeoff", "accuracy-density", "defence-density", "roc", "training-loss", "training-accuracy"}
MORE = {"equal-accuracy", "families"}  # where enough networks were attacked


class _Page(HTMLParser):
    """Every start tag, the ids, the visible text and the contents of script elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        (self.scripts if self._script else self.text).append(data)


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    return reports.report_data(n=400)


@pytest.fixture(scope="module")
def page(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("report") / "new folder", data)


@pytest.fixture(scope="module")
def html(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_writes_page_and_figures_and_leaves_no_temporary_file(page: Path) -> None:
    assert page.name == "report.html"
    assert {p.name for p in page.parent.iterdir()} == {"report.html", "model_card.md", "figures"}
    assert {p.name for p in (page.parent / "figures").iterdir()} == {f"{name}.svg" for name in FIGURES | MORE}
    for figure in (page.parent / "figures").iterdir():
        assert ET.parse(figure).getroot().tag.endswith("svg")


def test_equal_inputs_give_equal_bytes(data: Any, page: Path, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "svg.hashsalt": "other", "lines.linewidth": 9}):  # a user's own settings
        report.write(tmp_path, data)
        assert mpl.rcParams["font.size"] == 30
    for first in (p for p in page.parent.rglob("*") if p.is_file()):
        assert first.read_bytes() == (tmp_path / first.relative_to(page.parent)).read_bytes()


def test_texts_of_a_study_stay_inert(reports: ModuleType, tmp_path: Path) -> None:
    base = reports.report_data(n=100, levels=2, seeds=(0,), butterflies=())
    study = reports.study(HOSTILE)
    study["networks"][0]["name"] = study["data"]["dataset"] = HOSTILE
    named = [
        dataclasses.replace(n, network=HOSTILE if n.network == "imp-02" else n.network, method=n.method)
        for n in base.networks
    ]
    attacks = [reports.attack(n, 100) for n in named if n.role == "target"]
    from lacewing.tradeoff import tradeoff

    hostile = dataclasses.replace(
        base,
        study=study,
        networks=named,
        attacks=attacks,
        tradeoff=tradeoff(attacks, resamples=100),
        failures=[HOSTILE],
        environment={HOSTILE: HOSTILE},
        jobs_failed=[HOSTILE],
        command=HOSTILE,
        data_digest=HOSTILE,
    )
    assert any(HOSTILE in step["network"] for step in _afford.afford_steps(hostile))  # so it reaches the JSON too
    text = report.write(tmp_path, hostile).read_text(encoding="utf-8")
    page = _Page(text)
    assert "<script>alert" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert any(step["network"] == HOSTILE for step in json.loads(page.scripts[-2]))  # unharmed for who reads it
    for figure in (tmp_path / "figures").iterdir():
        assert not [e for e in ET.parse(figure).iter() if e.tag.endswith("script")]


def test_the_page_refers_to_nothing_outside_itself(html: str) -> None:
    page = _Page(html)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert "src" not in attrs
        assert tag not in ("iframe", "object", "embed", "base")
        reference = attrs.get("href")
        assert reference is None or reference == "data:," or reference[1:] in ids
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    assert re.findall(r"url\((?!#)", html) == []


def test_every_number_of_the_results_is_in_the_table(data: Any, html: str) -> None:
    text = "".join(_Page(html).text)
    table = _table.networks(data)
    assert len(table.rows) == len(data.networks)
    values = {cell.sort for row in table.rows for cell in row.cells}
    for network in data.networks:
        assert f"{network.nonzero:,}" in text
        for share in (network.density, network.density_prunable, network.train_accuracy, network.test_accuracy):
            assert f"{share:.7g}" in values
    for attack in data.attacks:
        row = next(
            r
            for r in table.rows
            if [c.sort for c in r.cells[:3]] == [attack.network.network, "target", str(attack.network.seed)]
        )
        shown = {title: cell for (title, _), cell in zip(table.columns, row.cells, strict=True)}
        for name, estimate in attack.metrics.items():
            if name in REALISED:  # results.csv alone has them
                continue
            if estimate is None:
                assert any(cell.interval == "n too small" for cell in row.cells)
                continue
            assert shown[LABELS[name]].sort == f"{estimate.value:.7g}"
            interval = shown[LABELS[name]].interval
            scale, digits = (1, 3) if name == "auc" else (100, 1)
            ends = [float(end.replace("\u2212", "-")) for end in interval.split(" to ")]
            assert ends == [round(scale * estimate.low, digits), round(scale * estimate.high, digits)]
    assert all(attack.metrics["tpr_at_fpr_0.001"] is None for attack in data.attacks)  # n = 400: the case above ran


def test_answer_quotes_interval_n_and_the_papers_slope(data: Any) -> None:
    first, more = _headline.headline(data)
    a0 = data.tradeoff.dense_balanced_accuracy
    assert f"{100 * a0.value:.1f}\u202f%" in first
    said = " ".join(more)
    assert f"{100 * a0.low:.1f} to {100 * a0.high:.1f}\u202f%" in said
    assert "n\u00a0=\u00a0400 members and 400 non-members per network" in said
    assert data.tradeoff.interval in said
    assert f"{data.tradeoff.dense_records:,}" not in said  # the records of two seeds are not one sample
    assert str(PAPER_SLOPE) in said


def test_a_leading_attack_at_chance_does_not_hide_another_that_finds_more(reports: ModuleType) -> None:
    names = ("discriminator", "loss")
    chance, leaking = (reports.report_data(leak=leak, n=300, names=names) for leak in (0.0, None))
    kept = [a for a in chance.attacks if a.attack == "discriminator"]
    first, _ = _headline.headline(
        dataclasses.replace(chance, attacks=[*kept, *(a for a in leaking.attacks if a.attack == "loss")])
    )
    assert first.startswith("The attack “discriminator” on the dense network does not beat guessing")
    assert "but “loss” finds more: AUC" in first
    assert _headline.headline(chance)[0].startswith("No leakage found above")


def test_an_attack_at_chance_is_no_leakage_found_above_x_at_n(reports: ModuleType, tmp_path: Path) -> None:
    chance = reports.report_data(leak=0.0, n=300)
    first, more = _headline.headline(chance)
    a0 = chance.tradeoff.dense_balanced_accuracy
    assert a0.low <= 0.5
    assert first.startswith("No leakage found above")
    assert f"{100 * a0.high:.1f}\u202f% at n\u00a0=\u00a0300 members and 300 non-members per network, 2 seeds" in first
    assert "Best sparse" not in " ".join([*more, *(t.title for t in _headline.tiles(chance))])
    assert "the attack “discriminator” on the dense network" in first
    text = report.write(tmp_path, chance).read_text(encoding="utf-8")
    assert "Attack near chance" in text
    assert "The gains above may be chance." in text


@pytest.mark.parametrize("word", ["safe", "anonymous", "compliant", "secure", "guarantee"])
def test_the_page_promises_nothing(html: str, word: str) -> None:
    assert not re.search(rf"\b{word}", "".join(_Page(html).text), flags=re.IGNORECASE)


def test_networks_that_wait_for_their_attack_are_counted(reports: ModuleType, data: Any) -> None:
    from lacewing.tradeoff import tradeoff

    fewer = dataclasses.replace(data, attacks=data.attacks[:3], tradeoff=tradeoff(data.attacks[:3], resamples=100))
    text = next(note.text for note in _notes.notes(fewer) if note.kind == "unfinished")
    assert text.startswith(f"{len(data.attacks) - 3} trained target networks not attacked yet")
    assert not any(note.kind == "unfinished" for note in _notes.notes(data))


def test_failures_and_failed_jobs_are_notes(data: Any) -> None:
    odd = dataclasses.replace(
        data,
        failures=["Accuracy collapsed in 1 of 2 networks (x): worth nothing.", "No slope to quote: it holds 0."],
        jobs_failed=["imp-02/target/0: the loss became NaN at epoch 3."],
        missing=1,
    )
    notes = [(note.kind, note.title) for note in _notes.notes(odd)]
    assert notes == [
        ("unfinished", "This study is not finished"),
        ("failed", "A job failed"),
        ("care", "Accuracy collapsed"),
        ("care", "No slope to quote"),
    ]


PARTIAL = {
    "nothing trained": {"seeds": (), "levels": 0, "butterflies": (), "missing": 16},
    "trained, not attacked": {"seeds": (0,), "attacked": False, "missing": 9},
    "only dense, few records": {"seeds": (0,), "levels": 0, "butterflies": (), "n": 40},
    "no butterfly, no curves": {"butterflies": (), "epochs": 0},
    "no imp, one seed": {"levels": 0, "seeds": (3,)},
    "collapsed": {"collapse": True},
}


@pytest.mark.parametrize("case", PARTIAL)
def test_any_part_of_a_study_makes_a_page(reports: ModuleType, tmp_path: Path, case: str) -> None:
    some = reports.report_data(**{"n": 150, **PARTIAL[case]})
    text = report.write(tmp_path, some).read_text(encoding="utf-8")
    assert "nan" not in "".join(_Page(text).text).lower().split()
    assert ("not finished" in text) == (some.missing > 0)
    assert ("No answer yet" in text) == (not some.attacks)
    assert FIGURES <= {p.stem for p in (tmp_path / "figures").iterdir()} <= FIGURES | MORE


def test_a_seed_without_its_dense_network_still_makes_a_page(reports: ModuleType, tmp_path: Path) -> None:
    from lacewing.tradeoff import tradeoff

    whole = reports.report_data(n=150, seeds=(0,))
    attacks = [a for a in whole.attacks if a.network.method != "dense"]
    part = dataclasses.replace(whole, attacks=attacks, tradeoff=tradeoff(attacks, resamples=100), failures=())
    text = report.write(tmp_path, part).read_text(encoding="utf-8")
    assert "No answer yet: no dense network has been attacked." in text
    assert "It has no dense network" in text


def test_the_largest_study_stays_below_three_megabytes(reports: ModuleType, tmp_path: Path) -> None:
    seeds, butterflies = range(5), tuple(reports.BUTTERFLY)
    full = reports.report_data(n=150, seeds=seeds, levels=24, fraction=0.2, butterflies=butterflies, epochs=300)
    assert len(full.networks) == 31 * 5 * 2
    path = report.write(tmp_path, full)
    assert path.stat().st_size < 3_000_000
    assert path.read_text(encoding="utf-8").count("<tr data-role=") == 310


@pytest.mark.parametrize("p", [0, 0.4, 1, 2, 3.3, 5, 8, 10, 20, 100])
def test_afford_steps_answer_as_afford_does(data: Any, p: float) -> None:
    step = [s for s in _afford.afford_steps(data) if s["from"] <= p + 1e-9][-1]  # what the page's script does
    choice = afford(data.tradeoff, p)
    assert choice is not None
    assert step["sentence"] == _afford.affordable(data, [p])[0].sentence
    assert step["network"].lower().replace(" ", "-") in (
        choice.point.network,
        choice.point.network.replace("imp-0", "imp-"),
    )


@pytest.mark.parametrize(
    ("losses", "gains", "best"),
    [
        ((0.02, 0.04, 0.3), (0.1, 0.2, 0.9), 1),  # most defence within 5 %, whatever lies beyond
        ((-0.01, 0.04, 0.06), (0.3, 0.2, 0.9), 0),
        ((0.01, 0.04, 0.06), (-0.1, -0.2, 0.2), 2),  # none within 5 % gains
        ((0.1, 0.2, 0.3), (0.3, 0.5, 0.55), 1),  # gain minus loss
        ((0.1, 0.2, 0.6), (0.15, 0.2, 0.9), 0),  # not one that loses more than half
        ((0.01, 0.1, 0.2), (-0.1, -0.2, -0.3), None),
    ],
)
def test_best_sparse_is_the_one_of_most_defence_within_a_loss_of_five_percent(
    reports: ModuleType, losses: tuple[float, ...], gains: tuple[float, ...], best: int | None
) -> None:
    found = reports.report_data(n=400, levels=3, butterflies=()).tradeoff
    place = {f"imp-0{i + 1}": i for i in range(3)}

    def planted(point: Any) -> Any:
        if point.network not in place:
            return point
        loss, gain = losses[place[point.network]], gains[place[point.network]]
        change = {"relative_loss": loss, "relative_gain": gain, "defence": (1 + gain) / 2}
        return dataclasses.replace(point, **{k: Spread(v, v, v, None, 1) for k, v in change.items()})

    told = _headline.best_sparse(dataclasses.replace(found, points=tuple(map(planted, found.points))))
    assert (told and place[told.network]) == best


def test_best_sparse_is_no_collapsed_network(reports: ModuleType) -> None:
    found = reports.report_data(n=400, collapse=True).tradeoff
    best = _headline.best_sparse(found)
    assert best is not None
    assert best.relative_loss.mean < 0.5


def test_a_recipe_that_collapsed_in_a_seed_is_not_named_as_best_and_the_reason_is_said(reports: ModuleType) -> None:
    data = reports.report_data(n=400, levels=3, butterflies=())
    named = _headline.best_sparse(data.tradeoff)
    assert named is not None
    last = max(n.seed for n in data.networks)

    def fallen(network: Any) -> Any:
        collapses = (network.network, network.role, network.seed) == (named.network, "target", last)
        return dataclasses.replace(network, test_accuracy=0.1) if collapses else network

    networks = [fallen(n) for n in data.networks]
    attacks = [dataclasses.replace(a, network=fallen(a.network)) for a in data.attacks]
    broken = dataclasses.replace(data, networks=networks, attacks=attacks)
    assert broken.collapsed == {named.network: 1}
    best = _headline.best_sparse(broken.tradeoff, broken.collapsed)
    assert best is None or best.network != named.network
    said = " ".join(_headline.headline(broken)[1])
    assert f"Not considered: {broken.label(named.network, named.method)}, because its accuracy collapsed" in said
    assert "Not considered" not in " ".join(_headline.headline(data)[1])
    chosen = {row.network for row in _afford.affordable(broken, (0, 5, 50, 1000))}
    assert broken.label(named.network, named.method) not in chosen


def _drawn(monkeypatch: pytest.MonkeyPatch, draw: Any) -> tuple[Any, str]:
    """The matplotlib figure behind a drawing, and its SVG."""
    made = []
    new = _svg.figure

    def keep(*args: float) -> Any:
        made.append(new(*args))
        return made[-1]

    monkeypatch.setattr(_svg, "figure", keep)
    drawing = draw()
    return made[0], drawing.svg


@pytest.mark.parametrize("what", ["accuracy", "defence"])
def test_density_figures_show_the_band_on_a_log_axis(data: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    figure, svg = _drawn(monkeypatch, lambda: _figures.against_density(data, what))
    ax = figure.axes[0]
    band = next(patch for patch in ax.patches if patch.get_gid() == "band")
    left, right = band.get_x(), band.get_x() + band.get_width()
    assert (left, right) == pytest.approx(PAPER_BAND)
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] < left < right < ax.get_xlim()[1]
    assert 'id="band"' in svg


def test_plane_draws_the_papers_line_the_fan_and_the_means(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, _ = _drawn(monkeypatch, lambda: _plane.plane(data))
    ax = figure.axes[0]
    paper = next(line for line in ax.lines if line.get_gid() == "paper")
    x, y = paper.get_data()
    assert y[1] / x[1] == pytest.approx(PAPER_SLOPE)
    ratio = data.tradeoff.slope.ratio
    fan = next(c for c in ax.collections if c.get_gid() == "fan").get_paths()[0].vertices
    edge = sorted(y / x for x, y in fan if x > 0)
    assert (edge[0], edge[-1]) == pytest.approx((ratio.low, ratio.high))
    drawn = {tuple(line.get_xydata()[0]) for line in ax.lines if len(line.get_xydata()) == 1}
    assert {(p.relative_loss.mean, p.relative_gain.mean) for p in data.tradeoff.points} <= drawn


def test_roc_shows_the_sparsest_imp_of_the_band_and_at_most_three_butterflies(reports: ModuleType) -> None:
    names = ["dense", "imp-01", "imp-02", "imp-03", *reports.BUTTERFLY]
    densities = {"imp-01": 0.5, "imp-02": 0.05, "imp-03": 0.02}
    shown = [
        _data.Series(n, n.split("-")[0], densities.get(n, 0.3), {}, {0: None})  # type: ignore[dict-item]
        for n in names
    ]
    chosen = [s.network for s in _figures.roc_choice(shown, _looks.OWN.__getitem__)]
    assert chosen[:2] == ["dense", "imp-02"]
    assert len(chosen) == 5


def test_thinned_roc_keeps_the_rates_that_were_reached() -> None:
    import numpy as np

    fpr = np.linspace(0, 1, 5001)
    tpr = np.sqrt(fpr)
    x, y = _figures._thin_roc(fpr, tpr, 1 / 5000)
    assert len(x) <= 310
    assert x[-1] == y[-1] == 1
    for rate, reached in zip(x, y, strict=True):  # never above the curve, never a step behind it
        assert reached == pytest.approx(tpr[fpr <= rate + 1e-12].max())


def test_figures_have_text_alternatives_and_captions_with_n_and_seeds(data: Any, html: str) -> None:
    labels = [attrs["aria-label"] for tag, attrs in _Page(html).tags if tag == "svg"]
    assert len(labels) == len(FIGURES | MORE)
    assert all(label and len(label) > 30 for label in labels)
    for drawing in (_plane.plane(data), _figures.against_density(data, "defence"), _figures.roc(data)):
        assert "n\u00a0=\u00a0400 members" in drawing.caption
        assert re.search(r"[Ss]eeds? 0", drawing.caption)


def test_choices_tell_ours_from_the_papers(reports: ModuleType, data: Any) -> None:
    whose = {c.choice: c.whose for c in _choices.choices(data)}
    assert whose["Split"].startswith("paper")
    assert whose["Training"] == "ours"
    assert whose["IMP: share pruned per level"].startswith("ours")  # 45 % is not the paper's
    study = reports.study()
    study["networks"][1]["fraction"] = 0.2
    again = dataclasses.replace(data, study=study)
    assert {c.choice: c.whose for c in _choices.choices(again)}["IMP: share pruned per level"].startswith("derived")
    no_butterfly = dataclasses.replace(data, study={**study, "networks": [{"method": "dense"}]})
    assert not any(c.choice.startswith(("IMP", "Butterfly")) for c in _choices.choices(no_butterfly))


def test_importing_the_report_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, lacewing.reporting; print({'torch', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
