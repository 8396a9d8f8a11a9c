"""IMP by DP-SGD: masks that are learnt privately, at the price of one guarantee for each training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from lacewing.config import Train
from lacewing.methods._base import Step
from lacewing.methods.dp_sgd import DRAWS, Clip, DpSgd, Noise, check_accounting, check_delta, guaranteed, in_fp32
from lacewing.methods.imp import Imp
from lacewing.results import Look, Privacy

if TYPE_CHECKING:
    from torch import nn

    from lacewing.training.private import PrivateSgd


class DpImp(Imp):
    """IMP whose networks are all trained by DP-SGD. Level k reveals what k + 1 trainings on the same records do.

    Gradients are masked before they are clipped, and pruned weights get no noise.
    """

    look: ClassVar[Look] = Look("IMP by DP-SGD", "#332288", "H", sequence=True)

    method: str = "dp-imp"
    noise: Noise  # 0: clipping alone
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: Clip = 1.0

    @classmethod
    def completed(cls, fields: Mapping[str, Any], train: Mapping[str, Any]) -> Mapping[str, Any]:
        """As of `Imp`, in fp32 where the study leaves the precision open."""
        return in_fp32(super().completed(fields, train), train)

    @model_validator(mode="after")
    def _delta_of_noise(self) -> DpImp:
        check_delta(self.noise, self.delta)
        return self

    def check(self, train: Train) -> None:
        """As of `Imp` and `DpSgd`."""
        super().check(train)
        check_accounting(train)

    def default_name(self) -> str:
        """``dp-imp``."""
        return "dp-imp"

    def first(self) -> DpSgd:
        """The dense network, trained alike."""
        return DpSgd(train=self.train, model=self.model, noise=self.noise, delta=self.delta, clip=self.clip)

    def steps(self, train: Train) -> tuple[Step, ...]:
        """As of `Imp`; pruned networks depend on all settings of DP-SGD."""
        head, *levels = super().steps(train)
        own = {**self.model_dump(mode="json", include={"noise", "delta", "clip"}), "draws": DRAWS}
        return head, *(dataclasses.replace(step, key={**step.key, **own}) for step in levels)

    def count(self, model: nn.Module, step: Step) -> int:
        """As of `Imp`; refuses a network that DP-SGD cannot train."""
        from lacewing.training.private import check_private

        check_private(model)
        return super().count(model, step)

    def trainer(self, train: Train, records: int) -> PrivateSgd:
        """DP-SGD."""
        return self.first().trainer(train, records)

    def privacy(self, train: Train, records: int, step: Step) -> Privacy:
        """Of the training of this level and of those that its mask was learnt by."""
        return guaranteed(self.noise, self.delta, train, records, step.level + 1)
