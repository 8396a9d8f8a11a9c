"""Self-checks that decide: where one fails, the audit has no answer about the attacks that it names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._fit import CAUSES, LEVEL, fit, p_chance
from lacewing.attacks._measure import first_of_groups, grade, graded, mean_by_group, right
from lacewing.attacks._types import Observed
from lacewing.metrics import Bools, Floats
from lacewing.results import AttackResult, strongest_first

MOST_SEEN = 0.1  # share of the non-members that may be equal to a member
_WORSE = 1e-3  # level of the test that members are answered worse than non-members
ERROR = 0.05  # chance that an audit of a model without leakage finds some, or finds members below non-members
LOOKS = 3  # at each attack that share this chance: AUC above 0.5, the tail, AUC below 0.5


@dataclass(frozen=True)
class SelfCheck:
    """One check of the audit itself."""

    name: str
    passed: bool
    sentence: str
    # What cannot be judged where it fails: there is then no "no leakage found", and no gate about these attacks.
    decides: Literal["nothing", "every attack", "attacks with references"] = "nothing"


def fits_members(seen: Observed) -> SelfCheck:
    """The check that the model is above chance on its members: what it leaks cannot be asked of another model."""
    found = fit(seen)
    if not found.above_chance:
        sentence = f"{found.chance[0].upper()}{found.chance[1:]}. {CAUSES}"
        return SelfCheck("model fits its members", False, sentence, decides="every attack")
    if found.task == "multi-label":
        sentence = f"{grade(found.task)} is {_of_sides(seen)}."
    elif found.frequent_members is None:
        sentence = (
            f"By {found.measure} the model's answer is better than the best constant one for {found.right_members} of "
            f"{found.n_members} members and {found.right_nonmembers} of {found.n_nonmembers} non-members."
        )
    else:
        sentence = (
            f"The model is right about {found.right_members} of {found.n_members} members and {found.right_nonmembers} "
            f"of {found.n_nonmembers} non-members; always answering the most frequent class is right about "
            f"{found.frequent_members} and {found.frequent_nonmembers}."
        )
    if p_chance(seen, ~seen.member_N) > LEVEL:
        sentence += (
            " On non-members it is no better than such an answer: either it knows its members alone, or the "
            "non-members were prepared in another way."
        )
    return SelfCheck("model fits its members", True, sentence, decides="every attack")


def members_answered_better(seen: Observed) -> SelfCheck:
    """The check that the model is not worse on its members than on non-members, beyond chance (one-sided, 0.1 %).

    By Fisher's exact test of the two shares of right answers. Where records have groups, and of `Observed.benefit_N`,
    by Welch's t test of the units' means.
    """
    correct, member = right(seen), seen.member_N
    inside, outside = correct[member], correct[~member]
    about = f"right about {inside.sum()} of {len(inside)} and {outside.sum()} of {len(outside)} records"
    if seen.task == "multi-label":
        about = f"mean AUC of the labels {_of_sides(seen)}"
    if seen.group_N is None and seen.benefit_N is None:
        p = _at_most(int(inside.sum()), len(correct), int(correct.sum()), len(inside))
    else:
        of = correct.astype(np.float64) if seen.benefit_N is None else np.asarray(seen.benefit_N, np.float64)
        values, unit_member = units_of(of, seen)
        sides = values[unit_member], values[~unit_member]
        p = _below(*sides)
    passed = p >= _WORSE
    worse = "no worse" if passed else "worse"
    return SelfCheck(
        "members answered no worse",
        passed,
        f"The model is {worse} on members than on non-members beyond chance ({about}, p = {p:.2g})"
        + (
            "."
            if passed
            else ": the two sides are swapped, or members were read in another way, such as through augmentation."
        ),
        decides="every attack",
    )


def _at_most(k: int, records: int, hits: int, drawn: int) -> float:
    """P(at most k of ``drawn`` records are hits), where there are so many ``hits`` among all: the hypergeometric law.

    As `scipy.stats.hypergeom.cdf`; to load scipy.stats takes longer than all of an audit's other checks.
    """
    from scipy.special import betaln

    def log_choose(n: int, i: npt.NDArray[np.int64]) -> Floats:
        found: Floats = -betaln(1.0 + n - i, 1.0 + i) - math.log(n + 1.0)
        return found

    i = np.arange(max(0, drawn - (records - hits)), k + 1)
    whole = log_choose(records, np.array([drawn]))
    return min(1.0, float(np.exp(log_choose(hits, i) + log_choose(records - hits, drawn - i) - whole).sum()))


def _of_sides(seen: Observed) -> str:
    values = graded(seen)
    return f"{values[seen.member_N].mean():.3f} on members and {values[~seen.member_N].mean():.3f} on non-members"


def _below(a_N: Floats, b_N: Floats) -> float:
    """The one-sided p of Welch's t test that the mean of ``a_N`` is not below that of ``b_N``; 1 where none varies."""
    from scipy.special import stdtr

    if min(len(a_N), len(b_N)) < 2:
        return 1.0
    parts = [float(side.var(ddof=1)) / len(side) for side in (a_N, b_N)]
    if sum(parts) == 0:
        return 1.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a_N, b_N), strict=True))
    return float(stdtr(freedom, (a_N.mean() - b_N.mean()) / sum(parts) ** 0.5))


def nonmembers_unseen(seen: int, n: int) -> SelfCheck:
    """The check that at most 10 % of the n non-members are equal to a member, and so were trained on."""
    passed = seen <= MOST_SEEN * n
    return SelfCheck(
        "non-members unseen",
        passed,
        f"{seen} of the {n} audited non-members are equal to a member, value for value, so that they were trained on "
        + (
            f"(at most {MOST_SEEN:.0%} allowed)."
            if passed
            else f"(at most {MOST_SEEN:.0%} allowed): leave them out, for no attack can tell them from members."
        ),
        decides="every attack",
    )


def members_rank_above(results: Sequence[AttackResult]) -> SelfCheck:
    """The check that no attack ranks non-members above members beyond chance.

    Each of the m attacks is looked at with 0.05/(3 m), one-sided, so that together with the two tests for leakage of
    each attack a null audit is told something with 5 % at most.
    """
    share = ERROR / (LOOKS * len(results))
    below = [r for r in results if metrics.auc(r.score_N, r.member_N, 1.0 - 2.0 * share).high < 0.5]
    if not below:
        return SelfCheck(
            "members rank above non-members",
            True,
            "No attack ranks non-members above members beyond chance.",
            decides="every attack",
        )
    lowest = strongest_first(below)[-1]
    found = metrics.auc(lowest.score_N, lowest.member_N)
    given = lowest.attack == "scores"
    which = "The given scores rank" if given else f"The attack '{lowest.attack}' ranks"
    cause = (
        "a score that is lower for members, such as a loss (give its negative), 'member' inverted"
        if given
        else "'member' is inverted or the two sides are swapped"
    )
    return SelfCheck(
        "members rank above non-members",
        False,
        f"{which} non-members above members (AUC {found.text()}). Likely causes: {cause}, or the two sides come from "
        "different sources.",
        decides="every attack",
    )


def units_of(scores_N: Floats, seen: Observed) -> tuple[Floats, Bools]:
    """Scores and membership of groups, whose score is the mean of their records'; without groups as they are."""
    if seen.group_N is None:
        return scores_N, seen.member_N
    return mean_by_group(scores_N, seen.group_N), seen.member_N[first_of_groups(seen.group_N)]
