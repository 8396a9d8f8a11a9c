"""The model registry, the networks' exact sizes, and the errors of users' own factories."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lacewing import models
from lacewing.config import Model
from lacewing.errors import UsageError
from lacewing.models import resnet as resnet_module


def _count(network):
    return sum(p.numel() for p in network.parameters())


def _meta(model, shape, classes):
    with torch.device("meta"):
        return models.build(model, shape, classes)


def test_resnet20_has_exactly_the_papers_parameters():
    model = _meta(Model(name="resnet20"), (3, 32, 32), 10)
    assert _count(model) == 272_474
    assert sum(p.numel() for n, p in model.named_parameters() if "bn" in n or p.ndim == 1) == 1_578


@pytest.mark.parametrize(
    ("name", "width", "channels", "classes"),
    [("resnet8", 16, 1, 10), ("resnet14", 8, 3, 7), ("resnet20", 4, 3, 10), ("resnet32", 16, 3, 100)],
)
def test_resnets_have_the_parameters_of_their_formula(name, width, channels, classes):
    """Convolutions, two batch norm parameters a channel, 1x1 shortcuts into segments 2 and 3, classifier."""
    blocks = (int(name.removeprefix("resnet")) - 2) // 6
    w = [width, 2 * width, 4 * width]
    wanted = 9 * channels * width + 2 * width + 4 * width * classes + classes
    for inputs, outputs in zip([width, *w], w, strict=False):
        wanted += 9 * inputs * outputs + 9 * (2 * blocks - 1) * outputs**2 + 2 * blocks * 2 * outputs
        wanted += inputs * outputs + 2 * outputs if inputs != outputs else 0
    assert _count(_meta(Model(name=name, width=width), (channels, 32, 32), classes)) == wanted


def test_resnet8_is_the_small_networks_size():
    assert _count(_meta(Model(name="resnet8"), (1, 8, 8), 10)) == 77_754


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 9, 13)])
def test_resnets_take_images_of_any_size(shape):
    network = models.build(Model(name="resnet8", width=2), shape, 5)
    assert network(torch.randn(2, *shape)).shape == (2, 5)


def test_equal_seeds_build_equal_networks():
    def built(seed):
        torch.manual_seed(seed)
        return models.build(Model(name="resnet8", width=2), (1, 8, 8), 3).conv1.weight

    assert torch.equal(built(0), built(0))
    assert not torch.equal(built(0), built(1))


@pytest.mark.parametrize(("hidden", "sizes"), [(None, [6, 256, 256, 3]), ((7,), [6, 7, 3]), ((), [6, 3])])
def test_mlp_has_the_hidden_layers_that_were_asked_for(hidden, sizes):
    network = models.build(Model(name="mlp", hidden=hidden), (2, 3, 1), 3)
    linear = [m for m in network if isinstance(m, nn.Linear)]
    assert [linear[0].in_features, *(m.out_features for m in linear)] == sizes
    assert sum(isinstance(m, nn.ReLU) for m in network) == len(linear) - 1
    assert network(torch.randn(4, 2, 3, 1)).shape == (4, 3)


@pytest.mark.parametrize("file", ["resnet.py", "mlp.py", "bottleneck.py", "efficientnet.py", "transformer.py"])
def test_model_files_load_on_their_own_without_lacewing(file):
    path = Path(resnet_module.__file__).with_name(file)
    code = f"""
import importlib.util, sys, types
torch, nn, functional = (types.ModuleType(name) for name in ("torch", "torch.nn", "torch.nn.functional"))
torch.nn, nn.functional, torch.Tensor, nn.Module = nn, functional, object, object  # a stub: nothing else is needed
sys.modules.update({{m.__name__: m for m in (torch, nn, functional)}})
spec = importlib.util.spec_from_file_location("alone", {str(path)!r})
spec.loader.exec_module(importlib.util.module_from_spec(spec))
assert not any(name.split(".")[0] == "lacewing" for name in sys.modules)
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_the_stand_alone_file_takes_a_checkpoint():
    spec = importlib.util.spec_from_file_location("alone", resnet_module.__file__)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    ours = models.build(Model(name="resnet8", width=2), (3, 8, 8), 4).eval()
    theirs = alone.ResNet(depth=8, classes=4, channels=3, width=2).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(theirs(x), ours(x), atol=0, rtol=0)


@pytest.mark.parametrize("depth", [0, 2, 9, 21])
def test_depths_that_no_resnet_has_are_an_error(depth):
    with pytest.raises(ValueError, match=f"depth {depth} is not 6 n"):
        resnet_module.ResNet(depth=depth)


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        (Model(name="resnet21"), (3, 8, 8), "unknown model 'resnet21'; did you mean 'resnet"),
        (Model(name="mlp", width=3), (8,), "model.width is an option of ResNets; for 'mlp' set model.hidden"),
        (Model(name="resnet8", hidden=(3,)), (3, 8, 8), "model.hidden is an option of 'mlp'"),
        (Model(name="resnet8"), (446,), r"'resnet8' needs images .* shape \(446,\); use 'mlp'"),
    ],
)
def test_registry_models_that_cannot_be_built_are_an_error(model, shape, said):
    with pytest.raises(UsageError, match=said):
        models.check(model, shape, 10)
    with pytest.raises(UsageError, match=said):
        models.build(model, shape, 10)


SOURCE = """
from torch import nn

def good(shape, classes):
    return nn.Linear(shape[0], classes)

def no_arguments():
    return nn.Linear(1, 1)

def breaks(shape, classes):
    raise RuntimeError("out of paper")

def no_module(shape, classes):
    return "a network"

number = 3

def dropped(shape, classes, dropout=0.0):
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(shape[0], classes))
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "their_models.py").write_text(SOURCE)
    (tmp_path / "their_broken.py").write_text("def f(:\n")
    (tmp_path / "their_failing.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("their_models", "their_broken", "their_failing"):
        sys.modules.pop(name, None)


def test_a_factory_of_the_users_own_is_called_with_shape_and_classes(factories):
    network = models.build(Model(factory="their_models:good"), (5,), 2)
    assert isinstance(network, nn.Linear)
    assert (network.in_features, network.out_features) == (5, 2)


def test_dropout_goes_to_a_factory_that_takes_it_and_is_refused_elsewhere(factories):
    assert models.build(Model(factory="their_models:dropped"), (5,), 2, dropout=0.25)[0].p == 0.25
    for model, said in (
        (
            Model(factory="their_models:good"),
            r"train.dropout = 0.25: model.factory: their_models:good has no parameter",
        ),
        (Model(name="mlp", hidden=()), r"train.dropout = 0.25: a perceptron without hidden layers has no place"),
    ):
        models.check(model, (5,), 2)
        with pytest.raises(UsageError, match=said):
            models.check(model, (5,), 2, dropout=0.25)
        with pytest.raises(UsageError, match=said):
            models.build(model, (5,), 2, dropout=0.25)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("their_modles:good", "cannot import 'their_modles' .* run from its folder, or add that to PYTHONPATH"),
        ("their_models:god", "'their_models' does not define 'god'; did you mean 'good'"),
        ("their_models:number", "their_models:number is not callable"),
        ("their_models:no_arguments", "failed with TypeError"),
        ("their_models:breaks", "failed with RuntimeError: out of paper; it must accept"),
        ("their_models:no_module", "returned a str; it must return a torch.nn.Module"),
        ("their_broken:f", "importing 'their_broken' failed with SyntaxError"),
        ("their_failing:f", "importing 'their_failing' failed with ZeroDivisionError"),
    ],
)
def test_factory_errors_are_one_sentence_that_names_the_field(factories, factory, said):
    with pytest.raises(UsageError, match=said) as caught:
        models.build(Model(factory=factory), (5,), 2)
    assert str(caught.value).startswith("model.factory: ")
    sentence, *lines = str(caught.value).splitlines()
    assert sentence.endswith((".", "?"))
    if "breaks" in factory:
        assert lines == ['  their_models.py, line 11, in breaks: raise RuntimeError("out of paper")']
    elif "failing" in factory:
        assert lines == ["  their_failing.py, line 1, in <module>: 1 / 0"]
    else:
        assert not lines


def test_fingerprints_follow_settings_source_and_version(factories):
    def of(**fields):
        return models.fingerprint(Model(**fields))

    assert of(name="resnet8") == of(name="resnet8")
    assert of(name="resnet8") != of(name="resnet8", width=8)
    first = of(factory="their_models:good")
    assert first == of(factory="their_models:good")
    assert first != of(factory="their_models:good", version="2")
    sys.modules.pop("their_models")
    (factories / "their_models.py").write_text(SOURCE + "# edited\n")
    importlib.invalidate_caches()
    assert first["source"] != of(factory="their_models:good")["source"]


def test_a_factory_without_source_is_refused():
    with pytest.raises(UsageError, match="has no source file"):
        models.fingerprint(Model(factory="math:sqrt"))


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56])
@pytest.mark.parametrize(("width", "channels", "classes"), [(16, 3, 10), (5, 1, 100)])
def test_weights_are_counted_before_a_model_is_built(depth, width, channels, classes, monkeypatch):
    model, shape = Model(name=f"resnet{depth}", width=width), (channels, 8, 8)
    with torch.device("meta"):
        network = models.build(model, shape, classes)
    count = sum(p.numel() for p in network.parameters() if p.ndim > 1)
    _assert_counted(model, shape, classes, count, monkeypatch)


@pytest.mark.parametrize("hidden", [None, (), (7,), (30, 4)])
def test_weights_of_a_perceptron_are_counted_before_it_is_built(hidden, monkeypatch):
    model = Model(name="mlp", hidden=hidden)
    count = sum(p.numel() for p in models.build(model, (2, 5), 3).parameters() if p.ndim > 1)
    _assert_counted(model, (2, 5), 3, count, monkeypatch)


def _assert_counted(model, shape, classes, count, monkeypatch):
    monkeypatch.setattr(models, "MOST_WEIGHTS", count)
    models.check(model, shape, classes)
    monkeypatch.setattr(models, "MOST_WEIGHTS", count - 1)
    with pytest.raises(UsageError, match=f"would have {count:,} weights here: at most {count - 1:,}"):
        models.build(model, shape, classes)


def test_a_model_that_no_memory_holds_is_refused():
    with pytest.raises(UsageError, match=r"model\.hidden: 'mlp' would have 4,[\d,]+ weights here"):
        models.build(Model(name="mlp", hidden=(2**16, 2**16)), (64,), 10)


def test_the_widest_resnet_is_below_the_bound():
    models.check(Model(name="resnet56", width=256), (3, 32, 32), 100)


def test_sizes_are_checked_after_a_module_of_the_package_was_imported_late():
    """A module of the package and a function of its __init__ share one namespace: a late import hides the function."""
    code = (
        "import lacewing.models as models; from lacewing.config import Model; import lacewing.models._weights;"
        "models.check(Model(name='resnet8'), (1, 8, 8), 10)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_of_an_installed_package_is_a_name_with_the_source_in_its_fingerprint(factories):
    added = factories / "theirs-1.0.dist-info"
    added.mkdir()
    (added / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (added / "entry_points.txt").write_text(
        "[lacewing.models]\ntheir-net = their_models:good\nmlp = their_models:good\n"
    )
    assert isinstance(models.build(Model(name="their-net"), (5,), 2), nn.Linear)
    factory = models.fingerprint(Model(factory="their_models:good"))
    assert models.fingerprint(Model(name="their-net"))["source"] == factory["source"]
    with pytest.raises(UsageError, match="'their-net' of an installed package takes no width"):
        models.check(Model(name="their-net", width=8), (5,), 2)
    with pytest.raises(UsageError, match="unknown model 'their-nett'; did you mean 'their-net'"):
        models.check(Model(name="their-nett"), (5,), 2)
    with pytest.raises(UsageError, match="'mlp' is built in, and the installed package 'theirs' adds the same name"):
        models.fingerprint(Model(name="mlp"))
