"""DP-SGD, the baseline with a guarantee; without noise, clipping alone, the arm that shows what the noise adds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lacewing.config import BadTogether, Train, at_least, at_most
from lacewing.errors import UsageError
from lacewing.methods._base import Method, Step
from lacewing.metrics import LEAST_NOISE, MOST_NOISE, dp_epsilon, dp_noise, rounded_up
from lacewing.results import Kind, Look, Privacy

if TYPE_CHECKING:
    from torch import nn

    from lacewing.training.private import PrivateSgd

DRAWS = 2  # in keys: raised whenever networks draw batches and noise in another way
DELTA = 1e-5  # at which epsilon is told where the entry names the noise alone
Noise = Annotated[
    float,
    Field(ge=0),
    at_least(LEAST_NOISE, "no epsilon below 10^5 is reached under less; 0 clips alone", or_zero=True),
    at_most(MOST_NOISE, "nothing is learnt under more"),
]
Clip = Annotated[
    float,
    at_least(1e-30, "the 32-bit numbers of training end soon before"),
    at_most(1e30, "the 32-bit numbers of training end soon after"),
]
# Aerni, Zhang & Tramer 2024 (arXiv 2404.17399), their scripts for CIFAR-10: noise, then fields of [train]. They clip at
# 1 without momentum, weight decay and schedule; ours have no augmentation multiplicity and no average of weights.
_PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
_PLAIN_TOO = {"optimizer": "sgd", "optimizer_options": {}, "warmup": 0.0, "clip_norm": 0.0}
PRESETS: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "medium-utility": (0.2, {"batch_size": 2048, "epochs": 200, **_PLAIN}),
    "high-utility": (0.00625, {"batch_size": 64, "epochs": 16, **_PLAIN}),
    "very-high-utility": (0.003125, {"batch_size": 64, "epochs": 25, **_PLAIN}),
}


class DpSgd(Method):
    """A dense network trained by DP-SGD: each record's gradient is clipped, and noise is added to their sum."""

    role: ClassVar[Kind] = "control"
    look: ClassVar[Look] = Look("DP-SGD", "#8b1e3f", "*")
    stackable: ClassVar[bool] = True

    method: str = "dp-sgd"
    preset: Literal["medium-utility", "high-utility", "very-high-utility"] | None = None
    # Standard deviation of the noise over `clip`; 0: clipping alone.
    noise: Noise | None = None
    epsilon: Annotated[float, Field(gt=0), at_most(1e9, "that is no guarantee")] | None = None  # instead of the noise
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: Clip = 1.0

    @classmethod
    def completed(cls, fields: Mapping[str, Any], train: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the settings of its preset, and in fp32 where the study leaves the precision open."""
        noise, preset = PRESETS.get(str(fields.get("preset")), (None, {}))
        if preset and isinstance(own := fields.get("train", {}), Mapping):
            # Plain SGD at a constant rate, whatever the study's own training is.
            others = {name: value for name, value in _PLAIN_TOO.items() if train.get(name, value) != value}
            fields = {**fields, "train": {**preset, **others, **own}}
        if noise is not None and not {"noise", "epsilon"} & {*fields}:
            fields = {**fields, "noise": noise}
        return in_fp32(fields, train)

    @model_validator(mode="after")
    def _one_amount_of_noise(self) -> DpSgd:
        if self.preset is not None and (self.epsilon is not None or self.noise != PRESETS[self.preset][0]):
            raise BadTogether(f"preset = '{self.preset}' sets the noise itself; leave noise and epsilon out, or preset")
        if self.preset is not None and self.train.get("optimizer", "sgd") != "sgd":
            raise BadTogether(f"preset = '{self.preset}' trains by SGD; leave optimizer out of this entry's train")
        if self.preset is not None and "lr" not in self.train:
            raise BadTogether(
                f"preset = '{self.preset}' leaves the learning rate to you, since it decides: tune it, and set "
                "train = { lr = ... } in this entry"
            )
        if (self.noise is None) == (self.epsilon is None):
            raise BadTogether("noise: give noise (0: clipping alone), or epsilon and delta, or a preset")
        if self.epsilon is not None and self.delta is None:
            raise BadTogether("delta is missing: epsilon is told at a delta, which must be below 1 / records; add it")
        check_delta(self.noise, self.delta)
        return self

    def default_name(self) -> str:
        """``dp-sgd``; ``clipping`` without noise."""
        return "clipping" if self.noise == 0 else "dp-sgd"

    def steps(self, train: Train) -> tuple[Step, ...]:
        """A single network."""
        (step,) = super().steps(train)
        return (dataclasses.replace(step, key={**step.key, "draws": DRAWS}),)

    def check(self, train: Train) -> None:
        """See `check_accounting`."""
        check_accounting(train)

    def count(self, model: nn.Module, step: Step) -> int:
        """As many as the dense network; refuses a network that cannot be trained so."""
        from lacewing.training.private import check_private

        check_private(model)
        return super().count(model, step)

    def trainer(self, train: Train, records: int) -> PrivateSgd:
        """DP-SGD."""
        from lacewing.training.private import PrivateSgd

        return PrivateSgd(self._noise(train, records), self.clip)

    def privacy(self, train: Train, records: int, step: Step) -> Privacy:
        """Of one training."""
        return guaranteed(self._noise(train, records), self.delta, train, records)

    def _noise(self, train: Train, records: int) -> float:
        if self.noise is not None:
            return self.noise
        assert self.epsilon is not None
        assert self.delta is not None
        return dp_noise(self.epsilon, self.delta, *_steps(train, records))


def check_delta(noise: float | None, delta: float | None) -> None:
    """Refuse a delta of clipping alone."""
    if noise == 0 and delta is not None:
        raise BadTogether("delta says something of a guarantee, and noise = 0 gives none; leave delta out")


def in_fp32(fields: Mapping[str, Any], train: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of an entry, in fp32 where the training that they and the study declare has no precision yet."""
    own = fields.get("train", {})
    if train.get("precision") != "auto" or not isinstance(own, Mapping):
        return fields
    return {**fields, "train": {**own, "precision": "fp32"}}


def check_accounting(train: Train) -> None:
    """Refuse what breaks the accounting, which holds for records that each have a clipped gradient of their own.

    Raises:
        ValueError: it begins with the name of the field.
    """
    if train.precision == "bf16":
        raise ValueError("train.precision: DP-SGD computes norms of gradients in fp32; set it to 'fp32'")
    if train.clip_norm:
        raise ValueError(
            f"train.clip_norm = {train.clip_norm:g} is of the gradient of a batch, and DP-SGD clips that of each "
            "record by 'clip'; set train.clip_norm to 0 for this entry"
        )
    if train.mixup:
        raise ValueError(
            "train.mixup: it puts two records into one gradient, and DP-SGD bounds what a single record changes by "
            "clipping its own; set it to 0"
        )


def guaranteed(noise: float, delta: float | None, train: Train, records: int, trainings: int = 1) -> Privacy:
    """What so many trainings with this noise, the mask of each learnt by those before it, guarantee each record.

    Raises:
        UsageError: delta is so large that publishing a record would keep it, or no finite epsilon is known.
    """
    if noise == 0:
        return Privacy(0.0)
    delta = DELTA if delta is None else delta
    if delta >= 1 / records:
        raise UsageError(
            f"delta = {delta:g} is not below 1 / {records:,}, the share of a single record: publishing one record "
            "would keep it; set a smaller delta."
        )
    rate, steps = _steps(train, records)
    spent = dp_epsilon(noise, rate, trainings * steps, delta)
    if not math.isfinite(spent):
        raise UsageError(
            f"noise = {noise:g}: no finite epsilon is known at so little noise; give more, or 0 for clipping."
        )
    return Privacy(noise, rounded_up(spent, 6), delta, trainings)  # further digits are those of the machine


def _steps(train: Train, records: int) -> tuple[float, int]:
    """The probability with which a step takes a record, and the steps of the training."""
    from lacewing.training.private import sampling

    rate, _, each = sampling(records, train.batch_size)
    return rate, each * train.epochs
