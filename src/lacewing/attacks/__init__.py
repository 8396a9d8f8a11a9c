"""The attacks: one file per family, pure functions from what was observed to scores, and one registry."""

from __future__ import annotations

from lacewing.attacks import discriminator
from lacewing.attacks._types import Attack, Observed
from lacewing.errors import UsageError, did_you_mean

__all__ = ["ATTACKS", "Attack", "Observed", "find"]

ATTACKS: dict[str, Attack] = {
    "discriminator": Attack(
        name="discriminator",
        threat_model=discriminator.THREAT_MODEL,
        function=discriminator.attack,
    ),
}


def find(name: str) -> Attack:
    """The attack called ``name``. Raises `UsageError` with the nearest known name."""
    if name not in ATTACKS:
        raise UsageError(f"There is no attack '{name}': {did_you_mean(name, ATTACKS)}")
    return ATTACKS[name]
