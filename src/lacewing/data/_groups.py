"""Records that belong together: equal ones, and those of one person. Pure functions on numpy arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]

_BLOCK = 4096  # rows that are copied at a time, so that an array on disk is never copied whole


def row_hashes(x: npt.ArrayLike) -> list[bytes]:
    """A hash of each of the N rows of ``x`` (N, ...): equal for rows that are equal, value for value (-0.0 is 0.0).

    NaN equals NaN here. The hashes of two arrays compare where both have one dtype and one shape of a row. 128 bits
    of BLAKE2b: rows that differ share a hash with a chance below 1e-20 even among a billion rows.

    Raises:
        TypeError: ``x`` holds objects.
        ValueError: ``x`` has no rows to tell apart: it is a single number, or a row holds no value.
    """
    rows = np.asarray(x)
    if rows.ndim == 0 or (len(rows) and rows[0].size == 0):
        raise ValueError(f"x has shape {rows.shape}, but must be (N, ...) with at least one value in each row")
    if rows.dtype.kind not in "buifcSU" or rows.dtype in (np.longdouble, np.clongdouble):
        raise TypeError(f"x has dtype {rows.dtype}: its bytes do not tell which rows are equal")
    found = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].reshape(len(rows[start : start + _BLOCK]), -1)
        if block.dtype.kind in "fc":
            block = block + 0.0  # -0.0 becomes 0.0
            block[np.isnan(block)] = np.nan  # one NaN of the many
        found += [blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(block)]
    return found


def duplicate_groups(x: npt.ArrayLike) -> Codes:
    """(N,) codes 0, 1, ... in order of appearance: rows of ``x`` (N, ...) share one where they are equal.

    Raises TypeError and ValueError as `row_hashes` does.
    """
    return group_codes(row_hashes(x))


def group_codes(names: Iterable[Hashable]) -> Codes:
    """(N,) codes 0, 1, ... in order of appearance of N names (numbers, words, bytes)."""
    seen: dict[Hashable, int] = {}
    values: Iterable[Any] = names.tolist() if isinstance(names, np.ndarray) else names
    return np.array([seen.setdefault(name, len(seen)) for name in values], np.int64)


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
