"""The guard: exact zeros in weight, gradient and optimiser state at every step, and every way to rewind."""

import copy
import functools
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from lacewing.errors import UsageError
from lacewing.sparsify.guard import Guard, Rewind
from lacewing.sparsify.masks import apply_masks, prunable


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@st.composite
def networks(draw):
    """A small network on (n, 1, 4, 4) with three classes."""
    torch.manual_seed(draw(st.integers(0, 999)))
    width = draw(st.integers(1, 5))
    if draw(st.booleans()):
        norm = draw(st.booleans())
        hidden = [nn.Linear(16, width, bias=not norm), nn.BatchNorm1d(width) if norm else nn.Tanh()]
        if draw(st.booleans()):
            hidden += [nn.Linear(width, width), nn.Tanh()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 3))
    kernel = draw(st.integers(1, 3))
    conv = nn.Conv2d(1, width, kernel, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.Tanh(), nn.Flatten(), nn.Linear(width * (5 - kernel) ** 2, 3))


def _network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))


def _masks(model, density=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: model.get_parameter(name).shape for name in prunable(model)}
    return {name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()}


def _batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)


def _loss(model, seed=0):
    x, y = _batch(seed)
    return F.cross_entropy(model(x), y)


def _step(model, optimizer, seed=0):
    optimizer.zero_grad()
    _loss(model, seed).backward()
    optimizer.step()


def _bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def _held(model, optimizer, name):
    """Weight, gradient, and all that the optimiser holds of the weight's shape."""
    weight = model.get_parameter(name)
    tensors = [weight.detach(), weight.grad, *optimizer.state.get(weight, {}).values()]
    return [t for t in tensors if isinstance(t, torch.Tensor) and t.shape == weight.shape]


def _zeros(model, optimizer, masks):
    return all(not tensor[~mask].any() for name, mask in masks.items() for tensor in _held(model, optimizer, name))


def _sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)


OPTIMISERS = {  # and how many tensors of the weight's shape its state holds
    "sgd": (functools.partial(torch.optim.SGD, lr=0.1), 0),
    "nesterov": (functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05), 1),
    "dampened": (functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, maximize=True), 1),
    "adam": (functools.partial(torch.optim.Adam, lr=0.05, weight_decay=0.1), 2),
    "amsgrad": (functools.partial(torch.optim.Adam, lr=0.05, amsgrad=True, weight_decay=0.1), 3),
    "adamw": (functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=0.5), 2),
    "fused adamw": (functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=0.5, fused=True), 2),
    "rmsprop": (functools.partial(torch.optim.RMSprop, lr=0.02, momentum=0.9, centered=True, weight_decay=0.1), 3),
    "adagrad": (functools.partial(torch.optim.Adagrad, lr=0.1, weight_decay=0.1, initial_accumulator_value=0.1), 1),
    "adadelta": (functools.partial(torch.optim.Adadelta, weight_decay=0.1), 2),
    "adamax": (functools.partial(torch.optim.Adamax, lr=0.05, weight_decay=0.1), 2),
    "nadam": (functools.partial(torch.optim.NAdam, lr=0.05, weight_decay=0.1), 2),
    "radam": (functools.partial(torch.optim.RAdam, lr=0.05, weight_decay=0.1), 2),
    "asgd": (functools.partial(torch.optim.ASGD, lr=0.05, weight_decay=0.1), 1),
    "rprop": (functools.partial(torch.optim.Rprop, lr=0.05), 2),
    "adafactor": (functools.partial(torch.optim.Adafactor, lr=0.05, weight_decay=0.1), 0),
}


def _train_as_if_masked(model, masks, optimiser, steps):
    """The oracle: masks in the forward pass alone, so that what the optimiser does to pruned weights is not seen."""
    twin = copy.deepcopy(model)
    parameters = dict(twin.named_parameters())
    optimizer = optimiser(twin.parameters())
    for step in range(steps):
        x, y = _batch(step)
        optimizer.zero_grad()
        masked = {name: p * masks[name] if name in masks else p for name, p in parameters.items()}
        F.cross_entropy(functional_call(twin, masked, (x,)), y).backward()
        optimizer.step()
    apply_masks(twin, masks)
    return twin


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from(sorted(set(OPTIMISERS) - {"adafactor"})), st.floats(0, 1), st.booleans())
def test_what_is_pruned_is_zero_after_every_step_and_the_rest_trains_as_if_masked(model, kind, density, foreach):
    optimiser, held = OPTIMISERS[kind]
    if "fused" not in kind:
        optimiser = functools.partial(optimiser, foreach=foreach)
    masks = _masks(model, density)
    twin = _train_as_if_masked(model, masks, optimiser, 4)
    before = _bits(model)
    optimizer = optimiser(model.parameters())
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    for step in range(4):
        _step(model, optimizer, step)
        for name, mask in masks.items():
            tensors = _held(model, optimizer, name)
            assert len(tensors) == 2 + held
            assert all((tensor[~mask] == 0).all() for tensor in tensors)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert guard.step == 4
    assert not torch.equal(model[-1].bias, before[f"{len(model) - 1}.bias"])


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_every_optimiser_leaves_zeros_and_moves_all_else(kind):
    optimiser, _ = OPTIMISERS[kind]
    model = _network()
    masks, before = _masks(model), _bits(model)
    optimizer = optimiser(model.parameters())
    Guard(model, masks=masks).attach(optimizer)
    for step in range(3):
        _step(model, optimizer, step)
        assert _zeros(model, optimizer, masks)
    for name, tensor in model.state_dict().items():
        changed = tensor != before[name]
        assert changed[masks.get(name, torch.ones_like(changed))].float().mean() > 0.5, name


def test_sgd_on_a_quadratic_follows_its_closed_form():
    torch.manual_seed(0)
    layer, target = nn.Linear(5, 4, bias=False), torch.randn(4, 5)
    mask, first = torch.rand(4, 5) < 0.5, layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2)
    Guard(layer, masks={"weight": mask}).attach(optimizer)
    for step in range(1, 6):
        optimizer.zero_grad()
        (layer(torch.eye(5)).T - target).square().sum().div(2).backward()
        optimizer.step()
        torch.testing.assert_close(layer.weight.detach(), mask * (target + 0.8**step * (first - target)))


def test_a_norm_clip_sees_kept_gradients_alone():
    model, twin = _network(), _network()
    masks = _masks(model)
    apply_masks(twin, masks)
    _loss(twin).backward()
    kept = [p.grad * masks[name] if name in masks else p.grad for name, p in twin.named_parameters()]
    wanted = torch.cat([g.flatten() for g in kept]).double().square().sum().sqrt().item()
    everything = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm().item()

    Guard(model, masks=masks).attach(_sgd(model))
    _loss(model).backward()
    assert nn.utils.clip_grad_norm_(model.parameters(), wanted / 2).item() == pytest.approx(wanted, rel=1e-5)
    assert everything > 1.05 * wanted
    for found, kept_gradient in zip(model.parameters(), kept, strict=True):
        torch.testing.assert_close(found.grad, kept_gradient / 2)


def test_mixed_precision_keeps_zeros_and_a_skipped_step_revives_nothing():
    model = _network()
    masks = _masks(model)
    optimizer, scaler = _sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    for step, factor in enumerate([1, 1, torch.inf, 1]):
        before = _bits(model)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = _loss(model, step)
        scaler.scale(loss * factor).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert _zeros(model, optimizer, masks)
        assert torch.equal(before["4.weight"], model[4].weight) == (factor == torch.inf)
    assert scaler.get_scale() == 512
    assert guard.step == 3


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_pruned_weight_that_diverged_is_zero_after_a_step(value):
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    _step(model, optimizer)
    with torch.no_grad():
        for name, mask in masks.items():
            for tensor in _held(model, optimizer, name):
                tensor[~mask] = value
    optimizer.step()
    assert _zeros(model, optimizer, masks)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


_WRAPPED = []  # for good: who frees a wrapper holds the GIL and waits for a thread of gloo's that may want it


@pytest.mark.parametrize("before_attach", [False, True])
def test_distributed_data_parallel_keeps_zeros_and_its_names(tmp_path, before_attach):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model, plain = _network(), _network()
        masks, names = _masks(model), list(model.state_dict())
        guard, plain_guard = Guard(model, masks=masks), Guard(plain, masks=masks)
        optimizer, plain_optimizer = _sgd(model), _sgd(plain)
        plain_guard.attach(plain_optimizer)
        if before_attach:
            guard.attach(optimizer)
        wrapped = nn.parallel.DistributedDataParallel(model)
        _WRAPPED.append(wrapped)
        if not before_attach:
            guard.attach(optimizer)
        for step in range(3):
            _step(wrapped, optimizer, step)
            _step(plain, plain_optimizer, step)
            assert _zeros(model, optimizer, masks)
        assert list(wrapped.state_dict()) == [f"module.{name}" for name in names]
        assert list(model.state_dict()) == names
        for name, tensor in plain.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], tensor)
    finally:
        torch.distributed.destroy_process_group()


def test_a_guarded_model_is_exported_as_it_stands():
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    Guard(model, masks=masks).attach(optimizer)
    _step(model, optimizer)
    model.eval()
    x, _ = _batch(1)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))
    assert set(exported.state_dict) == set(model.state_dict())
    assert all(not exported.state_dict[name][~mask].any() for name, mask in masks.items())
    model.train()
    _step(model, optimizer)
    assert _zeros(model, optimizer, masks)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_guarded_model_is_free(copied):
    model = _network()
    masks, optimizer = _masks(model, 0.3), _sgd(model)
    Guard(model, masks=masks).attach(optimizer)
    _step(model, optimizer)
    twin = copied(model)
    assert _same(_bits(twin), _bits(model))
    assert list(twin.state_dict()) == list(model.state_dict())
    _step(twin, _sgd(twin))
    assert all(twin.get_parameter(name)[~mask].ne(0).float().mean() > 0.9 for name, mask in masks.items())
    assert _zeros(model, optimizer, masks)


def test_a_copy_of_the_optimiser_counts_no_steps_and_zeroes_nothing():
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    _step(model, optimizer)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    _step(twin, twin_optimizer)
    assert guard.step == 1


def test_gradients_that_accumulate_are_masked_each_time():
    model, whole = _network().eval(), _network().eval()
    masks, optimizer = _masks(model), _sgd(model)
    Guard(model, masks=masks).attach(optimizer)
    apply_masks(whole, masks)
    for seed in range(3):
        _loss(model, seed).backward()
        assert _zeros(model, optimizer, masks)
    torch.stack([_loss(whole, seed) for seed in range(3)]).sum().backward()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad * masks.get(name, 1))
    optimizer.step()
    assert _zeros(model, optimizer, masks)


def test_several_optimisers_keep_zeros_and_the_first_one_counts():
    model = _network()
    masks = _masks(model)
    head = torch.optim.Adam(model[4].parameters(), lr=0.01, weight_decay=0.1)
    body = torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1, momentum=0.9)
    guard = Guard(model, masks=masks)
    guard.attach(head, body)
    for step in range(1, 4):
        for optimizer in (head, body):
            optimizer.zero_grad()
        _loss(model, step).backward()
        body.step()
        assert guard.step == step - 1
        head.step()
        body.step()
        assert guard.step == step
        assert _zeros(model, head, masks)
        assert _zeros(model, body, masks)
    assert len(_held(model, head, "4.weight")) == 4
    assert len(_held(model, body, "0.weight")) == 3


def test_detach_frees_weights_and_counts_no_more():
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    _step(model, optimizer)
    guard.detach()
    guard.detach()
    _step(model, optimizer)
    assert all(model.get_parameter(name)[~mask].ne(0).all() for name, mask in masks.items())
    assert guard.step == 1
    guard.attach(optimizer)
    assert _zeros(model, optimizer, masks)


def test_to_attach_again_lets_go_of_what_was_attached():
    model = _network()
    masks, first, second = _masks(model), _sgd(model), _sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(first)
    guard.attach(second)
    _loss(model).backward()
    first.step()
    assert guard.step == 0
    second.step()
    assert guard.step == 1
    with torch.no_grad():
        model[4].weight.fill_(1.0)
    first.step()  # free: it is no longer watched
    assert model[4].weight.ne(0).all()
    second.step()
    assert _zeros(model, second, masks)


def test_masks_set_in_mid_training_prune_weights_gradients_and_state_at_once():
    model = _network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.1)
    guard = Guard(model)
    guard.attach(optimizer)
    for step in range(2):
        _step(model, optimizer, step)
    before = {name: [t.clone() for t in _held(model, optimizer, name)] for name in prunable(model)}
    masks = _masks(model)
    guard.masks = masks
    for name, mask in masks.items():
        found = _held(model, optimizer, name)
        assert len(found) == 4
        assert all(torch.equal(t, torch.where(mask, old, 0)) for t, old in zip(found, before[name], strict=True))
    _step(model, optimizer, 2)
    assert _zeros(model, optimizer, masks)
    looser = {name: mask | _masks(model, seed=1)[name] for name, mask in masks.items()}
    guard.masks = looser  # what is free again grows again, and the rest does not
    _step(model, optimizer, 3)
    assert all(model.get_parameter(name).ne(0).equal(mask) for name, mask in looser.items())


def test_masks_of_another_model_are_refused_and_the_old_ones_stay():
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    with pytest.raises(UsageError, match="which the model does not have"):
        guard.masks = {"nowhere": torch.ones(2, dtype=torch.bool)}
    _step(model, optimizer)
    assert _zeros(model, optimizer, guard.masks)
    assert _same(guard.masks, masks)


def test_what_is_pruned_does_not_follow_a_mask_that_its_owner_changes_later():
    model = _network()
    mine, optimizer = _masks(model), _sgd(model)
    masks = {name: mask.clone() for name, mask in mine.items()}
    Guard(model, masks=mine).attach(optimizer)
    for mask in mine.values():
        mask.fill_(True)
    _step(model, optimizer)
    assert _zeros(model, optimizer, masks)


@pytest.mark.parametrize(
    "optimiser",
    [functools.partial(torch.optim.LBFGS, lr=0.3, max_iter=5), functools.partial(torch.optim.SGD, lr=0.1)],
)
def test_a_step_that_calls_a_closure_keeps_zeros_and_counts_once(optimiser):
    model = _network()
    masks, optimizer = _masks(model), optimiser(model.parameters())
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = _loss(model)
        loss.backward()
        seen.append(loss.item())
        assert _zeros(model, optimizer, masks)  # inside the step too
        return loss

    for step in range(1, 4):
        optimizer.step(closure)
        assert _zeros(model, optimizer, masks)
        assert guard.step == step
    assert _loss(model).item() < seen[0]


def test_a_learning_rate_scheduler_may_wrap_the_optimiser_on_either_side():
    for wrapped_first in (False, True):
        model = _network()
        masks, optimizer = _masks(model), _sgd(model)
        guard = Guard(model, masks=masks)
        if not wrapped_first:
            guard.attach(optimizer)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=5)
        if wrapped_first:
            guard.attach(optimizer)
        for step in range(4):
            _step(model, optimizer, step)
            scheduler.step()
            assert _zeros(model, optimizer, masks)
        assert guard.step == 4


def test_an_optimiser_state_that_is_loaded_is_zeroed_by_the_next_step():
    dense = _network()
    dense_optimizer = _sgd(dense)
    _step(dense, dense_optimizer)
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    optimizer.load_state_dict(dense_optimizer.state_dict())
    assert not _zeros(dense, dense_optimizer, masks)
    _step(model, optimizer)
    assert _zeros(model, optimizer, masks)


FORMS = {  # weights, schedule, unit, at
    "init": ("point", "start", "step", 0),
    "epoch 0": ("point", "start", "step", 0),
    "step 0": ("point", "start", "step", 0),
    "epoch 0 resumed": ("point", "start", "step", 0),
    "epoch 1": ("point", "start", "epoch", 1),
    "epoch 12": ("point", "start", "epoch", 12),
    "step 500": ("point", "start", "step", 500),
    "epoch 1 resumed": ("point", "point", "epoch", 1),
    "step 500 resumed": ("point", "point", "step", 500),
    "learning-rate": ("keep", "start", "step", 0),
    "learning-rate epoch 0": ("keep", "start", "step", 0),
    "learning-rate epoch 10": ("keep", "point", "epoch", 10),
    "learning-rate step 10": ("keep", "point", "step", 10),
    "none": ("keep", "end", "step", 0),
}


@pytest.mark.parametrize("text", FORMS)
def test_each_rewind_says_what_goes_back(text):
    assert Rewind.parse(text) == Rewind(*FORMS[text])


INVALID = ["", "epoch", "epoch -1", "step 1.5", "learning-rate epoch 2 resumed", "init resumed", "Epoch 1"]
INVALID += ["epoch  1", " none", "none ", "epoch 1\n", "epochs 1", "epoch 1 Resumed", "learning-rate  epoch 1"]
INVALID += ["learning-rate none", "none resumed", "resumed", "step", "epoch one", "epoch 1 step 2", "learning rate"]


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(
        st.sampled_from(INVALID),
        st.text(max_size=12).filter(lambda text: text not in FORMS and not text.startswith(("epoch ", "step "))),
        st.tuples(st.sampled_from(["epoch", "step"]), st.integers(max_value=-1)).map(lambda t: f"{t[0]} {t[1]}"),
    )
)
def test_any_other_rewind_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError) as found:
        Rewind.parse(text)
    assert str(found.value) == (
        f"rewind {text!r} must be 'init', 'epoch K', 'step K' (each K also with ' resumed'), 'learning-rate', "
        "'learning-rate epoch K', 'learning-rate step K' or 'none'."
    )


@pytest.mark.parametrize("text", INVALID)
def test_a_guard_refuses_a_rewind_that_means_nothing(text):
    with pytest.raises(UsageError, match="must be 'init'"):
        Guard(_network(), text)


def _fit(model, guard, epochs=3, steps=2):
    """Train from where the guard says; the state after each (epoch, step), also in mid-epoch."""
    optimizer = _sgd(model)
    guard.attach(optimizer)
    states = {(guard.epoch, guard.step): _bits(model)}
    while guard.epoch < epochs:
        for _ in range(guard.step - guard.epoch * steps, steps):
            _step(model, optimizer, guard.step)
            states[guard.epoch, guard.step] = _bits(model)
        guard.epoch_end()
        states[guard.epoch, guard.step] = _bits(model)
    guard.detach()
    return states


REWINDS = {  # where weights and schedule go, in a training of three epochs of two steps
    "init": ((0, 0), (0, 0)),
    "epoch 0": ((0, 0), (0, 0)),
    "epoch 1": ((1, 2), (0, 0)),
    "epoch 3": ((3, 6), (0, 0)),
    "epoch 2 resumed": ((2, 4), (2, 4)),
    "step 1": ((0, 1), (0, 0)),
    "step 2": ((0, 2), (0, 0)),
    "step 3": ((1, 3), (0, 0)),
    "step 3 resumed": ((1, 3), (1, 3)),
    "step 5 resumed": ((2, 5), (2, 5)),
    "learning-rate": (None, (0, 0)),
    "learning-rate epoch 2": (None, (2, 4)),
    "learning-rate step 3": (None, (1, 3)),
    "none": (None, (3, 6)),
}


@pytest.mark.parametrize("text", REWINDS)
def test_rewinding_restores_every_bit_and_the_place_in_the_schedule(text):
    weights, schedule = REWINDS[text]
    model = _network()
    guard = Guard(model, text)
    states = _fit(model, guard)
    assert model[1].num_batches_tracked == 6
    wanted = states[weights or (3, 6)]
    for seed in range(2):  # and a second time, from a training that did not pass all of the first one's places
        guard.masks = _masks(model, seed=seed)
        if weights is None:
            wanted = _bits(model)
        guard.rewind()
        kept = {k: torch.where(guard.masks[k], v, 0) if k in guard.masks else v for k, v in wanted.items()}
        assert _same(_bits(model), kept)
        assert model[1].num_batches_tracked.dtype == torch.int64
        assert (guard.epoch, guard.step) == schedule
        assert next(iter(_fit(model, guard))) == schedule
        assert (guard.epoch, guard.step) == (3, 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch 4", "epoch 4"),
        ("step 7", "step 7"),
        ("step 9 resumed", "step 9"),
        ("learning-rate epoch 4", "epoch 4"),
        ("learning-rate step 7", "step 7"),
    ],
)
def test_a_rewind_point_that_training_never_reached_is_refused(text, said):
    model = _network()
    guard = Guard(model, text)
    _fit(model, guard)
    with pytest.raises(UsageError, match=f"^the rewind point, {said}, was never reached: the training function must"):
        guard.rewind()
    assert (guard.epoch, guard.step) == (3, 6)


def test_the_rewind_point_is_not_moved_by_later_trainings_nor_by_what_happens_to_the_model():
    model = _network()
    guard = Guard(model, "step 3")
    _fit(model, guard)
    origin, at = {name: t.clone() for name, t in guard.origin.items()}, guard.origin_at
    guard.rewind()
    guard.masks = _masks(model)
    _fit(model, guard)
    assert _same(guard.origin, origin)
    assert guard.origin_at == at == (1, 3)


def test_a_sequence_that_goes_on_elsewhere_needs_only_the_origin_when_its_schedule_starts_again():
    first = Guard(_network(), "epoch 1")
    _fit(first.model, first)
    other = Guard(_network(), "epoch 1")
    other.origin, other.masks = first.origin, _masks(other.model)
    for _ in range(2):  # the second training of the other passes epoch 1, which is not its rewind point
        other.rewind()
        kept = {k: torch.where(other.masks[k], v, 0) if k in other.masks else v for k, v in first.origin.items()}
        assert _same(_bits(other.model), kept)
        _fit(other.model, other)


@pytest.mark.parametrize("text", [t for t in REWINDS if t != "none"])
def test_a_guard_in_another_process_rewinds_as_the_first_would(text):
    first = Guard(_network(), text)
    _fit(first.model, first)
    masks, trained = _masks(first.model), _bits(first.model)
    first.masks = masks
    other = Guard(_network(), text)
    other.model.load_state_dict(trained)
    other.masks, other.origin, other.origin_at = masks, first.origin, first.origin_at
    for guard in (first, other):
        guard.rewind()
    assert _same(_bits(first.model), _bits(other.model))
    assert (first.epoch, first.step) == (other.epoch, other.step) == REWINDS[text][1]
    for guard in (first, other):
        _fit(guard.model, guard)
    assert _same(_bits(first.model), _bits(other.model))


def test_a_learning_rate_rewound_to_init_is_no_form():
    with pytest.raises(UsageError, match="must be 'init'"):
        Rewind.parse("learning-rate init")


class _Counted(nn.Linear):
    """A layer that has a buffer outside its state dict, and a state of its own that is no tensor."""

    def __init__(self, *, buffer=False, extra=False):
        super().__init__(2, 2)
        self.extra, self.calls = extra, 0
        if buffer:
            self.register_buffer("seen", torch.zeros(1), persistent=False)

    def get_extra_state(self):
        return {"calls": self.calls} if self.extra else torch.zeros(0)

    def set_extra_state(self, state):
        if self.extra:
            self.calls = state["calls"]


def test_buffers_outside_the_state_dict_are_rewound_too():
    model = _Counted(buffer=True)
    guard = Guard(model, "init")
    model.seen.add_(1)
    guard.rewind()
    assert not model.seen.any()


def test_a_state_that_is_no_tensor_is_rewound_too():
    model = _Counted(extra=True)
    guard = Guard(model, "init")
    model.calls = 3
    guard.rewind()
    assert model.calls == 0


def test_a_shared_weight_is_kept_at_zero_under_either_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].weight = model[0].weight
    mask = torch.eye(4, dtype=torch.bool)
    for name in ("0.weight", "2.weight"):
        optimizer = _sgd(model)
        guard = Guard(model, masks={name: mask})
        guard.attach(optimizer)
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        assert _zeros(model, optimizer, guard.masks)
        guard.detach()


def test_a_layer_that_is_frozen_and_unfrozen_while_attached_stays_at_zero():
    model = _network()
    masks, optimizer = _masks(model), _sgd(model)
    model[4].weight.requires_grad_(False)
    Guard(model, masks=masks).attach(optimizer)
    _step(model, optimizer)
    assert not model[4].weight[~masks["4.weight"]].any()
    model[4].weight.requires_grad_(True)
    _step(model, optimizer)
    assert _zeros(model, optimizer, masks)
