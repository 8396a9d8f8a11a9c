"""What the methods share that train a network under the mask of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lacewing.config import Train, folder_name
from lacewing.methods._base import Method, Step, Training, short_name

if TYPE_CHECKING:
    from torch import nn

    from lacewing.sparsify import Guard
    from lacewing.sparsify.masks import Masks


class TakesMask(Method):
    """A network under a mask that is made from the one of ``of``, trained by a complete schedule of its own."""

    masked: ClassVar[bool] = True
    stackable: ClassVar[bool] = True

    of: Annotated[str, folder_name]  # a network of the study that has a mask, such as imp-03

    @property
    def mask_of(self) -> str:
        """The network ``of``."""
        return self.of

    def default_name(self) -> str:
        """``random-mask-imp-03``: the method and the network whose mask it takes, as `vary` names it."""
        return f"{short_name(self.method)}-{self.of}"

    def steps(self, train: Train) -> tuple[Step, ...]:
        """One network. Its job key has the key of the other network, and not its name."""
        return (Step(self.entry, {name: value for name, value in self.settings().items() if name != "of"}),)

    def mask(self, taken: Masks, seed: int) -> Masks:
        """The mask to train under, made from the one that is taken; ``seed`` is of whatever it draws."""
        return taken

    def initial(self, training: Training) -> nn.Module:
        """The network at the initialisation of the dense one of the same seed and role."""
        return training.model()

    def begin(self, training: Training) -> tuple[nn.Module, Guard]:
        """The initialisation, and a guard with the mask."""
        model = self.initial(training)
        guard = self.guard(model)
        guard.masks = self.mask(training.mask(), training.seed)
        return model, guard
