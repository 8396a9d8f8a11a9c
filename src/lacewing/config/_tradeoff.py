"""[tradeoff]: the question that a study is run to answer, declared before it runs."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from lacewing.config._bounds import BadTogether, BadValue, distinct, no_longer_than
from lacewing.config._parts import Part, Word

CONTROLS = "controls"  # every family of complete recipes that are not sparse
TEST_ACCURACY = "test accuracy"
FPRS = (0.01, 0.001)  # at which results hold a TPR
FEWEST_RECIPES = 6  # of both families, see `lacewing.tradeoff`
FEWEST_SEEDS = 3  # or cuts; as in `lacewing.metrics`
_METRIC = re.compile(
    r"(?P<attack>[\w-]+(?:(?:\.\w+)*:\w+)?)"  # a user's own is package.module:name
    r"\.(?:(?P<name>auc|balanced_accuracy)|tpr@(?P<fpr>\d*\.?\d+(?:e-?\d+)?))"
)


class Comparison(Part):
    """Does one family of networks leak less, or more, than others at equal accuracy?"""

    family: Word  # the name of a [[networks]] entry, or of its `family`
    against: Word = CONTROLS  # another family, or all controls
    at: str = TEST_ACCURACY
    metric: Word  # "lira.tpr@0.01", "discriminator.balanced_accuracy", "rmia-offline.auc"

    @field_validator("at")
    @classmethod
    def _at_test_accuracy(cls, at: str) -> str:
        if at != TEST_ACCURACY:
            raise BadValue(
                f"only '{TEST_ACCURACY}' can be declared; equal train accuracy and equal density are described without "
                "a verdict, and the population is the same records in every seed, whose error no seed averages out"
            )
        return at

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        found = _METRIC.fullmatch(metric)
        if found is None:
            raise BadValue(
                "write ATTACK.auc, ATTACK.balanced_accuracy, ATTACK.tpr@0.01 or ATTACK.tpr@0.001, e.g. "
                "'lira-offline.tpr@0.01'"
            )
        if found["fpr"] is None:
            return metric
        if float(found["fpr"]) not in FPRS:
            raise BadValue(f"studies hold TPRs at {' and '.join(map(str, FPRS))}: choose one of them")
        return f"{found['attack']}.tpr@{float(found['fpr']):g}"  # .01 and 1e-2 are one question

    @property
    def attack(self) -> str:
        """The attack whose result is compared."""
        return self._parts["attack"]

    @property
    def column(self) -> str:
        """The metric as results name it, e.g. ``tpr_at_fpr_0.01``."""
        return self._parts["name"] or f"tpr_at_fpr_{self.fpr:g}"

    @property
    def fpr(self) -> float | None:
        """The FPR at which a TPR is compared; None: another metric."""
        found = self._parts["fpr"]
        return None if found is None else float(found)

    @property
    def _parts(self) -> re.Match[str]:
        found = _METRIC.fullmatch(self.metric)
        assert found is not None  # checked when it was made
        return found


class Tradeoff(Part):
    """One primary question, whose verdict is tested at 5 %; more of them are Holm-corrected together."""

    primary: Comparison | None = None
    comparisons: Annotated[
        tuple[Comparison, ...],
        Field(strict=False),
        distinct("a comparison"),
        no_longer_than(100, "corrected for so many, none is found"),
    ] = ()

    @model_validator(mode="after")
    def _asked_once(self) -> Tradeoff:
        if self.primary is not None and self.primary in self.comparisons:
            raise BadTogether("comparisons holds the primary question; leave it out there")
        return self

    def declared(self) -> tuple[tuple[str, Comparison], ...]:
        """Every declared comparison with the field that declares it."""
        first = (("tradeoff.primary", self.primary),) if self.primary is not None else ()
        return (*first, *((f"tradeoff.comparisons.{i}", each) for i, each in enumerate(self.comparisons)))
