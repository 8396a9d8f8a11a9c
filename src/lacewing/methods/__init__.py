"""The kinds of networks that a study can declare, one file each, and those that users and plugins add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacewing.config import shown, validated
from lacewing.errors import UsageError
from lacewing.methods._base import SHARED, Method, Step, Training, built, short_name
from lacewing.methods._recorded import MethodRecord, RecordedMethod, check_own, record
from lacewing.methods.balanced import Balanced
from lacewing.methods.butterfly import Butterfly
from lacewing.methods.dense import Dense
from lacewing.methods.dp_imp import DpImp
from lacewing.methods.dp_sgd import DpSgd
from lacewing.methods.early_stopped import EarlyStopped
from lacewing.methods.imp import Imp
from lacewing.methods.random_mask import RandomMask
from lacewing.methods.reinitialised import Reinitialised
from lacewing.methods.shuffled_mask import ShuffledMask
from lacewing.methods.ticket import Ticket
from lacewing.results import LABEL, Look
from lacewing.support.loading import METHODS as GROUP
from lacewing.support.loading import load_users
from lacewing.support.user_code import user_code

__all__ = [
    "METHODS",
    "SHARED",
    "Balanced",
    "Butterfly",
    "Dense",
    "DpImp",
    "DpSgd",
    "EarlyStopped",
    "Imp",
    "Look",
    "Method",
    "MethodRecord",
    "RandomMask",
    "RecordedMethod",
    "Reinitialised",
    "ShuffledMask",
    "Step",
    "Ticket",
    "Training",
    "built",
    "check_own",
    "find",
    "look_of",
    "of_entry",
    "record",
    "short_name",
]

METHODS: dict[str, type[Method]] = {
    "dense": Dense,
    "imp": Imp,
    "imp-balanced": Balanced,
    "butterfly": Butterfly,
    "early-stopped": EarlyStopped,
    "ticket": Ticket,
    "random-mask": RandomMask,
    "shuffled-mask": ShuffledMask,
    "reinitialised": Reinitialised,
    "dp-sgd": DpSgd,
    "dp-imp": DpImp,
}
_OTHER = "#009e73", "D"  # colour and marker of methods that choose none


def find(name: str, field: str) -> type[Method]:
    """The method called ``name``: one of the package, of an installed plugin, or a user's ``package.module:Name``.

    Args:
        name: as a study has it.
        field: of the study, for messages.

    Raises:
        UsageError: there is none, or what is there is no subclass of `Method`.
    """
    if name in METHODS:
        return METHODS[name]
    found = load_users(name, GROUP, field, built_in=METHODS)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UsageError(f"{field}: {name} is not a subclass of lacewing.methods.Method; name a class that is one.")
    if found.role == "dense":
        raise UsageError(f"{field}: {name} has role 'dense', which is the package's own; make it sparse or control.")
    if found.__module__.startswith("lacewing."):
        raise UsageError(
            f"{field}: {name} is the package's own; name one of {', '.join(METHODS)}, or a subclass of it."
        )
    if changed := [own for own in ("source", "loaded") if getattr(found, own) is not getattr(Method, own)]:
        raise UsageError(f"{field}: {name} defines '{changed[0]}', which the package needs as it is; rename it.")
    if not isinstance(found.look, Look | None):
        raise UsageError(f"{field}: {name} has a look that is a {type(found.look).__name__}; make it a Look.")
    if not found.complete:
        raise UsageError(f"{field}: {name} sets complete = False, which only the package's own may; leave it out.")
    return found


def of_entry(
    fields: Mapping[str, Any], place: int, train: Mapping[str, Any], recorded: Mapping[str, Any] | None = None
) -> Method:
    """The method of a ``[[networks]]`` entry.

    Args:
        fields: the entry, with ``method``.
        place: of the entry in the study.
        train: the fields of its training.
        recorded: what a run folder holds of entries whose method is not the package's own, by the place of the entry
            in the study: they are made from it, and no user code is imported. None: it is imported.

    Raises:
        UsageError: an unknown method or field, or a bad value; the sentence names it and the mend.
    """
    name, where = fields.get("method"), f"networks.{place}"
    if not isinstance(name, str):
        told = "is missing" if name is None else f"is {shown(name)}"
        raise UsageError(f"{where}.method {told}; name one of {', '.join(METHODS)}, or your own package.module:Name.")
    if name not in METHODS and recorded is not None:
        return RecordedMethod.of(fields, recorded.get(str(place)))
    method = find(name, f"{where}.method")
    if name in METHODS:
        return validated(method, method.completed(fields, train), field=where)
    with user_code(f"{where}: method {name}", own_frames=True):
        return validated(method, method.completed(fields, train), field=where)


def look_of(method: type[Method] | Method, name: str) -> Look:
    """How a method's networks appear; ``name`` is the method's, which is the label where it chooses none."""
    return method.look or Look(name.rpartition(":")[2][:LABEL], *_OTHER)
