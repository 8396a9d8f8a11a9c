"""[attribute]: columns of a table that an attacker of its training records does not know."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lacewing.config._bounds import BadLength, BadValue
from lacewing.config._parts import Part

_MOST = 50  # columns: every network is asked about every audited record under each value of each
MOST_VALUES = 20  # of an attribute: the network is asked about each record under each; of columns in one-hot form, too


def _as_columns(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise BadValue("give a list of columns, from 0, such as [3, 17]; one attribute in one-hot columns is a list")
    if len(value) > _MOST:
        raise BadLength(f"has {len(value):,} values: at most {_MOST}, since every network is asked about each")
    made: list[int | tuple[int, ...]] = []
    for each in value:
        together = tuple(each) if isinstance(each, list | tuple) else (each,)
        if not together or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in together):
            raise BadValue(f"{each!r:.40} is no column, nor a list of columns: columns are whole numbers from 0")
        if len(together) > MOST_VALUES:
            raise BadValue(f"one attribute has {len(together):,} columns: at most {MOST_VALUES}")
        made.append(together if isinstance(each, list | tuple) else each)
    named = [place for each in made for place in (each if isinstance(each, tuple) else (each,))]
    if len(set(named)) < len(named):
        raise BadValue("a column is named twice")
    return tuple(made)


class Attribute(Part):
    """Columns of a table, each attacked by itself: an attacker who knows the rest of a record guesses it."""

    # Places from 0; several in a list are one attribute in one-hot columns.
    columns: Annotated[tuple[int | tuple[int, ...], ...], BeforeValidator(_as_columns), Field(strict=False)]

    @property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """The columns of each attribute."""
        return tuple(each if isinstance(each, tuple) else (each,) for each in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """What each attribute is called: its column, or its columns with + between them."""
        return tuple("+".join(map(str, each)) for each in self.places)
