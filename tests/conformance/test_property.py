"""What every attack on a property must satisfy: a planted property is found, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lacewing.property import ATTACKS, Known, infer, measured


def poisoned(name: str) -> dict[str, int]:
    """What makes networks such as the attack is about."""
    return {"poison_label": 2, "records": 60} if ATTACKS[name].poisons else {}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_finds_a_planted_property(name: str, known: Callable[..., Known]) -> None:
    rng, how = np.random.default_rng(1), poisoned(name)
    first, second, attacked = known(12, 0, rng, **how), known(12, 2, rng, **how), known(20, 0, rng, **how)
    other = known(20, 2, rng, **how)
    for side, said in ((attacked, False), (other, True)):
        found = infer(name, first, second, side)
        assert found is not None
        assert ((found.score_M > 0) == said).mean() >= 0.9
    swapped = infer(name, second, first, other)
    assert swapped is not None
    assert (swapped.score_M <= 0).mean() >= 0.9


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_finds_what_is_not_there(name: str, known: Callable[..., Known]) -> None:
    rng, how = np.random.default_rng(2), poisoned(name)
    second, claims = np.arange(24) >= 12, 0
    for _ in range(200):
        found = infer(name, known(6, 0, rng, **how), known(6, 0, rng, **how), known(24, 0, rng, **how))
        assert found is not None
        claims += measured(found.score_M, second).binomial[0] > 0.5
    assert claims <= 18


@pytest.mark.parametrize("name", ATTACKS)
def test_only_snap_is_about_poisoned_networks(name: str, known: Callable[..., Known]) -> None:
    rng = np.random.default_rng(3)
    for label in (None, 2):
        sides = [known(4, 0, rng, poison_label=label) for _ in range(3)]
        assert (infer(name, *sides) is None) == ((label is not None) != (name == "snap"))
