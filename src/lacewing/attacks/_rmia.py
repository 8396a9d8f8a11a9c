"""RMIA, the robust membership inference attack: does the record gain more from the target than population records do?

Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks" (ICML 2024), arXiv 2312.03262.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attacks._lira import Mode, checked_membership, fewest_references, too_few, unusable
from lacewing.attacks._logits import log_true_class_probability
from lacewing.attacks._measure import calibrated
from lacewing.attacks._tuning import shadow_of, temperatures, tuned
from lacewing.attacks._types import Attack, Evidence, Scored
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Bools, Floats

GAMMA = 1.0
OFFLINE_A = 0.3
_CHUNK = 1 << 15  # records summed at a time: half a MB
TRIED_A = (OFFLINE_A, 0.0, 0.6)  # by the tuned entries, offline


def rmia(
    target_p_N: npt.ArrayLike,
    reference_p_KN: npt.ArrayLike,
    reference_in_KN: npt.ArrayLike,
    target_p_Z: npt.ArrayLike,
    reference_p_KZ: npt.ArrayLike,
    *,
    mode: Mode = "online",
    gamma: float = GAMMA,
    offline_a: float = OFFLINE_A,
) -> Floats:
    """Scores (N,) in 0..1, higher for members: the share of population records z that x beats by ``gamma``.

    score(x) = mean over z of 1[(P(x|t)/P(x)) / (P(z|t)/P(z)) >= gamma], where P(.|t) is the target's softmax
    probability of the true class, 0..1, and P comes from the K references:

    - ``mode="online"``: the plain mean over all references, of which about half should have trained on x;
    - ``mode="offline"``: ((1 + a) mean_OUT + (1 - a)) / 2 with a = ``offline_a``, for x over the references that did
      not train on it and for z, on which none trained, over all of them. K = 1 will do.

    The comparison is made as ratio_z <= ratio_x / gamma. A ratio p / P with both 0 counts as 1 (the networks agree);
    with P = 0 alone it is infinite, and beats every z. Time O((N + Z) log Z + K (N + Z)); memory beyond the inputs
    is a few float64 arrays of shapes (N,) and (Z,). Raises `UsageError` for values outside 0..1, shapes that disagree,
    membership that is not 0/1, an empty population, records with no OUT (online: or no IN) reference (counted), and
    ``gamma`` or ``offline_a`` out of range.
    """
    if mode not in ("online", "offline"):
        raise UsageError(f"mode = '{mode}' is unknown: {did_you_mean(str(mode), ('online', 'offline'))}")
    if not 0.0 < gamma < np.inf:
        raise UsageError(f"gamma = {gamma} is out of range: give a number above 0, such as 1.")
    if not 0.0 <= offline_a <= 1.0:
        raise UsageError(f"offline_a = {offline_a} is out of range: give a number from 0 to 1, such as 0.3.")
    target_x, reference_x = _pair(target_p_N, reference_p_KN, "target_p_N", "reference_p_KN")
    target_z, reference_z = _pair(target_p_Z, reference_p_KZ, "target_p_Z", "reference_p_KZ")
    if len(reference_x) != len(reference_z):
        raise UsageError(
            f"reference_p_KN holds {len(reference_x)} networks and reference_p_KZ {len(reference_z)}: "
            "ask the same references about records and population."
        )
    in_KN = checked_membership(reference_in_KN, *reference_x.shape)
    if (problem := too_few(in_KN, mode)) is not None:
        raise UsageError(problem)
    if mode == "online":
        prior_x, prior_z = _mean(reference_x), _mean(reference_z)
    else:
        prior_x, prior_z = _prior(_mean(reference_x, in_KN), offline_a), _prior(_mean(reference_z), offline_a)
    ratio_z = np.sort(_ratio(target_z, prior_z))
    beaten = np.searchsorted(ratio_z, _ratio(target_x, prior_x) / gamma, side="right")  # ties count as beaten
    return beaten / len(ratio_z)


def _mean(p_KN: npt.NDArray[Any], without_KN: Bools | None = None) -> Floats:
    """The mean (N,) over the networks, less those of ``without_KN``, in float64: a network and some records at a time.

    Each record must have a network that is left.
    """
    networks, records = p_KN.shape
    total_N, part = np.zeros(records), np.empty(_CHUNK)
    for some in (slice(start, start + _CHUNK) for start in range(0, records, _CHUNK)):
        total = total_N[some]
        for k, p in enumerate(p_KN[:, some]):
            # What is left out counts as 0 by a product: to select by a random mask takes longer.
            total += p if without_KN is None else np.multiply(p, ~without_KN[k, some], out=part[: len(p)])
    total_N /= networks if without_KN is None else networks - without_KN.sum(axis=0)
    return total_N


def _prior(mean_out: Floats, a: float) -> Floats:
    """P from the mean over references that did not train on the record, corrected for those that would have."""
    return ((1.0 + a) * mean_out + (1.0 - a)) / 2


def _ratio(p: Floats, prior: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio: Floats = np.where((p == 0) & (prior == 0), 1.0, p / prior)
    return ratio


def _pair(
    target_p: npt.ArrayLike, reference_p: npt.ArrayLike, target: str, reference: str
) -> tuple[Floats, npt.NDArray[Any]]:
    """The target's (records,) probabilities as float64 and the references' (K, records) as they are."""
    arrays = []
    for name, given, axes in ((target, target_p, 1), (reference, reference_p, 2)):
        p = np.asarray(given)
        if p.ndim != axes or p.size == 0 or p.dtype.kind not in "fiu":
            shape = "(records,)" if axes == 1 else "(K, records)"
            raise UsageError(f"{name} has shape {p.shape} and dtype {p.dtype}: give numbers of shape {shape}.")
        for row in p if axes == 2 else [p]:  # a network at a time: bounded memory
            if row.min() >= 0 and row.max() <= 1 + 1e-6:  # float32 rounds sums past 1
                continue
            raise UsageError(f"{name} holds values outside 0..1: give probabilities of the true class, not logits.")
        arrays.append(p)
    if arrays[1].shape[1] != len(arrays[0]):
        raise UsageError(
            f"{target} holds {len(arrays[0])} records and {reference} {arrays[1].shape[1]}: "
            "give the same records in the same order."
        )
    return arrays[0].astype(np.float64, copy=False), arrays[1]


# The registry ---------------------------------------------------------------------------------------------------------


class _Setting(NamedTuple):
    temperature: float
    offline_a: float


def _attack(evidence: Evidence, *, seed: int, mode: Mode) -> Scored:
    """RMIA on what an attacker holds; ``seed`` is unused, nothing is drawn."""
    if (problem := _unusable(evidence, mode)) is not None:
        raise UsageError(problem)
    no_shadow: str | None = "there is no shadow network"
    if evidence.shadow is not None and (no_shadow := _unusable(evidence.shadow, mode)) is not None:
        no_shadow = f"the shadow does not serve: {no_shadow}"
    score = partial(_score, setting=_Setting(1.0, OFFLINE_A), mode=mode)
    if no_shadow is None:
        scores, decision = calibrated(score, evidence)
        rule = "score above the shadow's best threshold"
    else:
        scores, decision, rule = score(evidence), None, f"none, since {no_shadow}"
    return Scored(
        scores,
        decision,
        _variant(evidence, mode, [f"a = {OFFLINE_A:g}"] if mode == "offline" else []),
        {"decision": rule, "fewest_references": fewest_references(evidence, mode)},
    )


def _tuned(evidence: Evidence, *, seed: int, mode: Mode) -> Scored:
    """RMIA with temperature and offline ``a`` chosen on networks of known members; ``seed`` is unused."""
    usable = partial(_unusable, mode=mode)
    if (problem := usable(evidence)) is not None:
        raise UsageError(problem)
    settings = [
        _Setting(t, a) for t in temperatures(evidence) for a in (TRIED_A if mode == "offline" else (OFFLINE_A,))
    ]
    score = partial(_score, mode=mode)
    found = tuned(score, settings, evidence, shadow_of(evidence, usable), usable)
    chosen = found.setting
    constants = [f"T = {chosen.temperature:g}", *([f"a = {chosen.offline_a:g}"] if mode == "offline" else [])]
    return Scored(
        found.scores_N,
        found.decision_N,
        _variant(evidence, mode, constants),
        {
            "temperature": chosen.temperature,
            **({"offline_a": chosen.offline_a} if mode == "offline" else {}),
            "temperature_source": found.source,
            "decision": found.rule,
            "fewest_references": fewest_references(evidence, mode),
        },
    )


def _variant(evidence: Evidence, mode: Mode, constants: Sequence[str]) -> str:
    assert evidence.references is not None  # _unusable() has said so
    assert evidence.population is not None
    sizes = [f"K = {len(evidence.references)}", f"Z = {len(evidence.population)}", "1 query"]
    return ", ".join([mode, f"gamma = {GAMMA:g}", *constants, *sizes])


def _unusable(evidence: Evidence, mode: Mode) -> str | None:
    """Why the evidence does not serve, as a sentence; None: it does."""
    population = evidence.population
    if population is None or not len(population):
        return "There is no population: set records aside that no network trains on and nobody audits."
    if population.reference_logits_KZC is None:
        return "The population has no reference_logits_KZC: ask the reference networks about it too."
    return unusable(evidence, mode, at_least=1)


def _score(evidence: Evidence, setting: _Setting, *, mode: Mode) -> Floats:
    seen, references, population = evidence.observed, evidence.references, evidence.population
    assert references is not None
    assert population is not None
    assert population.reference_logits_KZC is not None
    p = partial(_probabilities, temperature=setting.temperature)
    return rmia(
        p(seen.logits_NC[None], seen.label_N)[0],
        p(references.logits_KNC, seen.label_N),
        references.in_KN,
        p(population.logits_ZC[None], population.label_Z)[0],
        p(population.reference_logits_KZC, population.label_Z),
        mode=mode,
        offline_a=setting.offline_a,
    )


def _probabilities(
    logits_KNC: npt.NDArray[np.floating], label_N: npt.NDArray[np.integer], *, temperature: float
) -> Floats:
    # A network at a time: bounded memory.
    logs = [log_true_class_probability(logits_NC, label_N, temperature) for logits_NC in logits_KNC]
    return np.exp(np.stack(logs))


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="rmia-online",
        family="rmia",
        threat_model="The attacker queries the network for its probabilities, has references of the same recipe, "
        "some trained on each record and some not, and a population of other records.",
        function=partial(_attack, mode="online"),
        needs=frozenset({"references", "in-references", "population"}),
    ),
    Attack(
        name="rmia-offline",
        family="rmia",
        threat_model="The attacker queries the network for its probabilities, has references of the same recipe that "
        "did not train on the audited records, and a population of other records.",
        function=partial(_attack, mode="offline"),
        needs=frozenset({"references", "population"}),
    ),
    Attack(
        name="rmia-tuned-online",
        family="rmia",
        threat_model="The attacker queries the network for its logits, has references of the same recipe, some trained "
        "on each record and some not, and a population of other records.",
        function=partial(_tuned, mode="online"),
        needs=frozenset({"references", "in-references", "population"}),
    ),
    Attack(
        name="rmia-tuned-offline",
        family="rmia",
        threat_model="The attacker queries the network for its logits, has references of the same recipe that did not "
        "train on the audited records, and a population of other records.",
        function=partial(_tuned, mode="offline"),
        needs=frozenset({"references", "population"}),
    ),
)
