"""Modules that are wrapped, compiled, exported or make their weights of others are audited as the plain ones are."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import nn
from torch.nn.utils import parametrizations

import lacewing as lw
from lacewing.auditing import _opened, audit_model_files
from lacewing.auditing._statistics import ARRAYS, of_module
from lacewing.errors import UsageError
from lacewing.gradients import gradient_norms, measuring
from lacewing.property import weight_statistics

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
_RNG = np.random.default_rng(0)
X, Y = _RNG.normal(size=(48, 6)).astype(np.float32), _RNG.integers(0, 3, 48)
MEMBERS, NONMEMBERS = (X[:24], Y[:24]), (X[24:], Y[24:])
ATTACKS = ["loss", "gradient-norm", "label-noise"]


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _network():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def audit(model, **options):
    return lw.audit(model, MEMBERS, NONMEMBERS, attacks=options.pop("attacks", ATTACKS), progress=False, **options)


def _state(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _factory(shape, classes):
    return _network()


def test_a_pruned_and_wrapped_network_in_files_is_recognised_as_sparse(tmp_path):
    model = _network()
    torch_prune.l1_unstructured(model[0], "weight", 0.75)
    torch.save({"model": {f"module.{name}": t for name, t in model.state_dict().items()}}, tmp_path / "w.pt")
    member = np.arange(48) < 24
    np.savez(tmp_path / "own.npz", x=X, y=Y, member=member.astype(np.int64))
    factory = f"{__name__}:_factory"
    files = {"model": factory, "weights": tmp_path / "w.pt", "data": tmp_path / "own.npz"}
    found = audit_model_files(**files, attacks="loss", progress=False)
    _same_scores(found, audit(model, attacks="loss"))
    assert found.as_json()["model"]["density"] == pytest.approx((83 - 36) / 83)
    assert any(note.startswith("The model is sparse: 47 of 83 parameters are not zero") for note in found.notes)


def _same_scores(found, wanted):
    for a, b in zip(found.attacks, wanted.attacks, strict=True):
        assert a.attack == b.attack
        np.testing.assert_allclose(a.score_N, b.score_N, rtol=2e-4, atol=2e-5)


def _old(norm):
    def make(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return norm(layer)

    return make


MADE = {
    "mask": lambda layer: torch_prune.l1_unstructured(layer, "weight", 0.5),
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "old weight norm": _old(nn.utils.weight_norm),
    "old spectral norm": _old(nn.utils.spectral_norm),
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if "old" in k else k for k in MADE])
def test_a_network_that_makes_its_weights_is_audited_and_left_as_it_was(kind):
    model = _network()
    MADE[kind](model[0])
    model.train()
    model(torch.from_numpy(X))  # which moves the vectors of spectral norm, as training does
    before, plain = _state(model), copy.deepcopy(_network())
    effective = model.eval()[0]
    effective(torch.from_numpy(X))
    plain.load_state_dict(
        {
            "0.weight": effective.weight.detach(),
            "0.bias": model[0].bias,
            "2.weight": model[2].weight,
            "2.bias": model[2].bias,
        }
    )
    model.train()
    found = audit(model, attacks=["loss", "gradient-norm"])
    assert not found.refused
    wanted = {result.attack: result.score_N for result in audit(plain, attacks="loss").attacks}
    scores = {result.attack: result.score_N for result in found.attacks}
    np.testing.assert_allclose(scores["loss"], wanted["loss"], rtol=2e-4, atol=2e-5)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_data_parallel_is_asked_as_the_module_inside_and_one_with_hooks_as_it_is():
    model = _network()
    _same_scores(audit(nn.DataParallel(model)), audit(model))
    wrapped = nn.DataParallel(model)
    assert _opened.opened(wrapped, "model") is model
    wrapped.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert _opened.opened(wrapped, "model") is wrapped
    found = audit(wrapped, attacks="all")
    assert "label-noise" in {result.attack for result in found.attacks}


class _Counting(nn.Module):
    """Buffers that it writes to, replaces and adds in evaluation too."""

    def __init__(self):
        super().__init__()
        self.inside = _network()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))
        self.register_buffer("cache", None)

    def forward(self, x):
        answers = self.inside(x)
        self.calls += 1
        self.calls.data.add_(1)
        self.last = answers.detach().mean(0)
        self.cache = torch.ones(2)
        return answers


def test_buffers_that_move_in_evaluation_are_put_back():
    model = _Counting()
    last = model.last
    _same_scores(audit(model), audit(model.inside))
    assert float(model.calls) == 0
    assert model.last is last
    assert not last.any()
    assert model.cache is None


def test_a_network_normalised_by_its_batch_is_asked_for_its_outputs_alone_also_in_one_batch():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Tanh(), nn.Linear(8, 3))
    found = audit(model, attacks="all")
    assert {"loss", "entropy"} <= {result.attack for result in found.attacks}
    assert "depend on the other records of a batch" in found.refused["gradient-norm"]
    trained = []
    with pytest.raises(
        UsageError, match=r"'gradient-norm' cannot run\. The answers of model depend on the other records"
    ):
        audit(model, attacks="gradient-norm", refit=lambda x, y, seed: trained.append(seed), references=4)
    assert not trained


def test_what_cannot_be_counted_does_not_stop_the_audit():
    class Failing(nn.Module):
        def forward(self, weight):
            if not torch.is_grad_enabled() and self.fails:
                raise ValueError("not now")
            return weight

    model = _network()
    part = Failing()
    part.fails = False
    nn.utils.parametrize.register_parametrization(model[0], "weight", part)
    asked = model.forward

    def forward(x):
        part.fails = False
        answers = asked(x)
        part.fails = True
        return answers

    model.forward, part.fails = forward, True
    found = audit(model, attacks="loss")
    assert "The density of the model is not known, since its weights could not be counted" in " ".join(found.notes)
    assert found.as_json()["model"]["density"] is None


class _Odd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no way back")


class _NoGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = _network()

    def forward(self, x):
        return _Odd.apply(self.inside(x))


def test_where_no_gradient_can_be_taken_the_others_run_and_the_reason_is_found_before_any_training():
    found = audit(_NoGradient(), attacks="all")
    assert found.refused["gradient-norm"].startswith(
        "The gradients of single records cannot be taken of model (Runtime"
    )
    trained = []
    with pytest.raises(
        UsageError, match=r"'gradient-norm' cannot run\. The gradients of single records cannot be taken"
    ):
        audit(_NoGradient(), attacks="gradient-norm", refit=lambda x, y, seed: trained.append(seed), references=4)
    assert not trained


@pytest.mark.slow
def test_that_the_shadow_network_lacks_gradients_is_said():
    def refit(x, y, seed):
        model = _NoGradient()
        nn.init.normal_(model.inside[0].weight)
        return model

    found = audit(_network(), attacks="all", refit=refit, references=4)
    assert any("(reference 1) lacks what some attacks need. The gradients of" in note for note in found.notes)
    assert "gradient-norm" in found.refused


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_weights_in_a_sparse_layout_are_counted_and_what_cannot_be_taken_of_them_is_said():
    model = _network()
    torch_prune.l1_unstructured(model[0], "weight", 0.75)
    torch_prune.remove(model[0], "weight")
    wanted = audit(model, attacks=["loss", "label-noise"])
    model[0].weight = nn.Parameter(model[0].weight.detach().to_sparse_csr())
    _same_scores(audit(model, attacks=["loss", "label-noise"]), wanted)
    assert lw.sparsify.masks_from_zeros(model)["0.weight"].sum() == 12

    def refit(x, y, seed):
        torch.manual_seed(seed + 1)
        return _network()

    found = audit(model, attacks="all", refit=refit, references=2)
    assert found.attacks[0].network.nonzero == 47
    assert found.refused["gradient-norm"].startswith("The gradients of single records cannot be taken of model (")
    with pytest.raises(UsageError, match=r"'0\.weight' has one of torch's sparse layouts"):
        lw.sparsify.prune(model, fraction=0.2)


def test_statistics_are_those_of_the_weights_that_a_network_computes_with():
    hooked = _network()
    plain = copy.deepcopy(hooked)
    torch_prune.l1_unstructured(hooked[0], "weight", 0.75)
    with torch.no_grad():
        plain[0].weight.copy_(hooked[0].weight)
    found, wanted = of_module(hooked), of_module(plain)
    assert found.keys() == wanted.keys() == set(ARRAYS.values())
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert found["layers_L"][0] == 12
    arrays = {name: parameter.detach().numpy() for name, parameter in plain.named_parameters()}
    assert np.array_equal(wanted["weights_W"], weight_statistics(arrays))  # in the order of the model


def test_what_is_no_trained_network_is_refused_with_the_mend():
    with torch.device("meta"):
        empty = _network()
    for model, said in (
        (_network().state_dict(), "model is a state dict, .*: load it into the network"),
        (nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 3)), r"lazy layer that was never called, so that '0\.weight'"),
        (empty, "on the device 'meta', where '0.weight' has no values: load its weights"),
    ):
        with pytest.raises(UsageError, match=said):
            audit(model)


def test_quantised_networks_have_no_gradients_and_are_not_given_norms_of_zero():
    with pytest.raises(UsageError, match="no floating-point parameters to take gradients of"):
        gradient_norms(nn.Flatten(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))


COMPILED = {
    "script": torch.jit.script,
    "trace": lambda model: torch.jit.trace(model.eval(), torch.zeros(2, 6)),
    "exported for 5 records": lambda model: torch.export.export(model.eval(), (torch.zeros(5, 6),)),
    "exported module": lambda model: torch.export.export(model.eval(), (torch.zeros(5, 6),)).module(),
    "exported for any number": lambda model: torch.export.export(
        model.eval(), (torch.zeros(4, 6),), dynamic_shapes=({0: torch.export.Dim("n")},)
    ),
    "compiled": lambda model: torch.compile(model, backend="eager"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMPILED)
def test_compiled_and_exported_networks_are_audited_by_the_same_attacks(kind):
    model = _network()
    wanted = audit(model)
    made = COMPILED[kind](copy.deepcopy(model))
    found = audit(made)
    _same_scores(found, wanted)
    assert found.attacks[0].network.parameters == 83

    def refit(x, y, seed):
        torch.manual_seed(seed + 1)
        return COMPILED[kind](_network())

    assert len(audit(made, attacks="all", refit=refit, references=4).attacks) >= 15


@pytest.mark.slow
def test_a_frozen_program_has_no_weights_to_look_into():
    model = _network()
    made = torch.jit.freeze(torch.jit.script(model.eval()))
    found = audit(made, attacks="all")
    assert "no floating-point parameters" in found.refused["gradient-norm"]
    _same_scores(audit(made, attacks=["loss", "label-noise"]), audit(model, attacks=["loss", "label-noise"]))
    assert not hasattr(made, "training")


def test_gradients_of_a_scripted_network_are_those_of_the_plain_one_and_freezing_is_kept():
    model = _network()
    made = torch.jit.script(model)
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    x, y = torch.from_numpy(X[:5]), torch.from_numpy(Y[:5])
    np.testing.assert_allclose(gradient_norms(made, x, y), gradient_norms(model, x, y), rtol=1e-5)
    assert not any(p.requires_grad for p in made.parameters())

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = _network()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls = self.calls + 1
            return self.inside(x)

    counts = torch.jit.script(Counts())
    with measuring(counts):
        counts(x)
        assert float(counts.calls) == 1
    assert float(counts.calls) == 0


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_opacus_grad_sample_module_is_audited_as_the_module_inside_and_trains_on():
    grad_sample = pytest.importorskip("opacus.grad_sample")
    model = _network()
    wanted = audit(copy.deepcopy(model))
    wrapped = grad_sample.GradSampleModule(model)
    _same_scores(audit(wrapped), wanted)
    wrapped.train()
    nn.functional.cross_entropy(wrapped(torch.from_numpy(X[:4])), torch.from_numpy(Y[:4])).backward()
    assert model[0].weight.grad_sample.shape == (4, 8, 6)  # its hooks are back


def test_what_accelerate_prepared_is_audited():
    accelerate = pytest.importorskip("accelerate")
    model = _network()
    _same_scores(audit(accelerate.Accelerator(cpu=True).prepare(model)), audit(model))


class _Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask):
        return self.head((self.words(input_ids) * attention_mask[..., None]).sum(1))


@pytest.mark.slow
def test_an_exported_program_takes_records_by_name():
    model = _Words().eval()
    fields = {"input_ids": _RNG.integers(0, 9, (48, 5)), "attention_mask": np.ones((48, 5), np.int64)}
    example = {name: torch.from_numpy(values[:7]) for name, values in fields.items()}
    made = torch.export.export(model, (), example)
    sides = [({name: values[rows] for name, values in fields.items()}, Y[rows]) for rows in (slice(24), slice(24, 48))]
    found, wanted = (
        lw.audit(each, *sides, attacks=["loss", "gradient-norm"], progress=False) for each in (made, model)
    )
    _same_scores(found, wanted)
