"""Chains of Kronecker-sparse factors (butterfly matrices) and their algebra.

A factor with pattern (a, b, c, d) has support I_a (x) 1_{b x c} (x) I_d: shape (a b d) x (a c d) with a b c d
non-zeros (Lin et al., "Deformable butterfly", NeurIPS 2021, in the notation of Gonon et al.). A chain multiplies
them, left factor first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.sparsify import _search
from lacewing.sparsify._pattern import Pattern, fused, rank

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Chain", "Pattern"]

_Matrix = TypeVar("_Matrix", npt.NDArray[np.floating[Any]], "Tensor")
_FEW = (2, 3, 4)  # factors that a search tries where no number is given


@dataclass(frozen=True)
class Chain:
    """A product of Kronecker-sparse factors, left factor first; immutable.

    Raises:
        UsageError: no factors, a number below 1, or neighbouring factors that do not chain; the message names them.
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
        for number, (left, right) in enumerate(pairwise(self.patterns), 1):
            if rank(left, right) is None:
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
        """Total entries of the factors: what a butterfly layer stores and learns."""
        return sum(p.nnz for p in self.patterns)

    @property
    def density(self) -> float:
        """Entries of the factors / entries of the dense matrix, 0..1 (above 1 for a chain that saves nothing)."""
        return self.nnz / math.prod(self.shape)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank r of each pair of neighbours: their product is r times a Kronecker-sparse support."""
        ranks = (rank(left, right) for left, right in pairwise(self.patterns))
        return tuple(r for r in ranks if r is not None)

    def dense(self, factors: Sequence[_Matrix]) -> _Matrix:
        """The product as a dense matrix.

        Args:
            factors: the entries of each factor, shape (a, b, c, d), all numpy arrays or all torch tensors; entry
                [i, j, m, k] stands in row i b d + j d + k and column i c d + m d + k.

        Returns:
            An array of ``shape``, of the same type as the factors; differentiable for tensors.

        Raises:
            UsageError: wrong number of factors, or a factor of the wrong shape.
        """
        if len(factors) != len(self.patterns):
            raise UsageError(f"the chain has {len(self.patterns)} factors, and {len(factors)} were given.")
        for number, (factor, pattern) in enumerate(zip(factors, self.patterns, strict=True), 1):
            if tuple(factor.shape) != tuple(pattern):
                raise UsageError(f"factor {number} has shape {tuple(factor.shape)}; the chain has {tuple(pattern)}.")
        if isinstance(factors[0], np.ndarray):
            product: Any = None
            for factor in factors:
                a, b, c, d = factor.shape
                outer = np.eye(a, dtype=factor.dtype).reshape(a, 1, 1, a, 1, 1)
                inner = np.eye(d, dtype=factor.dtype).reshape(1, 1, d, 1, 1, d)
                matrix = (factor.reshape(a, b, 1, 1, c, d) * outer * inner).reshape(a * b * d, a * c * d)
                product = matrix if product is None else product @ matrix
            return product  # type: ignore[no-any-return]
        from lacewing.sparsify._backends import compose

        return compose(factors)

    def fuse(self, place: int) -> Chain:
        """The chain in which factors ``place`` and ``place + 1`` (from 0) are replaced by the support of their product.

        Raises:
            UsageError: the chain has no such pair.
        """
        pairs = len(self.patterns) - 1
        if not 0 <= place < pairs:
            fix = f"give 0 to {pairs - 1}" if pairs else "there is nothing to fuse"
            raise UsageError(f"fuse({place}): the chain has no factors {place} and {place + 1} (from 0); {fix}.")
        left, right = self.patterns[place : place + 2]
        return Chain([*self.patterns[:place], fused(left, right), *self.patterns[place + 2 :]])

    @classmethod
    def monarch(cls, rows: int, columns: int) -> Chain:
        """The Monarch chain: two block-diagonal factors, up to permutation, that are as square as the sizes allow.

        For g^2 x g^2: (1, g, g, g)(g, g, g, 1) (Dao et al. 2022). For m x n and any common divisor g of both:
        (1, g, g, m/g)(g, m/g, n/g, 1) or (1, m/g, n/g, g)(n/g, g, g, 1), which are the full-support chains of two
        factors, rank 1 and inner size m or n; of all these the one with the fewest entries; ties go to the
        lexicographically greatest.

        Raises:
            UsageError: rows and columns have no common divisor above 1 and below both.
        """
        options = []
        for g in _search.divisors(math.gcd(rows, columns)):
            if 1 < g < min(rows, columns):
                m, n = rows // g, columns // g
                options += [cls([(1, g, g, m), (g, m, n, 1)]), cls([(1, m, n, g), (n, g, g, 1)])]
        if not options:
            raise UsageError(
                f"no Monarch chain makes a {rows} x {columns} matrix; "
                "use rows and columns with a common divisor above 1 and below both."
            )
        return max(options, key=lambda chain: (-chain.nnz, chain.patterns))

    @classmethod
    def butterfly(cls, size: int, radix: int = 2) -> Chain:
        """The square butterfly with log_radix(size) factors, as in the fast Fourier and Hadamard transforms.

        Raises:
            UsageError: ``size`` is no power of ``radix``, which must be at least 2.
        """
        count, power = 0, 1
        while radix >= 2 and power < size:
            count, power = count + 1, power * radix
        if count == 0 or power != size:
            raise UsageError(
                f"size = {size} must be a power of radix = {radix}, and both at least 2; "
                "for other sizes use Chain.cheapest or Chain.monarch."
            )
        return cls([(radix**place, radix, radix, radix ** (count - 1 - place)) for place in range(count)])

    @classmethod
    def cheapest(cls, rows: int, columns: int, factors: int, *, monotone: bool = True) -> Chain:
        """The chain of ``factors`` factors with the fewest entries whose product is a ``rows`` x ``columns`` matrix.

        Among chains that (i) have full support (a = 1 first, d = 1 last), (ii) are monotone: the inner sizes form a
        monotone sequence between columns and rows, and (iii) have every b and c at least 2. Ties go to the
        lexicographically greatest list of patterns.

        Args:
            rows, columns: of the product.
            factors: number of factors.
            monotone: False drops rule (ii): inner sizes up to the larger of rows and columns, so that a narrow waist
                (a matrix of low rank) may win.

        Raises:
            UsageError: no such chain exists.
        """
        best = _search.cheapest(rows, columns, factors, monotone)
        if best is None:
            rules = "full support, monotone sizes, b and c at least 2" if monotone else "full support, b and c >= 2"
            raise UsageError(
                f"no chain of {factors} factors makes a {rows} x {columns} matrix "
                f"({rules}); use fewer factors, or channels that divide."
            )
        return cls(best)

    @classmethod
    def for_density(cls, rows: int, columns: int, density: float, factors: int | None = None) -> Chain:
        """The chain whose density is nearest, by ratio, to the given one.

        Among full-support chains with b, c >= 2 whose inner sizes are each ``rows`` or ``columns``, ranks above 1
        included; with the fewest of two to four factors that come within 10 %, unless ``factors`` gives their number.

        Raises:
            UsageError: the nearest is more than 20 % away; the message names the neighbouring reachable densities.
        """
        if not 0 < density <= 1:
            raise UsageError(f"density = {density} must lie between 0 and 1.")
        if factors is not None and factors < 1:
            raise UsageError(f"factors = {factors} must be at least 1.")
        size = rows * columns

        def distance(entries: int) -> float:
            return abs(math.log(entries / size / density))

        menus = [_search.menu(rows, columns, count) for count in ((factors,) if factors else _FEW)]
        nearest = [(min(found, key=distance), found) for found in menus if found]
        if not nearest:
            raise UsageError(f"no chain makes a {rows} x {columns} matrix with fewer entries; use sizes that divide.")
        close = [option for option in nearest if distance(option[0]) <= math.log(1.1)]
        entries, found = close[0] if close else min(nearest, key=lambda option: distance(option[0]))
        if distance(entries) > math.log(1.2):
            reachable = sorted({n / size for menu in menus for n in menu})
            below, above = [x for x in reachable if x < density][-1:], [x for x in reachable if x > density][:1]
            beside = " and ".join(f"{x:.4f}" for x in below + above)
            raise UsageError(
                f"no chain of a {rows} x {columns} matrix has density {density:g}; the nearest reachable: {beside}."
            )
        return cls(found[entries])
