"""BASE: how much likelier the network makes the record's label than reference networks do, at a tuned temperature.

Lassila, Oestman, Ngo and Graell i Amat, "Practical Bayes-optimal membership inference attacks" (NeurIPS 2025), arXiv
2505.24089: the optimal rule compares the loss with a log-sum-exp over networks drawn from the posterior (Sablayrolles
et al. 2019), for which reference networks stand in. Temperature and offline form are those of LeakPro
(`AttackBASE`: softmax temperature 2, offline scale 0.33).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attacks._lira import Mode, checked_membership, fewest_references, too_few, unusable
from lacewing.attacks._logits import log_true_class_probability
from lacewing.attacks._tuning import shadow_of, temperatures, tuned
from lacewing.attacks._types import Attack, Evidence, Scored
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Floats

SCALES = (1 / 3, 2 / 3, 1.0)  # offline, tried: LeakPro takes .33


def base(
    target_logp_N: npt.ArrayLike,
    reference_logp_KN: npt.ArrayLike,
    reference_in_KN: npt.ArrayLike,
    *,
    mode: Mode = "online",
    scale: float = 1.0,
) -> Floats:
    """Scores (N,), higher for members: log p(target) minus the log of the references' mean p. K = 1 will do offline.

    ``target_logp_N`` and ``reference_logp_KN`` are logarithms (nats) of the softmax probability of the given class, of
    all networks at one temperature T: softmax(logits / T).

    - ``mode="online"``: log p(target) - log(mean of p over all references), about half of which trained on the record;
    - ``mode="offline"``: log p(target) - ``scale`` log(mean of p over the references that did not train on it). A scale
      below 1 stands for the references that would have trained on it, of which there are none.

    Online it ranks records as RMIA with gamma = 1 does, without a population and so without its ties. Raises
    `UsageError` for values that are not finite or above 0, shapes that disagree, membership that is not 0/1, records
    with no OUT (online: or no IN) reference (counted), and a ``scale`` outside 0..1.
    """
    if mode not in ("online", "offline"):
        raise UsageError(f"mode = '{mode}' is unknown: {did_you_mean(str(mode), ('online', 'offline'))}")
    if not 0.0 <= scale <= 1.0:
        raise UsageError(f"scale = {scale} is out of range: give a number from 0 to 1.")
    target, reference = np.asarray(target_logp_N, np.float64), np.asarray(reference_logp_KN, np.float64)
    if target.ndim != 1 or reference.ndim != 2 or reference.shape[1:] != target.shape or not reference.size:
        raise UsageError(
            f"target_logp_N has shape {target.shape} and reference_logp_KN {reference.shape}: give (N,) and (K, N)."
        )
    for name, values in (("target_logp_N", target), ("reference_logp_KN", reference)):
        if not (np.isfinite(values) & (values <= 1e-6)).all():  # float32 rounds log 1 past 0
            raise UsageError(f"{name} holds values that are not finite or above 0: give logs of probabilities.")
    in_KN = checked_membership(reference_in_KN, *reference.shape)
    if (problem := too_few(in_KN, mode)) is not None:
        raise UsageError(problem)
    if mode == "online":
        return target - _log_mean(reference, np.ones_like(in_KN))
    return target - scale * _log_mean(reference, ~in_KN)


def _log_mean(logp_KN: Floats, chosen_KN: npt.NDArray[np.bool_]) -> Floats:
    """(N,) the log of the mean probability over the chosen networks of each record."""
    chosen = np.where(chosen_KN, logp_KN, -np.inf)
    top = chosen.max(axis=0)
    mean: Floats = top + np.log(np.exp(chosen - top).sum(axis=0) / chosen_KN.sum(axis=0))
    return mean


# The registry ---------------------------------------------------------------------------------------------------------


class _Setting(NamedTuple):
    temperature: float
    scale: float


def _attack(evidence: Evidence, *, seed: int, mode: Mode) -> Scored:
    """BASE on what an attacker holds; ``seed`` is unused, nothing is drawn."""
    usable = partial(unusable, mode=mode, at_least=1)
    if (problem := usable(evidence)) is not None:
        raise UsageError(problem)
    assert evidence.references is not None  # unusable() has said so
    score = partial(_score, mode=mode)
    found = tuned(score, _settings(evidence, mode), evidence, shadow_of(evidence, usable), usable)
    chosen = found.setting
    constants = [f"T = {chosen.temperature:g}", *([f"scale = {chosen.scale:.2g}"] if mode == "offline" else [])]
    return Scored(
        found.scores_N,
        found.decision_N,
        ", ".join([mode, *constants, f"K = {len(evidence.references)}", "1 query"]),
        {
            "temperature": chosen.temperature,
            **({"scale": chosen.scale} if mode == "offline" else {}),
            "temperature_source": found.source,
            "decision": found.rule,
            "fewest_references": fewest_references(evidence, mode),
        },
    )


def _settings(evidence: Evidence, mode: Mode) -> Sequence[_Setting]:
    scales = SCALES if mode == "offline" else (1.0,)
    return [_Setting(temperature, scale) for temperature in temperatures(evidence) for scale in scales]


def _score(evidence: Evidence, setting: _Setting, *, mode: Mode) -> Floats:
    seen, references = evidence.observed, evidence.references
    assert references is not None
    return base(
        log_true_class_probability(seen.logits_NC, seen.label_N, setting.temperature),
        np.stack([log_true_class_probability(own, seen.label_N, setting.temperature) for own in references.logits_KNC]),
        references.in_KN,
        mode=mode,
        scale=setting.scale,
    )


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="base-online",
        family="base",
        threat_model="The attacker queries the network for its logits and trains references of the same recipe, some "
        "on each record and some not.",
        function=partial(_attack, mode="online"),
        needs=frozenset({"references", "in-references"}),
    ),
    Attack(
        name="base-offline",
        family="base",
        threat_model="The attacker queries the network for its logits and has references of the same recipe that did "
        "not train on the audited records.",
        function=partial(_attack, mode="offline"),
        needs=frozenset({"references"}),
    ),
)
