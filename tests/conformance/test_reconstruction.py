"""What every attack that rebuilds records must satisfy: planted records are found, and none where there are none.

Each row of `ROWS` says whether an attack finds something by the rule of `lacewing.reconstruct`. In a null the records
that are judged were never trained on, and the gate of stationarity is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing import reconstruction
from lacewing.auditing import _rebuild
from lacewing.reconstruction import beside, missing_record, similarity, softmax_regression

REPEATS, MOST = 200, 18
D, C, L2 = 100, 2, 0.1
Data = tuple[Any, Any]


def records(rng: np.random.Generator, n: int) -> Data:
    return rng.normal(size=(n, D)).astype(np.float32), np.arange(n) % C


def informed(seed: int, leak: bool) -> bool:
    """Softmax regression gives its records; without a leak the rebuilt ones stand beside fresh pairs of records."""
    rng = np.random.default_rng([seed, 711])
    (x, y), (fresh, _), (others, _) = (records(rng, 30) for _ in range(3))
    solved = softmax_regression(x, y, l2=L2, classes=C)
    scores = np.zeros((3, 2, len(x)))
    for i in range(len(x)):
        known = np.arange(len(x)) != i
        same = x[known][y[known] == y[i]]
        rebuilt = missing_record(solved, x[known], y[known], l2=L2).x_D
        pair = np.stack([(x if leak else fresh)[i], others[i]])
        for place, guess in enumerate((rebuilt[None], same, same.mean(axis=0)[None])):
            scores[place, :, i] = similarity(guess, pair)
    flat = scores.reshape(3, -1)
    return beside(flat[0], flat[1], flat[2], np.arange(flat.shape[1]) < len(x)).found


def stationarity(seed: int, leak: bool) -> bool:
    """A perceptron at a stationary point, attacked through `lacewing.reconstruct`."""
    rng = np.random.default_rng([seed, 712])
    members, trained_on, nonmembers = records(rng, 10), records(rng, 10), records(rng, 60)
    x, y = members if leak else trained_on
    torch.manual_seed(seed)
    sign = torch.from_numpy(2.0 * y - 1).float()
    options: dict[str, Any] = {"scale": 1e-3, "decay": 5e-3, "steps": 300 if leak else 60}
    network = reconstruction.train(nn.Linear(D, 24), torch.from_numpy(x), sign, seed=seed, **options)
    model = nn.Sequential(network.first, nn.ReLU(), nn.Linear(24, 2, bias=False))
    with torch.no_grad():
        model[2].weight.copy_(torch.stack([-network.second_H, network.second_H]) / 2**0.5)
    found = lw.reconstruct(
        model, members, nonmembers, attacks="stationarity", steps=400 if leak else 60, seed=seed, progress=False
    )
    return found.rows[0].judged.found


def inversion(seed: int, leak: bool) -> bool:
    """Linear models of five records of each class, which the picture of the class is made of; else of others."""
    rng = np.random.default_rng([seed, 713])
    members, trained_on, nonmembers = records(rng, 10), records(rng, 10), records(rng, 100)
    x, y = members if leak else trained_on
    model = nn.Sequential(nn.Linear(D, C))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = lw.reconstruct(model, members, nonmembers, attacks="inversion", seed=seed, progress=False)
    return found.rows[0].judged.found


SMALL: tuple[tuple[Any, str, Any], ...] = ((reconstruction, "GATE", np.inf), (_rebuild, "_INVERSION_STEPS", 60))
ROWS: dict[str, Callable[[int, bool], bool]] = {
    "reconstruction, informed": informed,
    "reconstruction, stationarity": stationarity,
    "reconstruction, class inversion": inversion,
}


@pytest.fixture(autouse=True)
def _opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_planted_records_are_found(name: str) -> None:
    assert ROWS[name](0, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_at_most_18_of_200_nulls_find_something(name: str) -> None:
    assert sum(ROWS[name](seed, False) for seed in range(REPEATS)) <= MOST
