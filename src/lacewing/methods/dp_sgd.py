"""DP-SGD, the baseline with a guarantee; without noise, clipping alone, the arm that shows what the noise adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lacewing.config import BadTogether, Train, at_most
from lacewing.errors import UsageError
from lacewing.methods._base import Method, Step
from lacewing.metrics import MOST_NOISE, dp_epsilon, dp_noise
from lacewing.results import Kind, Look, Privacy

if TYPE_CHECKING:
    from torch import nn

    from lacewing.training.private import PrivateSgd

DELTA = 1e-5  # at which epsilon is told where the entry names the noise alone
# Aerni, Zhang & Tramer 2024 (arXiv 2404.17399), their scripts for CIFAR-10: noise, then fields of [train]. They clip at
# 1 without momentum, weight decay and schedule; ours have no augmentation multiplicity and no average of weights.
_PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
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
    noise: Annotated[float, Field(ge=0), at_most(MOST_NOISE, "nothing is learnt under more")] | None = None
    epsilon: Annotated[float, Field(gt=0), at_most(1e9, "that is no guarantee")] | None = None  # instead of the noise
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: Annotated[float, Field(gt=0), at_most(1e30, "the 32-bit numbers of training end soon after")] = 1.0

    @classmethod
    def completed(cls, fields: Mapping[str, Any], train: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the settings of its preset, and in fp32 where the study leaves the precision open."""
        noise, preset = PRESETS.get(str(fields.get("preset")), (None, {}))
        own = fields.get("train", {})
        if not isinstance(own, Mapping):
            return fields
        added: dict[str, Any] = {**preset, **own}
        if train.get("precision") == "auto":
            added["precision"] = "fp32"
        said = {"noise", "epsilon"} & {*fields}
        return {**({} if noise is None or said else {"noise": noise}), **fields, **({"train": added} if added else {})}

    @model_validator(mode="after")
    def _one_amount_of_noise(self) -> DpSgd:
        if self.preset is not None and (self.epsilon is not None or self.noise != PRESETS[self.preset][0]):
            raise BadTogether(f"preset = '{self.preset}' sets the noise itself; leave noise and epsilon out, or preset")
        if self.preset is not None and "lr" not in self.train:
            raise BadTogether(
                f"preset = '{self.preset}' leaves the learning rate to you, since it decides: tune it, and set "
                "train = { lr = ... } in this entry"
            )
        if (self.noise is None) == (self.epsilon is None):
            raise BadTogether("noise: give noise (0: clipping alone), or epsilon and delta, or a preset")
        if self.epsilon is not None and self.delta is None:
            raise BadTogether("delta is missing: epsilon is told at a delta, which must be below 1 / records; add it")
        if self.noise == 0 and self.delta is not None:
            raise BadTogether("delta says something of a guarantee, and noise = 0 gives none; leave delta out")
        return self

    def default_name(self) -> str:
        """``dp-sgd``; ``clipping`` without noise."""
        return "clipping" if self.noise == 0 else "dp-sgd"

    def check(self, train: Train) -> None:
        """Refuse what breaks the accounting, which takes each record for a part of its own gradient alone."""
        if train.precision == "bf16":
            raise ValueError("train.precision: DP-SGD computes norms of gradients in fp32; set it to 'fp32'")
        if train.mixup:
            raise ValueError(
                "train.mixup: it puts two records into one gradient, and DP-SGD bounds what a single record changes by "
                "clipping its own; set it to 0"
            )

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
        """By the RDP accountant of `lacewing.metrics.dp_epsilon`."""
        if self.noise == 0:
            return Privacy(0.0)
        delta = DELTA if self.delta is None else self.delta
        if delta >= 1 / records:
            raise UsageError(
                f"delta = {delta:g} is not below 1 / {records:,}, the share of a single record: publishing one record "
                "would keep it; set a smaller delta."
            )
        noise = self._noise(train, records)
        spent = dp_epsilon(noise, *_steps(train, records), delta)
        return Privacy(noise, float(f"{spent:.6g}"), delta)  # last digits are those of the machine

    def _noise(self, train: Train, records: int) -> float:
        if self.noise is not None:
            return self.noise
        assert self.epsilon is not None
        assert self.delta is not None
        return dp_noise(self.epsilon, self.delta, *_steps(train, records))


def _steps(train: Train, records: int) -> tuple[float, int]:
    """The probability with which a step takes a record, and the steps of the training."""
    from lacewing.training.private import sampling

    rate, _, each = sampling(records, train.batch_size)
    return rate, each * train.epochs
