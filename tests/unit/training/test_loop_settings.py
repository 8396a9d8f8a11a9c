"""Settings of torch that a loop of the user's own changes stay in the loop."""

import numpy as np
import pytest
import torch

from lacewing.config import Train
from lacewing.training.own_loop import train_by

LOOP = """
import torch


def fit(model, x, y, *, guard, seed, on_epoch, epochs, batch_size, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    guard.attach(optimizer)
    for epoch in range(epochs):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if epoch == epochs - 1:
            {change}
        on_epoch(1.0, 0.5)
"""
CHANGES = {
    "dtype": "torch.set_default_dtype(torch.float64)",
    "device": "torch.set_default_device('meta')",
    "gradients": "torch.set_grad_enabled(False)",
    "deterministic": "torch.use_deterministic_algorithms(True, warn_only=True)",
    "threads": "torch.set_num_threads(2)",
}


def _settings():
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
    return torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), modes


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_settings_reach_neither_on_epoch_nor_what_comes_after(tmp_path, monkeypatch, change):
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"their_settings_{change}.py").write_text(LOOP.format(change=CHANGES[change]))
    config = Train(epochs=2, batch_size=8, lr=0.1, precision="fp32", fit=f"their_settings_{change}:fit")
    x, y = np.random.default_rng(0).random((8, 6), np.float32), np.arange(8) % 3
    model, before, seen = torch.nn.Linear(6, 3), _settings(), []
    try:
        train_by(
            model,
            x,
            y,
            config,
            normalisation=(np.zeros(6, np.float32), np.ones(6, np.float32)),
            seed=0,
            on_epoch=lambda _: seen.append(_settings()),
        )
        assert _settings() == before
        assert seen == [before] * 2
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)
