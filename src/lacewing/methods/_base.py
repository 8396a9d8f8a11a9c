"""What every kind of network says of itself: its settings, its networks, how they are built, trained and counted.

A method is a frozen pydantic model. Its fields are the settings of a ``[[networks]]`` entry; its functions answer what
the rest of the package asks. Nothing else knows a method by its name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import Field

from lacewing.config import Model, Part, Train, folder_name
from lacewing.errors import UsageError, UserCodeError
from lacewing.results import Kind, Look, Privacy, Trait
from lacewing.support.loading import source_digest
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.sparsify import Guard
    from lacewing.sparsify.masks import Masks
    from lacewing.training.loop import Trainer

SHARED = (
    "name",
    "family",
    "level_families",
    "train",
    "model",
)  # fields of every entry; the rest are settings of the method


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One network of an entry.

    Attributes:
        network: its name.
        key: what its job key is made from, beside data, model, training, role and seed.
        level: how many networks of the entry come before it: 0, 1, 2, ...
        stop: the epoch of the first network's training after which this one is observed; None: it is trained itself.
    """

    network: str
    key: Mapping[str, Any]
    level: int = 0
    stop: int | None = None


class Training(Protocol):
    """The networks of one entry and seed, as `Method.train_networks` sees them: each starts from the one before.

    Attributes:
        levels: how many networks follow the first one.
        start: the number of the last network that is trained and whose weights are at hand; 0 if none is.
        seed: a number that is drawn from seed and role, for whatever the method draws itself.
    """

    levels: int
    start: int
    seed: int

    def model(self, seed: int | None = None) -> nn.Module:
        """The first network at its initialisation, or with weights that are drawn anew from ``seed``."""

    def mask(self) -> Masks:
        """The mask of the network that `Method.mask_of` names, of the same seed and role."""

    def state(self, epoch: int) -> dict[str, Tensor]:
        """The first network's state after so many epochs of its training, one of `Method.keeps`; 0: untrained."""

    def resume(self, model: nn.Module, guard: Guard | None) -> None:
        """Load weights and masks of the network ``start``; nothing if that is 0."""

    def fit(self, model: nn.Module, guard: Guard | None = None) -> None:
        """Train the next network by the study's recipe, observe and publish it; what is there already is loaded."""


class Method(Part):
    """A kind of network; a subclass in one file adds one.

    Class attributes that a subclass sets:
        role: "sparse", or "control" for networks that sparse ones are compared with ("dense" is the package's own).
        look: label, colour and marker in figures; by default the class's name and the colour of all others.
        reshapes: whether `build` changes the model's architecture.
        masked: whether its networks have masks, kept beside their weights.
        stackable: whether networks of several seeds may be trained at once, the first after `begin` and the others
            after `next_level` instead of by `train_networks` (see `lacewing.training.stack`); of the package's own
            methods alone.
        complete: False if its networks are observed before their training ends, so that nobody would ship them; of the
            package's own methods alone.
        adds: settings that only say how many networks there are. They may grow while a run folder is continued.
    """

    role: ClassVar[Kind] = "sparse"
    look: ClassVar[Look | None] = None
    reshapes: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    complete: ClassVar[bool] = True
    adds: ClassVar[frozenset[str]] = frozenset()

    name: Annotated[str, folder_name] | None = None
    family: Annotated[str, folder_name] | None = None  # recipes compared as one; its own name where left out
    level_families: bool = False  # each level is a family of its own, over the entries of one `family`
    train: dict[str, Any] = Field(default_factory=dict)  # fields of [train], for these networks only
    model: dict[str, Any] = Field(default_factory=dict)  # fields of [model], for these networks only
    method: str

    # What a study asks before anything is trained.

    @classmethod
    def completed(cls, fields: Mapping[str, Any], train: Mapping[str, Any]) -> Mapping[str, Any]:
        """The entry's fields with defaults that depend on its training; ``train`` holds what the study says of it."""
        return fields

    @property
    def entry(self) -> str:
        """The name of the entry: its own, or one made from its method and settings."""
        return self.name or self.default_name()

    def default_name(self) -> str:
        """The entry's name where the study gives none."""
        return short_name(self.method)

    @property
    def of_family(self) -> str:
        """The family that the entry's networks belong to: the declared one, or the entry's name."""
        return self.family or self.entry

    def family_of(self, step: Step) -> str:
        """The family of one of the entry's networks; with `level_families` ``<family>-01``, ``<family>-02``, ..."""
        return f"{self.of_family}-{step.level:02d}" if self.level_families else self.of_family

    @property
    def families(self) -> dict[str, int]:
        """The families that the entry's recipes belong to, each with their number."""
        if self.level_families:
            return {f"{self.of_family}-{level:02d}": 1 for level in range(1, self.recipes + 1)}
        return {self.of_family: self.recipes}

    def settings(self) -> dict[str, Any]:
        """The method's own fields as plain data."""
        return self.model_dump(mode="json", exclude=set(SHARED))

    def check(self, train: Train) -> None:
        """Refuse settings that do not fit the training.

        Raises:
            ValueError: it begins with the name of the field.
        """

    def first(self) -> Method:
        """The entry whose network the others start from: this one, or ``Dense(train=self.train, model=self.model)``."""
        return self

    def steps(self, train: Train) -> tuple[Step, ...]:
        """The entry's networks in the order of their training, the one of `first` before the others."""
        return (Step(self.entry, self.settings()),)

    def arithmetic(self, model: Model) -> int:
        """The version of the arithmetic that trains its networks of this model; all but 1 count in their keys.

        A user's method inherits that of the one that it extends: its key has the source of its own module alone.
        """
        return 1

    @property
    def recipes(self) -> int:
        """How many recipes the entry declares, as comparisons at equal accuracy count them."""
        return 1

    @property
    def mask_of(self) -> str | None:
        """The network of the study whose mask these networks take: that one is trained before them. None: no mask.

        What is trained under it keeps as many weights as that network, wherever they are.
        """
        return None

    def has_mask(self, step: Step, train: Train) -> bool:
        """Whether a network ends with a mask: where several follow one another, all but the first."""
        return self.masked and (step.level > 0 or len(self.steps(train)) == 1)

    @property
    def traits(self) -> frozenset[Trait]:
        """What attacks may ask for: "sparse", "masked" and "levels" (several networks, each denser than the next)."""
        found: set[Trait] = {"sparse"} if self.role == "sparse" else set()
        found |= {"masked"} if self.masked else set()
        return frozenset(found | ({"levels"} if self.role == "sparse" and self.first() is not self else set()))

    @property
    def keeps(self) -> tuple[int, ...]:
        """Epochs of the first network's training whose states the others need."""
        return ()

    @property
    def source(self) -> str | None:
        """SHA-256 of the source of a user's method; None for those of the package, whose keys have the schema."""
        return _source(type(self))

    def count(self, model: nn.Module, step: Step) -> int:
        """Parameters of the network ``step`` that are not zero, exact and before any training.

        Not asked of networks that take another's mask (`mask_of`): these have as many as that one.

        Args:
            model: the study's model without values (on the meta device where its factory allows that).
            step: one of `steps`.

        Raises:
            UsageError: the model cannot be made into such a network.
        """
        return sum(parameter.numel() for parameter in built(self, model).parameters())

    def notes(self, model: nn.Module, step: Step) -> list[str]:
        """What a person should know of the network ``step`` before it is trained, a sentence each; for the dry run.

        Args:
            model, step: as of `count`; the method may change the model.
        """
        return []

    def loaded(self) -> Method:
        """The method with its code: itself, unless it comes from a run folder."""
        return self

    # What is done with a network.

    def build(self, model: nn.Module) -> nn.Module:
        """The method's architecture from the study's model at its initialisation. Shapes must not depend on values."""
        return model

    def guard(self, model: nn.Module) -> Guard:
        """What keeps the pruned weights of ``model`` at zero and remembers its rewind point."""
        from lacewing.sparsify import Guard

        return Guard(model, "init")

    def begin(self, training: Training) -> tuple[nn.Module, Guard | None]:
        """The first network as its training begins, and what keeps its pruned weights at zero."""
        return training.model(), None

    def train_networks(self, training: Training) -> None:
        """Train what is missing of the entry's networks: call ``training.fit`` once for each."""
        training.fit(*self.begin(training))

    @property
    def accounted(self) -> bool:
        """Whether the method tells what its training guarantees, by a `privacy` of its own."""
        return type(self).privacy is not Method.privacy

    def privacy(self, train: Train, records: int, step: Step) -> Privacy | None:
        """What the training of a network guarantees each record; None: nothing that an accountant could tell.

        Arguments as of `trainer`.

        Raises:
            UsageError: the settings cannot be met with so many records. It begins with the name of the field.
        """
        return None

    def trainer(self, train: Train, records: int) -> Trainer | None:
        """What trains an epoch of the entry's networks; None: plain SGD on shuffled batches.

        Args:
            train: their training.
            records: how many each trains on.
        """
        return None

    def next_level(self, guard: Guard) -> None:
        """Make the trained network of ``guard`` ready for the next one's training, in stacks of several seeds.

        Raises:
            UsageError: the method has one network an entry.
        """
        raise UsageError(f"{self.entry}: networks of this method do not follow one another.")

    def export(self, model: nn.Module, dense: nn.Module) -> nn.Module:
        """A trained network as a module of plain torch.

        Args:
            model: of the method's architecture, with the trained weights.
            dense: the study's model.
        """
        return model


def short_name(method: str) -> str:
    """A method's name as a part of networks' names: of ``package.module:Name`` the name alone."""
    return method.rpartition(":")[2].lower().replace("_", "-")


def built(method: Method, model: nn.Module) -> nn.Module:
    """The method's architecture from the study's model, see `Method.build`.

    Raises:
        UserCodeError: a user's method fails, or returns no module.
    """
    from torch import nn

    place = f"networks: '{method.entry}': build() of method {method.method}"
    with user_code(place, own_frames=True):
        found = method.build(model)
    if not isinstance(found, nn.Module):
        raise UserCodeError(f"{place} returns a {type(found).__name__}; return the torch.nn.Module.")
    return found


@functools.cache
def _source(method: type[Method]) -> str | None:
    return None if method.__module__.startswith("lacewing.") else source_digest(method, "networks: method")
