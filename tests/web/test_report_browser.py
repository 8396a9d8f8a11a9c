"""The report in a real browser: offline, without errors, and alive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lacewing import reporting as report
from lacewing.tradeoff import afford

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")


@dataclass
class Opened:
    """The page in its tab, and what happened there."""

    tab: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    return reports.report_data(n=400)


@pytest.fixture(scope="module")
def path(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("report"), data)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def _open(browser: Any, path: Path, **options: Any) -> Opened:
    context = browser.new_context(**options)
    context.set_offline(True)
    context.set_default_timeout(120_000)  # a busy machine is no error of the page
    opened = Opened(context.new_page())
    opened.tab.on("request", lambda request: opened.requests.append(request.url))
    opened.tab.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.tab.on("console", lambda m: opened.errors.append(m.text) if m.type in ("error", "warning") else None)
    opened.tab.goto(path.as_uri())
    return opened


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Opened]:
    made = _open(browser, path, viewport={"width": 1280, "height": 900})
    yield made
    assert made.errors == []
    made.tab.context.close()


def _column(tab: Any, title: str) -> tuple[Any, list[str]]:
    """A column's heading, and the values of its cells from top to bottom."""
    heads = tab.locator("#networks-table thead th")
    titles = [t.rstrip("↕↑↓").strip() for t in heads.all_inner_texts()]
    index = titles.index(title)
    values = tab.eval_on_selector_all("#networks-table tbody tr", f"rows => rows.map(r => r.cells[{index}].dataset.v)")
    return heads.nth(index), values


def test_opens_offline_and_asks_for_nothing(opened: Opened, path: Path) -> None:
    assert opened.tab.title().startswith("synthetic")
    assert opened.requests[0] == path.as_uri()
    assert [url for url in opened.requests[1:] if not url.startswith("data:")] == []
    assert opened.tab.locator("h1").inner_text().startswith("The dense network gives away")


def test_figures_show(opened: Opened) -> None:
    figures = opened.tab.locator("figure svg")
    assert figures.count() == 8
    for i in range(figures.count()):
        box = figures.nth(i).bounding_box()
        assert box["width"] > 300
        assert box["height"] > 200
        assert figures.nth(i).get_attribute("aria-label")
    shown = opened.tab.evaluate("() => document.querySelector('#accuracy-density-band').getBBox().width")
    assert shown > 20


@pytest.mark.parametrize("title", ["Test accuracy", "Density", "Non-zero", "Seed"])
def test_a_click_sorts_by_value_and_a_second_one_reverses(opened: Opened, title: str) -> None:
    head, before = _column(opened.tab, title)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = list(map(float, _column(opened.tab, title)[1]))
    assert rising == sorted(map(float, before))
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert list(map(float, _column(opened.tab, title)[1])) == rising[::-1]
    assert opened.tab.locator("#networks-table thead [aria-sort]:not([aria-sort=none])").count() == 1


def test_sorting_by_keyboard_keeps_rows_without_a_value_last(opened: Opened) -> None:
    head, before = _column(opened.tab, "Defence D")
    blanks = before.count("")
    assert blanks == len(before) / 2  # the shadow networks are not attacked
    for direction in ("ascending", "descending"):
        head.get_by_role("button").focus()
        opened.tab.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
        values = _column(opened.tab, "Defence D")[1]
        assert values[-blanks:] == [""] * blanks
        numbers = list(map(float, values[:-blanks]))
        assert numbers == sorted(numbers, reverse=direction == "descending")


def test_words_sort_as_words(opened: Opened) -> None:
    head, before = _column(opened.tab, "Network")
    head.get_by_role("button").click()
    assert _column(opened.tab, "Network")[1] == sorted(before)


def test_roles_filter_the_table(opened: Opened, data: Any) -> None:
    rows = opened.tab.locator("#networks-table tbody tr:visible")
    assert rows.count() == len(data.networks)
    opened.tab.get_by_role("button", name="shadow", exact=True).click()
    assert rows.count() == len(data.networks) / 2
    assert set(rows.locator("td:nth-child(2)").all_inner_texts()) == {"shadow"}
    opened.tab.get_by_role("button", name="all", exact=True).click()
    assert rows.count() == len(data.networks)


@pytest.mark.parametrize("p", ["0", "3.7", "8", "100"])
def test_the_afford_control_answers_as_the_package_does(opened: Opened, data: Any, p: str) -> None:
    opened.tab.get_by_label("I can afford to lose").fill(p)
    choice = afford(data.tradeoff, float(p))
    assert choice is not None
    answer = opened.tab.locator("#afford-answer").inner_text().replace("\n", " ")
    assert answer.split()[0] == choice.point.network
    if choice.point.method != "dense":
        assert f"gains {100 * choice.point.relative_gain.mean:.1f}\u202f%" in answer


@pytest.mark.parametrize("wrong", ["", "-3"])
def test_the_afford_control_says_what_it_needs(opened: Opened, wrong: str) -> None:
    opened.tab.get_by_label("I can afford to lose").fill(wrong)
    assert "Give a number" in opened.tab.locator("#afford-answer").inner_text()


def test_on_a_phone_only_tables_scroll_sideways(browser: Any, path: Path) -> None:
    phone = _open(browser, path, viewport={"width": 390, "height": 844})
    assert phone.tab.evaluate("() => document.documentElement.scrollWidth") <= 390
    table = phone.tab.locator("#networks-table")
    assert table.bounding_box()["width"] > 390
    assert table.evaluate("e => getComputedStyle(e.parentElement).overflowX") == "auto"
    assert all(box["width"] > 300 for box in (f.bounding_box() for f in phone.tab.locator("figure svg").all()))
    assert phone.errors == []
    phone.tab.context.close()


def test_without_javascript_the_answers_are_there(browser: Any, path: Path) -> None:
    plain = _open(browser, path, java_script_enabled=False)
    assert plain.tab.locator("#afford").is_hidden()
    assert plain.tab.locator("#afford-table tbody tr").count() == 6
    assert plain.tab.locator("#afford-table").is_visible()
    plain.tab.context.close()


def test_dark_pages_are_dark(browser: Any, path: Path) -> None:
    dark = _open(browser, path, color_scheme="dark")
    ground, ink = dark.tab.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; }"
    )
    brightness = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in (ground, ink)]
    assert brightness[0] < 150
    assert brightness[1] > 600
    dark.tab.context.close()


def test_half_a_study_opens_without_errors(browser: Any, reports: ModuleType, tmp_path: Path) -> None:
    half = reports.report_data(attacked=False, seeds=(0,), missing=5)
    opened = _open(browser, report.write(tmp_path, half))
    assert opened.tab.get_by_text("This study is not finished").is_visible()
    assert opened.tab.locator("#afford").count() == 0
    assert opened.errors == []
    opened.tab.context.close()


@pytest.fixture(scope="module")
def battery(reports: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    many = reports.report_data(names=tuple(reports.BATTERY), n=60, levels=2, butterflies=())
    return report.write(tmp_path_factory.mktemp("battery"), many)


def _contrast(tab: Any, selector: str) -> float:
    """The smallest WCAG contrast of text to its own background among the elements."""
    return tab.evaluate(
        """selector => {
          const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
          const light = (colour) => {
            canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
              .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          return Math.min(...[...document.querySelectorAll(selector)].map((e) => {
            const style = getComputedStyle(e);
            const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
          }));
        }""",
        selector,
    )


@pytest.mark.parametrize("script", [True, False])
def test_the_matrix_changes_its_metric_by_mouse_and_keyboard(browser: Any, battery: Path, script: bool) -> None:
    opened = _open(browser, battery, viewport={"width": 1280, "height": 900}, java_script_enabled=script)
    shown = opened.tab.locator("#matrix .tab:visible h3")
    assert shown.all_inner_texts() == ["AUC"]
    opened.tab.locator("#matrix label", has_text="0.1").click()
    assert shown.all_inner_texts() == ["TPR at 0.1\u202f% FPR, in per cent"]
    opened.tab.keyboard.press("ArrowRight")
    assert shown.all_inner_texts() == ["Balanced accuracy, in per cent"]
    assert opened.errors == []
    opened.tab.context.close()


def test_a_network_chooses_its_roc(browser: Any, battery: Path) -> None:
    opened = _open(browser, battery)
    figures = opened.tab.locator(".rocs figure:visible")
    assert figures.count() == 1
    opened.tab.locator(".rocs label", has_text="imp-02").click()
    assert figures.count() == 1
    assert "imp-02" in figures.locator("h3").inner_text()
    opened.tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_shaded_cells_are_legible_and_the_shade_follows_the_value(browser: Any, battery: Path, scheme: str) -> None:
    opened = _open(browser, battery, color_scheme=scheme)
    opened.tab.evaluate("() => document.querySelector('.matrix td[style]').style.setProperty('--v', '1')")
    assert _contrast(opened.tab, ".matrix td[style]") >= 4.5
    colours = opened.tab.eval_on_selector_all(
        "#matrix .tab:nth-of-type(2) td[style]", "cells => cells.map(c => getComputedStyle(c).backgroundColor)"
    )
    assert len(set(colours)) > 5
    opened.tab.context.close()


def test_wide_matrices_scroll_inside_their_box_on_a_phone(browser: Any, battery: Path) -> None:
    phone = _open(browser, battery, viewport={"width": 390, "height": 844})
    assert phone.tab.evaluate("() => document.documentElement.scrollWidth") <= 390
    matrix = phone.tab.locator(".matrix:visible").first
    assert matrix.bounding_box()["width"] > 800
    assert matrix.evaluate("e => getComputedStyle(e.parentElement).overflowX") == "auto"
    phone.tab.context.close()


def test_roles_filter_the_table_beside_a_matrix(browser: Any, battery: Path) -> None:
    opened = _open(browser, battery)
    opened.tab.get_by_role("button", name="shadow", exact=True).click()
    assert set(opened.tab.locator("#networks-table tbody tr:visible td:nth-child(2)").all_inner_texts()) == {"shadow"}
    assert opened.tab.locator("#matrix .filter").is_visible()
    opened.tab.context.close()


def test_the_page_of_an_audit_opens_offline(browser: Any, reports: ModuleType, tmp_path: Path) -> None:
    path = report.write_audit(tmp_path, reports.audit(n=60))
    opened = _open(browser, path, viewport={"width": 390, "height": 844})
    assert opened.tab.locator("h1").inner_text() == "An answer about 15 attacks."
    assert opened.tab.locator("#audit-table tbody tr").count() == 15
    assert opened.tab.locator("figure svg").bounding_box()["width"] > 300
    assert opened.tab.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert [url for url in opened.requests[1:] if not url.startswith("data:")] == []
    assert opened.errors == []
    opened.tab.context.close()


@pytest.fixture(scope="module")
def declared(reports: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = reports.report_data(
        seeds=(0, 1, 2), n=300, levels=6, controls=5, stops=(20, 30), declared=reports.PRIMARY, epochs=40
    )
    return report.write(tmp_path_factory.mktemp("declared"), data)


@pytest.mark.parametrize("width", [390, 1100])
def test_the_section_at_equal_accuracy_fits_its_page(browser: Any, declared: Path, width: int) -> None:
    opened = _open(browser, declared, viewport={"width": width, "height": 900})
    tab = opened.tab
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    assert tab.locator("header nav").evaluate("e => e.scrollWidth <= e.clientWidth + 1")  # no link is cut off
    for table in ("#afford-table", "#answers-table", "#families-table", "#equal-table", "#slope-table"):
        assert tab.locator(table).is_visible()
        box = tab.locator(table).evaluate("e => e.parentElement.getBoundingClientRect().right")
        assert box <= width
        if width > 1000:  # nothing is hidden to the right on a desk
            assert tab.locator(table).evaluate("e => e.parentElement.scrollWidth <= e.parentElement.clientWidth + 1")
    assert tab.locator("#fig-explained svg").bounding_box()["width"] > 300
    assert tab.locator("#fig-explained [id*=quadratic]").count() == 1
    assert opened.errors == []
    tab.context.close()


def test_every_link_of_the_page_leads_to_a_place_on_it(browser: Any, declared: Path) -> None:
    opened = _open(browser, declared)
    lost = opened.tab.evaluate(
        "() => [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href'))"
        ".filter(h => !document.querySelector(h))"
    )
    assert lost == []
    opened.tab.context.close()
