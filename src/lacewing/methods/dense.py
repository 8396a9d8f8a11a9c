"""The dense network: trained as the study says, with nothing taken away."""

from __future__ import annotations

from typing import ClassVar

from lacewing.methods._base import Method
from lacewing.results import Kind, Look


class Dense(Method):
    """The dense network, which every other is measured against; further ones, with other settings, are controls."""

    role: ClassVar[Kind] = "dense"
    look: ClassVar[Look] = Look("dense", "#1d2430", "s")
    stackable: ClassVar[bool] = True

    method: str = "dense"

    @classmethod
    def alike(cls, method: Method) -> Dense:
        """The dense network with the training and the model of an entry of another method."""
        return cls(train=method.train, model=method.model)
