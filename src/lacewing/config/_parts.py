"""The parts of a study that stand alone: frozen pydantic models with the defaults of every field."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Part(BaseModel):
    """Base of every part of a study: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Part):
    """Which records, and how they are cut into target and shadow sets."""

    dataset: str = "digits"  # a registry name or the path of an .npz with x and y
    labels: Literal["fine", "coarse"] = "fine"  # cifar100 only
    records: Annotated[int, Field(ge=1)] | None = None  # drawn at random before the split; None: all
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of labels redrawn once, before the split
    split: Literal["four-way", "random-halves"] = "four-way"
    population: Annotated[float, Field(ge=0, lt=0.9)] = 0.0  # share kept for nobody to train on; random-halves: 0.1
    canaries: Annotated[int, Field(ge=0)] = 0  # records given a wrong label on purpose, audited separately as well
    seed: Annotated[int, Field(ge=0)] = 0  # of the draw of records and of redrawn labels; the split follows run.seeds


class Model(Part):
    """The network: a registry name with options, or a user's own factory ``package.module:function``."""

    name: str | None = None
    factory: str | None = None  # called as factory(shape, classes)
    version: str = ""  # of a user's factory: change it when code outside its module changes what it builds
    width: Annotated[int, Field(ge=1)] | None = None  # ResNets: channels of the first segment
    hidden: tuple[Annotated[int, Field(ge=1)], ...] | None = None  # mlp: sizes of the hidden layers

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.name is None) == (self.factory is None):
            raise ValueError("give either name (a registry name) or factory ('package.module:function')")
        if self.factory is not None and not _FACTORY.fullmatch(self.factory):
            raise ValueError(f"factory {self.factory!r} is not of the form 'package.module:function'")
        if self.factory is not None and (self.width is not None or self.hidden is not None):
            raise ValueError("width and hidden are options of registry models; a factory sets its own sizes")
        return self


class Train(Part):
    """SGD with momentum, and everything else that changes what a network becomes."""

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["one-cycle", "step", "constant"] = "one-cycle"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)  # step: shares of the epochs
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1  # step: the factor at each milestone
    augment: tuple[Literal["flip", "crop"], ...] = ()
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the hardware gains from it
    channels_last: bool = True  # memory layout of images and convolutions
    holdout: Annotated[float, Field(ge=0, lt=0.9)] = 0.0  # share of the training records kept aside for tuning
    stack: Annotated[int, Field(ge=1, le=256)] = 1  # mlp: networks of so many seeds trained at once

    def identity(self) -> dict[str, Any]:
        """What keys of networks are made from. A field that came later counts only where it is not its default."""
        fields = self.model_dump(mode="json")
        return {name: value for name, value in fields.items() if name != "stack" or value > 1}


class Signals(Part):
    """What the attacker measures beside the outputs: the local sensitivity of the softmax, and what attacks ask for."""

    noise: Annotated[float, Field(gt=0)] = 1e-3  # e, in units of normalised inputs
    draws: Annotated[int, Field(ge=1)] = 5
    # The rest is measured only where a declared attack needs it.
    queries: Annotated[int, Field(ge=1)] = 4  # fixed queries of a record: itself, flipped, shifted ...
    noise_sizes: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.1, 0.2, 0.4, 0.8)
    noise_draws: Annotated[int, Field(ge=1)] = 2


class Attacks(Part):
    """Which attacks run on every target network; "all": every one that the study has what it takes for."""

    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("discriminator",)


class Run(Part):
    """Repeats: each seed redraws the split, the initialisation and the order of training."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)} names a seed twice; a report never counts a seed twice")
        return seeds
