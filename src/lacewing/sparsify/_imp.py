"""Iterative magnitude pruning with rewinding (Han et al. 2015; Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from lacewing.masks import Guard, Masks, prune


@dataclass(frozen=True, slots=True)
class Level:
    """A trained level of the sequence; ``masks`` is empty at level 0, the dense network."""

    number: int
    masks: Masks


def imp(
    model: nn.Module,
    fit: Callable[[nn.Module, Guard], None],
    *,
    levels: int,
    fraction: float = 0.2,
    guard: Guard | None = None,
    start: int = 0,
) -> Iterator[Level]:
    """Train; prune by global magnitude; rewind; train again: a level at a time, ``levels`` prunings in all.

    Args:
        model: the network, at its initialisation; trained in place.
        fit: the user's training: ``fit(model, guard)`` trains with a fresh optimiser and the whole schedule, calls
            ``guard.attach(optimizer)`` once and ``guard.epoch_end()`` after each epoch.
        levels: number of prunings.
        fraction: of the remaining weights that each pruning removes (floor of it, exactly).
        guard: holds the rewind point; the default rewinds to the end of epoch 1. To continue a sequence, one with the
            masks and the rewind point of level ``start``.
        start: to continue: the level whose trained weights ``model`` holds; the sequence goes on after it.

    Yields:
        Each level when it has been trained, from ``start`` (that one is not trained again if it is above 0).
    """
    guard = guard or Guard(model)
    for number in range(start, levels + 1):
        if number > start:
            guard.masks = prune(model, guard.masks, fraction)
            guard.rewind()
        if number > start or start == 0:
            fit(model, guard)
        yield Level(number, dict(guard.masks))


def remaining(prunable: int, levels: int, fraction: float) -> int:
    """Weights left of ``prunable`` after ``levels`` prunings that each remove floor(fraction x remaining)."""
    for _ in range(levels):
        prunable -= int(fraction * prunable)
    return prunable
