"""[property]: worlds of training sets that differ in the share of one property."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from lacewing.config._bounds import BadTogether, BadValue, at_most, distinct, no_longer_than
from lacewing.config._parts import Part

REDRAWN = "redrawn labels"
_OF = re.compile(r"(class|feature) (\d{1,9})|redrawn labels")
_Share = Annotated[float, Field(ge=0, le=1)]


class PropertyOf(NamedTuple):
    """What records have or have not: a class, a feature, or a label that is redrawn."""

    kind: Literal["class", "feature", "redrawn"]
    number: int = 0


class Property(Part):
    """Two worlds for each pair of shares, and how many networks of each an attacker and its targets are."""

    of: str  # "class 3", "feature 17" or "redrawn labels"
    # Pairs: what the attacker tells apart, "is this share of the training records like that, or like this?"
    shares: Annotated[
        tuple[Annotated[tuple[_Share, ...], Field(min_length=2, max_length=2, strict=False)], ...],
        Field(min_length=1, strict=False),
        distinct("a pair"),
        no_longer_than(20, "networks of every share are trained"),
    ]
    # Of each world, seed and recipe: half of them are the attacker's own, half are attacked.
    networks: Annotated[int, Field(ge=4), at_most(2000, "each of them is trained for every recipe")] = 64
    records: Annotated[int, Field(ge=2), at_most(10**9, "no data set here has more")]  # in each training set
    asked: Annotated[float, Field(gt=0, lt=1)] = 0.2  # share of the records that nobody trains on: these are asked
    stack: Annotated[int, Field(ge=1, le=256)] | None = None  # networks trained at once; left out: the recipe's own

    @field_validator("of")
    @classmethod
    def _known(cls, of: str) -> str:
        if not _OF.fullmatch(of):
            raise BadValue("write 'class 3', 'feature 17' or 'redrawn labels'")
        return of

    @field_validator("networks")
    @classmethod
    def _two_halves(cls, networks: int) -> int:
        if networks % 2:
            raise BadValue("half of the networks are the attacker's own, so give an even number")
        return networks

    @model_validator(mode="after")
    def _worlds_differ(self) -> Property:
        for low, high in self.shares:
            if low == high:
                raise BadTogether(f"shares: the worlds {low:g} and {high:g} are the same; give two different shares")
        seen = [tuple(sorted(pair)) for pair in self.shares]
        if len(set(seen)) < len(seen):
            raise BadTogether("shares names a pair twice, once in each order; leave one out")
        return self

    @property
    def what(self) -> PropertyOf:
        """What records have, or have not."""
        kind, _, number = self.of.partition(" ")
        return PropertyOf("redrawn") if self.of == REDRAWN else PropertyOf(kind, int(number))  # type: ignore[arg-type]

    @property
    def worlds(self) -> tuple[float, ...]:
        """Every share of a pair once, ascending."""
        return tuple(sorted({share for pair in self.shares for share in pair}))
