"""Adaptive attackers: the paper's discriminators by someone who knows, or mistakes, how the network was made sparse.

Each entry changes one thing: the network that the discriminators learn on (a dense one, one of another density, one
under the target's own mask), or what they see (denser versions of the attacked network beside it, loss gradients
split by the mask). Everything else is as in `discriminator` (Gonon et al., arXiv 2304.10553). Yuan and Zhang
("Membership inference attacks and defenses in neural network pruning", USENIX Security 2022) let the attacker's
knowledge of the pruning vary in this way; the list here and its details are ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lacewing.attacks._discriminator import USUAL, learned, usual
from lacewing.attacks._types import Attack, Evidence, Observed, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats

# The norm of a gradient that vanished in fp32 is 0: below this, smaller is not taken to say more.
SMALLEST_GRADIENT = 1e-12


def unaware(evidence: Evidence, *, seed: int) -> Scored:
    """The discriminators fitted on ``other_shadows["dense"]``: the attacker does not know that the network is sparse.

    Raises `UsageError` where that shadow is missing, and as `discriminate` does.
    """
    return _on_other_shadow("dense", evidence, seed)


def mismatched(evidence: Evidence, *, seed: int) -> Scored:
    """The discriminators fitted on ``other_shadows["mismatched"]``: the target's method at another density.

    Raises `UsageError` where that shadow is missing, and as `discriminate` does.
    """
    return _on_other_shadow("mismatched", evidence, seed)


def imposed_mask(evidence: Evidence, *, seed: int) -> Scored:
    """The discriminators fitted on ``other_shadows["imposed"]``: a shadow trained under the target's own mask.

    Raises `UsageError` where that shadow is missing, and as `discriminate` does.
    """
    return _on_other_shadow("imposed", evidence, seed)


def dense_and_sparse(evidence: Evidence, *, seed: int) -> Scored:
    """Both the attacked network and its dense version, ``related[0]``, are queried: features side by side.

    The discriminators are fitted on the shadow and the shadow's dense version. Raises `UsageError` where a dense
    version or its sensitivity is missing or its rows are other records, and as `discriminate` does.
    """

    def described(seen: Evidence, role: str) -> list[Floats]:
        return _side_by_side(seen, seen.related[:1], role)

    return learned(described, evidence, evidence.shadow, seed=seed, shown=f"{USUAL}, of the network and its dense one")


def all_levels(evidence: Evidence, *, seed: int) -> Scored:
    """The attacked network and all denser levels of its chain, ``related``, are queried: features side by side.

    The discriminators are fitted on the shadow's chain. Raises `UsageError` where levels or their sensitivity are
    missing, the two chains differ in length, or rows are other records, and as `discriminate` does.
    """

    def described(seen: Evidence, role: str) -> list[Floats]:
        return _side_by_side(seen, seen.related, role)

    if evidence.shadow is not None and len(evidence.shadow.related) != len(evidence.related):
        raise UsageError(
            f"The shadow's related networks are {len(evidence.shadow.related)} and the target's "
            f"{len(evidence.related)}: give the same levels of both chains."
        )
    shown = f"{USUAL}, of the network and {len(evidence.related)} denser levels"
    return learned(described, evidence, evidence.shadow, seed=seed, shown=shown)


def mask_features(evidence: Evidence, *, seed: int) -> Scored:
    """White-box: the usual features and what the mask does to the loss gradient g of a record.

    Three columns more: log ||g_kept||, log ||g_pruned|| (L2 norms over the kept and over the pruned weights, at least
    1e-12) and ||g_kept|| / (||g_kept|| + ||g_pruned||). Raises `UsageError` where the gradients are missing, and as
    `discriminate` does.
    """

    def described(seen: Evidence, role: str) -> list[Floats]:
        if seen.observed.gradient_N2 is None or seen.observed.gradient_N2.shape[1] != 2:
            raise UsageError(
                f"The {role} has no gradient of two columns: give the norms on kept and on pruned weights."
            )
        norm = np.asarray(seen.observed.gradient_N2, np.float64)
        if (norm < 0).any():
            raise UsageError(f"The {role}'s gradient holds negative values: give norms.")
        norm = np.maximum(norm, SMALLEST_GRADIENT)
        share = norm[:, :1] / norm.sum(axis=1, keepdims=True)
        return [usual(seen.observed, role), np.log(norm), share]

    shown = f"{USUAL}, log gradient norms on kept and pruned weights, share of the kept"
    return learned(described, evidence, evidence.shadow, seed=seed, shown=shown)


def _on_other_shadow(kind: str, evidence: Evidence, seed: int) -> Scored:
    if kind not in evidence.other_shadows:
        known = ", ".join(sorted(evidence.other_shadows)) or "none"
        raise UsageError(f"evidence.other_shadows has no '{kind}' shadow: give one (there: {known}).")
    shadow = evidence.other_shadows[kind]
    shown = f"{USUAL}; shadow: {kind}"
    return learned(lambda seen, role: [usual(seen.observed, role)], evidence, shadow, seed=seed, shown=shown)


def _side_by_side(seen: Evidence, related: tuple[Observed, ...], role: str) -> list[Floats]:
    """The attacked network's usual features, then those of each related one (its label is the same: left out)."""
    if not related:
        raise UsageError(f"The {role} has no related networks: give the denser versions of it, the dense one first.")
    blocks = [usual(seen.observed, role)]
    for name, other in checked_related(seen, related, role):
        blocks.append(usual(other, name)[:, other.classes :])
    return blocks


def checked_related(seen: Evidence, related: tuple[Observed, ...], role: str) -> Iterator[tuple[str, Observed]]:
    """The related networks, named for messages. Raises `UsageError` where one was asked about other records."""
    for position, other in enumerate(related):
        name = f"{role}'s related network {position}"
        if not np.array_equal(other.record_N, seen.observed.record_N):
            raise UsageError(f"The {name} was asked about other records or in another order: give the same rows.")
        if not np.array_equal(other.label_N, seen.observed.label_N):
            raise UsageError(f"The {name} has other labels for the same records: give the same.")
        if other.classes != seen.observed.classes:
            raise UsageError(
                f"The {name} has {other.classes} classes and the {role} {seen.observed.classes}: give the same."
            )
        yield name, other


_BLACK_BOX = (
    "The attacker queries the network for its class probabilities, also near a record, knows the record's class"
)

ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="discriminator-unaware",
        family="adaptive",
        threat_model=_BLACK_BOX
        + ", and trains a dense shadow network on other records of the same source, not knowing that "
        "the attacked network is sparse.",
        function=unaware,
        needs=frozenset({"sensitivity", "dense-shadow"}),
        about=frozenset({"sparse"}),
        adaptive="nothing of the sparsity",
    ),
    Attack(
        name="discriminator-mismatched",
        family="adaptive",
        threat_model=_BLACK_BOX
        + ", and trains a shadow network by the same method at another density on other records of "
        "the same source.",
        function=mismatched,
        needs=frozenset({"sensitivity", "mismatched-shadow"}),
        about=frozenset({"sparse"}),
        adaptive="the method, not the density",
    ),
    Attack(
        name="discriminator-imposed-mask",
        family="adaptive",
        threat_model=_BLACK_BOX + " and which weights were pruned, and trains a shadow network under that very mask "
        "on other records of the same source.",
        function=imposed_mask,
        needs=frozenset({"sensitivity", "imposed-shadow"}),
        about=frozenset({"masked"}),
        adaptive="the target's own mask",
    ),
    Attack(
        name="discriminator-dense-and-sparse",
        family="adaptive",
        threat_model=_BLACK_BOX + ", queries its dense version too, and trains shadows of both by the same recipe on "
        "other records of the same source.",
        function=dense_and_sparse,
        needs=frozenset({"sensitivity", "shadow", "dense"}),
        about=frozenset({"sparse"}),
        adaptive="the recipe, and the dense version's answers",
    ),
    Attack(
        name="discriminator-all-levels",
        family="adaptive",
        threat_model=_BLACK_BOX + ", queries all denser levels of its pruning chain too, and trains a shadow chain by "
        "the same recipe on other records of the same source.",
        function=all_levels,
        needs=frozenset({"sensitivity", "shadow", "levels"}),
        about=frozenset({"levels"}),
        adaptive="the recipe, and the answers of all denser levels",
    ),
    Attack(
        name="discriminator-mask-features",
        family="adaptive",
        threat_model="The attacker holds the network's weights and mask, measures the loss gradient of a record on "
        "kept and on pruned weights beside its class probabilities, knows the record's class, and trains a shadow "
        "network of the same recipe on other records of the same source.",
        function=mask_features,
        needs=frozenset({"gradients", "sensitivity", "shadow"}),
        about=frozenset({"masked"}),
        adaptive="the recipe, and the mask itself (white-box)",
    ),
)
