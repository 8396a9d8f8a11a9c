"""A user's own attack: an `Attack`, or a plain function of the evidence; and what a run folder records of one."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lacewing.attacks._measure import calibrated
from lacewing.attacks._types import EVERY_TASK, Attack, Evidence, Need, Scored, Trait
from lacewing.errors import UsageError, UserCodeError
from lacewing.metrics import Estimate, Floats
from lacewing.support.loading import source_digest
from lacewing.support.user_code import belongs_to_user, defined_at, user_code

Function = Callable[..., Any]

_Word = Annotated[str, Field(min_length=1, max_length=200)]


class Described(BaseModel):
    """An attack without its function: what plan.json records of a user's, so that a report imports no user code."""

    model_config = ConfigDict(strict=True, extra="forbid")

    family: _Word
    threat_model: Annotated[str, Field(min_length=1, max_length=2000)]
    needs: Annotated[frozenset[Need], Field(strict=False)]
    about: Annotated[frozenset[Trait], Field(strict=False)]
    fewest: Annotated[int, Field(ge=1, le=1000)]
    adaptive: _Word | None
    source: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None

    @classmethod
    def of(cls, attack: Attack) -> Described:
        """Raises `ValidationError` where a field of the attack is not what it should be."""
        return cls.model_validate({name: getattr(attack, name) for name in cls.model_fields})


def described(attack: Attack) -> dict[str, Any]:
    """What a run folder records of an attack: plain data, see `Described`."""
    found = Described.of(attack).model_dump(mode="json")
    return {name: sorted(value) if isinstance(value, list) else value for name, value in found.items()}


def recorded(name: str, record: Described) -> Attack:
    """The attack of a run folder's record; to run it is an error, since its code is not there."""
    return Attack(name=name, function=partial(_not_here, name), **dict(record))


def _not_here(name: str, evidence: Evidence, *, seed: int) -> Scored:
    raise UsageError(
        f"the attack '{name}' is code of the user's, which this command does not run; give the study to "
        "`lacewing run`, with --out this folder."
    )


def of_user(thing: Any, name: str, field: str, *, module: str | None = None) -> Attack:
    """A user's `Attack`, or function from `Evidence` to scores (N,), as an attack of ours.

    A function may take ``seed``. It gives one finite number a record, higher for members, or `Scored`; the decisions
    of bare scores come from the shadow by `calibrated`. What it raises, and what it returns that is something else, is
    told as the user's. Arrays that it is given cannot be written into, and the membership of the attacked network's
    records is drawn at random in what it is given, as nobody who attacks knows it; ours are given the true one, which
    they read for the oracle's choice alone.

    Args:
        thing: the attack or function.
        name: under which results name it.
        field: that holds it, for messages.
        module: which names it, where results are kept: its source is part of their keys.

    Raises:
        UsageError: it is neither, or a field of the attack is not what it should be.
    """
    place = f"{field}: the attack '{name}'"
    function = thing.function if isinstance(thing, Attack) else thing
    if not callable(function):
        raise UsageError(f"{place} is a {type(thing).__name__}; give an Attack, or a function from evidence to scores.")
    source = None if module is None else _source(module, function, field)
    if isinstance(thing, Attack):
        attack = replace(thing, name=name, source=source)
    else:
        attack = Attack(
            name=name,
            family="own",
            threat_model=f"The user's own function '{name}' scores the network's outputs on each record. Where there "
            "is a shadow network of the same recipe, whose members are known, the threshold comes from it.",
            alone=f"The user's own function '{name}' scores the network's outputs on each record.",
            function=function,
            needs=frozenset(),
            tasks=EVERY_TASK,
            source=source,
        )
    try:
        Described.of(attack)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UsageError(f"{place}: {problem['loc'][0]}: {problem['msg']}; mend that field of the Attack.") from None
    code = function
    while isinstance(code, partial):  # whose own module is functools
        code = code.func
    defined_in = getattr(code, "__module__", None)
    if module is None and defined_in not in (None, "__main__"):  # what is loaded by its name is counted there
        belongs_to_user(defined_in)
    return replace(attack, function=partial(_perform, function, place))


def _source(module: str, function: Function, field: str) -> str:
    """The digest of the module that names an attack and, where it is another, of the one that defines the function."""
    found = {source_digest(sys.modules[module], field)}
    if not _is_ours(function):
        found.add(source_digest(function, field))
    return found.pop() if len(found) == 1 else hashlib.sha256(" ".join(sorted(found)).encode()).hexdigest()


def _is_ours(function: Function) -> bool:
    while isinstance(function, partial):
        function = function.func
    return (getattr(function, "__module__", None) or "").partition(".")[0] == "lacewing"


def _perform(function: Function, place: str, evidence: Evidence, *, seed: int) -> Scored:
    given = {"seed": seed} if _takes_seed(function) else {}

    def answer(held: Evidence) -> Any:
        shown = held if _is_ours(function) else _without_membership(held, seed)
        with user_code(place, own_frames=_is_ours(function)):
            return function(_read_only(shown), **given)

    first = answer(evidence)
    if isinstance(first, Scored):
        return _checked(first, evidence, function, place)
    answers = {id(evidence): first}

    def score(held: Evidence) -> Floats:
        found = answers.get(id(held))
        return _scores(answer(held) if found is None else found, held, function, place)

    scores, decision = calibrated(score, evidence)
    return Scored(scores, decision, "own function" + ", threshold from the shadow network" * (decision is not None))


def _without_membership(evidence: Evidence, seed: int) -> Evidence:
    """With the records' membership in a random order: an attack that read it would find a leak in any network."""
    order = np.random.default_rng([seed, 401]).permutation(len(evidence.observed.member_N))
    # Groups would tell which records are on one side.
    hidden = [
        replace(one, member_N=one.member_N[order], group_N=None) for one in (evidence.observed, *evidence.related)
    ]
    return replace(evidence, observed=hidden[0], related=tuple(hidden[1:]))


def _takes_seed(function: Function) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a function in C
        return False
    return any(p.kind is p.VAR_KEYWORD or (p.name == "seed" and p.kind is not p.POSITIONAL_ONLY) for p in parameters)


def _scores(answer: Any, held: Evidence, function: Function, place: str) -> Floats:
    with user_code(place, "; it must return one number a record"):
        found = np.asarray(answer)
    n = len(held.observed.member_N)
    if found.shape != (n,) or found.dtype.kind not in "buif":
        what = f"{type(answer).__name__} of shape {found.shape}, dtype {found.dtype}"
        raise _wrong(function, place, f"returned a {what}; it must return one number a record, shape ({n},)")
    if not np.isfinite(found).all():
        bad = int((~np.isfinite(found)).sum())
        raise _wrong(function, place, f"returned NaN or infinite scores for {bad} of {n} records; give finite ones")
    return found.astype(np.float64)


def _checked(scored: Scored, evidence: Evidence, function: Function, place: str) -> Scored:
    scores = _scores(scored.scores_N, evidence, function, place)
    decision = None if scored.decision_N is None else np.asarray(scored.decision_N)
    if decision is not None and (decision.shape != scores.shape or decision.dtype != np.bool_):
        what = f"shape {decision.shape}, dtype {decision.dtype}"
        raise _wrong(function, place, f"returned decisions of {what}; give one True or False a record, or None")
    if not isinstance(scored.variant, str) or not isinstance(scored.oracle, Estimate | None):
        raise _wrong(function, place, "returned a variant that is no text, or an oracle that is no Estimate")
    with user_code(f"{place}: writing its notes as JSON", "; give texts, numbers, lists and dicts alone"):
        notes = json.loads(json.dumps(dict(scored.notes), allow_nan=False, default=lambda value: value.tolist()))
    oracle = scored.oracle if _is_ours(function) else None  # it would be one of a random membership
    return replace(scored, scores_N=scores, decision_N=decision, notes=notes, oracle=oracle)


def _wrong(function: Function, place: str, what: str) -> UserCodeError:
    return UserCodeError(f"{place} {what}.{defined_at(function)}")


def _read_only(value: Any) -> Any:
    """The same evidence, without the right to write into its arrays, which other attacks read too."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    if isinstance(value, tuple):
        return tuple(map(_read_only, value))
    if isinstance(value, Mapping):
        return {key: _read_only(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _read_only(getattr(value, each.name)) for each in fields(value)})
    return value
