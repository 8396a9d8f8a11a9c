"""Difficulty calibration: the loss compared with that of one reference network, so that easy records do not stand out.

Watson, Guo, Cormode and Sablayrolles, "On the importance of difficulty calibration in membership inference attacks"
(ICLR 2022), arXiv 2111.08440: s_cal(h, z) = s(h, z) - E_g[s(g, z)], g trained without z.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from lacewing.attacks._lira import checked_membership, too_few, unusable
from lacewing.attacks._logits import log_true_class_probability, phi
from lacewing.attacks._tuning import decided, shadow_of
from lacewing.attacks._types import CLASSES, EVERY_TASK, Attack, Evidence, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats


def difficulty_calibrated(
    target_score_N: npt.ArrayLike, reference_score_KN: npt.ArrayLike, reference_in_KN: npt.ArrayLike, *, most: int = 1
) -> Floats:
    """Scores (N,), higher for members: any score of the target less its mean over references that are OUT.

    The mean is over the first ``most`` references, in their order, that did not train on the record, so that each
    record has as many where there are enough; one is what the attack costs. ``reference_score_KN`` is the same score of
    K >= 1 reference networks. Raises `UsageError` for values that are not finite, shapes that disagree, membership that
    is not 0/1, ``most`` below 1, and records without an OUT reference (counted).
    """
    target, reference = np.asarray(target_score_N, np.float64), np.asarray(reference_score_KN, np.float64)
    if target.ndim != 1 or reference.ndim != 2 or reference.shape[1:] != target.shape or not reference.size:
        raise UsageError(
            f"target_score_N has shape {target.shape} and reference_score_KN {reference.shape}: give (N,) and (K, N)."
        )
    for name, values in (("target_score_N", target), ("reference_score_KN", reference)):
        if not np.isfinite(values).all():
            raise UsageError(f"{name} holds NaN or infinite values: give finite scores.")
    if most < 1:
        raise UsageError(f"most = {most} is out of range: give a whole number from 1.")
    out = ~checked_membership(reference_in_KN, *reference.shape)
    if (problem := too_few(~out, "offline")) is not None:
        raise UsageError(problem)
    out &= np.cumsum(out, axis=0) <= most
    calibrated: Floats = target - np.where(out, reference, 0.0).sum(axis=0) / out.sum(axis=0)
    return calibrated


# The registry ---------------------------------------------------------------------------------------------------------


# Minus the loss is the paper's. Log-odds, ours: log p is cut off at 0 where a network is sure, and they are not.
_SIGNALS = {"loss": log_true_class_probability, "log-odds": phi}


def _attack(evidence: Evidence, *, seed: int, signal: str) -> Scored:
    """A calibrated score of what an attacker holds; ``seed`` is unused, nothing is drawn."""
    usable = partial(unusable, mode="offline", at_least=1)
    if (problem := usable(evidence)) is not None:
        raise UsageError(problem)
    score = partial(_score, signal=signal)
    scores = score(evidence)
    decision, rule = decided(score, scores, shadow_of(evidence, usable))
    name = "minus the loss" if signal == "loss" else "log-odds"
    return Scored(scores, decision, f"{name}, one reference a record", {"decision": rule})


def _score(evidence: Evidence, *, signal: str) -> Floats:
    seen, references = evidence.observed, evidence.references
    assert references is not None
    of = _SIGNALS[signal]
    others = np.stack([of(logits_NC, seen.label_N) for logits_NC in references.logits_KNC])
    return difficulty_calibrated(of(seen.logits_NC, seen.label_N), others, references.in_KN)


ENTRIES: tuple[Attack, ...] = tuple(
    Attack(
        name=f"calibrated-{signal}",
        family="calibration",
        threat_model="The attacker queries the network for its logits and has, for each record, one reference of the "
        "same recipe that did not train on it.",
        function=partial(_attack, signal=signal),
        needs=frozenset({"references"}),
        tasks=CLASSES if signal == "loss" else EVERY_TASK,
    )
    for signal in _SIGNALS
)
