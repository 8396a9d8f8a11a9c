"""An audit's facts as plain data for JSON: what is not known is null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lacewing.attacks._types import CLASSES, Task
from lacewing.results import NetworkResult

QUALITY: Mapping[Task, str] = {"multi-label": "labels_right", "regression": "r2"}  # what stands for the accuracy


def model(network: NetworkResult, task: Task | None) -> dict[str, Any]:
    """The audited model; ``task`` None: only scores were given, and nothing is known of it.

    Without weights to count (a function, outputs) there is no density. The method is not known of anybody's model.
    """
    counts = ("density", "density_prunable", "parameters", "nonzero")
    facts: dict[str, Any] = {"network": network.network, "method": None, "seed": network.seed}
    facts |= {name: getattr(network, name) if network.parameters else None for name in counts}
    known = task is None or task in CLASSES
    facts["train_accuracy"] = plain(network.train_accuracy) if known else None
    facts["test_accuracy"] = plain(network.test_accuracy) if known else None
    if task is not None and not known:
        facts[f"{QUALITY[task]}_members"] = plain(network.train_accuracy)
        facts[f"{QUALITY[task]}_nonmembers"] = plain(network.test_accuracy)
    return facts


def plain(value: Any) -> Any:
    """Numbers, texts, lists and dicts alone; NaN and infinities, which JSON lacks, become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
