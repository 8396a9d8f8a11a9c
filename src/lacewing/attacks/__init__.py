"""The attacks: one file per family, pure functions from what was observed to scores, and one registry."""

from __future__ import annotations

from lacewing.attacks import (
    _adaptive,
    _discriminator,
    _label_only,
    _lira,
    _population,
    _quantile,
    _rmia,
    _samia,
    _thresholds,
    _white_box,
)
from lacewing.attacks._lira import lira
from lacewing.attacks._logits import modified_entropy, phi
from lacewing.attacks._measure import measure, missing, perform
from lacewing.attacks._rmia import rmia
from lacewing.attacks._types import Attack, Evidence, Observed, Population, References, Scored
from lacewing.errors import UsageError, did_you_mean

__all__ = [
    "ATTACKS",
    "Attack",
    "Evidence",
    "Observed",
    "Population",
    "References",
    "Scored",
    "find",
    "lira",
    "measure",
    "missing",
    "modified_entropy",
    "perform",
    "phi",
    "rmia",
]

_FAMILIES = (
    _discriminator,
    _adaptive,
    _samia,
    _thresholds,
    _population,
    _quantile,
    _lira,
    _rmia,
    _label_only,
    _white_box,
)
ATTACKS: dict[str, Attack] = {attack.name: attack for family in _FAMILIES for attack in family.ENTRIES}


def find(name: str) -> Attack:
    """The attack called ``name``. Raises `UsageError` with the nearest known name."""
    if name not in ATTACKS:
        raise UsageError(f"There is no attack '{name}': {did_you_mean(name, ATTACKS)}")
    return ATTACKS[name]
