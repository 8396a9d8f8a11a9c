"""Filling the page's templates: one environment, everything escaped, nothing loaded from outside the package."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from lacewing.support.text import visible

if TYPE_CHECKING:
    from markupsafe import Markup

    from lacewing.reporting._figures import Drawing


def source(name: str) -> str:
    """A file of this package as text."""
    return (resources.files("lacewing.reporting") / name).read_text(encoding="utf-8")


def fill(template: str, **values: Any) -> str:
    """The template with ``values``, the style sheet and the script; every text is escaped, a missing name raises."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # of no use in HTML but to mislead
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css, js = Markup(source("report.css")), Markup(source("report.js"))
    return environment.get_template(template).render(css=css, js=js, **values)


def inlined(drawings: dict[str, Drawing]) -> dict[str, Markup]:
    """The drawings as SVG for use inside the page."""
    from markupsafe import Markup

    from lacewing.reporting import _svg

    return {name: Markup(_svg.inline(d.svg, name, d.label)) for name, d in drawings.items()}
