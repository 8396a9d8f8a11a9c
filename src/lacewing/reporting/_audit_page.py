"""The one-page report of a single audit: one network, every attack that ran, every attack that was refused and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lacewing.errors import UsageError
from lacewing.metrics import EPSILON_ASSUMED
from lacewing.reporting import _page, _parts
from lacewing.reporting._data import in_order, number, percent, percent_range, registered
from lacewing.results import REALISED, AttackResult, Estimate, by_realised_fpr, strongest_first

if TYPE_CHECKING:
    from lacewing.attacks import Attack
    from lacewing.attacks.selfchecks import SelfCheck


_KINDS = {"hull_bonferroni_split": "Bonferroni over hull thresholds", "gaussian_dp": "Only if Gaussian-DP"}


class AuditLike(Protocol):
    """What a page or a card of a single audit is made from."""

    @property
    def sentence(self) -> str: ...  # the answer
    @property
    def accuracy(self) -> str: ...  # of the model, on members and on non-members, in one line
    @property
    def attacks(self) -> Sequence[AttackResult]: ...
    @property
    def refused(self) -> Mapping[str, str]: ...  # attack: why it did not run
    @property
    def selfchecks(self) -> Sequence[SelfCheck]: ...
    @property
    def epsilon(self) -> Mapping[str, float | Estimate]: ...  # attack: lower bound
    @property
    def epsilon_other(self) -> Mapping[str, Mapping[str, float]]: ...  # attack: name of a bound: lower bound
    @property
    def delta(self) -> float: ...  # of these bounds
    @property
    def notes(self) -> Sequence[str]: ...


_NAMED = 4  # attacks that a sentence lists by name; more are counted


class AuditRow(NamedTuple):
    """One attack's numbers as text, each with its interval."""

    attack: str
    family: str
    variant: str
    threat_model: str
    auc: tuple[str, str]
    tpr_01: tuple[str, str]
    tpr_001: tuple[str, str]
    accuracy: tuple[str, str]
    epsilon: str
    n: str


def answer(audit: AuditLike) -> tuple[str, list[str]]:
    """What the network gives away, in the audit's own sentence, and the sentences that qualify it."""
    ranked = [a for a in audit.attacks if a.metrics.get("auc") is not None]
    if not ranked:
        return "No answer: no attack has run.", [f"{len(audit.refused)} attacks were refused; the reasons are below."]
    more = [_sentence(audit.accuracy)]
    for metric, at in (("tpr_at_fpr_0.001", "0.1\u202f%"), ("tpr_at_fpr_0.01", "1\u202f%")):
        rated = [(a, e) for a in audit.attacks if (e := a.metrics.get(metric)) is not None]
        if rated:
            top, e = max(rated, key=lambda each: each[1].value)
            if e.value == 0:
                more.append(f"With at most {at} of the non-members accused wrongly no attack finds any member.")
                break
            more.append(
                f"With at most {at} of the non-members accused wrongly{_here(top, metric)}, “{top.attack}” finds "
                f"{percent(e.value)} of the members (95\u202f% interval {percent_range(e.low, e.high)}; the best of "
                f"{len(rated)} attacks, so a little too high)."
            )
            break
    bounds = {name: _bound(bound) for name, bound in audit.epsilon.items()}
    if bounds and max(bounds.values()) > 0:
        most = max(bounds, key=bounds.__getitem__)
        more.append(
            f"Read as an audit of differential privacy, “{most}” gives ε ≥ {number(bounds[most], 2)} at δ = "
            f"{audit.delta:g}"
            + (
                f"; each attack's bound holds at 95\u202f% by itself, the largest of {len(bounds)} at less."
                if len(bounds) > 1
                else ", at 95\u202f%."
            )
        )
    failed = sum(not c.passed for c in audit.selfchecks)
    if failed:
        more.append(f"{failed} of {len(audit.selfchecks)} self-checks failed: read every number with care.")
    return audit.sentence, more


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _here(result: AttackResult, metric: str) -> str:
    found = result.metrics.get(metric.replace("tpr_at", "realised"))
    if found is None:
        return ""
    return f" (here {percent(found.value, 2)}, 95\u202f% interval {percent_range(found.low, found.high, 2)})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} attacks"


def realised(audit: AuditLike) -> list[str]:
    """A sentence a rate: the FPR that the thresholds of TPR at FPR show, with the attacks of each."""
    said = []
    for metric, at in zip(REALISED, ("1\u202f%", "0.1\u202f%"), strict=True):
        found = [
            f"{percent(e.value, 2)} ({percent_range(e.low, e.high, 2)})"
            + ("" if len(names) == len(audit.attacks) else f" for {_listed(names)}")
            for e, names in by_realised_fpr(audit.attacks, metric)
        ]
        if found:
            said.append(f"Realised FPR at {at}: {'; '.join(found)}.")
    return said


def rows(audit: AuditLike, registry: Mapping[str, Attack]) -> list[AuditRow]:
    """A row for each attack, the strongest first."""

    def shown(e: Estimate | None, share: bool, why: str) -> tuple[str, str]:
        if e is None:
            return "–", why
        if share:
            return percent(e.value), percent_range(e.low, e.high).replace(" to ", "–")
        return number(e.value), f"{number(e.low)}–{number(e.high)}"

    made = []
    for a in strongest_first(audit.attacks):
        known = registry.get(a.attack)
        m = a.metrics
        made.append(
            AuditRow(
                a.attack,
                known.family if known else "other",
                a.variant,
                a.threat_model,
                shown(m.get("auc"), False, ""),
                shown(m.get("tpr_at_fpr_0.01"), True, "n too small"),
                shown(m.get("tpr_at_fpr_0.001"), True, "n too small"),
                shown(m.get("balanced_accuracy"), True, "no decisions"),
                _epsilon(audit.epsilon.get(a.attack)),
                f"{a.n_members:,} + {a.n_nonmembers:,}",
            )
        )
    return made


def refusals(audit: AuditLike, registry: Mapping[str, Attack]) -> list[tuple[str, str]]:
    """The attacks that did not run, those of one reason together: (names, reason)."""
    names: dict[str, list[str]] = {}
    for name in in_order(audit.refused, registry):
        names.setdefault(audit.refused[name], []).append(name)
    return [(", ".join(of_reason), why) for why, of_reason in names.items()]


def other_bounds(audit: AuditLike) -> list[tuple[str, list[str]]]:
    """Each attack with its bounds on epsilon as text: the page's own, then those of `_KINDS`; in the page's order."""
    ranked = [a.attack for a in strongest_first(audit.attacks) if a.attack in audit.epsilon_other]
    return [
        (
            name,
            [_epsilon(audit.epsilon.get(name)), *(_epsilon(audit.epsilon_other[name].get(kind)) for kind in _KINDS)],
        )
        for name in ranked
    ]


def _epsilon(bound: float | Estimate | None) -> str:
    """A lower bound on epsilon; of an estimate its lower end, since that is what holds at 95 %."""
    if bound is None:
        return "–"
    return f"≥ {number(_bound(bound), 2)}"


def _bound(bound: float | Estimate) -> float:
    return bound.low if isinstance(bound, Estimate) else float(bound)


def page(audit: AuditLike) -> str:
    """The page as HTML."""
    from lacewing.reporting import _rocs

    registry = registered()
    by_attack = {a.attack: {a.network.seed: a} for a in audit.attacks}
    if len(by_attack) != len(audit.attacks):
        raise UsageError("attacks holds two results of one attack: an audit is about one network.")
    results = {a.attack: by_attack[a.attack] for a in strongest_first(audit.attacks)}
    drawing = _rocs.draw("roc-audit", "ROC of every attack", results, list(results)[: _rocs.COLOURS], "")
    first, more = answer(audit)
    return _page.fill(
        "audit.html.j2",
        first=first,
        more=more,
        rows=rows(audit, registry),
        realised=realised(audit),
        figures={drawing.name: drawing},
        svg=_page.inlined({drawing.name: drawing}),
        drawing_name=drawing.name,
        refused=refusals(audit, registry),
        selfchecks=audit.selfchecks,
        notes=list(audit.notes),
        delta=f"{audit.delta:g}",
        bounded=bool(audit.epsilon),
        other_bounds=other_bounds(audit),
        kinds=[(title, EPSILON_ASSUMED[kind]) for kind, title in _KINDS.items()],
        untested=_parts.untested(by_attack, registry, audit.refused),
    )


def write_audit(folder: Path, audit: AuditLike) -> Path:
    """Write ``report.html`` of one audit into ``folder``; returns its path.

    Pictures, ids and scores of single records are never shown. Raises `UsageError` where an attack has two results,
    OSError where ``folder`` cannot be written.
    """
    from lacewing.support.files import write_atomically

    write_atomically(folder / "report.html", page(audit))
    return folder / "report.html"
