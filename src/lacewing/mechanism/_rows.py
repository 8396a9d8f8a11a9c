"""The rows that a study's mechanism is made of, as mechanism.csv and mechanism.json hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Final

from lacewing.mechanism._predict import Largest, Predictor
from lacewing.results import STOPPED, Kind
from lacewing.support.text import cell

SCHEMA = 2  # 2: families are left out, not recipes; predictors have `families`; `largest`
LABELS: Final = {  # the quantities, in the order of tables
    "ratio": "gap / spread",
    "gap": "gap of log-odds",
    "spread": "spread of log-odds",
    "member_confidence": "confidence, members",
    "other_confidence": "confidence, others",
    "member_calibration_error": "calibration error, members",
    "other_calibration_error": "calibration error, others",
    "redrawn_fit": "fit of redrawn labels",
    "nonzero": "non-zero parameters",
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "accuracy_gap": "train minus test accuracy",
}
QUANTITIES: Final = tuple(LABELS)


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """What one target network does to its records. Log-odds in nats, shares in 0..1."""

    id: str  # as in a run folder: ``imp-03/target/0``
    network: str
    method: str
    family: str
    kind: Kind | None
    seed: int
    others: int  # other networks of the recipe that it is compared with
    ratio: float | None
    gap: float | None
    spread: float | None
    member_confidence: float
    other_confidence: float
    member_calibration_error: float
    other_calibration_error: float
    redrawn: int  # of its training records: those whose label was redrawn
    redrawn_fit: float | None
    nonzero: int
    train_accuracy: float
    test_accuracy: float
    accuracy_gap: float


@dataclass(frozen=True, slots=True)
class TemperatureRow:
    """The same networks with their logits divided by a number: means over them, and the AUC of an attack on them."""

    network: str
    temperature: float
    as_sure_as: str  # the recipe whose members' confidence the temperature reproduces; empty: a fixed temperature
    networks: int
    member_confidence: float
    other_confidence: float
    member_calibration_error: float
    other_calibration_error: float
    ratio: float | None
    gap: float | None
    spread: float | None
    attack: str
    auc: float


@dataclass(frozen=True)
class Mechanism:
    """What a study says about why its networks leak."""

    networks: tuple[NetworkRow, ...]
    predictors: tuple[Predictor, ...]  # empty: no attack ran
    largest: tuple[Largest, ...]  # empty: too few families or seeds
    temperature: tuple[TemperatureRow, ...]  # empty: no attack of the study ranks by log-odds
    unit: str  # "seed", or "cut": what is left out together

    @property
    def redrawn(self) -> bool:
        """Whether some network was trained on redrawn labels."""
        return any(row.redrawn for row in self.networks)


def left_out_with(row: NetworkRow) -> str:
    """The family that a network is left out with: its own; of a dense network observed in mid-schedule, the dense's."""
    return "dense" if row.method == STOPPED else row.family or row.network


def as_csv(found: Mechanism) -> str:
    """mechanism.csv: a row for each target network. Equal runs give equal bytes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["schema", *(field.name for field in fields(NetworkRow))])
    for row in found.networks:
        table.writerow(map(cell, [SCHEMA, *astuple(row)]))
    return text.getvalue()


def as_json(found: Mechanism) -> dict[str, Any]:
    """mechanism.json: which quantity predicts which leak, and what a temperature changes."""

    def plain(rows: Sequence[Predictor | Largest | TemperatureRow]) -> list[dict[str, Any]]:
        return [asdict(row) for row in rows]

    return {
        "schema": SCHEMA,
        "unit": found.unit,
        "predictors": plain(found.predictors),
        "largest": plain(found.largest),
        "temperature": plain(found.temperature),
    }
