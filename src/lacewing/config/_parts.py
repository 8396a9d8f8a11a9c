"""The parts of a study that stand alone: frozen pydantic models with the defaults of every field."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lacewing.config import _optimizer
from lacewing.config._bounds import BadTogether, ascending, at_least, at_most, distinct, keywords, no_longer_than

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


_PATIENCE = "each is a question to every record, of every network"
_FLOATS = "the 32-bit numbers of training end soon after"
_STANDARD = "records are standardised, and nothing is left of them under more"
_LATER = (  # fields of Train that are younger than keys of networks
    *("stack", "label_smoothing", "mixup", "dropout"),
    *("optimizer", "optimizer_options", "warmup", "clip_norm", "fit"),
)
Word = Annotated[str, Field(min_length=1), no_longer_than(200, "it is a name")]


Columns = Annotated[
    tuple[Word, ...], Field(min_length=1, strict=False), distinct("a column"), no_longer_than(10_000, "each is a name")
]
_OF_STEPS = ("milestones", "gamma")  # fields of schedule = "step" alone


class Part(BaseModel):
    """Base of every part of a study: immutable; unknown fields are errors, and so are values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Data(Part):
    """Which records, and how they are cut into target and shadow sets."""

    dataset: Annotated[str, Field(min_length=1)] = "digits"  # a registry name or the path of an .npz with x and y
    labels: Literal["fine", "coarse"] = "fine"  # cifar100 only
    # Drawn at random before the split; None: all.
    records: Annotated[int, Field(ge=1), at_most(10**9, "no data set here has more")] | None = None
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of labels redrawn once, before the split
    split: Literal["four-way", "random-halves"] = "four-way"
    population: Annotated[float, Field(ge=0, lt=0.9)] = 0.0  # share kept for nobody to train on; random-halves: 0.1
    # Records given a wrong label on purpose, audited separately as well.
    canaries: Annotated[int, Field(ge=0), at_most(10**9, "no data set here has more records")] = 0
    seed: Annotated[int, Field(ge=0)] = 0  # of the draw of records and of redrawn labels; the split follows run.seeds
    # What keeps records together: "duplicates" (equal x), or names of arrays of ids beside x and y; several are merged.
    groups: (
        Annotated[
            tuple[Word, ...],
            BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
            Field(min_length=1, strict=False),
            distinct("a grouping"),
            no_longer_than(20, "each is an array of ids"),
        ]
        | None
    ) = None
    tokens: bool = False  # x holds token ids, which are names: they are not standardised
    # The id that fills up short records of token ids.
    padding: Annotated[int, Field(ge=0), at_most(2**31 - 1, "ids are 32-bit numbers")] | None = None
    # Of tables: the column of labels, columns that are left out, and columns of numbers that are categories.
    target: Word | None = None
    ignore: Columns | None = None
    categories: Columns | None = None

    @model_validator(mode="after")
    def _canaries_are_records(self) -> Data:
        if self.records is not None and self.canaries > self.records:
            raise BadTogether(f"canaries = {self.canaries:,} is more than data.records = {self.records:,}; lower it")
        return self

    @model_validator(mode="after")
    def _groups_are_ids(self) -> Data:
        for name in self.groups or ():
            if name in ("x", "y"):
                raise BadTogether(
                    f'groups: {name} is no array of ids; name another array of the data set, or "duplicates" for '
                    "records of equal x"
                )
        return self


class Model(Part):
    """The network: a registry name with options, or a user's own factory ``package.module:function``."""

    name: Word | None = None
    factory: Word | None = None  # called as factory(shape, classes)
    # Of a user's factory: change it when code outside its module changes what it builds.
    version: Annotated[str, no_longer_than(200, "it is a name")] = ""
    # ResNets: channels of the first segment; mlp: sizes of the hidden layers.
    width: Annotated[int, Field(ge=1), at_most(256, "small images need no wider network")] | None = None
    hidden: (
        Annotated[
            tuple[Annotated[int, Field(ge=1), at_most(2**16, "a larger layer does not fit into memory")], ...],
            Field(strict=False),
            no_longer_than(100, "a deeper perceptron is not trained"),
        ]
        | None
    ) = None
    norm: Literal["batch", "group"] | None = None  # ResNets; None: batch
    options: Annotated[dict[str, Any], AfterValidator(keywords)] = {}  # keywords of the model's class or of the factory

    @field_validator("norm")
    @classmethod
    def _batch_is_the_default(cls, norm: str | None) -> str | None:
        return None if norm == "batch" else norm  # so that both have one key

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.name is None) == (self.factory is None):
            raise ValueError("give either name (a registry name) or factory ('package.module:function')")
        if self.factory is not None and not _FACTORY.fullmatch(self.factory):
            raise ValueError(f"factory {self.factory!r} is not of the form 'package.module:function'")
        if self.factory is not None and (self.width is not None or self.hidden is not None or self.norm is not None):
            raise ValueError("width, hidden and norm are options of registry models; a factory sets its own sizes")
        return self


class Train(Part):
    """The optimiser, its schedule, and everything else that changes what a network becomes."""

    epochs: Annotated[int, Field(ge=1), at_most(100_000, "every epoch is recorded")] = 30
    batch_size: Annotated[int, Field(ge=1), at_most(10**6, "a batch is held in memory")] = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0), at_most(1e30, _FLOATS)] = 0.1  # of adam and adamw 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = 0.9  # of sgd; others have none
    optimizer_options: Annotated[dict[str, Any], AfterValidator(keywords)] = {}  # of torch's class: betas, eps ...
    # Of all parameters: added to the gradient, and decoupled from it in adamw (Loshchilov & Hutter 2019).
    weight_decay: Annotated[float, Field(ge=0), at_most(1e30, _FLOATS)] = 5e-4
    # The largest norm of the gradient over all weights, to which a larger one is scaled down; 0: it is never scaled.
    clip_norm: Annotated[
        float,
        Field(ge=0),
        at_least(1e-30, "the 32-bit numbers of training end soon before", or_zero=True),
        at_most(1e30, _FLOATS),
    ] = 0.0
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the steps in which the rate rises; not of one-cycle
    milestones: Annotated[  # step: shares of the epochs
        tuple[Annotated[float, Field(gt=0, lt=1)], ...],
        Field(strict=False),
        ascending("share"),
        no_longer_than(100, "a schedule has far fewer steps"),
    ] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1  # step: the factor at each milestone
    augment: Annotated[tuple[Literal["flip", "crop"], ...], Field(strict=False), distinct("one")] = ()
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: timed when the run folder is made
    channels_last: bool = True  # memory layout of images and convolutions
    holdout: Annotated[float, Field(ge=0, lt=0.9)] = 0.0  # share of the training records kept aside for tuning
    stack: Annotated[int, Field(ge=1, le=256)] = 1  # mlp: networks of so many seeds trained at once
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # as in torch's cross_entropy
    # Alpha of the Beta law of the shares in which two records are mixed (Zhang et al. 2018); 0: they are not mixed.
    mixup: Annotated[float, Field(ge=0), at_most(1e3, "every mixture is half and half soon after")] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of activations set to zero, where the model has it
    fit: Word | None = None  # the user's own training loop, package.module:function, instead of ours

    @field_validator("fit", mode="before")
    @classmethod
    def _our_loop(cls, fit: Any) -> Any:
        return fit or None if isinstance(fit, str) else fit  # "": ours, for one entry of a study that names another

    @model_validator(mode="before")
    @classmethod
    def _of_the_optimizer(cls, fields: Any) -> Any:
        """The learning rate and the momentum that a study leaves out; momentum is of SGD alone."""
        if not isinstance(fields, Mapping):
            return fields
        optimizer = fields.get("optimizer", "sgd")
        if optimizer == "sgd" and fields.get("momentum", 0) is None:
            return {name: value for name, value in fields.items() if name != "momentum"}
        if optimizer not in ("adam", "adamw"):
            return fields
        if fields.get("momentum") is not None:
            raise BadTogether(
                f"momentum is of optimizer = 'sgd'; leave it out, and set optimizer_options = {{ betas = [0.9, 0.999] "
                f"}} for '{optimizer}'"
            )
        return {"lr": _optimizer.LR[optimizer], **fields, "momentum": None}

    @field_validator("optimizer_options")
    @classmethod
    def _options_of_the_optimizer(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "optimizer" not in info.data or "momentum" not in info.data:
            return options  # these are told
        return _optimizer.checked(info.data["optimizer"], options, info.data["momentum"])

    @field_validator("fit")
    @classmethod
    def _a_function(cls, fit: str | None) -> str | None:
        if fit is not None and not _FACTORY.fullmatch(fit):
            raise ValueError(f"{fit!r} is not of the form 'package.module:function'")
        return fit

    @model_validator(mode="after")
    def _one_warm_up(self) -> Train:
        if self.warmup and self.schedule == "one-cycle":
            raise BadTogether(
                f"warmup = {self.warmup:g}: the one-cycle schedule rises by itself in its first 30 % of the steps; set "
                "warmup to 0, or schedule to 'cosine', 'step' or 'constant'"
            )
        return self

    @model_validator(mode="after")
    def _steps_of_the_step_schedule(self) -> Train:
        for name in _OF_STEPS if self.schedule != "step" else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise BadTogether(f"{name} is of schedule = 'step'; leave it out for '{self.schedule}'")
        return self

    def overlaid(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of this training with others laid over them.

        Another optimiser takes neither learning rate nor momentum nor options of this one, and another schedule no
        steps.
        """
        kept = self.model_dump()
        if fields.get("schedule", "step") != "step":
            for name in _OF_STEPS:
                del kept[name]
        if fields.get("optimizer", self.optimizer) != self.optimizer:
            for name in ("lr", "momentum", "optimizer_options"):
                del kept[name]
        return {**kept, **fields}

    def identity(self) -> dict[str, Any]:
        """What keys of networks are made from. A field that came later counts only where it is not its default."""
        fields = self.model_dump(mode="json")
        unset = {name for name in _LATER if fields[name] == Train.model_fields[name].default}
        return {name: value for name, value in fields.items() if name not in unset}


class Signals(Part):
    """What the attacker measures beside the outputs: the local sensitivity of the softmax, and what attacks ask for."""

    noise: Annotated[float, Field(gt=0), at_most(1e3, _STANDARD)] = 1e-3  # e, in units of normalised inputs
    draws: Annotated[int, Field(ge=1), at_most(1000, _PATIENCE)] = 5
    # The rest is measured only where a declared attack needs it.
    queries: Annotated[int, Field(ge=1), at_most(256, _PATIENCE)] = 4  # fixed: the record, flipped, shifted ...
    noise_sizes: Annotated[
        tuple[Annotated[float, Field(gt=0), at_most(1e3, _STANDARD)], ...],
        Field(min_length=1, strict=False),
        ascending("size"),
        no_longer_than(100, _PATIENCE),
    ] = (0.1, 0.2, 0.4, 0.8)
    noise_draws: Annotated[int, Field(ge=1), at_most(1000, _PATIENCE)] = 2
    boundary_queries: Annotated[int, Field(ge=150), at_most(100_000, _PATIENCE)] = 1000  # of HopSkipJump, most


class Attacks(Part):
    """Which attacks run on every target network; "all": every one that the study has what it takes for."""

    names: Annotated[
        tuple[Word, ...],
        Field(min_length=1, strict=False),
        distinct("an attack"),
        no_longer_than(200, "there are fewer attacks"),
    ] = ("discriminator",)


class Run(Part):
    """Repeats: each seed redraws the split, the initialisation and the order of training; an init all but the split."""

    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(min_length=1, strict=False),
        distinct("a seed"),
        no_longer_than(1000, "every network is trained for each of them"),
    ] = (0, 1, 2)
    # Initialisations and orders of training on each seed's split; statistics average them within the seed.
    inits: Annotated[int, Field(ge=1), at_most(100, "every network of every seed is trained so many times")] = 1


def canonical_key(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex, 64 digits) of a config in one canonical JSON form: sorted keys, no spaces, full float repr."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
