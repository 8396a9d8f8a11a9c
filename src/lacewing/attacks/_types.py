"""What every attack receives, and what the registry says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.results import AttackResult, NetworkResult


@dataclass(frozen=True)
class Observed:
    """What an attacker saw of one network: N queried records, C classes, rows in the same order everywhere.

    Raises `UsageError` where lengths differ, values are not finite, a label is out of range, or only members or only
    non-members are present.
    """

    logits_NC: npt.NDArray[np.floating]  # up to a constant for each row
    label_N: npt.NDArray[np.integer]  # the given (not the predicted) class, 0..C-1
    member_N: npt.NDArray[np.bool_]  # True: the network trained on the record
    sensitivity_N: npt.NDArray[np.floating] | None  # None: not measured
    record_N: npt.NDArray[np.integer]  # the record's index in the data set

    def __post_init__(self) -> None:
        if self.logits_NC.ndim != 2 or self.logits_NC.shape[1] < 2:
            raise UsageError(f"logits have shape {self.logits_NC.shape}: give one row a record, one column a class.")
        n, classes = self.logits_NC.shape
        columns: dict[str, npt.NDArray[Any]] = {"label": self.label_N, "member": self.member_N, "record": self.record_N}
        if self.sensitivity_N is not None:
            columns["sensitivity"] = self.sensitivity_N
        for name, values in columns.items():
            if values.shape != (n,):
                raise UsageError(f"{name} has shape {values.shape} beside {n} rows of logits: give one value a record.")
        for name, numbers in (("logits", self.logits_NC), ("sensitivity", self.sensitivity_N)):
            if numbers is not None and not np.isfinite(numbers).all():
                raise UsageError(f"{name} hold NaN or infinite values: measure the network again in fp32.")
        if self.member_N.dtype != np.bool_ or self.member_N.all() or not self.member_N.any():
            raise UsageError("member must be True for the records trained on, False for others, and hold both kinds.")
        if not np.issubdtype(self.label_N.dtype, np.integer) or self.label_N.min() < 0 or self.label_N.max() >= classes:
            raise UsageError(f"label holds values that are no class: give whole numbers from 0 to {classes - 1}.")
        if len(np.unique(self.record_N)) != n:
            raise UsageError("record holds an index twice: query each record once.")


class AttackFunction(Protocol):
    """Attack ``target`` with what was learned on ``shadow``; ``network`` describes the target."""

    def __call__(
        self, network: NetworkResult, shadow: Observed, target: Observed, *, classes: int, seed: int
    ) -> AttackResult: ...


@dataclass(frozen=True)
class Attack:
    """One entry of the registry: what the attacker must know, and the function that attacks."""

    name: str
    threat_model: str  # one sentence
    function: AttackFunction
