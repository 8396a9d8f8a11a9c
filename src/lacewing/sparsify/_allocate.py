"""Choose a chain for each matrix of a model so that the whole model reaches a target density."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lacewing.errors import UsageError
from lacewing.sparsify import _search
from lacewing.sparsify.chain import _FEW, Chain


def allocate(
    matrices: Mapping[str, tuple[int, int, int]],
    elsewhere: int,
    density: float,
    factors: int | None = None,
    *,
    saved: int = 0,
) -> dict[str, Chain]:
    """Chains with which the model stores at most ``density`` of its dense parameters, as close to it as possible.

    All layers get about the same density: the largest common density that fits the total, where each layer takes its
    densest chain not above it. The rest of the budget goes to one layer after another, which take their next denser
    chain as long as it fits.

    Args:
        matrices: rows, columns and number of the matrices of each layer (groups of a convolution).
        elsewhere: the other parameters of the model, which stay as they are.
        density: target for the whole model.
        factors: per chain; by default the fewest of two to four that reach the density.
        saved: parameters that the dense network has and the model no longer stores, in layers that are chains already.

    Returns:
        Chains by layer. A layer is left out and stays dense where no chain of its shape saves parameters.

    Raises:
        UsageError: the density is below that of the cheapest chains, or above 1; no layer has a chain.
    """
    total = saved + elsewhere + sum(rows * columns * count for rows, columns, count in matrices.values())
    if not 0 < density <= 1:
        raise UsageError(f"density = {density} must lie between 0 and 1.")
    if factors is not None and factors < 1:
        raise UsageError(f"factors = {factors} must be at least 1.")
    floors: dict[int, float] = {}
    for number in (factors,) if factors else _FEW:
        menus = _menus(matrices, number)
        if menus:
            floors[number] = _floor(matrices, elsewhere, menus) / total
            if floors[number] <= density:
                return _spend(matrices, elsewhere, density * total, menus)
    if not floors:
        raise UsageError("no layer that may be replaced has a chain with fewer entries; allow more or larger layers.")
    least = min(floors.values())
    others = {n: _floor(matrices, elsewhere, found) / total for n in _FEW if (found := _menus(matrices, n))}
    best = min(others, key=lambda n: others[n], default=None)
    longer = f" ({_upward(others[best])} with factors = {best})" if best is not None and others[best] < least else ""
    raise UsageError(
        f"density = {density:g} is below {_upward(least)}, the lowest that chains reach on this model{longer}; "
        f"layers that stay dense, biases and norms are {_upward(elsewhere / total)} of it: raise it, allow more "
        "layers, or, in Python, prune the factors on top (sparsify.prune on the butterfly model)."
    )


def _menus(matrices: Mapping[str, tuple[int, int, int]], factors: int) -> dict[str, Mapping[int, _search.Patterns]]:
    """The chains of each matrix that has some, see `_search.menu`."""
    found = {name: _search.menu(rows, columns, factors) for name, (rows, columns, _) in matrices.items()}
    return {name: menu for name, menu in found.items() if menu}


def _floor(
    matrices: Mapping[str, tuple[int, int, int]], elsewhere: int, menus: Mapping[str, Mapping[int, _search.Patterns]]
) -> int:
    """Parameters with the cheapest chains."""
    return _stored(matrices, elsewhere, {name: min(menu) for name, menu in menus.items()})


def _upward(density: float) -> str:
    """Rounded up, so that it can be asked for."""
    return f"{math.ceil(1e4 * density) / 1e4:.4f}"


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
    """Parameters with so many entries per matrix; matrices without a chain count as dense."""
    each = (
        count * (chosen[name] if name in chosen else rows * columns)
        for name, (rows, columns, count) in matrices.items()
    )
    return elsewhere + sum(each)
