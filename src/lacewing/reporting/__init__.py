"""The report of a study or of a single audit: an offline HTML page, its figures as SVG files, and a model card.

The page answers first (what the dense network leaks, how much less sparse ones leak and at what cost), then shows the
evidence and how to run the study again. It loads nothing from anywhere, holds no times, and equal inputs give equal
bytes. No user code is imported; every text from a study is escaped. Ids and scores of single records are private data
and appear only where they are asked for; pictures never do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lacewing.reporting import (
    _afford,
    _attackers,
    _attribute,
    _choices,
    _families,
    _headline,
    _matched,
    _matrix,
    _notes,
    _page,
    _parts,
    _picks,
    _property,
    _settings,
    _slopes,
    _stability,
    _table,
    _why,
)
from lacewing.reporting._audit_page import AuditLike, write_audit
from lacewing.reporting._card import model_card
from lacewing.reporting._data import MostVulnerable, ReportData, Runs, Slice, leading_attack, main_attack, seeds_of
from lacewing.reporting._figures import Drawing
from lacewing.reporting._glossary import GLOSSARY
from lacewing.reporting._networks_figure import networks_figure
from lacewing.reporting._pair_page import PairLike, write_pair
from lacewing.reporting._property_page import property_page
from lacewing.reporting._slopes import said as slope_sentence
from lacewing.support.files import write_atomically
from lacewing.tradeoff import EXPLORATORY

__all__ = [
    "AuditLike",
    "MostVulnerable",
    "PairLike",
    "ReportData",
    "Runs",
    "Slice",
    "main_attack",
    "model_card",
    "networks_figure",
    "property_page",
    "slope_sentence",
    "write",
    "write_audit",
    "write_pair",
]


def write(folder: Path, data: ReportData) -> Path:
    """Write ``report.html``, ``figures/*.svg`` and ``model_card.md`` into ``folder``, each atomically.

    Returns the path of the page. Works for a half-finished study: what is missing is said on the page. Raises OSError
    where ``folder`` cannot be written, FolderError where a link in it leads elsewhere.
    """
    from lacewing.reporting import _rocs

    rocs = _rocs.by_network(data)
    drawings = _draw(data) | {drawing.name: drawing for _, drawing in rocs}
    for drawing in drawings.values():
        write_atomically(folder / "figures" / f"{drawing.name}.svg", drawing.svg, within=folder)
    choices = [(label, drawing.name) for label, drawing in rocs]
    write_atomically(folder / "report.html", _html(data, drawings, choices), within=folder)
    write_atomically(folder / "model_card.md", model_card(data), within=folder)
    return folder / "report.html"


def _draw(data: ReportData) -> dict[str, Drawing]:
    from lacewing.reporting import _explained, _figures, _frontier, _plane, _slopes_by_attack, _training

    drawn = [
        _plane.plane(data),
        _figures.against_density(data, "accuracy"),
        _figures.against_density(data, "defence"),
        _figures.roc(data),
        _training.training(data, "loss"),
        _training.training(data, "accuracy"),
    ]
    optional = (
        _frontier.figure(data),
        _why.figure(data),
        _attackers.figure(data),
        _property.figure(data),
        _stability.figure(data),
        _explained.figure(data),
    )
    drawn += [each for each in optional if each is not None]
    if _matched.matched(data) is not None:
        drawn.append(_matched.figure(data))
    if len({a.attack for a in data.attacks}) > 1:
        drawn.append(_slopes_by_attack.panels(data))
    return {drawing.name: drawing for drawing in drawn}


def _equal(data: ReportData) -> dict[str, Any] | None:
    """The section "At equal accuracy"; None before an attack with decisions has run."""
    if data.tradeoff is None and not data.answers:
        return None
    explained = data.tradeoff.explained if data.tradeoff is not None else None
    return {
        "attack": leading_attack(data) or "",
        "answered": _families.answered(data),
        "answers": _families.answer_rows(data),
        "picks": _picks.picks(data),
        "families": _families.shown(data, stopped=False),
        "alone": _families.alone(data.tradeoff),
        "explained": "" if explained is None else explained.sentence,
    }


def _on_the_way(data: ReportData) -> dict[str, Any] | None:
    """The section about networks observed in mid-schedule, and about single points; None where there are none."""
    matched, families = _matched.matched(data), _families.shown(data, stopped=True)
    if matched is None and not families:
        return None
    return {"attack": leading_attack(data) or "", "families": families, "matched": matched}


def _html(data: ReportData, drawings: dict[str, Drawing], rocs: list[tuple[str, str]]) -> str:
    first, more = _headline.headline(data)
    return _page.fill(
        "template.html.j2",
        study=str(data.study.get("name", "study")),
        subtitle=_notes.subtitle(data),
        first=first,
        more=more,
        tiles=_headline.tiles(data),
        notes=_notes.notes(data),
        checks=_notes.CHECKS,
        attacked=bool(data.attacks),
        lead=leading_attack(data) or "",
        seeds_n=f"{len(seeds_of(data))} seed{'s' * (len(seeds_of(data)) != 1)}",
        equal=_equal(data),
        stability=_stability.section(data),
        why=_why.section(data),
        attackers=_attackers.section(data),
        property=_property.section(data),
        attribute=_attribute.section(data),
        why_not=data.mechanism if isinstance(data.mechanism, str) else "",
        on_the_way=_on_the_way(data),
        exploratory=f"Every number here but the declared answers is {EXPLORATORY}.",
        figures=drawings,
        svg=_page.inlined(drawings),
        table=_table.networks(data),
        **_costs(data),
        **_attacks(data, rocs),
        **_records(data),
        **_run(data),
    )


def _costs(data: ReportData) -> dict[str, Any]:
    """What the section about the trade-off shows."""
    from markupsafe import Markup

    # "<" is escaped, so that no text of a study can end the script element that holds the JSON.
    steps = json.dumps(_afford.afford_steps(data), ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return {
        "measurable": data.tradeoff is not None and data.tradeoff.slope.verdict != "no trade-off measurable",
        "afford": _afford.affordable(data),
        "steps": Markup(steps),
        "slopes": _slopes.rows(data),
        "many_slopes": _slopes.MANY_SLOPES,
        "slope_words": (_slopes.READING, _slopes.LEAST_SQUARES),
        "cap": data.tradeoff.cap_sentence if data.tradeoff is not None else "",
        "pareto": _afford.pareto(data),
    }


def _attacks(data: ReportData, rocs: list[tuple[str, str]]) -> dict[str, Any]:
    """What the sections about several attacks show."""
    from lacewing.reporting import _slopes_by_attack

    rows = _slopes_by_attack.slopes_by_attack(data) if rocs else []
    return {
        "matrices": _matrix.matrices(data),
        "compared": _matrix.sentences(data),
        "adaptive": _matrix.adaptive(data),
        "unaware": _matrix.UNAWARE,
        "described": _matrix.described(data),
        "rocs": rocs,
        "slopes_by_attack": rows,
        "slopes_in_words": _slopes_by_attack.in_words(rows),
        "untested": _parts.untested((a.attack for a in data.attacks), data.registry),
    }


def _records(data: ReportData) -> dict[str, Any]:
    """What the sections about parts of the records and about self-checks show."""
    return {
        "selfchecks": data.selfchecks,
        "canaries": _parts.slices(data, canaries=True),
        "slices": _parts.slices(data, canaries=False),
        "vulnerable": _parts.vulnerable(data),
        "show_records": data.show_records,
    }


def _run(data: ReportData) -> dict[str, Any]:
    """What the sections about how the study was run show."""
    return {
        "settings": _settings.settings(data),
        "choices": _choices.choices(data),
        "threats": _settings.threat_models(data),
        "environment": dict(data.environment),
        "trust": _settings.TRUST,
        "command": data.again or data.command,
        "glossary": GLOSSARY,
    }
