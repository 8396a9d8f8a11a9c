"""LiRA with a conjugate prior: each record's normal laws are averaged over what the references leave open about them.

"nig-t, after BaVarIA": Braennvall, "Exponential-family membership inference: from LiRA and RMIA to BaVarIA" (2026),
arXiv 2603.11799, puts a conjugate normal-inverse-gamma prior on a record's mean and variance, so that its predictive
law is a Student t. Posterior and predictive: Murphy, "Conjugate Bayesian analysis of the Gaussian distribution" (2007).
The values of the prior and the offline score are ours.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attacks._lira import (
    MIN_STD,
    Mode,
    checked_membership,
    checked_phi,
    columns_of,
    fewest_references,
    has_queries,
    log_odds,
    moments,
    too_few,
    unusable,
)
from lacewing.attacks._tuning import shadow_of, tuned
from lacewing.attacks._types import EVERY_TASK, Attack, Evidence, Scored
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Bools, Floats

TAIL, MIDDLE = 0.01, 1.0  # kappa: keeps the tail of the ROC; lifts the AUC at the cost of the tail
NU = 4.0


def lira_nig(
    target_phi_NQ: npt.ArrayLike,
    reference_phi_KNQ: npt.ArrayLike,
    reference_in_KN: npt.ArrayLike,
    *,
    mode: Mode = "online",
    kappa: float = TAIL,
    nu: float = NU,
) -> Floats:
    """Scores (N,), higher for members, of N records under Q fixed queries, from K reference networks; K = 2 will do.

    Arrays are those of `lira`. Of each query, IN and OUT apart, a record's log-odds are taken as normal with unknown
    mean and variance, s^2 ~ scaled inverse chi-square(nu, v0) and mean ~ N(m0, s^2 / kappa). m0 is the mean of all
    values of the kind and v0 their pooled variance within records; where no record has two of the kind (K = 2), half
    of the variance of the records' differences IN - OUT stands for v0, or without IN references the variance of all
    values, which is too large. From n values of mean x and sum of squares S about it

        kappa_n = kappa + n,  nu_n = nu + n,  m_n = (kappa m0 + n x) / kappa_n
        v_n = (nu v0 + S + kappa n / kappa_n (x - m0)^2) / nu_n

    and another value has the law t(nu_n), shifted by m_n and scaled by sqrt(v_n (1 + 1 / kappa_n)). The score is the
    mean over queries of

    - ``mode="online"``: log t(phi; IN) - log t(phi; OUT), natural logarithms;
    - ``mode="offline"``: log F(phi; OUT) - log(1 - F(phi; OUT)), F the distribution function: one-sided, and comparable
      between records of different nu_n. In logarithms, so that it does not saturate.

    A small ``kappa`` lets a record's own values decide its mean; a large one draws it to the mean of all, which helps
    records with few references and blurs those that stand out. All sums are float64. Raises `UsageError` for what
    `lira` does (K = 1 included), and for ``kappa`` or ``nu`` that are not positive.
    """
    if mode not in ("online", "offline"):
        raise UsageError(f"mode = '{mode}' is unknown: {did_you_mean(str(mode), ('online', 'offline'))}")
    for name, value in (("kappa", kappa), ("nu", nu)):
        if not 0.0 < value < np.inf:
            raise UsageError(f"{name} = {value} is out of range: give a number above 0, such as {NU:g} for nu.")
    target, reference = checked_phi(target_phi_NQ, reference_phi_KNQ)
    in_KN = checked_membership(reference_in_KN, len(reference), len(target))
    if (problem := too_few(in_KN, mode)) is not None:
        raise UsageError(problem)
    in_variance, out_variance = _prior_variances(reference, in_KN, mode)
    out = _predictive(reference, ~in_KN, out_variance, kappa, nu)
    if mode == "online":
        inside = _predictive(reference, in_KN, in_variance, kappa, nu)
        score_NQ = _log_density(target, inside) - _log_density(target, out)
    else:
        z = (target - out.centre) / out.scale
        score_NQ = _log_tail(z, out.freedom) - _log_tail(-z, out.freedom)
    score_N: Floats = score_NQ.mean(axis=1)
    return score_N


class _StudentT(NamedTuple):
    """Student's t laws of records and queries."""

    centre: Floats  # (N, Q)
    scale: Floats  # (N, Q)
    freedom: Floats  # (N, 1)


def _predictive(
    reference: npt.NDArray[np.floating], chosen_KN: Bools, prior_variance_Q: Floats, kappa: float, nu: float
) -> _StudentT:
    """The law of another value beside those of the chosen references."""
    mean, _, squares = moments(reference, chosen_KN, median=False)
    n = chosen_KN.sum(axis=0)[:, None].astype(np.float64)
    prior_mean = (n * mean).sum(axis=0) / n.sum()
    strength, freedom = kappa + n, nu + n
    between = kappa * n / strength * (mean - prior_mean) ** 2
    variance = (nu * prior_variance_Q + squares + between) / freedom
    return _StudentT((kappa * prior_mean + n * mean) / strength, np.sqrt(variance * (1 + 1 / strength)), freedom)


def _prior_variances(reference: npt.NDArray[np.floating], in_KN: Bools, mode: Mode) -> tuple[Floats, Floats]:
    """The variances (Q,) within records of IN and OUT values, each at least `MIN_STD` squared."""
    found = []
    for chosen_KN in (in_KN, ~in_KN):
        spare = np.maximum(chosen_KN.sum(axis=0) - 1, 0).sum()
        if spare:
            found.append(moments(reference, chosen_KN, median=False)[2].sum(axis=0) / spare)
        elif mode == "online":
            means = [moments(reference, kind, median=False)[0] for kind in (in_KN, ~in_KN)]
            found.append((means[0] - means[1]).var(axis=0) / 2)
        elif chosen_KN.any():
            found.append(np.array([query[chosen_KN].var(dtype=np.float64) for query in np.moveaxis(reference, 2, 0)]))
        else:
            found.append(np.ones(reference.shape[2]))  # offline: not used
    return np.maximum(found[0], MIN_STD**2), np.maximum(found[1], MIN_STD**2)


def _log_density(values_NQ: Floats, law: _StudentT) -> Floats:
    from scipy.special import betaln

    z = (values_NQ - law.centre) / law.scale
    constant = betaln(law.freedom / 2, 0.5) + np.log(law.freedom) / 2
    density: Floats = -constant - np.log(law.scale) - (law.freedom + 1) / 2 * np.log1p(z**2 / law.freedom)
    return density


def _log_tail(z: Floats, freedom: Floats) -> Floats:
    """log P(T <= z) of Student's t, also where the probability itself is too small for a float."""
    from scipy.special import betaln, stdtr

    half = freedom / 2
    with np.errstate(divide="ignore"):
        exact = np.log(stdtr(freedom, z))
    # The first term of the incomplete beta function at freedom / (freedom + z^2), a vanishing number there.
    far = -half * np.log1p(z**2 / freedom) - np.log(half) - betaln(half, 0.5) - np.log(2.0)
    tail: Floats = np.where(exact > -600.0, exact, far)
    return tail


# The registry ---------------------------------------------------------------------------------------------------------


def _attack(evidence: Evidence, *, seed: int, mode: Mode) -> Scored:
    """The attack on what an attacker holds; ``seed`` is unused, nothing is drawn."""
    usable = partial(unusable, mode=mode, at_least=1)
    if (problem := usable(evidence)) is not None:
        raise UsageError(problem)
    assert evidence.references is not None  # unusable() has said so
    by_queries = has_queries(evidence) and (evidence.shadow is None or has_queries(evidence.shadow))

    def score(held: Evidence, kappa: float) -> Floats:
        return lira_nig(*log_odds(held, by_queries), mode=mode, kappa=kappa)

    shadow = shadow_of(evidence, usable)
    kappa, source, scores, decision, rule = tuned(score, (TAIL, MIDDLE), evidence, shadow, usable)
    if decision is None and mode == "online":
        decision, rule = scores > 0, f"likelihood ratio above 1, since {shadow.why_not}"
    queries = len(columns_of(evidence)) if by_queries else 1
    size = [f"K = {len(evidence.references)}", "1 query" if queries == 1 else f"{queries} queries"]
    return Scored(
        scores,
        decision,
        ", ".join([mode, f"kappa = {kappa:g}", f"nu = {NU:g}", *size]),
        {
            "kappa": kappa,
            "kappa_source": source,
            "decision": rule,
            "fewest_references": fewest_references(evidence, mode),
            "queries": queries,
        },
    )


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="nig-t-online",
        family="nig-t",
        threat_model="The attacker queries the network for its logits and trains references of the same recipe, some "
        "on each record and some not; one of each is enough.",
        function=partial(_attack, mode="online"),
        needs=frozenset({"references", "in-references"}),
        tasks=EVERY_TASK,
    ),
    Attack(
        name="nig-t-offline",
        family="nig-t",
        threat_model="The attacker queries the network for its logits and has references of the same recipe that did "
        "not train on the audited records; one is enough.",
        function=partial(_attack, mode="offline"),
        needs=frozenset({"references"}),
        tasks=EVERY_TASK,
    ),
)
