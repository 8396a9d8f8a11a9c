"""Which attacks an audit is asked for: names, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from lacewing import attacks as registry
from lacewing.attacks import Attack
from lacewing.errors import UsageError

Own = Attack | Callable[..., Any]  # a user's: an attack, or a function from evidence to scores (N,)
Attacks = str | Own | Sequence[str | Own]


class Chosen(NamedTuple):
    """The attacks of an audit, and the names of those that must run."""

    attacks: tuple[Attack, ...]
    required: frozenset[str]


def choose(attacks: Attacks) -> Chosen:
    """The attacks that an audit is asked for.

    Args:
        attacks: names, attacks and functions, one or several. "all" stands for every attack of the registry but those
            that run only where they are named (`Attack.in_all`); what is not named beside it need not run.

    Raises:
        UsageError: a name is not known, something is neither a name nor an attack, or two have one name.
    """
    each = list(attacks) if isinstance(attacks, Iterable) and not isinstance(attacks, str) else [attacks]
    if not each:
        raise UsageError("attacks is empty: give 'all' or names of attacks.")
    named = registry.chosen((one for one in each if isinstance(one, str) and one != "all"), "attacks")
    own: dict[str, Attack] = {}
    for one in each:
        if isinstance(one, str):
            continue
        name = _name_of(one)
        if one is registry.ATTACKS.get(name):
            named[name] = one
        elif name in registry.ATTACKS or name in named or name in own:
            raise UsageError(f"attacks: '{name}' is the name of another attack; give an Attack with a name of its own.")
        else:
            own[name] = registry.of_user(one, name, "attacks")
    required = named | own
    usual = {name: attack for name, attack in registry.ATTACKS.items() if attack.in_all}
    every = (usual if "all" in each else {}) | required
    return Chosen(tuple(every.values()), frozenset(required))


def _name_of(own: Any) -> str:
    if isinstance(own, Attack):
        return own.name
    while isinstance(own, partial):
        own = own.func
    return str(getattr(own, "__name__", type(own).__name__)).strip("<>")
