"""What the attacks compute from logits: log-odds, probabilities, entropies; float64, without clipping.

Axes: N records, C >= 2 classes. Leading axes are welcome: logits (K, N, C) go with labels (N,) or (K, N). Everything is
taken from log-sum-exp, so that a network which is sure (a probability that rounds to 0 or 1) still gives finite,
distinct values, as does a row shifted by a constant.

Every function raises `UsageError` for logits that are not finite, labels that are no class, shapes that disagree, and
logits that are really probabilities.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Floats

# Logits of a handful of rows may be 0 and 1 by chance or in an example; those of this many never are.
_ROWS_TO_TELL = 10


def phi(logits_NC: npt.ArrayLike, labels_N: npt.ArrayLike) -> Floats:
    """The log-odds of the given label, log p_y - log sum_{k != y} p_k, in nats; high for members.

    Carlini et al., "Membership inference attacks from first principles" (IEEE S&P 2022), who scale the confidence p
    to log(p / (1 - p)); here z_y - log sum_{k != y} exp z_k, exact for logits of +-1e4. Shape: that of the logits
    without the classes.
    """
    return _log_odds(*_checked(logits_NC, labels_N))


def log_true_class_probability(logits_NC: npt.ArrayLike, labels_N: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """log p_y of the given label (minus the cross-entropy loss, in nats), from the log-odds: -log(1 + exp(-phi)).

    Keeps its precision as p_y nears 1: -exp(-phi), where the log of a softmax would be 0. p is softmax(logits / T), T
    the ``temperature``: above 1 it makes probabilities less sure.
    """
    logits, labels = _checked(logits_NC, labels_N)
    return _log_sigmoid(_log_odds(logits / temperature, labels))


def softmax(logits_NC: npt.ArrayLike) -> Floats:
    """Class probabilities, of the logits' shape."""
    logits = _checked_logits(logits_NC)
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p: Floats = exp / exp.sum(axis=-1, keepdims=True)
    return p


def entropy(logits_NC: npt.ArrayLike) -> Floats:
    """Shannon's entropy -sum_i p_i log p_i of the predicted probabilities, in nats; low for members, label unused."""
    logits = _checked_logits(logits_NC)
    log_p = _log_softmax(logits)
    nats: Floats = -(np.exp(log_p) * log_p).sum(axis=-1)
    return np.maximum(nats, 0.0)


def modified_entropy(logits_NC: npt.ArrayLike, labels_N: npt.ArrayLike) -> Floats:
    """-(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i), in nats: the quantity itself, LOW for members, never below 0.

    Song and Mittal, "Systematic evaluation of privacy risks of machine learning models" (USENIX Security 2021), their
    Mentr. Computed from log p and log(1 - p), so that finite logits give finite values: a network that is sure of a
    wrong class gives about twice minus its log-odds, where the formula on a rounded softmax is infinite.
    """
    logits, labels = _checked(logits_NC, labels_N)
    log_p = _log_softmax(logits)
    p, top = np.exp(log_p), logits.argmax(axis=-1)
    # log(1 - p_i) is log1p(-p_i) where p_i <= 1/2; of the one class that may be above, it comes from the log-odds.
    log_not = np.log1p(-np.minimum(p, 0.5))
    np.put_along_axis(log_not, top[..., None], _log_sigmoid(-_log_odds(logits, top))[..., None], axis=-1)
    own: Floats = -np.exp(_own(log_not, labels)) * _own(log_p, labels)
    np.put_along_axis(p, labels[..., None], 0.0, axis=-1)
    others: Floats = -(p * log_not).sum(axis=-1)
    return np.maximum(own + others, 0.0)


def looks_like_probabilities(logits: npt.ArrayLike) -> bool:
    """Whether all rows lie in [0, 1] and sum to 1 within 1e-3, as probabilities do and logits do not."""
    rows = np.asarray(logits)
    if rows.ndim == 0 or rows.size == 0 or (rows < 0).any() or (rows > 1).any():
        return False
    return bool((np.abs(rows.sum(axis=-1, dtype=np.float64) - 1.0) <= 1e-3).all())


def refuse_probabilities(logits: npt.ArrayLike, name: str = "logits") -> None:
    """Raises `UsageError` with the mend where ``logits`` (any leading axes, classes last) are really probabilities."""
    if looks_like_probabilities(logits):
        raise UsageError(
            f"{name} are probabilities (each row sums to 1): pass the logits before the softmax, or log p."
        )


def _checked_logits(logits_NC: npt.ArrayLike) -> Floats:
    logits = np.asarray(logits_NC)
    if logits.dtype.kind not in "fiu":
        raise UsageError(f"logits have dtype {logits.dtype}: give real numbers.")
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise UsageError(f"logits have shape {logits.shape}: give one row a record, one column for each of 2+ classes.")
    logits = logits.astype(np.float64, copy=False)
    if not np.isfinite(logits).all():
        raise UsageError("logits hold NaN or infinite values: measure the network again in fp32.")
    if math.prod(logits.shape[:-1]) >= _ROWS_TO_TELL:
        refuse_probabilities(logits)
    return logits


def _checked(logits_NC: npt.ArrayLike, labels_N: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64]]:
    logits, labels = _checked_logits(logits_NC), np.asarray(labels_N)
    rows, classes = logits.shape[:-1], logits.shape[-1]
    if labels.ndim > len(rows) or labels.shape != rows[len(rows) - labels.ndim :] or (rows and not labels.ndim):
        raise UsageError(f"labels have shape {labels.shape} beside logits {logits.shape}: give one label a record.")
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < classes):
        raise UsageError(f"labels hold values that are no class: give whole numbers from 0 to {classes - 1}.")
    return logits, np.broadcast_to(labels.astype(np.int64), rows)


def _own(values: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    own: Floats = np.take_along_axis(values, labels[..., None], axis=-1)[..., 0]
    return own


def _log_odds(logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    others = logits.copy()
    np.put_along_axis(others, labels[..., None], -np.inf, axis=-1)
    odds: Floats = _own(logits, labels) - _log_sum_exp(others)
    return odds


def _log_softmax(logits: Floats) -> Floats:
    """The logs of all probabilities; of the largest from its log-odds, which keep what rounding to 1 would lose."""
    log_p = logits - _log_sum_exp(logits)[..., None]
    top = logits.argmax(axis=-1)
    np.put_along_axis(log_p, top[..., None], _log_sigmoid(_log_odds(logits, top))[..., None], axis=-1)
    return log_p


def _log_sigmoid(odds: Floats) -> Floats:
    log_p: Floats = -np.logaddexp(0.0, -odds)
    return log_p


def _log_sum_exp(logits: Floats) -> Floats:
    top: Floats = logits.max(axis=-1)
    total: Floats = top + np.log(np.exp(logits - top[..., None]).sum(axis=-1))
    return total
