"""Slopes as rows of a table: of each method, and of all methods under each attack."""

from __future__ import annotations

from typing import NamedTuple

from lacewing.reporting._data import SEEDS_LISTED, ReportData, percent, percent_range
from lacewing.tradeoff import PAPER_SLOPE, SHORT, Slope, Verdict, show_slope

LEAST_SQUARES = (
    "Least squares through the origin takes the loss of each network as exact. The loss is noisy, so this slope is "
    "biased toward zero, and more seeds do not help; it is shown because the paper may have used it."
)
NOT_FINISHED: Verdict = "not finished"
MANY_SLOPES = (
    "Every attack has a slope for each method and for all together. No p is corrected for their "
    f"number, and of many attacks one may differ from {PAPER_SLOPE} by chance."
)
READING = (
    f"Slope: mean relative gain over mean relative loss, with its whole 95\u202f% set. Gain - {PAPER_SLOPE} loss is 0 "
    "where the slope is the paper's; its p is that of a t test over seeds."
)


class SlopeRow(NamedTuple):
    """A slope and the numbers behind it; "–" where there is none."""

    name: str
    slope: str  # with its set, whole
    interval: str  # what the set is over
    networks: str
    seeds: str  # each seed's slope, or the range of many
    loss: str
    loss_interval: str
    beside: str  # gain - 3.6 loss with its interval
    p: str
    least_squares: str
    verdict: str


def rows(data: ReportData) -> list[SlopeRow]:
    """A row for all methods together and for each by itself."""
    found = data.tradeoff
    if found is None:
        return []
    return [row(found.slope, "all methods"), *(row(each, data.look(each.method).label) for each in found.slopes)]


def row(slope: Slope, name: str) -> SlopeRow:
    """One slope under the name of its method, or of its attack."""
    loss, beside, p = slope.mean_loss, slope.beside_paper, slope.p_paper
    if slope.verdict == NOT_FINISHED:
        beside = p = None
    return SlopeRow(
        name=name,
        slope=text(slope),
        interval="" if slope.verdict == NOT_FINISHED else slope.interval,
        networks=str(len(slope.networks)),
        seeds=by_seed(slope),
        loss="–" if loss is None else percent(loss.value),
        loss_interval="" if loss is None else percent_range(loss.low, loss.high),
        beside="–" if beside is None else beside.text(SHORT),
        p="" if p is None else f"p = {p:.2g}",
        least_squares="–" if slope.least_squares is None else f"{slope.least_squares:.3g}",
        verdict=slope.verdict,
    )


def text(slope: Slope) -> str:
    """A slope with its set, whole; before every planned attack has run the number alone."""
    if slope.verdict != NOT_FINISHED:
        return show_slope(slope)
    return "none so far" if slope.ratio is None or slope.ratio.value is None else f"{slope.ratio.value:.3g} so far"


def by_seed(slope: Slope, word: str = "") -> str:
    """Each seed's slope, or the range of many. Seeds that lost no accuracy have none."""
    values = {seed: value for seed, value in slope.by_seed.items() if value is not None}
    if len(slope.by_seed) > SEEDS_LISTED:
        if not values:
            return "no loss in any seed"
        without = len(slope.by_seed) - len(values)
        none = f", no loss in {without}" if without else ""
        if len(values) == 1:
            return f"{next(iter(values.values())):.3g} in one seed{none}"
        return f"{min(values.values()):.3g} to {max(values.values()):.3g}{none} ({len(slope.by_seed)} seeds)"
    each = [f"{word}{seed}: {'no loss' if value is None else f'{value:.3g}'}" for seed, value in slope.by_seed.items()]
    return ", ".join(each) or "–"


def said(slope: Slope) -> str:
    """The slope's own sentence; with fewer than three seeds each seed's slope beside it."""
    sentence = slope.sentence[:1].upper() + slope.sentence[1:]
    if slope.verdict == "fewer than three seeds" and len(slope.by_seed) > 1:
        sentence += f" Single seeds: {by_seed(slope, 'seed ')}."
    return sentence


def short(slope: Slope) -> tuple[str, str]:
    """A slope's number and its set for a tile: a set without an upper end is "at least x"."""
    ratio = slope.ratio
    if slope.verdict == NOT_FINISHED:
        return NOT_FINISHED, text(slope)
    if ratio is None or slope.verdict == "no trade-off measurable":
        return "not measured", slope.verdict
    if slope.verdict == "no loss measured":
        least = "no bound" if ratio.low is None else f"at least {ratio.low:.3g}"
        number = "" if ratio.value is None else f"; {show_slope(slope)}, {slope.interval}"
        return least, f"no loss measured{number}"
    verdict = "" if slope.verdict == "slope resolved" else f"; {slope.verdict}"
    value, bracket, rest = show_slope(slope).partition(" [")
    return value, ", ".join(filter(None, [bracket.strip() + rest, slope.interval])) + verdict
