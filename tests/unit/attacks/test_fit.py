"""Whether a model is above chance on its own members: counts, the exact test, groups, tasks without classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from lacewing.attacks import Observed, selfchecks
from lacewing.attacks._fit import fit


def seen(right: int, label: np.ndarray, **more: Any) -> Observed:
    """A network that is right about the first ``right`` of its members and about no non-member."""
    n = len(label) // 2
    classes = int(label.max()) + 1
    answer = np.where(np.arange(2 * n) < right, label, (label + 1) % classes)
    return Observed(np.eye(classes)[answer], label, np.arange(2 * n) < n, None, np.arange(2 * n), **more)


@pytest.mark.parametrize("right", [0, 60, 69, 70, 71, 80, 100])
def test_the_test_is_the_exact_binomial_one_against_the_most_frequent_class(right: int) -> None:
    label = np.concatenate([np.repeat([0, 1, 2], [20, 60, 20]), np.repeat([0, 1, 2], [50, 20, 30])])
    found = fit(seen(right, label))
    wanted = stats.binomtest(right, 100, 0.6, alternative="greater").pvalue
    assert found.p_value == pytest.approx(wanted, rel=1e-9)
    assert found.above_chance is bool(wanted <= 0.05)
    assert (found.right_members, found.frequent_members) == (right, 60)
    assert (found.right_nonmembers, found.frequent_nonmembers) == (0, 50)
    check = selfchecks.fits_members(seen(right, label))
    assert check.passed is found.above_chance
    assert f"bout {right} of 100 members" in check.sentence
    assert ("no better than always answering the most frequent class (60 of 100)" in check.sentence) is not check.passed
    assert ("On non-members it is no better" in check.sentence) is check.passed


def test_members_of_one_class_are_no_proof() -> None:
    label = np.concatenate([np.zeros(50, int), np.arange(50) % 2])
    found = fit(seen(50, label))
    assert not found.above_chance
    assert "all 50 members have one class" in found.chance


def test_copies_of_a_record_count_once() -> None:
    label = np.arange(200) % 2
    few = seen(60, label)  # 60 of 100 right, p = 0.028
    assert fit(few).above_chance
    grouped = seen(60, label, group_N=np.arange(200) // 10)  # but ten copies of each: 6 of 10
    excess = np.repeat([0.5, -0.5], [6, 4])  # of a group over always answering the class that half of it has
    wanted = stats.ttest_1samp(excess, 0, alternative="greater").pvalue
    assert fit(grouped).p_value == pytest.approx(wanted, rel=1e-9)
    assert not fit(grouped).above_chance
    alone = seen(60, label, group_N=np.random.default_rng(0).permutation(200))
    assert fit(alone).p_value == fit(few).p_value


@pytest.mark.parametrize("task", ["multi-label", "regression"])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_without_classes_the_mean_benefit_is_tested(task: Any, shift: float) -> None:
    benefit = np.random.default_rng(3).normal(size=200) + shift
    label = np.ones(200, int)
    number = np.stack([np.zeros(200), benefit], axis=1)
    given = Observed(number, label, np.arange(200) < 100, None, np.arange(200), task=task, benefit_N=benefit)
    found = fit(given)
    assert found.p_value == pytest.approx(stats.ttest_1samp(benefit[:100], 0, alternative="greater").pvalue, rel=1e-9)
    assert found.right_members == (benefit[:100] > 0).sum()
    assert found.frequent_members is None
    check = selfchecks.fits_members(given)
    assert check.passed is (shift > 0)
    assert ("best constant" in check.sentence) is (not check.passed or task == "regression")
