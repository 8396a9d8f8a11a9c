"""Masks: which weights may be pruned, masks that fit their model, and masks on disk."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations

from lacewing.errors import UsageError
from lacewing.models.resnet import ResNet
from lacewing.sparsify import butterfly
from lacewing.sparsify.masks import apply_masks, check_masks, load_masks, pack, prunable, save_masks, unpack


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _net():
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))


class _Tied(nn.Module):
    """An encoder and a decoder of one weight, and one layer that stands at two places."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.between = nn.Linear(4, 4)
        self.decoder = nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        self.again = self.between


PRUNABLE = {  # every kind of layer that has weights to prune, and what they are called
    "conv": (lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3)), ["0.weight"]),
    "conv 3d": (lambda: nn.Conv3d(2, 3, 1), ["weight"]),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2)), ["0.weight"]),
    "bilinear": (lambda: nn.Sequential(nn.Bilinear(2, 3, 4)), ["0.weight"]),
    "recurrent": (
        lambda: nn.LSTM(3, 4, num_layers=2, proj_size=2),
        ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0", "weight_ih_l1", "weight_hh_l1", "weight_hr_l1"],
    ),
    "both ways": (
        lambda: nn.Sequential(nn.GRU(3, 4, bidirectional=True)),
        ["0.weight_ih_l0", "0.weight_hh_l0", "0.weight_ih_l0_reverse", "0.weight_hh_l0_reverse"],
    ),
    "cell": (lambda: nn.Sequential(nn.GRUCell(3, 4)), ["0.weight_ih", "0.weight_hh"]),
    "attention": (lambda: nn.Sequential(nn.MultiheadAttention(4, 2)), ["0.in_proj_weight", "0.out_proj.weight"]),
    "attention of three widths": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
    ),
    "never": (lambda: nn.Sequential(nn.Embedding(3, 2), nn.LayerNorm(2), nn.PReLU()), []),
    "shared": (_Tied, ["encoder.weight", "between.weight"]),
}


@pytest.mark.parametrize("kind", PRUNABLE)
def test_prunable_are_the_weights_of_each_kind_of_layer_and_nothing_else(kind):
    factory, names = PRUNABLE[kind]
    assert prunable(factory()) == names


def test_prunable_of_resnet20_are_all_parameters_but_batch_norm_and_bias():
    model = ResNet()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(sizes[name] for name in prunable(model)) == 272_474 - 1_578
    assert not any("bn" in name or name.endswith("bias") for name in prunable(model))


def test_factors_of_butterfly_layers_and_declared_weights_of_users_are_prunable():
    model = nn.Sequential(nn.Linear(16, 16), nn.MultiheadAttention(16, 2))
    butterfly(model, density=0.7, ignore=["1.out_proj"], factors=2)
    assert prunable(model) == [
        "0.factors.0",
        "0.factors.1",
        "1.out_proj.weight",
        "1.in_proj.factors.0",
        "1.in_proj.factors.1",
    ]

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.core, self.scale = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(1))

        def prunable_parameters(self):
            return ["core"]

    assert prunable(nn.Sequential(Mine())) == ["0.core"]


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (["stem"], ["body.0.conv", "body.0.fc", "body.1.conv", "body.1.fc", "head"]),
        (["body"], ["stem", "head"]),
        (["body.1.conv.weight", "stem"], ["body.0.conv", "body.0.fc", "body.1.fc", "head"]),
        (["body.*.conv"], ["stem", "body.0.fc", "body.1.fc", "head"]),
        (["*.fc"], ["stem", "body.0.conv", "body.1.conv", "head"]),
        ([nn.Conv2d], ["body.0.fc", "body.1.fc", "head"]),
        ([nn.ModuleDict, "stem"], ["head"]),
        (["*"], []),
    ],
)
def test_ignore_goes_by_name_wildcard_type_and_holder(ignore, left):
    blocks = [nn.ModuleDict({"conv": nn.Conv2d(2, 2, 1), "fc": nn.Linear(2, 2)}) for _ in range(2)]
    model = nn.Module()
    model.stem, model.body, model.head = nn.Conv2d(1, 2, 1), nn.ModuleList(blocks), nn.Linear(2, 2)
    assert prunable(model, ignore) == [f"{name}.weight" for name in left]


@pytest.mark.parametrize("ignore", ["encoder", "decoder"])
def test_a_shared_weight_stays_whole_if_either_of_its_layers_is_ignored(ignore):
    assert prunable(_Tied(), [ignore]) == ["between.weight"]
    assert prunable(_Tied(), ["again"]) == ["encoder.weight"]


@pytest.mark.parametrize(
    ("ignore", "said"),
    [
        ("layer.con", r"ignore: 'layer\.con' matches no prunable weight; did you mean 'layer\.conv'\?"),
        ("layer.norm", r"ignore: 'layer\.norm' matches no prunable weight"),
        ("", "ignore: '' matches no prunable weight"),
        (nn.LSTM, "ignore: the model has no LSTM whose weights could be pruned"),
        (nn.BatchNorm2d, "ignore: the model has no BatchNorm2d whose weights could be pruned"),
    ],
)
def test_an_ignore_that_fits_nothing_is_an_error(ignore, said):
    model = nn.ModuleDict({"layer": nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "norm": nn.BatchNorm2d(1)})})
    with pytest.raises(UsageError, match=said):
        prunable(model, ["layer.conv.weight", ignore])


def _old_weight_norm(module, name="weight"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(module, name)


PARAMETRISED = {
    "linear": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "linear, old weight norm": lambda: _old_weight_norm(nn.Linear(4, 4)),
    "convolution": lambda: parametrizations.spectral_norm(nn.Conv2d(2, 2, 1)),
    "recurrent": lambda: parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"),
    "recurrent, old weight norm": lambda: _old_weight_norm(nn.LSTM(3, 4), "weight_hh_l0"),
    "cell": lambda: parametrizations.weight_norm(nn.GRUCell(3, 4), "weight_hh"),
    "attention": lambda: parametrizations.spectral_norm(nn.MultiheadAttention(4, 2), "in_proj_weight"),
}


@pytest.mark.parametrize("kind", PARAMETRISED)
def test_a_parametrised_weight_is_never_skipped_in_silence(kind):
    model = nn.ModuleDict({"odd": PARAMETRISED[kind](), "fc": nn.Linear(2, 2)})
    with pytest.raises(UsageError, match=r"the weight of 'odd' is not a plain parameter .*ignore=\['odd'\]"):
        prunable(model)
    assert prunable(model, ["odd"]) == ["fc.weight"]


@pytest.mark.parametrize("refuses", [check_masks, apply_masks])
@pytest.mark.parametrize(
    ("name", "mask", "said"),
    [
        (
            "5.weight",
            torch.ones(3, 1, 2, 2, dtype=torch.bool),
            r"'5\.weight', which the model does not have; .*another",
        ),
        ("1.running_var", torch.ones(3, dtype=torch.bool), r"'1\.running_var', which the model does not have"),
        ("4.weight", torch.ones(12, 4, dtype=torch.bool), r"shape \(12, 4\) and the weight \(4, 12\); .*another model"),
        ("4.weight", torch.ones(4, 12), r"'4\.weight' holds torch\.float32; give torch\.bool"),
    ],
)
def test_masks_of_another_model_are_refused_and_change_nothing(refuses, name, mask, said):
    model = _net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UsageError, match=said):
        refuses(model, {"0.weight": torch.zeros(3, 1, 2, 2, dtype=torch.bool), name: mask})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_apply_masks_zeroes_pruned_weights_even_infinite_ones_and_no_other():
    model = _net()
    mask = torch.rand(4, 12) < 0.5
    weight = model[4].weight.detach().clone()
    with torch.no_grad():
        model[4].weight[~mask] = torch.inf
    apply_masks(model, {"4.weight": mask})
    assert torch.equal(model[4].weight, torch.where(mask, weight, 0))
    assert model[4].weight.requires_grad
    assert model[4].weight.is_leaf

    tied = _Tied()  # under its other name too
    apply_masks(tied, {"decoder.weight": torch.eye(4, dtype=torch.bool)})
    assert int(tied.encoder.weight.count_nonzero()) == 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=3), st.integers(0, 999))
def test_unpack_inverts_pack_of_any_shape_at_a_bit_a_weight(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = {f"layer|{i}.weight": torch.rand(shape, generator=generator) < 0.5 for i, shape in enumerate(shapes)}
    packed = pack(masks)
    found = unpack(packed)
    assert list(found) == list(masks)
    assert all(torch.equal(found[name], mask) and found[name].dtype == torch.bool for name, mask in masks.items())
    bits = {name: tensor for name, tensor in packed.items() if name.endswith("bits")}
    assert all(tensor.dtype == torch.uint8 for tensor in bits.values())
    assert sum(t.numel() for t in bits.values()) == sum(-(-m.numel() // 8) for m in masks.values())


def test_masks_on_disk_are_a_bit_a_weight_and_come_back_as_they_were(tmp_path):
    model = nn.Sequential(nn.Linear(100, 160), nn.Conv2d(2, 3, 3))
    masks = {
        "0.weight": (torch.rand(100, 160) < 0.3).T,  # not contiguous
        "1.weight": torch.rand(3, 2, 3, 3) < 0.5,
    }
    save_masks(masks, tmp_path / "masks.safetensors")
    found = load_masks(tmp_path / "masks.safetensors", model)
    assert list(found) == list(masks)
    assert all(torch.equal(found[name], masks[name]) and found[name].dtype == torch.bool for name in masks)
    assert (tmp_path / "masks.safetensors").stat().st_size < 16_000 / 8 + 600
    first = load_file(tmp_path / "masks.safetensors")["0.weight|bits"].numpy()
    assert np.array_equal(np.unpackbits(first)[:160], masks["0.weight"].flatten()[:160].numpy())

    save_masks({}, str(tmp_path / "dense.safetensors"))  # level 0 of a sequence
    assert load_masks(tmp_path / "dense.safetensors", model) == {}


def test_a_file_that_holds_no_masks_or_those_of_another_model_is_refused(tmp_path):
    path = tmp_path / "file.safetensors"
    mask = {"weight": torch.ones(2, 3, dtype=torch.bool)}
    files = [
        {"weight": torch.ones(2, 3)},
        {"weight|bits": pack(mask)["weight|bits"]},
        pack(mask) | {"bias": torch.ones(2)},
    ]
    for tensors in files:
        save_file(tensors, path)
        with pytest.raises(UsageError, match=r"file\.safetensors holds no masks; name a file that save_masks wrote"):
            load_masks(path)
    path.write_bytes(b"something else altogether")
    with pytest.raises(UsageError, match="not a complete safetensors file"):
        load_masks(path)

    save_masks(mask, path)
    assert torch.equal(load_masks(path, nn.Linear(3, 2))["weight"], mask["weight"])
    with pytest.raises(UsageError, match=r"shape \(2, 3\) and the weight \(3, 2\)"):
        load_masks(path, nn.Linear(2, 3))
    with pytest.raises(OSError, match="nowhere"):
        load_masks(tmp_path / "nowhere")
