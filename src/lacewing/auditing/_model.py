"""The audit of a user's own model: its members, its non-members and, where given, the function that trains it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks import _measure
from lacewing.attacks._types import Attack, Evidence, Observed, Population, References
from lacewing.auditing import _inputs, _pool, _refit, _result
from lacewing.auditing._attacks import Attacks, choose
from lacewing.auditing._inputs import RawData
from lacewing.auditing._result import Audit
from lacewing.errors import UsageError
from lacewing.results import NetworkResult
from lacewing.support import numbers
from lacewing.support.text import say

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers

SHARE, LEAST_POPULATION = 0.2, 100  # of the non-members, set aside where no population is given
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
) -> Audit:
    """What ``model`` gives away about the records that it was trained on.

    Args:
        model: a torch module (asked in evaluation mode and fp32), or any function from records to logits, such as
            ``lambda x: numpy.log(classifier.predict_proba(x).clip(1e-6))``.
        members: the records it was trained on, ``(x, y)`` of arrays, tensors or pandas objects, or an indexable torch
            data set of (x, y); y whole numbers from 0. A function is given x in the form that members have.
        nonmembers: records of the same source that it never saw.
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
        version: part of what cached references are known by, beside the source of the module that defines ``refit``:
            change it when that module's imports or settings change. A closure is cached only with a version.
        processes: worker processes for references; default one a core, one where the model is on a GPU.
        progress: tell on standard error how long references will take.

    Raises:
        UsageError: an argument is not as described, or a named attack cannot run; the sentence names the argument.
    """
    if os.environ.get(_pool.WORKING):
        raise UsageError(
            "audit was called while a worker imports this module: put it under `if __name__ == '__main__':`."
        )
    from lacewing.auditing import _ask

    _ask.check_model(model, "model")
    _check_references(refit, references)
    processes = numbers.processes(processes)
    queries = numbers.whole("queries", queries, 1, MOST_QUERIES, why="1 being the record itself")
    seed = _seed(seed, refit)
    _result.check_delta(delta)
    chosen = choose(attacks)
    notes: list[str] = []
    records = _read(members, nonmembers, population, chosen.attacks, seed, notes)
    needs = {need for attack in chosen.attacks for need in attack.needs}
    signals = frozenset(_ask.SIGNALS & needs)
    answers = _ask.ask(model, records.audited, records.population, queries=queries, signals=signals)
    unmeasured = _ask.unmeasured(records.audited)
    if unmeasured is not None and needs & {"sensitivity", "augmentation", "noise", "queries"}:
        notes.append(unmeasured)
    evidence = _evidence(answers, records.audited, records.member_N, records.population)
    folder = None if out is None else Path(out)
    if refit is not None:
        work = _refit.Work(
            refit=refit,
            records=records.audited,
            population=records.population,
            in_KN=_refit.halves(len(records.audited), references, seed),
            seed_K=tuple(1000 * seed + k for k in range(references)),
            queries=queries,
            white_box=_ask.is_module(model),
            signals=tuple(sorted(signals)),
        )
        if processes is None and _ask.on_gpu(model):
            processes = 1
        say = _to_stderr if progress else _nowhere
        found, said = _refit.references(work, folder=folder, version=version, processes=processes, say=say)
        notes += [*said, *_sizes_differ(records)]
        evidence = _with_references(evidence, answers, found, work, notes)
    refused = records.refused | _mends(
        chosen.attacks,
        evidence,
        records.refused,
        with_references=refit is not None,
        could_query=unmeasured is None and _ask.is_module(model),
    )
    return _result.build(
        evidence,
        _network(_ask.nonzero(model), evidence.observed, seed),
        attacks=chosen,
        delta=delta,
        notes=notes,
        folder=folder,
        seed=seed,
        refused=refused,
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


@dataclass(frozen=True, eq=False)
class _Records:
    """The records of an audit, and the attacks that are refused for want of a population."""

    audited: RawData
    member_N: npt.NDArray[np.bool_]
    population: RawData | None
    refused: dict[str, str]


def _read(
    members: Any, nonmembers: Any, population: Any, chosen: Sequence[Attack], seed: int, notes: list[str]
) -> _Records:
    """The given records, checked and in one form: members, then non-members, and the population apart."""
    inside, outside = _inputs.read(members, "members"), _inputs.read(nonmembers, "nonmembers")
    given = None if population is None else _inputs.read(population, "population")
    outside, reserve, refused = _population(outside, given, chosen, seed, notes)
    parts = {"members": inside, "nonmembers": outside} | ({} if reserve is None else {"population": reserve})
    everything = _inputs.join(parts)
    n = len(inside) + len(outside)
    reserve = None if reserve is None else everything.at(np.arange(n, len(everything)))
    _note_shared(inside, outside, reserve, notes)
    return _Records(everything.at(np.arange(n)), np.arange(n) < len(inside), reserve, refused)


def _sizes_differ(records: _Records) -> list[str]:
    """A note where references, which train on half of all records, train on fewer or more than the model did."""
    n, members = len(records.audited), int(records.member_N.sum())
    if 0.8 <= 2 * members / n <= 1.25:
        return []
    return [
        f"References trained on {n // 2} records each, the model on {members}: give as many non-members as members for "
        "references of its size."
    ]


def _population(
    outside: RawData, given: RawData | None, chosen: Sequence[Attack], seed: int, notes: list[str]
) -> tuple[RawData, RawData | None, dict[str, str]]:
    """(audited non-members, population, attacks refused for want of one)."""
    asked = [attack.name for attack in chosen if "population" in attack.needs]
    if given is not None or not asked:
        return outside, given, {}
    n = len(outside)
    if n < 2 * LEAST_POPULATION:
        why = (
            f"It needs a population, and {n} non-members are too few to set 20 %, at least {LEAST_POPULATION}, of them "
            f"aside: pass population=(x, y), or at least {2 * LEAST_POPULATION} non-members."
        )
        return outside, None, dict.fromkeys(asked, why)
    size = max(LEAST_POPULATION, round(SHARE * n))
    aside = np.zeros(n, bool)
    aside[np.random.default_rng([seed, 302]).permutation(n)[:size]] = True
    notes.append(
        f"No population was given: {size} of the {n} non-members (20 %, at least {LEAST_POPULATION}), drawn at random, "
        "were set aside as population and are not audited."
    )
    return outside.at(~aside), outside.at(aside), {}


def _note_shared(inside: RawData, outside: RawData, reserve: RawData | None, notes: list[str]) -> None:
    same = _inputs.shared(inside, outside)
    if same == len(outside):
        raise UsageError(
            "nonmembers are all among the members, value for value: give records that the model never saw."
        )
    if same:
        notes.append(f"{same} of the {len(outside)} audited non-members are equal to a member, value for value.")
    for name, part in (("members", inside), ("audited non-members", outside)):
        if reserve is not None and (same := _inputs.shared(part, reserve)):
            notes.append(f"{same} of the {len(reserve)} population records are equal to one of the {name}.")


def _evidence(answers: Answers, records: RawData, member: npt.NDArray[np.bool_], reserve: RawData | None) -> Evidence:
    observed = Observed(
        logits_NC=answers.logits_NC,
        label_N=records.y,
        member_N=member,
        sensitivity_N=answers.sensitivity_N,
        record_N=np.arange(len(records)),
        phi_NQ=answers.phi_NQ,
        right_NQ=answers.right_NQ,
        right_NS=answers.right_NS,
        gradient_N2=answers.gradient_N2,
    )
    if reserve is None or answers.logits_ZC is None:
        return Evidence(observed)
    return Evidence(observed, population=Population(answers.logits_ZC, reserve.y))


def _with_references(
    evidence: Evidence, target: Answers, found: Sequence[Answers], work: _refit.Work, notes: list[str]
) -> Evidence:
    """All references for the target; the first of them as shadow, with the others as its references."""
    for k, answers in enumerate(found):
        if answers.logits_NC.shape != target.logits_NC.shape:
            raise UsageError(
                f"reference {k + 1} answers {answers.logits_NC.shape[1]} classes and model "
                f"{target.logits_NC.shape[1]}: refit must give every model the same classes, in the same order."
            )
    own = _evidence(found[0], work.records, work.in_KN[0], work.population)
    rest = range(1, len(found))
    inside = work.in_KN[1:]
    covered = bool((inside.any(axis=0) & ~inside.all(axis=0)).all())
    if not covered:
        notes.append(
            f"With {len(found)} references the shadow network has too few of them: attacks with references rank "
            "records but make no decisions. Give references=4 or more."
        )
    shadow = Evidence(
        own.observed,
        references=_stacked(found, rest, work) if covered else None,
        population=_reserve(own.population, found, rest),
    )
    every = range(len(found))
    return Evidence(
        evidence.observed,
        references=_stacked(found, every, work),
        population=_reserve(evidence.population, found, every),
        shadow=shadow,
    )


def _stacked(found: Sequence[Answers], which: Sequence[int], work: _refit.Work) -> References:
    phi = [found[k].phi_NQ for k in which]
    return References(
        logits_KNC=np.stack([found[k].logits_NC for k in which]),
        in_KN=work.in_KN[list(which)],
        name_K=tuple(f"reference {k + 1}" for k in which),
        phi_KNQ=np.stack([p for p in phi if p is not None]) if all(p is not None for p in phi) else None,
    )


def _reserve(own: Population | None, found: Sequence[Answers], which: Sequence[int]) -> Population | None:
    if own is None:
        return None
    logits = [answers for k in which if (answers := found[k].logits_ZC) is not None]
    return Population(own.logits_ZC, own.label_Z, np.stack(logits))


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
        if lacking is None or attack.name in refused or attack.about:
            continue
        mends = []
        if attack.needs & _NEED_REFERENCES and not with_references:
            mends.append("refit=, your training function, and references=8")
        if "queries" in attack.needs and evidence.observed.phi_NQ is None and could_query:
            mends.append("queries=4")
        if mends:
            found[attack.name] = f"It needs {lacking}: pass {' and '.join(mends)}."
    return found


def _network(counts: tuple[int, int, float], observed: Observed, seed: int) -> NetworkResult:
    parameters, kept, prunable = counts
    right = np.argmax(observed.logits_NC, axis=1) == observed.label_N
    return NetworkResult(
        network="model",
        method="dense",
        role="target",
        seed=seed,
        density=kept / parameters if parameters else 1.0,
        density_prunable=prunable,
        parameters=parameters,
        nonzero=kept,
        train_accuracy=float(right[observed.member_N].mean()),
        test_accuracy=float(right[~observed.member_N].mean()),
    )


def _to_stderr(text: str) -> None:
    say(text, sys.stderr)


def _nowhere(text: str) -> None:
    pass
