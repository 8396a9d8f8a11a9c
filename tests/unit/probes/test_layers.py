"""What the gradient does in each layer, against autograd and under what may not change it."""

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.probes import layer_features


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


INPUTS, LABELS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2])


def test_each_column_is_that_of_autograd_for_each_record():
    model = _network()
    keep = torch.rand(7, 5, generator=torch.Generator().manual_seed(2)) < 0.5
    with torch.no_grad():
        model[0].weight *= keep
    found = layer_features(model, INPUTS, LABELS, masks={"0.weight": keep})
    assert found.shape == (6, 5)  # three columns of the masked weight, two of the other
    for record in range(6):
        loss = nn.functional.cross_entropy(model(INPUTS[record : record + 1]), LABELS[record : record + 1])
        first, second = torch.autograd.grad(loss, [model[0].weight, model[2].weight])
        weights = [model[layer].weight.detach() for layer in (0, 2)]
        wanted = [
            first[keep].norm().log(),
            first[~keep].norm().log(),
            nn.functional.cosine_similarity(first[keep], weights[0][keep], dim=0),
            second.norm().log(),
            nn.functional.cosine_similarity(second.flatten(), weights[1].flatten(), dim=0),
        ]
        np.testing.assert_allclose(found[record], [float(w) for w in wanted], rtol=1e-4, atol=1e-5)


def test_another_order_of_the_neurons_changes_nothing():
    model, turned = _network(), _network()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        turned[0].weight.copy_(model[0].weight[order])
        turned[0].bias.copy_(model[0].bias[order])
        turned[2].weight.copy_(model[2].weight[:, order])
    np.testing.assert_allclose(
        layer_features(turned, INPUTS, LABELS), layer_features(model, INPUTS, LABELS), rtol=1e-4, atol=1e-5
    )


def test_a_gradient_that_vanishes_gives_finite_numbers():
    model = _network()
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([200.0, 0.0, 0.0]))
    found = layer_features(model, INPUTS[:1], LABELS[:1])
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx(np.log(1e-20))
