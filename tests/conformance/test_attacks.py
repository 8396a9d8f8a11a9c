"""What every attack of the registry promises, on networks that have nothing to give away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lacewing import data
from lacewing.attacks import ATTACKS, Observed
from lacewing.config import Model
from lacewing.models import build
from lacewing.results import METRICS, NetworkResult
from lacewing.signals import compact, observe

NETWORK = NetworkResult("dense", "dense", "target", 0, 1.0, 1.0, 100, 100, 0.5, 0.5)


def untrained(seed: int) -> tuple[Observed, Observed]:
    """A network at its initialisation, asked about shadow and target records of a four-way split of the digits."""
    records = data.prepare(data.load("digits"), records=None, label_noise=0.0)
    split = data.four_way(len(records), seed)
    torch.manual_seed(seed)
    model = build(Model(name="resnet8", width=16), (1, 8, 8), 10)
    logits, sensitivity = observe(
        model,
        records.x,
        normalisation=data.normalisation(records.x),
        sensitivity_of=np.ones(len(records), bool),
    )

    def seen(members: np.ndarray, others: np.ndarray) -> Observed:
        rows = np.concatenate([members, others])
        member = np.arange(len(rows)) < len(members)
        return Observed(compact(logits)[rows], records.y[rows], member, sensitivity[rows], rows)

    return seen(split.shadow_train, split.shadow_test), seen(split.target_train, split.target_test)


def noise(seed: int) -> tuple[Observed, Observed]:
    """Random outputs and labels."""
    rng = np.random.default_rng(seed)

    def seen() -> Observed:
        member = np.arange(800) < 400
        return Observed(
            rng.normal(size=(800, 10)), rng.integers(0, 10, 800), member, rng.exponential(size=800), np.arange(800)
        )

    return seen(), seen()


@pytest.mark.parametrize("source", [untrained, noise])
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_nothing_is_found_where_nothing_leaks(name: str, source: object) -> None:
    shadow, target = source(1)  # type: ignore[operator]
    result = ATTACKS[name].function(NETWORK, shadow, target, classes=10, seed=0)
    accuracy, area = result.metrics["balanced_accuracy"], result.metrics["auc"]
    assert accuracy is not None
    assert area is not None
    assert accuracy.low <= 0.5 <= accuracy.high
    assert area.low <= 0.5 <= area.high


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_metric_is_there_and_refused_where_n_is_too_small(name: str) -> None:
    shadow, target = noise(2)
    result = ATTACKS[name].function(NETWORK, shadow, target, classes=10, seed=0)
    assert set(result.metrics) == set(METRICS)
    assert result.metrics["tpr_at_fpr_0.01"] is not None
    assert result.metrics["tpr_at_fpr_0.001"] is None  # 1/400 is above 0.001
    assert (result.n_members, result.n_nonmembers) == (400, 400)
    for name_, estimate in result.metrics.items():
        assert estimate is None or estimate.low <= estimate.value <= estimate.high, name_
