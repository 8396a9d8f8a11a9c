"""DP-SGD: closed-form norms against autograd, plain SGD without noise and clipping, Opacus' own optimiser, resuming."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing import models
from lacewing.config import Model, Train
from lacewing.errors import UsageError
from lacewing.models.mlp import mlp
from lacewing.sparsify import butterfly
from lacewing.sparsify.guard import Guard
from lacewing.training.loop import lr_at, stream, train
from lacewing.training.private import (
    PrivateSgd,
    _clipping,
    check_private,
    clip_factors,
    is_perceptron,
    sampling,
    squared_norms,
)
from lacewing.training.stack import train_stack

N, D, C = 60, 10, 3
CONFIG = Train(epochs=3, batch_size=16, lr=0.2, precision="fp32")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _records(count=N, shape=(D,)):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, *shape)).astype(np.float32)
    y = rng.integers(0, C, count)
    axes = (0, *range(2, x.ndim))
    return x, y, (x.mean(axes), x.std(axes))


def _mlp(seed=0, hidden=(8, 5)):
    torch.manual_seed(seed)
    return mlp(D, C, hidden)


def _masks(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(p.shape, generator=generator) < 0.4 for name, p in model.named_parameters() if p.ndim >= 2}


def _guard(model, masks):
    return Guard(model, "none", masks=masks) if masks else None


def _trained(model, trainer, config=CONFIG, masks=None, **options):
    x, y, normalisation = _records()
    return train(
        model, x, y, config, normalisation=normalisation, seed=5, guard=_guard(model, masks), trainer=trainer, **options
    )


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _gradients(model, x, y, masks, smoothing=0.0):
    """Each record's gradient, one backward pass a record; pruned entries are zero. The oracle of what follows."""
    found = []
    for record, label in zip(x, y, strict=True):
        model.zero_grad()
        F.cross_entropy(model(record[None]), label[None], label_smoothing=smoothing).backward()
        found.append({n: p.grad.clone() if n not in masks else p.grad * masks[n] for n, p in model.named_parameters()})
    return found


def _norm(gradient):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_norms_in_closed_form_are_those_of_autograd(masked, bias):
    torch.manual_seed(2)
    layers = [nn.Linear(D, 8, bias=bias), nn.Linear(8, 5, bias=bias), nn.Linear(5, C, bias=bias)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    masks = _masks(model) if masked else {}
    x, y = torch.randn(12, D), torch.randint(0, C, (12,))
    wanted = [_norm(each) for each in _gradients(model, x, y, masks)]
    inputs, outputs, h = [], [], x
    for layer in model:
        inputs += [h.detach()] if layer in layers else []
        h = layer(h)
        outputs += [h] if layer in layers else []
    deltas = torch.autograd.grad(F.cross_entropy(h, y, reduction="sum"), outputs)
    kept = [masks[f"{place}.weight"].float().t() if masked else None for place in (0, 2, 4)]
    found = squared_norms(inputs, deltas, kept, [bias] * 3).sqrt()
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def _by_hand(model, config, clip, masks):
    """DP-SGD without noise as it is defined: each record's gradient, clipped, and Poisson batches of the same draws."""
    x, y, (mean, std) = _records()
    x, y = torch.from_numpy((x - mean) / std), torch.from_numpy(y)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=config.momentum, weight_decay=config.weight_decay)
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    steps, sizes = math.ceil(N / config.batch_size), []
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(stream(5, epoch, "batches"))
        for step in range(steps):
            taken = torch.rand(N, generator=generator, dtype=torch.float64) < config.batch_size / N
            sizes.append(int(taken.sum()))
            found = _gradients(model, x[taken], y[taken], masks, config.label_smoothing)
            for name, parameter in model.named_parameters():
                clipped = [each[name] * min(1.0, clip / _norm(each)) for each in found]
                parameter.grad = sum(clipped, torch.zeros_like(parameter)) / config.batch_size
            optimizer.param_groups[0]["lr"] = lr_at(config, epoch * steps + step, steps)
            optimizer.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    model.get_parameter(name).mul_(mask)
    return sizes


@pytest.mark.parametrize(("clip", "masked", "smoothing"), [(1e6, False, 0.0), (0.7, False, 0.2), (0.7, True, 0.0)])
def test_without_noise_it_is_sgd_on_clipped_gradients_of_poisson_batches(clip, masked, smoothing):
    ours, theirs = _mlp(), _mlp()
    masks, config = _masks(ours) if masked else {}, CONFIG.model_copy(update={"label_smoothing": smoothing})
    _trained(ours, PrivateSgd(0.0, clip), config, masks=masks)
    sizes = _by_hand(theirs, config, clip, masks)
    assert len(set(sizes)) > 3  # the batches differ in size
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_large_clip_changes_nothing_and_a_small_one_does():
    models = [_mlp() for _ in range(3)]
    for model, clip in zip(models, (1e3, 1e6, 0.1), strict=True):
        _trained(model, PrivateSgd(0.0, clip))
    states = [model.state_dict()["1.weight"] for model in models]
    torch.testing.assert_close(states[0], states[1], rtol=1e-4, atol=1e-5)
    assert (states[0] - states[2]).abs().max() > 0.05


def test_noise_has_its_size_on_kept_weights_and_none_on_pruned_ones():
    """A step of rate 1 moves each weight by the noise: noise times clip over the size of a batch, if clip is small."""
    model = _mlp(hidden=(40,))
    masks, before = _masks(model), copy.deepcopy(model.state_dict())
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": N, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0})
    config = config.model_copy(update={"schedule": "constant"})
    _trained(model, PrivateSgd(2.0, 1e-3), config, masks=masks)
    kept = masks["1.weight"]
    moved = model.state_dict()["1.weight"] - before["1.weight"] * kept
    assert not moved[~kept].any()
    assert float(moved[kept].std()) == pytest.approx(2.0 * 1e-3 / N, rel=0.2)


@pytest.mark.parametrize(("masked", "room"), [(False, 3.0), (True, 3.0), (True, 0.0)])
def test_a_stack_becomes_what_its_networks_become_alone(monkeypatch, masked, room):
    monkeypatch.setattr("lacewing.training.private._ROOM", room)
    x, y, normalisation = _records(90)
    rng = np.random.default_rng(1)
    members = np.stack([rng.permutation(90)[:50] for _ in range(3)])
    trainer = PrivateSgd(0.3, 0.8)
    together, alone = [_mlp(k) for k in range(3)], [_mlp(k) for k in range(3)]
    masks = [_masks(model, k) if masked else {} for k, model in enumerate(together)]
    found = train_stack(
        together, x, y, members, CONFIG, normalisation=normalisation, seeds=range(3), masks=masks, trainer=trainer
    )
    for k, model in enumerate(alone):
        rows, guard = members[k], _guard(model, masks[k])
        wanted = train(
            model, x[rows], y[rows], CONFIG, normalisation=normalisation, seed=k, guard=guard, trainer=trainer
        )
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(together[k].state_dict()[name], tensor, rtol=1e-3, atol=1e-5)
            if name in masks[k]:
                assert not together[k].state_dict()[name][~masks[k][name]].any()
        for mine, theirs in zip(found[k].curve, wanted.curve, strict=True):
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-4)


@pytest.mark.parametrize("room", [0.0, 3.0])
def test_neighbours_change_no_bit_of_a_network_in_a_stack(monkeypatch, room):
    """Not even those whose batches do not fit into the room of a step, as at room 0."""
    monkeypatch.setattr("lacewing.training.private._ROOM", room)
    x, y, normalisation = _records(90)
    members = np.stack([np.arange(50)] * 3)
    ends = []
    for others in ((1, 2), (3, 4)):
        models = [_mlp(0), _mlp(1), _mlp(2)]
        seeds = [0, *others]
        trainer = PrivateSgd(0.3, 0.8)
        train_stack(models, x, y, members, CONFIG, normalisation=normalisation, seeds=seeds, trainer=trainer)
        ends.append(models[0].state_dict())
    assert _same(*ends)


@pytest.mark.parametrize("masked", [False, True])
def test_a_broken_off_training_ends_in_the_same_bits(masked):
    whole, again = _mlp(), _mlp()
    masks, trainer = _masks(whole) if masked else {}, PrivateSgd(0.5, 1.0)
    ends = _trained(whole, trainer, masks=masks)
    half = copy.deepcopy(_trained(again, trainer, masks=masks, stop_after=1))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)  # what is in memory is lost
    resumed = _trained(again, trainer, masks=masks, progress=half)
    assert _same(whole.state_dict(), again.state_dict())
    assert _same(ends.optimizer["momentum_buffer"], resumed.optimizer["momentum_buffer"])
    assert ends.curve == resumed.curve


def test_an_empty_batch_is_a_step_of_noise():
    model = _mlp()
    before = copy.deepcopy(model.state_dict())
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 1, "weight_decay": 0.0})
    x, y, normalisation = _records(2)
    seed = next(s for s in range(99) if not _taken(s, 2, 0.5).any())
    train(model, x, y, config, normalisation=normalisation, seed=seed, trainer=PrivateSgd(1.0, 1.0), stop_after=1)
    assert not _same(before, model.state_dict())


def _taken(seed, count, rate):
    """Two batches of the first epoch."""
    generator = torch.Generator().manual_seed(stream(seed, 0, "batches"))
    return torch.stack([torch.rand(count, generator=generator, dtype=torch.float64) < rate for _ in range(2)])


def test_sampling_takes_every_record_where_a_batch_is_larger_than_all():
    assert sampling(2500, 64) == (64 / 2500, 64, 40)
    assert sampling(50, 2048) == (1.0, 50, 1)


def test_no_clipped_gradient_is_longer_than_the_clip():
    norms = torch.tensor([0.0, 1e-9, 0.5, 0.999999, 1.0, 30.0, math.inf])
    assert (clip_factors(norms.square(), 1.0)[:-1] * norms[:-1] <= 1.0).all()
    assert clip_factors(norms.square(), 1.0)[2] == 1


def test_which_networks_have_a_closed_form():
    shared, flat = nn.Linear(4, 4), nn.Flatten()
    assert is_perceptron(_mlp())
    assert is_perceptron(_shared_relu())
    assert is_perceptron(nn.Sequential(flat, nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), flat, nn.Linear(4, 2)))
    assert not is_perceptron(nn.Sequential(flat, shared, nn.ReLU(), shared))
    assert not is_perceptron(nn.Sequential(flat, nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)))
    assert not is_perceptron(nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)))
    assert not is_perceptron(nn.Sequential())
    assert not is_perceptron(_tied())
    assert not is_perceptron(_rows())
    assert not is_perceptron(_Unseen(False))


def _shared_relu():
    torch.manual_seed(4)
    relu = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(D, 8), relu, nn.Linear(8, 5), relu, nn.Linear(5, C))


def _tied():
    torch.manual_seed(4)
    layers = [nn.Linear(D, D, bias=False) for _ in range(2)]
    layers[1].weight = layers[0].weight
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Linear(D, C))


def _rows():
    """Linear on the last axis, so that the gradient of a record sums over its rows."""
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(D // 2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8, C))


def _check_sums(model, x, y, masks):
    """The sums of clipped gradients of a batch, some of which are clipped and some not, against autograd."""
    oracle = _gradients(model, x, y, masks)
    clip = sorted(map(_norm, oracle))[len(oracle) // 2]
    with _clipping(model, {name: ~mask for name, mask in masks.items()}, clip, 0.0) as clipped:
        sums, losses, right = clipped(x, y)
    assert sums.keys() == dict(model.named_parameters()).keys()
    for name, total in sums.items():
        wanted = sum(each[name] * min(1.0, clip / _norm(each)) for each in oracle)
        kept = masks.get(name, torch.ones_like(wanted, dtype=torch.bool))
        torch.testing.assert_close(total * kept, wanted, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(losses, F.cross_entropy(model(x), y, reduction="none").detach())
    assert right.tolist() == (model(x).argmax(1) == y).tolist()


@pytest.mark.parametrize("masked", [False, True])
def test_an_activation_may_stand_in_several_places(masked):
    model = _shared_relu()
    _check_sums(model, torch.randn(12, D), torch.randint(0, C, (12,)), _masks(model) if masked else {})


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.BatchNorm1d(4), "BatchNorm1d ('1') mixes the records"),
        (nn.ReLU(inplace=True), "set its inplace to False"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "InstanceNorm1d ('1') keeps buffers"),
    ],
)
def test_networks_that_cannot_be_trained_privately_are_refused(layer, said):
    with pytest.raises(UsageError, match="DP-SGD") as told:
        check_private(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)))
    assert said in str(told.value)


def test_other_networks_need_the_extra(monkeypatch):
    monkeypatch.setattr("lacewing.training.private.find_spec", lambda name: None)
    check_private(_mlp())
    with pytest.raises(UsageError, match=r"needs the package opacus.*\[dp\]"):
        check_private(_Unseen(False))


# ------------------------------------------------------------------------------------------------------- with Opacus


def _resnet():
    torch.manual_seed(3)
    return models.build(Model(name="resnet8", width=4, norm="group"), (3, 8, 8), C)


def _butterfly_vit():
    torch.manual_seed(3)
    options = {"patch": 4, "width": 24, "depth": 1, "heads": 2}
    model = models.build(Model(name="vit", options=options), (3, 8, 8), C)
    butterfly(model, density=0.5, ignore=["head"])
    return model


def _images(config, model, trainer, **options):
    x, y, normalisation = _records(24, (3, 8, 8))
    return train(model, x, y, config, normalisation=normalisation, seed=5, trainer=trainer, **options)


@pytest.fixture
def opacus():
    return pytest.importorskip("opacus", reason="the extra [dp] is not installed")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("network", ["resnet", "tied", "rows", "butterfly"])
def test_sums_of_other_networks_are_those_of_autograd(opacus, monkeypatch, network, masked):
    """In parts, too, since a large batch does not fit into memory at once."""
    made, shape = {
        "resnet": (_resnet, (3, 8, 8)),
        "tied": (_tied, (D,)),
        "rows": (_rows, (2, D // 2)),
        "butterfly": (_butterfly_vit, (3, 8, 8)),
    }[network]
    model = made()
    size = sum(p.numel() for p in model.parameters())
    for held in (2**26, 2 * size):
        monkeypatch.setattr("lacewing.training.private._HELD", held)
        _check_sums(model, torch.randn(7, *shape), torch.randint(0, C, (7,)), _masks(model) if masked else {})
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


class _Unseen(nn.Module):
    """Uses a weight outside its layer, or calls a layer on rows of all records at once; hooks of layers see neither."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.layer = rows, nn.Linear(D // 2, C) if rows else nn.Linear(D, D)

    def forward(self, x):
        if self.rows:
            return self.layer(x.reshape(-1, D // 2)).view(len(x), 2, C).sum(1)
        return F.linear(self.layer(x), self.layer.weight)[:, :C]


@pytest.mark.parametrize("rows", [False, True])
def test_what_opacus_cannot_take_apart_is_refused(opacus, rows):
    """Opacus itself would clip a part of the gradient, or rows instead of records."""
    with pytest.raises(UsageError, match=r"gradients of single records of 'layer\.\w+' do not add up"):
        _trained(_Unseen(rows), PrivateSgd(0.0, 1.0))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_step_is_that_of_opacus_own_optimiser(opacus):
    """The noise aside: weight decay, momentum, clipping, division by the mean size of a batch."""
    config = CONFIG.model_copy(update={"epochs": 2, "batch_size": 24, "lr": 0.1, "schedule": "constant"})
    ours, theirs = _resnet(), _resnet()
    _images(config, ours, PrivateSgd(0.0, 0.5))
    x, y, (mean, std) = _records(24, (3, 8, 8))
    inputs = (torch.from_numpy(x) - torch.from_numpy(mean)[:, None, None]) / torch.from_numpy(std)[:, None, None]
    hooked = opacus.GradSampleModule(theirs)
    plain = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=config.momentum, weight_decay=config.weight_decay)
    optimizer = opacus.optimizers.DPOptimizer(plain, noise_multiplier=0.0, max_grad_norm=0.5, expected_batch_size=24)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(hooked(inputs), torch.from_numpy(y)).backward()
        optimizer.step()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_broken_off_training_of_another_network_ends_in_the_same_bits(opacus):
    config = CONFIG.model_copy(update={"batch_size": 5, "augment": ("flip", "crop")})
    whole, again = _resnet(), _resnet()
    _images(config, whole, PrivateSgd(0.2, 1.0))
    half = copy.deepcopy(_images(config, again, PrivateSgd(0.2, 1.0), stop_after=1))
    _images(config, again, PrivateSgd(0.2, 1.0), progress=half)
    assert _same(whole.state_dict(), again.state_dict())
