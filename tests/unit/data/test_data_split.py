"""Drawing records, redrawing labels, the four-way split, the held-out part and standardisation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.preprocessing import StandardScaler

from lacewing.data import Dataset, four_way, holdout, make_dataset, normalisation, prepare, random_halves, unused
from lacewing.errors import DataError


def dataset(n: int, classes: int = 4) -> Dataset:
    y = np.arange(n) % classes
    return make_dataset("toy", np.arange(2 * n, dtype=np.float32).reshape(n, 2), y, classes)


def test_a_population_comes_from_outside_the_records_or_is_refused() -> None:
    whole = dataset(100)
    records = prepare(whole, records=60, label_noise=0, seed=1)
    drawn = unused(whole, records, 0.5, 1)
    assert len(drawn) == 30
    assert not np.isin(drawn, records.id).any()
    np.testing.assert_array_equal(drawn, np.unique(drawn))
    assert len(unused(whole, records, 0.0, 1)) == 0
    for share, said in ((0.7, "42 records asked for, and the study leaves 40"), (0.001, "0.001 of 60 records is none")):
        with pytest.raises(DataError, match=said):
            unused(whole, records, share, 1)


@given(n=st.integers(40, 300), seed=st.integers(0, 2**32))
def test_the_four_sets_are_disjoint_equal_and_sorted(n: int, seed: int) -> None:
    split = four_way(n, seed)
    sets = [split.members("target"), split.nonmembers("target"), split.members("shadow"), split.nonmembers("shadow")]
    assert [len(s) for s in sets] == 4 * [n // 4]
    together = np.concatenate(sets)
    assert len(np.unique(together)) == 4 * (n // 4)
    assert together.min() >= 0
    assert together.max() < n
    part = split.part_N(n)
    for code, indices in enumerate(sets):
        np.testing.assert_array_equal(np.flatnonzero(part == code), indices)  # sorted, and told apart
    assert (part == 255).sum() == n % 4


def test_the_split_is_a_function_of_the_seed_and_uniform() -> None:
    np.testing.assert_array_equal(four_way(100, 5).target_train, four_way(100, 5).target_train)
    parts = np.array([four_way(41, seed).part_N(41) for seed in range(2000)])
    table = np.array([np.bincount(parts[:, i], minlength=256)[[0, 1, 2, 3, 255]] for i in range(41)])
    expected = 2000 * np.array([10, 10, 10, 10, 1]) / 41
    assert stats.chisquare(table, np.tile(expected, (41, 1)), axis=None).pvalue > 1e-4


def test_too_few_records_for_a_split_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.records: a four-way split needs at least 40 records, 39 given"):
        four_way(39, 0)


@given(
    size=st.integers(1, 80), share=st.floats(0, 1), records=st.none() | st.integers(1, 80), seed=st.integers(0, 2**40)
)
def test_prepare_keeps_records_and_ids_together(size: int, share: float, records: int | None, seed: int) -> None:
    data = dataset(size)
    if records is not None and records > size:
        with pytest.raises(DataError, match=r"data\.records: "):
            prepare(data, records=records, label_noise=share, seed=seed)
        return
    got = prepare(data, records=records, label_noise=share, seed=seed)
    assert len(got) == (records or size)
    assert len(np.unique(got.id)) == len(got)
    np.testing.assert_array_equal(got.x, data.x[got.id])
    np.testing.assert_array_equal(got.clean_y, data.y[got.id])
    assert (got.y != got.clean_y).sum() <= round(share * len(got))
    assert got.y.min() >= 0
    assert got.y.max() < data.classes
    again = prepare(data, records=records, label_noise=share, seed=seed)
    np.testing.assert_array_equal(again.y, got.y)
    np.testing.assert_array_equal(again.x, got.x)
    if share == 0:
        np.testing.assert_array_equal(got.y, got.clean_y)


def test_redrawn_labels_are_uniform_over_all_classes() -> None:
    data = make_dataset("toy", np.zeros((40_000, 1), np.uint8), np.zeros(40_000, np.int64), 4)
    got = prepare(data, records=None, label_noise=0.5, seed=1)
    counts = np.bincount(got.y[got.y > 0], minlength=4)[1:]
    assert stats.chisquare(counts).pvalue > 1e-4
    assert stats.binomtest(int((got.y != 0).sum()), 20_000, 0.75).pvalue > 1e-4  # exactly 20,000 were redrawn
    np.testing.assert_array_equal(data.y, 0)  # the data set itself is untouched


def test_redrawing_leaves_the_draw_of_records_alone_and_seeds_change_it() -> None:
    data = dataset(500)
    plain = prepare(data, records=100, label_noise=0, seed=3)
    noisy = prepare(data, records=100, label_noise=0.5, seed=3)
    np.testing.assert_array_equal(plain.id, noisy.id)
    np.testing.assert_array_equal(plain.y, noisy.clean_y)
    assert (plain.id != prepare(data, records=100, label_noise=0, seed=4).id).any()
    assert prepare(data, records=None, label_noise=0).x is data.x


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(DataError, match=r"data\.label_noise: "):
        prepare(dataset(10), records=None, label_noise=share)
    with pytest.raises(DataError, match=r"train\.holdout: "):
        holdout(np.arange(10), share, 0)


@given(n=st.integers(2, 200), share=st.floats(0, 0.99), seed=st.integers(0, 2**32))
def test_the_held_out_part_and_the_rest_are_a_partition(n: int, share: float, seed: int) -> None:
    train = np.arange(n, dtype=np.int64) * 3 + 1
    if share and max(round(share * n), 1) >= n:
        with pytest.raises(DataError, match=r"train\.holdout: .*leaves none"):
            holdout(train, share, seed)
        return
    kept, held = holdout(train, share, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), train)
    assert len(held) == (max(round(share * n), 1) if share else 0)
    np.testing.assert_array_equal(holdout(train, share, seed)[1], held)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalisation_of_images_is_per_channel(dtype: type) -> None:
    x = np.random.default_rng(0).integers(256, size=(2500, 3, 4, 5)).astype(dtype)  # more than one block
    x[:, 1] = 17
    mean, std = normalisation(x)
    columns = x.transpose(0, 2, 3, 1).reshape(-1, 3)
    oracle = StandardScaler().fit(columns.astype(np.float64))
    np.testing.assert_allclose(mean, oracle.mean_, rtol=1e-6)
    np.testing.assert_allclose(std, oracle.scale_, rtol=1e-6)
    assert (mean.dtype, std.dtype, std[1]) == (np.float32, np.float32, 1)


def test_normalisation_of_tables_leaves_binary_features_alone() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(1000, 0.1, 99), rng.integers(2, size=99), np.full(99, 7), np.ones(99)], 1).astype("f4")
    mean, std = normalisation(x)
    oracle = StandardScaler().fit(x[:, :1].astype(np.float64))
    np.testing.assert_allclose([mean[0], std[0]], [oracle.mean_[0], oracle.scale_[0]], rtol=1e-6)
    np.testing.assert_array_equal(mean[1:], [0, 7, 0])
    np.testing.assert_array_equal(std[1:], [1, 1, 1])


@given(scale=st.sampled_from([1e-45, 1e-30, 1.0, 1e30, 3e38]), n=st.integers(1, 5))
def test_standardised_values_are_finite_at_any_scale(scale: float, n: int) -> None:
    x = (np.linspace(-1, 1, 2 * n).reshape(n, 2) * scale).astype(np.float32)
    mean, std = normalisation(x)
    assert np.isfinite((x.astype(np.float64) - mean) / std).all()
    assert (std > 0).all()


def test_normalisation_needs_records() -> None:
    with pytest.raises(DataError, match="at least one record"):
        normalisation(np.zeros((0, 3), np.float32))


def test_seeds_of_a_pair_train_on_complementary_halves_and_pairs_are_cut_anew() -> None:
    cuts = [random_halves(101, seed, population=0.2, data_seed=3) for seed in range(6)]
    for even, odd in zip(cuts[::2], cuts[1::2], strict=True):
        np.testing.assert_array_equal(even.inside, odd.outside)
        np.testing.assert_array_equal(even.outside, odd.inside)
        assert not np.isin(even.inside, even.outside).any()
        np.testing.assert_array_equal(even.population, cuts[0].population)
    firsts = [tuple(cut.inside) for cut in cuts]
    assert len(set(firsts)) == 6  # a pair's cut is its own
    assert tuple(random_halves(101, 0, population=0.2, data_seed=3).inside) == firsts[0]
    assert not np.array_equal(random_halves(101, 0, population=0.2, data_seed=4).population, cuts[0].population)


def test_the_cut_of_a_seed_never_changes() -> None:
    """Golden: keys hold the seed, not the cut, so another cut would be mixed with finished jobs unnoticed."""
    cut = random_halves(50, 5, population=0.2)
    assert cut.inside.tolist() == [8, 9, 10, 12, 14, 16, 18, 19, 20, 22, 23, 25, 26, 31, 33, 34, 43, 44, 46, 49]
    assert cut.population.tolist() == [6, 11, 30, 36, 40, 41, 42, 45, 47, 48]
