"""Whole butterfly models: back to ordinary layers, pruned factors in training, weight decay, layers that stay dense."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    Chain,
    Guard,
    KSConv2d,
    KSLinear,
    butterfly,
    composed_state,
    decay_groups,
    densify,
    product_norm,
    prune,
)
from lacewing.sparsify._attention import KSMultiheadAttention
from lacewing.sparsify.layers import KSLayer


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Mixed(nn.Module):
    """A stem, a grouped convolution without bias, a linear layer, attention with a feed-forward part, a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3, groups=2, bias=False)
        self.norm, self.linear = nn.BatchNorm2d(32), nn.Linear(32, 64)
        self.block = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = self.norm(self.grouped(self.stem(x).relu())).relu().flatten(2).transpose(1, 2)
        return self.head(self.block(self.linear(x)).mean(1))


def _made(density=0.6, **options):
    model = Mixed()
    return model, butterfly(model, density=density, **options)


def _names(groups):
    return sorted(id(p) for group in groups for p in group["params"])


# --- back to ordinary layers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_densified_model_is_the_plain_one(training, dtype):
    """The same names, shapes, types and modes; every weight learns again."""
    plain = Mixed().to(dtype).train(training)
    model = copy.deepcopy(plain)
    butterfly(model, density=0.6)
    modules = {name: type(module) for name, module in plain.named_modules()}
    composed = composed_state(model)
    densify(model)
    state = model.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == {
        k: (v.shape, v.dtype) for k, v in plain.state_dict().items()
    }
    for key, value in composed.items():
        torch.testing.assert_close(value, state[key], atol=0, rtol=0)
    ordinary = {name: type(module) for name, module in model.named_modules()}
    ordinary["block.self_attn.out_proj"] = modules["block.self_attn.out_proj"]  # torch's own subclass of nn.Linear
    assert ordinary == modules
    assert all(module.training == training for module in model.modules())
    F.cross_entropy(model(torch.randn(2, 3, 8, 8, dtype=dtype)), torch.tensor([0, 1])).backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("make", [lambda: KSLinear(16, 16), lambda: KSConv2d(8, 16, 3, groups=2)])
def test_an_ordinary_layer_shares_no_memory_with_the_butterfly_layer(make):
    layer = make()
    before = copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        for parameter in layer.plain().parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


# --- initialisation


def test_the_initial_variance_of_attention_is_that_of_torch():
    """Xavier's on the fused (3 E) x E matrix, 2 / (4 E); five standard errors of independent draws."""
    attention, chain = nn.MultiheadAttention(32, 2), Chain.butterfly(32)
    draws = [KSMultiheadAttention.like(attention, chain).in_proj_weight.detach() for _ in range(200)]
    squares = torch.stack([draw.square().mean() for draw in draws])
    error = squares.std().item() / math.sqrt(len(draws))
    assert 5 * error < 0.08 / 64
    assert squares.mean().item() == pytest.approx(1 / 64, abs=5 * error)
    reference = torch.stack([nn.MultiheadAttention(32, 2).in_proj_weight.square().mean() for _ in range(20)])
    assert squares.mean().item() == pytest.approx(reference.mean().item(), rel=0.05)


# --- pruned factors


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_pruned_factors_stay_zero_as_they_train_and_compose(optimizer):
    model, _ = _made()
    masks = prune(model, density=0.3, scope="per-layer")
    pruned = {name for name in masks if ".factors." in name}
    assert pruned
    guard = Guard(model, masks=masks)
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    steps = optimizer(decay_groups(model, 0.1, factors=False), lr=0.01, **options)
    guard.attach(steps)
    x, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    before = {name: model.get_parameter(name).detach().clone() for name in pruned}
    for _ in range(4):
        steps.zero_grad()
        (F.cross_entropy(model(x), y) + 0.05 * product_norm(model)).backward()
        steps.step()
    for name in pruned:
        factor = model.get_parameter(name)
        assert not factor[~masks[name]].any()
        assert not torch.equal(factor[masks[name]], before[name][masks[name]])
    model.eval()
    wanted = model(x)
    densify(model)
    torch.testing.assert_close(model(x), wanted, atol=1e-5, rtol=1e-5)


# --- weight decay


def _composed(model):
    """The weights of butterfly layers, one chain at a time."""
    for module in model.modules():
        if isinstance(module, KSLayer):
            for g in range(module.groups):
                own = [f.reshape(module.groups, -1, *f.shape[1:])[g] for f in module.factors]
                yield module.gain * module.chain.dense(own)


def test_the_product_norm_sums_over_all_composed_weights():
    model, done = _made()
    weights = list(_composed(model))
    assert len(weights) == len(done.chains) + 1 + 2  # two groups of the convolution; queries, keys and values
    torch.testing.assert_close(product_norm(model), sum(w.square().sum() for w in weights))


def test_the_gradient_of_the_product_norm_is_that_of_finite_differences():
    model = nn.Sequential(
        KSConv2d(4, 8, 3, groups=2, columns="kernel-first"), KSLinear(8, 8, chain=Chain.butterfly(8)), nn.Linear(8, 2)
    ).double()
    model.append(KSMultiheadAttention.like(nn.MultiheadAttention(4, 1, dtype=torch.float64), Chain.butterfly(4)))
    factors = [f for m in model.modules() if isinstance(m, KSLayer) for f in m.factors]
    assert torch.autograd.gradcheck(lambda *_: product_norm(model), tuple(factors))
    for p in model.parameters():
        p.grad = None
    product_norm(model).backward()
    for layer in (m for m in model.modules() if isinstance(m, KSLayer)):
        for f in layer.factors:  # Euler: its square is homogeneous of degree two in each factor
            torch.testing.assert_close((f * f.grad).sum(), 2 * layer.weight.square().sum())
    assert model[2].weight.grad is None


@pytest.mark.parametrize("factors", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(
    "make",
    [
        lambda: _made()[0],
        lambda: nn.Linear(4, 4),
        lambda: KSLinear(16, 16, bias=False),
        lambda: nn.Sequential(KSLinear(16, 16).requires_grad_(False), nn.Linear(16, 2)),
    ],
    ids=["mixed", "no butterfly", "nothing else", "frozen"],
)
def test_decay_groups_hold_every_parameter_once_and_spare_only_factors(make, optimizer, factors):
    model = make()
    groups = decay_groups(model, 0.1, factors=factors)
    assert _names(groups) == sorted(map(id, model.parameters()))
    spared = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    own = {id(f) for m in model.modules() if isinstance(m, KSLayer) for f in m.factors}
    assert spared == (set() if factors else own)
    assert {group["weight_decay"] for group in groups} <= {0.0, 0.1}
    decays = {id(p): group["weight_decay"] for group in optimizer(groups, lr=0.1).param_groups for p in group["params"]}
    assert len(decays) == len(list(model.parameters()))


# --- layers that stay dense, and densities that no chains reach


KEPT = {
    "transposed": (lambda: nn.ConvTranspose2d(16, 16, 3), "no layer that chains can replace (ConvTranspose2d)"),
    "one dimension": (lambda: nn.Conv1d(16, 16, 3), "no layer that chains can replace (Conv1d)"),
    "circular": (lambda: nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"), "padded with circular"),
    "prime": (lambda: nn.Linear(7, 13), "no chain of its shape is cheaper"),
    "bilinear": (lambda: nn.Bilinear(16, 16, 16), "no layer that chains can replace (Bilinear)"),
}


@pytest.mark.parametrize(
    "register",
    [
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_pre_hook(lambda *_: None),
    ],
)
def test_a_layer_with_hooks_keeps_them_by_staying_dense(register):
    model = nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2))
    hooked = model[1]
    handle = register(hooked)
    done = butterfly(model, density=0.9)
    assert done.dense["1.weight"].startswith("it has hooks")
    assert model[1] is hooked
    assert isinstance(model[2], KSLinear)
    convolutions = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3))
    handles = handle, register(convolutions[1])
    with pytest.raises(UsageError, match=r"'1' must stay dense \(it has hooks"):
        butterfly(convolutions, segments=1)
    for each in handles:
        each.remove()
    butterfly(convolutions, segments=1)


def test_attention_keeps_its_hooks_and_an_ordinary_layer_is_not_made_of_a_hooked_one():
    model = nn.Sequential(nn.Linear(64, 64), nn.MultiheadAttention(64, 4), nn.Linear(64, 64), nn.Linear(64, 2))
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    butterfly(model, density=0.6)
    x = torch.randn(3, 64)
    model[1](x, x, x)
    assert calls == [1]
    handle = model[2].register_forward_hook(lambda *_: calls.append(2))
    with pytest.raises(UsageError, match="'2' has hooks"):
        densify(model)
    assert isinstance(model[2], KSLinear)
    handle.remove()
    densify(model)
    model[1](x, x, x)
    assert type(model[2]) is nn.Linear
    assert calls == [1, 1]


@pytest.mark.parametrize("kind", KEPT)
def test_the_table_says_why_a_layer_stayed_dense(kind):
    layer, reason = KEPT[kind]
    model = nn.Sequential(nn.Linear(8, 64), layer(), nn.Linear(64, 64), nn.Linear(64, 2))
    kept = model[1]
    done = butterfly(model, density=0.99)
    assert done.dense == {"0.weight": "first weight", "1.weight": reason, "3.weight": "last weight"}
    assert model[1] is kept
    assert isinstance(model[2], KSLinear)
    rows = {line.split()[0]: line for line in str(done).splitlines()}
    assert rows["1.weight"].endswith(f"100.00%  {reason}")
    assert rows["2"].endswith(" ".join(str(tuple(p)) for p in done.chains["2"].patterns))


def test_attention_of_three_widths_stays_dense_but_for_its_output():
    model = nn.Sequential(nn.Linear(8, 16), nn.MultiheadAttention(16, 2, kdim=16, vdim=8), nn.Linear(16, 2))
    done = butterfly(model, density=0.99)
    assert set(done.chains) == {"1.out_proj"}
    assert {f"1.{part}_proj_weight" for part in "qkv"} < set(done.dense)


def _towers(width):
    return nn.Sequential(nn.Linear(7, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, 3))


def test_the_least_density_that_is_named_can_be_had():
    for width in range(16, 128, 8):
        with pytest.raises(UsageError) as error:
            butterfly(_towers(width), density=1e-4)
        least = float(re.search(r"is below ([\d.]+),", str(error.value))[1])
        assert butterfly(_towers(width), density=least).summary.density <= least


def test_a_model_without_a_chain_is_not_said_to_need_more_density():
    with pytest.raises(UsageError) as error:
        butterfly(nn.Sequential(nn.Linear(8, 7), nn.Linear(7, 13), nn.Linear(13, 2)), density=1.0)
    assert "is below" not in str(error.value)


def test_no_factors_are_refused():
    with pytest.raises(UsageError, match="factors = 0"):
        butterfly(Mixed(), density=0.6, factors=0)


# --- layers at several places, and models that are one layer


def _twice(layer):
    return nn.Sequential(nn.Conv2d(3, 8, 3), layer, nn.ReLU(), layer)


def _tied():
    model = _twice(nn.Conv2d(8, 8, 3))
    model[3] = nn.Conv2d(8, 8, 3)
    model[3].weight = model[1].weight
    return model


@pytest.mark.parametrize("make", [lambda: _twice(nn.Conv2d(8, 8, 3)), _tied])
def test_a_weight_of_two_layers_is_never_torn_apart(make):
    model = make()
    with pytest.raises(UsageError, match=r"'1' must stay dense \(shared by several layers\): ignore=\['1'\]"):
        butterfly(model, segments=1)
    assert model[1].weight is model[3].weight

    deeper = nn.Sequential(*make(), nn.Flatten(), nn.Linear(8, 64), nn.Linear(64, 4))
    assert butterfly(deeper, density=0.9).dense["1.weight"] == "shared by several layers"


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_layer_with_a_forward_of_its_own_is_not_replaced():
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)), Scaled(16, 16), nn.Linear(16, 16))
    assert butterfly(model, density=0.9).dense["3.weight"] == "no layer that chains can replace (Scaled)"


def _by_state(model):
    plain = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    plain.load_state_dict(composed_state(model))
    return plain


def _by_densify(model):
    densify(model)
    return model


@pytest.mark.parametrize("ordinary", [_by_state, _by_densify])
def test_a_butterfly_layer_at_two_places_becomes_ordinary_at_both(ordinary):
    layer, x = KSLinear(16, 16), torch.randn(2, 16)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    wanted = model(x)
    found = ordinary(model)
    assert [type(m) for m in found] == [nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(found(x), wanted)


def test_the_composed_state_of_a_single_layer_loads_into_a_linear_one():
    layer, plain, x = KSLinear(16, 16), nn.Linear(16, 16), torch.randn(2, 16)
    plain.load_state_dict(composed_state(layer))
    torch.testing.assert_close(plain(x), layer(x))


def test_a_single_layer_cannot_be_densified_in_place():
    layer = KSLinear(16, 16)
    with pytest.raises(UsageError, match="plain"):
        densify(layer)
    assert not dict(layer.named_children()).keys() - {"factors"}


def test_a_model_that_is_made_butterfly_in_two_steps_reaches_its_density():
    """What the first step saved counts as the dense layers that were there."""
    model = nn.Sequential(
        nn.Conv2d(4, 64, 3), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(64, 256), nn.Linear(256, 9)
    )
    dense = sum(p.numel() for p in model.parameters())
    first = butterfly(model, density=0.6, layers="conv", ignore=["4"])
    assert set(first.chains) == {"0", "1"}
    second = butterfly(model, density=0.5, layers="linear", ignore=["4"])
    assert set(second.chains) == {"3"}
    assert second.dense == {"0": "butterfly already", "1": "butterfly already", "4.weight": "ignored"}
    assert 0.48 * dense < sum(p.numel() for p in model.parameters()) <= 0.5 * dense
    rows = {line.split()[0]: line for line in str(second).splitlines()}
    assert rows["0"].endswith("butterfly already")


def test_layers_of_one_kind_are_of_a_density():
    with pytest.raises(UsageError, match=r"layers = 'conv' goes with density"):
        butterfly(Mixed(), segments=1, layers="conv")
    with pytest.raises(UsageError, match=r"layers 'convolution' must be 'all', 'linear' or 'conv'"):
        butterfly(Mixed(), density=0.5, layers="convolution")
