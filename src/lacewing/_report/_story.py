"""The words at the top of a report: the answer, its key numbers, what to read with care, and what one can afford."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lacewing._report._data import (
    SEEDS_LISTED,
    ReportData,
    attack_names,
    density_text,
    estimates,
    label_of,
    leading_attack,
    method_text,
    n_text,
    number,
    percent,
    percent_range,
    results_of,
    seeds_of,
    seeds_text,
    series,
    spread_text,
)
from lacewing.results import STOPPED, Estimate, is_sparse
from lacewing.tradeoff import PAPER_SLOPE, Point, Slope, Spread, TradeOff, afford

BUDGET = 0.05  # relative loss of accuracy within which the best sparse network is named at the top
AFFORD = (0, 1, 2, 5, 10, 20)  # per cent of relative accuracy loss, answered without JavaScript too
CHECKS = (
    "attack near chance",
    "slope not resolved",
    "accuracy collapsed",
    "memorisation incomplete",
    "target and shadow networks unlike each other",
    "butterfly dominated by IMP",
    "a last batch of a single record",
    "no control at equal accuracy",
)

_TITLES = ("Accuracy collapsed", "Target and shadow do not resemble each other")


class Tile(NamedTuple):
    """A key number with what it is, its interval and its n."""

    title: str
    value: str
    detail: str


class Note(NamedTuple):
    """Something a reader must not miss. ``kind``: care, failed or unfinished."""

    kind: str
    title: str
    text: str


class Answer(NamedTuple):
    """A row of the table "I can afford to lose p %"."""

    percent: float
    network: str
    density: str
    loss: str
    gain: str
    defence: str
    sentence: str


def headline(data: ReportData) -> tuple[str, list[str]]:
    """One sentence that answers "what does the dense network give away?", and the sentences that qualify it."""
    found = data.tradeoff
    a0 = found.dense_balanced_accuracy if found is not None else None
    if found is None or a0 is None:
        return _ranked_headline(data) or _no_headline(data)
    # n of the dense networks themselves, since A0's interval is over all of their seeds' records together.
    over = f"n\u00a0=\u00a0{found.dense_records:,} records over {seeds_text(found.seeds)}"
    interval = f"95\u202f% interval {percent_range(a0.low, a0.high)}, {over}"
    if a0.low > 0.5:
        first = (
            f"The dense network gives away which records it was trained on: an attacker is right "
            f"{percent(a0.value)} of the time, where guessing is right 50\u202f% of the time."
        )
    else:
        first = (
            f"No leakage found above an attack accuracy of {percent(a0.high)} at {over}: the attack on the dense "
            f"network does not beat guessing."
        )
    second = f"Balanced accuracy of the attack “{found.attack}” on the dense network: {percent(a0.value)} ({interval})."
    best = [_best_sentence(data, found)] if a0.low > 0.5 else []
    return first, [second, *_stronger_sentence(data, found.attack), *best, _slope_sentence(found)]


def _stronger_sentence(data: ReportData, lead: str) -> list[str]:
    """The attack of highest mean AUC on the dense network, where it is another than the leading one."""
    dense = next((s for s in series(data) if s.method == "dense"), None)
    if dense is None:
        return []
    found = results_of(data)
    means = {
        name: sum(e.value for e in of_seed.values()) / len(of_seed)
        for name in attack_names(data)
        if (of_seed := estimates(found.get((dense.network, name), {}), "auc"))
    }
    top = max(means, key=means.__getitem__, default=lead)
    if top == lead or lead not in means:
        return []
    ends = estimates(found[dense.network, top], "auc").values()
    return [
        f"Of {len(means)} attacks on it “{top}” finds most: AUC {number(means[top])} (95\u202f% intervals "
        f"{number(min(e.low for e in ends))} to {number(max(e.high for e in ends))}), where “{lead}” has "
        f"{number(means[lead])}."
    ]


def _no_headline(data: ReportData) -> tuple[str, list[str]]:
    trained = sum(n.role == "target" for n in data.networks)
    what = "dense network" if data.attacks else "network"
    return (
        f"No answer yet: no {what} has been attacked.",
        [f"{trained} target network{'s' * (trained != 1)} trained so far; the same command continues the study."],
    )


def _ranked_headline(data: ReportData) -> tuple[str, list[str]] | None:
    """The answer by AUC, for attacks that only rank records; None where none ran on a dense network."""
    dense = next((s for s in series(data) if s.method == "dense" and s.metric("auc")), None)
    if dense is None:
        return None
    attack, of_seed = leading_attack(data), dense.metric("auc")
    e = Estimate(
        sum(v.value for v in of_seed.values()) / len(of_seed),
        min(v.low for v in of_seed.values()),
        max(v.high for v in of_seed.values()),
    )
    ends = f"95\u202f% intervals {number(e.low)} to {number(e.high)} over {seeds_text(list(of_seed))}; {n_text(data)}"
    second = f"AUC of the attack “{attack}” on the dense network: {number(e.value)} ({ends})."
    third = "It makes no decisions, so accuracy, defence and slope are not given."
    if all(v.low > 0.5 for v in of_seed.values()):
        first = (
            f"The dense network gives away which records it was trained on: an attacker ranks a member above a "
            f"non-member {percent(e.value)} of the time, where guessing does so 50\u202f% of the time."
        )
    else:
        first = f"No leakage found above an AUC of {number(e.high)} at {n_text(data)}."
    return first, [second, third]


def best_sparse(found: TradeOff) -> Point | None:
    """The sparse network of most mean defence among those that gain and lose at most `BUDGET` of the accuracy.

    Where all that gain lose more, the one whose gain exceeds its loss by most, but none that loses more than half of
    the accuracy. Ties go to the lower density. None where the attack on the dense network does not beat guessing
    (nothing to take back) and where none gains.
    """
    if found.dense_balanced_accuracy is None or found.dense_balanced_accuracy.low <= 0.5:
        return None

    able = [
        (p, p.relative_loss.mean, p.relative_gain.mean)
        for p in found.points
        if is_sparse(p.method) and p.relative_gain and p.relative_loss and p.relative_gain.mean > 0
    ]
    within = [(p.defence.mean, -p.density.mean, p) for p, loss, _ in able if loss <= BUDGET + 1e-11]  # as `afford` does
    beyond = [(gain - loss, -p.density.mean, p) for p, loss, gain in able if loss <= 0.5]
    return max(within or beyond, key=lambda each: each[:2], default=(0.0, 0.0, None))[2]


def _best_sentence(data: ReportData, found: TradeOff) -> str:
    best = best_sparse(found)
    if best is None or best.relative_loss is None or best.relative_gain is None:
        if not any(is_sparse(p.method) for p in found.points):
            return "No sparse network has been attacked yet."
        return (
            "No sparse network had more defence than the dense one, in the mean over seeds, for at most half of its "
            "accuracy."
        )
    how = f"within a loss of {percent(BUDGET, 0)}" if best.relative_loss.mean <= BUDGET else "by gain minus loss"
    text = (
        f"Best sparse network {how}: {label_of(best.network, best.method)} keeps "
        f"{density_text(best.density.mean)} of the parameters, {_moved(best.relative_loss.mean)} of the dense "
        f"network's accuracy and gains {percent(best.relative_gain.mean)} of its defence"
    )
    ours, dense = _envelope(data, best.network), _dense_envelope(data)
    if ours is not None and dense is not None:
        text += f" (defence {percent_range(ours.low, ours.high)} against {percent_range(dense.low, dense.high)}"
        text += ", 95\u202f% intervals"
        text += f" of {best.defence.n} seeds put together" if best.defence.n > 1 else ""
        text += "; they overlap, so the gain may be chance)" if ours.low <= dense.high else ")"
    return text + "."


def _moved(loss: float) -> str:
    return f"loses {percent(loss)}" if loss >= 0 else f"adds {percent(-loss)}"


def _envelope(data: ReportData, network: str, metric: str = "defence") -> Estimate | None:
    """Mean over seeds, with the lowest and highest end of the seeds' intervals."""
    entry = next((s for s in series(data) if s.network == network), None)
    values = list(entry.metric(metric).values()) if entry is not None else []
    if not values:
        return None
    mean = sum(v.value for v in values) / len(values)
    return Estimate(mean, min(v.low for v in values), max(v.high for v in values))


def _dense_envelope(data: ReportData, metric: str = "defence") -> Estimate | None:
    dense = next((s for s in series(data) if s.method == "dense"), None)
    return _envelope(data, dense.network, metric) if dense is not None else None


def _slope_sentence(found: TradeOff) -> str:
    slope = found.slope
    beside = f"The paper states {PAPER_SLOPE} for densities of {percent_range(*found.band)}."
    if slope.estimate is None or slope.verdict != "slope resolved":
        return f"Slope: {slope.sentence} {beside}"
    e = slope.estimate
    held = "inside" if e.low <= PAPER_SLOPE <= e.high else "outside"
    return (
        f"In the band, 1\u202f% of accuracy lost came with {number(e.value, 2)}\u202f% of defence gained (95\u202f% "
        f"interval {number(e.low, 2)} to {number(e.high, 2)}, {slope.networks} points, {found.interval}). {beside[:-1]}"
        f", which lies {held} that interval."
    )


def tiles(data: ReportData) -> list[Tile]:
    """The key numbers, each with its interval and n."""
    found = data.tradeoff
    if found is None:
        return []
    made = []
    a0 = found.dense_balanced_accuracy
    over = f"n\u00a0=\u00a0{found.dense_records:,} records, {seeds_text(found.seeds)}"
    if a0 is not None:
        ends = percent_range(a0.low, a0.high)
        made.append(Tile("Attack accuracy, dense", percent(a0.value), f"{ends}; 50\u202f% is guessing; {over}"))
        made.append(
            Tile(
                "Defence, dense",
                percent(2 * (1 - a0.value)),
                f"{percent_range(2 * (1 - a0.high), 2 * (1 - a0.low))}; 100\u202f% is no leak measured; {over}",
            )
        )
    best = best_sparse(found)
    if best is not None and best.relative_loss is not None and best.relative_gain is not None:
        made.append(
            Tile(
                f"Best sparse: {label_of(best.network, best.method)} at {density_text(best.density.mean)} density",
                f"{percent(best.relative_gain.mean)} gain",
                f"of defence ({_over_seeds(best.relative_gain)}) for {percent(best.relative_loss.mean)} of accuracy, "
                f"both relative; {n_text(data)}",
            )
        )
    made.append(_slope_tile(found))
    return made


def _over_seeds(spread: Spread) -> str:
    return f"{percent_range(spread.min, spread.max)} over {spread.n} seeds" if spread.n > 1 else "one seed"


def _slope_tile(found: TradeOff) -> Tile:
    slope = found.slope
    title = f"Slope (paper: {PAPER_SLOPE})"
    e = slope.estimate
    if e is None or slope.verdict == "no trade-off measurable":
        return Tile(title, "not measured", slope.verdict)
    parts = [f"{number(e.low, 2)} to {number(e.high, 2)}, {slope.networks} points"]
    if slope.verdict != "slope resolved":
        parts.append(slope.verdict)
    if len(slope.by_seed) > 1:
        parts.append(_by_seed(slope, "seed "))
    return Tile(title, number(e.value, 2), "; ".join(parts))


def _by_seed(slope: Slope, word: str = "") -> str:
    """Each seed's slope, or the range of many."""
    values = {seed: value for seed, value in slope.by_seed.items() if value is not None}
    if len(values) > SEEDS_LISTED:
        ends = f"{number(min(values.values()), 2)} to {number(max(values.values()), 2)}"
        return f"{ends} in single seeds ({len(values)})"
    return ", ".join(f"{word}{seed}: {number(value, 2)}" for seed, value in values.items()) or "–"


def slopes(found: TradeOff | None) -> list[dict[str, str]]:
    """A row for all methods together and for each: slope, interval, points, slope of each seed, verdict."""
    if found is None:
        return []
    rows = []
    for slope in (found.slope, *found.slopes):
        e = slope.estimate
        rows.append(
            {
                "method": "all methods" if slope.method == "all" else method_text(slope.method),
                "value": "–" if e is None else number(e.value, 2),
                "interval": "–" if e is None else f"{number(e.low, 2)} to {number(e.high, 2)}",
                "points": str(slope.networks),
                "seeds": _by_seed(slope),
                "verdict": slope.verdict,
            }
        )
    return rows


def pareto(found: TradeOff | None) -> list[str]:
    """The networks of the Pareto front with their densities, best accuracy first, and the number of early stops."""
    points = {p.network: p for p in found.points} if found is not None else {}
    front = [points[name] for name in found.pareto] if found is not None else []
    listed = [
        f"{label_of(p.network, p.method)} ({density_text(p.density.mean)})" if p.method != "dense" else p.network
        for p in front
        if p.method != STOPPED
    ]
    stops = sum(p.method == STOPPED for p in front)
    return listed + [f"and the dense network stopped early, at {stops} epoch{'s' * (stops > 1)}"] * bool(stops)


def notes(data: ReportData) -> list[Note]:
    """Unfinished and failed work first, then the failure signatures."""
    made = []
    attacked = {attack.network.id for attack in data.attacks}
    waiting = sum(n.role == "target" and n.id not in attacked for n in data.networks)
    parts = [f"{data.missing} of {len(data.networks) + data.missing} planned networks not trained yet"] * bool(
        data.missing
    )
    parts += [f"{waiting} trained target network{'s' * (waiting > 1)} not attacked yet"] * bool(waiting)
    if parts:
        text = (
            f"{', '.join(parts)}: every number below may still change. The command at the end of this page continues."
        )
        made.append(Note("unfinished", "This study is not finished", text))
    if data.damaged:
        text = (
            f"{', '.join(data.damaged)}: nothing on this page is made from them, and what needs them is missing. The "
            "command at the end of this page makes them again."
        )
        made.append(Note("failed", f"Lost or damaged files: {len(data.damaged)}", text))
    made += [Note("failed", "A job failed", text) for text in data.jobs_failed]
    for sentence in (*data.failures, *(data.tradeoff.notes if data.tradeoff is not None else ())):
        title, colon, rest = sentence.partition(": ")
        known = next((t for t in _TITLES if sentence.startswith(t)), None)
        if known is None and colon and len(title) <= 80:
            made.append(Note("care", title, rest[:1].upper() + rest[1:]))
        else:
            made.append(Note("care", known or "Read with care", sentence))
    return made


def affordable(data: ReportData, percents: Sequence[float] = AFFORD) -> list[Answer]:
    """For each p the network of best defence that loses at most p % of the dense network's accuracy."""
    return [_answer(data.tradeoff, p) for p in percents] if data.tradeoff is not None else []


def afford_steps(data: ReportData) -> list[dict[str, Any]]:
    """The same answer for every p: a list of {from, network, sentence}, valid from that p up to the next one."""
    if data.tradeoff is None:
        return []
    points = [p for p in data.tradeoff.points if p.method != STOPPED]
    losses = {p.relative_loss.mean * 100 for p in points if p.relative_loss is not None}
    steps: list[dict[str, Any]] = []
    for start in sorted({0.0, *(loss for loss in losses if loss > 0)}):
        answer = _answer(data.tradeoff, start)
        if not steps or steps[-1]["sentence"] != answer.sentence:
            steps.append({"from": start, "network": answer.network, "sentence": answer.sentence})
    return steps


def _answer(found: TradeOff, p: float) -> Answer:
    choice = afford(found, p)
    if choice is None or choice.point.relative_loss is None or choice.point.relative_gain is None:
        nothing = "No network keeps that much of the dense network's accuracy."
        return Answer(p, "none", "–", "–", "–", "–", nothing)
    point, loss, gain = choice.point, choice.point.relative_loss, choice.point.relative_gain
    name = label_of(point.network, point.method)
    if point.method == "dense":
        sentence = "The dense network itself: no sparse network within that loss has more defence."
    else:
        sentence = (
            f"It keeps {density_text(point.density.mean)} of the parameters, {_moved(loss.mean)} of the dense "
            f"network's accuracy and gains {percent(gain.mean)} of its defence (means over "
            f"{point.defence.n} seed{'s' * (point.defence.n > 1)})."
        )
    return Answer(
        p,
        name,
        density_text(point.density.mean),
        spread_text(loss),
        spread_text(gain),
        spread_text(point.defence),
        sentence,
    )


def subtitle(data: ReportData) -> str:
    """What was attacked, in one line."""
    part = data.study.get("data", {})
    model = data.study.get("model", {})
    seeds = seeds_of(data)
    names = [str(part.get("dataset", "")), str(model.get("name") or model.get("factory") or "")]
    stops = sum(n.method == STOPPED for n in data.networks)
    counted = f"{len(data.networks) - stops} networks" + f" and {stops} early stops" * bool(stops)
    bits = [*(name for name in names if name), counted]
    if seeds:
        bits.append(seeds_text(seeds))
    ran = {a.attack for a in data.attacks}
    names = [name for name in attack_names(data) if name in ran]
    what = f"attack: {names[0]}" if len(names) == 1 else f"{len(names)} attacks" if names else "no attack yet"
    return " · ".join([*bits, what])
