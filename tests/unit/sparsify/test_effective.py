"""Models that make weights of others: they are counted with what they compute with, and pruning them is refused."""

import warnings

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import lacewing as lw
from lacewing.errors import UsageError
from lacewing.methods._base import Step
from lacewing.methods.imp import Imp
from lacewing.sparsify import Gradual, Guard, KSLinear, apply_masks, butterfly, imp, n_of_m, prunable, prune, summary
from lacewing.sparsify.effective import effective, sparsity


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class _Half(nn.Module):
    def forward(self, weight):
        return weight * (torch.arange(weight.numel()).view_as(weight) % 2)


def _network():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def nonzero(model):
    found = sparsity(model)
    return found.parameters, found.nonzero, found.density_prunable


def _pruned(layer):
    torch_prune.l1_unstructured(layer, "weight", 0.25)
    torch_prune.random_unstructured(layer, "weight", 0.5)  # twice: a container of both
    torch_prune.l1_unstructured(layer, "bias", 3)


def _old(norm):
    def make(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            norm(layer)

    return make


def _unparametrised(layer):
    parametrize.remove_parametrizations(layer, "weight")


def _unpruned(layer):
    for name in ("weight", "bias"):
        torch_prune.remove(layer, name)


KINDS = {  # how the weight is made, how it becomes plain
    "mask": (_pruned, _unpruned, r"torch\.nn\.utils\.prune\.remove\(layer, 'weight'\)"),
    "mask of one's own": (
        lambda layer: parametrize.register_parametrization(layer, "weight", _Half()),
        _unparametrised,
        r"parametrize\.remove_parametrizations\(layer, 'weight'\)",
    ),
    "weight norm": (parametrizations.weight_norm, _unparametrised, r"parametrize\.remove_parametrizations"),
    "spectral norm": (parametrizations.spectral_norm, _unparametrised, r"parametrize\.remove_parametrizations"),
    "orthogonal": (parametrizations.orthogonal, _unparametrised, r"parametrize\.remove_parametrizations"),
    "old weight norm": (_old(nn.utils.weight_norm), nn.utils.remove_weight_norm, r"utils\.remove_weight_norm"),
    "old spectral norm": (_old(nn.utils.spectral_norm), nn.utils.remove_spectral_norm, r"utils\.remove_spectral_norm"),
}


@pytest.fixture(params=KINDS)
def case(request):
    """A network whose middle layer makes its weight, the same made plain, and the advice."""
    make, remove, advice = KINDS[request.param]
    model = _network()
    make(model[2])
    with torch.no_grad():  # also where the attribute of the last forward pass is out of date
        for parameter in model.parameters():
            parameter.mul_(1.5)
    plain = _network()  # made alike: torch can copy few of these
    make(plain[2])
    plain.load_state_dict(model.state_dict())
    plain.eval()
    plain(torch.zeros(1, 6))
    remove(plain[2])
    return model, plain, advice


def test_a_made_weight_counts_as_the_plain_one_and_nothing_changes(case):
    model, plain, _ = case
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    parameters = sum(p.numel() for p in plain.parameters())
    zeros = sum(int((p == 0).sum()) for p in plain.parameters())
    weights = [plain[place].weight for place in (0, 2, 4)]
    share = sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert nonzero(model) == (parameters, parameters - zeros, share) == nonzero(plain)
    found = effective(model)
    assert {name for name, weight in found.items() if weight.prunable} == {"0.weight", "2.weight", "4.weight"}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found[name].tensor, parameter.detach())
    done = summary(model)
    assert (done.parameters, done.nonzero) == (parameters, parameters - zeros)
    assert [(row.name, row.nonzero) for row in done.layers] == [
        ("0.weight", 48), ("2.weight", int((plain[2].weight != 0).sum())), ("4.weight", 24),
    ]  # fmt: skip
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_pruning_a_made_weight_is_refused_with_advice_that_exists(case):
    model, _, advice = case
    for refused in (
        lambda: prunable(model),
        lambda: prune(model, density=0.5),
        lambda: n_of_m(model, 2, 4),
        lambda: butterfly(model, density=0.9),
        lambda: next(imp(model, lambda model, guard: None, levels=1)),
        lambda: Gradual(model, 0.5, begin=0, end=2, every=1),
    ):
        with pytest.raises(UsageError, match=f"weight of '2' is not a plain parameter .*{advice}.*: ignore=\\['2'\\]"):
            refused()
    with pytest.raises(UsageError, match=f"not a plain parameter .*{advice}[^:]*$") as caught:
        Imp(levels=1).count(model, Step("imp-01", {}, 1))
    assert "ignore" not in str(caught.value)


def test_the_advice_works(case):
    model, plain, _ = case
    assert set(prune(model, density=0.9, ignore=["2"])) == {"0.weight", "4.weight"}
    masks = prune(model, density=0.6, ignore=["2"])
    assert summary(model, masks).nonzero == nonzero(model)[1] - sum(int((~mask).sum()) for mask in masks.values())
    assert set(prunable(plain)) == {"0.weight", "2.weight", "4.weight"}


def test_butterfly_leaves_ignored_made_weights_alone():
    model = nn.Sequential(nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4))
    parametrizations.weight_norm(model[1])
    done = butterfly(model, density=0.8, ignore=["0", "1", "3"])
    assert isinstance(model[2], KSLinear)
    assert done.summary.parameters == 17 * 64 + 2 * 65 * 64 + 65 * 4


def test_a_mask_of_what_a_weight_is_made_of_is_refused():
    model = _network()
    torch_prune.l1_unstructured(model[2], "weight", 0.5)
    mask = torch.ones(8, 8, dtype=torch.bool)
    with pytest.raises(UsageError, match=r"a mask for '2\.weight_orig', of which the network makes another weight"):
        summary(model, {"2.weight_orig": mask})


def test_a_shared_weight_and_a_norm_of_a_masked_part_count_once():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    model[1].weight = model[0].weight
    assert nonzero(model) == (25, 25, 1.0)
    model = nn.Sequential(nn.Linear(4, 5, bias=False))
    _old(nn.utils.weight_norm)(model[0])
    torch_prune.l1_unstructured(model[0], "weight_v", 7)
    model(torch.zeros(1, 4))
    assert nonzero(model) == (20, 13, 13 / 20)


def test_an_audit_reports_the_true_density_of_a_pruned_model():
    model = _network()
    for place in (0, 2, 4):
        torch_prune.l1_unstructured(model[place], "weight", 0.5)
    x, y = torch.randn(40, 6).numpy(), torch.randint(3, (40,)).numpy()
    audit = lw.audit(model, (x[:20], y[:20]), (x[20:], y[20:]), attacks="loss", progress=False)
    found = audit.attacks[0].network
    assert (found.parameters, found.nonzero, found.density_prunable) == (155, 155 - 68, 0.5)
    assert (found.kind, found.density) == ("sparse", 87 / 155)
    assert "The model is sparse: 87 of 155 parameters are not zero (56.13%" in " ".join(audit.notes)
    dense = lw.audit(_network(), (x[:20], y[:20]), (x[20:], y[20:]), attacks="loss", progress=False)
    assert dense.attacks[0].network.kind == "dense"
    assert not any("sparse" in note for note in dense.notes)


def test_a_guard_counts_with_masks_as_before():
    model = _network()
    masks = prune(model, density=0.5)
    Guard(model, masks=masks)
    apply_masks(model, masks)
    assert summary(model, masks).nonzero == nonzero(model)[1]
