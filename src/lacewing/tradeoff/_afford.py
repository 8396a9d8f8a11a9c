"""Which network has the most defence for a loss of accuracy that one can afford."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lacewing.errors import UsageError
from lacewing.tradeoff._price import Price
from lacewing.tradeoff._types import Choice, Point, TradeOff

MOST_PERCENT = 1e6  # nan and infinite ones are refused with what is larger


def afford(
    tradeoff: TradeOff,
    percent: float,
    prices: Mapping[str, Price] | None = None,
    *,
    collapsed: Collection[str] = (),
) -> Choice | None:
    """The network of best mean defence whose mean relative accuracy loss is at most ``percent`` %, or None.

    Ties go to the lower density. The dense network (loss 0) and controls compete too; dense networks stopped early do
    not. Beside a network of a sparse family stands the best of all others within the same loss, and beside one of those
    the best of the sparse families. Described and not tested: the best of several noisy recipes is too good on average.

    Args:
        tradeoff: by one attack.
        percent: of the dense network's accuracy. Raises `UsageError` where it is no finite number.
        prices: by network, what its training takes in all; None: not known.
        collapsed: recipes whose accuracy collapsed, which are no choice.
    """
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not abs(percent) <= MOST_PERCENT:
        raise UsageError(f"percent = {percent!r:.40}: give the relative loss you can afford as a number, such as 2.")
    able = [
        (p, p.relative_loss.mean, p.relative_gain.mean)
        for p in tradeoff.points
        if p.relative_loss and p.relative_gain and p.relative_loss.mean * 100 <= percent + 1e-9
        if not p.stopped and p.network not in collapsed
    ]
    if not able:
        return None
    order = sorted(able, key=lambda each: (-each[0].defence.mean, each[0].density.mean, each[0].network))
    best, loss, gain = order[0]
    beside = next((p for p, _, _ in order if p.sparse is not best.sparse), None)
    n = best.defence.n
    cost = f"a relative loss of {loss:.1%}" if loss >= 0 else f"{-loss:.1%} more than the dense network"
    is_dense = best.relative_gain is not None and best.relative_gain.max == best.relative_gain.min == 0
    gained = "" if is_dense and not best.sparse else f", a relative gain of {gain:.1%} over the dense network"
    sentence = (
        f"{best.network} (density {best.density.mean:.2%}): test accuracy {best.test_accuracy.mean:.3f}, {cost}, "
        f"where a loss of {percent:g}% was allowed; defence {best.defence.mean:.3f}{gained}; means over "
        f"n = {n} seed{'s' * (n > 1)}. "
    )
    if tradeoff.slope.verdict != "no network in the band":
        sentence += (
            f"Slope between {tradeoff.band[0]:.1%} and {tradeoff.band[1]:.1%} density: {tradeoff.slope.verdict}. "
        )
    said = beside_it(best, beside, beside.network if beside is not None else "")
    return Choice(best, percent, sentence + said + price_of(best, beside, prices or {}), beside)


def beside_it(best: Point, other: Point | None, name: str) -> str:
    """A sentence on the best network of the other side within the loss that ``best`` was chosen for."""
    side = "dense network or control" if best.sparse else "sparse network"
    if other is None:
        return f"No {side} loses as little."
    told = f"The best {side} within that loss, {name}, has defence {other.defence.mean:.3f}"
    mine, theirs = best.defence, other.defence
    if mine.low is None or mine.high is None or theirs.low is None or theirs.high is None:
        return f"{told}; without an interval over seeds they cannot be told apart."
    if mine.low <= theirs.high:
        return f"{told}: the intervals over seeds overlap, so it may be as good."
    return f"{told}."


def price_of(best: Point, other: Point | None, prices: Mapping[str, Price]) -> str:
    """A sentence, after a space, on what training the networks takes in all; nothing if not known."""
    if best.network not in prices:
        return ""
    told = f" {best.network} takes {prices[best.network].text}"
    if other is not None and other.network in prices:
        told += f", {other.network} {prices[other.network].text}"
    return f"{told}."
