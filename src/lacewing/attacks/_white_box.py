"""White-box attacks: the norm of the loss gradient at a record, over all weights or over the kept ones alone.

Nasr, Shokri and Houmansadr, "Comprehensive privacy analysis of deep learning" (IEEE S&P 2019) give gradients to a
learned attack model; their norm alone, with a threshold, is the plain form. Training makes the gradient small at
members. `white-box-learned` gives what the gradient does in each layer to a learned attack model.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from lacewing.attacks._discriminator import USUAL, learned, usual
from lacewing.attacks._logits import phi
from lacewing.attacks._measure import calibrated
from lacewing.attacks._types import EVERY_TASK, Attack, Evidence, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats

CERTAIN = 100.0  # log-odds beyond which nothing more is told
FLOOR = 1e-20  # smaller norms are rounding of fp32, whose squares underflow there


def gradient_norm_score(gradient_N2: npt.ArrayLike, *, support_only: bool = False) -> Floats:
    """-log of the L2 norm of the loss gradient (nats), norms below 1e-20 counted as 1e-20; higher for members.

    Args:
        gradient_N2: the norms over the kept and over the pruned weights; the total is the root of the sum of squares.
        support_only: take the kept weights alone.

    Raises:
        UsageError: a shape other than (N, 2), values that are negative, NaN or infinite.
    """
    norms = np.asarray(gradient_N2, np.float64)
    if norms.ndim != 2 or norms.shape[1] != 2:
        raise UsageError(f"gradient_N2 has shape {norms.shape}: give the norms over kept and over pruned weights.")
    if not (np.isfinite(norms) & (norms >= 0.0)).all():
        raise UsageError("gradient_N2 holds values that are no norms: give finite numbers that are not negative.")
    norm = norms[:, 0] if support_only else np.hypot(norms[:, 0], norms[:, 1])
    score: Floats = -np.log(np.maximum(norm, FLOOR))
    return score


def _attack(support_only: bool, evidence: Evidence, *, seed: int) -> Scored:
    """A threshold from the shadow on the gradient's norm. ``seed`` is not used: nothing is drawn."""

    def score(held: Evidence) -> Floats:
        if held.observed.gradient_N2 is None:
            raise UsageError("A white-box attack needs the loss gradients' norms of target and shadow: measure them.")
        return gradient_norm_score(held.observed.gradient_N2, support_only=support_only)

    scores, decision = calibrated(score, evidence)
    return Scored(scores, decision, f"-log L2 norm over {'the kept' if support_only else 'all'} weights")


def learned_attack(evidence: Evidence, *, seed: int) -> Scored:
    """The discriminators on the usual features, the log-odds phi, and the loss gradient in each layer.

    Nasr et al. (section III) feed gradients, activations, outputs, loss and label to convolutions, one for each layer,
    trained on records whose membership in the attacked network itself is known. Ours: they are trained on a shadow
    network, whose neurons are in another order, so that each layer gives numbers which no order changes
    (`lacewing.probes.layer_features`, over kept and pruned weights apart), and perceptrons read them.

    Raises `UsageError` where the layers are missing or differ in number between shadow and target, and as
    `discriminate` does.
    """

    def described(held: Evidence, role: str) -> list[Floats]:
        layers = held.observed.layer_NF
        if layers is None:
            raise UsageError(f"The {role} has no gradients of layers: this attack needs them measured.")
        widths.append(layers.shape[1])
        if len(set(widths)) > 1:
            raise UsageError(
                f"The shadow has {widths[0]} numbers about its layers and the target {widths[1]}: give a shadow of the "
                "target's architecture, with masks on the same weights."
            )
        odds = np.clip(phi(held.observed.logits_NC, held.observed.label_N), -CERTAIN, CERTAIN)
        return [usual(held.observed, role), odds[:, None], np.asarray(layers, np.float64)]

    widths: list[int] = []
    shown = f"{USUAL}, log-odds, loss gradient in each layer: log norms on kept and pruned weights, cosine with weights"
    return learned(described, evidence, evidence.shadow, seed=seed, shown=shown)


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="gradient-norm",
        family="white-box",
        threat_model="The attacker holds the network's weights, computes the gradient of the loss at a record, and "
        "takes one threshold from a shadow network of the same recipe whose members are known.",
        alone="The attacker holds the network's weights and computes the gradient of the loss at a record.",
        function=partial(_attack, False),
        needs=frozenset({"gradients"}),
        tasks=EVERY_TASK,
    ),
    Attack(
        name="gradient-norm-support",
        family="white-box",
        threat_model="The attacker holds the network's weights and its mask, computes the gradient of the loss at a "
        "record over the kept weights alone, and takes one threshold from a shadow network of the same recipe whose "
        "members are known.",
        alone="The attacker holds the network's weights and its mask, and computes the gradient of the loss at a "
        "record over the kept weights alone.",
        function=partial(_attack, True),
        needs=frozenset({"gradients"}),
        about=frozenset({"masked"}),
    ),
    Attack(
        name="white-box-learned",
        family="white-box",
        threat_model="The attacker holds the network's weights and its mask, computes what the loss gradient of a "
        "record does in each layer, on kept and on pruned weights, sees its class probabilities, also near it, knows "
        "its class, and trains an attack model on a shadow network of the same recipe whose members are known.",
        function=learned_attack,
        needs=frozenset({"layers", "sensitivity", "shadow"}),
        in_all=False,
    ),
)
