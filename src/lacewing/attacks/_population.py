"""The population attack: how sure the network is of a record, against records that nobody trained on.

"Attack P" of Ye, Maddi, Murakonda, Bindschaedler and Shokri, "Enhanced membership inference attacks against machine
learning models" (CCS 2022), with phi for the loss. It needs one network, no shadow, and seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lacewing.attacks._logits import phi
from lacewing.attacks._types import CLASSES, EVERY_TASK, Attack, Evidence, Population, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats

FPR = 0.05  # chosen before anything is seen
OWN_CLASS = 50  # population records of a class from which on the class is compared with itself
FEWEST = 20  # below 1/FPR - 1 records no decision could keep the rate


def conformal_p(scores_N: npt.ArrayLike, nonmember_scores_Z: npt.ArrayLike) -> Floats:
    """The conformal p-value of each score among Z scores of non-members, (1 + #{z: score_z >= score}) / (Z + 1).

    A non-member exchangeable with the Z has P(p <= a) <= a for every a, whatever the distribution and with ties too
    (Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005, chapter 2).
    """
    known = np.sort(np.asarray(nonmember_scores_Z, np.float64))
    lower = np.searchsorted(known, np.asarray(scores_N, np.float64), side="left").astype(np.float64)
    return (1.0 + len(known) - lower) / (1.0 + len(known))


def population_rank(phi_N: npt.ArrayLike, phi_Z: npt.ArrayLike) -> Floats:
    """The share of Z non-members whose phi is lower than the record's, made continuous: in (0, 1), rising in phi.

    With r of the Z lower, the value lies in [r/(Z+1), (r+1)/(Z+1)]: the straight line between the two neighbours, and
    d/(1+d) of the last step at a distance of d population standard deviations beyond the largest (likewise below the
    smallest). So records that beat the whole population, as many members do, stay ordered.
    """
    asked, known = np.asarray(phi_N, np.float64), np.asarray(phi_Z, np.float64)
    value, count = np.unique(known, return_counts=True)
    after = np.cumsum(count) / (len(known) + 1)
    place = (np.cumsum(count) - count + 1) / (len(known) + 1)  # of equal values the lowest; the step comes behind them
    spread = float(known.std())
    spread = spread if spread > 1e-12 else 1.0
    left = np.searchsorted(value, asked, side="right") - 1  # the neighbour at or below; -1: none
    low, high = np.maximum(left, 0), np.minimum(left + 1, len(value) - 1)
    width = np.where(high > low, value[high] - value[low], 1.0)
    inside = np.minimum(after[low] + (asked - value[low]) / width * (place[high] - after[low]), place[high])
    beyond = 1.0 - (1.0 - after[-1]) / (1.0 + np.maximum(asked - value[-1], 0.0) / spread)
    before = place[0] / (1.0 + np.maximum(value[0] - asked, 0.0) / spread)
    between = np.where(asked == value[low], place[low], np.where(left == len(value) - 1, beyond, inside))
    return np.where(left < 0, before, between)


def checked_population(evidence: Evidence, name: str, fewest: int) -> Population:
    """The population of ``evidence``.

    Raises `UsageError` where it is absent, smaller than ``fewest``, or does not fit the observed network.
    """
    population, classes = evidence.population, evidence.observed.classes
    if population is None:
        raise UsageError(f"The attack '{name}' needs a population: records that nobody trained on and nobody audits.")
    logits, label = population.logits_ZC, population.label_Z
    if len(population) < fewest:
        raise UsageError(f"population holds {len(population)} records: the attack '{name}' needs at least {fewest}.")
    if label.ndim != 1 or logits.shape != (len(label), classes):
        raise UsageError(
            f"population has logits of shape {logits.shape} and labels of shape {label.shape}: "
            f"give (Z, {classes}) and (Z,)."
        )
    if not np.isfinite(logits).all():
        raise UsageError("population has logits that are NaN or infinite: measure the network again in fp32.")
    if not np.issubdtype(label.dtype, np.integer) or label.min() < 0 or label.max() >= classes:
        raise UsageError(f"population has labels that are no class: give whole numbers from 0 to {classes - 1}.")
    return population


def _attack(evidence: Evidence, *, seed: int) -> Scored:
    """Rank each record among the population of its class, or among all where that is small.

    "Member" is a conformal p-value of at most 5 %: no more than 5 % of non-members are expected to be called members.
    ``seed`` is not used: nothing is drawn.
    """
    seen, population = evidence.observed, checked_population(evidence, "population", FEWEST)
    phi_N = phi(seen.logits_NC, seen.label_N)
    phi_Z = phi(population.logits_ZC, population.label_Z)
    own_C = np.bincount(population.label_Z, minlength=seen.classes) >= OWN_CLASS
    with_all = ~own_C[seen.label_N]
    scores, p = np.zeros(len(phi_N)), np.ones(len(phi_N))
    groups = [(seen.label_N == c, phi_Z[population.label_Z == c]) for c in np.flatnonzero(own_C)]
    for rows, known in [*groups, (with_all, phi_Z)]:
        scores[rows] = population_rank(phi_N[rows], known)
        p[rows] = conformal_p(phi_N[rows], known)
    notes = {
        "population": len(population),
        "false_positive_rate": FPR,
        "classes_compared_with_all": int((~own_C).sum()),
        "records_compared_with_all": int(with_all.sum()),
    }
    of = "phi, per class" if seen.task in CLASSES else "the score of the task"
    return Scored(scores, p <= FPR, f"Attack P on {of}, FPR 5 %, Z = {len(population)}", notes)


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="population",
        family="population",
        threat_model="The attacker sees the class probabilities of a record, knows its class, and holds records of the "
        "same source that the network was not trained on; no other network is needed.",
        function=_attack,
        needs=frozenset({"population"}),
        tasks=EVERY_TASK,
    ),
)
