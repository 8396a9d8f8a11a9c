"""For a wanted test accuracy: the recipe of least leak, sparse or not, and the best of the other side beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lacewing.errors import UsageError
from lacewing.tradeoff._frontier import Line, Recipe
from lacewing.tradeoff._price import Price
from lacewing.tradeoff._types import Spread

_ROUNDING = 1e-9  # a mean over seeds of .7567, .76 and .7633 is .7599999999999999


@dataclass(frozen=True)
class Pick:
    """The recipe of least mean leak among those that reach an accuracy. Described, never tested."""

    accuracy: float  # wanted, 0..1
    metric: str  # as sentences name it
    recipe: Recipe
    sparse: bool
    other: Recipe | None  # of least leak on the other side, sparse or not; None: none reaches the accuracy
    apart: bool | None  # whether the intervals over seeds leave out each other; None: there are none, or no other
    price: Price | None  # of its training; None: not known
    other_price: Price | None
    sentence: str


def pick(of: Sequence[Line], accuracy: float, *, metric: str, prices: Mapping[str, Price]) -> Pick | None:
    """The recipe of least mean leak whose mean test accuracy is at least ``accuracy``; None where there is none.

    Ties go to the higher accuracy. The least of several noisy means is too low on average, so that nothing here is a
    test: questions that were declared before the study ran are.

    Args:
        of: the families, see `lines`.
        accuracy: wanted, a share.
        metric: of the leak, as the sentence names it, e.g. "AUC of lira-online".
        prices: by network, what its training takes in all.

    Raises:
        UsageError: ``accuracy`` is no share.
    """
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise UsageError(f"accuracy = {accuracy!r:.40}: give the test accuracy you want, from 0 to 1, such as 0.8.")
    able = [(r, line.kind == "sparse") for line in of for r in line.recipes if r.accuracy.mean >= accuracy - _ROUNDING]
    if not able:
        return None
    order = sorted(able, key=lambda each: (each[0].leak.mean, -each[0].accuracy.mean, each[0].network))
    best, sparse = order[0]
    other = next((recipe for recipe, is_sparse in order if is_sparse is not sparse), None)
    apart = None if other is None else _apart(best.leak, other.leak)
    cost, other_cost = prices.get(best.network), prices.get(other.network) if other is not None else None
    said = f"{best.network}: test accuracy {_text(best.accuracy)}, {metric} {_text(best.leak)}{_price(cost)}."
    side, none = (
        ("dense network or control", "No dense network or control")
        if sparse
        else ("sparse network", "No sparse network")
    )
    if other is None:
        said += f" {none} reaches that accuracy."
    else:
        said += f" The best {side} of that accuracy, {other.network}, has {_text(other.leak)}{_price(other_cost)}"
        said += {
            None: "; without intervals over seeds they cannot be told apart.",
            False: ": the intervals over seeds overlap, so it may be as good.",
            True: ".",
        }[apart]
    return Pick(accuracy, metric, best, sparse, other, apart, cost, other_cost, said)


def _apart(one: Spread, other: Spread) -> bool | None:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low > other.high or other.low > one.high


def _text(spread: Spread) -> str:
    if spread.low is None or spread.high is None:
        return f"{spread.mean:.3f}"
    return f"{spread.mean:.3f} [{spread.low:.3f}, {spread.high:.3f}]"


def _price(price: Price | None) -> str:
    return "" if price is None else f", {price.text}"
