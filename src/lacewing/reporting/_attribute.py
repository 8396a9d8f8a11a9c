"""The section "What networks tell of a column": guesses of members' values beside non-members' and imputation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lacewing.attribute import ATTACKS, IMPUTATION, AttributeRow
from lacewing.reporting._data import ReportData, density_text, number, percent, signed
from lacewing.reporting._property import Row
from lacewing.reporting._why import Cell

if TYPE_CHECKING:
    from lacewing.attribute import AttributeFindings

READING = (
    "Each number is the surplus on members, in points of a per cent: how much more often the attack is right than "
    "imputation, on members less on non-members. What the network learned of the source, and what the other columns "
    "say, helps on both sides and is subtracted. Columns and initialisations of a seed are averaged, and the interval "
    "is Student's t over seeds; with fewer than three there is none, and where they do not differ it is over records. "
    "The pointer shows the shares that are guessed. Shaded: the interval lies above 0. Nothing is corrected for the "
    "number of attacks and networks."
)
BELOW = (
    "“below imputation”: the attack guesses fewer of the members' values than imputation does without the network, so "
    "that its surplus tells members from others, and its guess is no use by itself."
)


def section(data: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where the study declares no column, or nothing was guessed yet."""
    found = data.attribute
    if found is None or not found.rows:
        return None
    by_recipe: dict[str, dict[str, AttributeRow]] = {}
    for row in found.rows:
        by_recipe.setdefault(row.network, {})[row.attack] = row
    rows = []
    for network, of in by_recipe.items():
        first = next(iter(of.values()))
        cells = [Cell(percent(first.imputed_members), f"{percent(first.imputed_nonmembers)} of non-members")]
        cells += [_cell(of[name]) for name in ATTACKS]
        key, label = data.key(first.method, first.kind), data.label(network, first.method)
        rows.append(Row(key, label, density_text(first.density), percent(first.test_accuracy), cells))
    return {
        "sentence": _sentence(found),
        "columns": ["imputation, of members", *ATTACKS],
        "rows": rows,
        "reading": READING,
        "below": BELOW if any(row.below_imputation for row in found.rows) else "",
        "holds": [f"{name}: {holds}" for name, holds in {**ATTACKS, "imputation": IMPUTATION}.items()],
    }


def _sentence(found: AttributeFindings) -> str:
    first = found.rows[0]
    columns = f"column{'s' * (len(found.columns) != 1)} {', '.join(found.columns)}"
    seeds = f"{first.seeds} seed{'s' * (first.seeds != 1)}"
    n = f"{found.seeds[0].n_members:,} members and {found.seeds[0].n_nonmembers:,} non-members"
    told = f"Does a network tell the value of {columns} of its training records? Over {seeds}, with {n} each."
    waiting = f" {found.missing} network{'s' * (found.missing != 1)} wait to be asked." if found.missing else ""
    return told + waiting


def _cell(row: AttributeRow) -> Cell:
    if row.low is None or row.high is None:
        small = "no interval: fewer than three seeds"
    else:
        small = f"{number(100 * row.low, 1)} to {number(100 * row.high, 1)}" + ", over records" * row.alike
    small += "; below imputation" * row.below_imputation
    title = (
        f"guesses {percent(row.members)} of members (imputation {percent(row.imputed_members)}) and "
        f"{percent(row.nonmembers)} of non-members (imputation {percent(row.imputed_nonmembers)}); {row.columns} "
        f"column{'s' * (row.columns != 1)}, {row.seeds} seed{'s' * (row.seeds != 1)}"
    )
    shade = f"{min(max(4 * row.surplus, 0.0), 1.0):.3f}" if row.found else ""
    return Cell(signed(100 * row.surplus, 1), small, title, shade)
