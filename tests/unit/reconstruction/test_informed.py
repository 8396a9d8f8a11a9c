"""The adversary who knows all training records but one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lacewing.errors import UsageError
from lacewing.reconstruction import GRADIENT, magnitude_mask, missing_record, softmax_regression

N, D, C, L2 = 60, 24, 4, 1e-2
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, D)), RNG.integers(C, size=N)


def without(i: int) -> tuple[np.ndarray, np.ndarray]:
    others = np.arange(N) != i
    return X[others], Y[others]


def test_the_optimum_is_that_of_scikit_learn() -> None:
    found = softmax_regression(X, Y, l2=L2)
    other = LogisticRegression(C=1 / (N * L2), tol=1e-10, max_iter=5000).fit(X, Y)
    assert found.gradient <= GRADIENT
    np.testing.assert_allclose(found.weights_DC, other.coef_.T, atol=1e-4)
    np.testing.assert_allclose(
        found.intercept_C - found.intercept_C.mean(), other.intercept_ - other.intercept_.mean(), atol=1e-4
    )


def test_the_missing_record_is_rebuilt() -> None:
    solved = softmax_regression(X, Y, l2=L2)
    for i in range(N):
        rebuilt = missing_record(solved, *without(i), l2=L2)
        assert rebuilt.label == Y[i]
        assert rebuilt.found_D.all()
        np.testing.assert_allclose(rebuilt.x_D, X[i], atol=1e-3)


def test_a_mask_hides_the_inputs_that_keep_no_weight() -> None:
    kept = magnitude_mask(softmax_regression(X, Y, l2=L2).weights_DC, 0.2)
    assert kept.sum() == round(0.2 * D * C)
    assert not kept.any(axis=1).all()
    solved = softmax_regression(X, Y, l2=L2, kept_DC=kept)
    assert not solved.weights_DC[~kept].any()
    for i in range(0, N, 7):
        rebuilt = missing_record(solved, *without(i), l2=L2, kept_DC=kept)
        np.testing.assert_array_equal(rebuilt.found_D, kept.any(axis=1))
        np.testing.assert_array_equal(np.isnan(rebuilt.x_D), ~kept.any(axis=1))
        np.testing.assert_allclose(rebuilt.x_D[rebuilt.found_D], X[i][rebuilt.found_D], atol=0.02)


def test_where_no_record_is_missing_none_is_made_up() -> None:
    solved = softmax_regression(*without(3), l2=L2)
    with pytest.raises(UsageError, match="no record is missing"):
        missing_record(solved, *without(3), l2=L2 * (N - 1) / N)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(UsageError, match="l2 = 0"):
        softmax_regression(X, Y, l2=0)
    with pytest.raises(UsageError, match="one whole number a record"):
        softmax_regression(X, Y[1:], l2=L2)
    with pytest.raises(UsageError, match=r"give \(D, C\) = \(24, 4\)"):
        softmax_regression(X, Y, l2=L2, kept_DC=np.ones((C, D), bool))
    with pytest.raises(UsageError, match="density = 0"):
        magnitude_mask(np.ones((3, 2)), 0)
