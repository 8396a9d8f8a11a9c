"""The audit of scores or outputs that were computed anywhere: arrays in, no torch needed, answers in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing import attacks as registry
from lacewing import metrics
from lacewing.attacks import _logits, _measure
from lacewing.attacks._deciding import MOST_SEEN
from lacewing.attacks._references import by_side, refuse_twins
from lacewing.attacks._types import Attack, Evidence, Observed, Population, References, Scored, Task
from lacewing.auditing import _outputs, _result, _tasks
from lacewing.auditing._arrays import as_seen, copies_of, group_of, real
from lacewing.auditing._attacks import Attacks, choose
from lacewing.auditing._inputs import check_enough_groups
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._read import read
from lacewing.auditing._result import Audit
from lacewing.data._groups import row_hashes
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.results import AttackResult, NetworkResult
from lacewing.support import numbers
from lacewing.support.formats import Arrays

_SCORES = Attack(
    name="scores",
    family="scores",
    threat_model="That of whoever computed the scores: this audit measures them as they were given.",
    function=lambda evidence, *, seed: Scored(np.zeros(len(evidence.observed.member_N)), None, "as given"),
    needs=frozenset(),
)


def audit_scores(
    source: Path | str | Mapping[str, npt.ArrayLike],
    *,
    attacks: Attacks = "all",
    delta: float = _result.DELTA,
    out: Path | str | None = None,
    seed: int = 0,
    task: Task = "classification",
    outputs: Outputs | None = None,
) -> Audit:
    """Measure given scores, or run every attack that given outputs allow. Needs no torch.

    Args:
        source: an ``.npz`` (read without pickle), a ``.csv``, or a mapping name -> array. N records, C classes, K
            reference networks, Q fixed queries, Z population records:

            - ``member`` (N,): 1 for records trained on, 0 for others; always needed;
            - ``score`` (N,): higher for members; measured as given, under the name "scores";
            - ``logits`` (N, C) and ``label`` (N,): the model's outputs (see ``outputs``) and the given classes; of
              other tasks as ``lacewing.audit`` takes answers and y;
            - ``class`` (N,), ``id`` (N,): optional, words or whole numbers; each id once;
            - ``group`` (N,): optional, words or whole numbers: patients, users. A group is on one side and counts as
              one unit, whose score is the mean of its records' scores; n counts groups;
            - ``sensitivity`` (N,), ``phi`` (N, Q): local sensitivity, log-odds under Q fixed queries;
            - ``reference_in`` (K, N) with ``reference_logits`` (K, N, C), or with ``reference_phi`` (K, N, Q) beside
              ``phi``: other networks of the same recipe, and which records each trained on;
              ``reference_sensitivity`` (K, N);
            - ``population_logits`` (Z, C), ``population_label`` (Z,), ``population_reference_logits`` (K, Z, C):
              records that no network trained on and that are not among the N.

            In a .csv logits and phi are columns ``logit_0`` .., ``phi_0`` ..; references and population need an .npz.
        attacks: as for ``audit``.
        delta: of the epsilon bounds.
        out: folder for report.html, model_card.md and audit.json; None: nothing is written.
        seed: of attacks that learn, and of the self-checks.
        task, outputs: as for ``audit``; ``outputs`` is about all arrays of logits.

    The first reference network that trained on some of the N records and not on others serves as the shadow network,
    on the same records, with the other reference networks as its references; thresholds and learned attacks come from
    it alone. Given ``reference_phi`` without ``reference_logits`` there is no shadow, since phi is not the whole
    output.

    Raises:
        UsageError: the file or an array is not as described, or a named attack cannot run.
    """
    seed = numbers.seed(seed)
    _result.check_delta(delta)
    chosen = choose(attacks)
    _outputs.check(task, outputs)
    arrays = read(source)
    member = _member(arrays)
    record = _record(arrays, len(member))
    group = group_of(arrays, member)
    notes: list[str] = []
    folder = None if out is None else Path(out)
    if "logits" in arrays:
        seen, answers, y, quality = as_seen(arrays, member, task, outputs, notes)
        if group is None:
            group = copies_of(np.column_stack([seen["logits"], seen["label"]]), member, notes, tell=True)
        check_enough_groups(group, member)
        measured = [_as_given(arrays["score"], member, record, group, notes)] if "score" in arrays else []
        evidence = _evidence(seen, member, record, group, task, notes)
        return _result.build(
            evidence,
            replace(_unknown_network(), train_accuracy=quality.members, test_accuracy=quality.nonmembers),
            attacks=chosen,
            delta=delta,
            notes=notes,
            folder=folder,
            seed=seed,
            measured=measured,
            class_N=arrays.get("class"),
            checks=_tasks.checks(answers, y, evidence.observed),
        )
    for name in arrays:
        if name not in ("score", "member", "class", "id", "group"):
            raise UsageError(f"{name} is given without logits: give logits (N, C) and label (N,) beside it.")
    if task != "classification" or outputs is not None:
        raise UsageError("task and outputs say what logits are, and only scores are given: leave them out.")
    if "score" not in arrays:
        raise UsageError("There is neither 'score' nor 'logits': give scores, or logits and label, beside member.")
    why = "It needs the model's outputs (logits and label); only scores are given."
    if chosen.required:
        raise UsageError(
            f"attacks: '{next(a.name for a in chosen.attacks if a.name in chosen.required)}' cannot run. {why}"
        )
    if group is None and arrays["score"].shape == member.shape:
        group = copies_of(arrays["score"][:, None], member, notes, tell=False)
    check_enough_groups(group, member)
    measured = [_as_given(arrays["score"], member, record, group, notes)]
    refused = {name: why for name, attack in registry.ATTACKS.items() if attack.in_all}
    return _result.finish(
        measured,
        None,
        refused=refused,
        delta=delta,
        notes=notes,
        folder=folder,
        seed=seed,
        class_N=_result.of_groups(arrays.get("class"), group),
        n=len(member),
    )


def _member(arrays: Arrays) -> Bools:
    if "member" not in arrays:
        raise UsageError("There is no 'member': give 1 for each record that the model trained on, 0 for the others.")
    member = arrays["member"]
    if member.ndim != 1 or len(member) == 0:
        raise UsageError(f"member has shape {member.shape}: give one value a record.")
    _zero_one("member", member)
    if member.all() or not member.any():
        raise UsageError(
            f"member marks {int(member.sum())} of {len(member)} records: members and non-members are needed."
        )
    return member.astype(np.bool_)


def _zero_one(name: str, values: npt.NDArray[Any]) -> None:
    if values.dtype != np.bool_ and not np.isin(values, (0, 1)).all():
        other = values[~np.isin(values, (0, 1))].flat[0]
        raise UsageError(f"{name} holds {other}: give 1 for records that were trained on and 0 for the others.")


def _record(arrays: Arrays, n: int) -> npt.NDArray[np.int64]:
    """Whole-number ids as they are, words by their place in the file."""
    for name in ("id", "class"):
        if name in arrays and arrays[name].shape != (n,):
            raise UsageError(f"{name} has shape {arrays[name].shape} beside {n} values of member: give one a record.")
    if "id" not in arrays:
        return np.arange(n)
    values, count = np.unique(arrays["id"], return_counts=True)
    if len(values) != n:
        raise UsageError(f"id holds {values[count > 1][0]} twice: give each record once.")
    return arrays["id"].astype(np.int64) if arrays["id"].dtype.kind in "iu" else np.arange(n)


def _as_given(
    score: npt.NDArray[Any],
    member: Bools,
    record: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64] | None,
    notes: list[str],
) -> AttackResult:
    n = len(member)
    if score.shape != (n,):
        raise UsageError(f"score has shape {score.shape} beside {n} values of member: give one value a record.")
    if (score == score[0]).all():
        raise UsageError(f"score is {score[0]} for all {n} records: constant scores distinguish nothing.")
    # Measured where every attack is; it reads logits for the model's own accuracy alone, which is unknown here.
    blank = Observed(np.zeros((n, 2)), np.zeros(n, np.int64), member, None, record, group_N=group)
    scored = Scored(score.astype(np.float64), None, "as given")
    found = _measure.measure(_SCORES, scored, blank, _unknown_network())
    auc = found.metrics["auc"]
    if auc is not None and auc.high < 0.5:
        notes.append(
            f"The scores' AUC of {auc.value:.3f} lies below 0.5: a score must be HIGHER for members; give the negative "
            "of a loss."
        )
    return replace(found, notes={}, correct_N=np.zeros(0, np.bool_))


def _evidence(
    arrays: Arrays,
    member: Bools,
    record: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64] | None,
    task: Task,
    notes: list[str],
) -> Evidence:
    n = len(arrays["logits"])
    observed = Observed(
        logits_NC=arrays["logits"],
        label_N=arrays["label"],
        member_N=member,
        sensitivity_N=_fitting("sensitivity", arrays, (n,)),
        record_N=record,
        phi_NQ=_fitting("phi", arrays, (n, None)),
        task=task,
        group_N=group,
        benefit_N=arrays.get("benefit"),
    )
    _compare_members(observed, notes)
    references = _references(arrays, observed, notes)
    population = _population(arrays, observed, 0 if references is None else len(references))
    evidence = Evidence(observed, references, population)
    if references is None or "reference_logits" not in arrays:
        return evidence
    k = next((k for k, inside in enumerate(references.in_KN) if inside.any() and not inside.all()), None)
    if k is None:
        notes.append("No reference network trained on some of the records and not on others: there is no shadow.")
        return evidence
    notes.append(f"Reference network {k} serves as the shadow network, on the same records as the target.")
    return replace(evidence, shadow=_shadow(arrays, evidence, k))


def _compare_members(seen: Observed, notes: list[str]) -> None:
    """Note where members do not fit the outputs: no attack would notice."""
    surer = metrics.auc(_logits.log_true_class_probability(seen.logits_NC, seen.label_N), seen.member_N)
    if surer.high < 0.5:
        notes.append(
            f"The model is more certain about non-members than about members (AUC of the loss {surer.value:.3f}): is "
            "'member' inverted? Give 1 for records that the model trained on."
        )


def _references(arrays: Arrays, observed: Observed, notes: list[str]) -> References | None:
    given = [name for name in arrays if name.startswith("reference_")]
    if not given:
        return None
    if "reference_in" not in arrays:
        raise UsageError(f"{given[0]} is given without reference_in: say (K, N) which records each network trained on.")
    if "reference_logits" not in arrays and "reference_phi" not in arrays:
        raise UsageError("reference_in is given without reference_logits (K, N, C) or reference_phi (K, N, Q).")
    inside, n = arrays["reference_in"], len(observed.member_N)
    if inside.ndim != 2 or inside.shape[1] != n or len(inside) == 0:
        raise UsageError(f"reference_in has shape {inside.shape}: give (K, N) with N = {n}.")
    _zero_one("reference_in", inside)
    k = len(inside)
    phi = _reference_phi(arrays, observed, (k, n, None))
    _fitting("reference_sensitivity", arrays, (k, n))
    logits = _fitting("reference_logits", arrays, (k, n, observed.classes))
    pairs = {"logits": (observed.logits_NC, logits), "phi": (observed.phi_NQ, phi)}
    for name, (own, others) in pairs.items():
        if own is not None and others is not None:
            answers = {name: own} | {f"reference_{name}[{i}]": other for i, other in enumerate(others)}
            notes += refuse_twins(answers, mend="give what other networks answered.", shifted=name == "logits")
    if logits is None:
        assert phi is not None
        # Logits of the given log-odds: right for the given class, which is all that attacks read of references.
        logits = np.full((k, n, observed.classes), -math.log(observed.classes - 1))
        np.put_along_axis(logits, observed.label_N[None, :, None], phi[:, :, :1].astype(np.float64), axis=2)
    return References(
        logits,
        inside.astype(np.bool_),
        tuple(f"reference {i}" for i in range(k)),
        phi,
        benefit_KN=arrays.get("reference_benefit"),
        of_phi="reference_logits" not in arrays,
    )


def _reference_phi(arrays: Arrays, observed: Observed, shape: tuple[int | None, ...]) -> npt.NDArray[Any] | None:
    """The log-odds of references, under the queries that the target's are given for."""
    phi = _fitting("reference_phi", arrays, shape)
    if phi is None:
        return None
    if observed.phi_NQ is None:
        raise UsageError("reference_phi is given without phi: give the target's log-odds (N, Q) as well.")
    queries = observed.phi_NQ.shape[1]
    if phi.shape[2] != queries:
        raise UsageError(
            f"reference_phi holds {phi.shape[2]} queries a record and phi {queries}: ask all networks the same fixed "
            "queries (crops)."
        )
    return phi


def _population(arrays: Arrays, observed: Observed, k: int) -> Population | None:
    given = [name for name in arrays if name.startswith("population_")]
    if not given:
        return None
    for name in ("population_logits", "population_label"):
        if name not in arrays:
            raise UsageError(f"{given[0]} is given without {name}: a population needs both.")
    logits = _fitting("population_logits", arrays, (None, observed.classes))
    assert logits is not None
    if "population_reference_logits" in arrays and k == 0:
        raise UsageError("population_reference_logits is given without reference_logits and reference_in.")
    others = _fitting("population_reference_logits", arrays, (k, len(logits), observed.classes))
    population = Population(logits, arrays["population_label"], others)
    _refuse_audited(population, observed)
    return population


def _refuse_audited(population: Population, observed: Observed) -> None:
    """Refuse a population of audited records, told by their answers; not where few different answers are given."""
    theirs, own = (
        row_hashes(np.column_stack([np.asarray(logits, np.float64), label]))
        for logits, label in ((population.logits_ZC, population.label_Z), (observed.logits_NC, observed.label_N))
    )
    audited = set(own)
    same = sum(row in audited for row in theirs)
    if same > MOST_SEEN * len(theirs) and len(audited) > len(own) / 2:
        raise UsageError(
            f"{same} of the {len(theirs)} records of the population have the answers and label of an audited record: "
            "give a population of records that are neither members nor non-members."
        )


def _shadow(arrays: Arrays, evidence: Evidence, k: int) -> Evidence:
    target, references, population = evidence.observed, evidence.references, evidence.population
    assert references is not None
    others = [other for other in range(len(references)) if other != k]
    sensitivity = arrays.get("reference_sensitivity")
    return Evidence(
        observed=Observed(
            logits_NC=references.logits_KNC[k],
            label_N=target.label_N,
            member_N=references.in_KN[k],
            sensitivity_N=None if sensitivity is None else real("reference_sensitivity", arrays)[k],
            record_N=target.record_N,
            phi_NQ=None if references.phi_KNQ is None else references.phi_KNQ[k],
            task=target.task,
            group_N=by_side(target.group_N, references.in_KN[k]),
            benefit_N=None if references.benefit_KN is None else references.benefit_KN[k],
        ),
        references=_only(references, others),
        population=None
        if population is None or population.reference_logits_KZC is None
        else Population(
            population.reference_logits_KZC[k], population.label_Z, population.reference_logits_KZC[others]
        ),
    )


def _only(references: References, others: list[int]) -> References | None:
    """The other networks as the shadow's references; None where they leave a record without one of its kind."""
    inside = references.in_KN[others]
    if len(others) < 2 or inside.all(axis=0).any():
        return None
    phi = None if references.phi_KNQ is None else references.phi_KNQ[others]
    return References(references.logits_KNC[others], inside, tuple(references.name_K[o] for o in others), phi)


def _fitting(name: str, arrays: Arrays, shape: tuple[int | None, ...]) -> npt.NDArray[np.floating] | None:
    """The array, if it is there and has the shape; None in the shape stands for any length from 1."""
    if name not in arrays:
        return None
    values = real(name, arrays)
    if values.ndim != len(shape) or any(
        have != want if want is not None else have == 0 for have, want in zip(values.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise UsageError(f"{name} has shape {values.shape}: give ({wanted}{',' * (len(shape) == 1)}).")
    return values


def _unknown_network() -> NetworkResult:
    """A model of which scores alone are known: accuracies are NaN, counts 0."""
    return NetworkResult(
        network="model",
        method="dense",
        role="target",
        seed=0,
        density=1.0,
        density_prunable=1.0,
        parameters=0,
        nonzero=0,
        train_accuracy=math.nan,
        test_accuracy=math.nan,
    )
