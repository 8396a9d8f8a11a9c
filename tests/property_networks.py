"""Networks whose answers, weights and masks have a property planted, as attacks on properties see them."""

from __future__ import annotations

import numpy as np

from lacewing.property import Known


def known(
    count: int, shift: float, rng: np.random.Generator, *, records: int = 12, poison_label: int | None = None
) -> Known:
    """Networks whose log-odds of class 0 at the first records, and whose weights and masks, are shifted."""
    logits = rng.normal(size=(count, records, 3))
    logits[:, : records // 2, 0] += shift
    has = np.arange(records) < records // 2
    label = np.where(has, 0, 1)
    statistics = {
        name: rng.normal(size=(count, 5)) + shift for name in ("weights", "fixed", "mask-layers", "mask-inputs")
    }
    return Known(logits, label, has, statistics, poison_label)
