"""The threshold of a calibrated attack, against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lacewing.attacks._measure import threshold


def test_of_equally_good_thresholds_the_lowest_is_taken():
    scores, member = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])
    assert threshold(scores, member) == 1.5  # 3.5 decides three of four rightly as well


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12))
def test_the_threshold_is_the_lowest_of_the_best(records):
    scores, member = np.array([score for score, _ in records], float), np.array([inside for _, inside in records])
    if member.all() or not member.any():
        return

    def gain(t):
        return (scores[member] >= t).mean() - (scores[~member] >= t).mean()

    every = [scores.min(), *(score + 0.5 for score in np.unique(scores))]  # each way to divide the records, ascending
    best = max(gain(t) for t in every)
    lowest = next(t for t in every if np.isclose(gain(t), best))
    np.testing.assert_array_equal(scores >= threshold(scores, member), scores >= lowest)
