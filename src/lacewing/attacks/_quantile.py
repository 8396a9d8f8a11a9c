"""Quantile regression: how sure would the network be of such a record, had it not been trained on it?

After Bertran, Tang, Kearns, Morgenstern, Roth and Wu, "Scalable membership inference attacks via quantile regression"
(NeurIPS 2023): one regression on non-members gives each record a distribution of phi of its own. Theirs looks at the
record itself and is a network; ours has no raw records, looks at the given label and the outputs for the OTHER
classes, and is a Gaussian whose mean and log standard deviation are ridge regressions. The variant says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attacks._logits import phi
from lacewing.attacks._population import FPR, checked_population, conformal_p
from lacewing.attacks._types import Attack, Evidence, Scored
from lacewing.metrics import Floats

FEWEST = 100  # population records
FOLDS = 5
# exp(-20) = 2e-9: a smaller share of a class among the others tells nothing more, and a line through it would run away.
SMALLEST_LOG_SHARE = -20.0
PENALTIES = np.logspace(-1.0, 5.0, 13)


class Gaussian(NamedTuple):
    """phi of a non-member with F features x: mean x.mean_F + mean, log standard deviation x.log_std_F + log_std."""

    mean_F: Floats
    mean: float
    log_std_F: Floats
    log_std: float
    bounds: tuple[float, float]  # within which the log standard deviation is kept: a factor of 10 up and down


def other_class_features(logits_NC: npt.ArrayLike, label_N: npt.ArrayLike) -> Floats:
    """What the regression sees of N records, of shape (N, 2 C + 2): nothing that depends on the label's own logit.

    Columns: one-hot of the given label y (C); log q_k (C; 0 for k = y) with q_k = p_k / (1 - p_y) the shares of the
    other classes among themselves, cut at -20; the entropy of q in nats; the largest log q_k. phi is the label's logit
    minus the log-sum-exp of the others, so it cannot be read from them. Finite for logits of +-1e4.
    """
    logits, label = np.asarray(logits_NC, np.float64), np.asarray(label_N)
    one_hot = np.eye(logits.shape[1])[label]
    others = np.where(one_hot == 1.0, -np.inf, logits)
    others -= others.max(axis=1, keepdims=True)
    log_q = others - np.log(np.exp(others).sum(axis=1, keepdims=True))
    log_q = np.where(one_hot == 1.0, 0.0, np.maximum(log_q, SMALLEST_LOG_SHARE))
    q = np.where(one_hot == 1.0, 0.0, np.exp(log_q))
    largest = np.where(one_hot == 1.0, -np.inf, log_q).max(axis=1)
    return np.column_stack([one_hot, log_q, -(q * log_q).sum(axis=1), largest])


def fit_gaussian(features_ZF: Floats, phi_Z: Floats) -> Gaussian:
    """Ridge regression of phi, then of the log of the residuals' size; penalties by leave-one-out error.

    The standard deviation is scaled so that the standardised residuals have mean square 1.
    """
    ridge = _ridge(features_ZF)
    mean_F, mean = ridge(phi_Z)
    residual = np.abs(phi_Z - _line(features_ZF, mean_F, mean))
    overall = float(np.sqrt(np.mean(residual**2)))
    if overall < 1e-12:  # phi is the same for all, or exactly on the line: there is no scale to learn
        return Gaussian(mean_F, mean, np.zeros_like(mean_F), 0.0, (0.0, 0.0))
    # A residual of zero would be an outlier of minus infinity on the log scale.
    log_std_F, log_std = ridge(np.log(np.maximum(residual, overall / 1000)))
    middle, reach = float(np.log(overall)), float(np.log(10.0))
    std = np.exp(np.clip(_line(features_ZF, log_std_F, log_std), middle - reach, middle + reach))
    up = float(np.log(np.mean((residual / std) ** 2))) / 2
    return Gaussian(mean_F, mean, log_std_F, log_std + up, (middle + up - reach, middle + up + reach))


def standardised(gaussian: Gaussian, features_NF: Floats, phi_N: Floats) -> Floats:
    """(phi - mean)/std of each record, the Gaussian quantile it reaches on the scale of z (higher for members)."""
    log_std = np.clip(_line(features_NF, gaussian.log_std_F, gaussian.log_std), *gaussian.bounds)
    z: Floats = (phi_N - _line(features_NF, gaussian.mean_F, gaussian.mean)) / np.exp(log_std)
    return z


def _attack(evidence: Evidence, *, seed: int) -> Scored:
    """z under the Gaussian fitted to the whole population.

    "Member" is a conformal p-value of at most 5 % among the population's own z, each from a regression on the four
    fifths of the population that do not hold it (``seed`` draws the fifths): the rate rests on no Gaussian shape.
    """
    from threadpoolctl import threadpool_limits

    seen, population = evidence.observed, checked_population(evidence, "quantile", FEWEST)
    features_Z = other_class_features(population.logits_ZC, population.label_Z)
    phi_Z = phi(population.logits_ZC, population.label_Z)
    fold_Z = np.random.default_rng(seed).permutation(len(phi_Z)) % FOLDS
    held_out_Z = np.zeros(len(phi_Z))
    with threadpool_limits(1):  # one thread: sums in one order on any number of cores
        for held in (fold_Z == fold for fold in range(FOLDS)):
            fitted = fit_gaussian(features_Z[~held], phi_Z[~held])
            held_out_Z[held] = standardised(fitted, features_Z[held], phi_Z[held])
        whole = fit_gaussian(features_Z, phi_Z)
    features_N = other_class_features(seen.logits_NC, seen.label_N)
    scores = standardised(whole, features_N, phi(seen.logits_NC, seen.label_N))
    notes = {
        "population": len(population),
        "false_positive_rate": FPR,
        "features": "given label and relative probabilities of the other classes (not the record)",
    }
    variant = f"Gaussian ridge regression on the other classes' outputs, FPR 5 %, Z = {len(population)}"
    return Scored(scores, conformal_p(scores, held_out_Z) <= FPR, variant, notes)


def _ridge(x_ZF: Floats) -> Callable[[Floats], tuple[Floats, float]]:
    """Ridge regression on standardised columns: from y (Z,) to coefficients and intercept for the columns as they are.

    The penalty has the least mean square of leave-one-out errors, the first of equals. These are (y - fit) / (1 - h),
    with h the diagonal of the hat matrix; one eigendecomposition of the smaller of X'X and XX' serves all penalties
    and every y (Golub, Heath and Wahba, Technometrics 21, 1979; the choice is that of scikit-learn's `RidgeCV`).
    """
    n = len(x_ZF)
    centre_F, spread_F = x_ZF.mean(axis=0), x_ZF.std(axis=0)
    spread_F = np.where(spread_F > 1e-12, spread_F, 1.0)
    x = (x_ZF - centre_F) / spread_F
    x -= x.mean(axis=0)
    wide = n < x.shape[1]
    values_R, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    values_R = np.maximum(values_R, 0.0)
    # Principal directions (F, R) and the records along them (Z, R); the wide form's have length sqrt(value), not 1.
    along_FR, along_ZR = (x.T @ vectors, vectors * values_R) if wide else (vectors, x @ vectors)
    square_R = np.where(values_R > 0, values_R, 1.0) if wide else np.ones_like(values_R)
    shrunk_RP = 1.0 / (square_R[:, None] * (values_R[:, None] + PENALTIES))
    kept_ZP = 1.0 - 1.0 / n - along_ZR**2 @ shrunk_RP  # 1 - h

    def solve(y_Z: Floats) -> tuple[Floats, float]:
        mean = y_Z.mean()
        y = y_Z - mean
        coordinate_RP = (along_ZR.T @ y)[:, None] * shrunk_RP
        errors_ZP = (y[:, None] - along_ZR @ coordinate_RP) / kept_ZP
        best = int((errors_ZP**2).mean(axis=0).argmin())
        slope_F: Floats = (along_FR @ coordinate_RP[:, best]) / spread_F
        return slope_F, float(mean - (slope_F * centre_F).sum())

    return solve


def _line(x_NF: Floats, slope_F: Floats, intercept: float) -> Floats:
    """x.slope + intercept, row by row: a matrix product could round a row differently at another place."""
    line: Floats = (x_NF * slope_F).sum(axis=1) + intercept
    return line


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="quantile",
        family="quantile",
        threat_model="The attacker sees the class probabilities of a record, knows its class, and holds at least 100 "
        "records of the same source that the network was not trained on; no other network is needed.",
        function=_attack,
        needs=frozenset({"population"}),
    ),
)
