"""Iterative magnitude pruning with rewinding (Han et al. 2015; Frankle et al. 2020): train, prune, rewind, repeat."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from lacewing.config import BadTogether, Train, at_most, shown
from lacewing.errors import UsageError
from lacewing.methods._base import Method, Step, Training
from lacewing.methods.dense import Dense
from lacewing.results import Look

if TYPE_CHECKING:
    from torch import nn

    from lacewing.sparsify import Guard

_FEWEST = 1e-12  # share of the weights below which no network has one left


class Imp(Method):
    """Iterative magnitude pruning: train, prune, rewind, train again; ``levels`` times."""

    look: ClassVar[Look] = Look("IMP", "#0072b2", "o", sequence=True)
    masked: ClassVar[bool] = True
    stackable: ClassVar[bool] = True
    adds: ClassVar[frozenset[str]] = frozenset({"levels"})

    method: str = "imp"
    levels: Annotated[int, Field(ge=1), at_most(200, "after that nothing is left to prune")]
    fraction: Annotated[float, Field(ge=1e-3, lt=1)] = 0.2  # of the weights that remain, at each level
    rewind: str = "epoch 1"  # "init" or "epoch K"

    @field_validator("rewind")
    @classmethod
    def _point(cls, rewind: str) -> str:
        if rewind != "init" and not re.fullmatch(r"epoch [1-9][0-9]{0,5}", rewind):
            raise ValueError(f"{shown(rewind)} must be 'init' or 'epoch K' with K from 1 to below train.epochs")
        return rewind

    @model_validator(mode="after")
    def _weights_are_left(self) -> Imp:
        most = math.floor(math.log(_FEWEST) / math.log1p(-self.fraction))
        if self.levels > most:
            raise BadTogether(
                f"levels = {self.levels}: at most {most:,} with fraction = {self.fraction:g}, since after that nothing "
                "is left to prune"
            )
        return self

    @classmethod
    def completed(cls, fields: Mapping[str, Any], train: Mapping[str, Any]) -> Mapping[str, Any]:
        """Rewind to the initialisation where training takes one epoch, whose end is the end of the training."""
        return {**fields, "rewind": "init"} if train.get("epochs") == 1 and "rewind" not in fields else fields

    @property
    def rewind_epoch(self) -> int:
        """The number of epochs after which the state was kept that pruned networks return to."""
        return 0 if self.rewind == "init" else int(self.rewind.split()[1])

    def check(self, train: Train) -> None:
        """Refuse a rewind point that is not before the end of training."""
        if self.rewind_epoch >= train.epochs:
            raise ValueError(
                f"rewind: '{self.rewind}' is not before the end of training (train.epochs = {train.epochs}); rewind "
                "earlier or train longer"
            )

    def default_name(self) -> str:
        """``imp``."""
        return "imp"

    def first(self) -> Method:
        """The dense network, trained alike."""
        return Dense.alike(self)

    def steps(self, train: Train) -> tuple[Step, ...]:
        """``imp-00``, the dense network, and the levels ``imp-01``, ``imp-02``, ..."""
        shared = self.model_dump(mode="json", include={"method", "fraction", "rewind"})
        levels = (Step(f"{self.entry}-{n:02d}", {**shared, "level": n}, n) for n in range(1, self.levels + 1))
        return (Step(f"{self.entry}-00", self.first().steps(train)[0].key), *levels)

    @property
    def recipes(self) -> int:
        """Each level is one."""
        return self.levels

    @property
    def keeps(self) -> tuple[int, ...]:
        """The rewind point."""
        return (self.rewind_epoch,)

    def count(self, model: nn.Module, step: Step) -> int:
        """Each level prunes the floor of its share of what is left; biases and normalisation stay."""
        from lacewing.sparsify import prunable, remaining

        weights = sum(model.get_parameter(name).numel() for name in prunable(model, ignore=None))
        if not weights:
            raise UsageError("the model has no convolution or linear weight to prune.")
        left = remaining(weights, step.level, self.fraction)
        if step.level and left == remaining(weights, step.level - 1, self.fraction):
            raise UsageError(
                f"{self.fraction:g} of {left:,} weights is none, so this level would prune nothing; lower levels, or "
                "raise fraction."
            )
        return sum(parameter.numel() for parameter in model.parameters()) - weights + left

    def guard(self, model: nn.Module) -> Guard:
        """With the entry's rewind point."""
        from lacewing.sparsify import Guard

        return Guard(model, self.rewind)

    def train_networks(self, training: Training) -> None:
        """The sequence, from the highest level that is at hand."""
        from lacewing.sparsify import imp

        model = training.model()
        guard = self.guard(model)
        guard.origin = training.state(self.rewind_epoch)
        training.resume(model, guard)
        for _ in imp(
            model, training.fit, levels=training.levels, fraction=self.fraction, guard=guard, start=training.start
        ):
            pass  # `fit` publishes each level

    def next_level(self, guard: Guard) -> None:
        """Prune and rewind, as `lacewing.sparsify.imp` does between two levels."""
        from lacewing.sparsify import prune

        guard.masks = prune(guard.model, guard.masks, fraction=self.fraction)
        guard.rewind()
