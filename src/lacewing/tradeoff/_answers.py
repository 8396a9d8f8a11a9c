"""The questions that a study declared before it ran: the primary one at 5 %, the others corrected after Holm."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from lacewing.config import CONTROLS, Comparison, Tradeoff
from lacewing.results import AttackResult, Kind, NetworkResult
from lacewing.tradeoff._families import Family, difference, families
from lacewing.tradeoff._types import Answer, AnswerVerdict, Difference, show_difference
from lacewing.tradeoff._units import Units

LEVEL = 0.05


class Waiting(NamedTuple):
    """A planned attack that has not run: a verdict on what is there would come from looking before the end."""

    attack: str
    family: str
    kind: Kind | None


def answers(
    declared: Tradeoff,
    attacks: Sequence[AttackResult],
    networks: Sequence[NetworkResult] = (),
    *,
    halves: bool = False,
    waiting: Collection[Waiting] = (),
) -> tuple[Answer, ...]:
    """What each declared comparison found, the primary one first.

    Against several control families the sparse one leaks less if it is below every one of them, each tested one-sided
    at 2.5 %. It leaks more if it is above at least one, each tested at 2.5 % divided by their number (Bonferroni): an
    ordinary recipe of equal accuracy leaks less then. Comparisons beside the primary one are corrected together (Holm,
    Scandinavian Journal of Statistics 6, 1979).

    Args:
        declared: the study's [tradeoff].
        attacks: results of every attack on the targets.
        networks: all networks; the accuracy of shadows decides which recipes have a common accuracy.
        halves: whether seeds 2j and 2j + 1 share one cut of the records.
        waiting: what of the study has not run; a comparison that it belongs to has no verdict yet.
    """
    first = [_answer(declared.primary, attacks, networks, halves, primary=True)] if declared.primary else []
    others = [_answer(each, attacks, networks, halves, primary=False) for each in declared.comparisons]
    return tuple(_settled(answer, waiting) for answer in [*first, *_holm(others)])


def _answer(
    asked: Comparison,
    attacks: Sequence[AttackResult],
    networks: Sequence[NetworkResult],
    halves: bool,
    *,
    primary: bool,
) -> Answer:
    chosen = [r for r in attacks if r.attack == asked.attack and r.network.role == "target"]
    there = families(chosen)
    units = Units.of({r.network.seed for r in chosen}, halves=halves)
    found: list[Difference] = []
    if asked.family in there:
        others = _against(asked, there)
        found = [
            difference(there[asked.family], other, asked.column, "test accuracy", networks, units) for other in others
        ]
    tested = [d for d in found if d.p_less is not None and d.p_more is not None and not d.descriptive]
    p = None
    if tested:
        less = max(d.p_less for d in tested if d.p_less is not None)
        more = min(1.0, len(tested) * min(d.p_more for d in tested if d.p_more is not None))
        p = min(1.0, 2 * min(less, more))
    return Answer(primary, asked.family, asked.against, asked.metric, tuple(found), p, p, "no verdict", "")


def _against(asked: Comparison, there: dict[str, Family]) -> list[Family]:
    if asked.against != CONTROLS:
        return [there[asked.against]] if asked.against in there else []
    return [f for f in there.values() if f.kind != "sparse" and not f.stopped and len(f.recipes) > 1]


def _holm(answers: Sequence[Answer]) -> list[Answer]:
    """Holm's corrected p of each; what has none is not counted."""
    order = sorted((i for i, a in enumerate(answers) if a.p is not None), key=lambda i: answers[i].p or 0.0)
    corrected, running = dict[int, float](), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(answers) - rank) * (answers[i].p or 0.0)))
        corrected[i] = running
    return [replace(a, p_corrected=corrected.get(i)) for i, a in enumerate(answers)]


def _settled(answer: Answer, waiting: Collection[Waiting]) -> Answer:
    """The answer with its verdict and its sentence."""
    attack = answer.metric.partition(".")[0]
    of_it = [
        w
        for w in waiting
        if w.attack == attack
        and (w.family in (answer.family, answer.against) or (answer.against == CONTROLS and w.kind == "control"))
    ]
    if of_it:
        left = f"{len(of_it)} attack{'s' * (len(of_it) > 1)} of it {'have' if len(of_it) > 1 else 'has'} not run yet"
        return replace(answer, p=None, p_corrected=None, sentence=f"{_question(answer)} No verdict yet: {left}.")
    verdict = _verdict(answer)
    return replace(answer, verdict=verdict, sentence=_sentence(answer, verdict))


def _verdict(answer: Answer) -> AnswerVerdict:
    tested = [d for d in answer.differences if d.p_less is not None]
    if not tested or answer.p_corrected is None:
        without = [d.reason or "" for d in answer.differences]
        apart = bool(without) and all("accuracy" in reason for reason in without)
        return "no common accuracy" if apart else "no verdict"
    if answer.p_corrected > LEVEL:
        return "no measurable difference"
    less = max(d.p_less for d in tested if d.p_less is not None)
    more = min(1.0, len(tested) * min(d.p_more for d in tested if d.p_more is not None))
    return "leaks less" if less < more else "leaks more"


def _sentence(answer: Answer, verdict: AnswerVerdict) -> str:
    tested = [d for d in answer.differences if d.estimate is not None]
    said = {
        "leaks less": "It leaks less.",
        "leaks more": f"It leaks more{' than at least one' if len(tested) > 1 else ''}.",
        "no measurable difference": "No difference is established.",
        "no common accuracy": "No answer: the families have no common accuracy.",
        "no verdict": "No verdict.",
    }[verdict]
    parts = [_told(d) for d in answer.differences]
    if not parts:
        parts = ["no results of these families yet"]
    p = ""
    if answer.p_corrected is not None:
        p = f"; p = {answer.p_corrected:.2g}{'' if answer.primary else ' after Holm'}"
    return f"{_question(answer)} {said} ({'; '.join(parts)}{p})"


def _question(answer: Answer) -> str:
    asked = "Primary question" if answer.primary else "Declared comparison"
    other = "every control" if answer.against == CONTROLS else f"'{answer.against}'"
    return f"{asked}: does '{answer.family}' leak less than {other} at equal test accuracy, by {answer.metric}?"


def _told(d: Difference) -> str:
    if d.estimate is None:
        return f"{d.against}: {d.reason}"
    units = f"{d.seeds} seeds" if d.detectable is None else f"{d.seeds} seeds, which tell {d.detectable.difference:.3f}"
    return f"{d.family} - {d.against}: {show_difference(d.estimate)}, {units}"
