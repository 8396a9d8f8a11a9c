"""Figures take fewer bytes and show the same."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from lacewing.reporting import _svg

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
LABEL = 'x="1.23456" url(1.23456)'


def _drawn(text: str) -> tuple[list[tuple[str, float, float, str | None]], list[str | None]]:
    """Each mark: its shape, its place and its style, own or of the group around it; and all texts."""
    root = ET.fromstring(text)
    parents = {child: parent for parent in root.iter() for child in parent}
    shapes = {f"#{e.get('id')}": e.get("d") for e in root.iter(f"{SVG}path") if e.get("id")}
    marks = []
    for use in root.iter(f"{SVG}use"):
        shape = [round(float(part), 1) for part in str(shapes[use.get(LINK, "")]).split() if part[-1].isdigit()]
        style = use.get("style") or parents[use].get("style")
        marks.append((str(shape), float(use.get("x", 0)), float(use.get("y", 0)), style))
    return marks, [e.text for e in root.iter() if e.text and e.text.strip()]


def test_a_compact_figure_has_every_mark_at_its_place_in_its_style(monkeypatch: pytest.MonkeyPatch) -> None:
    with _svg.style():
        fig = _svg.figure(fitted=False)
        ax = fig.add_subplot()
        for i, colour in enumerate(("#0072b2", "#0072b2", "#d55e00")):
            ax.plot([0.1234567 + i, 2.7, 3.1], [i, 0.2345678, 1], "os^"[i], color=colour, alpha=0.5 + 0.2 * (i > 0))
        ax.set_title(LABEL)
        short = _svg.to_svg(fig, "t", {})
        monkeypatch.setattr(_svg, "compact", lambda text: text)
        long = _svg.to_svg(fig, "t", {})
    (marks, texts), (wanted, said) = _drawn(short), _drawn(long)
    assert texts == said
    assert LABEL in texts
    assert len(marks) == len(wanted) > 9
    for mark, want in zip(marks, wanted, strict=True):
        assert mark[0] == want[0]
        assert mark[3] == want[3]
        assert mark[1:3] == pytest.approx(want[1:3], abs=0.0051)
    assert len(short) < 0.8 * len(long)
