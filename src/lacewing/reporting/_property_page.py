"""The one-page report of what a training tells of a property: a row an attack, and what each attacker holds."""

from __future__ import annotations

from collections.abc import Sequence

from lacewing.property import ATTACKS, PropertyFindings
from lacewing.reporting import _page, _property
from lacewing.reporting._data import number, percent


def property_page(found: PropertyFindings, sentence: str, notes: Sequence[str]) -> str:
    """The page as HTML.

    Args:
        found: what the attacks found, of one recipe and pair of worlds.
        sentence: the answer.
        notes: what a reader must know.
    """
    first = found.rows[0]
    half, shares = found.networks // 2, _property.pair((first.first, first.second))
    draws = f"{first.seeds} draw{'s' * (first.seeds != 1)} of the pools"
    more = [
        f"Two worlds of training sets, each of {found.records:,} records: {shares} are “{found.of}”. The attacker has "
        f"{half} networks of each world of its own, and {half} of each are attacked, for each of {draws} that records "
        f"come from. The attacked networks are right for {percent(first.test_accuracy)} of the records that nobody "
        "trained on.",
        *_property.poison(found),
        _property.LIMITS,
    ]
    return _page.fill(
        "property.html.j2",
        first=sentence,
        more=more,
        notes=list(notes),
        rows=[
            (
                _property.LABELS[row.attack],
                _property.cell(row),
                number(row.auc),
                row.chosen,
                f"{row.p:.2g}",
                _leaked(row.n_leaked),
            )
            for row in found.rows
        ],
        draws=[
            (str(row.seed), _property.LABELS[row.attack], number(row.accuracy), number(row.auc)) for row in found.seeds
        ],
        reading=_property.READING,
        holds=_property.holds(row.attack for row in found.rows),
        untested=_property.holds(name for name in ATTACKS if name not in {row.attack for row in found.rows}),
    )


def _leaked(value: float | None) -> str:
    return "more than any number" if value is None else number(value, 1)
