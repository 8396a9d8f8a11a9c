"""The page of a dense and a sparse network: what each gives away, and the difference of every attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lacewing.metrics import Estimate
from lacewing.reporting import _page
from lacewing.reporting._audit_page import AuditLike
from lacewing.reporting._data import number, percent, registered, signed
from lacewing.reporting._figures import Drawing
from lacewing.results import AttackResult, Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lacewing.attacks import Attack

_DENSE, _SPARSE, _CONTROL = "#555555", "#0072b2", "#e69f00"
_COLOURS: Mapping[Kind, str] = {"dense": _DENSE, "sparse": _SPARSE, "control": _CONTROL}
_MARKERS = "sD^vP*Xdph"  # of control families
_MOST = 24  # attacks that the figure shows


class DifferenceLike(Protocol):
    """A metric of one attack on both networks."""

    @property
    def attack(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def dense(self) -> float: ...
    @property
    def sparse(self) -> float: ...
    @property
    def difference(self) -> Estimate: ...  # sparse - dense
    @property
    def established(self) -> str | None: ...


class AccuracyLike(Protocol):
    """How well both networks answer one side's records."""

    @property
    def records(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def dense(self) -> float: ...
    @property
    def sparse(self) -> float: ...
    @property
    def difference(self) -> Estimate: ...


class RecipeLike(Protocol):
    """A training over its networks."""

    @property
    def recipe(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def networks(self) -> int: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def leak(self) -> Estimate: ...


class EqualLike(Protocol):
    """Trainings compared at equal accuracy."""

    @property
    def sentence(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def references(self) -> int: ...
    @property
    def interval(self) -> str: ...
    @property
    def recipes(self) -> Sequence[RecipeLike]: ...


class PairLike(Protocol):
    """What the page is made from."""

    @property
    def sentence(self) -> str: ...
    @property
    def sentences(self) -> Sequence[str]: ...
    @property
    def dense(self) -> AuditLike: ...
    @property
    def sparse(self) -> AuditLike: ...
    @property
    def differences(self) -> Sequence[DifferenceLike]: ...
    @property
    def adaptive(self) -> Sequence[AttackResult]: ...
    @property
    def accuracies(self) -> Sequence[AccuracyLike]: ...
    @property
    def grade(self) -> str: ...
    @property
    def density_dense(self) -> float | None: ...
    @property
    def density_sparse(self) -> float | None: ...
    @property
    def refused(self) -> Mapping[str, str]: ...  # of attacks that query both networks
    @property
    def equal(self) -> EqualLike | None: ...
    @property
    def n_members(self) -> int: ...
    @property
    def n_nonmembers(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...


class Cell(NamedTuple):
    """A number and, in small, its interval."""

    text: str
    small: str = ""
    established: bool = False


class Row(NamedTuple):
    """An attack on both networks."""

    attack: str
    cells: Sequence[Cell]
    threat_model: str


def page(pair: PairLike) -> str:
    """The page as HTML."""
    registry = registered()
    drawings = {drawing.name: drawing for drawing in (_differences(pair), _recipes(pair.equal)) if drawing is not None}
    audits = (("dense", pair.dense), ("sparse", pair.sparse))
    return _page.fill(
        "pair.html.j2",
        pair=pair,
        rows=_rows(pair, registry),
        networks=_networks(pair),
        adaptive=[_adaptive(result) for result in pair.adaptive],
        recipes=[] if pair.equal is None else [_recipe(row) for row in pair.equal.recipes],
        figures=drawings,
        svg=_page.inlined(drawings),
        audits=audits,
        checks=[(name, list(audit.selfchecks)) for name, audit in audits],
        failed=[(name, check) for name, audit in audits for check in audit.selfchecks if not check.passed],
        refused=[*_refused(audits), *pair.refused.items()],
    )


def write_pair(folder: Path, pair: PairLike) -> Path:
    """Write ``report.html`` of a dense and a sparse network into ``folder``; returns its path.

    Pictures, ids and scores of single records are never shown. Raises OSError where ``folder`` cannot be written.
    """
    from lacewing.support.files import write_atomically

    write_atomically(folder / "report.html", page(pair))
    return folder / "report.html"


def _networks(pair: PairLike) -> list[tuple[str, Sequence[Cell]]]:
    """Density and accuracy of both networks, and what differs."""
    made: list[tuple[str, Sequence[Cell]]] = []
    densities = (pair.density_dense, pair.density_sparse)
    if any(density is not None for density in densities):
        cells = [Cell("not known" if density is None else percent(density)) for density in densities]
        made.append(("Density: non-zero parameters over those of the dense network", [*cells, Cell("")]))
    for each in pair.accuracies:
        small = f"{signed(each.difference.low)} to {signed(each.difference.high)}"
        difference = Cell(signed(each.difference.value), small)
        made.append(
            (
                f"{pair.grade} on {each.n:,} {each.records}",
                [Cell(number(each.dense)), Cell(number(each.sparse)), difference],
            )
        )
    return made


def _rows(pair: PairLike, registry: Mapping[str, Attack]) -> list[Row]:
    by_attack: dict[str, dict[str, DifferenceLike]] = {}
    for each in pair.differences:
        by_attack.setdefault(each.attack, {})[each.metric] = each
    models = {result.attack: result.threat_model for result in pair.sparse.attacks}
    return [
        Row(attack, [*_cells(of.get("auc")), *_cells(of.get("tpr_at_fpr_0.01"), share=True)], models.get(attack, ""))
        for attack, of in by_attack.items()
    ]


def _cells(d: DifferenceLike | None, *, share: bool = False) -> list[Cell]:
    if d is None:
        return [Cell("–"), Cell("–"), Cell("–", "n too small")]
    small = f"{signed(d.difference.low)} to {signed(d.difference.high)}"
    values = [Cell(percent(x) if share else number(x)) for x in (d.dense, d.sparse)]
    return [*values, Cell(signed(d.difference.value), small, d.established is not None)]


def _adaptive(result: AttackResult) -> tuple[str, Cell, Cell, str]:
    def cell(name: str, *, share: bool) -> Cell:
        found = result.metrics.get(name)
        if found is None:
            return Cell("–", "n too small")
        form = percent if share else number
        return Cell(form(found.value), f"{form(found.low)}–{form(found.high)}")

    return result.attack, cell("auc", share=False), cell("tpr_at_fpr_0.01", share=True), result.threat_model


def _recipe(row: RecipeLike) -> tuple[str, str, int, str, Cell]:
    small = f"{number(row.leak.low)}–{number(row.leak.high)}"
    return row.recipe, row.kind, row.networks, number(row.accuracy), Cell(number(row.leak.value), small)


def _refused(audits: Sequence[tuple[str, AuditLike]]) -> list[tuple[str, str]]:
    """(names, reason) of attacks that did not run on one network, or on both."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for attack in dict.fromkeys(name for _, audit in audits for name in audit.refused):
        of = {name: audit.refused[attack] for name, audit in audits if attack in audit.refused}
        why = next(iter(of.values()))
        on = () if len(of) > 1 else tuple(of)
        found.setdefault((why, on), []).append(attack)
    return [
        (", ".join(names), why if not on else f"On the {on[0]} network: {why}") for (why, on), names in found.items()
    ]


def _differences(pair: PairLike) -> Drawing | None:
    """AUC on both networks, and the difference with its interval, a line an attack."""
    shown = sorted((d for d in pair.differences if d.metric == "auc"), key=lambda d: max(d.dense, d.sparse))[-_MOST:]
    if not shown:
        return None
    from lacewing.reporting import _svg

    title = "What each attack finds on both networks"
    places = range(len(shown))
    with _svg.style():
        fig = _svg.figure(8.2, 1.5 + 0.27 * len(shown))
        left, right = fig.subplots(1, 2, sharey=True)
        for place, d in zip(places, shown, strict=True):
            left.plot([d.dense, d.sparse], [place, place], color="#bbbbbb", linewidth=1.4, zorder=1)
            right.plot([d.difference.low, d.difference.high], [place, place], color=_SPARSE, linewidth=1.4)
        left.plot([d.dense for d in shown], places, "o", color=_DENSE, markersize=5, label="dense")
        left.plot([d.sparse for d in shown], places, "o", color=_SPARSE, markersize=5, label="sparse")
        left.axvline(0.5, color=_svg.MUTED, linewidth=1, linestyle=":")
        left.set_yticks(list(places), [d.attack for d in shown])
        left.set_xlabel("AUC")
        _svg.legend_above(left, 2)
        for place, d in zip(places, shown, strict=True):
            filled = _SPARSE if d.established else "white"
            right.plot([d.difference.value], [place], "o", color=_SPARSE, markerfacecolor=filled, markersize=5)
        right.axvline(0, color=_svg.MUTED, linewidth=1, linestyle=":")
        right.set_xlabel("difference of AUC, sparse - dense")
        svg = _svg.to_svg(fig, title)
    text = "; ".join(f"{d.attack}: {number(d.dense)} and {number(d.sparse)}" for d in reversed(shown))
    caption = (
        "Left: the AUC of each attack on the dense and on the sparse network. Right: their difference with its "
        "95\u202f% interval over records, each by itself; filled: established together with all others."
    )
    left_out = len([d for d in pair.differences if d.metric == "auc"]) - len(shown)
    if left_out:
        caption += f" {left_out} weaker attacks are in the table alone."
    return Drawing("differences", title, f"{title}. {text}.", caption, svg)


def _recipes(equal: EqualLike | None) -> Drawing | None:
    """Leak against accuracy, a point a training."""
    if equal is None:
        return None
    from lacewing.reporting import _svg

    title = f"{equal.metric} against accuracy, every training"
    with _svg.style():
        fig = _svg.figure(6.2, 4.2)
        ax: Axes = fig.subplots()
        controls = list(dict.fromkeys(r.family for r in equal.recipes if r.kind == "control"))
        for family in dict.fromkeys(row.family for row in equal.recipes):
            of = sorted((row for row in equal.recipes if row.family == family), key=lambda row: row.accuracy)
            kind = of[0].kind
            marker = _MARKERS[controls.index(family) % len(_MARKERS)] if kind == "control" else "o"
            for row in of:
                ax.plot([row.accuracy] * 2, [row.leak.low, row.leak.high], color=_COLOURS[kind], linewidth=0.9)
            ax.plot(
                [row.accuracy for row in of], [row.leak.value for row in of],
                color=_COLOURS[kind], marker=marker, markersize=6, linewidth=1, label=family,
                markerfacecolor="white" if kind == "control" else _COLOURS[kind],
            )  # fmt: skip
        ax.set_xlabel("accuracy on records that a network did not train on")
        ax.set_ylabel(equal.metric)
        _svg.legend_above(ax)
        svg = _svg.to_svg(fig, title)
    text = "; ".join(f"{r.recipe}: {number(r.leak.value)} at {number(r.accuracy)}" for r in equal.recipes)
    caption = (
        f"Means over {equal.references} networks of each training on random halves of the records. Bars: 95\u202f% "
        f"intervals, {equal.interval}. Filled: the dense and the sparse training; hollow: controls."
    )
    return Drawing("recipes", title, f"{title}. {text}.", caption, svg)
