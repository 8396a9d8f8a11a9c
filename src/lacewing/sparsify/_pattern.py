"""The pattern of one Kronecker-sparse factor, and which patterns chain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


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


def rank(left: Pattern, right: Pattern) -> int | None:
    """The rank r of a chainable pair, whose product is r times a Kronecker-sparse support; else None."""
    if right.a % left.a or left.d % right.d or (left.a * left.c) % right.a or (right.b * right.d) % left.d:
        return None
    found = left.a * left.c // right.a
    return found if found == right.b * right.d // left.d else None


def fused(left: Pattern, right: Pattern) -> Pattern:
    """The support of the product of a chainable pair."""
    return Pattern(left.a, left.b * left.d // right.d, right.a * right.c // left.a, right.d)
