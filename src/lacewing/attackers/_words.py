"""What the table says about sparsity as a defence against an attacker whose strategy is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lacewing.attackers._types import BASELINES, Attackers, Cell, KindOfAttack, Row

NAMES: dict[KindOfAttack, str] = {
    "membership": "membership",
    "adaptive": "adaptive attackers",
    "property": "property",
    "reconstruction": "reconstruction",
    "attribute": "attribute",
}
_ALIKE = "cannot be told apart from dense in"
_APART = "not compared"
LIMITS = (
    "Every difference is to the dense network of the same seed and disregards accuracy; none was declared before the "
    "study ran, and none is corrected for the number of recipes. Kinds and attacks that were not run may find more."
)


def answer(found: Attackers) -> list[str]:
    """Sentences: the answer, then what stands behind it."""
    if found.waiting:
        return [
            f"Not finished: attacks wait for networks ({_listed(NAMES[kind] for kind in found.waiting)}), so that this "
            "study does not yet say whether sparsity is a defence."
        ]
    sparse = [row for row in found.rows if row.recipe.kind == "sparse"]
    if not sparse or found.dense is None:
        return ["This study has no sparse network beside a dense one: it cannot say whether sparsity is a defence."]
    if not found.enough:
        return ["No verdict: fewer than three seeds."]
    ran = found.ran
    counted = f"{len(ran)} kinds of attack that ran ({_listed(NAMES[kind] for kind in ran)})"
    full = [row for row in sparse if ran and all(_lower(row.cells[kind]) for kind in ran)]
    if full:
        said = [
            f"Not excluded: {_listed(row.recipe.network for row in full)} lower{'s' * (len(full) == 1)} the success of "
            f"all {counted}, beside the dense network."
        ]
    else:
        said = [
            f"No: none of the {len(sparse)} sparse recipes is shown to lower the success of all {counted}, beside the "
            "dense network."
        ]
    said += [_of(row, ran) for row in found.rows if not row.recipe.baseline]
    said += _standing(sparse, ran)
    lacking = [kind for kind in BASELINES if kind not in ran]
    if lacking:
        said.append(f"Not run: {_listed(NAMES[kind] for kind in lacking)}. Of these the study says nothing.")
    return [*said, LIMITS]


def _lower(cell: Cell) -> bool:
    return cell.difference is not None and cell.difference.high < 0


def _of(row: Row, ran: Sequence[KindOfAttack]) -> str:
    """What a recipe lowers, raises, and what cannot be told, beside the dense network."""
    groups: dict[str, list[str]] = {"lowers": [], "raises": [], _ALIKE: [], _APART: [], "not run": []}
    for kind in ran:
        cell = row.cells[kind]
        if cell.difference is None:
            place = "not run" if cell.value is None else _ALIKE if cell.compared else _APART
        elif _lower(cell):
            place = "lowers"
        else:
            place = "raises" if cell.difference.low > 0 else _ALIKE
        groups[place].append(NAMES[kind])
    told = [f"{verb} {_listed(groups[verb])}" for verb in ("lowers", "raises", _ALIKE) if groups[verb]]
    if groups[_APART]:
        told.append(f"{_listed(groups[_APART])}: no attack that the dense network has too, so not compared")
    if groups["not run"]:
        told.append(f"{_listed(groups['not run'])}: not run")
    control = " (a control)" if row.recipe.kind == "control" else ""
    return f"{row.recipe.network}{control}, {100 * row.recipe.density:.3g} % of the weights: {'; '.join(told)}."


def _standing(sparse: Sequence[Row], ran: Sequence[KindOfAttack]) -> list[str]:
    """Which kinds still succeed on sparse networks, whatever they do on the dense one."""
    above = [kind for kind in ran if all(row.cells[kind].standing == "above" for row in sparse)]
    never = [kind for kind in ran if not any(row.cells[kind].standing == "above" for row in sparse)]
    said = []
    if above:
        said.append(
            f"Above {'their' if len(above) > 1 else 'its'} baseline on every sparse recipe: "
            f"{_listed(NAMES[kind] for kind in above)}."
        )
    if never:
        said.append(
            f"Not shown to be above the baseline on any sparse recipe: {_listed(NAMES[kind] for kind in never)}."
        )
    return said


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
