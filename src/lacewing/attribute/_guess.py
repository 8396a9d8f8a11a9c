"""Guesses of an unknown column: from the network's answers under each candidate value, and by imputation alone.

Mehnaz, Dibbo, Kabir, Li and Bertino, "Are your sensitive attributes private? Novel model inversion attribute inference
attacks on classification models" (USENIX Security 2022, arXiv 2201.09370), sections 4.1 and 4.2: CSMIA and LOMIA.
Fredrikson, Jha and Ristenpart (CCS 2015), and Jayaraman and Evans, "Are attribute inference attacks just imputation?"
(CCS 2022, arXiv 2209.01292), section 3: the network's answer weighed by what the other columns say.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
TREES, LEAF = 200, 2


def by_confidence(answer_NV: npt.ArrayLike, right_NV: npt.ArrayLike) -> Indices:
    """(N,) CSMIA: which of V values each record has, by the network's confidence under each (section 4.1).

    One value alone under which the network is right: that one. Several: of these the one of the highest confidence.
    None: the one of the lowest confidence, where the network is wrong least surely. Ours: confidences are compared as
    log-odds, which do not tie at probabilities of 1.

    Args:
        answer_NV: log-odds of the class that is answered under each value.
        right_NV: whether the network answers the true class.

    Raises:
        UsageError: shapes differ, or a value is not finite.
    """
    answer, right = _checked(answer_NV, right_NV)
    surest = np.where(right, answer, -np.inf).argmax(axis=1)
    return np.asarray(np.where(right.any(axis=1), surest, answer.argmin(axis=1)), np.int64)


def by_label(right_NV: npt.ArrayLike, other_NF: npt.ArrayLike, prior_NV: npt.ArrayLike, *, seed: int) -> Indices:
    """(N,) LOMIA: as `by_confidence`, by predicted classes alone (section 4.2).

    Records with one value alone under which the network is right teach a model of that value from the other features;
    it answers for all other records. Ours: the model is a forest of 200 trees; where fewer than two values were taught,
    imputation answers.

    Args:
        right_NV: whether the network answers the true class under each value.
        other_NF: the other features, with the label.
        prior_NV: what `imputation` says.
        seed: of the forest.
    """
    right = np.asarray(right_NV, bool)
    alone = right.sum(axis=1) == 1
    guess: Indices = np.asarray(right.argmax(axis=1), np.int64)
    if alone.all():
        return guess
    rest = np.asarray(prior_NV, np.float64)[~alone]
    if len(np.unique(guess[alone])) > 1:
        other = np.asarray(other_NF, np.float64)
        rest = imputation(other[alone], guess[alone], other[~alone], right.shape[1], seed=seed)
    guess[~alone] = rest.argmax(axis=1)
    return guess


def likeliest(phi_NV: npt.ArrayLike, prior_NV: npt.ArrayLike) -> Indices:
    """(N,) the value of the largest P(value | other features) P(true class | value, other features).

    The first is ``prior_NV``, imputed without the label, the second the network's answer, of log-odds ``phi_NV``.
    Raises `UsageError` where shapes differ, values are not finite or a prior is not above 0.
    """
    phi, _ = _checked(phi_NV, np.ones_like(np.asarray(phi_NV), bool))
    prior = np.asarray(prior_NV, np.float64)
    if prior.shape != phi.shape or not (prior > 0).all():
        raise UsageError(f"prior has shape {prior.shape} beside {phi.shape}: give probabilities above 0.")
    return np.asarray((np.log(prior) - np.logaddexp(0.0, -phi)).argmax(axis=1), np.int64)


def imputation(
    known_ZF: npt.ArrayLike, value_Z: npt.NDArray[np.integer], asked_NF: npt.ArrayLike, values: int, *, seed: int
) -> Floats:
    """(N, V) probabilities of each value by the other features alone, learned on records of known value.

    A forest of 200 trees (scikit-learn), leaves of at least 2 records, in one thread; each value's probability is at
    least 1 / (200 V), so that no value is impossible. Choices are ours. Equal arguments give equal numbers.

    Args:
        known_ZF: features of the records to learn from.
        value_Z: their values, 0..V-1.
        asked_NF: features of the records to impute.
        values: V.
        seed: of the forest.
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, random_state=seed, n_jobs=1)
    forest.fit(np.asarray(known_ZF, np.float64), value_Z)
    asked = np.asarray(asked_NF, np.float64)
    found = np.zeros((len(asked), values))
    found[:, forest.classes_] = forest.predict_proba(asked)
    return (found + 1.0 / (TREES * values)) / (1.0 + 1.0 / TREES)


def _checked(phi_NV: npt.ArrayLike, right_NV: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    phi, right = np.asarray(phi_NV, np.float64), np.asarray(right_NV, bool)
    if phi.ndim != 2 or phi.shape[1] < 2 or right.shape != phi.shape or not np.isfinite(phi).all():
        raise UsageError(f"phi has shape {phi.shape} and right {right.shape}: give (N, V) of finite numbers, V from 2.")
    return phi, right
