"""Controls of a pruned network, and the summary of what one stores, against counts by hand."""

import copy
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import Chain, KSConv2d, KSLinear, prune, summary
from lacewing.sparsify.controls import narrow, random_mask, redraw, shuffle
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@st.composite
def masks_of_any_shape(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    shapes = st.lists(st.integers(1, 6), min_size=2, max_size=4)
    density = draw(st.floats(0, 1))
    names = draw(st.lists(st.text(max_size=6), min_size=1, max_size=3, unique=True))
    masks = {name: torch.rand(draw(shapes), generator=generator) < density for name in names}
    if draw(st.booleans()):
        masks = {name: mask.transpose(0, 1) for name, mask in masks.items()}  # not contiguous
    return masks


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _counts(masks, axis=None):
    """Kept weights of each layer, or of each unit along an axis."""
    if axis is None:
        return {name: mask.sum().item() for name, mask in masks.items()}
    return {name: [unit.sum().item() for unit in mask.unbind(axis)] for name, mask in masks.items()}


CONTROLS = {  # and the axis along which counts are kept
    "random": (random_mask, None),
    "outputs": (shuffle, 0),
    "inputs": (lambda masks, seed: shuffle(masks, seed, within="inputs"), 1),
}


@pytest.mark.parametrize("kind", CONTROLS)
@settings(max_examples=30, deadline=None)
@given(masks_of_any_shape(), st.integers(-(2**70), 2**70))
def test_a_control_keeps_exact_counts_comes_from_its_seed_and_changes_nothing(kind, masks, seed):
    control, axis = CONTROLS[kind]
    before, state = copy.deepcopy(masks), torch.get_rng_state()
    found = control(masks, seed)
    assert list(found) == list(masks)
    assert all(mask.dtype == torch.bool and mask.shape == masks[name].shape for name, mask in found.items())
    assert _counts(found, axis) == _counts(masks, axis)
    assert _same(found, control(masks, seed))
    assert torch.equal(torch.get_rng_state(), state)
    assert _same(masks, before)


def _wide_mask():
    return torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.5


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize("name", ["0.weight", "weight", "conv1.weight", "layer1.0.conv.weight"])
def test_every_seed_gives_another_control(kind, name):
    control, _ = CONTROLS[kind]
    mask = _wide_mask()
    drawn = [mask, *(control({name: mask}, seed)[name] for seed in range(40))]
    assert len({tuple(found.flatten().tolist()) for found in drawn}) == 41


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize(
    "names",
    [
        [f"{layer}.weight" for layer in range(8)],
        [f"layer{i}.{j}.conv{k}.weight" for i in "12" for j in "01" for k in "12"],
        ["fc1.weight", "fc2.weight_v"],
    ],
)
def test_every_layer_is_permuted_in_an_order_of_its_own(kind, names):
    control, _ = CONTROLS[kind]
    masks = dict.fromkeys(names, _wide_mask())
    found = control(masks, 0)
    assert len({tuple(mask.flatten().tolist()) for mask in found.values()}) == len(names)
    alone = control({names[1]: _wide_mask()}, 0)  # whatever stands beside it
    assert torch.equal(found[names[1]], alone[names[1]])


@pytest.mark.parametrize(("within", "axis"), [("outputs", 0), ("inputs", 1)])
def test_every_unit_is_shuffled_in_an_order_of_its_own(within, axis):
    mask = (torch.arange(32) < 16).expand(10, 32)
    found = shuffle({"0.weight": mask.movedim(0, axis)}, 0, within=within)["0.weight"]
    assert len({tuple(unit.tolist()) for unit in found.unbind(axis)}) == 10


@pytest.mark.parametrize("kind", CONTROLS)
def test_controls_favour_no_place(kind):
    """A quarter of each row and each column is kept, so every place with that chance."""
    control, _ = CONTROLS[kind]
    mask = torch.eye(4, dtype=torch.bool).repeat(2, 1)
    kept = torch.stack([control({"0.weight": mask}, seed)["0.weight"] for seed in range(400)]).double().mean(0)
    assert abs(kept - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 400)  # five standard deviations


@pytest.mark.parametrize(("within", "axis"), [("outputs", 0), ("inputs", 1)])
def test_units_that_pruning_emptied_or_spared_stay_so(within, axis):
    mask = torch.rand(6, 5, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.4
    mask.select(axis, 1).fill_(False)
    mask.select(axis, 3).fill_(True)
    found = shuffle({"weight": mask}, 3, within=within)["weight"]
    assert not found.select(axis, 1).any()
    assert found.select(axis, 3).all()
    assert not torch.equal(found, mask)
    assert found.is_contiguous()
    emptied = [random_mask({"weight": mask}, seed)["weight"].select(axis, 1).any() for seed in range(5)]
    assert any(emptied)


@pytest.mark.parametrize("within", ["units", "", "output"])
def test_counts_within_anything_else_are_refused(within):
    with pytest.raises(UsageError, match=f"^within '{within}' must be 'outputs' or 'inputs'"):
        shuffle({"0.weight": _wide_mask()}, 0, within=within)


@pytest.mark.parametrize("within", ["outputs", "inputs"])
def test_a_weight_of_one_axis_has_nothing_to_shuffle_within(within):
    with pytest.raises(UsageError, match=r"^weight 'gain' has one axis"):
        shuffle({"gain": torch.ones(3, dtype=torch.bool)}, 0, within=within)


def _factory():
    return nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 16))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 3, 2, 2)])
@pytest.mark.parametrize("within", ["outputs", "inputs"])
def test_a_layer_without_units_is_shuffled_into_itself(shape, within):
    assert shuffle({"weight": torch.ones(shape, dtype=torch.bool)}, 0, within=within)["weight"].shape == shape


def test_redraw_is_the_mask_on_other_weights_that_come_from_the_seed():
    torch.manual_seed(5)
    masks = {"0.weight": _wide_mask(), "2.weight": ~_wide_mask()}
    state = torch.get_rng_state()
    drawn = [redraw(_factory, masks, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert _same(drawn[0].state_dict(), drawn[1].state_dict())
    for name, mask in masks.items():
        first, _, third = (model.get_parameter(name).detach() for model in drawn)
        assert torch.equal(first != 0, mask)
        assert torch.equal(third != 0, mask)
        assert (first != third)[mask].all()
    torch.manual_seed(1)
    dense = _factory()
    assert torch.equal(drawn[2][0].bias, dense[0].bias)
    assert torch.equal(drawn[2][0].weight, dense[0].weight * masks["0.weight"])


def test_redraw_refuses_masks_of_another_model():
    with pytest.raises(UsageError, match=r"'1\.weight' has shape \(16, 16\) and the weight \(16,\)"):
        redraw(_factory, {"1.weight": _wide_mask()}, 0)


def test_a_redrawn_network_and_random_masks_train_with_exact_zeros():
    model = _factory()
    masks = random_mask(prune(model, fraction=0.6), seed=1)
    control = redraw(_factory, masks, seed=2)
    optimizer = torch.optim.SGD(control.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    Guard(control, masks=masks).attach(optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        control(torch.ones(4, 16).cumsum(0)).square().mean().backward()
        optimizer.step()
    assert all(not control.get_parameter(name)[~mask].any() for name, mask in masks.items())
    assert summary(control, masks).nonzero == summary(model, masks).nonzero


def _mlp(width):
    return nn.Sequential(nn.Linear(7, width), nn.BatchNorm1d(width), nn.Linear(width, width), nn.Linear(width, 3))


def _size(model):
    return sum(p.numel() for p in model.parameters())


@settings(max_examples=30, deadline=None)
@given(st.integers(12, 600), st.integers(0, 9), st.integers(1, 3))
def test_narrow_has_the_nearest_number_of_parameters(parameters, seed, step):
    def factory(width):
        return _mlp(max(1, width // step))  # for step > 1, several widths are of one size

    found = _size(narrow(factory, parameters, seed, widest=60))
    assert abs(found - parameters) == min(abs(_size(_mlp(width)) - parameters) for width in range(1, 61 // step))


def test_narrow_takes_the_lesser_of_two_that_are_as_near():
    model = narrow(lambda width: nn.Linear(width, 2, bias=False), 7, 0)
    assert model.in_features == 3


def test_narrow_comes_from_its_seed_and_leaves_the_ambient_one():
    torch.manual_seed(4)
    state = torch.get_rng_state()
    drawn = [narrow(_mlp, 100, seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert _same(drawn[0], drawn[1])
    assert (drawn[0]["0.weight"] != drawn[2]["0.weight"]).all()
    assert all(tensor.device.type == "cpu" for tensor in drawn[0].values())


def test_narrow_leaves_the_ambient_seed_where_a_factory_draws_by_itself():
    def factory(width):
        torch.manual_seed(0)
        return _mlp(width)

    torch.manual_seed(4)
    state = torch.get_rng_state()
    narrow(factory, 100, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("parameters", "widest", "width"),
    [(5, 60, 1), (_size(_mlp(1)) // 2 - 1, 60, 1), (0, 60, 1), (2 * _size(_mlp(9)) + 1, 9, 9), (10**6, 9, 9)],
)
def test_a_number_that_no_width_comes_near_is_refused(parameters, widest, width):
    said = f"^no width matches {parameters} parameters: width {width} has {_size(_mlp(width))}; give a factory with"
    with pytest.raises(UsageError, match=said):
        narrow(_mlp, parameters, 0, widest=widest)


def test_narrow_reaches_as_far_as_it_says():
    assert _size(narrow(_mlp, 2 * _size(_mlp(9)), 0, widest=9)) == _size(_mlp(9))
    assert _size(narrow(_mlp, math.ceil(_size(_mlp(1)) / 2), 0)) == _size(_mlp(1))
    assert _size(narrow(_mlp, _size(_mlp(50)), 0, widest=50)) == _size(_mlp(50))


def _masked():
    """112 parameters, 96 of them prunable; 40 and 4 of these are pruned."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 6, bias=False))
    model.append(nn.Embedding(4, 2))
    first, second = torch.ones(4, 2, 3, 3, dtype=torch.bool), torch.ones(6, 4, dtype=torch.bool)
    first.view(-1)[:40], second.view(-1)[-4:] = False, False
    return model, {"0.weight": first, "3.weight": second}


def test_a_masked_network_is_summed_up_as_counted_by_hand():
    model, masks = _masked()
    found = summary(model, masks, notes={"3.weight": "the head"})
    rows = [(row.name, row.shape, row.parameters, row.nonzero, row.note) for row in found.layers]
    assert rows == [("0.weight", (4, 2, 3, 3), 72, 32, ""), ("3.weight", (6, 4), 24, 20, "the head")]
    assert [row.density for row in found.layers] == [32 / 72, 20 / 24]
    assert (found.parameters, found.nonzero) == (112, 68)
    assert found.density == 68 / 112
    assert found.density_prunable == 52 / 96
    assert str(found).splitlines() == [
        "layer     shape                parameters     non-zero  density",
        "0.weight  4x2x3x3                      72           32   44.44%",
        "3.weight  6x4                          24           20   83.33%  the head",
        "all                                   112           68   60.71%  (prunable weights alone: 54.17%)",
    ]
    assert json.loads(json.dumps(found.as_dict())) == {
        "parameters": 112,
        "nonzero": 68,
        "density": 68 / 112,
        "density_prunable": 52 / 96,
        "layers": [
            {
                "name": "0.weight",
                "shape": [4, 2, 3, 3],
                "parameters": 72,
                "nonzero": 32,
                "note": "",
                "density": 32 / 72,
            },
            {
                "name": "3.weight",
                "shape": [6, 4],
                "parameters": 24,
                "nonzero": 20,
                "note": "the head",
                "density": 20 / 24,
            },
        ],
    }


def test_without_masks_every_weight_counts_zero_or_not():
    model, masks = _masked()
    nn.init.zeros_(model[0].weight)
    assert summary(model).density == summary(model).density_prunable == 1
    assert summary(model, {"3.weight": masks["3.weight"]}).nonzero == 108


def test_a_network_without_prunable_weights_has_no_rows():
    found = summary(nn.Sequential(nn.BatchNorm1d(3), nn.Embedding(5, 2)))
    assert (found.layers, found.parameters, found.density, found.density_prunable) == ((), 16, 1, 1)
    assert str(found).splitlines()[-1] == f"all    {'':<18} {16:>12} {16:>12}  100.00%  " + (
        "(prunable weights alone: 100.00%)"
    )


def _butterfly():
    """A Monarch layer of 2 x 16 x 16 x 4 = 2 x 512 entries for 64 x 64, a convolution, and a dense head."""
    torch.manual_seed(0)
    chain = Chain([(1, 4, 4, 2), (2, 4, 4, 1)])  # 8 x 8, by 2 x 32 entries
    return nn.Sequential(
        KSLinear(64, 64, chain=Chain.monarch(64, 64)),
        nn.ModuleList([KSConv2d(8, 8, 1, bias=False, chain=chain)]),
        nn.Linear(64, 3),
    )


def test_a_butterfly_network_is_counted_against_the_dense_one():
    model = _butterfly()
    found = summary(model, notes={"0": "monarch"})
    rows = [(row.name, row.shape, row.parameters, row.nonzero, row.note) for row in found.layers]
    assert rows == [
        ("0", (64, 64), 4096, 2 * 8 * 64, "monarch"),
        ("1.0", (8, 8, 1, 1), 64, 64, ""),
        ("2.weight", (3, 64), 192, 192, ""),
    ]
    assert found.parameters == 64 * 64 + 64 + 64 + 3 * 64 + 3
    assert found.nonzero == _size(model) == 1024 + 64 + 64 + 192 + 3
    assert found.density_prunable == (1024 + 64 + 192) / (4096 + 64 + 192)


def test_masked_factors_count_what_is_left_of_them():
    model = _butterfly()
    masks = {
        "0.factors.0": torch.ones_like(model[0].factors[0], dtype=torch.bool),
        "1.0.factors.1": torch.zeros_like(model[1][0].factors[1], dtype=torch.bool),
    }
    masks["0.factors.0"].view(-1)[:100] = False
    found = summary(model, masks)
    assert [row.nonzero for row in found.layers] == [924, 32, 192]
    assert found.nonzero == _size(model) - 132
    assert found.layers[0].density == 924 / 4096

    density = 0.2
    masks = prune(model, density=density)
    found = summary(model, masks)
    assert found.nonzero == round(density * found.parameters)
    assert sum(row.nonzero for row in found.layers) == sum(int(mask.sum()) for mask in masks.values())
    assert set(masks) == set(prunable(model))


def test_a_butterfly_layer_by_itself_has_a_row():
    found = summary(KSLinear(64, 64, chain=Chain.monarch(64, 64)))
    (row,) = found.layers
    assert (row.name, row.parameters, row.nonzero, found.parameters) == ("", 4096, 1024, 4160)


def test_a_summary_refuses_masks_of_another_model():
    with pytest.raises(UsageError, match=r"'3\.weight', which the model does not have"):
        summary(_factory(), {"3.weight": torch.ones(2, dtype=torch.bool)})


def _tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def test_a_shared_weight_counts_once():
    mask = torch.eye(4, dtype=torch.bool)
    found = summary(_tied(), {"0.weight": mask})
    assert [(row.parameters, row.nonzero) for row in found.layers] == [(16, 4)]
    assert (found.parameters, found.nonzero) == (24, 12)


@pytest.mark.parametrize("names", [["1.weight"], ["0.weight", "1.weight"]])
def test_a_mask_under_the_other_name_of_a_shared_weight_counts_the_same(names):
    mask = torch.eye(4, dtype=torch.bool)
    found = summary(_tied(), dict.fromkeys(names, mask))
    assert (found.layers, found.nonzero) == (summary(_tied(), {"0.weight": mask}).layers, 12)
