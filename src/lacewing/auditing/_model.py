"""The audit of a user's own model: its members, its non-members and, where given, the function that trains it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.attacks import _measure
from lacewing.attacks._deciding import nonmembers_unseen
from lacewing.attacks._types import CLASSES, Attack, Evidence, Task, spans_everything
from lacewing.auditing import _cache, _evidence, _outputs, _pool, _records, _refit, _result, _tasks, _work
from lacewing.auditing._attacks import Attacks, Chosen, choose
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._records import Records, check_same_variation
from lacewing.auditing._result import Audit
from lacewing.errors import UsageError
from lacewing.results import NetworkResult
from lacewing.support import numbers
from lacewing.support.text import say

if TYPE_CHECKING:
    from lacewing.auditing import _ask
    from lacewing.sparsify.effective import Sparsity

DRAWS = 8  # of answers that are drawn at random, of which the mean is audited
MOST_REFERENCES, MOST_QUERIES = 1_024, 256
_NEED_REFERENCES = frozenset({"shadow", "references", "in-references"})


def audit(
    model: Any,
    members: Any,
    nonmembers: Any,
    *,
    refit: Callable[[Any, Any, int], Any] | None = None,
    references: int = 0,
    population: Any = None,
    attacks: Attacks = "all",
    out: Path | str | None = None,
    seed: int = 0,
    queries: int = 1,
    delta: float = _result.DELTA,
    version: str | None = None,
    processes: int | None = None,
    progress: bool = True,
    task: Task = "classification",
    outputs: Outputs | None = None,
    groups: Any = None,
    augmented: bool = False,
) -> Audit:
    """What ``model`` gives away about the records that it was trained on.

    Args:
        model: a torch module (asked in evaluation mode and fp32), or any function from records to logits or
            probabilities, such as ``classifier.predict_proba``.
        members: the records it was trained on, ``(x, y)`` of arrays, tensors or pandas objects, or an indexable torch
            data set of (x, y); y as ``task`` says. A function is given x in the form that members have.
        nonmembers: records of the same source that it never saw, read in the same way.
        refit: trains a new model the way ``model`` was: ``refit(x, y, seed) -> model``, with its own optimiser,
            augmentation and pruning. numpy, torch and random are seeded with ``seed`` before.
        references: K, how many models ``refit`` trains, each on a random half of all audited records, every odd one on
            the complement of the one before it; at least 2, and at least 4 for thresholds of attacks with references.
            The first one also serves as the shadow network, from which thresholds and learned attacks come.
        population: further records that neither ``model`` nor a reference trains on and nobody audits. None: where an
            attack needs some, 20 % of the non-members, at least 100, are set aside.
        attacks: ``"all"``: those that cannot run stand in ``Audit.refused``; or what must run, one or several: names,
            ``"package.module:name"``, an ``Attack``, or a function of the ``Evidence`` that gives one score a record,
            higher for members, and may take ``seed``. The decisions of such scores come from the shadow network.
        out: folder for the report and for the answers of finished references, which a later call with equal records,
            seed and refit reuses. None: nothing is kept.
        seed: of the draws, of ``refit`` (reference k gets ``1000 * seed + k``) and of attacks that learn.
        queries: Q, fixed variants of each record (mirrored, shifted or jittered copies, the record itself first) that
            LiRA and the discriminator over several queries see. Worth more than 1 for a torch module that was trained
            with such augmentations; for others the copies dilute what the record itself tells.
        delta: of the epsilon bounds.
        version: part of what cached references are known by, beside ``refit`` itself: its code, constants, defaults
            and closure, and what it refers to. Change it when files or settings change that ``refit`` reads as it runs.
            What cannot be identified (a note names it) is cached only with a version.
        processes: worker processes for references; default one a core, one where the model is on a GPU.
        progress: tell on standard error how long references will take.
        task: ``"classification"``: y (N,) whole numbers from 0, answers (N, C). ``"binary"``: y 0 or 1, answers (N,),
            (N, 1) of class 1, or (N, 2). ``"multi-label"``: y (N, L) of 0 and 1, answers (N, L). ``"regression"``: y
            and answers (N,) or (N, D). Attacks that need class probabilities are refused for the last two.
        outputs: what the answers are: ``"logits"``, ``"probabilities"``, ``"log-probabilities"`` or ``"sigmoid"``
            (each column between 0 and 1 by itself). None: rows that sum to 1 count as probabilities; answers that
            may be something else than logits are refused.
        groups: (ids of the members, ids of the nonmembers), whole numbers or words, one a record: patients, users,
            near-duplicates. Halves and population hold whole groups, a group counts as one unit, whose score is the
            mean of its records' scores, and n counts groups. None: exact copies that stand on one side count once.
        augmented: members and nonmembers are data sets with one random transform, or the model answers at random, and
            that is meant: each record is asked 8 times, and the mean of the answers is audited. Else what differs
            from one time to the next is refused.

    Raises:
        UsageError: an argument is not as described, or a named attack cannot run; the sentence names the argument.
    """
    if os.environ.get(_pool.WORKING):
        raise UsageError(
            "audit was called while a worker imports this module: put it under `if __name__ == '__main__':`."
        )
    from lacewing.auditing import _ask, _call
    from lacewing.auditing._watch import watch

    _call.check_model(model, "model")
    _check_references(refit, references)
    processes = numbers.processes(processes)
    queries = numbers.whole("queries", queries, 1, MOST_QUERIES, why="1 being the record itself")
    seed = _seed(seed, refit)
    _result.check_delta(delta)
    chosen = choose(attacks)
    _outputs.check(task, outputs)
    _check_augmented(augmented, refit, queries, task)
    notes: list[str] = []
    common = {"groups": groups, "task": task, "chosen": chosen.attacks, "seed": seed, "augmented": augmented}

    def read(said: list[str]) -> Records:
        return _records.read(members, nonmembers, population, **common, notes=said)

    records = read(notes)
    needs = {need for attack in chosen.attacks for need in attack.needs if task in attack.tasks}
    signals = frozenset() if augmented else frozenset(_ask.SIGNALS & needs)
    options: Any = {"queries": queries, "signals": signals, "task": task, "outputs": outputs}
    sparsity, sparse = _ask.sparsity(model)
    asked = _ask.ask(model, records.audited, records.population, **options, varying=augmented)
    if augmented:
        asked = _averaged(asked, model, records, read, options)
    answers, unasked = asked.answers, dict(asked.unmeasured)
    if answers.inputs_ND is not None and (
        why := spans_everything(int(records.member_N.sum()), answers.inputs_ND.shape[1])
    ):
        unasked["first-layer"] = f"Span attacks did not run: {why}."
    refused = _unmeasured(chosen.attacks, unasked)
    notes += [*asked.notes, *([sparse] if sparse else [])]
    unmeasured = _ask.unmeasured(records.audited)
    if unmeasured is not None and needs & {"sensitivity", "augmentation", "noise", "queries"}:
        notes.append(unmeasured)
    evidence = _evidence.of_target(answers, records, task)
    could_query = unmeasured is None and _ask.is_module(model)
    refused |= records.refused
    folder = None if out is None else Path(out)
    if refit is not None:
        _refuse_early(chosen, evidence, refused, could_query=could_query)
        work = _work.Work(
            refit=refit,
            records=records.audited,
            population=records.population,
            in_KN=_work.halves(records.together_N, references, seed),
            seed_K=tuple(1000 * seed + k for k in range(references)),
            queries=queries,
            white_box=_ask.is_module(model),
            signals=tuple(sorted(signals)),
            size=_cache.size(model),
            task=task,
            outputs=outputs,
        )
        if processes is None and _ask.on_gpu(model):
            processes = 1
        say = _to_stderr if progress else _nowhere
        found, said = _refit.references(
            work,
            answers,
            unchanged=watch(model, records.audited, task),
            folder=folder,
            version=version,
            processes=processes,
            say=say,
        )
        notes += [*said, *_sizes_differ(records)]
        evidence = _evidence.with_references(evidence, found, work, notes)
    refused |= _mends(
        chosen.attacks,
        evidence,
        refused,
        with_references=refit is not None,
        could_query=could_query,
    )
    return _result.build(
        evidence,
        _network(sparsity, _tasks.quality(answers.logits_NC, records.audited.y, records.member_N, task), seed),
        attacks=chosen,
        delta=delta,
        notes=notes,
        folder=folder,
        seed=seed,
        refused=refused,
        checks=(
            *_tasks.checks(answers.logits_NC, records.audited.y, evidence.observed),
            *((nonmembers_unseen(records.seen, int((~records.member_N).sum())),) if records.seen else ()),
        ),
    )


# ---------------------------------------------------------------------------------------------------------- the parts


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


def _sizes_differ(records: Records) -> list[str]:
    """A note where references, which train on half of all records, train on fewer or more than the model did."""
    n, members = len(records.audited), int(records.member_N.sum())
    if 0.8 <= 2 * members / n <= 1.25:
        return []
    return [
        f"References trained on {n // 2} records each, the model on {members}: give as many non-members as members for "
        "references of its size."
    ]


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


def _to_stderr(text: str) -> None:
    say(text, sys.stderr)


def _nowhere(text: str) -> None:
    pass
