"""What of the records themselves makes results misleading: exact copies, constant features, classes of few records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Inputs, Labels
from lacewing.data._groups import DUPLICATES, Codes, duplicate_groups
from lacewing.errors import DataError
from lacewing.support.mapped import blocks

RARE = 10  # records of a class: with fewer, a part of a split may have none
_LISTED = 10


@dataclass(frozen=True)
class Facts:
    """Counts of what a person should know of N records."""

    records: int
    copies: int  # records whose x equals that of another
    features: int  # columns of a table, or channels of images
    constant: int  # of them, those with one value in all records
    constant_first: list[int]  # the first ten of these
    classes: int
    rare: int  # classes with fewer than ten records
    rare_first: list[list[int]]  # the first ten of these, each with its number of records
    images: bool = False
    # Of a study, over its seeds: the fewest and most records audited of a target that have a copy on the other side.
    across: list[int] | None = None
    groups: int | None = None  # of a study with data.groups


def facts(x: Inputs, y: Labels, classes: int, where: str, copies_N: Codes | None = None) -> Facts:
    """What there is to tell of N records; ``copies_N`` are their `duplicate_groups`, where these are known.

    Raises:
        DataError: all labels are of one class, or all records are the same; ``where`` begins the sentence.
    """
    codes = duplicate_groups(x) if copies_N is None else copies_N
    count_C = np.bincount(y, minlength=classes)
    if (count_C > 0).sum() < 2:
        raise DataError(
            f"{where}: all {len(y):,} records are of class {y[0]}, and at least 2 classes are needed; use more "
            "records, or mend the labels."
        )
    if codes.max() == 0:
        raise DataError(f"{where}: all {len(y):,} records have the same x; use more records, or mend the data.")
    constant = np.flatnonzero(_constant(x)).tolist()
    rare = np.flatnonzero(count_C < RARE)
    return Facts(
        records=len(y),
        copies=int((np.bincount(codes)[codes] > 1).sum()),
        features=x.shape[1],
        constant=len(constant),
        constant_first=constant[:_LISTED],
        classes=classes,
        rare=len(rare),
        rare_first=[[int(each), int(count_C[each])] for each in rare[:_LISTED]],
        images=x.ndim > 2,
    )


def _constant(x: Inputs) -> npt.NDArray[np.bool_]:
    """Of each column or channel of records (N, C, ...) whether it has one value in all of them."""
    first = x[:1].reshape(1, x.shape[1], -1)[:, :, :1]
    places = np.arange(x.shape[1])  # of those that had one value so far
    for block in blocks(x):
        if not len(places):
            break
        same = block[:, places].reshape(len(block), len(places), -1) == first[:, places]
        places = places[same.all(axis=(0, 2))]
    found = np.zeros(x.shape[1], bool)
    found[places] = True
    return found


def across(copies_N: Codes, inside: Codes, outside: Codes) -> int:
    """How many of the records ``inside`` and ``outside`` have a copy on the other side."""
    copied = np.bincount(copies_N)[copies_N] > 1  # few, as a rule
    one, two = (copies_N[side[copied[side]]] for side in (inside, outside))
    return int(np.isin(one, two).sum() + np.isin(two, one).sum())


def signs(found: Facts, groups: Sequence[str] = ()) -> list[str]:
    """What of these facts a person must know to read results, a sentence or two each; empty: nothing.

    ``groups`` is data.groups of the study.
    """
    said = []
    if found.copies and DUPLICATES not in groups:
        said.append(f"Exact copies: {_copies(found)}{_sides(found)}. data.groups = {_with_duplicates(groups)}")
    if found.constant:
        kind = "channels" if found.images else "columns"
        which = kind[:-1] if found.constant == 1 else kind
        said.append(
            f"Constant features: {found.constant:,} of {found.features:,} {kind} of x hold one value in all records "
            f"({which} {_listed(found.constant, map(str, found.constant_first))}), which tells a network nothing. "
            "Remove them, or mend how x was made."
        )
    if found.rare:
        each = (f"class {name}: {count}" for name, count in found.rare_first)
        said.append(
            f"Rare classes: {found.rare:,} of {found.classes:,} classes have fewer than {RARE} records "
            f"({_listed(found.rare, each)}), so that a part of a split may have none. Use more records, or leave these "
            "classes out."
        )
    if found.groups is not None:
        names = ", ".join(groups)
        if found.groups == found.records:
            said.append(f"data.groups ({names}) changes nothing: each of the {found.records:,} records is a group.")
        else:
            said.append(
                f"n counts groups: data.groups ({names}) makes {found.groups:,} groups of {found.records:,} records. "
                "Each has one score and stands on one side, and intervals are over groups."
            )
    return said


def told(found: Facts) -> list[str]:
    """The facts of a data set, for a person who checks it."""
    said = f"exact copies: {_copies(found)}" if found.copies else "exact copies: none"
    return [said, *(each for each in signs(found, (DUPLICATES,)))]


def _copies(found: Facts) -> str:
    have = "records have" if found.copies > 1 else "record has"
    share = f"{found.copies / found.records:.1%}" if found.copies >= 0.001 * found.records else "below 0.1%"
    return f"{found.copies:,} of {found.records:,} {have} the same x as another ({share})"


def _sides(found: Facts) -> str:
    """Where the copies stand in a study's splits."""
    if found.across is None:
        return ""
    low, high = found.across
    if not high:
        return ", no member of a target has a copy among its non-members, and n counts each copy"
    span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f", and {span} of those that a target is audited on have a copy on the other side of the split"


def _with_duplicates(groups: Sequence[str]) -> str:
    if not groups:
        return f'"{DUPLICATES}" keeps copies on one side and counts them once.'
    named = ", ".join(f'"{name}"' for name in (*groups, DUPLICATES))
    return f"[{named}] keeps copies on one side, too."


def _listed(count: int, shown: Iterable[str]) -> str:
    words = list(shown)
    return ", ".join(words) + (f" and {count - len(words):,} more" if count > len(words) else "")
