"""Butterfly networks by density: keys of those by segments stay, perceptrons get chains, both at once is refused."""

from __future__ import annotations

import pytest
import torch

from lacewing.config import validated
from lacewing.errors import UsageError
from lacewing.methods.butterfly import Butterfly
from lacewing.models.mlp import mlp
from lacewing.sparsify import KSLinear


def test_a_density_replaces_every_layer_of_a_perceptron_but_the_last() -> None:
    spec = Butterfly(density=0.35)
    torch.manual_seed(0)
    dense = mlp(64, 10, (64, 64))
    model = spec.build(mlp(64, 10, (64, 64)))
    kinds = [type(layer) for layer in model if hasattr(layer, "bias")]
    assert kinds == [KSLinear, KSLinear, torch.nn.Linear]
    sizes = [sum(p.numel() for p in each.parameters()) for each in (model, dense)]
    assert 0.25 < sizes[0] / sizes[1] <= 0.35
    x = torch.randn(5, 64)
    torch.testing.assert_close(spec.export(model, dense)(x), model(x), rtol=1e-4, atol=1e-5)
    assert spec.default_name() == "butterfly-d35-l2"


def test_what_is_declared_by_segments_keeps_its_key() -> None:
    assert Butterfly().settings() == {"method": "butterfly", "segments": 3, "factors": 2, "columns": "channel-first"}
    assert "segments" not in Butterfly(density=0.35).settings()


def test_density_and_segments_are_refused_together() -> None:
    with pytest.raises(UsageError, match="density replaces every layer but the last"):
        validated(Butterfly, {"method": "butterfly", "density": 0.5, "segments": 2}, field="networks.0")
