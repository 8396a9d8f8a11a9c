"""ResNet-50, EfficientNet and ViT: published sizes, what each computes, one masked training step, refused options."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing import models
from lacewing.config import Model, Train
from lacewing.errors import UsageError
from lacewing.models.bottleneck import BottleneckResNet
from lacewing.models.efficientnet import EfficientNet
from lacewing.models.transformer import Attention, VisionTransformer
from lacewing.sparsify import butterfly, prune, summary
from lacewing.sparsify.guard import Guard
from lacewing.training.loop import train

VIT = {"patch": 8, "width": 24, "depth": 2, "heads": 3}
SMALL = {
    "vit": Model(name="vit", options=VIT),
    "resnet50": Model(name="resnet50", width=2, options={"stem": "small"}),
    "efficientnet-b0": Model(name="efficientnet-b0", options={"width": 0.1, "depth": 0.5, "stem": "small"}),
}


def _count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (Model(name="resnet50"), 25_557_032),
        (Model(name="efficientnet-b0"), 5_288_548),
        (Model(name="efficientnet-b0", options={"width": 1.1, "depth": 1.2}), 9_109_994),  # EfficientNet-B2
        (Model(name="efficientnet-b0", options={"width": 2.0, "depth": 3.1}), 66_347_960),  # EfficientNet-B7
        (Model(name="vit", options={"patch": 16, "width": 384, "depth": 12, "heads": 6}), 22_050_664),  # ViT-S/16
        (Model(name="vit", options={"patch": 16, "width": 768, "depth": 12, "heads": 12}), 86_567_656),  # ViT-B/16
    ],
)
def test_models_have_the_published_parameters(model, wanted):
    with torch.device("meta"):
        assert _count(models.build(model, (3, 224, 224), 1000)) == wanted


def test_deeper_resnets_have_the_published_parameters():
    with torch.device("meta"):
        assert _count(BottleneckResNet(blocks=(3, 4, 23, 3))) == 44_549_160
        assert _count(BottleneckResNet(blocks=(3, 8, 36, 3))) == 60_192_808


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [
        (Model(name="vit", options=VIT), (3, 32, 32), 10),
        (Model(name="vit", options={"patch": 4, "width": 40, "depth": 3, "heads": 5}), (1, 8, 12), 7),
        (Model(name="resnet50"), (3, 32, 32), 10),
        (Model(name="resnet50", width=3, options={"stem": "small"}), (1, 8, 8), 4),
    ],
)
def test_weights_are_counted_before_a_model_is_built(model, shape, classes, monkeypatch):
    with torch.device("meta"):
        count = sum(p.numel() for p in models.build(model, shape, classes).parameters() if p.ndim > 1)
    monkeypatch.setattr(models, "MOST_WEIGHTS", count)
    models.check(model, shape, classes)
    monkeypatch.setattr(models, "MOST_WEIGHTS", count - 1)
    with pytest.raises(UsageError, match=f"would have {count:,} weights here"):
        models.check(model, shape, classes)


def test_the_largest_efficientnet_is_below_the_bound():
    with torch.device("meta"):
        assert _count(EfficientNet(classes=1000, width=3.0, depth=3.5)) < models.MOST_WEIGHTS


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_a_vit_without_positions_does_not_see_the_order_of_patches():
    """And with them it does: of two patches that change places only the positions know."""
    torch.manual_seed(0)
    model, x = VisionTransformer((4, 8), classes=3, patch=4, width=12, depth=2, heads=3).eval(), torch.randn(2, 3, 4, 8)
    swapped = torch.cat([x[..., 4:], x[..., :4]], 3)
    assert (model(x) - model(swapped)).abs().max() > 1e-4
    model.pos_embed.data.zero_()
    torch.testing.assert_close(model(x), model(swapped))


@pytest.mark.parametrize("name", SMALL)
def test_a_record_is_answered_alone_and_dropout_changes_no_name(name):
    torch.manual_seed(0)
    plain, dropped = (models.build(SMALL[name], (3, 16, 16), 5, dropout=share) for share in (0.0, 0.5))
    assert [*plain.state_dict()] == [*dropped.state_dict()]
    x = torch.randn(3, 3, 16, 16)
    assert not torch.equal(dropped(x), dropped(x))
    plain.eval()
    torch.testing.assert_close(plain(x)[1:2], plain(x[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_two_steps_under_masks_keep_zeros_learn_and_resume_to_the_same_bytes(name):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (8, 3, 16, 16)).astype(np.uint8), np.arange(8) % 4
    config = Train(epochs=2, batch_size=4, lr=0.02, precision="fp32")
    normalisation = np.full(3, 128, np.float32), np.full(3, 74, np.float32)

    def trained(stop=None, progress=None):
        torch.manual_seed(1)
        model = models.build(SMALL[name], (3, 16, 16), 4)
        masks = prune(model, density=0.5)
        if stop is None and progress is None:
            assert all((model.get_parameter(n)[~mask] != 0).any() for n, mask in masks.items() if (~mask).any())
            start.update({n: p.detach().clone() for n, p in model.named_parameters()})
            assert summary(model, masks).density == pytest.approx(0.5, abs=1 / _count(model))
        found = train(
            model, x, y, config, normalisation=normalisation, seed=3, guard=Guard(model, masks=masks),
            stop_after=stop, progress=progress,
        )  # fmt: skip
        return model, masks, found

    start: dict[str, torch.Tensor] = {}
    model, masks, _ = trained()
    for parameter, mask in masks.items():
        assert (model.get_parameter(parameter)[~mask] == 0).all()
    assert all((model.get_parameter(n) != start[n]).any() for n in start if n in masks and masks[n].any())
    half = trained(stop=1)[2]
    resumed = trained(progress=copy.deepcopy(half))[0]
    for parameter, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[parameter], value), parameter


def test_attention_and_linear_layers_of_a_vit_become_butterfly_and_train():
    torch.manual_seed(0)
    model = models.build(Model(name="vit", options=VIT | {"width": 48}), (3, 32, 32), 10)
    dense = _count(model)
    found = butterfly(model, density=0.5, ignore=["head"])
    assert {f"blocks.{n}.{layer}" for n in (0, 1) for layer in ("attn.qkv", "attn.proj", "fc1", "fc2")} <= {
        *found.chains
    }
    assert "head.weight" in found.dense
    assert _count(model) <= 0.5 * dense
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    before = F.cross_entropy(model(x), y)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert F.cross_entropy(model(x), y) < before


def test_depthwise_layers_of_an_efficientnet_stay_dense_beside_butterfly_layers():
    torch.manual_seed(0)
    model = models.build(Model(name="efficientnet-b0", options={"width": 0.5, "depth": 0.5}), (3, 32, 32), 10)
    depthwise = [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    found = butterfly(model, density=0.5, ignore=["fc"])
    assert len(depthwise) == 1 + 1 + 1 + 2 + 2 + 2 + 1  # half of each segment, rounded up
    assert {*depthwise} <= {*found.dense}
    assert found.chains
    assert math.isfinite(model(torch.randn(2, 3, 32, 32)).sum().item())


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        (
            Model(name="vit", options={"pach": 4}),
            (3, 32, 32),
            r"model.options.pach: 'vit' has no such option; did you mean 'patch'",
        ),
        (
            Model(name="vit", options={"patch": "4"}),
            (3, 32, 32),
            r"model.options.patch = '4': give a whole number from 1 to 256",
        ),
        (Model(name="vit", options={"depth": True}), (3, 32, 32), r"model.options.depth = True: give a whole number"),
        (
            Model(name="vit", options={"patch": 5}),
            (3, 32, 32),
            r"patch = 5 does not divide images of 32 x 32 pixels; give 1, 2, 4, 8, 16 or 32",
        ),
        (Model(name="vit", options={"patch": 4}), (1, 8, 6), r"does not divide images of 8 x 6 pixels; give 1 or 2"),
        (
            Model(name="vit", options={"width": 96, "heads": 5}),
            (3, 32, 32),
            r"heads = 5 does not divide the width, 96; give 1, 2, 3,",
        ),
        (Model(name="vit", options={"patch": 1}), (3, 224, 224), r"into 50,176 patches: at most 4,096"),
        (
            Model(name="vit", options={"width": 4096, "heads": 4, "depth": 100}),
            (3, 32, 32),
            r"model.options.width: 'vit' would have",
        ),
        (Model(name="vit", width=96), (3, 32, 32), r"model.width is no option of 'vit', which has model.options.patch"),
        (Model(name="vit"), (446,), r"'vit' needs images"),
        (Model(name="efficientnet-b0"), (446,), r"'efficientnet-b0' needs images"),
        (Model(name="efficientnet-b0", norm="group"), (3, 32, 32), r"model.norm is no option of 'efficientnet-b0'"),
        (
            Model(name="efficientnet-b0", options={"width": 0}),
            (3, 32, 32),
            r"options.width = 0: give a number from 0.05 to 3",
        ),
        (Model(name="resnet50", options={"stem": "tiny"}), (3, 32, 32), r"stem = 'tiny': give 'imagenet' or 'small'"),
        (Model(name="resnet50", hidden=(3,)), (3, 32, 32), r"model.hidden is an option of 'mlp'"),
        (Model(name="resnet20", options={"depth": 2}), (3, 32, 32), r"'resnet20' has no such option; it takes none"),
        (Model(name="mlp", options={"depth": 2}), (9,), r"'mlp' has no such option; it takes none"),
    ],
)
def test_impossible_options_are_one_sentence(model, shape, said):
    with pytest.raises(UsageError, match=said) as caught:
        models.check(model, shape, 10)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.")


def test_options_are_part_of_a_fingerprint_only_where_there_are_any():
    assert "options" not in models.fingerprint(Model(name="resnet50"))
    assert models.fingerprint(Model(name="vit", options={"patch": 8})) != models.fingerprint(Model(name="vit"))
