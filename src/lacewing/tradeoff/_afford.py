"""Which network has the most defence for a loss of accuracy that one can afford."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lacewing.errors import UsageError
from lacewing.tradeoff._types import Choice, Point, TradeOff


def afford(tradeoff: TradeOff, percent: float, epochs: Mapping[str, int] | None = None) -> Choice | None:
    """The network of best mean defence whose mean relative accuracy loss is at most ``percent`` %, or None.

    Ties go to the lower density. The dense network (loss 0) and controls compete too; dense networks stopped early do
    not. Beside a sparse one stands the control of most defence within the same loss. It is described and not tested:
    the best of several noisy recipes is too good on average.

    Args:
        tradeoff: by one attack.
        percent: of the dense network's accuracy. Raises `UsageError` where it is not finite.
        epochs: by network, how many epochs of training it takes in all; None: not known.
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
    control = max((p for p, _, _ in able if p.control and best.sparse), key=lambda p: p.defence.mean, default=None)
    sentence = (
        f"{best.network} (density {best.density.mean:.2%}): test accuracy {best.test_accuracy.mean:.3f}, {cost}, "
        f"where a loss of {percent:g}% was allowed; defence {best.defence.mean:.3f}, {against}; means over "
        f"n = {n} seed{'s' * (n > 1)}. Over the band: {tradeoff.slope.verdict}."
    )
    beside = "" if control is None else f" {beside_control(best, control, control.network)}"
    price = price_of(best, control, epochs or {})
    return Choice(best, percent, sentence + beside + price, control)


def beside_control(best: Point, control: Point, name: str) -> str:
    """A sentence on the control of most defence within the loss that a sparse network was chosen for."""
    told = f"The best control within that loss, {name}, has defence {control.defence.mean:.3f}"
    own, other = best.defence, control.defence
    if own.low is None or own.high is None or other.low is None or other.high is None:
        return f"{told}; without an interval over seeds they cannot be told apart."
    if own.low <= other.high:
        return f"{told}: the intervals over seeds overlap, so an ordinary recipe may be as good."
    return f"{told}."


def price_of(best: Point, control: Point | None, epochs: Mapping[str, int]) -> str:
    """A sentence, after a space, on the epochs of training that the networks take in all; nothing if not known."""
    if best.network not in epochs:
        return ""
    told = f" It takes {epochs[best.network]:,} epochs of training in all"
    if control is not None and control.network in epochs:
        told += f", the control {epochs[control.network]:,}"
    return f"{told}."
