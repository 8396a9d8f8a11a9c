"""The dense network observed before its training ends: a description of what lower accuracy alone does to the leak."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from lacewing.config import Train, ascending, no_longer_than
from lacewing.methods._base import Method, Step
from lacewing.methods.dense import Dense
from lacewing.results import STOPPED, Kind, Look

_FEW_STOPS = no_longer_than(1000, "each is observed and attacked like a network")


class EarlyStopped(Method):
    """The dense network after fewer epochs of its schedule: what stopping early would have given, as a control."""

    role: ClassVar[Kind] = "control"
    look: ClassVar[Look] = Look("dense, stopped early", "#5d6675", "x", sequence=True)
    complete: ClassVar[bool] = False
    adds: ClassVar[frozenset[str]] = frozenset({"epochs", "shares"})

    method: str = STOPPED
    epochs: (
        Annotated[
            tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, strict=False), ascending("epoch"), _FEW_STOPS
        ]
        | None
    ) = None
    shares: (  # of the epochs of training
        Annotated[
            tuple[Annotated[float, Field(gt=0, lt=1)], ...],
            Field(min_length=1, strict=False),
            ascending("share"),
            _FEW_STOPS,
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_of_both(self) -> EarlyStopped:
        if self.epochs is not None and self.shares is not None:
            raise ValueError("give either epochs or shares (of the epochs of training), not both")
        return self

    def check(self, train: Train) -> None:
        """Refuse stops that are not before the end of training."""
        if self.epochs is not None and self.epochs[-1] >= train.epochs:
            raise ValueError(
                f"epochs: all must be before the last one (train.epochs = {train.epochs}); stop earlier, train longer, "
                "or give shares of the training instead of epochs"
            )

    def default_name(self) -> str:
        """``early``."""
        return "early"

    def stops(self, train: Train) -> tuple[int, ...]:
        """The epochs after which the dense network is observed, ascending.

        Its own ``epochs``; or ``shares`` of the epochs of training, rounded, at least 1 and before the last; or about
        twenty, evenly spaced in log. Empty where training takes one epoch.
        """
        if self.epochs is not None:
            return self.epochs
        if self.shares is not None:
            spaced = {min(max(round(share * train.epochs), 1), train.epochs - 1) for share in self.shares}
        else:
            spaced = {round(train.epochs ** (i / 20)) for i in range(20)}
        return tuple(sorted(spaced - {0, train.epochs}))

    def first(self) -> Dense:
        """The dense network, trained alike."""
        return Dense.alike(self)

    def steps(self, train: Train) -> tuple[Step, ...]:
        """``early-003``, ``early-010``, ..., behind the dense network, which is named after the last epoch."""

        def named(epoch: int) -> str:
            return f"{self.entry}-{epoch:03d}"

        head = Step(named(train.epochs), self.first().settings())
        stops = enumerate(self.stops(train), 1)
        return (head, *(Step(named(stop), {"method": self.method, "epoch": stop}, n, stop) for n, stop in stops))
