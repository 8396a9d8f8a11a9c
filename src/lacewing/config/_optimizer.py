"""The optimisers of [train]: which options of torch.optim each takes here, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacewing.config._bounds import shown
from lacewing.errors import did_you_mean

_ADAM: Mapping[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
OPTIONS: Mapping[str, Mapping[str, Any]] = {  # by optimizer: the options that have no field of their own, with defaults
    "sgd": {"nesterov": False},
    "adam": _ADAM,
    "adamw": _ADAM,
}
CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}  # of torch.optim
LR = {"adam": 1e-3, "adamw": 1e-3}  # where a study says none, as in torch
_FIELDS = ("lr", "momentum", "weight_decay")  # of [train] itself
_LEAST, _MOST = 1e-30, 1.0  # of eps: the 32-bit numbers of training end below, and nothing is learnt above


def checked(optimizer: str, options: Mapping[str, Any], momentum: float | None) -> dict[str, Any]:
    """The options that differ from torch's defaults, so that a default which is written down changes no key.

    Raises:
        ValueError: one that the optimiser does not take here, or of a wrong value; begins with the option.
    """
    known = OPTIONS[optimizer]
    found = {}
    for name, value in options.items():
        if name not in known:
            if name in _FIELDS:
                raise ValueError(f"{name} is a field of its own, train.{name}; set that instead")
            raise ValueError(
                f"torch.optim.{CLASSES[optimizer]} has no option '{name}' here; {did_you_mean(name, known)}"
            )
        kept = _value(name, value, type(known[name]))
        if kept != known[name]:
            found[name] = list(kept) if isinstance(kept, tuple) else kept
    if found.get("nesterov") and not momentum:
        raise ValueError("nesterov = true needs a train.momentum above 0; set one, or leave nesterov out")
    return found


def _value(name: str, value: Any, kind: type) -> Any:
    """The value of an option as torch takes it."""
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} = {shown(value)}: give true or false")
        return value
    if kind is tuple:
        numbers = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
        if not numbers or not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"{name} = {shown(value)}: give two numbers from 0 to below 1, such as [0.9, 0.999]")
        return tuple(map(float, value))
    if not _is_number(value) or not _LEAST <= value <= _MOST:
        raise ValueError(f"{name} = {shown(value)}: give a number from {_LEAST:g} to {_MOST:g}, such as 1e-8")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
