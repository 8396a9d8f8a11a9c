"""Which network has the most defence for a loss of accuracy that one can afford."""

from __future__ import annotations

import math

from lacewing.errors import UsageError
from lacewing.tradeoff._types import Choice, TradeOff


def afford(tradeoff: TradeOff, percent: float) -> Choice | None:
    """The network of best mean defence whose mean relative accuracy loss is at most ``percent`` %, or None.

    Ties go to the lower density. The dense network (loss 0) and controls compete too; dense networks stopped early do
    not. Raises `UsageError` for a ``percent`` that is not finite.
    """
    if not math.isfinite(percent):
        raise UsageError(f"percent = {percent} is no number: give the relative loss you can afford, such as 2.")
    able = [
        (p, p.relative_loss.mean, p.relative_gain.mean)
        for p in tradeoff.points
        if p.relative_loss and p.relative_gain and p.relative_loss.mean * 100 <= percent + 1e-9 and not p.stopped
    ]
    if not able:
        return None
    best, loss, gain = min(able, key=lambda each: (-each[0].defence.mean, each[0].density.mean, each[0].network))
    n = best.defence.n
    cost = f"a relative loss of {loss:.1%}" if loss >= 0 else f"{-loss:.1%} more than the dense network"
    against = f"a relative gain of {gain:.1%} over the dense network"
    if not best.sparse:
        baseline = best.relative_gain is not None and best.relative_gain.max == best.relative_gain.min == 0
        against = f"{'' if baseline else f'{against}; '}no sparse network within that loss has a higher one"
    sentence = (
        f"{best.network} (density {best.density.mean:.2%}): test accuracy {best.test_accuracy.mean:.3f}, {cost}, "
        f"where a loss of {percent:g}% was allowed; defence {best.defence.mean:.3f}, {against}; means over "
        f"n = {n} seed{'s' * (n > 1)}. Over the band: {tradeoff.slope.verdict}."
    )
    return Choice(best, percent, sentence)
