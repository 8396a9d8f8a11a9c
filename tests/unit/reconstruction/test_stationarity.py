"""Reconstruction from stationarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.errors import UsageError
from lacewing.reconstruction import GATE, Network, reconstruct, residual, row_space, similarity, train

N, D, H = 4, 12, 24


def task(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(N, D, generator=draw), torch.tensor([1.0, -1.0, 1.0, -1.0])


def network(*, decay: float = 0.0, scale: float = 1e-3, steps: int = 3000) -> Network:
    torch.manual_seed(1)
    return train(nn.Linear(D, H), *task(), seed=0, scale=scale, decay=decay, steps=steps)


def test_the_gate_tells_stationary_networks_from_others() -> None:
    x, sign = task()
    decayed, multipliers = residual(network(decay=5e-3, steps=400), x, sign)
    assert decayed < 0.02  # the gradient of loss and penalty is zero there, whatever the initialisation
    assert (multipliers > 0).all()
    others, _ = residual(network(decay=5e-3, steps=400), *task(seed=9))
    assert others > 0.3
    torch.manual_seed(1)
    untrained = Network(nn.Linear(D, H), torch.randn(H))
    assert residual(untrained, x, sign)[0] > GATE


def test_the_multipliers_of_decay_are_the_derivatives_of_the_loss() -> None:
    x, sign = task()
    net = network(decay=5e-3, steps=400)
    _, multipliers = residual(net, x, sign)
    with torch.no_grad():
        margin = sign * (torch.relu(net.first(x)) @ net.second_H)
    np.testing.assert_allclose(multipliers, torch.sigmoid(-margin).numpy() / N / 5e-3, rtol=0.1)


def test_masks_hold_and_are_left_out_of_the_residual() -> None:
    kept = (torch.rand(H, D, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    torch.manual_seed(1)
    net = train(nn.Linear(D, H), *task(), seed=0, scale=1e-3, decay=5e-3, kept=kept, steps=400)
    assert not net.first.weight[kept == 0].any()
    assert residual(net, *task())[0] < 0.03


@pytest.mark.slow
def test_records_are_found_in_the_row_space_and_others_are_not() -> None:
    x, _ = task()
    net = network(decay=5e-3, steps=400)
    rebuilt, left = reconstruct(net, candidates=2 * N, dimension=D, steps=1500, seed=0, rows_RD=row_space(net, N))
    assert left < 0.05
    found = similarity(rebuilt.double().numpy(), x.double().numpy())
    others = similarity(rebuilt.double().numpy(), np.random.default_rng(0).normal(size=(40, D)))
    assert found.max() > 0.8
    assert np.median(found) > np.quantile(others, 0.9)
    assert found.min() > np.median(others)


def test_similarity_is_the_largest_cosine_and_odd_numbers_of_candidates_are_refused() -> None:
    found = similarity(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [0.5**0.5, 0.0, 0.0], atol=1e-12)
    with pytest.raises(UsageError, match="even number"):
        reconstruct(network(steps=1), candidates=3, dimension=D, steps=1, seed=0)
