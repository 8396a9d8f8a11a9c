"""Pruning schedules: how many prunable weights remain after each level of a sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lacewing.errors import UsageError


@dataclass(frozen=True)
class Sizes:
    """The parameter counts that densities refer to.

    Args:
        parameters: of the dense network: for a butterfly layer, those of the matrix that its factors stand for.
        prunable: weights of the model that pruning may touch; for a butterfly layer, the entries of its factors. Of a
            network that is sparse already, those that are left.
        other: all other parameters: biases, batch norm, ignored layers.
    """

    parameters: int
    prunable: int
    other: int

    @classmethod
    def of(cls, model: nn.Module, names: Sequence[str], alive: int | None = None) -> Sizes:
        """The counts of a model whose prunable weights have these names; ``alive`` of them are left, None: all."""
        stored = sum(p.numel() for p in model.parameters())
        saved = sum(getattr(module, "saved_parameters", 0) for module in model.modules())
        prunable = sum(model.get_parameter(name).numel() for name in names)
        return cls(stored + saved, prunable if alive is None else alive, stored - prunable)

    def weights_at(self, density: float, alive: int | None = None) -> float:
        """Prunable weights that remain at a density; ``alive`` of them remain now (by default all).

        Raises:
            UsageError: a density that cannot be reached; the message names the range.
        """
        left = density * self.parameters - self.other
        most = self.prunable if alive is None else alive
        if not -0.5 <= left <= most + 0.5:
            lowest, highest = self.other / self.parameters, (self.other + most) / self.parameters
            raise UsageError(
                f"density = {density} cannot be reached: what is never pruned (biases, batch norm, ignored layers) is "
                f"{lowest:.4f} of the dense network, and what remains now {highest:.4f}; choose a density between."
            )
        return min(max(left, 0.0), float(most))


Schedule = Callable[[Sizes, int, int], int]  # (sizes, level, levels) -> prunable weights left after that level


def fixed_fraction(fraction: float = 0.2) -> Schedule:
    """Each level removes floor(fraction x remaining) (Frankle & Carbin 2019).

    Raises:
        UsageError: fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction = {fraction} is not between 0 and 1.")
    return lambda sizes, level, levels: remaining(sizes.prunable, level, fraction)


def geometric(density: float) -> Schedule:
    """Remove the same fraction at each level, so that the last level keeps ``density`` of all parameters."""

    def left(sizes: Sizes, level: int, levels: int) -> int:
        last = sizes.weights_at(density)
        if level == levels:
            return round(last)
        return round(sizes.prunable * math.pow(last / sizes.prunable, level / levels))

    return left


def cubic(density: float) -> Schedule:
    """Remove much at first and little at the end: 1 - (1 - s)^3, to ``density`` (Zhu & Gupta 2018, eq. 1)."""

    def left(sizes: Sizes, level: int, levels: int) -> int:
        last = sizes.weights_at(density)
        return round(last + (sizes.prunable - last) * (1 - level / levels) ** 3)

    return left


def remaining(prunable: int, levels: int, fraction: float) -> int:
    """Weights that remain of ``prunable`` after ``levels`` prunings that each remove floor(fraction x remaining)."""
    for _ in range(levels):
        prunable -= int(fraction * prunable)
    return prunable
