"""What a recipe takes to train."""

from __future__ import annotations

from typing import NamedTuple


class Price(NamedTuple):
    """The training of one network of a recipe, with that of the networks that it starts from."""

    epochs: int
    seconds: float | None = None  # where it was trained, a mean over networks; None: not measured

    @property
    def text(self) -> str:
        """As sentences name it."""
        return f"{self.epochs:,} epochs of training in all{'' if self.seconds is None else f' ({self.time})'}"

    @property
    def time(self) -> str:
        """The seconds in words, or a dash."""
        if self.seconds is None:
            return "\u2013"
        return f"{self.seconds:,.0f} s" if self.seconds >= 10 else f"{self.seconds:.2g} s"
