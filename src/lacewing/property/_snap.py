"""SNAP: a training set that the attacker poisons tells its share by the label that he put on his records.

Chaudhari, Abascal, Oprea, Jagielski, Tramer and Ullman, "SNAP: Efficient extraction of private properties with
poisoning" (IEEE S&P 2023, arXiv 2208.12348). The rarer the property, the larger a part of the records that have it are
his, and the surer is the network of his label for others of them.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np

from lacewing.metrics import Bools, Floats


def trimmed(values_MA: Floats) -> Bools:
    """(M, A) which values of each network lie within one standard deviation of its median.

    The deviation of the upper end is that of the values which the lower end leaves, as the authors' code has it
    (get_logits_torch of training_utils.py in github.com/johnmath/snap-sp23). Where nothing lies there, all.
    """
    middle = np.median(values_MA, axis=1, keepdims=True)
    kept = values_MA > middle - values_MA.std(axis=1, keepdims=True)
    count = np.maximum(kept.sum(axis=1, keepdims=True), 1)
    mean = (values_MA * kept).sum(axis=1, keepdims=True) / count
    kept &= values_MA < middle + np.sqrt((kept * (values_MA - mean) ** 2).sum(axis=1, keepdims=True) / count)
    found: Bools = kept | ~kept.any(axis=1, keepdims=True)
    return found


def snap_scores(first_MA: Floats, second_MA: Floats, attacked_MA: Floats) -> Floats:
    """(M,) of each attacked network, the share of its values on the second world's side, minus that on the other side.

    Args:
        first_MA: log-odds of the poisoned label, as the attacker's own networks of the first world have them of records
            with the property.
        second_MA: those of the second world.
        attacked_MA: those of the networks whose world is to be told.

    The threshold lies midway between the medians of all trimmed values of each world. Thresholds, medians and trimming
    are those of the authors' code (commit 627fdb6, "median"). Ours: the second world's side is the one on which its
    median lies, where theirs expects higher values of the smaller share; and a network with as many values on either
    side is not decided, where theirs names the smaller share.
    """
    medians = [float(np.median(side[trimmed(side)])) for side in (first_MA, second_MA)]
    kept = trimmed(attacked_MA)
    votes = np.sign(attacked_MA - fmean(medians)) * kept
    scores: Floats = np.sign(medians[1] - medians[0]) * votes.sum(axis=1) / kept.sum(axis=1)
    return scores
