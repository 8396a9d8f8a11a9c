"""Families of networks at equal accuracy: the declared answers, and every difference, exploratory, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from lacewing.reporting._data import ReportData, unfinished
from lacewing.reporting._slopes import NOT_FINISHED
from lacewing.results import LABELS
from lacewing.tradeoff import (
    CHANGE,
    IMP,
    Answer,
    Difference,
    Regressor,
    TradeOff,
    family_of,
    show_change,
    untested,
)

UNDECLARED = (
    "This study declared no question before it ran, so nothing here carries a verdict. A question is declared as "
    f'[tradeoff] primary = {{family = "{IMP}", against = "controls", metric = "discriminator.balanced_accuracy"}}.'
)
_EVERY = ""
_DESCRIBED = " (description)"
ALONE = "Families of one recipe"  # how the trade-off's note on these begins


class DifferenceRow(NamedTuple):
    """One metric's difference between two families; "–" where there is none, with the reason."""

    metric: str
    difference: str  # with the hull of both curves' intervals
    reason: str
    p: str
    seeds: str
    detectable: str
    kept: str  # how many recipes of each family
    recipes: str  # which ones


class DifferenceGroup(NamedTuple):
    """Two families at equal test accuracy, or, as description, at equal train accuracy."""

    title: str
    rows: list[DifferenceRow]
    family: str
    against: str
    compared: bool  # in some metric


class Uncompared(NamedTuple):
    """A family, and those with which it cannot be compared: by the reason in short, each with its whole reason."""

    family: str
    others: dict[str, list[tuple[str, str]]]


class Shown(NamedTuple):
    """What a section shows of families: differences in tables, and what cannot be compared, a line a family."""

    compared: list[DifferenceGroup]
    uncompared: list[Uncompared]


class AnswerRow(NamedTuple):
    """One family that a declared comparison is compared with."""

    question: str
    against: str
    difference: str
    reason: str  # in short where there is no difference
    whole_reason: str
    p: str
    p_corrected: str  # of the whole comparison
    verdict: str
    seeds: str
    detectable: str
    kept: str
    recipes: str


def answered(data: ReportData) -> list[str]:
    """The sentence of each declared answer, the primary one first, or that the study declared none."""
    return [answer.sentence for answer in data.answers] or [UNDECLARED]


def answer_rows(data: ReportData) -> list[AnswerRow]:
    """The numbers behind the declared answers: a row for each family that one is compared with.

    Families with which there is no comparison share a row where the reason is the same.
    """
    rows = []
    for answer in data.answers:
        together: dict[tuple[bool, str], list[Difference]] = {}
        for d in answer.differences:
            known = d.value is not None
            together.setdefault((known, d.against if known else _short(d.reason)), []).append(d)
        rows += [_answer_row(data, answer, same, first=i == 0) for i, same in enumerate(together.values())]
    return rows


def _short(reason: str | None) -> str:
    """A reason without its numbers."""
    return (reason or "").partition(" (")[0]


def _untested(d: Difference) -> Difference:
    """The number so far of a study that is not finished: no interval and no p, which would be read as a test."""
    return d if d.estimate is None else untested(d, NOT_FINISHED)


def _answer_row(data: ReportData, answer: Answer, same: Sequence[Difference], *, first: bool) -> AnswerRow:
    d = same[0]
    # An answer without a p has differences with one only where some attack of it has not run.
    row = _row(data, _untested(d) if answer.p is None else d)
    corrected = "" if answer.p_corrected is None else f"{answer.p_corrected:.2g}{'' if answer.primary else ' (Holm)'}"
    kind = "primary" if answer.primary else "declared"
    return AnswerRow(
        question=f"{answer.family}, {answer.metric} ({kind})" if first else "",
        against=", ".join(each.against for each in same),
        difference=row.difference,
        reason=row.reason if d.value is not None else _short(row.reason),
        whole_reason="; ".join(f"{each.against}: {each.reason}" for each in same if each.reason),
        p=row.p,
        p_corrected=corrected if first else "",
        verdict=answer.verdict if first else "",
        seeds=row.seeds,
        detectable=row.detectable,
        kept=row.kept if len(same) == 1 else "",
        recipes=row.recipes if len(same) == 1 else "",
    )


def shown(data: ReportData, *, stopped: bool) -> dict[str, Shown]:
    """Those of `groups` by what is held equal, where there are any."""
    every = groups(data, stopped=stopped)
    found = {}
    for at, described in (("test", False), ("train", True)):
        of = [group for group in every if group.title.endswith(_DESCRIBED) is described]
        lines: dict[str, Uncompared] = {}
        for group in (g for g in of if not g.compared):
            reasons = {row.reason: None for row in group.rows}
            line = lines.setdefault(group.family, Uncompared(group.family, {}))
            short = "; ".join(dict.fromkeys(map(_short, reasons)))
            line.others.setdefault(short, []).append((group.against, "; ".join(reasons)))
        if of:
            found[at] = Shown([group for group in of if group.compared], list(lines.values()))
    return found


def groups(data: ReportData, *, stopped: bool) -> list[DifferenceGroup]:
    """The differences of the leading attack, by pair of families and by what is held equal.

    Either those of complete recipes, or, with ``stopped``, those from networks observed in mid-schedule.
    """
    stops = {family_of(n) for n in data.networks if n.stopped}
    found: dict[tuple[str, str, Regressor], list[Difference]] = {}
    for d in data.tradeoff.differences if data.tradeoff is not None else ():
        if (d.family in stops or d.against in stops) is stopped:
            found.setdefault((d.family, d.against, d.at), []).append(d)
    for every in found.values():
        every[:] = _together([_untested(d) for d in every] if unfinished(data) else every)
    order = sorted(found, key=lambda key: (all(d.descriptive for d in found[key]), key[2] != "test accuracy"))
    described = {"test accuracy": "", "train accuracy": _DESCRIBED}
    return [
        DifferenceGroup(
            f"{family} - {against}, at equal {at}{described[at]}",
            [_row(data, d) for d in found[family, against, at]],
            family,
            against,
            any(d.value is not None for d in found[family, against, at]),
        )
        for family, against, at in order
    ]


def alone(found: TradeOff | None) -> str:
    """The families that are left out since they have one recipe."""
    return next((note for note in found.notes if note.startswith(ALONE)), "") if found is not None else ""


def _together(of: Sequence[Difference]) -> list[Difference]:
    """One row where no metric has a value, for one reason."""
    same = len({d.reason for d in of}) == 1 and all(d.value is None for d in of)
    return [replace(of[0], metric=_EVERY)] if same else list(of)


def _row(data: ReportData, d: Difference) -> DifferenceRow:
    methods = {n.network: n.method for n in data.networks}

    def listed(recipes: Sequence[str]) -> str:
        return ", ".join(data.label(name, methods.get(name, "")) for name in recipes) or "none"

    return DifferenceRow(
        metric={**LABELS, _EVERY: "every metric"}.get(d.metric, d.metric),
        difference=difference_text(d),
        reason=d.reason or "",
        p="–" if d.p is None else f"{d.p:.2g}",
        seeds=f"{d.seeds} cut{'s' * (d.seeds != 1)}" if d.unit == "cut" else str(d.seeds),
        detectable="–" if d.detectable is None else f"{d.detectable.difference:.3f}",
        kept=f"{len(d.recipes)} + {len(d.against_recipes)}",
        recipes=f"{d.family}: {listed(d.recipes)}; {d.against}: {listed(d.against_recipes)}",
    )


def difference_text(d: Difference) -> str:
    """A difference with its interval, or without where none is given."""
    if d.estimate is not None:
        return d.estimate.text(CHANGE)
    return "–" if d.value is None else show_change(d.value)


def in_short(data: ReportData) -> list[str]:
    """A line for each pair of families, in the attack's balanced accuracy at equal test accuracy; reasons in brief."""
    said = []
    for found in data.tradeoff.differences if data.tradeoff is not None else ():
        d = _untested(found) if unfinished(data) else found
        if (d.metric, d.at) == ("balanced_accuracy", "test accuracy"):
            parts = [] if d.value is None else [difference_text(d)]
            parts += [] if d.p is None else [f"p = {d.p:.2g}"]
            parts += [d.reason.partition(" (")[0]] if d.reason else []
            said.append(f"{d.family} - {d.against}: {', '.join(parts)}")
    return said
