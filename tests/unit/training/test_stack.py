"""A stack of perceptrons: what a loop over them gives, exact zeros, and bytes that neighbours do not change."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.config import Train
from lacewing.errors import UsageError
from lacewing.models.mlp import mlp
from lacewing.sparsify.guard import Guard
from lacewing.training.loop import train
from lacewing.training.stack import train_stack

N, D, K = 90, 12, 4
CONFIG = Train(epochs=4, batch_size=16, lr=0.1, precision="fp32")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _records():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D)).astype(np.float32)
    members = np.stack([rng.permutation(N)[:50] for _ in range(K)])  # 3 batches of 16, and one of 2
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1), members, (x.mean(0), x.std(0))


def _models(count=K, hidden=(8, 5)):
    models = []
    for k in range(count):
        torch.manual_seed(k)
        models.append(mlp(D, 3, hidden))
    return models


def _masks(models):
    generator = torch.Generator().manual_seed(1)
    names = [name for name, p in models[0].named_parameters() if p.ndim == 2]
    shapes = {name: models[0].get_parameter(name).shape for name in names}
    return [{n: torch.rand(shapes[n], generator=generator) < 0.4 for n in names[: k + 1]} for k in range(len(models))]


def _stack(models, config=CONFIG, **options):
    x, y, members, normalisation = _records()
    k = len(models)
    options = {"seeds": range(k), **options}
    return train_stack(models, x, y, members[:k], config, normalisation=normalisation, **options)


def _bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("changes", [{}, {"schedule": "step", "weight_decay": 0.01}, {"momentum": 0.0}])
def test_each_network_becomes_what_it_would_alone(pruned, changes):
    config = CONFIG.model_copy(update=changes)
    x, y, members, normalisation = _records()
    together, alone = _models(), _models()
    masks = _masks(together) if pruned else [{} for _ in together]
    found = _stack(together, config, masks=masks)
    for k, model in enumerate(alone):
        guard = Guard(model, "none", masks=masks[k])
        wanted = train(model, x[members[k]], y[members[k]], config, normalisation=normalisation, seed=k, guard=guard)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(together[k].state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(found[k].curve, wanted.curve, strict=True):
            assert (mine.epoch, mine.lr) == (theirs.epoch, theirs.lr)
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
            assert mine.accuracy == pytest.approx(theirs.accuracy, abs=0.021)  # a record of 50 at a tie
        for name, tensor in wanted.optimizer.get("momentum_buffer", {}).items():
            torch.testing.assert_close(found[k].optimizer["momentum_buffer"][name], tensor, rtol=1e-3, atol=1e-5)


def test_pruned_weights_and_their_momentum_are_exactly_zero_at_every_epoch():
    models = _models()
    masks = _masks(models)

    def check(states):
        for state, mask in zip(states, masks, strict=True):
            for name, kept in mask.items():
                assert not state.model[name][~kept].any()
                assert not state.optimizer["momentum_buffer"][name][~kept].any()
                assert state.model[name][kept].all()

    _stack(models, masks=masks, on_epoch=check)


def test_a_broken_off_stack_ends_in_the_same_bits():
    whole, again = _models(), _models()
    masks = _masks(whole)
    _stack(whole, masks=masks)
    half = copy.deepcopy(_stack(again, masks=masks, stop_after=2))
    with torch.no_grad():
        for model in again:
            for parameter in model.parameters():
                parameter.add_(1.0)  # what is in memory is lost
    _stack(again, masks=masks, progress=half)
    assert all(_same(_bits(a), _bits(b)) for a, b in zip(whole, again, strict=True))


def test_neighbours_change_no_bit_of_a_network():
    whole, other = _models(), _models()
    with torch.no_grad():
        for parameter in other[2].parameters():
            parameter.fill_(torch.nan)
    _stack(whole)
    found = _stack(other, masks=[{}, {}, {}, _masks(other)[3]])
    assert all(_same(_bits(whole[k]), _bits(other[k])) for k in (0, 1))
    assert np.isnan(found[2].curve[-1].loss)
    assert np.isfinite(found[1].curve[-1].loss)


@pytest.mark.parametrize(
    ("models", "changes", "said"),
    [
        ([nn.Sequential(nn.Flatten(), nn.Linear(D, 3), nn.BatchNorm1d(3))], {}, "train.stack is for perceptrons"),
        ([nn.Linear(D, 3)], {}, "train.stack is for perceptrons"),
        ([mlp(D, 3, (8,)), mlp(D, 3, (9,))], {}, "different shapes"),
        ([mlp(D, 3)], {"precision": "bf16"}, 'train.precision = "fp32"'),
        ([mlp(D, 3)], {"augment": ("flip",)}, "no train.augment"),
    ],
)
def test_what_does_not_stack_is_told(models, changes, said):
    with pytest.raises(UsageError, match=said):
        _stack(models, CONFIG.model_copy(update=changes))
