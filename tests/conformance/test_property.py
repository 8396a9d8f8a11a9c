"""What every attack on a property must satisfy: a planted property is found, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from lacewing.property import ATTACKS, Known, infer, measured


def known(count: int, shift: float, rng: np.random.Generator, *, records: int = 12) -> Known:
    """Networks whose log-odds of class 0 at the first records, and whose weights and masks, are shifted."""
    logits = rng.normal(size=(count, records, 3))
    logits[:, : records // 2, 0] += shift
    has = np.arange(records) < records // 2
    label = np.where(has, 0, 1)
    statistics = {
        name: rng.normal(size=(count, 5)) + shift for name in ("weights", "fixed", "mask-layers", "mask-inputs")
    }
    return Known(logits, label, has, statistics)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_finds_a_planted_property(name: str) -> None:
    rng = np.random.default_rng(1)
    first, second, attacked = known(12, 0, rng), known(12, 2, rng), known(20, 0, rng)
    other = known(20, 2, rng)
    for side, said in ((attacked, False), (other, True)):
        found = infer(name, first, second, side)
        assert found is not None
        assert ((found.score_M > 0) == said).mean() >= 0.9
    swapped = infer(name, second, first, other)
    assert swapped is not None
    assert ((swapped.score_M > 0) == False).mean() >= 0.9  # noqa: E712


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_finds_what_is_not_there(name: str) -> None:
    rng = np.random.default_rng(2)
    second, claims = np.arange(24) >= 12, 0
    for _ in range(200):
        found = infer(name, known(6, 0, rng), known(6, 0, rng), known(24, 0, rng))
        assert found is not None
        claims += measured(found.score_M, second).binomial[0] > 0.5
    assert claims <= 18
