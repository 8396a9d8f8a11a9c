"""Pruning against oracles in numpy: exact counts in each scope, scores, N:M, schedules, sequences, gradual pruning."""

import copy
import functools
import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    Chain,
    Gradual,
    KSLinear,
    Sizes,
    butterfly,
    cubic,
    fixed_fraction,
    geometric,
    gradient,
    imp,
    magnitude,
    n_of_m,
    prune,
    random,
    remaining,
    summary,
)
from lacewing.sparsify._prune import apportion
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import prunable

SCOPES = ["global", "per-layer", "erk"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


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


def _masks(model, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: model.get_parameter(name).shape for name in prunable(model)}
    return {name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()}


def _count(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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
    alive = _masks(model, density, seed)
    keep = round(share * _count(alive))
    before = copy.deepcopy(model)
    masks = prune(model, alive, keep=keep, scope=scope)
    wanted = _oracle(model, alive, keep, scope)
    assert list(masks) == prunable(model)
    assert all(np.array_equal(masks[name].numpy(), wanted[name]) for name in masks)
    assert all((masks[name] <= alive[name]).all() for name in masks)
    assert _count(masks) == keep
    assert _same(model.state_dict(), before.state_dict())


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0.001, 0.999))
def test_fraction_prunes_its_floor_and_is_the_same_as_so_many_to_keep(scope, model, fraction):
    alive = _masks(model, 0.7)
    masks = prune(model, alive, fraction, scope=scope)
    assert _count(masks) == _count(alive) - math.floor(fraction * _count(alive))
    assert _same(masks, prune(model, alive, keep=_count(masks), scope=scope))


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0, 1))
def test_density_counts_all_parameters_biases_and_batch_norm_too(scope, model, share):
    sizes = [p.numel() for p in model.parameters()]
    weights = sum(model.get_parameter(name).numel() for name in prunable(model))
    density = 1 - share * weights / sum(sizes)
    masks = prune(model, density=density, scope=scope)
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
    more = round(first * _count(_masks(model, 2)))
    less = round(second * more)
    through = prune(model, prune(model, keep=more, score=score), keep=less, score=score)
    assert _same(through, prune(model, keep=less, score=score))


@pytest.mark.parametrize("scope", ["per-layer", "erk"])
@settings(max_examples=20, deadline=None)
@given(layers(), st.floats(0, 1), st.lists(st.integers(-8, 8), min_size=8, max_size=8))
def test_scopes_of_single_layers_do_not_see_their_scales(scope, model, share, powers):
    keep = round(share * _count(_masks(model, 2)))
    masks = prune(model, keep=keep, scope=scope)
    with torch.no_grad():
        for power, parameter in zip(powers, model.parameters(), strict=False):
            parameter.mul_(2.0**power)
    assert _same(masks, prune(model, keep=keep, scope=scope))


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
    alive = _masks(model, share)
    dense = sum(p.numel() for p in model.parameters())
    most = dense - sum(int((~mask).sum()) for mask in alive.values())
    least = most - _count(alive)
    assume(min(abs(density * dense - least + 0.5), abs(density * dense - most - 0.5)) > 1e-6)
    if least - 0.5 <= density * dense <= most + 0.5:
        assert _count(prune(model, alive, density=density)) == pytest.approx(density * dense - least, abs=0.5 + 1e-6)
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_ranked(dtype):
    torch.manual_seed(0)
    model = nn.Linear(5, 4, dtype=dtype)
    masks = prune(model, keep=7)
    values = model.weight.detach().abs().double()
    assert values[masks["weight"]].min() >= values[~masks["weight"]].max()
    assert _count(masks) == 7


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
    assert _same(model.state_dict(), _image_network().state_dict())
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
    assert _count(prune(model, keep=5, score=gradient(_image_loss), ignore=["4"])) == 5


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
    keep = round(share * _count(_masks(model, 2)))
    state = torch.get_rng_state()
    masks = prune(model, keep=keep, score=random(seed))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert _same(masks, prune(model, keep=keep, score=random(seed)))


def test_random_scores_of_another_seed_differ_and_favour_no_place():
    model = nn.Linear(10, 10, bias=False)
    kept = torch.stack([prune(model, keep=50, score=random(seed))["weight"] for seed in range(200)]).double()
    assert len({tuple(mask.flatten().tolist()) for mask in kept}) == 200
    assert abs(kept.mean(0) - 0.5).max() < 5 * 0.5 / math.sqrt(200)  # 5 standard deviations


def _n_of_m_oracle(rows, n, m):
    """``rows`` holds inputs along its last axis."""
    mask = np.zeros(rows.shape, dtype=bool)
    for index in np.ndindex(*rows.shape[:-1]):
        for begin in range(0, rows.shape[-1], m):
            group = list(rows[index][begin : begin + m])
            for place in sorted(range(m), key=lambda i: (-group[i], i))[:n]:
                mask[index][begin + place] = True
    return mask


N_OF_M = {  # a layer, and its weight's axis of inputs
    "linear": (lambda: nn.Linear(24, 5), 1),
    "conv": (lambda: nn.Conv2d(12, 3, (2, 3)), 1),
    "conv 1d": (lambda: nn.Conv1d(12, 3, 2), 1),
    "grouped": (lambda: nn.Conv2d(24, 4, 2, groups=2), 1),
    "transposed": (lambda: nn.ConvTranspose2d(12, 5, (2, 3)), 0),
    "transposed and grouped": (lambda: nn.ConvTranspose2d(24, 6, 2, groups=2), 0),
    "recurrent": (lambda: nn.LSTM(12, 24), 1),
}


@pytest.mark.parametrize("kind", N_OF_M)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(1, 2), (2, 3), (1, 4), (2, 4), (3, 4), (5, 6), (1, 12)]), st.booleans())
def test_n_of_m_keeps_the_best_of_every_few_inputs(kind, seed, pattern, ties):
    torch.manual_seed(seed)
    factory, axis = N_OF_M[kind]
    model = nn.Sequential(factory())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
            if ties:
                parameter.round_()
    n, m = pattern
    for name, mask in n_of_m(model, n, m).items():
        values = np.moveaxis(model.get_parameter(name).detach().abs().numpy(), axis, -1)
        assert np.array_equal(np.moveaxis(mask.numpy(), axis, -1), _n_of_m_oracle(values, n, m))
        assert int(mask.sum()) * m == mask.numel() * n


@pytest.mark.parametrize(("n", "m"), [(0, 4), (-1, 4), (4, 4), (5, 4), (1, 1), (0, 0)])
def test_a_pattern_that_keeps_none_or_all_is_refused(n, m):
    with pytest.raises(UsageError, match=f"^pattern {n}:{m} must keep at least one and fewer than all of {m} weights"):
        n_of_m(nn.Linear(4, 4), n, m)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (lambda: nn.Linear(6, 4), 6),
        (lambda: nn.Conv2d(12, 4, 4, groups=2), 6),
        (lambda: nn.ConvTranspose2d(12, 4, 4, groups=2), 6),
        (lambda: nn.Conv2d(3, 4, 4), 3),
    ],
)
def test_inputs_that_m_does_not_divide_are_refused_by_layer(layer, inputs):
    model = nn.Sequential(nn.Linear(8, 4), nn.Sequential(layer()))
    with pytest.raises(UsageError, match=rf"^weight '1\.0\.weight' has {inputs} inputs, .* ignore=\['1\.0'\]\.$"):
        n_of_m(model, 2, 4)
    assert list(n_of_m(model, 2, 4, ignore=["1.0"])) == ["0.weight"]
    with pytest.raises(UsageError, match="no convolution or linear weight"):
        n_of_m(model, 2, 4, ignore=["*"])


def test_n_of_m_goes_along_the_inputs_of_butterfly_factors():
    model = KSLinear(64, 64, chain=Chain.monarch(64, 64), bias=False)
    for mask in n_of_m(model, 1, 4).values():
        assert (mask.unflatten(2, (-1, 4)).sum(3) == 1).all()


@st.composite
def sizes_and_density(draw):
    """A dense network's counts, and a density that leaves between one and all of its prunable weights."""
    weights, other = draw(st.integers(1, 5000)), draw(st.integers(0, 500))
    return Sizes(weights + other, weights, other), (draw(st.floats(1, weights)) + other) / (weights + other)


@settings(max_examples=30, deadline=None)
@given(sizes_and_density(), st.integers(1, 12))
def test_geometric_multiplies_by_one_ratio_and_ends_at_the_density(case, levels):
    sizes, density = case
    last = density * sizes.parameters - sizes.other
    ratio = (last / sizes.prunable) ** (1 / levels)
    found = [geometric(density)(sizes, level, levels) for level in range(levels + 1)]
    for level, left in enumerate(found):
        assert left == pytest.approx(sizes.prunable * ratio**level, abs=0.5 + 1e-6)
    assert found == sorted(found, reverse=True)
    assert found[0] == sizes.prunable


@settings(max_examples=30, deadline=None)
@given(sizes_and_density(), st.integers(1, 12))
def test_cubic_is_the_formula_of_zhu_and_gupta(case, levels):
    """Sparsity s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, here with s_i = 0."""
    sizes, density = case
    final = 1 - (density * sizes.parameters - sizes.other) / sizes.prunable
    found = [cubic(density)(sizes, level, levels) for level in range(levels + 1)]
    for level, left in enumerate(found):
        sparsity = final + (0 - final) * (1 - level / levels) ** 3
        assert left == pytest.approx(sizes.prunable * (1 - sparsity), abs=0.5 + 1e-6)
    assert found == sorted(found, reverse=True)
    assert found[0] == sizes.prunable


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 10), st.floats(0.01, 0.99))
def test_fixed_fraction_removes_the_floor_at_each_level(weights, levels, fraction):
    left = weights
    for level in range(levels + 1):
        assert fixed_fraction(fraction)(Sizes(weights + 7, weights, 7), level, levels) == left
        left -= math.floor(fraction * left)


@pytest.mark.parametrize("schedule", [geometric, cubic])
@settings(max_examples=30, deadline=None)
@given(sizes_and_density(), st.integers(1, 12))
def test_a_schedule_ends_where_one_pruning_to_the_density_would(schedule, case, levels):
    sizes, density = case
    last = sizes.weights_at(density)
    assume(abs(last % 1 - 0.5) > 1e-6)  # halves stand below
    assert schedule(density)(sizes, levels, levels) == round(last)


@pytest.mark.parametrize("schedule", [geometric, cubic])
def test_a_schedule_rounds_half_a_weight_as_one_pruning_does(schedule):
    model = nn.Linear(11, 1)
    model.bias = nn.Parameter(torch.zeros(3))  # 0.75 of 14 parameters are 10.5
    levels = list(imp(model, lambda model, guard: None, levels=2, rewind="init", schedule=schedule(0.75)))
    assert _count(levels[-1].masks) == _count(prune(model, density=0.75))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, math.nan])
def test_a_fraction_that_leaves_none_or_all_is_refused(fraction):
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        fixed_fraction(fraction)


def test_sizes_of_a_butterfly_model_count_the_dense_network():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))
    names = prunable(model)
    assert Sizes.of(model, names) == Sizes(16 * 17 + 3 * 17, 16 * 16 + 3 * 16, 19)
    butterfly(model, density=0.8, factors=2, ignore=["1"])
    entries = sum(factor.numel() for factor in model[0].factors)
    assert Sizes.of(model, prunable(model)) == Sizes(16 * 17 + 3 * 17, entries + 3 * 16, 19)
    assert Sizes.of(model, prunable(model, ["1"])) == Sizes(16 * 17 + 3 * 17, entries, 19 + 3 * 16)


OPTIMISERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": functools.partial(torch.optim.RMSprop, lr=0.01, momentum=0.5),
    "adagrad": functools.partial(torch.optim.Adagrad, lr=0.05),
}


def _trainable(kind, width, seed):
    torch.manual_seed(seed)
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 3))
    conv = nn.Conv2d(1, width, 3, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.Tanh(), nn.Flatten(), nn.Linear(4 * width, 3))


def _step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, 1, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def _fit(optimiser, watch=None, epochs=2):
    """Epochs of two steps; from where the guard says, and as many again where the schedule stands at its end."""

    def fit(model, guard):
        optimizer = optimiser(model.parameters())
        guard.attach(optimizer)
        end = epochs if guard.epoch < epochs else guard.epoch + epochs
        while guard.epoch < end:
            for _ in range(guard.step - 2 * guard.epoch, 2):
                _step(model, optimizer, guard.step)
                if watch:
                    watch(model, guard)
            guard.epoch_end()

    return fit


def _left(schedule, weights, other, level, levels):
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


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.sampled_from(["mlp", "conv"]), st.integers(3, 6), st.integers(0, 99)),
    st.sampled_from(sorted(OPTIMISERS)),
    st.sampled_from(REWINDS),
    st.sampled_from(sorted(SCHEDULES)),
    st.sampled_from(SCOPES),
    st.integers(1, 3),
)
def test_a_sequence_is_exact_nested_and_repeatable(network, optimiser, rewind, schedule, scope, levels):
    runs = []
    for _ in range(2):
        model = _trainable(*network)
        weights = sum(model.get_parameter(name).numel() for name in prunable(model))
        other = sum(p.numel() for p in model.parameters()) - weights
        before, run = _masks(model, 2), []
        fit = _fit(OPTIMISERS[optimiser])
        for level in imp(model, fit, levels=levels, rewind=rewind, scope=scope, **SCHEDULES[schedule]):
            if level.number:
                assert list(level.masks) == prunable(model)
                assert _count(level.masks) == _left(schedule, weights, other, level.number, levels)
            for name, mask in level.masks.items():
                assert torch.equal(model.get_parameter(name) != 0, mask)
                assert (mask <= before[name]).all()
            before = level.masks or before
            run.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert level.number == levels == len(run) - 1
        runs.append(run)
    assert all(_same(*states) for states in zip(*runs, strict=True))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_sequence_of_one_level_is_one_shot_pruning_of_what_was_trained(scope):
    model, fit = _trainable("conv", 5, 0), _fit(OPTIMISERS["sgd"])
    sequence = imp(model, fit, levels=1, schedule=geometric(0.3), scope=scope)
    assert next(sequence).masks == {}
    wanted = prune(model, density=0.3, scope=scope)
    (level,) = sequence
    assert _same(level.masks, wanted)
    assert _same(level.masks, {name: model.get_parameter(name) != 0 for name in wanted})


def test_score_and_ignore_reach_every_level():
    model = _trainable("conv", 5, 0)
    shape = model[4].weight.shape
    levels = list(imp(model, _fit(OPTIMISERS["sgd"]), levels=3, score=random(7), ignore=["0"]))
    order = torch.rand(shape, generator=torch.Generator().manual_seed(7))
    for level in levels[1:]:
        (mask,) = level.masks.values()
        assert order[mask].min() > order[~mask].max()
    assert model[0].weight.ne(0).all()


def test_levels_in_hand_do_not_change_as_the_sequence_goes_on():
    model = _trainable("mlp", 4, 0)
    copies, levels = [], []
    for level in imp(model, _fit(OPTIMISERS["sgd"]), levels=3):
        levels.append(level)
        copies.append({name: mask.clone() for name, mask in level.masks.items()})
    assert all(_same(level.masks, kept) for level, kept in zip(levels, copies, strict=True))


def test_what_becomes_of_a_level_in_hand_does_not_change_the_sequence():
    model = _trainable("mlp", 4, 0)
    guard = Guard(model)
    for level in imp(model, _fit(OPTIMISERS["sgd"]), levels=2, guard=guard):
        kept = _count(guard.masks)
        assert _count(level.masks) == kept == (remaining(76, level.number, 0.2) if level.number else 0)
        level.masks.clear()
        assert _count(guard.masks) == kept


def test_no_prunings_train_the_dense_network_once():
    calls = []
    (level,) = imp(_trainable("mlp", 4, 0), lambda model, guard: calls.append(dict(guard.masks)), levels=0)
    assert (level.number, level.masks, calls) == (0, {}, [{}])


def test_training_without_the_guard_is_told():
    def fit(model, guard):
        _step(model, OPTIMISERS["sgd"](model.parameters()), 0)
        guard.epoch_end()

    sequence = imp(_trainable("mlp", 4, 0), fit, levels=1)
    next(sequence)
    with pytest.raises(UsageError, match=r"revived pruned weights of '1\.weight': fit must call guard\.attach"):
        next(sequence)


def test_what_a_sequence_cannot_do_is_refused_before_anything_is_trained():
    model = _trainable("mlp", 4, 0)

    def fit(model, guard):
        raise AssertionError("trained")

    for schedule in (geometric(0.01), cubic(0.01), cubic(1.1)):
        with pytest.raises(UsageError, match="cannot be reached"):
            next(imp(model, fit, levels=2, schedule=schedule))
    with pytest.raises(UsageError, match="to continue, give the guard"):
        next(imp(model, fit, levels=2, start=1))
    with pytest.raises(UsageError, match="the guard belongs to another model"):
        next(imp(model, fit, levels=2, guard=Guard(copy.deepcopy(model))))
    with pytest.raises(UsageError, match="fraction = 1 is not between 0 and 1"):
        next(imp(model, fit, levels=2, fraction=1))
    with pytest.raises(UsageError, match="must be 'init'"):
        next(imp(model, fit, levels=2, rewind="never"))
    with pytest.raises(UsageError, match="matches no prunable weight"):
        next(imp(model, fit, levels=2, ignore=["nothing"]))


def test_a_model_without_weights_to_prune_is_refused_before_anything_is_trained():
    def fit(model, guard):
        raise AssertionError("trained")

    with pytest.raises(UsageError, match="no convolution or linear weight"):
        next(imp(nn.Sequential(nn.BatchNorm1d(3)), fit, levels=2))


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.sampled_from(["mlp", "conv"]), st.integers(3, 6), st.integers(0, 99)),
    st.sampled_from(sorted(OPTIMISERS)),
    st.sampled_from(SCOPES),
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3)),
)
def test_gradual_pruning_follows_its_schedule_step_by_step(network, optimiser, scope, times):
    begin, every, prunings = times
    end = begin + every * prunings
    model = _trainable(*network)
    weights = sum(model.get_parameter(name).numel() for name in prunable(model))
    other = sum(p.numel() for p in model.parameters()) - weights
    guard = Gradual(model, 0.4, begin=begin, end=end, every=every, scope=scope)
    alive = _masks(model, 2)

    def watch(model, guard):
        done = min(max(guard.step - begin, 0) // every, prunings)
        nonzero = {name: model.get_parameter(name).detach() != 0 for name in alive}
        assert _count(nonzero) == _left("cubic", weights, other, done, prunings)
        assert all((nonzero[name] <= alive[name]).all() for name in alive)
        if guard.masks:
            assert _same(guard.masks, nonzero)
        alive.update(nonzero)

    _fit(OPTIMISERS[optimiser], watch, epochs=end // 2 + 1)(model, guard)
    assert guard.step > end
    assert _same(guard.masks, alive)
    assert summary(model, guard.masks).nonzero == round(0.4 * (weights + other))


def test_gradual_pruning_takes_scores_and_schedules_of_ones_own():
    model = _trainable("conv", 5, 0)
    left = {1: 15, 2: 11}
    guard = Gradual(
        model,
        0.8,
        begin=1,
        end=5,
        every=2,
        schedule=lambda sizes, level, levels: left[level],
        score=random(1),
        ignore=["4"],
    )
    counts = {}
    _fit(OPTIMISERS["sgd"], lambda model, guard: counts.update({guard.step: _count(guard.masks)}), 3)(model, guard)
    assert counts == {1: 0, 2: 0, 3: 15, 4: 15, 5: 11, 6: 11}
    order = torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    mask = guard.masks["0.weight"]
    assert order[mask].min() > order[~mask].max()
    assert list(guard.masks) == ["0.weight"]


def test_gradual_pruning_revives_nothing_and_prunes_once_a_step_though_scores_turn_round_and_optimisers_are_two():
    model, calls, alive = _trainable("mlp", 4, 0), [], None

    def turning(model, names):
        calls.append(names)
        weights = {name: model.get_parameter(name) for name in names}
        return {name: torch.arange(w.numel()).view_as(w) * (-1) ** len(calls) for name, w in weights.items()}

    guard = Gradual(model, 0.6, begin=0, end=4, every=1, score=turning)
    first, second = (OPTIMISERS["sgd"](layer.parameters()) for layer in (model[1], model[3]))
    guard.attach(first, second)
    for step in range(1, 7):
        model(torch.ones(2, 1, 4, 4)).square().sum().backward()
        first.step()
        second.step()
        assert len(calls) == min(step, 4)
        assert all(torch.equal(model.get_parameter(name) != 0, mask) for name, mask in guard.masks.items())
        assert alive is None or all((mask <= alive[name]).all() for name, mask in guard.masks.items())
        alive = guard.masks
    assert summary(model, guard.masks).nonzero == round(0.6 * (4 * 17 + 3 * 5))


def test_gradual_pruning_by_gradient_scores_leaves_the_training_as_it_was():
    """The score's own pass is of another batch; neither batch norm nor gradients of the training see it."""
    model = _trainable("conv", 5, 0)
    guard = Gradual(model, 0.5, begin=0, end=4, every=1, score=gradient(lambda m: m(torch.ones(4, 1, 4, 4)).sum()))
    _fit(OPTIMISERS["sgd"])(model, guard)
    assert model[1].num_batches_tracked == 4
    assert summary(model, guard.masks).density == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("begin", "end", "every"), [(-1, 3, 1), (3, 3, 1), (4, 3, 1), (0, 3, 2), (0, 3, 0), (0, 2, 4)])
def test_steps_that_do_not_fit_together_are_refused(begin, end, every):
    with pytest.raises(UsageError, match=f"^begin = {begin}, end = {end}, every = {every}: pruning must end after"):
        Gradual(_trainable("mlp", 3, 0), 0.5, begin=begin, end=end, every=every)


@pytest.mark.parametrize("density", [-0.1, 0.01, 1.2])
def test_gradual_pruning_refuses_a_density_out_of_reach_at_once(density):
    with pytest.raises(UsageError, match=f"density = {density} cannot be reached"):
        Gradual(_trainable("mlp", 3, 0), density, begin=0, end=4, every=2)
