"""Records that belong together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lacewing.data import (
    Dataset,
    digest_with,
    duplicate_groups,
    four_way,
    group_codes,
    groups_of,
    holdout,
    make_dataset,
    merge_groups,
    prepare,
    random_halves,
    unused,
)
from lacewing.errors import DataError


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


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([3, -1, 0, 7, 2**40]) | st.integers(-5, 5), max_size=40),
    st.sampled_from([np.int64, np.float64, np.float32, np.bool_]),
    st.sampled_from([(-1,), (-1, 1), (-1, 1, 1)]),
)
def test_single_numbers_have_codes_in_order_of_appearance(
    numbers: list[int], dtype: type, shape: tuple[int, ...]
) -> None:
    x = np.array(numbers, np.int64).astype(dtype)
    seen = list(dict.fromkeys(x.tolist()))
    expected = [seen.index(value) for value in x.tolist()]
    assert duplicate_groups(x.reshape(shape)).tolist() == expected
    assert group_codes(x).tolist() == expected
    assert group_codes(x).dtype == duplicate_groups(x).dtype == np.int64


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


# ------------------------------------------------------------------------------------------------------------- splits


def _sizes(largest: int) -> Any:
    """Codes of 40 to 120 groups in random order, none with more than ``largest`` records."""
    sizes = st.lists(st.integers(1, largest), min_size=80, max_size=120)
    return st.tuples(sizes, st.integers(0, 2**32)).map(
        lambda drawn: np.random.default_rng(drawn[1]).permutation(np.repeat(np.arange(len(drawn[0])), drawn[0]))
    )


@settings(max_examples=30)
@given(groups=_sizes(5), seed=st.integers(0, 2**32))
def test_a_group_comes_to_one_set_of_a_four_way_split_and_sizes_differ_by_one_group_at_most(
    groups: Any, seed: int
) -> None:
    n = len(groups)
    part = four_way(n, seed, groups=groups).part_N(n)
    assert set(part) == {0, 1, 2, 3}  # all are used
    assert all(len(np.unique(part[groups == code])) == 1 for code in np.unique(groups))
    sizes = np.bincount(part)
    assert sizes.max() - sizes.min() <= max(np.bincount(groups))
    if (np.bincount(groups) == 1).sum() >= 4 * 5:  # enough single records to make up for any difference
        assert sizes.max() - sizes.min() <= 1


@settings(max_examples=30)
@given(groups=_sizes(5), seed=st.integers(0, 2**20), population=st.sampled_from([0.0, 0.1, 0.3]))
def test_each_pair_of_seeds_has_each_group_in_one_network_and_out_of_the_other(
    groups: Any, seed: int, population: float
) -> None:
    n = len(groups)
    even, odd = (random_halves(n, 2 * seed + k, population=population, data_seed=3, groups=groups) for k in (0, 1))
    np.testing.assert_array_equal(even.inside, odd.outside)
    np.testing.assert_array_equal(even.outside, odd.inside)
    np.testing.assert_array_equal(even.population, odd.population)
    part = even.part_N(n)
    assert set(part) == ({0, 1, 4} if population else {0, 1})
    assert all(len(np.unique(part[groups == code])) == 1 for code in np.unique(groups))
    assert abs(len(even.population) - population * n) <= 3
    assert abs(len(even.inside) - len(even.outside)) <= 5
    other = random_halves(n, 2 * seed + 2, population=population, data_seed=3, groups=groups)
    np.testing.assert_array_equal(other.population, even.population)
    assert not np.array_equal(other.inside, even.inside)


def test_each_group_comes_to_each_set_equally_often_and_two_groups_come_there_independently() -> None:
    groups = np.repeat(np.arange(150), [20, 12, 12, 2, 2, 2, *[1] * 144])
    parts = np.array([four_way(len(groups), seed, groups=groups).part_N(len(groups)) for seed in range(2000)])
    one = parts[:, np.unique(groups, return_index=True)[1]]
    table = np.array([np.bincount(one[:, code], minlength=4) for code in range(150)])
    assert stats.chisquare(table, np.full_like(table, 500), axis=None).pvalue > 1e-4
    together = (one[:, 0] == one[:, 1]).mean()  # two large groups: 1/4 where the draw does not keep them apart
    assert 0.1 < together < 0.3
    halves = np.array(
        [random_halves(len(groups), 2 * s, population=0, groups=groups).part_N(len(groups)) for s in range(2000)]
    )
    share = (halves == 0).mean(axis=0)
    assert stats.chisquare(2000 * share, np.full(len(groups), 1000.0), sum_check=False).pvalue > 1e-4


def test_groups_that_no_split_can_hold_together_are_named() -> None:
    large = np.array([*range(70), *[70] * 30])
    said = r"data\.groups: the largest group, that of record 70, holds 30 of 100 records, more than each of the 4 parts"
    with pytest.raises(DataError, match=said):
        four_way(100, 0, groups=large)
    assert len(random_halves(100, 0, population=0, groups=large).inside) == 50
    few = np.repeat(np.arange(12), 10)
    with pytest.raises(DataError, match=r"data\.groups: a part of a four-way split gets 3 groups, and at least 5 are"):
        four_way(120, 0, groups=few)
    with pytest.raises(DataError, match=r"data\.groups: .* 80 of 150 records, more than each of the 2 parts of random"):
        random_halves(150, 0, population=0, groups=np.array([*range(70), *[70] * 80]))


def test_a_holdout_takes_whole_groups_or_is_refused() -> None:
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 3))
    train = np.arange(90) * 2 + 1
    kept, held = holdout(train, 0.2, 0, groups=groups)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), train)
    assert len(held) == 18
    assert not set(groups[(kept - 1) // 2]) & set(groups[(held - 1) // 2])
    assert len(holdout(train, 0.0, 0, groups=groups)[1]) == 0
    with pytest.raises(DataError, match=r"train\.holdout: 0\.2 of 9 training records takes every group"):
        holdout(train[:9], 0.2, 0, groups=np.zeros(9, int))


# ------------------------------------------------------------------------------------------------------------ records


def _dataset(groups: Any, classes: int = 5) -> Dataset:
    """Records of one group have equal x; labels differ within a group."""
    x = np.asarray(groups, np.float32)[:, None] + np.zeros((1, 2), np.float32)
    return make_dataset("toy", x, np.arange(len(groups)) % classes, classes)


def test_redrawn_labels_and_canaries_come_to_whole_groups_and_copies_get_one_label() -> None:
    codes = np.random.default_rng(1).permutation(np.repeat(np.arange(400), 3))
    whole = _dataset(codes)
    records = prepare(whole, records=900, label_noise=0.3, canaries=30, group_N=codes, seed=5)

    assert records.group_N is not None
    assert np.array_equal(np.equal.outer(records.group_N, records.group_N), np.equal.outer(*2 * [codes[records.id]]))
    assert set(records.group_N) <= set(records.id)  # a code names a record of the group
    assert abs(records.canary_N.sum() - 30) <= 1
    assert (records.y[records.canary_N] != records.clean_y[records.canary_N]).all()
    changed = records.y != records.clean_y
    assert 0.2 < changed[~records.canary_N].mean() < 0.28  # 0.3 of them, of which one in 5 keeps its label
    untouched = 0
    for code in np.unique(records.group_N):
        of = records.group_N == code
        assert len(np.unique(records.canary_N[of])) == 1
        for label in np.unique(records.clean_y[of]):
            assert len(np.unique(records.y[of & (records.clean_y == label)])) == 1
        untouched += not changed[of].any()
    assert untouched > 0.55 * len(np.unique(records.group_N))  # of single draws .7^3 = .34 of the groups would be
    same = prepare(whole, records=900, label_noise=0, seed=5)
    np.testing.assert_array_equal(same.id, records.id)


def test_a_population_has_no_record_of_a_group_that_the_study_uses() -> None:
    codes = np.arange(200) // 2
    whole = _dataset(codes)
    records = prepare(whole, records=80, label_noise=0, seed=1, group_N=codes)
    drawn = unused(whole, records, 0.5, 1, codes)
    assert len(drawn) == 40
    assert not set(codes[drawn]) & set(codes[records.id])
    assert set(codes[unused(whole, records, 0.5, 1)]) & set(
        codes[records.id]
    )  # which a draw of records does not see to
    with pytest.raises(
        DataError, match=r"data\.population: 96 records asked for, .* that are of no group that it uses"
    ):
        unused(whole, records, 1.2, 1, codes)


def test_several_groupings_are_merged_and_the_digest_follows_the_groups_and_not_their_names() -> None:
    whole = _dataset(np.arange(12) // 2)  # pairs of equal x
    named = make_dataset("toy", whole.x, whole.y, whole.classes)
    object.__setattr__(named, "groups", {"user": np.array(list("aabcddefghij")), "other": np.arange(12) * 7})
    assert groups_of(named, None) is None
    assert groups_of(named, ["duplicates"]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert groups_of(named, ["user"]).tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]
    assert groups_of(named, ["user", "duplicates"]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    codes = groups_of(named, ["user"])
    assert digest_with(named, codes) == digest_with(named, 100 - codes) != whole.digest
    assert digest_with(named, codes) != digest_with(named, groups_of(named, ["other"]))
