"""Networks and masks that the tests of the guard share."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from lacewing.sparsify.masks import prunable


@st.composite
def networks(draw):
    """A small network on (n, 1, 4, 4) with three classes."""
    torch.manual_seed(draw(st.integers(0, 999)))
    width = draw(st.integers(1, 5))
    if draw(st.booleans()):
        norm = draw(st.booleans())
        hidden = [nn.Linear(16, width, bias=not norm), nn.BatchNorm1d(width) if norm else nn.Tanh()]
        if draw(st.booleans()):
            hidden += [nn.Linear(width, width), nn.Tanh()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 3))
    kernel = draw(st.integers(1, 3))
    conv = nn.Conv2d(1, width, kernel, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.Tanh(), nn.Flatten(), nn.Linear(width * (5 - kernel) ** 2, 3))


def small_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))


def random_masks(model, density=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: model.get_parameter(name).shape for name in prunable(model)}
    return {name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()}


def make_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)


def loss_of(model, seed=0):
    x, y = make_batch(seed)
    return F.cross_entropy(model(x), y)


def one_step(model, optimizer, seed=0):
    optimizer.zero_grad()
    loss_of(model, seed).backward()
    optimizer.step()


def state_bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def held_tensors(model, optimizer, name):
    """Weight, gradient, and all that the optimiser holds of the weight's shape."""
    weight = model.get_parameter(name)
    tensors = [weight.detach(), weight.grad, *optimizer.state.get(weight, {}).values()]
    return [t for t in tensors if isinstance(t, torch.Tensor) and t.shape == weight.shape]


def all_zero(model, optimizer, masks):
    return all(
        not tensor[~mask].any() for name, mask in masks.items() for tensor in held_tensors(model, optimizer, name)
    )


def make_sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)
