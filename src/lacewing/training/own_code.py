"""The user's own training loop that ``[train] fit`` names: what its signature asks for, checked without running it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lacewing.config import Train, shown
from lacewing.errors import UsageError
from lacewing.support.loading import load_function, source_digest

ALWAYS = ("guard", "seed", "on_epoch")  # keywords of every loop, after the model, the records and the labels
SIGNATURE = "def fit(model, x, y, *, guard, seed, on_epoch)"
# Fields that hold for such networks whatever the loop takes; `fit` and `stack` are never given to it.
_APPLIED = ("epochs", "channels_last", "holdout", "dropout", "fit", "stack")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_FIRST = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def place_of(train: Train) -> str:
    """The field with what stands there: the begin of a sentence."""
    return f"train.fit: {train.fit}"


def load(train: Train) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The loop, and the fields of [train] that its signature names, with their values.

    Raises:
        UsageError: it cannot be imported or called so; it needs what no field of [train] is called; or a field is set
            that it does not take, which would change nothing.
    """
    assert train.fit is not None
    place = place_of(train)
    function = load_function(train.fit, "train.fit")
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a function of C says nothing of its own
        return function, {}
    kinds = [parameter.kind for parameter in parameters.values()]
    anything = inspect.Parameter.VAR_KEYWORD in kinds
    missing = [name for name in ALWAYS if not anything and _kind(parameters, name) not in _NAMED]
    if missing:
        raise UsageError(f"{place} has no parameter '{missing[0]}'; write {SIGNATURE}.")
    records = [name for name, p in parameters.items() if p.kind in _FIRST and name not in ALWAYS]
    if len(records) < 3 and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise UsageError(f"{place} takes no three arguments before its keywords; write {SIGNATURE}.")
    fields, given = train.model_dump(exclude={"fit", "stack"}), dict[str, Any]()
    for name, parameter in parameters.items():
        if name in (*ALWAYS, *records[:3]) or parameter.kind not in _NAMED:
            continue
        if name in fields:
            _check_default(train, name, parameter, fields[name], place)
            given[name] = fields[name]
        elif parameter.default is parameter.empty:
            raise UsageError(
                f"{place} needs '{name}', which is no field of [train]; give it a default, or name a field."
            )
    _check_unused(train, fields, given, place)
    return function, given


def source_of(train: Train) -> str:
    """SHA-256 of the source of the loop's module, for keys. Raises `UsageError` as `load` does, or without source."""
    return source_digest(load(train)[0], "train.fit")


def _kind(parameters: Mapping[str, inspect.Parameter], name: str) -> Any:
    return parameters[name].kind if name in parameters else None


def _check_default(train: Train, name: str, parameter: inspect.Parameter, value: Any, place: str) -> None:
    """Refuse a default of the loop's own where the study leaves the field at another default: one of them is not meant.

    A field that the study sets is given to the loop.
    """
    if parameter.default in (parameter.empty, value) or value != _unset(train, name):
        return
    raise UsageError(
        f"{place} has {name} = {shown(parameter.default)} of its own, and train.{name} is {shown(value)}, its default; "
        f"set train.{name}, or take the default out of the signature."
    )


def _check_unused(train: Train, fields: Mapping[str, Any], given: Mapping[str, Any], place: str) -> None:
    for name, value in fields.items():
        plain = name == "precision" and value in ("auto", "fp32")
        if name not in given and name not in _APPLIED and not plain and value != _unset(train, name):
            raise UsageError(
                f"train.{name} = {shown(value)}: {place.partition(': ')[2]} has no parameter '{name}', so it would "
                "change nothing; give the loop one, or leave the field out."
            )


def _unset(train: Train, name: str) -> Any:
    """What a field is where a study leaves it out, with the same optimiser."""
    return getattr(Train() if name == "optimizer" else Train(optimizer=train.optimizer), name)
