"""Means over columns and seeds against closed forms, and guesses where records of the source lack a class."""

import csv
import io

import numpy as np
import pytest
from scipy import stats

from lacewing.attribute import Answers, SeedRow, as_csv, guesses, rows, summarised, values_of
from lacewing.attribute import _guess as guess_module
from lacewing.errors import UsageError

R = np.random.default_rng(0)


def row(seed, column, surplus, init=0, network="dense", attack="csmia"):
    return SeedRow(
        network, "dense", "dense", "dense", 1.0, seed, init, column, 2, attack, 100, 90, 0.6, 0.5, 0.4, 0.45, surplus,
        surplus - 0.1, surplus + 0.1, 0.8,
    )  # fmt: skip


def test_the_interval_is_students_over_the_means_of_seeds():
    surplus = R.normal(0.1, 0.05, size=(5, 3, 2))
    given = [row(s, str(c), surplus[s, c, i], init=i) for s in range(5) for c in range(3) for i in range(2)]
    given += [row(0, "0", 0.9, network="other"), row(1, "0", 0.7, network="other")]
    found, other = summarised(given, halves=False)
    means = surplus.mean(axis=(1, 2))
    wanted = stats.t.interval(0.95, 4, loc=means.mean(), scale=stats.sem(means))
    assert (found.low, found.high) == pytest.approx(wanted)
    assert (found.surplus, found.columns, found.seeds, found.units) == (pytest.approx(means.mean()), 3, 5, 5)
    assert (other.low, other.high, other.found) == (None, None, False)  # two seeds tell no interval
    assert other.surplus == pytest.approx(0.8)


@pytest.mark.parametrize(("seeds", "halves"), [(3, False), (6, True)])
def test_seeds_that_do_not_differ_have_the_interval_over_records(seeds, halves):
    (found,) = summarised([row(s, c, 0.02) for s in range(seeds) for c in "01"], halves=halves)
    assert (found.low, found.high) == pytest.approx((-0.08, 0.12))
    assert found.alike
    assert not found.found
    (sure,) = summarised([row(s, "0", 0.2) for s in range(seeds)], halves=halves)
    assert sure.found


def test_complementary_halves_count_once():
    surplus = R.normal(size=6)
    (found,) = summarised([row(s, "0", surplus[s]) for s in range(6)], halves=True)
    cuts = surplus.reshape(3, 2).mean(axis=1)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, loc=cuts.mean(), scale=stats.sem(cuts)))
    assert (found.seeds, found.units) == (6, 3)


def test_every_row_is_written_as_it_is():
    given = [row(0, "3", 0.1), row(1, "7+8", -0.2)]
    read = list(csv.DictReader(io.StringIO(as_csv(given))))
    assert [(each["column"], float(each["surplus"]), each["seed"]) for each in read] == [
        ("3", 0.1, "0"),
        ("7+8", -0.2, "1"),
    ]


def test_values_are_those_that_columns_take_together():
    x = np.array([[0, 1, 5], [1, 0, 6], [0, 1, 7], [0, 0, 8]])
    values, code = values_of(x, [0, 1], "columns 0, 1")
    np.testing.assert_array_equal(values[code], x[:, :2])
    assert len(values) == 3
    with pytest.raises(UsageError, match="column 1 has one value in all records"):
        values_of(x[:1], [1], "column 1")
    with pytest.raises(UsageError, match="column 2 has 21 values"):
        values_of(np.arange(42).reshape(21, 2), [1], "column 2")


def test_a_class_that_the_others_lack_is_no_fault(monkeypatch):
    monkeypatch.setattr(guess_module, "TREES", 5)
    x, value = R.normal(size=(60, 3)), R.integers(2, size=60)
    x[:, 0] = value
    label = R.integers(3, size=60)
    known = label[:30] % 2  # no record of class 2
    parts = rows(x[30:], label[30:], value[30:], [0]), rows(x[:30], known, value[:30], [0])
    right = np.ones((30, 2), bool)
    odds = np.where(np.arange(2) == value[30:, None], 5.0, -5.0)
    found = guesses(Answers(odds, odds, right), *parts, 2, seed=0)
    assert (found.by_attack["csmia"] == value[30:]).all()
    assert (found.by_attack["likeliest"] == value[30:]).mean() > 0.9
    assert parts[0].other_NF.shape == (30, 2)
