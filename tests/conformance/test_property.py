"""What every attack on a property must satisfy: a planted property is found, and nothing where there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lacewing as lw
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


def half_pruned(x: Any, y: Any, seed: int) -> Any:
    """Least squares on a bootstrap of the records; the smaller half of the weights is pruned."""
    import torch

    rows = np.random.default_rng(seed).integers(0, len(x), len(x))
    inputs = np.column_stack([np.asarray(x, np.float64)[rows], np.ones(len(rows))])
    gram = inputs.T @ inputs + 0.1 * np.eye(inputs.shape[1])
    weights = 4 * np.linalg.solve(gram, inputs.T @ np.eye(3)[np.asarray(y)[rows]])
    kept = np.abs(weights[:-1]) >= np.median(np.abs(weights[:-1]))
    model = torch.nn.Linear(inputs.shape[1] - 1, 3)
    with torch.no_grad():
        model.weight[:] = torch.from_numpy((weights[:-1] * kept).T)
        model.bias[:] = torch.from_numpy(weights[-1])
    return model


def nulls(repeats: int) -> Counter[str]:
    """How often each attack finds a property of records that no network sees, of networks with poison and without."""
    found: Counter[str] = Counter()
    for repeat in range(repeats):
        rng = np.random.default_rng([5, repeat])
        x = rng.normal(size=(400, 6)).astype(np.float32)
        y = (x[:, 0] + rng.normal(size=400) > 0).astype(int) + (x[:, 1] > 1)
        unseen = rng.random(400) < 0.4
        worlds = lw.Worlds((x, y), unseen, (0.2, 0.6), 60, poison=0.1, poison_label=2)
        audit = lw.audit_property(half_pruned, worlds, networks=16, seed=repeat, progress=False, processes=1)
        found.update({row.attack: int(row.found) for row in audit.rows})
    return found


@pytest.mark.slow
def test_no_attack_finds_a_property_that_no_network_sees() -> None:
    found = nulls(200)
    assert found.keys() == ATTACKS.keys()
    assert max(found.values()) <= 18
