"""As many weights of each layer as a pruned network, at random positions (Frankle et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lacewing.methods._takes_mask import TakesMask
from lacewing.results import Kind, Look

if TYPE_CHECKING:
    from lacewing.sparsify.masks import Masks


class RandomMask(TakesMask):
    """As many weights of each layer as another network, at random positions: a control of the learned mask."""

    role: ClassVar[Kind] = "control"
    look: ClassVar[Look] = Look("random mask", "#e69f00", "P")

    method: str = "random-mask"

    def mask(self, taken: Masks, seed: int) -> Masks:
        """See `lacewing.sparsify.controls.random_mask`."""
        from lacewing.sparsify.controls import random_mask

        return random_mask(taken, seed)
