"""[attribute]: columns of a table that an attacker of its training records does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lacewing.config._bounds import BadLength, BadValue
from lacewing.config._parts import Part
from lacewing.errors import UsageError, did_you_mean

_MOST = 50  # columns: every network is asked about every audited record under each value of each
MOST_VALUES = 20  # of an attribute: the network is asked about each record under each; of columns in one-hot form, too


Places = tuple[int, ...]
Column = int | Annotated[str, Field(min_length=1, max_length=200)]


def _as_columns(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise BadValue(
            'give a list of columns, their places from 0 or names, such as [3, "sex"]; one attribute in one-hot '
            "columns is a list of places"
        )
    if len(value) > _MOST:
        raise BadLength(f"has {len(value):,} values: at most {_MOST}, since every network is asked about each")
    made: list[int | str | Places] = []
    for each in value:
        together = tuple(each) if isinstance(each, list | tuple) else (each,)
        if not together or any(not _is_place(one) for one in together if one is not each or not isinstance(one, str)):
            raise BadValue(
                f"{each!r:.40} is no column, nor a list of columns: columns are whole numbers from 0, or names"
            )
        if len(together) > MOST_VALUES:
            raise BadValue(f"one attribute has {len(together):,} columns: at most {MOST_VALUES}")
        made.append(together if isinstance(each, list | tuple) else each)
    named = [place for each in made for place in (each if isinstance(each, tuple) else (each,))]
    if len(set(named)) < len(named):
        raise BadValue("a column is named twice")
    return tuple(made)


def _is_place(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class Attribute(Part):
    """Columns of a table, each attacked by itself: an attacker who knows the rest of a record guesses it."""

    # Places from 0 or names; several places in a list are one attribute in one-hot columns.
    columns: Annotated[tuple[Column | Places, ...], BeforeValidator(_as_columns), Field(strict=False)]

    @property
    def names(self) -> tuple[str, ...]:
        """What each attribute is called: its column, or its columns with + between them."""
        return tuple("+".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in self.columns)

    def places(self, named: Mapping[str, Places]) -> tuple[Places, ...]:
        """The columns of each attribute, from 0.

        Args:
            named: of a table whose columns have names, the places of each.

        Raises:
            UsageError: no column has this name, or two attributes share a place.
        """
        found: list[Places] = []
        for each in self.columns:
            if isinstance(each, str) and each not in named:
                mend = did_you_mean(each, named) if named else "its columns have no names, so give places from 0."
                raise UsageError(f"attribute.columns: the table has no column '{each}' among its features; {mend}")
            found.append(named[each] if isinstance(each, str) else each if isinstance(each, tuple) else (each,))
        flat = [place for each in found for place in each]
        if len(set(flat)) < len(flat):
            raise UsageError("attribute.columns: a column is named twice, by its name and by its place; name it once.")
        return tuple(found)
