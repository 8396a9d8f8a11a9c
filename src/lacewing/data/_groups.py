"""Records that belong together: equal ones, and those of one person. Pure functions on numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset, digest_of
from lacewing.errors import DataError
from lacewing.support.mapped import Mapped, blocks

Codes = npt.NDArray[np.int64]

DUPLICATES = "duplicates"  # what data.groups calls records of equal x
NO_ID = ("", "nan", "nat", "none", "<na>")  # what missing ids become as words
LEAST_GROUPS = 5  # in each part of a split: of fewer, rates and intervals say nothing


def row_hashes(x: npt.ArrayLike | Mapped) -> list[bytes]:
    """A hash of each of the N rows of ``x`` (N, ...): equal for rows that are equal, value for value (-0.0 is 0.0).

    NaN equals NaN here. The hashes of two arrays compare where both have one dtype and one shape of a row. 128 bits
    of BLAKE2b: rows that differ share a hash with a chance below 1e-20 even among a billion rows.

    Raises:
        TypeError: ``x`` holds objects.
        ValueError: ``x`` has no rows to tell apart: it is a single number, or a row holds no value.
    """
    rows = x if isinstance(x, Mapped) else np.asarray(x)
    if rows.ndim == 0 or (len(rows) and math.prod(rows.shape[1:]) == 0):
        raise ValueError(f"x has shape {rows.shape}, but must be (N, ...) with at least one value in each row")
    if rows.dtype.kind not in "buifcSU" or rows.dtype in (np.longdouble, np.clongdouble):
        raise TypeError(f"x has dtype {rows.dtype}: its bytes do not tell which rows are equal")
    found = []
    for part in blocks(rows):
        block = part.reshape(len(part), -1)
        if block.dtype.kind in "fc":
            block = block + 0.0  # -0.0 becomes 0.0
            block[np.isnan(block)] = np.nan  # one NaN of the many
        found += [blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(block)]
    return found


def duplicate_groups(x: npt.ArrayLike | Mapped) -> Codes:
    """(N,) codes 0, 1, ... in order of appearance: rows of ``x`` (N, ...) share one where they are equal.

    Raises TypeError and ValueError as `row_hashes` does.
    """
    if isinstance(x, Mapped):
        return group_codes(row_hashes(x))
    rows = np.asarray(x)
    if rows.ndim and rows.dtype.kind in "biuf" and rows.dtype != np.longdouble and rows.size == len(rows):
        return _codes(rows.reshape(-1))  # one number a row: sorting takes a tenth of the time of hashing
    return group_codes(row_hashes(rows))


def group_codes(names: Iterable[Hashable]) -> Codes:
    """(N,) codes 0, 1, ... in order of appearance of N names (numbers, words, bytes)."""
    if isinstance(names, np.ndarray) and names.ndim == 1 and names.dtype.kind in "biu":
        return _codes(names)
    seen: dict[Hashable, int] = {}
    values: Iterable[Any] = names.tolist() if isinstance(names, np.ndarray) else names
    return np.array([seen.setdefault(name, len(seen)) for name in values], np.int64)


def _codes(numbers_N: npt.NDArray[Any]) -> Codes:
    """Codes in order of appearance of numbers; -0.0 equals 0.0 and NaN equals NaN."""
    _, first, sorted_code = np.unique(numbers_N, return_index=True, return_inverse=True)
    code = np.empty(len(first), np.int64)
    code[np.argsort(first)] = np.arange(len(first))
    return np.asarray(code[sorted_code])


def merge_groups(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Codes:
    """(N,) codes of the finest groups that keep together what ``a`` or ``b`` (N,) keep together.

    Two records share a code where a chain of records joins them, each of which shares its group in ``a`` or in ``b``
    with the next: the connected components of the graph of both.

    Raises:
        ValueError: the lengths differ, or one is not one-dimensional.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"groups of shape {a.shape} and {b.shape} do not name the same records: both must be (N,)")
    if not len(a):
        return np.zeros(0, np.int64)
    left, right = group_codes(a), group_codes(b)
    # A node for each group; a record joins its two.
    nodes = left.max() + right.max() + 2
    edges = coo_array((np.ones(len(a), np.int8), (left, left.max() + 1 + right)), shape=(nodes, nodes))
    _, component = connected_components(edges, directed=False)
    return group_codes(component[left])


def groups_of(dataset: Dataset, names: Iterable[str] | None) -> Codes | None:
    """(N,) codes of the records that ``names`` keep together; None where there are no names.

    "duplicates" keeps records of equal x together, any other name is one of ``dataset.groups``. Several are merged.
    """
    merged: Codes | None = None
    for name in names or ():
        codes = duplicate_groups(dataset.x) if name == DUPLICATES else group_codes(dataset.groups[name])
        merged = codes if merged is None else merge_groups(merged, codes)
    return merged


def digest_with(dataset: Dataset, group_N: Codes) -> str:
    """SHA-256 (hexadecimal) of a data set and of which of its records are of one group, whatever the groups' names."""
    content = np.frombuffer(bytes.fromhex(dataset.digest), np.uint8)
    return digest_of(content, group_codes(group_N))


def deal(group_N: Codes, parts: int, rng: np.random.Generator, split: str) -> npt.NDArray[np.int64]:
    """(N,) the part 0 .. parts - 1 of each record, whole groups at random, each part alike.

    Groups of several records come in random order, each to a random one of the parts that have room for it, the more
    room the likelier, as single records of a random permutation do; where no part has, to the one that holds the fewest
    records. Single records then make the parts as equal as they can. So sizes differ by one record or, where there are
    not enough single records, by at most the largest group.

    Args:
        group_N: codes, each the index of a record of the group, which messages name.
        parts: how many.
        rng: what is random.
        split: what is made, for messages.

    Raises:
        DataError: a group is larger than a part, or a part gets fewer than five groups.
    """
    n = len(group_N)
    code, group, size = np.unique(group_N, return_inverse=True, return_counts=True)
    largest = int(size.argmax())
    which = f"the largest group, that of record {code[largest]}, holds {size[largest]:,} of {n:,} records"
    mend = "Divide that group or leave it out, or use more records."
    if size[largest] > n // parts:
        raise DataError(f"data.groups: {which}, more than each of the {parts} parts of {split} has. {mend}")
    part_G = np.full(len(size), -1, np.int64)
    filled = np.zeros(parts, np.int64)
    for each in rng.permutation(np.flatnonzero(size > 1)):
        room = -(-n // parts) - filled
        weight = np.where(room >= size[each], room, 0) if room.max() >= size[each] else (room == room.max()).astype(int)
        part_G[each] = np.searchsorted(np.cumsum(weight), rng.integers(weight.sum()), side="right")
        filled[part_G[each]] += size[each]
    single = rng.permutation(np.flatnonzero(size == 1))
    part_G[single] = np.repeat(np.arange(parts), _levelled(filled, len(single), rng))
    if (fewest := int(np.bincount(part_G, minlength=parts).min())) < LEAST_GROUPS:
        raise DataError(
            f"data.groups: a part of {split} gets {fewest} groups, and at least {LEAST_GROUPS} are needed; the records "
            f"form {len(size):,} groups, and {which}. {mend}"
        )
    return part_G[group]


def _levelled(filled: Codes, more: int, rng: np.random.Generator) -> Codes:
    """How many of ``more`` records each part gets so that the parts become as equal as possible."""
    lower = list(range(len(filled)))
    while filled[lower].max() * len(lower) > filled[lower].sum() + more:  # what is fuller than all could become
        lower.remove(max(lower, key=lambda part: filled[part]))
    level, over = divmod(int(filled[lower].sum()) + more, len(lower))
    added = np.zeros(len(filled), np.int64)
    added[lower] = level - filled[lower]
    added[rng.permutation(lower)[:over]] += 1
    return added


def pick(group_N: Codes, size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(N,) whole groups at random that hold about ``size`` records, one group at least; none where ``size`` is 0.

    Of the groups that are no larger than ``size``, in random order, the first ones that come nearest to it; where all
    are larger, one of the smallest.
    """
    codes, group, counts = np.unique(group_N, return_inverse=True, return_counts=True)
    if not size:
        return np.zeros(len(group_N), bool)
    order = rng.permutation(np.flatnonzero(counts <= max(size, int(counts.min()))))
    taken = np.cumsum(counts[order])
    chosen = np.zeros(len(codes), bool)
    chosen[order[: 1 + int(np.abs(taken - size).argmin())]] = True
    return np.asarray(chosen[group])
