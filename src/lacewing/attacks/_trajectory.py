"""Trajectories: how the loss of a record moves over a sequence of networks that end in the attacked one.

After Liu, Zhao, Backes and Zhang, "Membership inference attacks by exploiting loss trajectory" (CCS 2022, arXiv
2208.14933): the losses of a record over training, put side by side, tell members better than the last loss alone.
There the attacker has the last network only, and distils it to get a trajectory. Ours: the attacker holds the sequence
itself, either checkpoints of the attacked network's training or the denser levels of its pruning; the loss is given as
log-odds of the record's class, which rank records as it does and do not flatten near 0; and the attack model is the
best of the discriminators' perceptrons, learned on the same sequence of a shadow. `discriminator-all-levels` sees the
same levels' outputs and sensitivities.
"""

from __future__ import annotations

import numpy as np

from lacewing.attacks._adaptive import checked_related
from lacewing.attacks._discriminator import learned
from lacewing.attacks._logits import phi
from lacewing.attacks._types import Attack, Evidence, Observed, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats

CERTAIN = 100.0  # log-odds beyond which nothing more is told


def trajectory(evidence: Evidence, *, seed: int) -> Scored:
    """The discriminators on the log-odds of each record's class under ``related``, then under the attacked network.

    Raises `UsageError` where related networks are missing, differ in number between target and shadow or were asked
    about other records, and as `discriminate` does.
    """

    def described(held: Evidence, role: str) -> list[Floats]:
        if not held.related:
            raise UsageError(f"The {role} has no sequence of networks: give its denser levels, or its checkpoints.")
        lengths.append(len(held.related))
        if len(set(lengths)) > 1:
            raise UsageError(
                f"The shadow's sequence has {lengths[0]} networks and the target's {lengths[1]} beside the last: give "
                "the same of both."
            )
        before = [_log_odds(other) for _, other in checked_related(held, held.related, role)]
        return [np.stack([*before, _log_odds(held.observed)], axis=1)]

    lengths: list[int] = []
    shown = f"log-odds of the given class under {len(evidence.related)} earlier networks and the attacked one"
    return learned(described, evidence, evidence.shadow, seed=seed, shown=shown)


def _log_odds(seen: Observed) -> Floats:
    return np.clip(phi(seen.logits_NC, seen.label_N), -CERTAIN, CERTAIN)


_KNOWS = "knows its class, and trains a shadow sequence by the same recipe on other records of the same source."

ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="trajectory-levels",
        family="trajectory",
        threat_model="The attacker queries the network and all denser levels of its pruning for the class "
        f"probabilities of a record, {_KNOWS}",
        function=trajectory,
        needs=frozenset({"shadow", "levels"}),
        about=frozenset({"levels"}),
        adaptive="the recipe, and the losses of all denser levels",
        in_all=False,
    ),
    Attack(
        name="trajectory-checkpoints",
        family="trajectory",
        threat_model="The attacker queries the network and earlier checkpoints of its training for the class "
        f"probabilities of a record, {_KNOWS}",
        function=trajectory,
        needs=frozenset({"shadow", "checkpoints"}),
        in_all=False,
    ),
)
