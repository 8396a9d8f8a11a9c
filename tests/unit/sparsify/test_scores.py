"""Scores of weights: magnitude, gradient, random, user functions, and what cannot be ranked."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_cases import SCOPES, count_kept, layers, random_masks, same_masks
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    gradient,
    n_of_m,
    prune,
    random,
)
from lacewing.sparsify.masks import prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


BAD_SCORES = {
    "no score": (lambda model, names: {}, r"must return a score of shape \(4, 5\) for 'weight'"),
    "shape": (lambda model, names: {"weight": torch.ones(5, 4)}, r"must return a score of shape \(4, 5\) for 'weight'"),
    "one number": (lambda model, names: {"weight": torch.ones(())}, r"must return a score of shape \(4, 5\)"),
    "nan": (lambda model, names: {"weight": torch.full((4, 5), math.nan)}, "the scores of 'weight' hold NaN or inf"),
    "infinite": (lambda model, names: {"weight": torch.full((4, 5), -math.inf)}, "the scores of 'weight' hold NaN or"),
}


@pytest.mark.parametrize("kind", BAD_SCORES)
@pytest.mark.parametrize("pruning", [lambda m, s: prune(m, keep=3, score=s), lambda m, s: n_of_m(m, 1, 5, score=s)])
def test_scores_that_cannot_be_ranked_are_refused(kind, pruning):
    score, said = BAD_SCORES[kind]
    with pytest.raises(UsageError, match=said):
        pruning(nn.Linear(5, 4), score)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scope", SCOPES)
def test_weights_that_diverged_are_refused_by_name(value, scope):
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    nn.init.constant_(model[1].weight[1:2, 1:2].detach(), value)
    with pytest.raises(UsageError, match=r"^weight '1\.weight' holds NaN or infinity, so its magnitudes cannot be"):
        prune(model, keep=3, scope=scope)


def test_a_score_function_of_ones_own_decides():
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(2, 3)])
    seen = []

    def last_first(model, names):
        seen.append(list(names))
        return {
            name: torch.arange(model.get_parameter(name).numel()).view_as(model.get_parameter(name)) for name in names
        }

    masks = prune(model, keep=4, score=last_first, ignore=["1"])
    assert seen == [["0.weight"]]
    assert masks["0.weight"].flatten().nonzero().flatten().tolist() == [8, 9, 10, 11]


def test_scores_of_true_and_false_are_ranked():
    model = nn.Linear(5, 4)
    masks = prune(model, keep=1, score=lambda model, names: {"weight": torch.eye(4, 5).bool()})
    assert masks["weight"].nonzero().tolist() == [[3, 3]]


def test_scores_that_can_be_differentiated_are_ranked_as_the_same_numbers():
    model = nn.Sequential(nn.Linear(5, 4))
    found = prune(model, keep=7, score=lambda model, names: {name: model.get_parameter(name) ** 2 for name in names})
    assert torch.equal(found["0.weight"], prune(model, keep=7)["0.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_ranked(dtype):
    torch.manual_seed(0)
    model = nn.Linear(5, 4, dtype=dtype)
    masks = prune(model, keep=7)
    values = model.weight.detach().abs().double()
    assert values[masks["weight"]].min() >= values[~masks["weight"]].max()
    assert count_kept(masks) == 7


def _image_network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3), nn.Linear(2, 2)
    )


def _image_loss(model):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 1, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)
    return F.cross_entropy(model[:5](x), y)


@pytest.mark.parametrize("mode", [True, False])
def test_gradient_scores_weights_by_gradient_times_weight_and_leaves_no_trace(mode):
    model = _image_network().train(mode)
    before = copy.deepcopy(model)
    with torch.no_grad():
        scores = gradient(_image_loss)(model, prunable(model))
    _image_loss(before).backward()
    for name in ("0.weight", "4.weight"):
        weight = before.get_parameter(name)
        torch.testing.assert_close(scores[name], (weight.grad * weight).detach().abs())
        assert not scores[name].requires_grad
    assert not scores["5.weight"].any()  # the loss does not depend on it
    assert same_masks(model.state_dict(), _image_network().state_dict())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training == mode


def test_gradient_scores_approximate_what_the_loss_loses():
    """Tiny weights: to first order, the loss without one of them differs by its score."""
    model = _image_network().eval().double()
    with torch.no_grad():
        model[4].weight.mul_(1e-4)

    def loss(model):
        return F.cross_entropy(model[:5](torch.ones(3, 1, 4, 4).double().cumsum(3)), torch.arange(3))

    scores = gradient(loss)(model, ["4.weight"])["4.weight"]
    whole = loss(model).item()
    for place in [(0, 1), (2, 9), (1, 15)]:
        without = copy.deepcopy(model)
        with torch.no_grad():
            without[4].weight[place] = 0
        assert abs(loss(without).item() - whole) == pytest.approx(scores[place].item(), rel=0.01)


def test_gradient_refuses_a_frozen_weight_by_name():
    model = _image_network()
    model[4].weight.requires_grad_(False)
    with pytest.raises(UsageError, match=r"'4\.weight' is frozen and has no gradient to score it by"):
        prune(model, keep=5, score=gradient(_image_loss))
    assert count_kept(prune(model, keep=5, score=gradient(_image_loss), ignore=["4"])) == 5


def test_gradient_puts_buffers_back_when_the_loss_fails():
    model = _image_network()

    def loss(model):
        _image_loss(model)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradient(loss)(model, prunable(model))
    assert model[1].num_batches_tracked == 0


@settings(max_examples=20, deadline=None)
@given(layers(), st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_random_scores_come_from_the_seed_alone(model, seed, share):
    keep = round(share * count_kept(random_masks(model, 2)))
    state = torch.get_rng_state()
    masks = prune(model, {}, keep=keep, score=random(seed))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert same_masks(masks, prune(model, {}, keep=keep, score=random(seed)))


def test_random_scores_of_another_seed_differ_and_favour_no_place():
    model = nn.Linear(10, 10, bias=False)
    kept = torch.stack([prune(model, keep=50, score=random(seed))["weight"] for seed in range(200)]).double()
    assert len({tuple(mask.flatten().tolist()) for mask in kept}) == 200
    assert abs(kept.mean(0) - 0.5).max() < 5 * 0.5 / math.sqrt(200)  # 5 standard deviations
