"""The subspace that a fully connected first layer leaves of its training records: linear algebra for `_span`.

Axes: H units, D inputs, R directions, N records. By the chain rule the gradient of a loss with respect to the first
layer's weights is a sum over records of (error of each unit) times (the record). So after any number of steps of
gradient descent, with momentum and weight decay,

    weights = c initialisation + (a matrix whose rows lie in the span of the training records)

with one number c for the whole layer, at every weight that was not pruned. Records are as the network sees them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lacewing.metrics import Bools, Floats

SWEEPS = 15  # of alternating least squares
RIDGE = 1e-4  # of alternating least squares, times the largest singular value
ROUNDING = 1e-5  # singular values below so much of the largest one are rounding of fp32
POOL_ROUNDS = 4  # of the regression on all candidates
_TINY = float(np.finfo(np.float64).tiny)
POOL_RIDGE = {True: 1e-3, False: 1e-1}  # by whether the initialisation is known, times the mean square


class Directions(NamedTuple):
    """R orthonormal directions of the inputs, and how far each is trusted to lie in the span, 0 to 1."""

    rows_RD: Floats
    trust_R: Floats


def share_left(weights_HD: Floats, initial_HD: Floats, rank: int) -> float:
    """The number c that weight decay, over all steps, has multiplied the initialisation of an unpruned layer with.

    It makes the singular values of weights - c initialisation beyond the first ``rank``, the number of training
    records, smallest: they vanish at the true c. Where ``rank`` is not below H and D it is that of least squares.
    """
    from scipy.optimize import minimize_scalar  # here, since a report loads no scipy

    square = float((initial_HD**2).sum())
    if square == 0.0:
        return 0.0
    first = float((weights_HD * initial_HD).sum()) / square
    if rank >= min(weights_HD.shape):
        return first
    a, b = (m if m.shape[0] <= m.shape[1] else m.T for m in (weights_HD, initial_HD))
    aa, ab, bb = a @ a.T, a @ b.T, b @ b.T

    def beyond(c: float) -> float:
        return float(np.linalg.eigvalsh(aa - c * (ab + ab.T) + c * c * bb)[:-rank].sum())

    reach = 0.25 * abs(first) + 0.01
    found = minimize_scalar(beyond, bounds=(first - reach, first + reach), method="bounded", options={"xatol": 1e-9})
    return float(found.x)


def known(weights_HD: Floats, initial_HD: Floats, kept_HD: Bools, rank: int) -> Directions:
    """The row space of weights - c initialisation; of a pruned layer that of its low-rank completion."""
    rank = min(rank, *weights_HD.shape)
    if not kept_HD.all():
        rows = completed(weights_HD, kept_HD, rank, initial_HD)
        return Directions(rows, np.ones(len(rows)))
    update = weights_HD - share_left(weights_HD, initial_HD, rank) * initial_HD
    _, values, rows = np.linalg.svd(update, full_matrices=False)
    real = int((values[:rank] > ROUNDING * max(values[0], _TINY)).sum())
    return Directions(rows[:real], np.ones(real))


def unknown(weights_HD: Floats, kept_HD: Bools, rank: int) -> Directions:
    """The right singular directions of the weights, each trusted as far as its singular value stands out of noise.

    The initialisation counts as noise of independent entries. The trust is the squared cosine between a singular vector
    of the weights and the true one: Gavish and Donoho, "Optimal shrinkage of singular values" (2017), section II.C;
    where the initialisation is small it is near 1. The standard deviation of the noise is that whose Marchenko-Pastur
    median equals the median of the smallest singular values (those that ``rank`` records leave, or a quarter), after
    Gavish and Donoho (2014), section III.E. A pruned layer is completed as though its initialisation were zero.
    """
    if not kept_HD.all():
        rows = completed(weights_HD, kept_HD, min(rank, *weights_HD.shape))
        return Directions(rows, np.ones(len(rows)))
    _, values, rows = np.linalg.svd(weights_HD, full_matrices=False)
    few, many = sorted(weights_HD.shape)
    beta, noisy = few / many, max(few - rank, few // 4, 1)
    noise = float(np.median(values[-noisy:])) / np.sqrt(many * _median_square(beta))
    y2 = (values / max(noise * np.sqrt(many), _TINY)) ** 2
    above = np.maximum(y2 - 1 - beta, 2 * np.sqrt(beta))  # of values within the noise: its edge
    x2 = (above + np.sqrt(np.maximum(above**2 - 4 * beta, 0.0))) / 2
    other = 1.0 if weights_HD.shape[0] <= weights_HD.shape[1] else beta  # right vectors are of the longer side, or not
    trust = (x2**2 - beta) / (x2**2 + other * x2)
    return Directions(rows, np.clip(trust, 0.0, 1.0))


def _median_square(beta: float) -> float:
    """Median of the Marchenko-Pastur law: squared singular values of noise of variance 1 / the longer side."""
    low, high = (1 - np.sqrt(beta)) ** 2, (1 + np.sqrt(beta)) ** 2
    angle = (np.arange(20_000) + 0.5) * np.pi / 20_000  # of the middle, so that the ends do not diverge
    t = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    mass = np.cumsum(np.sqrt((high - t) * (t - low)) / t * np.sin(angle))
    return float(t[np.searchsorted(mass, mass[-1] / 2)])


def completed(weights_HD: Floats, kept_HD: Bools, rank: int, initial_HD: Floats | None = None) -> Floats:
    """(rank, D) orthonormal rows of the matrix of this rank that fits the kept entries; the others are not seen.

    Ridge-regularised alternating least squares from the singular vectors of the matrix with zeros (Hastie, Mazumder,
    Lee and Zadeh, "Matrix completion and low-rank SVD via fast alternating least squares", JMLR 2015, section 2). Where
    the initialisation is known, it fits weights - c initialisation, and c is a third part that alternates.
    """
    kept = kept_HD.astype(np.float64)
    weights, initial = weights_HD * kept, None if initial_HD is None else initial_HD * kept
    c = 0.0 if initial is None else _left(weights, initial)
    _, values, right = np.linalg.svd(weights if initial is None else weights - c * initial, full_matrices=False)
    if values[0] == 0.0:
        return right[:rank]
    ridge = RIDGE * values[0] * np.eye(rank)
    rows = right[:rank].T * np.sqrt(values[:rank])  # (D, R)
    for _ in range(SWEEPS):
        update = weights if initial is None else weights - c * initial
        units = _solve(kept, update, rows, ridge)
        rows = _solve(kept.T, update.T, units, ridge)
        if initial is not None:
            c = _left(weights - kept * (units @ rows.T), initial)
    return np.asarray(np.linalg.qr(rows)[0].T)


def _left(weights: Floats, initial: Floats) -> float:
    square = float((initial**2).sum())
    return float((weights * initial).sum()) / square if square else 0.0


def _solve(kept_AB: Floats, seen_AB: Floats, rows_BR: Floats, ridge_RR: Floats) -> Floats:
    """(A, R) for each of A the ridge regression of its kept entries on the rows of B."""
    rank = rows_BR.shape[1]
    squares = kept_AB @ (rows_BR[:, :, None] * rows_BR[:, None, :]).reshape(len(rows_BR), -1)
    return np.asarray(
        np.linalg.solve(squares.reshape(-1, rank, rank) + ridge_RR, (seen_AB @ rows_BR)[..., None])[..., 0]
    )


def shares(inputs_ND: Floats, directions: Directions) -> Floats:
    """(N,) the share of each record's squared norm that lies in the span, 0 to 1; 0 of a record of zeros."""
    square = np.einsum("nd,nd->n", inputs_ND, inputs_ND)
    inside = (inputs_ND @ directions.rows_RD.T) ** 2 @ directions.trust_R
    return np.asarray(np.divide(inside, square, out=np.zeros_like(square), where=square > 0))


def energies(weights_HD: Floats, initial_HD: Floats | None, kept_HD: Bools, inputs_ND: Floats) -> Floats:
    """(N,) how much each candidate record takes part in the update: mean squares over units, summing to 1.

    Each unit's update, at its kept inputs, is a sum of the training records at these inputs. The records are the same
    for all units, so few candidates have a coefficient anywhere: a regression on all candidates at once with joint
    sparsity (M-FOCUSS: Cotter, Rao, Engan and Kreutz-Delgado, "Sparse solutions to linear inverse problems with
    multiple measurement vectors", IEEE TSP 2005, section IV, p = 0), which a mask does not blind as long as units
    together keep enough inputs. In each round c is that of least squares beside the regression.

    Args:
        weights_HD: after training.
        initial_HD: before training; None: not known, the regression is then on the weights.
        kept_HD: True for weights that were not pruned.
        inputs_ND: the candidates, as the network sees them.
    """
    norms = np.linalg.norm(inputs_ND, axis=1, keepdims=True)
    unit = np.divide(inputs_ND, norms, out=np.zeros_like(inputs_ND), where=norms > 0)
    patterns, of_unit = np.unique(kept_HD, axis=0, return_inverse=True)  # units with equal masks are solved together
    blocks = [(kept, of_unit.ravel() == number) for number, kept in enumerate(patterns) if kept.any()]
    ridge = POOL_RIDGE[initial_HD is not None]
    share_N = np.full(len(unit), 1 / len(unit))
    for _ in range(POOL_ROUNDS):
        scaled = unit * np.sqrt(share_N)[:, None]
        of_weights, of_initial, along, square = [], [], 0.0, 0.0
        for kept, units in blocks:
            z, w = scaled[:, kept], weights_HD[units][:, kept]
            targets = w if initial_HD is None else np.concatenate([w, initial_HD[units][:, kept]])
            found = _ridge(z, targets, ridge)
            of_weights.append(found[:, : len(w)])
            if initial_HD is not None:
                of_initial.append(found[:, len(w) :])
                rest, rest0 = np.split(targets - found.T @ z, 2)
                along, square = along + float((rest * rest0).sum()), square + float((rest0**2).sum())
        c = along / square if square else 0.0
        found = np.concatenate(of_weights, axis=1) - (c * np.concatenate(of_initial, axis=1) if of_initial else 0.0)
        energy = (found**2).sum(axis=1) * share_N
        if not energy.sum() > 0:
            break
        share_N = energy / energy.sum()
    return share_N


def _ridge(z_NS: Floats, target_US: Floats, ridge: float) -> Floats:
    """(N, U) coefficients of the rows of z for U targets, by the smaller of the two equal systems."""
    n, s = z_NS.shape
    small = z_NS @ z_NS.T if n <= s else z_NS.T @ z_NS
    small[np.diag_indices_from(small)] += ridge * max(float(np.trace(small)) / len(small), _TINY)
    if n <= s:
        return np.asarray(np.linalg.solve(small, z_NS @ target_US.T))
    return np.asarray(z_NS @ np.linalg.solve(small, target_US.T))
