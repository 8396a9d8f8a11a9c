"""The report of a study: one offline HTML page, and its figures as SVG files.

The page answers first (what the dense network gives away, what sparsity takes back and what it costs), then shows the
evidence and how to run the study again. It loads nothing from anywhere, holds no times, and equal inputs give equal
bytes. No user code is imported; every text from a study is escaped.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from lacewing._report import _declared, _story, _svg, _table
from lacewing._report._data import ReportData, seeds_of
from lacewing._report._figures import Drawing
from lacewing.store import write_atomically

__all__ = ["ReportData", "write"]


def write(folder: Path, data: ReportData) -> Path:
    """Write ``report.html`` and ``figures/*.svg`` into ``folder``, each atomically; returns the path of the page.

    Works for a half-finished study: what is missing is said on the page. Raises OSError where ``folder`` cannot be
    written.
    """
    drawings = _draw(data)
    for drawing in drawings.values():
        write_atomically(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
    write_atomically(folder / "report.html", _page(data, drawings))
    return folder / "report.html"


def _draw(data: ReportData) -> dict[str, Drawing]:
    from lacewing._report import _figures, _plane

    drawn = [
        _plane.plane(data),
        _figures.against_density(data, "accuracy"),
        _figures.against_density(data, "defence"),
        _figures.roc(data),
        _figures.training(data, "loss"),
        _figures.training(data, "accuracy"),
    ]
    return {drawing.name: drawing for drawing in drawn}


def _page(data: ReportData, drawings: dict[str, Drawing]) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    parts = resources.files("lacewing._report")

    def source(name: str) -> str:
        return (parts / name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    first, more = _story.headline(data)
    # "<" is escaped, so that no text of a study can end the script element that holds the JSON.
    steps = json.dumps(_story.afford_steps(data), ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("template.html.j2").render(
        study=str(data.study.get("name", "study")),
        subtitle=_story.subtitle(data),
        first=first,
        more=more,
        tiles=_story.tiles(data),
        notes=_story.notes(data),
        checks=_story.CHECKS,
        measurable=data.tradeoff is not None and data.tradeoff.slope.verdict != "no trade-off measurable",
        attacked=bool(data.attacks),
        afford=_story.affordable(data),
        steps=Markup(steps),
        slopes=_story.slopes(data.tradeoff),
        seeds_n=f"{len(seeds_of(data))} seed{'s' * (len(seeds_of(data)) != 1)}",
        cap=data.tradeoff.cap_sentence if data.tradeoff is not None else "",
        pareto=_story.pareto(data.tradeoff),
        figures=drawings,
        svg={name: Markup(_svg.inline(d.svg, name, d.label)) for name, d in drawings.items()},
        table=_table.networks(data),
        settings=_declared.settings(data),
        choices=_declared.choices(data),
        threats=_declared.threat_models(data),
        environment=dict(data.environment),
        command=data.command,
        glossary=_declared.GLOSSARY,
        css=Markup(source("report.css")),
        js=Markup(source("report.js")),
    )
