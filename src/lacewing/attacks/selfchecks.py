"""Checks that run with every audit: is this the model that learned the members, would chance pass as chance, would a
leak be found, are the two sides alike?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing import attacks as registry
from lacewing import metrics
from lacewing.attacks import phi
from lacewing.attacks._deciding import SelfCheck as SelfCheck
from lacewing.attacks._deciding import fits_members, members_answered_better, members_rank_above, units_of
from lacewing.attacks._measure import first_of_groups, grade, graded
from lacewing.attacks._references import TOLERANCE, by_group, like_target
from lacewing.attacks._types import Evidence, Observed, Population, References
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats
from lacewing.results import AttackResult, strongest_first

Rows = npt.NDArray[np.intp]

_REFERENCES: Literal["attacks with references"] = "attacks with references"
PERMUTATIONS, HOLDING = 400, 360  # an interval of true coverage 94 % fails once in a thousand audits
PLANTED = 3.0  # size of the planted leak, in standard deviations of the non-members' signal
_MOST = 2000  # records of each kind that the first two checks look at, so that an audit takes seconds
_READS_OUTPUTS = (
    "lira",
    "nig-t",
    "rmia",
    "base",
    "calibration",
)  # families that must see the planted leak, beside the attack "loss"


def selfchecks(
    best: AttackResult, results: Sequence[AttackResult], evidence: Evidence | None, *, seed: int
) -> tuple[SelfCheck, ...]:
    """The checks that the evidence allows; ``best`` is the strongest attack.

    The null audit permutes the scores of the strongest attack of which at least half are distinct, else those of
    ``best``. Without evidence (scores as given) there are that, the ranking of members, and the planted leak.
    """
    shown = next((each for each in strongest_first(results) if _distinct(each.score_N)), best)
    null, above = null_audit(shown.score_N, shown.member_N, seed=seed), members_rank_above(results)
    if evidence is None:
        return above, null, planted_scores(best.score_N[~best.member_N], seed=seed)
    checks = [fits_members(evidence.observed), members_answered_better(evidence.observed), above]
    checks += [null, overfitted_control(evidence, results, seed=seed)]
    if evidence.shadow is not None:
        checks.append(shadow_like_target(evidence.observed, evidence.shadow.observed))
    if evidence.references is not None:
        alike, sentence = like_target(evidence.observed, evidence.references)
        said = _unlike(alike, "references are") + sentence
        checks.append(SelfCheck("references like target", alike, said, decides=_REFERENCES))
    if evidence.observed.benefit_N is None:
        checks.append(same_classes(evidence.observed))
    return tuple(checks)


def null_audit(scores_N: Floats, member_N: Bools, *, seed: int) -> SelfCheck:
    """Membership permuted 400 times: the 95 % interval of the AUC must hold 0.5 in at least 360 of them.

    On at most 2,000 members and 2,000 non-members, drawn from ``seed``. Where fewer than half of the scores are
    distinct, equal ones are put in a random order: with few different values the AUC takes few values too, of which no
    interval can leave out exactly 5 %.
    """
    rng = np.random.default_rng([seed, 0])
    kept = np.concatenate([_some(np.flatnonzero(kind), _MOST, rng) for kind in (member_N, ~member_N)])
    scores, member = scores_N[kept], member_N[kept]
    ties = not _distinct(scores)
    if ties:
        order = np.lexsort((rng.random(len(scores)), scores))
        scores = np.empty(len(order))
        scores[order] = np.arange(len(order))
    held = 0
    for _ in range(PERMUTATIONS):
        found = metrics.auc(scores, rng.permutation(member))
        held += found.low <= 0.5 <= found.high
    return SelfCheck(
        "null audit",
        held >= HOLDING,
        f"With membership permuted {PERMUTATIONS} times the 95 % interval of the AUC held 0.5 in {held} of them "
        f"(at least {HOLDING} wanted{'; equal scores in a random order' if ties else ''}).",
    )


def _distinct(scores_N: Floats) -> bool:
    return 2 * len(np.unique(scores_N)) >= len(scores_N)


def _unlike(alike: bool, who: str) -> str:
    return "" if alike else f"The {who} unlike the model. "


def overfitted_control(evidence: Evidence, results: Sequence[AttackResult], *, seed: int) -> SelfCheck:
    """A planted leak that must be found: the interval of each attack's AUC must lie above 0.5.

    Of the target's non-members (at most 2,000) a random half counts as trained on. In every network, target, shadow
    and references, the log-odds of the given label are lowered by the non-members' median, so that no probability is
    saturated, and raised by three of their standard deviations for the records that this network trained on:
    memorisation, and nothing else that tells the halves apart. The attack "loss" and those of the audit's attacks that
    read outputs of references (LiRA, RMIA and their like) must see it.
    """
    ran = {result.attack for result in results}
    known = registry.ATTACKS
    asked = [name for name in known if name == "loss" or (name in ran and known[name].family in _READS_OUTPUTS)]
    planted = plant(evidence, seed=seed)
    if planted is None:
        return _too_few(_units(evidence.observed, ~evidence.observed.member_N))
    found: dict[str, metrics.Estimate] = {}
    for name in asked:
        try:
            scored = known[name].function(planted, seed=seed)
        except UsageError as error:  # e.g. a record of the control without references
            return SelfCheck("overfitted control", False, f"The attack '{name}' could not run on the control: {error}")
        found[name] = metrics.auc(*units_of(scored.scores_N, planted.observed))
    return _control(found, _units(planted.observed, np.ones(len(planted.observed.member_N), bool)))


def _units(seen: Observed, of: Bools) -> int:
    """How many records, or groups of records, ``of`` holds."""
    return int(of.sum()) if seen.group_N is None else len(np.unique(seen.group_N[of]))


def planted_scores(nonmember_scores_N: Floats, *, seed: int) -> SelfCheck:
    """The control for scores as given: a random half of the non-members' scores raised by three of their deviations."""
    rng = np.random.default_rng([seed, 1])
    scores = nonmember_scores_N[_some(np.arange(len(nonmember_scores_N)), _MOST, rng)]
    if len(scores) < 4:
        return _too_few(len(scores))
    member = _half(len(scores), rng)
    spread = _spread(scores)
    found = metrics.auc(scores + PLANTED * (spread if spread > 0 else 1.0) * member, member)
    return _control({"scores": found}, len(scores))


def shadow_like_target(target: Observed, shadow: Observed) -> SelfCheck:
    """Accuracy on non-members, and the gap to members, must agree within 0.05 or three standard errors.

    Of labels it is the mean AUC, of quantities the share that are answered better than by a constant. Groups count as
    one.
    """
    accuracies, errors = [], []
    for seen in (target, shadow):
        correct = graded(seen)
        kinds = [by_group(correct, of, seen.group_N) for of in (seen.member_N, ~seen.member_N)]
        accuracies.append([float(kind.mean()) for kind in kinds])
        errors.append([float(kind.var() / len(kind)) for kind in kinds])
    (target_in, target_out), (shadow_in, shadow_out) = accuracies
    apart_out = abs(target_out - shadow_out)
    apart_gap = abs((target_in - target_out) - (shadow_in - shadow_out))
    alike = apart_out <= max(TOLERANCE, 3 * math.sqrt(errors[0][1] + errors[1][1])) and apart_gap <= max(
        TOLERANCE, 3 * math.sqrt(sum(map(sum, errors)))
    )
    return SelfCheck(
        "shadow like target",
        alike,
        f"{_unlike(alike, 'shadow network is')}{grade(target.task)} on members and non-members: "
        f"target {target_in:.3f} and {target_out:.3f}, shadow {shadow_in:.3f} and {shadow_out:.3f}: "
        f"{'alike' if alike else 'not alike, so what was learned on the shadow may not carry over'}.",
        decides=_REFERENCES,
    )


def same_classes(observed: Observed) -> SelfCheck:
    """Pearson's chi-squared test that members and non-members have equal shares of the classes, p >= 0.001 wanted.

    Where it fails the two were not drawn from one source, and an attack may find the difference instead of a leak. Of
    records of one group, which are no independent draws, the first one counts.
    """
    from scipy.special import chdtrc

    first = _first_rows(observed)
    member = observed.member_N[first]
    _, code = np.unique(observed.label_N[first], return_inverse=True)
    table = np.stack([np.bincount(code[kind], minlength=code.max() + 1) for kind in (member, ~member)])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    degrees = table.shape[1] - 1
    p = float(chdtrc(degrees, ((table - expected) ** 2 / expected).sum())) if degrees else 1.0
    words = ("have classes in like shares", "differ in their classes")
    return _one_source("same classes", p, words, f"chi-squared test, p = {p:.2g}")


def same_labels(label_NL: npt.NDArray[Any], observed: Observed) -> SelfCheck:
    """As `same_classes`, of labels that are no classes: (N, L) of 0 and 1, or (N, D) quantities.

    Each label's share by Pearson's chi-squared test, each quantity's distribution by that of Kolmogorov and Smirnov;
    the smallest p times the number of tests (Bonferroni) must be 0.001 or more.
    """
    from scipy.special import chdtrc
    from scipy.stats import ks_2samp

    first = _first_rows(observed)
    member, label = observed.member_N[first], label_NL[first]
    tests = []
    for column in label.T:
        if observed.task == "regression":
            tests.append(float(ks_2samp(column[member], column[~member]).pvalue))
            continue
        share, pooled = column[member].mean() - column[~member].mean(), column.mean()
        variance = pooled * (1 - pooled) * (1 / member.sum() + 1 / (~member).sum())
        tests.append(float(chdtrc(1, share**2 / variance)) if variance > 0 else 1.0)
    p = min(1.0, min(tests) * len(tests))
    how = f"p = {p:.2g} of {len(tests)} test{'s' * (len(tests) > 1)}"
    return _one_source("same labels", p, ("have like labels", "differ in their labels"), how)


def _first_rows(observed: Observed) -> Rows:
    """The first record of each group; every record where there are none."""
    return first_of_groups(observed.record_N if observed.group_N is None else observed.group_N)


def _one_source(name: str, p: float, words: tuple[str, str], how: str) -> SelfCheck:
    """The check that labels do not tell the sides apart; ``words`` say that they are alike, and that they differ."""
    alike = p >= 1e-3
    end = "." if alike else ": draw both from one source, else the difference may pass for a leak."
    return SelfCheck(name, alike, f"Members and non-members {words[0] if alike else words[1]} ({how}){end}")


def plant(evidence: Evidence, *, seed: int) -> Evidence | None:
    """The evidence about the target's non-members with the leak of `overfitted_control`; None with fewer than four."""
    seen = evidence.observed
    rng = np.random.default_rng([seed, 2])
    rows = np.sort(_some(np.flatnonzero(~seen.member_N), _MOST, rng))
    if (len(rows) if seen.group_N is None else len(np.unique(seen.group_N[rows]))) < 4:
        return None
    log_odds = phi(seen.logits_NC[rows], seen.label_N[rows])
    down, up = float(np.median(log_odds)), PLANTED * max(_spread(log_odds), 1.0)
    shadow, group = evidence.shadow, None if seen.group_N is None else seen.group_N[rows]
    return Evidence(
        observed=_planted(seen, rows, _half(len(rows), rng, group), up, down),
        references=_planted_references(evidence.references, seen.label_N, rows, up, down),
        population=_lowered(evidence.population, down),
        shadow=None if shadow is None else _planted_shadow(shadow, up, down, rng),
    )


def _planted_shadow(shadow: Evidence, up: float, down: float, rng: np.random.Generator) -> Evidence:
    seen = shadow.observed
    kinds = (np.flatnonzero(seen.member_N), np.flatnonzero(~seen.member_N))
    rows = np.sort(np.concatenate([_some(kind, _MOST, rng) for kind in kinds]))
    return Evidence(
        observed=_planted(seen, rows, seen.member_N[rows], up, down),
        references=_planted_references(shadow.references, seen.label_N, rows, up, down),
        population=_lowered(shadow.population, down),
    )


def _planted(seen: Observed, rows: Rows, member: Bools, up: float, down: float) -> Observed:
    by = up * member - down
    return Observed(
        logits_NC=_moved(seen.logits_NC[rows], seen.label_N[rows], by),
        label_N=seen.label_N[rows],
        member_N=member,
        sensitivity_N=None,
        record_N=seen.record_N[rows],
        phi_NQ=None if seen.phi_NQ is None else seen.phi_NQ[rows] + by[:, None],
        task=seen.task,
        group_N=None if seen.group_N is None else seen.group_N[rows],
        benefit_N=None if seen.benefit_N is None else seen.benefit_N[rows],
    )


def _planted_references(
    seen: References | None, label_N: npt.NDArray[np.integer], rows: Rows, up: float, down: float
) -> References | None:
    if seen is None:
        return None
    inside = seen.in_KN[:, rows]
    by = up * inside - down
    logits = _moved(seen.logits_KNC[:, rows], label_N[rows], by)
    return References(
        logits, inside, seen.name_K, None if seen.phi_KNQ is None else seen.phi_KNQ[:, rows] + by[:, :, None]
    )


def _lowered(seen: Population | None, down: float) -> Population | None:
    if seen is None:
        return None
    references = seen.reference_logits_KZC
    return Population(
        _moved(seen.logits_ZC, seen.label_Z, -down),
        seen.label_Z,
        None if references is None else _moved(references, seen.label_Z, -down),
    )


def _moved(
    logits: npt.NDArray[np.floating], label_N: npt.NDArray[np.integer], by: npt.NDArray[np.floating] | float
) -> Floats:
    """Logits (.., N, C) with the given label's moved, and the log-odds with it."""
    moved = np.array(logits, np.float64)
    moved[..., np.arange(len(label_N)), label_N] += by
    return moved


def _control(found: dict[str, metrics.Estimate], n: int) -> SelfCheck:
    missed = [name for name, estimate in found.items() if not estimate.low > 0.5]
    least = min(found.values(), key=lambda estimate: estimate.low)
    numbers = f"lowest AUC {least.text()}, n = {n}"
    if missed:
        return SelfCheck(
            "overfitted control",
            False,
            f"A leak planted in half of the non-members was not found by {', '.join(missed)} ({numbers}): an audit of "
            "so few records cannot tell much.",
        )
    return SelfCheck(
        "overfitted control",
        True,
        f"A leak planted in half of the non-members was found by {', '.join(found)} ({numbers}).",
    )


def _too_few(n: int) -> SelfCheck:
    return SelfCheck("overfitted control", False, f"No leak can be planted in {n} non-members: at least 4 are needed.")


def _half(n: int, rng: np.random.Generator, group_N: npt.NDArray[np.integer] | None = None) -> Bools:
    """A random half of n records, or of their groups."""
    if group_N is None:
        return rng.permutation(n) < n // 2
    groups, group = np.unique(group_N, return_inverse=True)
    return _half(len(groups), rng)[group]


def _some(values: Rows, most: int, rng: np.random.Generator) -> Rows:
    return values if len(values) <= most else rng.choice(values, most, replace=False)


def _spread(values: Floats) -> float:
    """The standard deviation by quartiles (exact for a Gaussian), so that a few extreme values do not matter."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 1.349
