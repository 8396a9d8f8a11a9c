"""As many weights of each output unit or input as a pruned network, at random positions (Frankle et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lacewing.methods._takes_mask import TakesMask
from lacewing.results import Kind, Look

if TYPE_CHECKING:
    from lacewing.sparsify.masks import Masks


class ShuffledMask(TakesMask):
    """As many weights of each output unit or input as another network, at random positions: a control."""

    role: ClassVar[Kind] = "control"
    look: ClassVar[Look] = Look("shuffled mask", "#cc79a7", "X")

    method: str = "shuffled-mask"
    within: Literal["outputs", "inputs"] = "outputs"  # whose numbers of weights are kept

    def mask(self, taken: Masks, seed: int) -> Masks:
        """See `lacewing.sparsify.controls.shuffle`."""
        from lacewing.sparsify.controls import shuffle

        return shuffle(taken, seed, within=self.within)
