"""A chain for each matrix of a model, such that the whole reaches a wanted density."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lacewing.errors import UsageError
from lacewing.sparsify import _search
from lacewing.sparsify.chain import _FEW, Chain


def allocate(
    matrices: Mapping[str, tuple[int, int, int]], elsewhere: int, density: float, factors: int | None = None
) -> dict[str, Chain]:
    """Chains with which the model stores at most ``density`` of its dense parameters, and as near to it as they come.

    All layers get about the same density: the largest common one that the whole allows, each layer the densest chain
    not above it. What is left over goes to one layer after another, each the next denser chain, as long as one fits.

    Args:
        matrices: rows, columns and number of the matrices of each layer (groups of a convolution).
        elsewhere: parameters of the model outside of them, which stay.
        density: wanted, over all.
        factors: of each chain; if not given, two to four, the fewest with which the density can be reached.

    Returns:
        By layer. A layer whose shape has no chain that saves anything is left out and stays dense.

    Raises:
        UsageError: the density lies below what the cheapest chains reach, or above 1; no layer has a chain.
    """
    total = elsewhere + sum(rows * columns * count for rows, columns, count in matrices.values())
    if not 0 < density <= 1:
        raise UsageError(f"density = {density} must lie between 0 and 1.")
    if factors is not None and factors < 1:
        raise UsageError(f"factors = {factors} must be at least 1.")
    floors: list[float] = []
    for number in (factors,) if factors else _FEW:
        menus = {name: _search.menu(rows, columns, number) for name, (rows, columns, _) in matrices.items()}
        menus = {name: menu for name, menu in menus.items() if menu}
        if menus:
            chosen = {name: min(menu) for name, menu in menus.items()}
            floors.append(_stored(matrices, elsewhere, chosen) / total)
            if floors[-1] <= density:
                return _spend(matrices, elsewhere, density * total, menus)
    if not floors:
        raise UsageError("no layer that may be replaced has a chain of fewer entries; let more or larger ones be.")
    least = math.ceil(1e4 * min(floors)) / 1e4  # rounded up, so that it can be asked for
    raise UsageError(
        f"density = {density:g} lies below {least:.4f}, the least that chains reach on this model: ask for more, let "
        "more layers be replaced, or prune the factors on top (sparsify.prune on the butterfly model)."
    )


def _spend(
    matrices: Mapping[str, tuple[int, int, int]],
    elsewhere: int,
    budget: float,
    menus: Mapping[str, Mapping[int, _search.Patterns]],
) -> dict[str, Chain]:
    sizes = {name: rows * columns for name, (rows, columns, _) in matrices.items()}

    def at(common: float) -> dict[str, int]:
        return {
            name: max((n for n in menu if n <= common * sizes[name]), default=min(menu)) for name, menu in menus.items()
        }

    low, high = 0.0, 1.0
    for _ in range(40):  # the stored parameters never fall as the common density grows
        middle = (low + high) / 2
        low, high = (middle, high) if _stored(matrices, elsewhere, at(middle)) <= budget else (low, middle)
    chosen = at(low)
    left = budget - _stored(matrices, elsewhere, chosen)
    spending = True
    while spending:
        spending = False
        for name, menu in menus.items():
            count = matrices[name][2]
            if fitting := [n for n in menu if 0 < (n - chosen[name]) * count <= left]:
                left -= (min(fitting) - chosen[name]) * count
                chosen[name], spending = min(fitting), True
    return {name: Chain(menus[name][chosen[name]]) for name in menus}


def _stored(matrices: Mapping[str, tuple[int, int, int]], elsewhere: int, chosen: Mapping[str, int]) -> int:
    """Parameters with so many entries a matrix; what has no chain counts dense."""
    each = (
        count * (chosen[name] if name in chosen else rows * columns)
        for name, (rows, columns, count) in matrices.items()
    )
    return elsewhere + sum(each)
