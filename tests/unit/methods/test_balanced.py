"""Pair-based posterior balancing: the authors' loss, and training with it, single, in stacks and after a break."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lacewing.config import Train
from lacewing.methods import Balanced, Imp
from lacewing.models.mlp import mlp
from lacewing.sparsify import Guard
from lacewing.training.loop import train
from lacewing.training.stack import train_stack

N, D, K, CLASSES = 61, 10, 3, 4
CONFIG = Train(epochs=3, batch_size=12, lr=0.1, precision="fp32")  # the last batch has one record


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _method(**fields):
    return Balanced(levels=2, **fields)


def _models():
    models = []
    for k in range(K):
        torch.manual_seed(k)
        models.append(mlp(D, CLASSES, (9,)))
    return models


def _records():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D)).astype(np.float32)
    return x, rng.integers(0, CLASSES, N), (x.mean(0), x.std(0))


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_the_penalty_is_torchs_divergence_of_sorted_probabilities(count):
    """`train_defend_ppb` of the authors' code: kl_div of the first half's log probabilities from the second's."""
    logits = torch.randn(2, count, CLASSES, generator=torch.Generator().manual_seed(count), requires_grad=True)
    found = _method(balance=3.0).trainer(CONFIG, N).penalty(logits)
    half = count // 2
    for own, each in zip(logits, found, strict=True):
        ranked = own.topk(CLASSES, dim=-1).values
        first, second = ranked[:half].log_softmax(-1), ranked[half : 2 * half].softmax(-1)
        wanted = 3 * F.kl_div(first, second, reduction="batchmean") if half else torch.zeros(())
        torch.testing.assert_close(each, wanted, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert bool(gradient.any()) == (half > 0)
    assert torch.isfinite(gradient).all()


def test_each_network_of_a_stack_becomes_what_it_would_alone_with_zeros_and_the_same_bits_after_a_break():
    x, y, normalisation = _records()
    trainer = _method(balance=2.0).trainer(CONFIG, N)
    generator = torch.Generator().manual_seed(1)
    masks = [{"1.weight": torch.rand(9, D, generator=generator) < 0.5} for _ in range(K)]
    members = np.tile(np.arange(N), (K, 1))
    together, again, alone, plain = (_models() for _ in range(4))

    def stacked(models, **options):
        options = {"normalisation": normalisation, "seeds": range(K), "masks": masks, "trainer": trainer, **options}
        return train_stack(models, x, y, members, CONFIG, **options)

    def single(k, model, **options):
        guard = Guard(model, "none", masks=masks[k])
        return train(model, x, y, CONFIG, normalisation=normalisation, seed=k, guard=guard, **options)

    stacked(together)
    stacked(again, progress=copy.deepcopy(stacked(again, stop_after=1)))
    for k, model in enumerate(alone):
        half = copy.deepcopy(single(k, model, trainer=trainer, stop_after=2))
        single(k, model, trainer=trainer, progress=half)
        single(k, plain[k])
        assert not model.get_parameter("1.weight")[~masks[k]["1.weight"]].any()
        for name, tensor in together[k].state_dict().items():
            assert torch.equal(again[k].state_dict()[name], tensor)
            torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(plain[k][1].weight, model[1].weight, atol=1e-4)


def test_a_strong_balance_makes_sorted_confidences_alike():
    """What the defence is for: the same confidence whatever the record."""

    def spread(balance):
        model = _models()[0]
        x, y, normalisation = _records()
        config = CONFIG.model_copy(update={"epochs": 60, "batch_size": 61, "weight_decay": 0.0})
        trainer = _method(balance=balance).trainer(config, N)
        train(model, x, y, config, normalisation=normalisation, seed=0, trainer=trainer)
        standard = torch.from_numpy((x - normalisation[0]) / normalisation[1])
        with torch.no_grad():
            return float(model(standard).softmax(1).max(1).values.std())

    assert spread(30.0) < 0.5 * spread(1e-6)


def test_its_keys_are_its_own_and_its_dense_network_is_that_of_imp():
    ours, other, imp = (list(m.steps(CONFIG)) for m in (_method(), _method(balance=8.0), Imp(levels=2)))
    assert ours[0].key == imp[0].key
    keys = [str(dict(step.key)) for steps in (ours, other, imp) for step in steps[1:]]
    assert len(set(keys)) == 6
    assert [step.network for step in ours] == ["balanced-00", "balanced-01", "balanced-02"]
