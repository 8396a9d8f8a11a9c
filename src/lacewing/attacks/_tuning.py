"""Settings that an attacker chooses on networks whose members are known, as if each of them were the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._measure import threshold
from lacewing.attacks._references import by_side
from lacewing.attacks._types import Evidence, Observed, Population, References
from lacewing.metrics import Bools, Floats

TAIL = 0.05  # settings are compared by the mean true-positive rate over false-positive rates up to this
TEMPERATURES = (2.0, 1.0, 4.0)  # of the softmax, tried; the first is that of LeakPro's BASE, without networks to try on
_MOST = 4  # references that take the place of the target in turn

Setting = TypeVar("Setting")
Usable = Callable[[Evidence], str | None]  # why evidence does not serve, as a sentence; None: it does


class Shadow(NamedTuple):
    """The shadow that thresholds may be taken from, if there is one."""

    evidence: Evidence | None
    why_not: str  # where there is none


class Tuned(NamedTuple, Generic[Setting]):
    """A setting, and where it comes from in a few words."""

    setting: Setting
    source: str


def shadow_of(evidence: Evidence, usable: Usable) -> Shadow:
    """The shadow of ``evidence`` without a reference that complements it, if ``usable`` accepts that."""
    if evidence.shadow is None:
        return Shadow(None, "there is no shadow network")
    shadow = without_complement(evidence.shadow)
    problem = usable(shadow)
    return Shadow(shadow, "") if problem is None else Shadow(None, f"the shadow does not serve: {problem}")


def tune(
    score: Callable[[Evidence, Setting], Floats],
    settings: Sequence[Setting],
    evidence: Evidence,
    shadow: Shadow,
    usable: Usable,
) -> Tuned[Setting]:
    """The setting that finds most on the shadow, or without one on references taken as targets.

    Never reads the target's membership. What is compared is `early`, averaged over the networks; the first of equally
    good settings is chosen, and the first of all where no network of known membership has references of its own.

    Args:
        score: scores (N,) of evidence under a setting.
        settings: the candidates, the default first.
        evidence: the target's, which ``usable`` accepts.
        shadow: see `shadow_of`.
        usable: says whether evidence has what the attack needs.
    """
    if len(settings) == 1:
        return Tuned(settings[0], "the only one")
    known = references_as_targets(evidence, usable) if shadow.evidence is None else [shadow.evidence]
    if not known:
        return Tuned(settings[0], "default, since no network of known members has references of its own")
    means = [np.mean([early(score(each, setting), each.observed.member_N) for each in known]) for setting in settings]
    source = f"{len(known)} references taken as targets" if shadow.evidence is None else "the shadow"
    return Tuned(settings[int(np.argmax(means))], f"chosen on {source}")


class Outcome(NamedTuple, Generic[Setting]):
    """Scores and decisions under the setting that was chosen."""

    setting: Setting
    source: str  # where it comes from in a few words
    scores_N: Floats
    decision_N: Bools | None
    rule: str  # of the decisions, in words


def tuned(
    score: Callable[[Evidence, Setting], Floats],
    settings: Sequence[Setting],
    evidence: Evidence,
    shadow: Shadow,
    usable: Usable,
) -> Outcome[Setting]:
    """The setting of `tune`, and what it gives: scores, and decisions by the shadow's threshold."""
    setting, source = tune(score, settings, evidence, shadow, usable)
    scores = score(evidence, setting)
    return Outcome(setting, source, scores, *decided(lambda held: score(held, setting), scores, shadow))


def early(scores_N: Floats, member_N: Bools) -> float:
    """The mean true-positive rate over false-positive rates from 0 to `TAIL`: the area under the first part of the ROC.

    Steps between thresholds are cut straight (McClish, "Analyzing a portion of the ROC curve", 1989).
    """
    fpr, tpr = metrics.roc(scores_N, member_N)
    inside = fpr <= TAIL
    x = np.append(fpr[inside], TAIL)
    y = np.append(tpr[inside], np.interp(TAIL, fpr, tpr))
    return float(np.trapezoid(y, x)) / TAIL


def decided(score: Callable[[Evidence], Floats], scores_N: Floats, shadow: Shadow) -> tuple[Bools | None, str]:
    """Decisions by the threshold that serves best on the shadow, None without one; and the rule in words."""
    if shadow.evidence is None:
        return None, f"none, since {shadow.why_not}"
    best = threshold(score(shadow.evidence), shadow.evidence.observed.member_N)
    return scores_N >= best, "score above the shadow's best threshold"


def temperatures(evidence: Evidence) -> tuple[float, ...]:
    """The temperatures to try; 1 alone where references are known by their log-odds, which say nothing of others."""
    references = evidence.references
    return (1.0,) if references is not None and references.of_phi else TEMPERATURES


def references_as_targets(evidence: Evidence, usable: Usable) -> list[Evidence]:
    """References with members and non-members, each as the target of the others; at most the first four that serve."""
    references, population = evidence.references, evidence.population
    if references is None:
        return []
    found: list[Evidence] = []
    for k, inside in enumerate(references.in_KN):
        if inside.all() or not inside.any():
            continue
        others = [other for other in range(len(references)) if other != k]
        held = Evidence(
            observed=_as_target(evidence.observed, references, k),
            references=_some(references, others),
            population=None
            if population is None or population.reference_logits_KZC is None
            else Population(
                population.reference_logits_KZC[k], population.label_Z, population.reference_logits_KZC[others]
            ),
            trained_queries=evidence.trained_queries,
        )
        held = without_complement(held)
        if usable(held) is None:
            found.append(held)
        if len(found) == _MOST:
            break
    return found


def without_complement(evidence: Evidence) -> Evidence:
    """The same without references whose members are exactly the network's non-members, which would give it away.

    One reference less has trained on a record where the network did: attacks that count references would read that.
    """
    references, population, inside = evidence.references, evidence.population, evidence.observed.member_N
    if references is None:
        return evidence
    kept = np.flatnonzero((references.in_KN == inside).any(axis=1))
    if len(kept) == len(references):
        return evidence
    if population is not None and population.reference_logits_KZC is not None:
        population = replace(population, reference_logits_KZC=population.reference_logits_KZC[kept])
    return replace(evidence, references=_some(references, kept) if len(kept) else None, population=population)


def _as_target(seen: Observed, references: References, k: int) -> Observed:
    inside = references.in_KN[k]
    return Observed(
        logits_NC=references.logits_KNC[k],
        label_N=seen.label_N,
        member_N=inside,
        sensitivity_N=None,
        record_N=seen.record_N,
        phi_NQ=None if references.phi_KNQ is None else references.phi_KNQ[k],
        task=seen.task,
        group_N=by_side(seen.group_N, inside),
    )


def _some(references: References, which: Sequence[int] | npt.NDArray[np.intp]) -> References:
    rows = np.asarray(which)
    return replace(
        references,
        logits_KNC=references.logits_KNC[rows],
        in_KN=references.in_KN[rows],
        name_K=tuple(references.name_K[row] for row in rows),
        phi_KNQ=None if references.phi_KNQ is None else references.phi_KNQ[rows],
        benefit_KN=None if references.benefit_KN is None else references.benefit_KN[rows],
    )
