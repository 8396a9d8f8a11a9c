"""Chains of Kronecker-sparse factors (butterfly matrices): their algebra, and the search for the cheapest one.

A factor with pattern (a, b, c, d) has support I_a (x) 1_{b x c} (x) I_d: shape (a b d) x (a c d) with a b c d
non-zeros (Lin et al., "Deformable butterfly", NeurIPS 2021, in the notation of Gonon et al.). A chain multiplies
them, left factor first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError


class Pattern(NamedTuple):
    """The support I_a (x) 1_{b x c} (x) I_d of one factor."""

    a: int
    b: int
    c: int
    d: int

    @property
    def rows(self) -> int:
        """Rows of the factor."""
        return self.a * self.b * self.d

    @property
    def columns(self) -> int:
        """Columns of the factor."""
        return self.a * self.c * self.d

    @property
    def nnz(self) -> int:
        """Entries that may differ from zero."""
        return self.a * self.b * self.c * self.d

    def support(self) -> npt.NDArray[np.bool_]:
        """The support as a boolean matrix of shape (rows, columns)."""
        block = np.kron(np.ones((self.b, self.c)), np.eye(self.d))
        return np.kron(np.eye(self.a), block).astype(bool)


@dataclass(frozen=True)
class Chain:
    """A product of Kronecker-sparse factors, left factor first; immutable.

    Raises:
        UsageError: no factor, a number below 1, or neighbours that do not chain; the message names the factors.
    """

    patterns: tuple[Pattern, ...]

    def __init__(self, patterns: Sequence[tuple[int, int, int, int]]) -> None:
        for number, numbers in enumerate(patterns, 1):
            if len(numbers) != 4 or any(not isinstance(n, int) or n < 1 for n in numbers):
                raise UsageError(
                    f"factor {number} is {tuple(numbers)}; give whole numbers (a, b, c, d), each at least 1."
                )
        if not patterns:
            raise UsageError("a chain needs at least one factor (a, b, c, d).")
        object.__setattr__(self, "patterns", tuple(Pattern(*p) for p in patterns))
        for number, (left, right) in enumerate(zip(self.patterns, self.patterns[1:], strict=False), 1):
            if _rank(left, right) is None:
                raise UsageError(
                    f"factors {number} and {number + 1}, {tuple(left)} and {tuple(right)}, do not chain: a must divide "
                    "the next a, the next d must divide d, and a c / next a = next b next d / d must be an integer."
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the product."""
        return self.patterns[0].rows, self.patterns[-1].columns

    @property
    def nnz(self) -> int:
        """Entries of all factors together: what a butterfly layer stores and learns."""
        return sum(p.nnz for p in self.patterns)

    @property
    def density(self) -> float:
        """Entries of the factors / entries of the dense matrix, 0..1 (above 1 for a chain that saves nothing)."""
        return self.nnz / math.prod(self.shape)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank r of each pair of neighbours: their product is r times a Kronecker-sparse support."""
        ranks = (_rank(left, right) for left, right in zip(self.patterns, self.patterns[1:], strict=False))
        return tuple(r for r in ranks if r is not None)

    @classmethod
    def cheapest(cls, rows: int, columns: int, factors: int) -> Chain:
        """The chain of ``factors`` factors with the fewest entries whose product is a ``rows`` x ``columns`` matrix.

        Among chains that (i) have full support (a = 1 first, d = 1 last), (ii) are monotone: the inner sizes form a
        monotone sequence between columns and rows, and (iii) have every b and c at least 2. Of equals, the
        lexicographically greatest list of patterns.

        Raises:
            UsageError: there is no such chain.
        """
        best = _cheapest(rows, columns, factors) if min(rows, columns, factors) >= 1 else None
        if best is None:
            raise UsageError(
                f"no chain of {factors} factors makes a {rows} x {columns} matrix "
                "(full support, monotone sizes, b and c at least 2); use fewer factors, or channels that divide."
            )
        return cls(best)


def _rank(left: Pattern, right: Pattern) -> int | None:
    """The rank of a chainable pair, else None."""
    if right.a % left.a or left.d % right.d or (left.a * left.c) % right.a or (right.b * right.d) % left.d:
        return None
    rank = left.a * left.c // right.a
    return rank if rank == right.b * right.d // left.d else None


@functools.cache
def _cheapest(rows: int, columns: int, factors: int) -> tuple[Pattern, ...] | None:
    """Dynamic programming: what may stand to the right of a factor depends on its a, c and d alone."""
    least = 2 * min(rows, columns)  # entries of any factor, since b and c are at least 2

    @functools.cache
    def best(a: int, c: int, d: int, more: int) -> tuple[int, tuple[Pattern, ...]] | None:
        """(-entries, patterns) of the best ``more`` factors to the right of one with these a, c and d."""
        if more == 0:
            return (0, ()) if d == 1 else None
        low, high = sorted((columns if more == 1 else a * c * d, columns))  # the next inner size, monotone
        found: tuple[int, tuple[Pattern, ...]] | None = None
        for right in sorted(_neighbours(a, c, d, low, high), key=lambda pattern: pattern.nnz):
            if found and right.nnz + (more - 1) * least > -found[0]:
                break
            rest = best(right.a, right.c, right.d, more - 1)
            if rest:
                option = rest[0] - right.nnz, (right, *rest[1])
                found = max(found, option) if found else option
        return found

    chain = best(1, 1, rows, factors)  # as if an identity of ``rows`` rows stood left of the chain
    return chain[1] if chain else None


def _neighbours(a: int, c: int, d: int, low: int, high: int) -> Iterator[Pattern]:
    """Every pattern with b, c >= 2 and ``low`` to ``high`` columns that chains to the right of one with a, c and d."""
    for rank in _divisors(c):
        for right_d in _divisors(d):
            right_a, b = a * c // rank, rank * d // right_d
            group = right_a * right_d
            if b >= 2:
                for right_c in range(max(2, math.ceil(low / group)), high // group + 1):
                    yield Pattern(right_a, b, right_c, right_d)


@functools.cache
def _divisors(n: int) -> tuple[int, ...]:
    return tuple(k for k in range(1, n + 1) if n % k == 0)
