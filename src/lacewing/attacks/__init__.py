"""The attacks: one file per family, pure functions from what was observed to scores, and one registry."""

from __future__ import annotations

from collections.abc import Iterable

from lacewing.attacks import (
    _adaptive,
    _base,
    _calibration,
    _discriminator,
    _label_only,
    _lira,
    _nig,
    _population,
    _quantile,
    _rmia,
    _samia,
    _span,
    _thresholds,
    _trajectory,
    _white_box,
)
from lacewing.attacks._base import base
from lacewing.attacks._calibration import difficulty_calibrated
from lacewing.attacks._lira import lira
from lacewing.attacks._logits import modified_entropy, phi
from lacewing.attacks._measure import measure, missing, perform
from lacewing.attacks._nig import lira_nig
from lacewing.attacks._rmia import rmia
from lacewing.attacks._types import (
    Attack,
    Evidence,
    FirstLayer,
    Observed,
    Population,
    References,
    Scored,
    spans_everything,
)
from lacewing.attacks._users import Described, described, of_user, recorded
from lacewing.support import loading

__all__ = [
    "ATTACKS",
    "Attack",
    "Described",
    "Evidence",
    "FirstLayer",
    "Observed",
    "Population",
    "References",
    "Scored",
    "base",
    "chosen",
    "described",
    "difficulty_calibrated",
    "lira",
    "lira_nig",
    "measure",
    "missing",
    "modified_entropy",
    "of_user",
    "perform",
    "phi",
    "recorded",
    "rmia",
    "spans_everything",
]

_FAMILIES = (
    _discriminator,
    _adaptive,
    _samia,
    _thresholds,
    _population,
    _quantile,
    _lira,
    _nig,
    _rmia,
    _base,
    _calibration,
    _label_only,
    _white_box,
    _trajectory,
    _span,
)
ATTACKS: dict[str, Attack] = {attack.name: attack for family in _FAMILIES for attack in family.ENTRIES}


def chosen(names: Iterable[str], field: str) -> dict[str, Attack]:
    """The attacks of these names: of the registry, of installed packages, or users' ``package.module:name``.

    Args:
        names: as a study has them.
        field: that holds them, for messages.

    Raises:
        UsageError: there is none of a name, it cannot be loaded, or what is there is no attack.
    """
    names = list(names)
    loading.refuse_ambiguous(names, loading.ATTACKS, field, built_in=ATTACKS)
    found = {}
    for name in names:
        if name in ATTACKS:
            found[name] = ATTACKS[name]
        else:
            thing = loading.load_users(name, loading.ATTACKS, field, built_in=ATTACKS)
            found[name] = of_user(thing, name, field, module=loading.module_of(name, loading.ATTACKS))
    return found
