"""What a run folder holds of a method that is not the package's own, so that no user code runs to read a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from lacewing.config import Train, folder_name, validated
from lacewing.errors import FolderError, UsageError
from lacewing.methods._base import Method, Step
from lacewing.methods.dense import Dense
from lacewing.results import Kind, Trait
from lacewing.support.user_code import user_code

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Count = Annotated[int, Field(ge=0, le=10**6)]


class _RecordedStep(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    network: Annotated[str, folder_name]
    key: dict[str, Any]
    level: _Count
    stop: _Count | None


class MethodRecord(BaseModel):
    """plan.json's record of one entry."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    entry: Annotated[str, folder_name]
    role: Literal["sparse", "control"]
    complete: bool
    reshapes: bool
    masked: bool
    adds: list[_Name]
    traits: list[Trait]
    recipes: _Count
    source: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    steps: Annotated[list[_RecordedStep], Field(min_length=1, max_length=10_000)]
    mask_of: Annotated[str, folder_name] | None = None

    @model_validator(mode="after")
    def _steps_follow_one_another(self) -> MethodRecord:
        if [step.level for step in self.steps] != [*range(len(self.steps))]:
            raise ValueError("the levels of its steps must be 0, 1, 2, ...")
        if len({step.network for step in self.steps}) < len(self.steps):
            raise ValueError("two of its steps have one name")
        return self


def record(method: Method, train: Train) -> dict[str, Any]:
    """What plan.json keeps of an entry whose method is a user's; ``train`` is its training."""
    taken = {} if method.mask_of is None else {"mask_of": method.mask_of}
    return {
        "entry": method.entry,
        "role": method.role,
        "complete": method.complete,
        "reshapes": method.reshapes,
        "masked": method.masked,
        "adds": sorted(method.adds),
        "traits": sorted(method.traits),
        "recipes": method.recipes,
        "source": method.source,
        "steps": [
            {"network": s.network, "key": dict(s.key), "level": s.level, "stop": s.stop} for s in method.steps(train)
        ],
        **taken,
    }


def check_own(method: Method, train: Train, where: str) -> None:
    """Refuse a user's method whose answers cannot be planned with, or would be read from a run folder as others.

    Args:
        method: an entry.
        train: its training.
        where: the entry, as messages name it: ``networks.2``.

    Raises:
        UserCodeError: one of its functions fails.
        UsageError: it names its networks, their order or their keys in another way than `Method` asks for.
    """
    place = f"{where}: method {method.method}"
    with user_code(place):
        content, steps, first, keeps = record(method, train), method.steps(train), method.first(), method.keeps
    if not isinstance(method.adds, frozenset) or method.adds - type(method).model_fields.keys():
        raise UsageError(f"{place}: adds must be a frozenset of names of its fields.")
    try:
        again = RecordedMethod.of(method.model_dump(mode="json"), json.loads(json.dumps(content, allow_nan=False)))
    except FolderError as error:
        raise UsageError(f"{place}: {error.__cause__ or error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{place}: the keys of its steps must be plain data: {error}.") from None
    if again.steps(train) != steps:
        raise UsageError(f"{place}: the keys of its steps must be plain data: text, numbers, true or false, and lists.")
    if (first is method) != (again.first() is again) or (first is not method and first != again.first()):
        raise UsageError(
            f"{place}: first() must return the method itself, or a dense network of its train and model whose settings "
            "are the key of the first step."
        )
    if first is method and (keeps or any(step.stop is not None for step in steps)):
        raise UsageError(f"{place}: only networks that start from a dense one may keep its states or stop it early.")
    if first is not method and method.mask_of is not None:
        raise UsageError(f"{place}: networks that take the mask of another one may not start from a dense one as well.")


class RecordedMethod(Method):
    """An entry as a run folder records it: it names and describes its networks, and builds and trains none."""

    model_config = ConfigDict(extra="allow")

    _record: MethodRecord = PrivateAttr()

    @classmethod
    def of(cls, fields: Mapping[str, Any], content: object) -> RecordedMethod:
        """The entry with these fields; ``content`` is what `record` made of it.

        Raises:
            FolderError: there is no such record, or it is damaged.
        """
        try:
            found = cls.model_validate(dict(fields))
            found._record = MethodRecord.model_validate(content)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            told = f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}".lstrip(": ")
            raise FolderError(
                f"what the folder records of the method {str(fields.get('method'))[:80]!r} is not what this version "
                f"writes ({told})."
            ) from UsageError(f"{told}.")
        return found

    def loaded(self) -> Method:
        """The method itself, whose code is imported.

        Raises:
            UsageError: it cannot be imported.
            FolderError: its source is not that with which the networks were trained.
        """
        from lacewing.methods import find

        found = validated(find(self.method, "networks: method"), self.model_dump(), f"networks: '{self.entry}'")
        if found.source != self.source:
            raise FolderError(
                f"the source of the method {self.method} has changed since '{self.entry}' was trained; restore it."
            )
        return found

    @property
    def role(self) -> Kind:  # type: ignore[override]
        """As recorded, like the rest."""
        return self._record.role

    @property
    def complete(self) -> bool:  # type: ignore[override]
        """See `Method`."""
        return self._record.complete

    @property
    def reshapes(self) -> bool:  # type: ignore[override]
        """See `Method`."""
        return self._record.reshapes

    @property
    def masked(self) -> bool:  # type: ignore[override]
        """See `Method`."""
        return self._record.masked

    @property
    def adds(self) -> frozenset[str]:  # type: ignore[override]
        """See `Method`."""
        return frozenset(self._record.adds)

    @property
    def traits(self) -> frozenset[Trait]:
        """See `Method`."""
        return frozenset(self._record.traits)

    @property
    def recipes(self) -> int:
        """See `Method`."""
        return self._record.recipes

    @property
    def mask_of(self) -> str | None:
        """See `Method`."""
        return self._record.mask_of

    @property
    def source(self) -> str:
        """Of the module that the networks were trained with."""
        return self._record.source

    @property
    def entry(self) -> str:
        """See `Method`."""
        return self._record.entry

    def first(self) -> Method:
        """See `Method`."""
        alike = Dense.alike(self)
        return alike if self._record.steps[0].key == alike.settings() else self

    def steps(self, train: Train) -> tuple[Step, ...]:
        """See `Method`; whatever the training, which a run folder does not change."""
        return tuple(Step(s.network, s.key, s.level, s.stop) for s in self._record.steps)
