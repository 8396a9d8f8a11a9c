"""The sentences of the section "Stability"."""

from __future__ import annotations

import numpy as np

from lacewing.metrics import variance_components
from lacewing.reporting._stability import _larger
from lacewing.tradeoff.stability import RecipeSpread, Stability


def test_the_spread_over_splits_is_averaged_before_it_is_cut_at_zero() -> None:
    """Estimates of .03, -.015 and -.015: in the mean no spread over splits, where cut ones would tell one."""
    above, below = [[0.5, 0.5], [0.5 + 0.06**0.5, 0.5 + 0.06**0.5]], [[0.5, 0.5 + 0.06**0.5]] * 2
    spreads = tuple(
        RecipeSpread(name, "AUC", variance_components(values)) for name, values in (("a", above), ("b", below))
    )
    told = [s.spread.variance_between for s in spreads]
    np.testing.assert_allclose(told, [0.03, -0.015])
    (sentence,) = _larger(Stability(2, "loss", spreads + spreads[1:], (), (), (), 0))
    assert "standard deviation 0.0000 over splits and 0.1414 over initialisations" in sentence
