"""Networks that are sparse already: what their zeros say."""

import copy

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import nn
from torch.nn.utils import parametrizations

from lacewing.errors import UsageError
from lacewing.models._weights import load_weights
from lacewing.sparsify import (
    Gradual,
    Guard,
    apply_masks,
    butterfly,
    cubic,
    geometric,
    imp,
    magnitude,
    masks_from_zeros,
    n_of_m,
    prunable,
    prune,
    random,
    remaining,
    summary,
)
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
    assert told.masked
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
    assert not sparsity(model).masked
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


def test_pruning_a_sparse_network_keeps_its_zeros_and_counts_what_is_left():
    model = _network()
    apply_masks(model, prune(model, density=0.5))
    before = masks_from_zeros(model)
    left = sum(int(mask.sum()) for mask in before.values())
    for score in (magnitude, random(3)):
        with pytest.warns(
            UserWarning, match=rf"^{1 - left / 660:.1%} of the .* are zero: they count as pruned .*masks_from_zeros"
        ) as said:
            masks = prune(model, fraction=0.2, score=score)
        assert [warning.filename for warning in said] == [__file__]
        assert sum(int(mask.sum()) for mask in masks.values()) == left - left // 5
        assert not any((masks[name] & ~before[name]).any() for name in before)
    parameters = sum(p.numel() for p in model.parameters())
    masks = prune(model, masks_from_zeros(model), density=0.3, scope="per-layer")  # said: no warning
    assert summary(model, masks).nonzero == round(0.3 * parameters)
    assert not any((masks[name] & ~before[name]).any() for name in before)
    with pytest.raises(UsageError, match=r"density = 0\.6 cannot be reached: .* what remains now 0\.4993"):
        prune(model, before, density=0.6)
    assert summary(model, prune(model, {}, density=0.6)).nonzero == round(0.6 * parameters)


def test_zeros_of_an_initialisation_are_weights_like_others():
    model = _network()
    nn.init.zeros_(model[4].weight)  # as the last layer of a residual branch begins
    with torch.no_grad():
        model[2].weight[0, 0] = 0
    masks = prune(model, keep=400, score=random(0))
    assert masks["4.weight"].any()
    apply_masks(model, {"0.weight": prune(model, keep=300)["0.weight"]})
    assert not masks_from_zeros(model)["4.weight"].any()
    with pytest.warns(UserWarning, match="are zero"):
        assert not prune(model, fraction=0.1)["4.weight"].any()  # beside a pruned layer it is one that was emptied


def _fit(model, guard):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    guard.attach(optimizer)
    x, y = torch.randn(32, 10), torch.randint(3, (32,))
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        guard.epoch_end()


SCHEDULES = {
    "fraction": {"fraction": 0.25},
    "geometric": {"schedule": geometric(0.2)},
    "cubic": {"schedule": cubic(0.2)},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_sequence_that_begins_sparse_stays_within_its_zeros_and_is_resumed_to_the_same_bits(schedule):
    start = _network()
    apply_masks(start, prune(start, density=0.5))
    before = masks_from_zeros(start)
    left = sum(int(mask.sum()) for mask in before.values())
    parameters = sum(p.numel() for p in start.parameters())

    def levels(model, **resumed):
        for level in imp(model, _fit, levels=3, **SCHEDULES[schedule], **resumed):
            torch.manual_seed(level.number)  # of the next level's batch
            yield level

    model = copy.deepcopy(start)
    torch.manual_seed(9)
    kept, guard, states = [], Guard(model, masks=before), []
    for level in levels(model, guard=guard):
        kept.append(sum(int(mask.sum()) for mask in level.masks.values()))
        assert not any((level.masks[name] & ~before[name]).any() for name in before)
        assert all(not model.get_parameter(name)[~mask].any() for name, mask in level.masks.items())
        states.append((copy.deepcopy(model.state_dict()), level.masks))
    assert kept[0] == left
    if schedule == "fraction":
        assert kept[1:] == [remaining(left, n, 0.25) for n in (1, 2, 3)]
    else:
        assert kept[-1] == round(0.2 * parameters - (parameters - sum(m.numel() for m in before.values())))
    with pytest.warns(UserWarning, match=r"of the prunable weights are zero: they count as pruned"):
        first = next(imp(copy.deepcopy(start), _fit, levels=1, **SCHEDULES[schedule]))
    assert all(torch.equal(first.masks[name], before[name]) for name in before)

    again = copy.deepcopy(start)
    again.load_state_dict(states[1][0])
    resumed = Guard(again, masks=states[1][1])
    resumed.origin, resumed.origin_at, resumed.began = guard.origin, guard.origin_at, guard.began
    torch.manual_seed(1)
    found = list(levels(again, guard=resumed, start=1))
    assert all(torch.equal(found[-1].masks[name], states[3][1][name]) for name in before)
    assert all(torch.equal(value, states[3][0][name]) for name, value in again.state_dict().items())


def test_pruning_while_training_keeps_the_zeros_of_a_sparse_network():
    model = _network()
    apply_masks(model, prune(model, density=0.5))
    before = masks_from_zeros(model)
    with pytest.warns(UserWarning, match="are zero: they count as pruned"):
        guard = Gradual(model, density=0.3, begin=0, end=2, every=1)
    _fit(model, guard)
    assert not any((guard.masks[name] & ~before[name]).any() for name in before)
    assert summary(model, guard.masks).nonzero == round(0.3 * sum(p.numel() for p in model.parameters()))
    with pytest.raises(UsageError, match="cannot be reached"), pytest.warns(UserWarning, match="are zero"):
        Gradual(model, density=0.4, begin=0, end=2, every=1)


def test_ignore_takes_one_entry_or_several_and_never_the_letters_of_a_name():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(11)))
    every = [f"{n}.weight" for n in range(11)]
    for one in ("10", ["10"], model[10], [model[10]], "10.weight"):
        assert prunable(model, one) == every[:10]
    assert prunable(model, [model[0], "10"]) == every[1:10]
    assert prunable(model, "1") == [name for name in every if name != "1.weight"]
    assert prunable(model, nn.Linear) == []
    assert prunable(model, model) == []
    odd = nn.ModuleDict({"a[0]": nn.Linear(2, 2), "a0": nn.Linear(2, 2)})
    assert prunable(odd, "a[0]") == []  # the name itself, and what fits it as a pattern
    for wrong, said in (
        (nn.Linear(4, 4), "the Linear given is no module of this model"),
        ([10], "ignore holds a int: give names, module types, or modules"),
        ("1O", r"'1O' matches no prunable weight; did you mean"),
    ):
        with pytest.raises(UsageError, match=said):
            prunable(model, wrong)


def test_an_embedding_is_never_pruned_unless_a_linear_layer_shares_its_weight():
    model = nn.ModuleDict({"words": nn.Embedding(5, 4), "fc": nn.Linear(4, 4), "head": nn.Linear(4, 5)})
    with pytest.raises(UsageError, match="'words' matches no prunable weight: nothing in it is pruned anyway"):
        prunable(model, "words")
    model["head"].weight = model["words"].weight
    assert prunable(model) == ["fc.weight", "head.weight"]
    for entry in ("words", nn.Embedding, model["words"], "head", "words.weight"):
        assert prunable(model, entry) == ["fc.weight"]


@pytest.mark.slow
def test_gpt2_is_pruned_in_its_own_linear_layers_along_their_inputs_and_saved_sparse(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config)
    block = [f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    assert prunable(model) == [*block, "lm_head.weight"]
    assert prunable(model, nn.Embedding) == block
    two_of_four = n_of_m(model, 2, 4, ignore=nn.Embedding)["transformer.h.0.attn.c_attn.weight"]
    assert two_of_four.shape == (16, 48)  # inputs first
    assert (two_of_four.view(4, 4, 48).sum(1) == 2).all()
    masks = prune(model, density=0.4, ignore="lm_head")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    Guard(model, masks=masks).attach(optimizer)
    words = torch.randint(50, (4, 8))
    model(input_ids=words, labels=words).loss.backward()
    optimizer.step()
    assert all(not model.get_parameter(name)[~mask].any() for name, mask in masks.items())
    model.save_pretrained(tmp_path)  # which leaves out the tied weight
    again = transformers.GPT2LMHeadModel(config)
    load_weights(again, tmp_path / "model.safetensors")
    found = masks_from_zeros(again, ignore="lm_head")
    assert all(torch.equal(found[name], masks[name]) for name in block)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("act", [masks_from_zeros, lambda model: prune(model, fraction=0.5)], ids=["zeros", "prune"])
@pytest.mark.parametrize("model", [None, nn.Linear(4, 3).state_dict(), [nn.Linear(4, 3)], print])
def test_what_is_no_module_is_refused(act, model):
    with pytest.raises(UsageError, match=f"model is a {type(model).__name__}: give a torch module"):
        act(model)


def test_modules_without_values_or_parameters_to_take_are_refused():
    empty, scripted = nn.Sequential(nn.Linear(4, 3, device="meta")), torch.jit.script(nn.Sequential(nn.Linear(4, 3)))
    for act in (masks_from_zeros, lambda model: prune(model, fraction=0.5), lambda model: n_of_m(model, 2, 4)):
        with pytest.raises(UsageError, match=r"'0\.weight' is on the device 'meta'"):
            act(empty)
    with pytest.raises(UsageError, match="give the module that it was scripted from"):
        prune(scripted, fraction=0.5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": 0.5}, "keep = 0.5 must be a whole number of weights"),
        ({"keep": True}, "keep = True must be a whole number"),
        ({"density": "0.5"}, "density = '0.5' must be a number"),
        ({"fraction": "0.5"}, "fraction = '0.5' must be a number"),
        ({"fraction": 0.5, "ignore": 3}, "ignore is a int"),
        ({"fraction": 0.5, "masks": [1]}, "masks is a list"),
        ({"fraction": 0.5, "score": None}, "score is a NoneType"),
    ],
)
def test_arguments_of_another_type_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        prune(nn.Sequential(nn.Linear(4, 3)), **options)


def test_ignore_none_leaves_nothing_out():
    model = nn.Sequential(nn.Linear(4, 3))
    assert masks_from_zeros(model, ignore=None).keys() == {"0.weight"}
