"""Records that belong together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lacewing.data import duplicate_groups, group_codes, merge_groups


def _same(codes: Any) -> set[tuple[int, int]]:
    """The pairs of records that share a code."""
    return {(i, j) for i, j in itertools.combinations(range(len(codes)), 2) if codes[i] == codes[j]}


@pytest.mark.parametrize("dtype", ["u1", "?", "<i4", ">i4", "<f4", ">f8", "f2", "c8", "<U3"])
@pytest.mark.parametrize("shape", [(200,), (200, 3), (200, 1, 2, 2)])
def test_rows_share_a_code_exactly_where_they_are_equal(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-2, 3, size=shape)
    x = (x > 0).astype(dtype) if dtype == "?" else (x + 2 * (dtype == "u1")).astype(dtype)
    rows = x.reshape(len(x), -1).tolist()

    codes = duplicate_groups(x)

    assert _same(codes) == {(i, j) for i, j in itertools.combinations(range(200), 2) if rows[i] == rows[j]}
    assert list(dict.fromkeys(codes.tolist())) == list(range(len(np.unique(x, axis=0))))


def test_rows_in_any_order_of_memory_and_across_blocks() -> None:
    x = np.arange(10_000 * 6, dtype=np.float32).reshape(10_000, 2, 3) // 12 * 12  # each second record is a copy
    wanted = np.repeat(np.arange(5_000), 2)
    fortran = np.asfortranarray(x)
    assert np.array_equal(duplicate_groups(x), wanted)
    assert np.array_equal(duplicate_groups(fortran), wanted)
    assert np.array_equal(duplicate_groups(np.repeat(x, 2, axis=2)[:, :, ::2]), wanted)


def test_signed_zeros_are_equal_and_so_are_nans() -> None:
    other_nan = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    x = np.array([[0.0, 1.0], [-0.0, 1.0], [np.nan, 1.0], [other_nan, 1.0], [0.0, -1.0]], np.float32)
    before = x.tobytes()
    assert duplicate_groups(x).tolist() == [0, 0, 1, 1, 2]
    assert x.tobytes() == before


def test_rows_without_values_and_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        duplicate_groups(np.zeros((5, 0)))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        duplicate_groups(np.float64(3))
    with pytest.raises(TypeError, match="dtype object"):
        duplicate_groups(np.array([[1, "a"], [2, "b"]], object))
    assert duplicate_groups(np.zeros((0, 3))).shape == (0,)


def test_merged_groups_are_the_finest_that_keep_both_together() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 7, 30):
        for _ in range(20):
            a, b = rng.integers(n, size=n), rng.integers(n, size=n)
            joined = np.equal.outer(a, a) | np.equal.outer(b, b)
            for _ in range(n):  # the transitive closure, by brute force
                joined = (joined.astype(int) @ joined.astype(int)) > 0

            codes = merge_groups(a, b)

            assert np.array_equal(np.equal.outer(codes, codes), joined)
            assert list(dict.fromkeys(codes.tolist())) == list(range(codes.max() + 1))


def test_groups_of_words_merge_with_groups_of_numbers() -> None:
    patients = np.array(["ann", "bob", "ann", "eve", "dan"])
    copies = np.array([5, 9, 7, 9, 2])
    assert merge_groups(patients, copies).tolist() == [0, 1, 0, 1, 2]
    assert group_codes(patients).tolist() == [0, 1, 0, 2, 3]
    assert merge_groups(patients[:0], copies[:0]).tolist() == []
    with pytest.raises(ValueError, match="do not name the same records"):
        merge_groups(patients, copies[:4])
