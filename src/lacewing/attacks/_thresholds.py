"""Threshold attacks: one number of the outputs, "member" from a threshold on; one for all classes, or one a class.

Loss and correctness after Yeom, Giacomelli, Fredrikson and Jha, "Privacy risk in machine learning" (CSF 2018);
confidence, entropy, modified entropy and a threshold for each class after Song and Mittal, "Systematic evaluation of
privacy risks of machine learning models" (USENIX Security 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from lacewing.attacks._logits import entropy, modified_entropy, phi
from lacewing.attacks._measure import calibrated, threshold
from lacewing.attacks._types import CLASSES, EVERY_TASK, Attack, Evidence, Observed, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats


def entropy_score(logits_NC: npt.ArrayLike, label_N: npt.ArrayLike) -> Floats:
    """Minus the entropy of the outputs in nats; the label plays no part."""
    return -entropy(logits_NC)


def modified_entropy_score(logits_NC: npt.ArrayLike, label_N: npt.ArrayLike) -> Floats:
    """Minus the modified entropy (Song and Mittal 2021)."""
    return -modified_entropy(logits_NC, label_N)


SIGNALS: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Floats]] = {  # each higher for members
    # The log-odds rank records as minus the loss and the probability do, which round to 0 and 1 for a sure network.
    "loss": phi,
    "confidence": phi,
    "entropy": entropy_score,
    "modified-entropy": modified_entropy_score,
}


def fit_thresholds(
    scores_N: npt.ArrayLike, label_N: npt.ArrayLike, member_N: npt.ArrayLike, classes: int
) -> tuple[Floats, Bools]:
    """The threshold of largest balanced accuracy for each class, on records of KNOWN membership.

    "Member" is score >= threshold (Song and Mittal 2021, who fit them on a shadow network).

    Returns:
        threshold_C, and own_C: False where a class lacks members or non-members, so that it has the threshold of all
        records together.

    Raises:
        UsageError: scores that are not finite, lengths that differ, labels that are no class, or only members or only
            non-members in all.
    """
    scores, label, member = np.asarray(scores_N, np.float64), np.asarray(label_N), np.asarray(member_N)
    if label.shape != scores.shape:
        raise UsageError(f"label has shape {label.shape} and scores {scores.shape}: give one label a score.")
    if not np.issubdtype(label.dtype, np.integer) or ((label < 0) | (label >= classes)).any():
        raise UsageError(f"label holds values that are no class: give whole numbers from 0 to {classes - 1}.")
    threshold_C, own_C = np.full(classes, threshold(scores, member)), np.zeros(classes, np.bool_)
    member = member.astype(np.bool_)
    for of_class in range(classes):
        rows = label == of_class
        if member[rows].any() and not member[rows].all():
            threshold_C[of_class], own_C[of_class] = threshold(scores[rows], member[rows]), True
    return threshold_C, own_C


def _signal(name: str, seen: Observed) -> Floats:
    return SIGNALS[name](seen.logits_NC, seen.label_N)


def _global(name: str, evidence: Evidence, *, seed: int) -> Scored:
    """One threshold for all classes. ``seed`` is not used: nothing is drawn."""
    scores, decision = calibrated(lambda held: _signal(name, held.observed), evidence)
    variant = "one threshold, from the shadow" if decision is not None else "scores alone"
    return Scored(scores, decision, variant)


def _per_class(name: str, evidence: Evidence, *, seed: int) -> Scored:
    """A threshold a class, from the shadow; the score is the signal minus the threshold of the record's class.

    Without the subtraction the ROC would be that of the plain signal. ``seed`` is not used: nothing is drawn.
    """
    seen = evidence.observed
    if evidence.shadow is None:
        raise UsageError(f"The attack '{name}-per-class' needs a shadow network with known members: give Evidence one.")
    known = evidence.shadow.observed
    if known.classes != seen.classes:
        raise UsageError(
            f"The shadow has {known.classes} classes and the target {seen.classes}: give a shadow of the same classes."
        )
    threshold_C, own_C = fit_thresholds(_signal(name, known), known.label_N, known.member_N, seen.classes)
    scores = _signal(name, seen) - threshold_C[seen.label_N]
    notes = {"classes_with_global_threshold": int((~own_C).sum())}
    return Scored(scores, scores >= 0.0, "one threshold a class, from the shadow", notes)


def _gap(evidence: Evidence, *, seed: int) -> Scored:
    """The network is right: "member" (Yeom et al. 2018, their attack for a bounded loss). ``seed`` is not used."""
    seen = evidence.observed
    right = np.argmax(seen.logits_NC, axis=1) == seen.label_N
    return Scored(right.astype(np.float64), right, "member where the network is right")


ENTRIES: tuple[Attack, ...] = (
    *(
        Attack(
            name=name,
            family="threshold",
            threat_model="The attacker sees the class probabilities of a record, knows its class, and takes one "
            "threshold from a shadow network of the same recipe whose members are known.",
            alone="The attacker sees the class probabilities of a record and knows its class.",
            function=partial(_global, name),
            needs=frozenset(),
            tasks=EVERY_TASK if name == "loss" else CLASSES,
        )
        for name in SIGNALS
    ),
    *(
        Attack(
            name=f"{name}-per-class",
            family="threshold",
            threat_model="The attacker sees the class probabilities of a record, knows its class, and takes a "
            "threshold for each class from a shadow network of the same recipe whose members are known.",
            function=partial(_per_class, name),
            needs=frozenset({"shadow"}),
        )
        for name in SIGNALS
    ),
    Attack(
        name="gap",
        family="threshold",
        threat_model="The attacker sees the predicted class of a record and knows its true class.",
        function=_gap,
        needs=frozenset(),
    ),
)
