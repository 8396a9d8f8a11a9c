"""Models, masks and schedules that several tests of pruning share."""

import functools
import math

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from lacewing.sparsify import (
    cubic,
    geometric,
)
from lacewing.sparsify.masks import prunable

SCOPES = ["global", "per-layer", "erk"]


@st.composite
def layers(draw):
    """A heap of layers that no one calls, some weights of which are equal, and some zero."""
    size = st.integers(1, 5)
    made = [
        lambda: nn.Linear(draw(size), draw(size)),
        lambda: nn.Linear(draw(size), draw(size), bias=False),
        lambda: nn.Conv2d(draw(size), draw(size), (draw(st.integers(1, 3)), 2)),
        lambda: nn.Conv1d(4, 6, 2, groups=2),
        lambda: nn.BatchNorm1d(draw(size)),
    ]
    model = nn.ModuleList([nn.Linear(3, 4), *(make() for make in draw(st.lists(st.sampled_from(made), max_size=3)))])
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).mul(draw(st.sampled_from([1, 100]))))
            if draw(st.booleans()):
                parameter.round_()
    return model


def random_masks(model, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: model.get_parameter(name).shape for name in prunable(model)}
    return {name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()}


def count_kept(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def same_masks(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


OPTIMISERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": functools.partial(torch.optim.RMSprop, lr=0.01, momentum=0.5),
    "adagrad": functools.partial(torch.optim.Adagrad, lr=0.05),
}


def trainable(kind, width, seed):
    torch.manual_seed(seed)
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 3))
    conv = nn.Conv2d(1, width, 3, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.Tanh(), nn.Flatten(), nn.Linear(4 * width, 3))


def one_step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, 1, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def fit_two_steps(optimiser, watch=None, epochs=2):
    """Epochs of two steps; from where the guard says, and as many again where the schedule stands at its end."""

    def fit(model, guard):
        optimizer = optimiser(model.parameters())
        guard.attach(optimizer)
        end = epochs if guard.epoch < epochs else guard.epoch + epochs
        while guard.epoch < end:
            for _ in range(guard.step - 2 * guard.epoch, 2):
                one_step(model, optimizer, guard.step)
                if watch:
                    watch(model, guard)
            guard.epoch_end()

    return fit


def weights_left(schedule, weights, other, level, levels):
    """Weights that are left, in closed form: 30 % a level, or to 40 % of all parameters."""
    if schedule == "fraction":
        for _ in range(level):
            weights -= math.floor(0.3 * weights)
        return weights
    last = 0.4 * (weights + other) - other
    if schedule == "geometric":
        return round(weights * (last / weights) ** (level / levels))
    return round(last + (weights - last) * (1 - level / levels) ** 3)


SCHEDULES = {
    "fraction": {"fraction": 0.3},
    "geometric": {"schedule": geometric(0.4)},
    "cubic": {"schedule": cubic(0.4)},
}
REWINDS = ["init", "epoch 1", "step 3", "epoch 1 resumed", "step 3 resumed", "learning-rate", "none"]
REWINDS += ["learning-rate epoch 1", "learning-rate step 3"]
