"""Label-only attacks: how firmly the network answers the given label when the record is changed.

After Choquette-Choo, Tramèr, Carlini and Papernot, "Label-only membership inference attacks" (ICML 2021): members lie
further from the decision boundary, and augmented copies of them were trained on. The paper feeds the answers under
augmentations to a learned attack model; here they are counted, which needs a threshold only. Their strongest form, and
that of Li and Zhang, "Membership leakage in label-only exposures" (CCS 2021), is the distance to the decision boundary,
measured by HopSkipJump (`lacewing.probes.boundary`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._measure import calibrated
from lacewing.attacks._types import Attack, Evidence, Observed, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats


def augmentation_score(right_NQ: npt.ArrayLike) -> Floats:
    """How many of Q fixed queries of a record are answered with the given label, column 0 being the record itself.

    Of equal counts the one whose unchanged record is answered right comes first: it counts half a query more.
    Raises `UsageError` where there is no query, or values other than 0 and 1.
    """
    right = np.asarray(right_NQ)
    if right.ndim != 2 or right.shape[1] < 1 or not np.isin(right, (0, 1)).all():
        raise UsageError(f"right_NQ has shape {right.shape}: give one column of 0 and 1 for each query.")
    right = right.astype(np.float64)
    score: Floats = right.sum(axis=1) + right[:, 0] / 2
    return score


def noise_score(right_N: npt.ArrayLike, right_NS: npt.ArrayLike) -> Floats:
    """The area under the curve of right answers over S growing noise sizes, as a mean in 0..1.

    The curve starts at no noise, ``right_N`` (0 or 1); ``right_NS`` are shares of noisy copies, equally weighted
    whatever the sizes. Raises `UsageError` where there is no size, or values outside 0..1.
    """
    right, share = np.asarray(right_N, np.float64), np.asarray(right_NS, np.float64)
    if share.ndim != 2 or share.shape[1] < 1 or right.shape != share.shape[:1]:
        raise UsageError(
            f"right_NS has shape {share.shape} beside right of shape {right.shape}: give (N, S) with S >= 1, and (N,)."
        )
    curve = np.column_stack([right, share])
    if not ((curve >= 0.0) & (curve <= 1.0)).all():
        raise UsageError("right_NS holds values outside 0..1: give shares of noisy copies that are answered right.")
    area: Floats = curve.mean(axis=1)
    return area


Answers = npt.NDArray[Any]


def _asked(
    evidence: Evidence, of: Callable[[Observed], Answers | None], name: str, what: str
) -> Callable[[Evidence], Answers]:
    """What gets the answers of the target or of its shadow.

    Raises `UsageError` where one of the two was not asked, or not as often as the other.
    """

    def answers(held: Evidence) -> Answers:
        if (found := of(held.observed)) is None:
            raise UsageError(f"'{name}' needs the target's and the shadow's answers to {what}: measure them.")
        return found

    ours = answers(evidence).shape[1]
    if evidence.shadow is not None and (theirs := answers(evidence.shadow).shape[1]) != ours:
        raise UsageError(f"{what}: {theirs} for the shadow, {ours} for the target; ask both the same.")
    return answers


def _augmentation(evidence: Evidence, *, seed: int) -> Scored:
    """Count right answers; threshold from the shadow. ``seed`` is not used: nothing is drawn."""
    right_NQ = _asked(evidence, lambda seen: seen.right_NQ, "label-augmentation", "augmented queries")
    scores, decision = calibrated(lambda held: augmentation_score(right_NQ(held)), evidence)
    return Scored(scores, decision, f"count of right answers, Q = {right_NQ(evidence).shape[1]}")


def _noise(evidence: Evidence, *, seed: int) -> Scored:
    """Area under right answers over noise; threshold from the shadow. ``seed`` is not used: nothing is drawn."""
    right_NS = _asked(evidence, lambda seen: seen.right_NS, "label-noise", "noise of several sizes")

    def score(held: Evidence) -> Floats:
        seen = held.observed
        return noise_score(seen.logits_NC.argmax(axis=1) == seen.label_N, right_NS(held))

    scores, decision = calibrated(score, evidence)
    return Scored(scores, decision, f"area over no noise and S = {right_NS(evidence).shape[1]} sizes")


def _boundary(evidence: Evidence, *, seed: int) -> Scored:
    """The distance to the boundary, 0 where the record is answered wrong; threshold from the shadow.

    ``seed`` is not used: the directions are drawn where the distance is measured.
    """

    def score(held: Evidence) -> Floats:
        if held.observed.boundary_N is None:
            raise UsageError(
                "'label-boundary' needs the target's and the shadow's distances to the boundary: measure them."
            )
        return np.asarray(held.observed.boundary_N, np.float64)

    scores, decision = calibrated(score, evidence)
    asked = evidence.observed.asked_N
    if asked is None:
        return Scored(scores, decision, "L2 distance to the boundary")
    notes = {"queries": {"mean": float(asked.mean()), "most": int(asked.max())}}
    return Scored(scores, decision, f"HopSkipJump, L2, {asked.mean():.0f} queries a record", notes)


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="label-augmentation",
        family="label-only",
        threat_model="The attacker sees predicted classes alone, asks about fixed augmented copies of a record, and "
        "takes one threshold from a shadow network of the same recipe whose members are known.",
        alone="The attacker sees predicted classes alone and asks about fixed augmented copies of a record.",
        function=_augmentation,
        needs=frozenset({"augmentation"}),
    ),
    Attack(
        name="label-noise",
        family="label-only",
        threat_model="The attacker sees predicted classes alone, asks about copies of a record under growing noise, "
        "and takes one threshold from a shadow network of the same recipe whose members are known.",
        alone="The attacker sees predicted classes alone and asks about copies of a record under growing noise.",
        function=_noise,
        needs=frozenset({"noise"}),
    ),
    Attack(
        name="label-boundary",
        family="label-only",
        threat_model="The attacker sees predicted classes alone, asks hundreds of queries for each record to find how "
        "far it is from the decision boundary, and takes one threshold from a shadow network of the same recipe whose "
        "members are known.",
        alone="The attacker sees predicted classes alone and asks hundreds of queries for each record to find how far "
        "it is from the decision boundary.",
        function=_boundary,
        needs=frozenset({"boundary"}),
        in_all=False,
    ),
)
