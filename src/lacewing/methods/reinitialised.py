"""The mask of a pruned network on freshly drawn weights (Frankle & Carbin 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lacewing.methods._base import Training
from lacewing.methods._takes_mask import TakesMask
from lacewing.results import Kind, Look

if TYPE_CHECKING:
    from torch import nn


class Reinitialised(TakesMask):
    """The mask of another network on freshly drawn weights: a control of the initialisation that it was found on."""

    role: ClassVar[Kind] = "control"
    look: ClassVar[Look] = Look("reinitialised", "#a6761d", "D")

    method: str = "reinitialised"

    def initial(self, training: Training) -> nn.Module:
        """The network with weights of another draw."""
        return training.model(training.seed)
