"""Which attack succeeds at which density: every kind of attack on every recipe of a study, in one table.

Membership, adaptive attackers, property inference, reconstruction and attribute inference, each with its interval over
seeds and beside what an attacker without the network reaches. Pure functions on the results of a study.
"""

from lacewing.attackers._table import gathered, kind_of
from lacewing.attackers._types import (
    BASELINES,
    HOLDS,
    KINDS,
    MEASURES,
    Attackers,
    Cell,
    KindOfAttack,
    Recipe,
    Row,
    Tried,
    as_json,
)
from lacewing.attackers._words import NAMES, answer

__all__ = [
    "BASELINES",
    "HOLDS",
    "KINDS",
    "MEASURES",
    "NAMES",
    "Attackers",
    "Cell",
    "KindOfAttack",
    "Recipe",
    "Row",
    "Tried",
    "answer",
    "as_json",
    "gathered",
    "kind_of",
]
