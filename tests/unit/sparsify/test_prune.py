"""Pruning against an oracle in numpy: exact counts in each scope, densities, refusals."""

import copy
import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pruning_cases import SCOPES, count_kept, layers, random_masks, same_masks
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    magnitude,
    prune,
    random,
    summary,
)
from lacewing.sparsify._prune import apportion
from lacewing.sparsify.masks import prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _best(scores, alive, keep):
    """By a stable sort in numpy: of equal scores, the first in order of layer and position goes first."""
    flat = np.concatenate([s.ravel() for s in scores])
    left = np.concatenate([a.ravel() for a in alive])
    places = np.flatnonzero(left)
    goes = places[np.argsort(flat[places], kind="stable")[: len(places) - keep]]
    left[goes] = False
    pieces = np.split(left, np.cumsum([s.size for s in scores])[:-1])
    return [piece.reshape(s.shape) for piece, s in zip(pieces, scores, strict=True)]


def _quotas(total, shares, caps):
    """Every choice of layers that stand at their caps, until one fits: the others in proportion, exactly."""
    for capped in itertools.product([False, True], repeat=len(shares)):
        rest = total - sum(c for c, full in zip(caps, capped, strict=True) if full)
        free = sum(s for s, full in zip(shares, capped, strict=True) if not full)
        unit = Fraction(rest, free) if free else None
        if unit is None and rest:
            continue
        if all(
            unit is None or (unit * s >= c if full else 0 <= unit * s <= c)
            for s, c, full in zip(shares, caps, capped, strict=True)
        ):
            break
    exact = [Fraction(c) if full else unit * s for s, c, full in zip(shares, caps, capped, strict=True)]
    quotas = [math.floor(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (quotas[i] - exact[i], i))
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def _oracle(model, alive, keep, scope):
    scores = {name: model.get_parameter(name).detach().abs().numpy() for name in alive}
    kept = {name: mask.numpy() for name, mask in alive.items()}
    if scope == "global":
        return dict(zip(scores, _best(list(scores.values()), list(kept.values()), keep), strict=True))
    shares = [s.size if scope == "per-layer" else sum(s.shape) for s in scores.values()]
    quotas = _quotas(keep, shares, [int(mask.sum()) for mask in kept.values()])
    return {name: _best([scores[name]], [kept[name]], n)[0] for name, n in zip(scores, quotas, strict=True)}


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=30, deadline=None)
@given(layers(), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_exactly_the_weights_of_the_oracle_are_pruned(scope, model, share, density, seed):
    alive = random_masks(model, density, seed)
    keep = round(share * count_kept(alive))
    before = copy.deepcopy(model)
    masks = prune(model, alive, keep=keep, scope=scope)
    wanted = _oracle(model, alive, keep, scope)
    assert list(masks) == prunable(model)
    assert all(np.array_equal(masks[name].numpy(), wanted[name]) for name in masks)
    assert all((masks[name] <= alive[name]).all() for name in masks)
    assert count_kept(masks) == keep
    assert same_masks(model.state_dict(), before.state_dict())


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0.001, 0.999))
def test_fraction_prunes_its_floor_and_is_the_same_as_so_many_to_keep(scope, model, fraction):
    alive = random_masks(model, 0.7)
    masks = prune(model, alive, fraction, scope=scope)
    assert count_kept(masks) == count_kept(alive) - math.floor(fraction * count_kept(alive))
    assert same_masks(masks, prune(model, alive, keep=count_kept(masks), scope=scope))


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0, 1))
def test_density_counts_all_parameters_biases_and_batch_norm_too(scope, model, share):
    sizes = [p.numel() for p in model.parameters()]
    weights = sum(model.get_parameter(name).numel() for name in prunable(model))
    density = 1 - share * weights / sum(sizes)
    masks = prune(model, {}, density=density, scope=scope)
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    assert abs(sum(sizes) - pruned - density * sum(sizes)) <= 0.5 + 1e-6
    assert summary(model, masks).nonzero == sum(sizes) - pruned


def test_equal_weights_go_in_order_of_layer_and_position():
    model = nn.ModuleList([nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)])
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.5)
    masks = prune(model, keep=3)
    assert masks["0.weight"].tolist() == [[False] * 3, [False] * 3]
    assert masks["1.weight"].tolist() == [[False, True], [True, True]]
    masks = prune(model, keep=5, scope="per-layer")
    assert masks["0.weight"].tolist() == [[False, False, False], [True, True, True]]
    assert masks["1.weight"].tolist() == [[False, False], [True, True]]


@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0, 1), st.floats(0, 1), st.sampled_from([magnitude, random(3)]))
def test_pruning_twice_is_pruning_once_as_far(model, first, second, score):
    more = round(first * count_kept(random_masks(model, 2)))
    less = round(second * more)
    through = prune(model, prune(model, {}, keep=more, score=score), keep=less, score=score)
    assert same_masks(through, prune(model, {}, keep=less, score=score))


@pytest.mark.parametrize("scope", ["per-layer", "erk"])
@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0, 1), st.lists(st.integers(-8, 8), min_size=8, max_size=8))
def test_scopes_of_single_layers_do_not_see_their_scales(scope, model, share, powers):
    keep = round(share * count_kept(random_masks(model, 2)))
    masks = prune(model, {}, keep=keep, scope=scope)
    with torch.no_grad():
        for power, parameter in zip(powers, model.parameters(), strict=False):
            parameter.mul_(2.0**power)
    assert same_masks(masks, prune(model, {}, keep=keep, scope=scope))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5), st.floats(0, 1))
def test_erk_is_the_formula_clamped_at_whole_layers(shapes, share):
    """Evci et al. 2020: densities are eps (n_in + n_out) / (n_in n_out), at most 1; eps by bisection."""
    model = nn.ModuleList([nn.Linear(i, o, bias=False) for i, o in shapes])
    total = round(share * sum(i * o for i, o in shapes))

    def densities(eps):
        return np.array([min(1.0, eps * (i + o) / (i * o)) for i, o in shapes])

    sizes = np.array([i * o for i, o in shapes])
    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if densities(middle) @ sizes < total else (low, middle)
    kept = np.array([int(mask.sum()) for mask in prune(model, keep=total, scope="erk").values()])
    assert (abs(kept - densities(low) * sizes) < 1 + 1e-6).all()
    assert kept.sum() == total


@settings(max_examples=30, deadline=None)
@given(st.data(), st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=5))
def test_apportion_fills_caps_and_rounds_by_largest_remainders(data, pairs):
    shares, caps = zip(*pairs, strict=True)
    total = data.draw(st.integers(0, sum(caps)))
    assert apportion(total, shares, caps) == _quotas(total, shares, caps)


def test_ignored_layers_stay_whole_and_count_in_the_density():
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
    masks = prune(model, density=0.6, ignore=["2"])
    assert list(masks) == ["0.weight"]
    assert int((~masks["0.weight"]).sum()) == 69 - round(0.6 * 69)
    with pytest.raises(UsageError, match=r"there is a mask for '0\.weight', which is not prunable or is ignored"):
        prune(model, masks, keep=3, ignore=["0"])


@settings(max_examples=30, deadline=None)
@given(layers(), st.floats(-0.2, 1.2), st.floats(0, 1))
def test_a_density_out_of_reach_is_refused_with_the_range_that_is_not(model, density, share):
    alive = random_masks(model, share)
    dense = sum(p.numel() for p in model.parameters())
    most = dense - sum(int((~mask).sum()) for mask in alive.values())
    least = most - count_kept(alive)
    assume(min(abs(density * dense - least + 0.5), abs(density * dense - most - 0.5)) > 1e-6)
    if least - 0.5 <= density * dense <= most + 0.5:
        assert count_kept(prune(model, alive, density=density)) == pytest.approx(
            density * dense - least, abs=0.5 + 1e-6
        )
        return
    with pytest.raises(UsageError, match=r"cannot be reached: .*; choose a density between\.$") as found:
        prune(model, alive, density=density)
    low, high = map(float, re.findall(r"(?:network|now|is|of) (\d\.\d{4})", str(found.value)))
    assert (low, high) == pytest.approx((least / dense, most / dense), abs=6e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give exactly one of fraction, density and keep"),
        ({"fraction": 0.5, "keep": 2}, "give exactly one of fraction, density and keep"),
        ({"fraction": 0.5, "density": 0.5, "keep": 2}, "give exactly one of fraction, density and keep"),
        ({"fraction": 0.0}, r"fraction = 0\.0 is not between 0 and 1"),
        ({"fraction": 1.0}, r"fraction = 1\.0 is not between 0 and 1"),
        ({"fraction": math.nan}, "fraction = nan is not between 0 and 1"),
        ({"density": math.nan}, "density = nan cannot be reached"),
        ({"density": math.inf}, "density = inf cannot be reached"),
        ({"keep": -1}, "keep = -1 is not between 0 and the 20 remaining weights"),
        ({"keep": 21}, "keep = 21 is not between 0 and the 20 remaining weights"),
        ({"keep": 3, "scope": "local"}, "scope 'local' must be 'global', 'per-layer' or 'erk'"),
        ({"keep": 3, "masks": {"bias": torch.ones(4, dtype=torch.bool)}}, "'bias', which is not prunable"),
        ({"keep": 3, "ignore": ["*"]}, "no convolution or linear weight to prune"),
    ],
)
def test_what_cannot_be_pruned_is_said_in_one_sentence(asked, said):
    with pytest.raises(UsageError, match=said) as found:
        prune(nn.Linear(5, 4), **asked)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]
)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.floats(0, 1), st.sampled_from([1.0, 0.5]), st.sampled_from(SCOPES), st.booleans())
def test_scores_of_any_kind_with_ties_are_ranked_as_by_the_oracle(dtype, seed, share, density, scope, channels_last):
    """Few values, some negative and zeros of both signs, in a layout that is not that of their positions."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(5, 4)).to(memory_format=layout)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.empty_like(weight).copy_(torch.randint(-2, 3, weight.shape, generator=generator) * 0.5)
        for name, weight in model.named_parameters()
        if weight.ndim > 1
    }
    scores = {name: torch.where(s == 0, -s, s).to(dtype) for name, s in scores.items()}
    alive = random_masks(model, density, seed) if density < 1 else {n: s.isfinite() for n, s in scores.items()}
    keep = round(share * count_kept(alive))
    found = prune(model, alive, keep=keep, score=lambda *_: scores, scope=scope)
    arrays = [s.double().numpy() for s in scores.values()]
    kept = [mask.contiguous().numpy() for mask in alive.values()]
    if scope == "global":
        wanted = _best(arrays, kept, keep)
    else:
        quotas = [int(mask.sum()) for mask in found.values()]
        wanted = [_best([s], [k], n)[0] for s, k, n in zip(arrays, kept, quotas, strict=True)]
    assert sum(int(mask.sum()) for mask in found.values()) == keep
    for mask, expected in zip(found.values(), wanted, strict=True):
        assert mask.is_contiguous()
        np.testing.assert_array_equal(mask.numpy(), expected)
