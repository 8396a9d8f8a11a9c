"""The informed adversary: all training records but one are known, and the missing one is solved for.

Balle, Cherubin and Hayes, "Reconstructing training data with informed adversaries" (IEEE S&P 2022, arXiv 2201.04845),
section IV: a convex model with an intercept, trained to optimality, has a gradient of zero, and what the known records
leave of it is the missing record's. Here for softmax regression with a mask. Axes: N records, D inputs, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats

GRADIENT = 3e-8  # of a solved training: the largest entry of the gradient
_STEPS = 20_000


class Solved(NamedTuple):
    """Softmax regression at its optimum."""

    weights_DC: Floats
    intercept_C: Floats
    gradient: float  # the largest entry of the gradient there


class Rebuilt(NamedTuple):
    """The missing record."""

    label: int
    x_D: Floats  # NaN where ``found_D`` is False
    found_D: Bools  # inputs that the mask left a weight for, of a class that the record has an error in


def softmax_regression(
    x_ND: npt.ArrayLike, y_N: npt.ArrayLike, *, l2: float, kept_DC: Bools | None = None, classes: int | None = None
) -> Solved:
    """Minimise mean cross-entropy + l2 / 2 ||kept weights||^2, the intercept free, in double precision.

    Args:
        x_ND: records.
        y_N: labels, 0..C-1.
        l2: the penalty, above 0.
        kept_DC: True for weights that are trained; the others are zero. None: all.
        classes: C; by default the largest label and one.

    Raises:
        UsageError: shapes that do not fit, l2 not above 0, or a gradient above 3e-8 at the end.
    """
    from scipy.optimize import minimize  # here: it takes longer to load than all of this package

    x, y = np.asarray(x_ND, np.float64), np.asarray(y_N)
    if x.ndim != 2 or y.shape != (len(x),) or not len(x) or not np.issubdtype(y.dtype, np.integer):
        raise UsageError(f"x has shape {x.shape} and y {y.shape}: give one row and one whole number a record.")
    if not np.isfinite(x).all():
        raise UsageError("x holds NaN or infinite values: drop these records or fill in the values.")
    if not 0 < l2 < np.inf:
        raise UsageError(f"l2 = {l2}: give a number above 0, without which there may be no optimum.")
    n, d = x.shape
    c = int(y.max()) + 1 if classes is None else classes
    if y.min() < 0 or y.max() >= c:
        raise UsageError(f"y holds labels from {y.min()} to {y.max()}: give whole numbers from 0 to {c - 1}.")
    kept = np.ones((d, c), bool) if kept_DC is None else kept_DC
    if kept.shape != (d, c):
        raise UsageError(f"kept has shape {kept.shape}: give (D, C) = ({d}, {c}).")
    true = np.eye(c)[y]

    def loss(theta: Floats) -> tuple[float, Floats]:
        weights, intercept = theta[: d * c].reshape(d, c) * kept, theta[d * c :]
        logits = x @ weights + intercept
        logits -= logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        error = (np.exp(logits - log_total) - true) / n
        value = float(-((logits - log_total) * true).sum() / n + l2 / 2 * (weights**2).sum())
        return value, np.concatenate([((x.T @ error + l2 * weights) * kept).ravel(), error.sum(axis=0)])

    options = {"maxiter": _STEPS, "maxfun": 4 * _STEPS, "gtol": GRADIENT / 3, "ftol": 0.0, "maxcor": 30}
    found = minimize(loss, np.zeros(d * c + c), jac=True, method="L-BFGS-B", options=options)
    gradient = float(np.abs(loss(found.x)[1]).max())
    if not gradient <= GRADIENT:
        raise UsageError(f"softmax regression stopped at a gradient of {gradient:.1e}, above {GRADIENT:g}: raise l2.")
    return Solved(found.x[: d * c].reshape(d, c) * kept, found.x[d * c :], gradient)


def missing_record(
    solved: Solved,
    known_x_ND: npt.ArrayLike,
    known_y_N: npt.ArrayLike,
    *,
    l2: float,
    kept_DC: Bools | None = None,
    l2_intercept: float = 0.0,
) -> Rebuilt:
    """The training record that is not among the known ones, from the gradient that these leave.

    With p - y the error of the missing record and n the number of all records, the intercept's gradient says
    p - y = - sum of the known errors - n l2_intercept b, and that of the weights x (p - y)^T = - sum of known
    x (p - y)^T - n l2 W at every kept entry. Each input is solved by least squares over the classes that keep a weight
    there, unless the record's errors in these are within those of the solution.

    Raises:
        UsageError: shapes do not fit, or the known records leave no error beyond that of the solution: none is missing.
    """
    x, y = np.asarray(known_x_ND, np.float64), np.asarray(known_y_N)
    weights, intercept = solved.weights_DC, solved.intercept_C
    kept = np.ones(weights.shape, bool) if kept_DC is None else kept_DC
    if x.ndim != 2 or x.shape[1] != len(weights) or y.shape != (len(x),) or kept.shape != weights.shape:
        raise UsageError(
            f"known x has shape {x.shape}, y {y.shape} and kept {kept.shape} beside weights {weights.shape}: give "
            "(N, D), (N,) and (D, C)."
        )
    errors = softmax(x @ weights + intercept, axis=1) - np.eye(len(intercept))[y]
    left_C = -errors.sum(axis=0) - (len(x) + 1) * l2_intercept * intercept
    noise = 10 * (len(x) + 1) * solved.gradient
    if not left_C.min() < -noise:
        raise UsageError("the known records explain the weights by themselves: no record is missing.")
    left_DC = -(x.T @ errors) - (len(x) + 1) * l2 * weights
    square_D = kept @ left_C**2
    along_D = (left_DC * kept) @ left_C
    found = square_D > noise**2  # False also where no weight is kept
    return Rebuilt(
        label=int(np.argmin(left_C)),  # p - y is negative at the label alone
        x_D=np.divide(along_D, square_D, out=np.full(len(square_D), np.nan), where=found),
        found_D=found,
    )


def magnitude_mask(weights_DC: Floats, density: float) -> Bools:
    """(D, C) True for the largest weights, as many as ``density`` of all; Raises `UsageError` outside of 0..1."""
    if not 0 < density <= 1:
        raise UsageError(f"density = {density}: give a number above 0, at most 1.")
    count = max(1, round(density * weights_DC.size))
    order = np.argsort(-np.abs(weights_DC), axis=None, kind="stable")
    kept = np.zeros(weights_DC.size, bool)
    kept[order[:count]] = True
    return kept.reshape(weights_DC.shape)
