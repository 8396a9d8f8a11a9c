"""Search the chains of a given shape that have full support and every b and c at least 2."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from lacewing.sparsify._pattern import Pattern

Patterns = tuple[Pattern, ...]


@functools.cache
def cheapest(rows: int, columns: int, factors: int, monotone: bool) -> Patterns | None:
    """The chain with the fewest entries; ties go to the lexicographically greatest. None if there is no such chain.

    Dynamic programming: the factors that may follow on the right depend only on a, c and d.
    """
    if min(rows, columns, factors) < 1:
        return None
    least = 2 * min(rows, columns) if monotone else 4  # entries of any factor, since b and c are at least 2

    @functools.cache
    def best(a: int, c: int, d: int, more: int) -> tuple[int, Patterns] | None:
        """(-entries, patterns) of the best ``more`` factors to the right of one with these a, c and d."""
        if more == 0:
            return (0, ()) if d == 1 else None
        if more == 1:
            low = high = columns
        elif monotone:
            low, high = sorted((a * c * d, columns))
        else:
            low, high = 1, max(rows, columns)
        found: tuple[int, Patterns] | None = None
        for right in sorted(_neighbours(a, c, d, low, high), key=lambda pattern: pattern.nnz):
            if found and right.nnz + (more - 1) * least > -found[0]:
                break
            rest = best(right.a, right.c, right.d, more - 1)
            if rest:
                option = rest[0] - right.nnz, (right, *rest[1])
                found = max(found, option) if found else option
        return found

    chain = best(1, 1, rows, factors)  # as if an identity of ``rows`` rows were on the left of the chain
    return chain[1] if chain else None


@functools.cache
def menu(rows: int, columns: int, factors: int) -> dict[int, Patterns]:
    """By number of entries, ascending: the chains whose inner sizes are each ``rows`` or ``columns``, in this order.

    Only chains that save entries; ties go to the lexicographically greatest.
    """

    @functools.cache
    def right_of(a: int, c: int, d: int, size: int, more: int) -> dict[int, Patterns]:
        if more == 0:
            return {0: ()} if d == 1 else {}
        found: dict[int, Patterns] = {}
        for inner in {columns} if more == 1 else {size, columns}:
            for right in _neighbours(a, c, d, inner, inner):
                for entries, rest in right_of(right.a, right.c, right.d, inner, more - 1).items():
                    total, patterns = entries + right.nnz, (right, *rest)
                    if total < rows * columns and patterns > found.get(total, ()):
                        found[total] = patterns
        return found

    return dict(sorted(right_of(1, 1, rows, rows, factors).items()))


def _neighbours(a: int, c: int, d: int, low: int, high: int) -> Iterator[Pattern]:
    """Every pattern with b, c >= 2 and ``low`` to ``high`` columns that chains to the right of one with a, c and d."""
    for rank in divisors(c):
        for right_d in divisors(d):
            right_a, b = a * c // rank, rank * d // right_d
            group = right_a * right_d
            if b >= 2:
                for right_c in range(max(2, math.ceil(low / group)), high // group + 1):
                    yield Pattern(right_a, b, right_c, right_d)


@functools.cache
def divisors(n: int) -> tuple[int, ...]:
    """The divisors of ``n`` in ascending order."""
    return tuple(k for k in range(1, n + 1) if n % k == 0)
