"""Pools and training sets of given shares of a property."""

from __future__ import annotations

import numpy as np
import pytest

from lacewing import data
from lacewing.errors import UsageError


def records(n: int = 400, classes: int = 4) -> data.Records:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (n, 6)).astype(np.float32), rng.integers(0, classes, n)
    x[:, 5] = rng.normal(size=n)
    return data.prepare(data.make_dataset("some", x, y, classes), records=None, label_noise=0.0)


def pools_of(known: data.Records, kind: str, number: int, seed: int, asked: float = 0.2) -> data.Pools:
    has = None if kind == "redrawn" else data.having(known.x, known.y, known.classes, kind, number)
    return data.pools(has, len(known), seed, asked=asked)


@pytest.mark.parametrize(("kind", "number"), [("class", 2), ("feature", 1), ("feature", 5), ("redrawn", 0)])
def test_worlds_have_their_share_and_keep_to_their_pool(kind: str, number: int) -> None:
    known = records()
    pools = pools_of(known, kind, number, 3)
    n = len(known)
    parts = [set((part % n).tolist()) for part in (pools.attacker, pools.attacked, pools.asked)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert len(parts[2]) == pytest.approx(0.2 * n, abs=2)
    if kind == "class":
        assert (pools.has_N == (known.y == number)).all()
    drawn = []
    for role in data.ROLES:
        for share in (0.1, 0.3):
            members = data.world(pools, role, share, 50, 3, 0)
            assert len(set((members % n).tolist())) == 50
            assert pools.has_N[members].sum() == round(share * 50)
            assert set((members % n).tolist()) <= set(pools.of(role).tolist())
            assert (members == data.world(pools, role, share, 50, 3, 0)).all()
            drawn.append(members.tolist())
    drawn += [data.world(pools, "target", 0.1, 50, 3, number).tolist() for number in (1, 2)]
    assert len({tuple(each) for each in drawn}) == len(drawn)


def test_redrawn_labels_are_wrong_and_of_the_same_records() -> None:
    known = records()
    twice, n = data.doubled(known, 0), len(known)
    assert pools_of(known, "redrawn", 0, 0).twin == n
    assert (twice.x[:n] == twice.x[n:]).all()
    assert (twice.y[:n] == known.y).all()
    assert (twice.y[n:] != known.y).all()
    assert set(twice.y[n:]) == set(range(4))
    assert (data.doubled(known, 1).y[n:] != twice.y[n:]).any()
    with pytest.raises(UsageError, match="one class"):
        data.redrawn(np.zeros(9, np.int64), 1, 0)


@pytest.mark.parametrize(
    ("kind", "number", "message"),
    [
        ("class", 4, "no class 4; the classes are 0 to 3"),
        ("feature", 6, "no feature 6; the features are 0 to 5"),
        ("feature", 0, "every record has it"),
        ("feature", 2, "no record has it"),
    ],
)
def test_a_property_that_no_world_can_have_is_refused(kind: str, number: int, message: str) -> None:
    known = records()
    known.x[:, 0], known.x[:, 2] = 1, 0
    with pytest.raises(UsageError, match=message):
        pools_of(known, kind, number, 0)


def test_shares_that_the_pool_cannot_make_are_refused() -> None:
    pools = pools_of(records(), "class", 1, 0)
    with pytest.raises(UsageError, match=r"a world of 0\.9 needs 90 records with the property"):
        data.world(pools, "target", 0.9, 100, 0, 0)
    with pytest.raises(UsageError, match=r"needs 150 records without the property"):
        data.world(pools, "shadow", 0.0, 150, 0, 0)
    redrawn = pools_of(records(), "redrawn", 0, 0)
    with pytest.raises(UsageError, match="a pool of this data set has 160"):
        data.world(redrawn, "target", 0.5, 161, 0, 0)
    with pytest.raises(UsageError, match=r"property.asked = 0.001"):
        pools_of(records(), "class", 1, 0, asked=0.001)
