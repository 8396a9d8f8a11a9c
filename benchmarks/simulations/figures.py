"""A figure of the table of coverage, what it should be, and how the table is printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COVERS = (0.93, 0.975)  # of a 95 % interval
EXACT = (0.93, 1.0)  # of an interval that is exact or conservative and says so
FALSE = (0.0, 0.07)  # of verdicts where there is nothing to find; on average .05
MISSES = (0.0, 0.025)  # of the lower end of a two-sided interval, which gates compare
COLUMNS = (1, 2, 3, 5, 8, 16)  # seeds, or cuts


@dataclass(frozen=True)
class Figure:
    """One number of the table, a share of ``studies`` simulated studies unless it has an ``error`` of its own."""

    what: str  # the interval or verdict
    simulated: str
    n: int  # records of each kind behind one network
    seeds: int  # or cuts; 1 where the interval is over records
    name: str  # "covers", "false verdicts", ...
    value: float
    studies: int
    wanted: tuple[float, float] | None = None
    beside: float | None = None  # printed in parentheses: what `name` says there
    error: float | None = None  # Monte-Carlo standard error; None: that of a share

    def outside(self, errors: float) -> bool:
        """Whether it lies outside the wanted range by more than ``errors`` Monte-Carlo standard errors."""
        if self.wanted is None:
            return False
        if math.isnan(self.value):
            return True
        low, high = self.wanted
        bound = min(max(self.value, low), high)
        spread = self.error if self.error is not None else math.sqrt(bound * (1 - bound) / self.studies)
        return abs(self.value - bound) > errors * spread + 1e-12


def share(hits: Sequence[bool]) -> float:
    """The share of studies in which something happened; nan without a study."""
    return math.fsum(hits) / len(hits) if len(hits) else math.nan


def table(figures: Iterable[Figure], errors: float) -> str:
    """One table in Markdown: a row for each figure and setting, a column for each number of seeds."""
    rows: dict[tuple[str, str, int, str], dict[int, Figure]] = {}
    for figure in figures:
        rows.setdefault((figure.what, figure.simulated, figure.n, figure.name), {})[figure.seeds] = figure
    head = ["what", "simulated", "n", "figure", *(f"S = {seeds}" for seeds in COLUMNS), "wanted"]
    lines = [head, ["---"] * len(head)]
    for (what, simulated, n, name), of in rows.items():
        cells = [_cell(of[seeds], errors) if seeds in of else "" for seeds in COLUMNS]
        lines.append([what, simulated, f"{n:,}", name, *cells, _wanted(next(iter(of.values())))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(figures: Sequence[Figure], errors: float) -> str:
    """How many figures have a wanted range, the false verdicts on average, and every figure outside its range."""
    asked = [f for f in figures if f.wanted is not None]
    false = [f for f in asked if f.wanted == FALSE]
    outside = [f for f in asked if f.outside(errors)]
    head = (
        f"{len(asked)} of {len(figures)} figures have a wanted range; {len(outside)} lie outside it by more than "
        f"{errors:g} Monte-Carlo standard errors{' (marked *)' if outside else ''}."
    )
    if false:
        worst = max(false, key=lambda f: f.value)
        head += (
            f" False verdicts: {_number(average(figures))} on average over {len(false)} cells, at most "
            f"{_number(worst.value)} ({worst.what}, {worst.simulated}, n = {worst.n:,}, S = {worst.seeds})."
        )
    lines = [head]
    for f in outside:
        lines.append(f"- {f.what}, {f.simulated}, n = {f.n:,}, S = {f.seeds}: {f.name} {_cell(f, errors)}")
    return "\n".join(lines)


def average(figures: Iterable[Figure]) -> float:
    """The mean rate of false verdicts over all cells, 0 without one; at most .05 is wanted."""
    rates = [f.value for f in figures if f.wanted == FALSE]
    return math.fsum(rates) / max(len(rates), 1)


def tidy(value: float) -> str:
    """A share without the zero before its point: .006."""
    return f"{value:g}".replace("0.", ".", 1)


def _cell(figure: Figure, errors: float) -> str:
    mark = "*" if figure.outside(errors) else ""
    beside = "" if figure.beside is None else f" ({_beside(figure.beside)})"
    return f"{_number(figure.value)}{mark}{beside}"


def _beside(value: float) -> str:
    if math.isinf(value):
        return "no bound"
    return f"{value:.0f}" if value >= 10 else tidy(float(f"{value:.2g}"))


def _number(value: float) -> str:
    if math.isnan(value):
        return "none"
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3g}"


def _wanted(figure: Figure) -> str:
    if figure.wanted is None:
        return ""
    low, high = figure.wanted
    return f"at most {_number(high)}" if low == 0 else f"{_number(low)} to {_number(high)}"
