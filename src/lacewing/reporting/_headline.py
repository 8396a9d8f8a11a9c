"""The words at the top of a report: the answer, the declared question, and the key numbers with their intervals."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from lacewing.metrics import FEWEST_SEEDS
from lacewing.reporting import _slopes
from lacewing.reporting._canaries import canary_sentences, epsilon_detail, epsilon_text, on_canaries
from lacewing.reporting._data import (
    LEAST_GAIN,
    SHOWN,
    ReportData,
    attack_names,
    density_text,
    estimates,
    leading_attack,
    lost,
    n_text,
    number,
    over_seeds,
    percent,
    percent_range,
    random_halves,
    results_of,
    series,
    span_text,
    spread_text,
    units_of,
)
from lacewing.results import Estimate
from lacewing.tradeoff import PAPER_SLOPE, Point, TradeOff
from lacewing.tradeoff.cautions import untrained_dense

BUDGET = 0.05  # relative loss of accuracy within which the best sparse network is named at the top


class Tile(NamedTuple):
    """A key number with what it is, its interval and its n."""

    title: str
    value: str
    detail: str


def headline(data: ReportData) -> tuple[str, list[str]]:
    """One sentence that answers "what does the dense network give away?", and the sentences that qualify it.

    The answer to the study's primary question is the first of these.
    """
    found = data.tradeoff
    primary = [answer.sentence for answer in data.answers if answer.primary]
    a0 = found.dense_balanced_accuracy if found is not None else None
    if found is None or a0 is None:
        first, more = _ranked_headline(data) or _no_headline(data)
        return first, [*primary, *more, *canary_sentences(data)]
    stronger = _stronger(data, found.attack)
    if a0.low > 0.5:
        first = (
            f"The dense network gives away which records it was trained on: an attacker is right "
            f"{percent(a0.value)} of the time, where guessing is right 50\u202f% of the time."
        )
    elif values := _leaks_each("balanced_accuracy", data):
        first = _few_seeds(f"attack accuracy {percent_range(min(values), max(values))}", len(values))
        first += f" (95\u202f% interval {percent_range(a0.low, a0.high)}, {found.interval})."
    elif random := untrained_dense(data.attacks):
        first = random
    else:
        bound = f"above an attack accuracy of {percent(a0.high)} at {n_text(data)}, {units_of(found)}"
        does_not = "on the dense network does not beat guessing"
        if stronger and stronger.auc.low > 0.5:
            first = (
                f"The attack “{found.attack}” {does_not} (no leakage {bound}), but “{stronger.attack}” finds more: "
                f"AUC {number(stronger.auc.value)}."
            )
        else:
            first = f"No leakage found {bound}: the attack “{found.attack}” {does_not}."
    second = (
        f"Balanced accuracy of the attack “{found.attack}” on the dense network: {percent(a0.value)} "
        f"({_a0_interval(found, a0)}; {n_text(data)})."
    )
    best = [_best_sentence(data, found)] if a0.low > 0.5 else []
    more = [stronger.sentence] if stronger else []
    return first, [*primary, second, *more, *canary_sentences(data), *best, *conclusions(found)]


def conclusions(found: TradeOff) -> list[str]:
    """The slope with its meaning, and what so many seeds can tell."""
    meaning = (
        f"A slope of {PAPER_SLOPE}, which the paper states for densities of {percent_range(*found.band)}, means: a "
        f"sparse network that loses 1\u202f% of the dense one's accuracy gains {PAPER_SLOPE}\u202f% of its defence."
    )
    return [f"{_slopes.said(found.slope)} {meaning}", found.power_sentence]


def _leaks_each(metric: str, data: ReportData) -> list[float]:
    """The metric of each dense network, where the interval of every one of them lies above guessing; else nothing."""
    dense = next((s for s in series(data) if s.baseline), None)
    own = list(dense.metric(metric).values()) if dense is not None else []
    return [e.value for e in own] if all(e.low > 0.5 for e in own) else []


def _few_seeds(found: str, networks: int) -> str:
    """The sentence for networks that all leak, while the interval of their mean reaches guessing."""
    return (
        f"Each of the {networks} dense networks leaks its training records ({found}); there are too few seeds to "
        "estimate the mean"
    )


def _a0_interval(found: TradeOff, a0: Estimate) -> str:
    """A0's interval and what it is over, with the number of seeds."""
    text = f"95\u202f% interval {percent_range(a0.low, a0.high)}, {found.interval}"
    return text if found.replicates >= FEWEST_SEEDS else f"{text}; {units_of(found)}"


class _Stronger(NamedTuple):
    """Another attack than the leading one, of higher AUC, with a sentence on both."""

    attack: str
    auc: Estimate
    sentence: str


def _stronger(data: ReportData, lead: str) -> _Stronger | None:
    """The attack of highest mean AUC on the dense network, where it is another than the leading one."""
    dense = next((s for s in series(data) if s.baseline), None)
    if dense is None:
        return None
    found = results_of(data)
    means = {
        name: measured
        for name in attack_names(data)
        if (measured := over_seeds(estimates(found.get((dense.network, name), {}), "auc"), halves=random_halves(data)))
    }
    top = max(means, key=lambda name: means[name][0].value, default=lead)
    if top == lead or lead not in means:
        return None
    e, over = means[top]
    sentence = (
        f"Of {len(means)} attacks on it “{top}” finds most: AUC {number(e.value)} (95\u202f% interval {number(e.low)} "
        f"to {number(e.high)}, {over}), where “{lead}” has {number(means[lead][0].value)}."
    )
    return _Stronger(top, e, sentence)


def _no_headline(data: ReportData) -> tuple[str, list[str]]:
    trained = sum(n.role == "target" for n in data.networks)
    what = "dense network" if data.attacks else "network"
    return (
        f"No answer yet: no {what} has been attacked.",
        [f"{trained} target network{'s' * (trained != 1)} trained so far; the same command continues the study."],
    )


def _ranked_headline(data: ReportData) -> tuple[str, list[str]] | None:
    """The answer by AUC, for attacks that only rank records; None where none ran on a dense network."""
    dense = next((s for s in series(data) if s.baseline and s.metric("auc")), None)
    measured = over_seeds(dense.metric("auc"), halves=random_halves(data)) if dense is not None else None
    if measured is None:
        return None
    attack, (e, over) = leading_attack(data), measured
    ends = f"95\u202f% interval {number(e.low)} to {number(e.high)}, {over}; {n_text(data)}"
    second = f"AUC of the attack “{attack}” on the dense network: {number(e.value)} ({ends})."
    third = ["It makes no decisions, so accuracy, defence and slope are not given."]
    if dense is not None and dense.metric("balanced_accuracy"):
        third = []
    if e.low > 0.5:
        first = (
            f"The dense network gives away which records it was trained on: an attacker ranks a member above a "
            f"non-member {percent(e.value)} of the time, where guessing does so 50\u202f% of the time."
        )
    elif values := _leaks_each("auc", data):
        first = _few_seeds(f"AUC {number(min(values))} to {number(max(values))}", len(values))
        first += f" (95\u202f% interval {number(e.low)} to {number(e.high)}, {over})."
    elif random := untrained_dense(data.attacks):
        first = random
    else:
        first = f"No leakage found above an AUC of {number(e.high)} at {n_text(data)}."
    return first, [second, *third]


def best_sparse(found: TradeOff, collapsed: Collection[str] = ()) -> Point | None:
    """The sparse network of most mean defence among those that gain and lose at most `BUDGET` of the accuracy.

    Recipes that ``collapsed`` in any seed are left out: what has learned little has most defence, and is of no use.

    Where all that gain lose more, the one whose gain exceeds its loss by most, but none that loses more than half of
    the accuracy. Ties go to the lower density. None where the attack on the dense network does not beat guessing
    (nothing to take back) and where none gains.
    """
    if found.dense_balanced_accuracy is None or found.dense_balanced_accuracy.low <= 0.5:
        return None

    able = [
        (p, p.relative_loss.mean, p.relative_gain.mean)
        for p in found.points
        if p.sparse and p.relative_gain and p.relative_loss and p.relative_gain.mean > 0 and p.network not in collapsed
    ]
    within = [(p.defence.mean, -p.density.mean, p) for p, loss, _ in able if loss <= BUDGET + 1e-11]  # as `afford` does
    beyond = [(gain - loss, -p.density.mean, p) for p, loss, gain in able if loss <= 0.5]
    return max(within or beyond, key=lambda each: each[:2], default=(0.0, 0.0, None))[2]


def _best_sentence(data: ReportData, found: TradeOff) -> str:
    best = best_sparse(found, data.collapsed)
    of = sum(p.sparse and p.network not in data.collapsed for p in found.points)
    left_out = _left_out(data, found)
    if best is None or best.relative_loss is None or best.relative_gain is None:
        if not of:
            return left_out.strip() or "No sparse network has been attacked yet."
        return (
            "No sparse network had more defence than the dense one, in the mean over seeds, for at most half of its "
            f"accuracy.{left_out}"
        )
    how = f"within a loss of {percent(BUDGET, 0)}" if best.relative_loss.mean <= BUDGET else "by gain minus loss"
    picked = (
        f" It was chosen as the best of {of} sparse networks on these very records, so its true gain is probably "
        "smaller."
        if of > 1
        else ""
    )
    return (
        f"Best sparse network {how}: {data.label(best.network, best.method)} keeps "
        f"{density_text(best.density.mean)} of the parameters, {moved(best.relative_loss.mean)} and gains "
        f"{spread_text(best.relative_gain, found, LEAST_GAIN)} of its defence.{picked}{left_out}"
    )


def _left_out(data: ReportData, found: TradeOff) -> str:
    """A sentence, after a space, on the sparse recipes that collapsed; nothing where none did."""
    named = [data.label(p.network, p.method) for p in found.points if p.sparse and p.network in data.collapsed]
    if not named:
        return ""
    which = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    whose = "its" if len(named) == 1 else "their"
    return (
        f" Not considered: {which}, because {whose} accuracy collapsed in at least one seed: a network that has "
        "learned little gives little away, but is of no use."
    )


def moved(loss: float) -> str:
    """A relative loss of accuracy in words, before a sentence goes on about the dense network."""
    return lost(loss, " of the dense network's accuracy") + " than the dense network" * (loss <= -SHOWN)


def loss_text(loss: float) -> str:
    """A relative loss as a table has it; a negative one is said in words."""
    return percent(loss) if loss > -SHOWN else f"{percent(-loss)} more accurate"


def tiles(data: ReportData) -> list[Tile]:
    """The key numbers, each with its interval, what that is over, and n."""
    found = data.tradeoff
    if found is None:
        return []
    made = []
    a0 = found.dense_balanced_accuracy
    if a0 is not None:
        n = n_text(data)
        made.append(
            Tile("Attack accuracy, dense", percent(a0.value), f"{_a0_interval(found, a0)}; 50\u202f% is guessing; {n}")
        )
        defence = Estimate(*(2 * (1 - min(max(a, 0.0), 1.0)) for a in (a0.value, a0.high, a0.low)))
        detail = f"{_a0_interval(found, defence)}; 100\u202f% is no leak measured"
        made.append(Tile("Defence, dense", percent(defence.value), detail))
    if (canaries := on_canaries(data)) is not None:
        detail = f"{canaries.result.attack}, seed {canaries.result.network.seed}: {epsilon_detail(canaries.found)}"
        made.append(Tile("One-run epsilon, dense", epsilon_text(canaries.found), detail))
    best = best_sparse(found, data.collapsed)
    if best is not None and best.relative_loss is not None and best.relative_gain is not None:
        loss = best.relative_loss.mean
        cost = f"for {percent(loss)} of accuracy" if loss > -SHOWN else f"and {loss_text(loss)}"
        made.append(
            Tile(
                f"Best sparse: {data.label(best.network, best.method)} at {density_text(best.density.mean)} density",
                f"{percent(best.relative_gain.mean)} gain",
                f"of defence ({span_text(best.relative_gain, found, LEAST_GAIN)}) {cost}, both relative",
            )
        )
    value, detail = _slopes.short(found.slope)
    several = f"; {_slopes.by_seed(found.slope, 'seed ')}" * (len(found.slope.by_seed) > 1)
    made.append(Tile(f"Slope (paper: {PAPER_SLOPE})", value, f"{detail}{several}"))
    return made
