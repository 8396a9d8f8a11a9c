"""The threshold of a calibrated attack, against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lacewing.attacks._measure import threshold


def test_of_equally_good_thresholds_the_lowest_is_taken():
    scores, member = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])
    assert threshold(scores, member) == 1.5  # 3.5 decides three of four rightly as well


FOUR = st.lists(st.integers(0, 4), min_size=4, max_size=4)


@given(FOUR, FOUR)
def test_the_threshold_is_the_lowest_of_the_best(members, others):
    """Four of each kind, so that rates are exact and equal gains are equal numbers."""
    scores, member = np.array([*members, *others], float), np.arange(8) < 4

    def gain(t):
        return (scores[member] >= t).mean() - (scores[~member] >= t).mean()

    every = [scores.min(), *(score + 0.5 for score in np.unique(scores))]  # each way to divide the records, ascending
    lowest = max(every, key=gain)  # the first of equals
    np.testing.assert_array_equal(scores >= threshold(scores, member), scores >= lowest)
