"""From scores to a result: the one place where an attack's success is measured, the same for every attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._logits import softmax
from lacewing.attacks._types import CLASSES, Attack, Evidence, Observed, Scored, Task
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats
from lacewing.results import AttackResult, NetworkResult

RATES = (0.01, 0.001)


def perform(attack: Attack, evidence: Evidence, network: NetworkResult, *, seed: int) -> AttackResult:
    """Attack the network that ``network`` describes and measure the success in every way of `METRICS`.

    Raises `UsageError` where the evidence lacks what the attack needs.
    """
    check(attack, evidence)
    scored = attack.function(evidence, seed=seed)
    if evidence.shadow is None:  # the row says what was known
        attack = replace(attack, threat_model=attack.alone or attack.threat_model)
        if scored.decision_N is None:
            scored = replace(scored, variant=f"{scored.variant}; no shadow: no threshold")
    if evidence.observed.task not in CLASSES:
        for of_classes, of_others in _IN_WORDS.items():
            attack = replace(attack, threat_model=attack.threat_model.replace(of_classes, of_others))
    return measure(attack, scored, evidence.observed, network)


_IN_WORDS = {  # of threat models: what is said of classes, and of labels and quantities
    "sees the class probabilities of a record": "sees the answer for a record",
    "knows its class": "knows its true labels or quantities",
    "queries the network for its logits": "queries the network for its answers",
    "log-odds that are unusual": "scores that are unusual",
}


def measure(attack: Attack, scored: Scored, observed: Observed, network: NetworkResult) -> AttackResult:
    """Metrics with intervals of one attack's scores. A metric that n or the attack does not allow is None.

    Where records have groups, a group is one unit: its score is the mean of its records' scores, its decision "member"
    where more than half of its records are decided so, and n counts groups. Everything else that the result says of a
    group is its first record's.
    """
    scores, decision, oracle = np.asarray(scored.scores_N, np.float64), scored.decision_N, scored.oracle
    if scores.shape != observed.member_N.shape or not np.isfinite(scores).all():
        raise UsageError(f"The attack '{attack.name}' gave scores that are not one finite number a record.")
    correct, confidence = right(observed), softmax(observed.logits_NC).max(axis=1)
    if observed.group_N is None:
        first = np.arange(len(scores))
    else:
        first = first_of_groups(observed.group_N)
        scores = mean_by_group(scores, observed.group_N)
        decision = None if decision is None else mean_by_group(decision, observed.group_N) > 0.5
        oracle = None  # a choice by single records
    member = observed.member_N[first]
    found = metrics.summary(scores, member, decision, fprs=RATES)
    if oracle is not None:
        found["oracle_balanced_accuracy"] = oracle
    hit = np.zeros(0, bool) if decision is None else decision == member
    return AttackResult(
        network=network,
        attack=attack.name,
        variant=scored.variant,
        threat_model=attack.threat_model,
        n_members=int(member.sum()),
        n_nonmembers=int((~member).sum()),
        metrics=found,
        notes={"classes": observed.classes, **scored.notes},
        record_N=observed.record_N[first].astype(np.int64),
        member_N=member,
        hit_N=hit,
        correct_N=correct[first],
        score_N=scores,
        label_N=observed.label_N[first].astype(np.int64),
        confidence_N=confidence[first],
    )


def right(observed: Observed) -> Bools:
    """Which of the N records the network answers right.

    Multi-label: more log-odds for the record's labels than against them. Regression: nearer than the best constant.
    """
    if observed.task == "regression" and observed.benefit_N is not None:
        return np.asarray(observed.benefit_N > 0)
    return np.asarray(np.argmax(observed.logits_NC, axis=1) == observed.label_N)


def graded(observed: Observed) -> Floats:
    """(N,) whose mean over records says how good the answers are: `right`; of multi-label the mean AUC."""
    if observed.task == "multi-label" and observed.benefit_N is not None:
        return np.asarray(observed.benefit_N, np.float64) + 0.5
    return right(observed).astype(np.float64)


def grade(task: Task) -> str:
    """What the mean of `graded` is, with a comma where a comma must follow."""
    return {
        "multi-label": "Mean AUC of the labels",
        "regression": "Share of records answered better than by the best constant answer,",
    }.get(task, "Accuracy")


def first_of_groups(group_N: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """(G,) the first record of each group, in the order of the groups' codes."""
    return np.asarray(np.unique(group_N, return_index=True)[1])


def mean_by_group(values_N: npt.NDArray[Any], group_N: npt.NDArray[np.integer]) -> Floats:
    """(G,) the mean of each group's values (N,), in the order of the groups' codes."""
    _, group = np.unique(group_N, return_inverse=True)
    return np.asarray(np.bincount(group, values_N) / np.bincount(group))


def threshold(scores_N: Floats, member_N: Bools) -> float:
    """The threshold of largest balanced accuracy on records of KNOWN membership; "member" is score >= threshold.

    Half-way between the two neighbouring scores; the lowest of equally good ones.
    """
    fpr, tpr = metrics.roc(scores_N, member_N)
    distinct = np.unique(np.asarray(scores_N, np.float64))[::-1]
    best = int(np.flatnonzero(tpr - fpr == (tpr - fpr).max())[-1])
    if best == 0:
        return float(np.nextafter(distinct[0], np.inf))
    if best == len(distinct):
        return float(distinct[-1])
    return float(distinct[best - 1] / 2 + distinct[best] / 2)


def calibrated(score: Callable[[Evidence], Floats], evidence: Evidence) -> tuple[Floats, Bools | None]:
    """Scores of the target, and decisions by the threshold that serves best on the shadow (None without a shadow)."""
    scores = score(evidence)
    if evidence.shadow is None:
        return scores, None
    return scores, scores >= threshold(score(evidence.shadow), evidence.shadow.observed.member_N)


def missing(attack: Attack, evidence: Evidence) -> str | None:
    """What the evidence lacks of the attack's needs, as the end of a sentence; None: nothing."""
    if evidence.observed.task not in attack.tasks:
        return f"a model of the task {' or '.join(sorted(attack.tasks))}, and this one is of {evidence.observed.task}"
    seen, references, shadow = evidence.observed, evidence.references, evidence.shadow
    has: dict[str, bool] = {
        "sensitivity": seen.sensitivity_N is not None,
        "queries": seen.phi_NQ is not None,
        "augmentation": seen.right_NQ is not None,
        "noise": seen.right_NS is not None,
        "boundary": seen.boundary_N is not None,
        "gradients": seen.gradient_N2 is not None,
        "layers": seen.layer_NF is not None,
        "first-layer": seen.first_layer is not None,
        "initialisation": seen.first_layer is not None and seen.first_layer.initial_HD is not None,
        "shadow": shadow is not None,
        "references": references is not None,
        "in-references": references is not None and bool(references.in_KN.any(axis=0).all()),
        "population": evidence.population is not None,
        "dense": bool(evidence.related),
        "levels": bool(evidence.related),
        "checkpoints": bool(evidence.related),
        **{f"{kind}-shadow": kind in evidence.other_shadows for kind in ("dense", "mismatched", "imposed")},
    }
    lacking = sorted(need for need in attack.needs if not has[need])
    return ", ".join(_NAMED[need] for need in lacking) if lacking else None


def check(attack: Attack, evidence: Evidence) -> None:
    """Raises `UsageError` that names what the evidence lacks."""
    if (lacking := missing(attack, evidence)) is not None:
        raise UsageError(f"The attack '{attack.name}' needs {lacking}.")


_NAMED = {
    "sensitivity": "the local sensitivity of the outputs",
    "queries": "the outputs under fixed queries (phi)",
    "augmentation": "the answers under augmentations",
    "noise": "the answers under noise",
    "boundary": "the distance to the decision boundary",
    "gradients": "the loss gradients' norms (white-box access)",
    "layers": "the loss gradients of each layer (white-box access)",
    "first-layer": "the weights of a fully connected first layer and the records that it sees, fewer than its inputs",
    "initialisation": "the first layer's weights at initialisation",
    "shadow": "a shadow network of the same recipe with known members",
    "references": "reference networks",
    "in-references": "reference networks trained on every record (at least one each; overlapping memberships)",
    "population": "a population: records that no network trained on and nobody audits",
    "dense": "the dense version of the attacked network",
    "levels": "the denser levels of the attacked network's chain",
    "checkpoints": "earlier checkpoints of the attacked network's training",
    "dense-shadow": "a dense shadow network",
    "mismatched-shadow": "a shadow network of another density",
    "imposed-shadow": "a shadow network trained under the target's own mask",
}
