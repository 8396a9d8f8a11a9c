"""What an audit of one model knows before any attack runs: its answers, and those of its references."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lacewing.attacks import _measure
from lacewing.attacks._deciding import SelfCheck, nonmembers_unseen
from lacewing.attacks._types import CLASSES, Attack, Evidence, Need, Task, spans_everything
from lacewing.auditing import _cache, _checkpoints, _evidence, _initial, _outputs, _refit, _result, _tasks, _work
from lacewing.auditing._attacks import Attacks, Chosen, choose
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._records import Records, check_same_variation
from lacewing.errors import UsageError
from lacewing.results import NetworkResult
from lacewing.support import numbers
from lacewing.support.files import out_folder
from lacewing.support.text import say

if TYPE_CHECKING:
    from lacewing.auditing import _ask
    from lacewing.sparsify.effective import Sparsity

MOST_REFERENCES, MOST_QUERIES = 1_024, 256
DRAWS = 8  # of answers that are drawn at random, of which the mean is audited
_NEED_REFERENCES = frozenset({"shadow", "references", "in-references"})


@dataclass(frozen=True, eq=False)
class Settings:
    """The arguments of `lacewing.audit` that are neither model nor records, checked; see there."""

    chosen: Chosen
    refit: Callable[[Any, Any, int], Any] | None
    references: int
    seed: int
    queries: int
    task: Task
    outputs: Outputs | None
    augmented: bool
    folder: Path | None
    version: str | None
    processes: int | None
    progress: bool
    checkpoints: Sequence[Any] = ()
    initial: Any = None
    about: tuple[Attack, ...] = ()  # further attacks, about sparse networks: what they need is asked too


def checked(
    *,
    refit: Callable[[Any, Any, int], Any] | None,
    references: int,
    attacks: Attacks,
    out: Path | str | None,
    seed: int,
    queries: int,
    delta: float,
    version: str | None,
    processes: int | None,
    progress: bool,
    task: Task,
    outputs: Outputs | None,
    augmented: bool,
    checkpoints: Sequence[Any] = (),
    initial: Any = None,
    within: Sequence[str] = (),
) -> Settings:
    """The settings of an audit that writes folders ``within`` that of its results, too.

    Raises `UsageError` that names the argument which is wrong.
    """
    _check_references(refit, references)
    processes = numbers.processes(processes)
    queries = numbers.whole("queries", queries, 1, MOST_QUERIES, why="1 being the record itself")
    seed = _seed(seed, refit)
    _result.check_delta(delta)
    chosen = _checkpoints.with_trajectories(choose(attacks), attacks, checkpoints, refit, task)
    chosen = _initial.with_spans(chosen, attacks, initial, augmented=augmented)
    _outputs.check(task, outputs)
    _check_augmented(augmented, refit, queries, task)
    folder = out_folder(out, "references", *within)
    common = (seed, queries, task, outputs, augmented, folder, version, processes, progress, checkpoints, initial)
    return Settings(chosen, refit, references, *common)


class Gathered(NamedTuple):
    """What an audit of one model knows before any attack runs."""

    evidence: Evidence
    network: NetworkResult
    refused: Mapping[str, str]  # by attack: why it cannot run
    notes: Sequence[str]
    checks: Sequence[SelfCheck]
    answers: Sequence[_ask.Answers]  # of the references


def gather(
    model: Any,
    records: Records,
    read: Callable[[list[str]], Records],
    settings: Settings,
    who: str = "model",
) -> Gathered:
    """Ask the model and, where there is ``refit``, train and ask its references.

    Args:
        model: see `lacewing.audit`.
        records: of the audit.
        read: reads them again, with their random transform.
        settings: of the audit.
        who: the name of the model in messages.

    Raises:
        UsageError: the model or ``refit`` is not as `lacewing.audit` describes them.
    """
    from lacewing.auditing import _ask
    from lacewing.auditing._opened import opened
    from lacewing.auditing._watch import watch

    model = opened(model, who)
    chosen, task, refit = settings.chosen, settings.task, settings.refit
    notes: list[str] = []
    needs = needed(settings)
    signals = frozenset() if settings.augmented else frozenset(_ask.SIGNALS & needs)
    options: Any = {"queries": settings.queries, "signals": signals, "task": task, "outputs": settings.outputs}
    sparsity, sparse = _ask.sparsity(model)
    asked = _ask.ask(model, records.audited, records.population, **options, who=who, varying=settings.augmented)
    if settings.augmented:
        asked = _averaged(asked, model, records, read, options)
    answers, unasked = asked.answers, dict(asked.unmeasured)
    if settings.checkpoints:
        same: Any = {"who": "checkpoints", "task": task, "outputs": settings.outputs}
        before = _checkpoints.answers(settings.checkpoints, model, answers.logits_NC, records.audited, **same)
        answers = replace(answers, before_TNC=before)
    if settings.initial is not None:
        layer = _initial.weights(settings.initial, model, answers, records, unasked.get("first-layer"))
        answers = replace(answers, initial_HD=layer)
    if answers.inputs_ND is not None and (
        why := spans_everything(int(records.member_N.sum()), answers.inputs_ND.shape[1])
    ):
        unasked["first-layer"] = f"Span attacks did not run: {why}."
    refused = _unmeasured(chosen.attacks, unasked) | _checkpoints.refused(chosen.attacks, settings.checkpoints)
    notes += [*asked.notes, *([sparse] if sparse else [])]
    unmeasured = _ask.unmeasured(records.audited)
    if unmeasured is not None and needs & {"sensitivity", "augmentation", "noise", "queries"}:
        notes.append(unmeasured)
    evidence = _evidence.of_target(answers, records, task)
    could_query = unmeasured is None and _ask.is_module(model)
    refused |= records.refused
    found: list[_ask.Answers] = []
    if refit is not None:
        _refuse_early(chosen, evidence, refused, could_query=could_query)
        work = work_for(refit, records, settings, model)
        found, said = _refit.references(
            work,
            answers,
            unchanged=watch(model, records.audited, task),
            folder=settings.folder,
            version=settings.version,
            processes=1 if settings.processes is None and _ask.on_gpu(model) else settings.processes,
            say=to_stderr if settings.progress else nowhere,
        )
        notes += [*said, *_sizes_differ(records)]
        evidence = _evidence.with_references(evidence, found, work, notes)
        notes += _checkpoints.doubts(evidence)
    refused |= _mends(
        chosen.attacks,
        evidence,
        refused,
        with_references=refit is not None,
        could_query=could_query,
    )
    return Gathered(
        evidence,
        _network(sparsity, _tasks.quality(answers.logits_NC, records.audited.y, records.member_N, task), settings.seed),
        refused,
        notes,
        (
            *_tasks.checks(answers.logits_NC, records.audited.y, evidence.observed),
            *((nonmembers_unseen(records.seen, int((~records.member_N).sum())),) if records.seen else ()),
        ),
        found,
    )


def needed(settings: Settings) -> set[Need]:
    """What the chosen attacks need of a model of the task."""
    every = (*settings.chosen.attacks, *settings.about)
    return {need for attack in every for need in attack.needs if settings.task in attack.tasks}


def work_for(refit: Callable[[Any, Any, int], Any], records: Records, settings: Settings, model: Any) -> _work.Work:
    """What to train by ``refit`` and to ask, as references of ``model``."""
    from lacewing.auditing import _ask

    signals = frozenset() if settings.augmented else frozenset(_ask.SIGNALS & needed(settings))
    return _work.Work(
        refit=refit,
        records=records.audited,
        population=records.population,
        in_KN=_work.halves(records.together_N, settings.references, settings.seed),
        seed_K=tuple(1000 * settings.seed + k for k in range(settings.references)),
        queries=settings.queries,
        white_box=_ask.is_module(model),
        signals=tuple(sorted(signals | ({_checkpoints.NEED} if settings.checkpoints else set()))),
        size=_cache.size(model),
        task=settings.task,
        outputs=settings.outputs,
        checkpoints=len(settings.checkpoints),
    )


def _check_references(refit: object, references: int) -> None:
    numbers.whole("references", references, 0, MOST_REFERENCES, why="since each is trained separately")
    if refit is None and references:
        raise UsageError(f"references = {references} needs refit: the function (x, y, seed) -> model that trains them.")
    if refit is not None and not callable(refit):
        raise UsageError(f"refit is a {type(refit).__name__}: give a function (x, y, seed) -> model.")
    if refit is not None and references < 2:
        raise UsageError(f"references = {references} is too few for refit: give at least 2, better 8 or more.")


def _seed(seed: int, refit: object) -> int:
    if refit is None:
        return numbers.seed(seed)
    most = (2**32 - 1 - MOST_REFERENCES) // 1000
    return numbers.whole("seed", seed, 0, most, why="since refit gets 1000 * seed + k, and numpy takes 32 bits")


def _check_augmented(augmented: bool, refit: object, queries: int, task: Task) -> None:
    if queries > 1 and task not in CLASSES:
        raise UsageError(f"queries = {queries} is for class probabilities; leave it out for task='{task}'.")
    if not augmented:
        return
    if refit is not None:
        raise UsageError(
            "augmented=True averages answers to random copies, which no refit trains on: give the records themselves, "
            "and augment inside refit."
        )
    if queries > 1:
        raise UsageError(f"queries = {queries} and augmented=True both vary the records: leave one out.")


def _sizes_differ(records: Records) -> list[str]:
    """A note where references, which train on half of all records, train on fewer or more than the model did."""
    n, members = len(records.audited), int(records.member_N.sum())
    if 0.8 <= 2 * members / n <= 1.25:
        return []
    return [
        f"References trained on {n // 2} records each, the model on {members}: give as many non-members as members for "
        "references of its size."
    ]


def _averaged(
    first: _ask.Asked, model: Any, records: Records, read: Callable[[list[str]], Records], options: Mapping[str, Any]
) -> _ask.Asked:
    """The mean answers over `DRAWS` draws of the records' transform, or of the model's own randomness."""
    from lacewing.auditing import _ask

    every = [first.answers]
    for _ in range(DRAWS - 1):
        again = read([]) if records.varying else records
        if len(every) == 1 and records.varying:
            check_same_variation(records, again)
        every.append(_ask.ask(model, again.audited, again.population, **options, varying=True).answers)
    if not records.varying and np.array_equal(every[0].logits_NC, every[1].logits_NC):
        raise UsageError(
            "augmented=True, but records and answers are the same each time: leave it out, or give data sets whose "
            "transform draws at random."
        )
    of_population = [answers.logits_ZC for answers in every if answers.logits_ZC is not None]
    what = "each read through a random transform" if records.varying else "which the model draws at random"
    return _ask.Asked(
        _ask.Answers(
            np.mean([answers.logits_NC for answers in every], axis=0),
            np.mean(of_population, axis=0) if of_population else None,
        ),
        (*first.notes, f"Answers are means over {DRAWS}, {what}: copies that differ were not looked for."),
        dict.fromkeys(_ask.SIGNALS, "Of answers that are drawn at random the outputs alone are looked at."),
    )


def _unmeasured(chosen: Sequence[Attack], why: Mapping[str, str]) -> dict[str, str]:
    """By attack: why a signal that it needs could not be measured."""
    found = {}
    for attack in chosen:
        lacking = sorted(attack.needs & why.keys())
        if lacking and not attack.about:
            found[attack.name] = why[lacking[0]]
    return found


def _refuse_early(chosen: Chosen, evidence: Evidence, refused: Mapping[str, str], *, could_query: bool) -> None:
    """Refuse an attack that must run and will lack more than references, before these are trained."""
    asked = [
        replace(attack, needs=attack.needs - _NEED_REFERENCES)
        for attack in chosen.attacks
        if attack.name in chosen.required
    ]
    refused = {**refused, **_mends(asked, evidence, refused, with_references=True, could_query=could_query)}
    for attack in asked:
        if (why := refused.get(attack.name) or _result.cannot(attack, evidence)) is not None:
            raise UsageError(f"attacks: '{attack.name}' cannot run. {why}")


def _mends(
    chosen: Sequence[Attack],
    evidence: Evidence,
    refused: Mapping[str, str],
    *,
    with_references: bool,
    could_query: bool,
) -> dict[str, str]:
    """What attacks lack that an argument of ``audit`` would give them, and which."""
    found = {}
    for attack in chosen:
        lacking = _measure.missing(attack, evidence)
        wrong_task = evidence.observed.task not in attack.tasks
        if lacking is None or attack.name in refused or attack.about or wrong_task:
            continue
        mends = []
        if attack.needs & _NEED_REFERENCES and not with_references:
            mends.append("refit=, your training function, and references=8")
        if "queries" in attack.needs and evidence.observed.phi_NQ is None and could_query:
            mends.append("queries=4")
        if mends:
            found[attack.name] = f"It needs {lacking}: pass {' and '.join(mends)}."
    return found


def _network(sparsity: Sparsity | None, quality: _tasks.Quality, seed: int) -> NetworkResult:
    sparse = sparsity is not None and sparsity.sparse
    return NetworkResult(
        network="model",
        method="sparse" if sparse else "dense",
        role="target",
        seed=seed,
        density=sparsity.density if sparsity else 1.0,
        density_prunable=sparsity.density_prunable if sparsity else 1.0,
        parameters=sparsity.parameters if sparsity else 0,
        nonzero=sparsity.nonzero if sparsity else 0,
        train_accuracy=quality.members,
        test_accuracy=quality.nonmembers,
        kind="sparse" if sparse else "dense",
    )


def to_stderr(text: str) -> None:
    say(text, sys.stderr)


def nowhere(text: str) -> None:
    pass
