"""The questions that a study declared before it ran: the primary one at 5 %, the others corrected after Holm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lacewing.config import CONTROLS, Comparison, Tradeoff
from lacewing.metrics import Units
from lacewing.results import AttackResult, Kind, NetworkResult
from lacewing.tradeoff._families import Family, difference, families, untested
from lacewing.tradeoff._inits import attacks_over_inits, networks_over_inits
from lacewing.tradeoff._types import CHANGE, Answer, AnswerVerdict, Difference

LEVEL = 0.05
_LISTED = 3  # differences that a sentence quotes one by one


class Waiting(NamedTuple):
    """A planned attack that has not run: a verdict on what is there would come from looking before the end."""

    attack: str
    family: str
    kind: Kind | None


@dataclass(frozen=True)
class History:
    """What a run folder knows of the time before its answers."""

    late: bool = False  # the questions were declared when results were there already
    seeds_then: int | None = None  # of a study that was extended since it was begun; None: it was not


def answers(
    declared: Tradeoff,
    attacks: Sequence[AttackResult],
    networks: Sequence[NetworkResult] = (),
    *,
    halves: bool = False,
    waiting: Collection[Waiting] = (),
    history: History = History(),
) -> tuple[Answer, ...]:
    """What each declared comparison found, the primary one first.

    Against several control families the sparse one leaks less if it is below every one of them that has a common
    accuracy with it, each tested one-sided at 2.5 %. It leaks more if it is above at least one, each tested at 2.5 %
    divided by their number (Bonferroni): an ordinary recipe of equal accuracy leaks less then. Comparisons beside the
    primary one are corrected together (Holm, Scandinavian Journal of Statistics 6, 1979).

    Args:
        declared: the study's [tradeoff].
        attacks: results of every attack on the targets.
        networks: all networks; the accuracy of shadows decides which recipes have a common accuracy.
        halves: whether seeds 2j and 2j + 1 share one cut of the records.
        waiting: what of the study has not run; a comparison that it belongs to has no verdict yet.
        history: whether the questions came before the results.
    """
    attacks, networks = attacks_over_inits(attacks), networks_over_inits(networks)
    first = [_answer(declared.primary, attacks, networks, halves, waiting, primary=True)] if declared.primary else []
    others = [_answer(each, attacks, networks, halves, waiting, primary=False) for each in declared.comparisons]
    return tuple(_settled(answer, left, history, halves) for answer, left in [*first, *_holm(others)])


def _answer(
    asked: Comparison,
    attacks: Sequence[AttackResult],
    networks: Sequence[NetworkResult],
    halves: bool,
    waiting: Collection[Waiting],
    *,
    primary: bool,
) -> tuple[Answer, int]:
    """The differences and p of a comparison, and how many attacks of it have not run; while there are some, no p."""
    chosen = [r for r in attacks if r.attack == asked.attack and r.network.role == "target"]
    there = families(chosen)
    left = sum(_belongs(each, asked) for each in waiting)
    units = Units.of({r.network.seed for r in chosen}, halves=halves)
    found = [
        difference(there[asked.family], other, asked.column, "test accuracy", networks, units, finished=not left)
        for other in (_against(asked, there) if asked.family in there else ())
    ]
    p = None
    if _tested(found):
        p = min(1.0, 2 * min(_p_less(found), _p_more(found)))
    return Answer(primary, asked.family, asked.against, asked.metric, tuple(found), p, p, "no verdict", ""), left


def _belongs(waiting: Waiting, asked: Comparison) -> bool:
    """Whether an attack that has not run belongs to a comparison; the dense network may be one of the controls."""
    if waiting.attack != asked.attack:
        return False
    of_controls = asked.against == CONTROLS and waiting.kind in ("control", "dense")
    return of_controls or waiting.family in (asked.family, asked.against)


def _against(asked: Comparison, there: Mapping[str, Family]) -> list[Family]:
    if asked.against != CONTROLS:
        return [there[asked.against]] if asked.against in there else []
    controls = (f for f in there.values() if f.kind != "sparse" and not f.stopped and len(f.recipes) > 1)
    return [family for family in controls if family.name != asked.family]


def _tested(differences: Sequence[Difference]) -> list[Difference]:
    return [d for d in differences if d.p_less is not None and d.p_more is not None and not d.descriptive]


def _p_less(differences: Sequence[Difference]) -> float:
    """One-sided, that it leaks less than every one: the largest."""
    return max(d.p_less for d in _tested(differences) if d.p_less is not None)


def _p_more(differences: Sequence[Difference]) -> float:
    """One-sided, that it leaks more than at least one: the smallest, after Bonferroni."""
    tested = _tested(differences)
    return min(1.0, len(tested) * min(d.p_more for d in tested if d.p_more is not None))


def _holm(answers: Sequence[tuple[Answer, int]]) -> list[tuple[Answer, int]]:
    """Holm's corrected p of each; one that cannot be tested yet counts as the largest."""
    order = sorted((i for i, (a, _) in enumerate(answers) if a.p is not None), key=lambda i: answers[i][0].p or 0.0)
    corrected, running = dict[int, float](), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(answers) - rank) * (answers[i][0].p or 0.0)))
        corrected[i] = running
    return [(replace(a, p_corrected=corrected.get(i)), left) for i, (a, left) in enumerate(answers)]


def _settled(answer: Answer, left: int, history: History, halves: bool) -> Answer:
    """The answer with its verdict and its sentence."""
    if left:
        have = "attacks of it have" if left > 1 else "attack of it has"
        return replace(answer, sentence=f"{_question(answer)} No verdict yet: {left} {have} not run.")
    if history.late:
        answer = replace(answer, p=None, p_corrected=None, differences=tuple(map(untested, answer.differences)))
        why = "it was declared when results were there already, so that its numbers are exploratory"
        return replace(answer, sentence=f"{_question(answer)} No verdict: {why}. ({_numbers(answer)})")
    verdict = _verdict(answer)
    p = ""
    if answer.p_corrected is not None:
        p = f"; p = {answer.p_corrected:.2g}{'' if answer.primary else ' after Holm'}"
    sentence = f"{_question(answer)} {_said(answer, verdict)} ({_numbers(answer)}{p})"
    if history.seeds_then is not None:
        begun = Units.of(range(history.seeds_then), halves=halves).text
        sentence += (
            f" The study was begun with {begun}, other recipes or fewer inits and was extended "
            "since: a 5 % test does not allow for looking in between."
        )
    return replace(answer, verdict=verdict, sentence=sentence)


def _verdict(answer: Answer) -> AnswerVerdict:
    if not _tested(answer.differences) or answer.p_corrected is None:
        apart = answer.differences and all(d.value is None and not d.kept for d in answer.differences)
        return "no common accuracy" if apart else "no verdict"
    if answer.p_corrected > LEVEL:
        unfit = all(d.direction == "neither" for d in _tested(answer.differences))
        return "no verdict" if unfit else "no measurable difference"
    return "leaks less" if _p_less(answer.differences) < _p_more(answer.differences) else "leaks more"


def _said(answer: Answer, verdict: AnswerVerdict) -> str:
    tested, every = len(_tested(answer.differences)), len(answer.differences)
    which = "" if tested == every else f" than the {tested} of {every} control families that have a common accuracy"
    few = "" if tested == every else f" from the {tested} of {every} control families that have a common accuracy"
    return {
        "leaks less": f"It leaks less{which}.",
        "leaks more": f"It leaks more{' than at least one control family' if tested > 1 else ''}.",
        "no measurable difference": f"No difference{few} is established.",
        "no common accuracy": "No answer.",
        "no verdict": "No verdict.",
    }[verdict]


def question(asked: Answer | Comparison, *, primary: bool) -> str:
    """A declared comparison as a question."""
    kind = "Primary question" if primary else "Declared comparison"
    other = "every control" if asked.against == CONTROLS else f"'{asked.against}'"
    return f"{kind}: does '{asked.family}' leak less than {other} at equal test accuracy, by {asked.metric}?"


def _question(answer: Answer) -> str:
    return question(answer, primary=answer.primary)


def _numbers(answer: Answer) -> str:
    """The differences; of many the one that decides, with how many there are, since the report's table has all."""
    tested = _tested(answer.differences)
    if len(answer.differences) <= _LISTED or not tested:
        return "; ".join(map(_told, answer.differences)) or "no results of these families"
    less = _p_less(answer.differences) < _p_more(answer.differences)
    deciding = max(tested, key=lambda d: d.p_less or 0.0) if less else min(tested, key=lambda d: d.p_more or 0.0)
    others = [d.against for d in answer.differences if d not in tested]
    which = f"the least sure of {len(tested)}" if less else f"the surest of {len(tested)}"
    return f"{which}: {_told(deciding)}" + (f"; not compared: {', '.join(others)}" if others else "")


def _told(d: Difference) -> str:
    if d.estimate is None:
        value = "" if d.value is None else f"{d.value:+.3f}, "
        return f"{d.family} - {d.against}: {value}{d.reason}"
    units = f"{d.seeds} {d.unit}s"
    if d.detectable is not None:
        half = d.detectable.seeds_for_half
        units += f", with which a difference below {d.detectable.difference:.3f} would often be missed"
        units += "" if half is None else f" (half of it takes {half:,})"
    also = "" if d.reason is None else f"; {d.reason}"
    return f"{d.family} - {d.against}: {d.estimate.text(CHANGE)}, {units}{also}"
