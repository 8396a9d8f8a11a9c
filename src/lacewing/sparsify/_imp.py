"""Iterative magnitude pruning with rewinding (Han et al. 2015; Frankle et al. 2020), and pruning while training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify._prune import Scope, Score, magnitude, prune, whole
from lacewing.sparsify._schedules import Schedule, Sizes, cubic, fixed_fraction
from lacewing.sparsify.effective import pruned_already
from lacewing.sparsify.guard import Guard, Rewind
from lacewing.sparsify.masks import NOTHING, Ignore, Masks, prunable

_TRAINED = "If they are to be trained, give imp a guard without masks: guard=sparsify.Guard(model, rewind)."


@dataclass(frozen=True, slots=True)
class Level:
    """A trained level of the sequence; ``masks`` is empty at level 0, unless the network was sparse from the start."""

    number: int
    masks: Masks


def imp(
    model: nn.Module,
    fit: Callable[[nn.Module, Guard], None],
    *,
    levels: int,
    fraction: float = 0.2,
    rewind: str | Rewind = "epoch 1",
    schedule: Schedule | None = None,
    score: Score = magnitude,
    scope: Scope = "global",
    ignore: Ignore = (),
    guard: Guard | None = None,
    start: int = 0,
) -> Iterator[Level]:
    """Train, then prune, rewind and train again ``levels`` times; yields each level.

    Args:
        model: the network, at its initialisation; trained in place. Of one that is sparse already (see ``prune``) the
            zeros stay, and the levels prune what is left. With a ``guard`` its masks say what is pruned.
        fit: the training function: ``fit(model, guard)`` trains with a new optimiser and the whole schedule, calls
            ``guard.attach(optimizer)`` once and ``guard.epoch_end()`` after each epoch. Under a rewind that moves the
            schedule it starts at ``guard.epoch`` (or ``guard.step``). Where it loads a finished network instead, it
            sets ``guard.trained = True``.
        levels: number of prunings; 1 is one-shot pruning.
        fraction: share of the remaining weights that each pruning removes, rounded down.
        rewind: where weights and schedule are rewound to, see ``Rewind.parse``; by default the end of epoch 1.
        schedule: instead of ``fraction``: ``geometric(density)``, ``cubic(density)`` or your own function.
        score, scope, ignore: see ``prune``.
        guard: to continue a sequence, one of this model with the masks and the rewind point of level ``start``; its
            rewind setting then applies.
        start: to continue: the level whose trained weights ``model`` holds.

    Yields:
        Each level after its training, from ``start`` on (a ``start`` above 0 is not trained again).

    Raises:
        UsageError: the rewind point is never reached; ``fit`` trained nothing, trained without the guard, or wrote
            pruned weights after the last step (a dense checkpoint, an average of weights); ``start`` without a guard or
            a guard of another model; what ``prune`` refuses.
    """
    if guard is None and start > 0:
        raise UsageError(f"start = {start}: to continue, give the guard with the masks and rewind point of that level.")
    if guard is not None and guard.model is not model:
        raise UsageError("the guard belongs to another model; create it with the trained one: Guard(model, ...).")
    names = prunable(model, ignore)
    guard = guard or Guard(model, rewind, masks=pruned_already(model, names, mend=_TRAINED))
    if start == 0:
        guard.began = _alive(model, guard, names)
    sizes = Sizes.of(model, names, guard.began)
    if start < levels and not sizes.prunable:
        raise UsageError(NOTHING)
    schedule = schedule or fixed_fraction(fraction)
    if start < levels:
        schedule(sizes, levels, levels)  # refuses a density that cannot be reached, before anything is trained
        guard.will_prune = tuple(names)  # an optimiser that does not hold them is refused at level 0
    for number in range(start, levels + 1):
        if number > start:
            keep = schedule(sizes, number, levels)
            guard.masks = prune(model, guard.masks, keep=keep, score=score, scope=scope, ignore=ignore)
            guard.rewind()
        if number > start or start == 0:
            guard.trained = guard.attached = False
            before = _trainable(model)
            try:
                fit(model, guard)
            except Exception as error:
                error.add_note(f"lacewing: raised by fit at level {number} of imp")
                raise
            guard.detach()
            _check_trained(model, guard, before, number, names)
            guard.check()
        yield Level(number, dict(guard.masks))


def _alive(model: nn.Module, guard: Guard, names: Sequence[str]) -> int | None:
    """How many prunable weights the guard's masks keep; None without masks."""
    if not guard.masks:
        return None
    return sum(int(mask.sum()) for mask in whole(model, names, guard.masks).values())


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters, on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if p.requires_grad}


def _check_trained(
    model: nn.Module, guard: Guard, before: Mapping[str, Tensor], number: int, pruned: Sequence[str]
) -> None:
    """Refuse a level that ``fit`` did not train."""
    if not guard.attached and not guard.trained:
        raise UsageError(
            f"fit trained level {number} without the guard: it must call guard.attach(optimizer) once, before the "
            "first step."
        )
    if not guard.trained:
        raise UsageError(
            f"no attached optimiser took a step at level {number}, so nothing is trained: train with the optimiser "
            "that guard.attach was given; if fit loads a finished network, set guard.trained = True."
        )
    after = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if after.keys() <= before.keys() and all(torch.equal(p.cpu(), before[name]) for name, p in after.items()):
        raise UsageError(
            f"fit changed no trainable weight at level {number}: it must compute the loss with the model that it is "
            "given, not with a copy, and keep what it trained."
        )
    trainable = [name for name in pruned if name in before]
    if trainable and all(torch.equal(model.get_parameter(name).detach().cpu(), before[name]) for name in trainable):
        raise UsageError(
            f"fit changed none of the weights that are pruned at level {number}: their magnitudes say nothing then; "
            "train them too, or set requires_grad=False before imp if they are to stay as they are."
        )


class Gradual(Guard):
    """A guard that prunes during training (Zhu & Gupta 2018): only attach it.

    From step ``begin`` to step ``end``, it prunes every ``every`` steps to the number of weights in its schedule;
    the remaining weights continue training. Of a network that is sparse already (see ``prune``) the zeros stay.

    Args:
        model: the network that is trained.
        density: share of all parameters at the end.
        begin, end, every: in optimiser steps; ``every`` divides their difference.
        schedule: instead of ``cubic(density)``.
        score, scope, ignore: see ``prune``.

    Raises:
        UsageError: inconsistent steps, or a density that cannot be reached.
    """

    def __init__(
        self,
        model: nn.Module,
        density: float,
        *,
        begin: int,
        end: int,
        every: int = 100,
        schedule: Schedule | None = None,
        score: Score = magnitude,
        scope: Scope = "global",
        ignore: Ignore = (),
    ) -> None:
        if not (0 <= begin < end and every >= 1 and (end - begin) % every == 0):
            raise UsageError(
                f"begin = {begin}, end = {end}, every = {every}: pruning must end after it begins, and every must "
                "divide the steps between."
            )
        names = prunable(model, ignore)
        super().__init__(model, "none", masks=pruned_already(model, names, mend=_TRAINED))
        self.begin, self.every, self.prunings = begin, every, (end - begin) // every
        self.schedule, self.score, self.scope, self.ignore = schedule or cubic(density), score, scope, ignore
        self.will_prune = tuple(names)
        self.sizes = Sizes.of(model, names, _alive(model, self, names))
        self.sizes.weights_at(density)  # refuse now, not during training

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._after_step(optimizer, args, kwargs)
        done, rest = divmod(self.step - self.begin, self.every)
        if optimizer is self._counts and rest == 0 and 1 <= done <= self.prunings:
            keep = self.schedule(self.sizes, done, self.prunings)
            options: Any = {"score": self.score, "scope": self.scope, "ignore": self.ignore}
            self.masks = prune(self.model, self.masks, keep=keep, **options)
