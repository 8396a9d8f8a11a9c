"""Networks that are sparse already: what their zeros say."""

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import nn
from torch.nn.utils import parametrizations

from lacewing.errors import UsageError
from lacewing.sparsify import apply_masks, butterfly, masks_from_zeros, prune, summary
from lacewing.sparsify.effective import sparsity

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _network():
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3))


def test_the_masks_of_a_pruned_network_are_those_it_was_pruned_by():
    model = _network()
    masks = prune(model, density=0.3)
    apply_masks(model, masks)
    found = masks_from_zeros(model)
    assert found.keys() == masks.keys()
    assert all(torch.equal(found[name], masks[name]) for name in masks)
    assert masks_from_zeros(model, ignore=model[0]).keys() == {"2.weight", "4.weight"}
    told = sparsity(model)
    assert told.sparse
    assert told.density == summary(model, masks).density == pytest.approx(0.3, abs=1 / told.parameters)
    assert told.density_prunable == summary(model, masks).density_prunable
    assert {name: int(mask.sum()) for name, mask in told.masks.items()} == {n: int(m.sum()) for n, m in masks.items()}


def test_made_weights_have_the_mask_of_what_the_network_computes_with():
    model = _network()
    torch_prune.l1_unstructured(model[2], "weight", 0.75)
    parametrizations.weight_norm(model[4])
    assert torch.equal(masks_from_zeros(model)["2.weight"], model[2].weight_mask.bool())
    assert masks_from_zeros(model)["4.weight"].all()
    assert masks_from_zeros(model, ignore="2").keys() == {"0.weight", "4.weight"}
    assert sparsity(model).nonzero == sum(p.numel() for p in _network().parameters()) - 300


def test_a_few_zeros_make_no_network_sparse():
    model = _network()
    with torch.no_grad():
        model[2].weight[0, :6] = 0  # 6 of 660
    assert not sparsity(model).sparse
    with torch.no_grad():
        model[2].weight[0, :7] = 0
    assert sparsity(model).sparse


def test_butterfly_layers_count_against_their_matrices():
    model = nn.Sequential(nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 4))
    assert not sparsity(model).sparse
    butterfly(model, density=0.7)
    assert sparsity(model).sparse
    assert sparsity(model).density == summary(model).density
    assert sparsity(model).density_prunable == summary(model).density_prunable


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiled",
    [
        torch.jit.script,
        lambda model: torch.jit.trace(model, torch.zeros(1, 10)),
        lambda model: torch.export.export(model, (torch.zeros(2, 10),)).module(),
    ],
)
def test_compiled_networks_count_as_before(compiled):
    model = _network()
    apply_masks(model, prune(model, density=0.4))
    made = compiled(model)
    assert sparsity(made).nonzero == sparsity(model).nonzero
    assert sparsity(made).density_prunable == sparsity(model).density_prunable
    assert sparsity(made).masks.keys() == sparsity(model).masks.keys()


def test_what_has_no_weight_or_no_shape_is_refused():
    with pytest.raises(UsageError, match="no convolution or linear weight"):
        masks_from_zeros(nn.Sequential(nn.Embedding(3, 2), nn.LayerNorm(2)))
    lazy = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    for refuses in (masks_from_zeros, sparsity, lambda model: prune(model, density=0.5), summary):
        with pytest.raises(UsageError, match=r"'1\.weight' has no shape yet.* call the model once"):
            refuses(lazy)
    lazy(torch.zeros(1, 4))
    assert masks_from_zeros(lazy).keys() == {"0.weight", "1.weight"}
