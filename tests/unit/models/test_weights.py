"""Weights from files as trainings write them: wrapped, nested, tied, pruned."""

import warnings

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn.utils import parametrizations

from lacewing.errors import UsageError
from lacewing.models._weights import load_weights


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _network():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


class _Tied(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.words, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        if tied:
            self.head.weight = self.words.weight


def _trained():
    model = _network()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def _load(state, tmp_path, into, name="w.pt"):
    torch.save(state, tmp_path / name)
    load_weights(into, tmp_path / name)
    return into


def _same(found, wanted):
    assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in found.state_dict().items())


def _prefixed(prefix, model):
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


STATES = {
    "DataParallel": lambda m: nn.DataParallel(m).state_dict(),
    "compiled": lambda m: _prefixed("_orig_mod.", m),
    "both": lambda m: _prefixed("module._orig_mod.", m),
    "compiled layer": lambda m: {name.replace("2.", "2._orig_mod."): t for name, t in m.state_dict().items()},
    "Opacus": lambda m: _prefixed("_module.", m),
    "average": lambda m: torch.optim.swa_utils.AveragedModel(m).state_dict(),
    "nested": lambda m: {"state_dict": m.state_dict(), "epoch": 3, "accuracy": torch.tensor(0.9)},
    "Lightning": lambda m: {"state_dict": _prefixed("model.", m), "hyper_parameters": {"lr": 0.1}},
    "nested twice": lambda m: {"model": {"module": m.state_dict()}, "metrics": {"loss": torch.tensor(1.0)}},
    "beside an optimiser": lambda m: {
        "model": m.state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(5, 4)}}, "param_groups": [{"lr": 0.1}]},
    },
}


@pytest.mark.parametrize("kind", STATES)
def test_what_wrapped_the_network_in_training_does_not_matter(kind, tmp_path):
    model = _trained()
    _same(_load(STATES[kind](model), tmp_path, _network()), model)


def test_a_factory_that_wraps_its_network_loads_plain_weights(tmp_path):
    model = _trained()
    _same(_load(model.state_dict(), tmp_path, nn.DataParallel(_network())), nn.DataParallel(model))

    class Own(nn.Module):  # whose own child has the name of a wrapper's
        def __init__(self):
            super().__init__()
            self.module = _network()

    own = Own()
    _same(_load(own.state_dict(), tmp_path, Own()), own)


def test_weights_and_masks_of_torchs_pruning_become_the_weights_they_stand_for(tmp_path):
    model = _trained().eval()
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    torch_prune.l1_unstructured(model[0], "bias", 2)
    found = _load(model.state_dict(), tmp_path, _network())
    assert torch.equal(found[0].weight, model[0].weight)
    assert int((found[0].weight == 0).sum()) == 10
    x = torch.randn(3, 4)
    torch.testing.assert_close(found.eval()(x), model(x))
    same = _network()
    for name in ("weight", "bias"):
        torch_prune.identity(same[0], name)
    _same(_load(model.state_dict(), tmp_path, same), model)  # a factory that prunes takes them as they are


def test_one_name_of_a_tied_weight_is_enough_and_two_values_of_one_are_refused(tmp_path):
    model = _Tied()
    save_model(model, str(tmp_path / "tied.safetensors"))
    found = _Tied()
    load_weights(found, tmp_path / "tied.safetensors")
    assert torch.equal(found.words.weight, model.words.weight)
    for name in ("words.weight", "head.weight"):
        found = _load({name: model.words.weight.detach()}, tmp_path, _Tied())
        assert torch.equal(found.head.weight, model.words.weight)
    with pytest.raises(
        UsageError, match=r"different values for 'words\.weight' and 'head\.weight', which are one weight"
    ):
        _load(_Tied(tied=False).state_dict(), tmp_path, _Tied())
    with pytest.raises(UsageError, match=r"does not fit .*Missing key.*words\.weight"):
        _load({"head.weight": torch.ones(7, 4)}, tmp_path, _Tied(tied=False))


def _old_weight_norm(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[0])
    return model


def _parametrised(model):
    parametrizations.spectral_norm(model[0])
    return model


def _pruned(model):
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    return model


REFUSED = {
    "weight norm": (
        lambda: _old_weight_norm(_network()).state_dict(),
        r"'0\.weight_g', of which weight norm makes a weight: .*remove_weight_norm",
    ),
    "parametrised": (
        lambda: _parametrised(_network()).state_dict(),
        r"'0\.parametrizations\.weight\.original', of which a parametrisation makes .*remove_parametrizations",
    ),
    "several": (
        lambda: {"model": _network().state_dict(), "ema": _network().state_dict()},
        r"holds several networks \('model', 'ema'\): save the state_dict of the one that you mean",
    ),
    "quantised": (
        lambda: _network().state_dict() | {"0.weight": torch.ones(5, 4, dtype=torch.int8)},
        r"holds int8 in '0\.weight', where the network has floating-point numbers",
    ),
    "other": (lambda: {"module.x": torch.ones(2)}, r"does not fit the factory's network: .*Missing key"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_with_the_mend(kind, tmp_path):
    state, said = REFUSED[kind]
    with pytest.raises(UsageError, match=said):
        _load(state(), tmp_path, _network())


def test_plain_weights_do_not_fit_a_factory_that_makes_weights_of_others(tmp_path):
    save_file(_network().state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(UsageError, match=r"makes a weight of '0\.weight_orig' .*give a factory of the plain network"):
        load_weights(_pruned(_network()), tmp_path / "plain.safetensors")


def _other(model):
    return {name: tensor + 1 for name, tensor in model.state_dict().items()}


WRONG = {
    "a name with and without a wrapper": (
        lambda m: m.state_dict() | {f"_orig_mod.{name}": tensor for name, tensor in _other(m).items()},
        r"different values for '0\.weight' and '_orig_mod\.0\.weight'",
    ),
    "a wrapper's name first": (
        lambda m: {f"_orig_mod.{name}": tensor for name, tensor in _other(m).items()} | m.state_dict(),
        r"different values for '_orig_mod\.0\.weight' and '0\.weight'",
    ),
    "a weight beside what makes it": (
        lambda m: m.state_dict() | {"0.weight_orig": torch.ones(5, 4), "0.weight_mask": torch.ones(5, 4)},
        r"holds '0\.weight' beside '0\.weight_orig'",
    ),
    "a soft mask": (
        lambda m: (
            {name: tensor for name, tensor in m.state_dict().items() if name != "0.weight"}
            | {"0.weight_orig": torch.ones(5, 4), "0.weight_mask": torch.full((5, 4), 0.5)}
        ),
        r"other than 0 and 1 in '0\.weight_mask'",
    ),
    "rows": (lambda m: m.state_dict() | {"0.weight": torch.eye(5, 4).to_sparse_csr()}, r"torch\.sparse_csr.*to_dense"),
    "coordinates": (lambda m: m.state_dict() | {"0.weight": torch.eye(5, 4).to_sparse()}, r"torch\.sparse_coo.*dense"),
    "no values": (lambda m: m.state_dict() | {"0.weight": torch.ones(5, 4, device="meta")}, "'0.weight' on the device"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("kind", WRONG)
def test_what_holds_two_values_of_a_weight_or_none_is_refused(kind, tmp_path):
    state, text = WRONG[kind]
    with pytest.raises(UsageError, match=text):
        _load(state(_trained()), tmp_path, _network())


def test_the_same_values_under_two_names_are_one_weight(tmp_path):
    model = _trained()
    _same(_load(model.state_dict() | _prefixed("_orig_mod.", model), tmp_path, _network()), model)
    made = {"0.weight_orig": model[0].weight.detach(), "0.weight_mask": torch.ones(5, 4, dtype=torch.bool)}
    _same(_load(model.state_dict() | made, tmp_path, _network()), model)
