"""What of the records themselves is told: copies, constant features, rare classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lacewing.data import across, duplicate_groups, facts, signs, told
from lacewing.errors import DataError


def _table(n: int = 200, columns: int = 5) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, columns)).astype("f4"), np.arange(n) % 4


def test_records_without_a_peculiarity_have_no_signs() -> None:
    found = facts(*_table(), 4, "toy")
    assert (found.copies, found.constant, found.rare) == (0, 0, 0)
    assert signs(found) == []
    assert told(found) == ["exact copies: none"]


def test_copies_are_counted_as_brute_force_counts_them() -> None:
    x, y = _table()
    x = np.round(x[:, :2])
    counts = Counter(map(tuple, x.tolist()))
    wanted = sum(count for count in counts.values() if count > 1)
    found = facts(x, y, 4, "toy")
    assert 0 < wanted < 200
    assert found.copies == wanted

    inside, outside = np.arange(0, 90), np.arange(100, 180)
    codes = duplicate_groups(x)
    brute = sum(any((x[i] == x[j]).all() for j in outside) for i in inside)
    brute += sum(any((x[i] == x[j]).all() for j in inside) for i in outside)
    assert across(codes, inside, outside) == brute > 0

    said = signs(replace(found, across=[brute, brute + 3]))[0]
    assert f"{wanted} of 200 records have the same x" in said
    assert f"and {brute} to {brute + 3} of those" in said
    assert '"duplicates" keeps' in said
    assert signs(found, ("duplicates",)) == []


def test_constant_columns_and_channels_are_named() -> None:
    x, y = _table(columns=20)
    x[:, [3, 17]] = [1.5, 0]
    x[-1, 5], x[:-1, 5] = 1, 0  # not constant: one record differs
    (said,) = signs(facts(x, y, 4, "toy"))
    assert said.startswith(
        "Constant features: 2 of 20 columns of x hold one value in all records (columns 3, 17), which"
    )
    x[:, :15] = 0
    (said,) = signs(facts(x, y, 4, "toy"))
    assert "16 of 20 columns" in said
    assert "(columns 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 6 more)" in said
    images = np.random.default_rng(0).integers(256, size=(40, 3, 2, 2)).astype(np.uint8)
    images[:, 1] = 7
    images[:, 0, 0, 0] = 7  # one pixel, as borders are
    (said,) = signs(facts(images, y[:40], 4, "toy"))
    assert said.startswith("Constant features: 1 of 3 channels of x hold one value in all records (channel 1), which")


def test_rare_classes_are_named_with_their_records() -> None:
    x, y = _table()
    y = np.where(np.arange(200) < 9, 1, 3)
    (said,) = signs(facts(x, y, 4, "toy"))
    assert "3 of 4 classes have fewer than 10 records (class 0: 0, class 1: 9, class 2: 0)" in said


def test_records_from_which_nothing_can_be_learned_are_refused() -> None:
    x, y = _table()
    with pytest.raises(DataError, match="toy: all 200 records are of class 2, and at least 2 classes are needed"):
        facts(x, np.full(200, 2), 4, "toy")
    with pytest.raises(DataError, match="toy: all 200 records have the same x"):
        facts(np.ones_like(x), y, 4, "toy")
