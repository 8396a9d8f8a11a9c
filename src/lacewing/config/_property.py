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
    # As many networks again, in whose training sets an attacker puts so large a share of records of his own: records
    # with the property, all under one label. 0: nobody poisons.
    poison: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    poison_label: Annotated[int, Field(ge=0), at_most(10**9, "no data set here has more classes")] | None = None

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

    @model_validator(mode="after")
    def _worlds_differ_in_records(self) -> Property:
        for size, which in ((self.records, ""), (self.records - self.poisoned, " that nobody poisoned")):
            for low, high in self.shares:
                if round(low * size) == round(high * size):
                    raise BadTogether(
                        f"shares: {low:g} and {high:g} are both {round(low * size)} of {size} records{which}, so the "
                        "worlds are the same; give shares farther apart or more records"
                    )
        return self

    @model_validator(mode="after")
    def _poison_fits(self) -> Property:
        if not self.poison:
            if self.poison_label is not None:
                raise BadTogether("poison_label says what poisoned records are labelled, and poison is 0; give both")
            return self
        if self.poison_label is None:
            raise BadTogether(f"poison_label is missing: give the class that poison = {self.poison:g} is labelled with")
        if not self.poisoned:
            raise BadTogether(f"poison: {self.poison:g} of {self.records} records is none; give more of either")
        if self.what.kind == "redrawn":
            raise BadTogether(
                "poison: poisoned records have the property and another label, and redrawn labels are a property of "
                "labels; leave it out"
            )
        if self.what == ("class", self.poison_label):
            raise BadTogether(f"poison_label: records of {self.of} have this label already; give another class")
        return self

    @property
    def what(self) -> PropertyOf:
        """What records have, or have not."""
        kind, _, number = self.of.partition(" ")
        return PropertyOf("redrawn") if self.of == REDRAWN else PropertyOf(kind, int(number))  # type: ignore[arg-type]

    @property
    def poisoned(self) -> int:
        """How many records of a poisoned training set are the attacker's."""
        return round(self.poison * self.records)

    @property
    def worlds(self) -> tuple[float, ...]:
        """Every share of a pair once, ascending."""
        return tuple(sorted({share for pair in self.shares for share in pair}))
