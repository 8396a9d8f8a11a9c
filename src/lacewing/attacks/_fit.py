"""Does a model answer its own members better than one constant answer would? If not, it is hardly the model that
learned them, and what it leaks cannot be asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing.attacks._measure import right
from lacewing.attacks._types import Observed, Task
from lacewing.metrics import Bools, Floats
from lacewing.results import AttackResult

LEVEL = 0.05  # of the one-sided test that the model answers its members better than one constant answer
CAUSES = "Likely causes: a wrong checkpoint, other preprocessing, renumbered classes, or rows in another order."


@dataclass(frozen=True)
class Fit:
    """How well a model answers its members, beside the best answer that is the same for every record."""

    task: Task
    n_members: int  # records
    n_nonmembers: int
    right_members: int  # of quantities: answered better than by the best constant; of labels: see `right`
    right_nonmembers: int
    frequent_members: int | None  # right if their most frequent class is always answered; None: there are no classes
    frequent_nonmembers: int | None
    p_value: float  # one-sided, of the hypothesis that members are answered no better than by that one answer

    @property
    def above_chance(self) -> bool:
        """Whether the members are answered better than by one constant answer, at the level 5 %."""
        return self.p_value <= LEVEL

    @property
    def measure(self) -> str:
        """What `Observed.benefit_N` compares: by it an answer is better or worse than the best constant one."""
        return "squared error" if self.task == "regression" else "the mean AUC of its labels"

    @property
    def chance(self) -> str:
        """What a model that is not above chance does, as a part of a sentence."""
        if self.frequent_members is None:
            than = "the best constant answer does"
            return f"by {self.measure} the model answers its {self.n_members} members no better than {than}"
        return _no_better("the model", self.right_members, self.n_members, self.frequent_members)


def _no_better(who: str, right: int, n: int, frequent: int) -> str:
    if frequent == n:
        return f"all {n} members have one class, so that their accuracy cannot show that {who} learned them"
    return (
        f"{who} is right about {right} of {n} members, no better than always answering the most frequent class "
        f"({frequent} of {n})"
    )


def at_chance(result: AttackResult, who: str) -> str | None:
    """What a network of classes does that is at chance on its members, as a part of a sentence; None: it is not.

    None also where the result does not hold the records, as one from results.csv. ``who`` names the network. Of records
    of one group the result holds one.
    """
    label, correct, of = result.label_N, result.correct_N, result.member_N
    if not len(label) or not len(correct) or not of.any() or p_better(correct, label, of) <= LEVEL:
        return None
    return _no_better(who, int(correct[of].sum()), int(of.sum()), _most_frequent(label[of]))


def fit(seen: Observed) -> Fit:
    """Count how often the model is right, and test whether it is above chance on its members.

    Chance is the share of the most frequent class among the members' labels; the test is the exact binomial one. Where
    records have groups it is Student's t test of the groups' mean excess over that answer; likewise of `benefit_N`.
    """
    n, hit, frequent = _counted(seen, seen.member_N)
    n_out, hit_out, frequent_out = _counted(seen, ~seen.member_N)
    return Fit(
        task=seen.task,
        n_members=n,
        n_nonmembers=n_out,
        right_members=hit,
        right_nonmembers=hit_out,
        frequent_members=frequent,
        frequent_nonmembers=frequent_out,
        p_value=p_chance(seen, seen.member_N),
    )


def _counted(seen: Observed, of: Bools) -> tuple[int, int, int | None]:
    """(records, how many are answered right, how many are of the most frequent class)."""
    frequent = None if seen.benefit_N is not None else _most_frequent(seen.label_N[of])
    return int(of.sum()), int(right(seen)[of].sum()), frequent


def p_chance(seen: Observed, of: Bools) -> float:
    """The one-sided p-value that the records ``of`` are answered no better than by one constant answer."""
    return p_better(right(seen), seen.label_N, of, group_N=seen.group_N, benefit_N=seen.benefit_N)


def p_better(
    right_N: Bools,
    label_N: npt.NDArray[np.integer],
    of: Bools,
    *,
    group_N: npt.NDArray[np.integer] | None = None,
    benefit_N: npt.NDArray[np.floating] | None = None,
) -> float:
    """As `p_chance`, of what is known of each record; see `Observed`. A group may have records that are not ``of``."""
    group = None if group_N is None else np.unique(group_N[of], return_inverse=True)[1]
    label, hit = label_N[of], right_N[of]
    if benefit_N is None and (group is None or group.max() + 1 == len(group)):
        return _at_least(int(hit.sum()), len(hit), _most_frequent(label) / len(hit))
    excess: Floats = (
        np.asarray(benefit_N[of], np.float64)
        if benefit_N is not None
        else hit.astype(np.float64) - (label == np.bincount(label).argmax())
    )
    return _above_zero(excess if group is None else np.bincount(group, excess) / np.bincount(group))


def _most_frequent(labels: npt.NDArray[np.integer]) -> int:
    """How many records have the most frequent class."""
    return int(np.unique(labels, return_counts=True)[1].max())


def _at_least(hits: int, n: int, share: float) -> float:
    """P(at least ``hits`` of n), each of probability ``share``: the exact binomial law."""
    from scipy.special import bdtrc

    return 1.0 if hits == 0 else float(bdtrc(hits - 1, n, share))


def _above_zero(values_N: Floats) -> float:
    """The one-sided p-value of Student's t test that the mean is not above 0; 1 for a single value."""
    from scipy.special import stdtr

    n = len(values_N)
    if n == 1:
        return 1.0
    mean, spread = float(values_N.mean()), float(values_N.std(ddof=1))
    if spread == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(n - 1, -mean / (spread / math.sqrt(n))))
