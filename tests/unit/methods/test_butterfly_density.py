"""Butterfly networks by density: keys of those by segments stay, perceptrons get chains, both at once is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lacewing.config import Train, validated
from lacewing.errors import UsageError
from lacewing.methods.butterfly import Butterfly
from lacewing.models.bottleneck import BottleneckResNet
from lacewing.models.mlp import mlp
from lacewing.models.resnet import ResNet
from lacewing.sparsify import KSLinear


def test_a_density_replaces_every_layer_of_a_perceptron_but_the_last() -> None:
    spec = Butterfly(density=0.35)
    torch.manual_seed(0)
    dense = mlp(64, 10, (64, 64))
    model = spec.build(mlp(64, 10, (64, 64)))
    kinds = [type(layer) for layer in model if hasattr(layer, "bias")]
    assert kinds == [KSLinear, KSLinear, torch.nn.Linear]
    sizes = [sum(p.numel() for p in each.parameters()) for each in (model, dense)]
    assert 0.25 < sizes[0] / sizes[1] <= 0.35
    x = torch.randn(5, 64)
    torch.testing.assert_close(spec.export(model, dense)(x), model(x), rtol=1e-4, atol=1e-5)
    assert spec.default_name() == "butterfly-d35-l2"


def test_what_is_declared_by_segments_keeps_its_key() -> None:
    assert Butterfly().settings() == {"method": "butterfly", "segments": 3, "factors": 2, "columns": "channel-first"}
    assert "segments" not in Butterfly(density=0.35).settings()


def test_density_and_segments_are_refused_together() -> None:
    with pytest.raises(UsageError, match="density replaces every layer but the last"):
        validated(Butterfly, {"method": "butterfly", "density": 0.5, "segments": 2}, field="networks.0")


class Mixed(nn.Module):
    """An embedding, a stem, a grouped and a depthwise convolution, a fused attention, two linear layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 16)
        self.stem, self.grouped = nn.Conv2d(4, 16, 3), nn.Conv2d(16, 32, 3, groups=2)
        self.depthwise = nn.Conv2d(32, 32, 3, groups=32)
        self.attention = nn.MultiheadAttention(32, 2)
        self.fc1, self.fc2, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 3)


@pytest.mark.parametrize(
    ("fields", "replaced"),
    [
        ({}, {"stem", "grouped", "attention", "attention.out_proj", "fc1", "fc2"}),
        ({"layers": "linear"}, {"attention", "attention.out_proj", "fc1", "fc2"}),
        ({"layers": "conv", "density": 0.9}, {"stem", "grouped"}),
        ({"ignore": ["fc*", "stem"]}, {"grouped", "attention", "attention.out_proj"}),
        ({"layers": "linear", "ignore": ["attention"]}, {"fc1", "fc2"}),
    ],
)
def test_layers_and_ignore_say_what_is_replaced(fields: dict[str, Any], replaced: set[str]) -> None:
    dense = Mixed()
    spec = validated(Butterfly, {"method": "butterfly", "density": 0.8, **fields}, field="networks.0")
    before = {name: type(module) for name, module in dense.named_modules()}
    model = spec.build(Mixed())
    found = {name for name, module in model.named_modules() if before.get(name, type(module)) is not type(module)}
    assert found == replaced
    sizes = [sum(p.numel() for p in each.parameters()) for each in (model, dense)]
    assert sizes[0] <= spec.density * sizes[1]
    assert spec.count(Mixed(), spec.steps(Train())[0]) == sizes[0]
    spec.export(model, dense)
    composed = model.get_submodule(min(replaced - {"attention"})).weight
    assert torch.equal(dense.get_submodule(min(replaced - {"attention"})).weight, composed)


def test_the_plan_says_which_layers_stay_dense_and_why() -> None:
    spec = Butterfly(density=0.9, layers="conv", ignore=("stem",))
    (told,) = spec.notes(Mixed(), spec.steps(Train())[0])
    assert told == (
        "1 of 9 layers become butterfly. Dense layers: stem (ignored); attention.in_proj_weight, "
        "attention.out_proj, fc1, fc2 (not asked for: layers = 'conv'); head (the last layer); depthwise (depthwise: "
        "one channel a group has no chain); embed (embedding)."
    )


def test_segments_tell_of_dense_layers_only_where_these_are_most_of_the_weights() -> None:
    step = Butterfly().steps(Train())[0]
    assert Butterfly(segments=2).notes(ResNet(8, width=4), step) == []
    (told,) = Butterfly(segments=4).notes(BottleneckResNet(10, width=8), step)
    assert told.startswith("16 of 54 layers become butterfly. Dense layers: conv1 (not in these segments); ")
    assert "segments.0.0.conv1, segments.0.0.conv3, segments.0.0.shortcut.0" in told
    assert "and 32 more (1x1, not a spatial convolution); fc (no convolution)." in told


def test_settings_that_came_later_are_in_a_key_only_where_they_are_given() -> None:
    plain = {"method": "butterfly", "factors": 2, "columns": "channel-first", "density": 0.3}
    assert Butterfly(density=0.3).settings() == plain
    assert Butterfly(density=0.3, layers="all", ignore=()).settings() == plain
    given = Butterfly(density=0.3, layers="conv", ignore=("stem", "a.*"))
    assert given.settings() == plain | {"layers": "conv", "ignore": ["stem", "a.*"]}
    assert Butterfly(ignore=("stem",)).settings()["ignore"] == ["stem"]
    assert given.default_name() == "butterfly-d30-l2-conv"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layers": "conv"}, r"networks.0.layers = 'conv' goes with density: segments are of convolutions"),
        ({"density": 0.5, "layers": "dense"}, r"networks.0.layers = 'dense'.*'all', 'linear' or 'conv'"),
        ({"density": 0.5, "ignore": ["a", "a"]}, r"networks.0.ignore: \['a', 'a'\] names a layer twice"),
        ({"density": 0.5, "ignore": "a"}, r"networks.0.ignore = 'a': give a list"),
    ],
)
def test_impossible_settings_are_one_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        validated(Butterfly, {"method": "butterfly", **fields}, field="networks.0")


def _normed() -> nn.Module:
    model = mlp(64, 10, (64, 64))
    torch.nn.utils.parametrizations.weight_norm(model[1])
    return model


@pytest.mark.parametrize(
    ("spec", "make", "said"),
    [
        (Butterfly(density=0.5, ignore=("fc9",)), Mixed, r"ignore: 'fc9' matches no prunable weight; did you mean 'fc"),
        (Butterfly(density=0.5, ignore=("embed",)), Mixed, r"'embed' matches no prunable weight: nothing in it"),
        (
            Butterfly(density=0.5, ignore=("*",)),
            Mixed,
            r"no layer is left to make butterfly: stem \(ignored\), .*, 3 more",
        ),
        (Butterfly(density=0.5, layers="conv"), lambda: mlp(64, 10, (64,)), "the model has no convolution"),
        (Butterfly(density=0.5, layers="linear"), lambda: ResNet(8), r"no linear layer is left .*: fc \(ignored\)\."),
        (Butterfly(density=0.01), Mixed, r"is below 0\.\d{4}, the lowest that chains reach on this model"),
        (Butterfly(density=0.5), _normed, r"the weight of '1' is not a plain parameter.*ignore=\['1'\]"),
        (Butterfly(segments=2), lambda: mlp(64, 10, (64,)), "the model has none; give a density instead"),
        (
            Butterfly(segments=1),
            lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8)),
            "all spatial convolutions of these segments are depthwise and stay dense",
        ),
    ],
)
def test_what_cannot_be_reached_is_one_sentence_and_changes_nothing(
    spec: Butterfly, make: Callable[[], nn.Module], said: str
) -> None:
    model = make()
    before = [*model.modules()]
    with pytest.raises(UsageError, match=said):
        spec.build(model)
    assert [*model.modules()] == before


def test_a_parametrised_layer_that_is_ignored_stays_as_it_is_even_without_values() -> None:
    with torch.device("meta"):
        model = _normed()
        spec = Butterfly(density=0.9, ignore=("1",))
        (told,) = spec.notes(model, spec.steps(Train())[0])
    assert told == "1 of 3 layers become butterfly. Dense layers: 1 (ignored); 5 (the last layer)."
    assert [type(layer) for layer in model if hasattr(layer, "factors")] == [KSLinear]


def test_a_parametrised_head_is_the_last_layer() -> None:
    model = mlp(64, 10, (64, 64))
    torch.nn.utils.parametrizations.weight_norm(model[5])
    spec = Butterfly(density=0.8)
    (told,) = spec.notes(model, spec.steps(Train())[0])
    assert told == "2 of 3 layers become butterfly. Dense layers: 5 (the last layer)."


def test_butterfly_layers_that_a_model_has_already_stay_and_are_named() -> None:
    model = nn.Sequential(KSLinear(64, 64), nn.Linear(64, 64), KSLinear(64, 64), nn.Linear(64, 64), KSLinear(64, 64))
    spec, first = Butterfly(density=0.5, ignore=("3",)), model[0]
    (told,) = spec.notes(model, spec.steps(Train())[0])
    assert told == (
        "1 of 5 layers become butterfly. Dense layers: 0, 2 (butterfly already); 3 (ignored); 4 (the last layer). "
        "density = 0.5 counts what is butterfly already as the dense layers that it stands for."
    )
    assert model[0] is first
    stored = sum(p.numel() for p in model.parameters())
    assert 0.45 < stored / (5 * (64 * 64 + 64)) <= 0.5
    assert [type(layer) for layer in model] == [KSLinear, KSLinear, KSLinear, nn.Linear, KSLinear]


def test_a_chain_of_more_factors_is_named_where_it_reaches_less() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2))
    with pytest.raises(UsageError) as caught:
        Butterfly(density=0.05, factors=2).build(model)
    told = re.search(
        r"is below (0\.\d+), .* \((0\.\d+) with factors = (\d)\); .*biases and norms are (0\.\d+) of it",
        str(caught.value),
    )
    assert told is not None
    least, better, factors, dense = (float(text) for text in told.groups())
    total = sum(p.numel() for p in model.parameters())
    assert dense == math.ceil(1e4 * (total - 2 * 64 * 64) / total) / 1e4
    with pytest.raises(UsageError):
        Butterfly(density=better, factors=2).build(model)
    reached = Butterfly(density=better, factors=int(factors)).build(model)
    assert sum(p.numel() for p in reached.parameters()) <= better * total < least * total
