"""Projection of a matrix onto a chain of Kronecker-sparse factors, by hierarchical factorisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from lacewing.errors import UsageError
from lacewing.sparsify._backends import compose
from lacewing.sparsify._pattern import Pattern, fused, rank
from lacewing.sparsify.chain import Chain


@torch.no_grad()
def project(matrix: Tensor, chain: Chain) -> list[Tensor]:
    """Factors whose product approximates a matrix.

    One factor after another is split off. At each split the entries fall into blocks that share no row and column, and
    the best split of a block is its truncated singular value decomposition; with orthonormal columns in the factor that
    is split off, the squared errors of the splits add up (Zheng, Riccietti & Gribonval 2023; Le et al., "Butterfly
    factorization with error guarantees", 2024, arXiv 2411.04506). This is done from the left and from the right, and
    the nearer product is taken. A product of factors of the chain is recovered exactly, up to rounding. The factors are
    scaled alike, as a fresh layer's are: the mean square of entries times c is the same in each.

    Args:
        matrix: shape (rows, columns) of the chain; or (G, rows, columns), one matrix a group.
        chain: what to project onto. Entries outside its support are dropped.

    Returns:
        Factors of shape (G a, b, c, d), left factor first, in the dtype and on the device of ``matrix``; computed in
        float64.

    Raises:
        UsageError: the shape differs from the chain's, or the matrix is not floating-point, or holds NaN or infinity.
    """
    groups = matrix if matrix.ndim == 3 else matrix[None]
    if groups.ndim != 3 or tuple(groups.shape[1:]) != chain.shape:
        raise UsageError(f"a matrix of shape {tuple(matrix.shape)} cannot be projected onto a {chain.shape} chain.")
    if not groups.is_floating_point():
        raise UsageError(f"a matrix of {matrix.dtype} cannot be projected; make it real floating-point numbers.")
    if not torch.isfinite(groups).all():
        raise UsageError("the matrix to project holds NaN or infinity; train with a smaller learning rate.")
    exact = groups.to(torch.float64)
    unit = float(exact.abs().max()) or 1.0
    exact = exact / unit  # so that no square overflows or vanishes
    entries = _entries(exact, reduce(fused, chain.patterns))
    from_left, from_right = _from_left(entries, chain.patterns), _from_right(entries, chain.patterns)
    flat = exact.reshape(-1, exact.shape[2])
    nearest = min((from_left, from_right), key=lambda factors: _error(flat, factors, len(exact)))
    return [factor.to(matrix.dtype).contiguous() for factor in _balanced(nearest, unit)]


@torch.no_grad()
def projection_error(matrix: Tensor, factors: Sequence[Tensor]) -> float:
    """||matrix - product|| / ||matrix|| in the Frobenius norm; of (rows, columns) or (G, rows, columns).

    Infinity for a matrix of zeros, unless the product is zero too.
    """
    groups = matrix if matrix.ndim == 3 else matrix[None]
    exact = groups.to(torch.float64).reshape(-1, matrix.shape[-1])
    norm, error = float(exact.norm()), _error(exact, [f.to(torch.float64) for f in factors], len(groups))
    return error / norm if norm != 0 else math.inf if error else 0.0


def _error(flat: Tensor, factors: Sequence[Tensor], groups: int) -> float:
    return float((flat - compose([f.contiguous() for f in factors], groups)).norm())


def _entries(matrices: Tensor, pattern: Pattern) -> Tensor:
    """Those on the pattern's support, of (G, rows, columns): shape (G a, b, c, d)."""
    a, b, c, d = pattern
    blocks = matrices.reshape(-1, a, b, d, a, c, d).diagonal(dim1=1, dim2=4).diagonal(dim1=2, dim2=4)  # (G, b, c, a, d)
    return blocks.permute(0, 3, 1, 2, 4).reshape(-1, b, c, d)


def _from_left(entries: Tensor, patterns: Sequence[Pattern]) -> list[Tensor]:
    """Factors from the entries of their product's support; all but the last have orthonormal columns in each block."""
    found: list[Tensor] = []
    for place in range(1, len(patterns)):
        u, s, vh, join = _split(entries, patterns[place - 1], reduce(fused, patterns[place:]))
        left, entries = join(u, s[..., None] * vh)
        found.append(left)
    return [*found, entries]


def _from_right(entries: Tensor, patterns: Sequence[Pattern]) -> list[Tensor]:
    """The mirror image: all but the first have orthonormal rows in each block."""
    found: list[Tensor] = []
    for place in range(len(patterns) - 1, 0, -1):
        u, s, vh, join = _split(entries, reduce(fused, patterns[:place]), patterns[place])
        entries, right = join(u * s[..., None, :], vh)
        found.insert(0, right)
    return [entries, *found]


def _split(
    entries: Tensor, left: Pattern, right: Pattern
) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """The truncated decomposition u, s, vh of each block, and what lays two factors of a block out as entries."""
    among = rank(left, right)
    assert among is not None  # what chains pair by pair chains as a whole
    share, q = left.d // right.d, right.a // left.a
    # Rows (i, j, k) and columns (i q + u, m, k mod d): a block for each i, k and u, of b_left rows and c_right columns.
    blocks = entries.reshape(-1, left.b, share, q, right.c, right.d).permute(0, 2, 5, 3, 1, 4)
    u, s, vh = torch.linalg.svd(blocks, full_matrices=False)
    short = max(0, among - s.shape[-1])  # a rank above what the block can have: the rest is zero

    def join(of_left: Tensor, of_right: Tensor) -> tuple[Tensor, Tensor]:
        columns = F.pad(of_left, (0, short)).permute(0, 4, 3, 5, 1, 2)
        rows = F.pad(of_right, (0, 0, 0, short)).permute(0, 3, 4, 1, 5, 2)
        return (
            columns.reshape(-1, left.b, q * among, share * right.d),
            rows.reshape(-1, among * share, right.c, right.d),
        )

    return u[..., :among], s[..., :among], vh[..., :among, :], join


def _balanced(factors: Sequence[Tensor], unit: float) -> list[Tensor]:
    """``unit`` times the same product, the mean square of entries times c alike in every factor."""
    sizes = [math.sqrt(float(f.square().mean()) * f.shape[2]) for f in factors]
    if min(sizes) == 0:
        return list(factors)
    common = math.exp((math.log(unit) + sum(map(math.log, sizes))) / len(sizes))
    return [f * (common / size) for f, size in zip(factors, sizes, strict=True)]
