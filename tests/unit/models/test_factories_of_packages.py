"""Factories with the signatures of timm and torchvision, and `[model] options` for factories of users."""

import sys

import numpy as np
import pytest
import torch

import lacewing as lw
from lacewing import models
from lacewing.config import Model
from lacewing.errors import UsageError, exit_code

PACKAGES = {
    "stand_in_timm": '''
from torch import nn

__version__ = "9.9"

class Net(nn.Sequential):
    def __init__(self, num_classes=1000, in_chans=3, depth=1):
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))
        self.told = {"num_classes": num_classes, "in_chans": in_chans, "depth": depth}
        self[1] = nn.Linear(in_chans * 64, num_classes)

def create_model(model_name: str, pretrained: bool = False, pretrained_cfg=None, checkpoint_path=None, **kwargs):
    """As of timm 1.0."""
    if model_name != "small":
        raise RuntimeError(f"Unknown model ({model_name})")
    return Net(**kwargs)

def stubborn(pretrained: bool = False, **kwargs):
    return Net(num_classes=1000)

def small(pretrained: bool = False, **kwargs):
    """As the functions that timm registers."""
    return Net(**kwargs)

class VisionTransformer(nn.Module):
    def __init__(self, img_size=224, patch_size=16, in_chans=3, num_classes=1000, **kwargs):
        super().__init__()
        self.told = {"img_size": img_size, "patch_size": patch_size, "in_chans": in_chans, "num_classes": num_classes}
''',
    "stand_in_torchvision": '''
from torch import nn

def resnet50(*, weights=None, progress: bool = True, **kwargs):
    """As of torchvision 0.20."""
    return _net(**kwargs)

def _net(num_classes=1000, zero_init_residual=False):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, num_classes))
''',
    "stand_in_own": '''
from torch import nn

def build(shape, classes, hidden=8, dropout=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, hidden), nn.Linear(hidden, classes))

def plain(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))

def any_of(shape, classes, **options):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
    net.told = options
    return net
''',
}  # fmt: skip
SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def packages(tmp_path, monkeypatch):
    for name, source in PACKAGES.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in PACKAGES:
        sys.modules.pop(name, None)


def _built(factory, shape=SHAPE, classes=7, **options):
    return models.build(Model(factory=factory, options=options), shape, classes)


def test_create_model_of_timm_gets_classes_and_channels():
    found = _built("stand_in_timm:create_model", (1, 8, 8), model_name="small", depth=2)
    assert found.told == {"num_classes": 7, "in_chans": 1, "depth": 2}
    assert _built("stand_in_timm:small").told == {"num_classes": 7, "in_chans": 3, "depth": 1}


def test_a_class_that_takes_the_size_of_images_gets_it():
    found = _built("stand_in_timm:VisionTransformer", (3, 8, 8), patch_size=4)
    assert found.told == {"img_size": 8, "patch_size": 4, "in_chans": 3, "num_classes": 7}
    assert _built("stand_in_timm:VisionTransformer", (3, 8, 16)).told["img_size"] == (8, 16)


def test_a_model_of_torchvision_gets_classes():
    assert _built("stand_in_torchvision:resnet50", zero_init_residual=True)(torch.zeros(2, *SHAPE)).shape == (2, 7)


def test_options_go_to_a_factory_of_the_users_own_beside_shape_and_classes():
    assert _built("stand_in_own:build", hidden=5)[1].out_features == 5
    assert _built("stand_in_own:plain")[1].out_features == 7  # shape first: called with shape and classes as ever
    assert _built("stand_in_own:any_of", heads=[1, 2]).told == {"heads": [1, 2]}


@pytest.mark.parametrize(
    ("factory", "shape", "options", "said"),
    [
        ("stand_in_timm:create_model", SHAPE, {}, r"create_model needs 'model_name': set model.options.model_name"),
        ("stand_in_timm:create_model", SHAPE, {"model_name": "smal"}, r"failed with RuntimeError: Unknown model"),
        ("stand_in_timm:create_model", SHAPE, {"model_name": "small", "dept": 3}, r"failed with TypeError.*'dept'"),
        ("stand_in_timm:Net", SHAPE, {"dept": 3}, r"options.dept: .*takes no such argument; did you mean 'depth'"),
        ("stand_in_timm:create_model", (9,), {"model_name": "small"}, r"a model of images, and records .* \(9,\)"),
        ("stand_in_timm:create_model", SHAPE, {"num_classes": 3}, r"num_classes: \[data\] of the study says that"),
        ("stand_in_torchvision:resnet50", (1, 8, 8), {}, r"takes no in_chans, and so images of 3 channels.* have 1"),
        ("stand_in_own:build", SHAPE, {"hiden": 3}, r"model.options.hiden: .*no such argument; did you mean 'hidden'"),
        ("stand_in_own:build", SHAPE, {"dropout": 0.5}, r"options.dropout: \[train\] of the study says that"),
        ("stand_in_own:plain", SHAPE, {"hidden": 3}, r"takes no such argument; it takes no options"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence(factory, shape, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        _built(factory, shape, **options)
    assert str(caught.value).startswith("model.")


@pytest.mark.slow
def test_a_factory_with_another_number_of_classes_is_refused_before_training(tmp_path):
    data = tmp_path / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(data, x=rng.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8), y=np.arange(60) % 3)
    study = {
        "name": "stubborn",
        "data": {"dataset": str(data)},
        "model": {"factory": "stand_in_timm:stubborn"},
        "train": {"precision": "fp32"},
        "networks": [{"method": "dense"}],
        "run": {"seeds": [0]},
    }
    with pytest.raises(UsageError, match=r"it must return logits of shape \(8, 3\)") as caught:
        lw.run(study, out=tmp_path / "run", quiet=True)
    assert exit_code(caught.value) == 2
    assert not (tmp_path / "run").exists()


def test_the_version_of_the_package_counts_in_a_fingerprint():
    assert models.fingerprint(Model(factory="stand_in_timm:small"))["package"] == "stand_in_timm 9.9"
    assert "package" not in models.fingerprint(Model(factory="stand_in_own:build"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"a b": 1}, "'a b' cannot name an argument"),
        ({"a": float("nan")}, "a = nan: give a finite number"),
        ({"a": None}, "a = None: give a finite number"),
        ({"a": {"b": 1}}, "give a finite number, text, true or false, or a list of these"),
        ({f"a{n}": n for n in range(60)}, "has 60 names: at most 50"),
    ],
)
def test_options_are_plain_data_by_name(options, said):
    from lacewing.config import validated

    with pytest.raises(UsageError, match=said) as caught:
        validated(Model, {"factory": "m:f", "options": options}, field="model")
    assert str(caught.value).startswith("model.options")
