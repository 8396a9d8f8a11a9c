"""What one network does to its records: log-odds with and without them, confidence, calibration.

Axes: M networks of one recipe, N records, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats

BINS = 15  # of the calibration error, as Guo et al. have them


class LogOdds(NamedTuple):
    """How a network's log-odds (nats) depend on membership; None where no other network tells."""

    gap: float | None  # by how much training on a record raises its log-odds
    spread: float | None  # standard deviation of a record's log-odds over networks that agree on its membership

    @property
    def ratio(self) -> float | None:
        """Gap over spread."""
        return self.gap / self.spread if self.gap is not None and self.spread else None


def log_odds(phi_MN: Floats, in_MN: Bools, group_M: npt.NDArray[np.integer], of: int, audited_N: Bools) -> LogOdds:
    """Gap and spread of the network ``of``, against the other networks of its recipe.

    A record's log-odds in this network minus their mean in the other networks with the opposite membership, the sign
    turned for records that this network was not trained on: the mean of it over members and over others, each side
    weighing one half, is the gap. Its mean over the networks of a recipe is the recipe's mean IN - OUT gap.

    The squared difference from the mean of the c other networks with the SAME membership, times c / (c + 1) since that
    mean is an estimate, has the within-record variance as its expectation: its mean over each side, averaged over both
    sides, is the squared spread.

    Args:
        phi_MN: log-odds of the given label, see `lacewing.attacks.phi`.
        in_MN: True where network m was trained on record n.
        group_M: networks of one number share their training records (other initialisations): they are no others.
        of: the network's place, 0..M-1.
        audited_N: the records that count.

    Raises:
        UsageError: shapes that disagree.
    """
    if phi_MN.shape != in_MN.shape or group_M.shape != phi_MN.shape[:1] or audited_N.shape != phi_MN.shape[1:]:
        raise UsageError(
            f"phi has shape {phi_MN.shape}, membership {in_MN.shape}, groups {group_M.shape} and audited records "
            f"{audited_N.shape}: give (M, N), (M, N), (M,) and (N,)."
        )
    others = group_M != group_M[of]
    phi, inside = phi_MN[of], in_MN[of]
    gaps, variances = [], []
    for member in (True, False):
        rows = audited_N & (inside == member)
        theirs_in, theirs = in_MN[others][:, rows], phi_MN[others][:, rows]
        mean, known = _means(theirs, theirs_in != member)
        if known.any():
            gaps.append(float((phi[rows] - mean)[known].mean()) * (1 if member else -1))
        mean, known = _means(theirs, theirs_in == member)
        if known.any():
            count = (theirs_in == member).sum(axis=0)[known]
            variances.append(float(((phi[rows] - mean)[known] ** 2 * count / (count + 1)).mean()))
    return LogOdds(
        sum(gaps) / 2 if len(gaps) == 2 else None,
        float(np.sqrt(sum(variances) / 2)) if len(variances) == 2 else None,
    )


def _means(phi_MN: Floats, chosen_MN: Bools) -> tuple[Floats, Bools]:
    """(N,) means over the chosen networks, 0 where there is none, and (N,) where there is one."""
    count = chosen_MN.sum(axis=0)
    total = np.where(chosen_MN, phi_MN, 0.0).sum(axis=0)
    return total / np.maximum(count, 1), count > 0


class Outputs(NamedTuple):
    """What a network's outputs look like on the records that it was trained on, and on others."""

    member_confidence: float  # mean of the largest class probability
    other_confidence: float
    member_calibration_error: float
    other_calibration_error: float
    redrawn: int  # records that it was trained on under a label that was redrawn
    redrawn_fit: float | None  # share of these that it answers with the redrawn label


def outputs(
    logits_NC: npt.NDArray[np.floating],
    label_N: npt.NDArray[np.integer],
    member_N: Bools,
    redrawn_N: Bools | None = None,
    temperature: float = 1.0,
) -> Outputs:
    """Confidence and calibration of a network with its logits divided by ``temperature``.

    Args:
        logits_NC: of the audited records, up to a constant for each row.
        label_N: the given class, 0..C-1.
        member_N: True where the network was trained on the record; both kinds must be there.
        redrawn_N: True where the given label is not the true one; None: there are no such records.
        temperature: above 0; 1 leaves the outputs as they are.
    """
    logits = logits_NC.astype(np.float64)
    right = logits.argmax(axis=1) == label_N
    confidence = largest_probability(logits, temperature)
    wrong = np.zeros(len(right), bool) if redrawn_N is None else redrawn_N & member_N
    return Outputs(
        member_confidence=float(confidence[member_N].mean()),
        other_confidence=float(confidence[~member_N].mean()),
        member_calibration_error=calibration_error(confidence[member_N], right[member_N]),
        other_calibration_error=calibration_error(confidence[~member_N], right[~member_N]),
        redrawn=int(wrong.sum()),
        redrawn_fit=float(right[wrong].mean()) if wrong.any() else None,
    )


def largest_probability(logits_NC: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """(N,) the probability of the network's answer: of softmax(logits / temperature) the largest."""
    logits = logits_NC.astype(np.float64)
    largest: Floats = 1 / np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature).sum(axis=1)
    return largest


def calibration_error(confidence_N: npt.ArrayLike, right_N: npt.ArrayLike, bins: int = BINS) -> float:
    """The expected calibration error: sum over bins of (records / all records) |accuracy - mean confidence|.

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017), equation 3: bins of equal
    width, ((b - 1)/B, b/B], on the largest class probability.

    Raises:
        UsageError: no record, lengths that differ, values outside 0..1.
    """
    confidence, right = np.asarray(confidence_N, np.float64), np.asarray(right_N, np.float64)
    if confidence.ndim != 1 or confidence.shape != right.shape or not len(confidence):
        raise UsageError(f"confidence has shape {confidence.shape} and right {right.shape}: give one of each a record.")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise UsageError("confidence holds values outside 0 to 1: give probabilities.")
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    difference = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(difference).sum() / len(confidence))
