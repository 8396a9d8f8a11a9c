"""Models that are not ours, in plain torch: pruned and made butterfly at 10 % density, they train a step."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    Guard,
    KSLinear,
    apply_masks,
    butterfly,
    composed_state,
    decay_groups,
    densify,
    product_norm,
    prune,
    summary,
)
from lacewing.sparsify.layers import KSLayer


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Bottleneck(nn.Module):
    """As in torchvision: 1x1, 3x3 with the stride, 1x1 to four times the width."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, layers = 64, []
        for place, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                layers.append(Bottleneck(inputs, 64 << place, 2 if place and not block else 1))
                inputs = 256 << place
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(2048, 1000)

    def forward(self, x):
        x = self.layers(self.maxpool(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


class ViT(nn.Module):
    """A small vision transformer; attention as torch has it, with its fused input projection, or of plain layers."""

    def __init__(self, width=192, depth=3, heads=3, *, fused):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        if fused:
            layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        else:
            self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.blocks(tokens).mean(1))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.fc1, self.fc2 = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x):
        n, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, w))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class MobileNet(nn.Module):
    """EfficientNet's block: expansion, depthwise convolution, squeeze and excitation, projection."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.expand, self.depthwise = nn.Conv2d(32, 192, 1), nn.Conv2d(192, 192, 5, padding=2, groups=192)
        self.squeeze, self.excite = nn.Conv2d(192, 48, 1), nn.Conv2d(48, 192, 1)
        self.project, self.grouped = nn.Conv2d(192, 64, 1), nn.Conv2d(64, 128, 3, groups=2)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        x = F.silu(self.depthwise(F.silu(self.expand(F.silu(self.stem(x))))))
        x = x * self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.head(F.silu(self.grouped(self.project(x))).mean((2, 3)))


class Bert(nn.Module):
    """A language model whose output layer shares its weight with the embedding."""

    def __init__(self, words=128, width=64):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.decoder = nn.Linear(width, words)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        return self.decoder(self.blocks(self.embedding(tokens))).mean(1)


IMAGES = (4, 3, 32, 32)
MODELS = {
    "ResNet-50": (ResNet50, lambda: torch.randn(IMAGES), 1000),
    "ViT": (lambda: ViT(fused=False), lambda: torch.randn(IMAGES), 10),
    "ViT of torch's encoder": (lambda: ViT(fused=True), lambda: torch.randn(IMAGES), 10),
    "EfficientNet block": (MobileNet, lambda: torch.randn(IMAGES), 10),
    "BERT": (Bert, lambda: torch.randint(128, (4, 16)), 128),
}
FLOORS = {"EfficientNet block": 0.25, "BERT": 0.3}  # set by what must stay dense


@pytest.fixture(params=MODELS)
def case(request):
    """(name, model, inputs, labels)"""
    factory, inputs, classes = MODELS[request.param]
    return request.param, factory(), inputs(), torch.randint(classes, (4,))


def _step(model, inputs, labels, guard=None, groups=None):
    optimizer = torch.optim.SGD(groups or model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    if guard is not None:
        guard.attach(optimizer)
    loss = F.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_pruned_to_a_tenth_it_trains_a_step_and_stays_so(case):
    name, model, inputs, labels = case
    parameters = sum(p.numel() for p in model.parameters())
    masks = prune(model, density=0.1, scope="erk")  # "global" empties layers of small initial weights whole
    kept = parameters - sum(int((~mask).sum()) for mask in masks.values())
    assert kept == round(0.1 * parameters)
    assert summary(model, masks).nonzero == kept
    before = {key: value.clone() for key, value in model.state_dict().items()}
    guard = Guard(model, masks=masks)
    assert math.isfinite(_step(model, inputs, labels, guard))
    for key, mask in masks.items():
        weight = model.get_parameter(key)
        assert not weight[~mask].any()
        assert mask.any()
        assert not torch.equal(weight[mask], before[key][mask]), f"{key} of {name} was not trained"


def test_made_butterfly_it_reaches_the_density_and_trains_every_factor(case):
    name, model, inputs, labels = case
    dense = copy.deepcopy(model)
    wanted = FLOORS.get(name, 0.1)
    done = butterfly(model, density=wanted)
    stored = sum(p.numel() for p in model.parameters())
    assert done.summary.nonzero == stored
    assert done.summary.parameters == sum(p.numel() for p in dense.parameters())
    assert 0.9 * wanted < stored / done.summary.parameters <= wanted
    layers = {key: m for key, m in model.named_modules() if isinstance(m, KSLayer)}
    assert {key.removesuffix(".in_proj") for key in layers} == set(done.chains)
    for key, layer in layers.items():
        weight = dense.get_parameter(f"{key}_weight" if key.endswith("in_proj") else f"{key}.weight")
        assert layer.weight.shape == layer.weight_shape == weight.shape
    before = [factor.clone() for layer in layers.values() for factor in layer.factors]
    assert math.isfinite(_step(model, inputs, labels))
    after = [factor for layer in layers.values() for factor in layer.factors]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

    plain = copy.deepcopy(model)
    densify(plain)
    dense.load_state_dict(composed_state(model))
    for network in (model, plain, dense):
        network.eval()
    with torch.no_grad():
        answer = model(inputs)
        torch.testing.assert_close(plain(inputs), answer, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dense(inputs), answer, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, KSLayer) for m in plain.modules())


def test_what_no_chain_can_replace_is_said_layer_by_layer():
    mobile, bert = MobileNet(), Bert()
    recurrent = nn.Sequential(nn.Linear(64, 64), nn.GRU(64, 64), nn.Linear(64, 64), nn.Linear(64, 4))
    assert "GRU" in butterfly(recurrent, density=0.95).dense["1.weight_ih_l0"]
    dense = butterfly(mobile, density=0.3).dense
    assert dense["stem.weight"] == "first weight"
    assert dense["head.weight"] == "last weight"
    assert "no chain" in dense["depthwise.weight"]
    assert mobile.grouped.groups == 2
    assert "shared" in butterfly(bert, density=0.7, ignore=["blocks.0"]).dense["decoder.weight"]


def test_below_the_floor_of_chains_the_factors_are_pruned():
    model = ViT(fused=False)
    with pytest.raises(UsageError, match=r"density = 0\.02 is below 0\.\d+.*prune the factors on top"):
        butterfly(model, density=0.02)
    assert not any(isinstance(m, KSLinear) for m in model.modules())
    butterfly(model, density=0.1)
    masks = prune(model, density=0.05)
    assert any(".factors." in name for name in masks)
    found = summary(model, masks)
    assert found.nonzero == round(0.05 * found.parameters)
    apply_masks(model, masks)
    assert _step(model, torch.randn(IMAGES), torch.randint(10, (4,)), Guard(model, masks=masks)) > 0
    assert all(not model.get_parameter(name)[~mask].any() for name, mask in masks.items())


def test_projected_layers_begin_at_the_trained_weights():
    fresh, near = ViT(fused=False), None
    near = copy.deepcopy(fresh)
    torch.manual_seed(1)
    far = copy.deepcopy(fresh)
    butterfly(near, density=0.6, projected=True)
    butterfly(far, density=0.6)
    for name, module in near.named_modules():
        if isinstance(module, KSLinear):
            weight = fresh.get_submodule(name).weight
            assert (module.weight - weight).norm() < weight.norm() < (far.get_submodule(name).weight - weight).norm()


def test_weight_decay_of_the_product_is_that_of_a_dense_network():
    """On the factors, and as a penalty on their product: by hand on one layer."""
    layer = KSLinear(16, 16)
    model = nn.Sequential(layer, nn.Linear(16, 2))
    (spared,) = [g["params"] for g in decay_groups(model, 0.1, factors=False) if g["weight_decay"] == 0]
    assert {id(p) for p in spared} == {id(f) for f in layer.factors}
    (every,) = decay_groups(model, 0.1)
    assert len(every["params"]) == len(list(model.parameters()))
    torch.testing.assert_close(product_norm(model), layer.weight.square().sum())
    with pytest.raises(UsageError, match="no butterfly layer"):
        product_norm(nn.Linear(2, 2))
