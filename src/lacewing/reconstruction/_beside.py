"""What was rebuilt beside what a prior alone gives: the ROC of "is this record in the training set", and similarity."""

from __future__ import annotations

from typing import NamedTuple

from lacewing.metrics import Bools, Estimate, Floats, auc, mean_over_seeds, paired


class Judged(NamedTuple):
    """How well scores tell training records from others, and how alike they are to training records."""

    auc: Estimate  # DeLong's interval
    similarity: Estimate  # mean over the training records, Student's t


class Beside(NamedTuple):
    """An attack and the adversary who knows the prior alone, judged on the same records."""

    rebuilt: Judged
    nearest: Judged  # the most similar of other records in place of what was rebuilt
    class_mean: Judged  # means of the classes in place of it
    found: bool


def judge(scores_N: Floats, member_N: Bools, confidence: float = 0.95) -> Judged:
    """Both measures of similarities (N,), at least two of them of members."""
    similarity = mean_over_seeds(scores_N[member_N], confidence)
    assert similarity is not None
    low, high = max(similarity.low, -1.0), min(similarity.high, 1.0)  # a cosine
    return Judged(auc(scores_N, member_N, confidence), Estimate(similarity.value, low, high))


def beside(rebuilt_N: Floats, nearest_N: Floats, mean_N: Floats, member_N: Bools, *, attacks: int = 1) -> Beside:
    """Whether an attack tells the training records, and better than both priors do, by three similarities a record.

    ``found`` at 5 % for ``attacks`` of them together (Bonferroni): the lower end of the AUC is above 1/2, and above 0
    that of each paired difference to a prior (bootstrap over records).
    """
    level = 1 - 0.05 / attacks
    priors = (nearest_N, mean_N)
    better = [paired(rebuilt_N, prior, member_N, "auc", confidence=level).difference.low > 0 for prior in priors]
    judged = [judge(scores, member_N) for scores in (rebuilt_N, *priors)]
    return Beside(judged[0], judged[1], judged[2], found=auc(rebuilt_N, member_N, level).low > 0.5 and all(better))
