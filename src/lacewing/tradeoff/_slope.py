"""The slope of gain on loss: least squares through the origin, its interval, its verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lacewing.metrics import Estimate, Floats
from lacewing.tradeoff._draws import Draws
from lacewing.tradeoff._types import PAPER_SLOPE, Pair, Slope, Verdict, show


def slope_of(
    method: str,
    pairs: Sequence[Pair],
    draws: Draws,
    a0: Estimate | None,
    seeds: Sequence[int],
    band: tuple[float, float],
    interval: str,
) -> Slope:
    used = [i for i, p in enumerate(pairs) if p.in_band and method in ("all", p.method)]
    loss = np.array([pairs[i].relative_loss for i in used])
    gain = np.array([pairs[i].relative_gain for i in used])
    of_seed = {s: np.array([pairs[i].seed == s for i in used], dtype=bool) for s in seeds}
    by_seed = {s: _through_origin(loss[mask], gain[mask]) for s, mask in of_seed.items()}
    if not used or a0 is None:
        sentence = (
            f"No network with a density of {band[0]:.1%} to {band[1]:.1%} stands beside a dense network of its seed."
        )
        return Slope(method, None, None, by_seed, len(used), "no network in the band", sentence)

    weight_BP, loss_BP, gain_BP = (d[:, used] for d in (draws.weight_BP, draws.loss_BP, draws.gain_BP))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope_B = (weight_BP * loss_BP * gain_BP).sum(axis=1) / (weight_BP * loss_BP**2).sum(axis=1)
        loss_B = (weight_BP * loss_BP).sum(axis=1) / weight_BP.sum(axis=1)
    value = _through_origin(loss, gain)
    mean_loss = estimate_of(float(loss.mean()), loss_B)
    estimate = None if value is None else estimate_of(value, slope_B)
    verdict: Verdict
    if a0.low <= 0.5:
        verdict = "no trade-off measurable"
        sentence = f"no trade-off measurable: the attack on the dense network is not above chance (A0 {show(a0)})."
    elif mean_loss is None or mean_loss.low <= 0:
        verdict = "no trade-off measurable"
        shown = "is not defined" if mean_loss is None else f"{show(mean_loss)} is not above 0 beyond its interval"
        sentence = f"no trade-off measurable: the mean relative loss in accuracy {shown}."
    elif estimate is None or estimate.low <= 0 <= estimate.high:
        verdict = "slope not resolved"
        shown = "it is not defined" if estimate is None else f"{show(estimate)} holds 0"
        sentence = f"slope not resolved: {shown} ({len(used)} points, {interval})."
    else:
        verdict = "slope resolved"
        sentence = f"slope {show(estimate)} beside the paper's {PAPER_SLOPE} ({len(used)} points, {interval})."
    return Slope(method, estimate, mean_loss, by_seed, len(used), verdict, sentence)


def _through_origin(loss: Floats, gain: Floats) -> float | None:
    square = float(loss @ loss)
    return float(loss @ gain) / square if square > 0 else None


def estimate_of(value: float, draws_B: Floats) -> Estimate | None:
    """``value`` with the percentile interval; None where more than 2.5 % of the draws are undefined."""
    defined = draws_B[np.isfinite(draws_B)]
    if len(defined) < 0.975 * len(draws_B):
        return None
    return Estimate(value, *map(float, np.quantile(defined, (0.025, 0.975))))
