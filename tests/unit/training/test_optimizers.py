"""Every optimiser of [train] against torch's own, bit by bit: plain, clipped, under masks, resumed, in stacks."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lacewing.config import Train
from lacewing.models.mlp import mlp
from lacewing.sparsify import imp
from lacewing.sparsify.guard import Guard
from lacewing.training.batches import Batches
from lacewing.training.checkpoints import load_checkpoint, save_checkpoint, save_tensors
from lacewing.training.loop import lr_at, stream, train
from lacewing.training.private import PrivateSgd
from lacewing.training.replay import Recordings, recordings_for
from lacewing.training.stack import train_stack

N, D, CLASSES, EPOCHS, BATCH = 44, 6, 3, 3, 16  # two batches of 16, and one of 12
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
ADAM = {"lr": 0.03, "weight_decay": 0.3}
WAYS = {
    "sgd": {"optimizer": "sgd", "weight_decay": 0.01},
    "nesterov": {"optimizer": "sgd", "optimizer_options": {"nesterov": True}, "clip_norm": 0.05},
    "adam": {"optimizer": "adam", **ADAM, "clip_norm": 0.2},
    "adamw": {"optimizer": "adamw", **ADAM, "optimizer_options": {"betas": [0.8, 0.99], "eps": 1e-4}, "clip_norm": 0.2},
    "amsgrad": {"optimizer": "adamw", **ADAM, "optimizer_options": {"amsgrad": True}},
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _config(way, **changes):
    common = {"epochs": EPOCHS, "batch_size": BATCH, "precision": "fp32", "schedule": "cosine", "warmup": 0.25}
    return Train(**{**common, **WAYS[way], **changes})


def _oracle(way, parameters):
    """The optimiser written out."""
    if way in ("sgd", "nesterov"):
        decay = 0.01 if way == "sgd" else 5e-4
        return torch.optim.SGD(parameters, lr=9.0, momentum=0.9, weight_decay=decay, nesterov=way == "nesterov")
    if way == "adam":
        return torch.optim.Adam(parameters, lr=9.0, weight_decay=0.3)
    if way == "adamw":
        return torch.optim.AdamW(parameters, lr=9.0, weight_decay=0.3, betas=(0.8, 0.99), eps=1e-4)
    return torch.optim.AdamW(parameters, lr=9.0, weight_decay=0.3, amsgrad=True)


def _records():
    rng = np.random.default_rng(4)
    x = rng.normal(2, 3, (N, D)).astype(np.float32)
    return x, (x[:, 0] > 2).astype(np.int64) + (x[:, 1] > 3), (x.mean(0), x.std(0))


def _model(seed=1):
    torch.manual_seed(seed)
    return mlp(D, CLASSES, (8, 5))


def _masks(model):
    generator = torch.Generator().manual_seed(2)
    names = [name for name, p in model.named_parameters() if p.ndim == 2]
    return {name: torch.rand(model.get_parameter(name).shape, generator=generator) < 0.5 for name in names[:2]}


def _train(model, config, **options):
    x, y, normalisation = _records()
    return train(model, x, y, config, normalisation=normalisation, seed=3, **options)


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -------------------------------------------------------------------------------------------------- against torch.optim


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_training_equals_a_loop_around_torchs_optimiser_to_the_bit(way, pruned):
    """Pruned: the loop masks gradients before they are clipped, and weights and state after the step."""
    config, model, wanted = _config(way), _model(), _model()
    masks = _masks(model) if pruned else {}
    found = _train(model, config, guard=Guard(model, "none", masks=masks))

    x, y, normalisation = _records()
    optimizer, steps, at, cut = _oracle(way, wanted.parameters()), math.ceil(N / BATCH), 0, 0
    for name, mask in masks.items():
        wanted.get_parameter(name).data[~mask] = 0
    for epoch in range(EPOCHS):
        for inputs, labels, _ in Batches(x, y, config, normalisation, torch.device("cpu")).epoch(
            stream(3, epoch, "batches")
        ):
            optimizer.param_groups[0]["lr"] = lr_at(config, at, steps)
            optimizer.zero_grad()
            F.cross_entropy(wanted(inputs), labels).backward()
            for name, mask in masks.items():
                wanted.get_parameter(name).grad[~mask] = 0
            if config.clip_norm:
                cut += nn.utils.clip_grad_norm_(wanted.parameters(), config.clip_norm) > config.clip_norm
            optimizer.step()
            at += 1
    assert at == 9
    assert cut > 4 or not config.clip_norm  # else nothing was tried
    assert _same(model.state_dict(), wanted.state_dict())
    for name, parameter in wanted.named_parameters():
        for kind, tensor in optimizer.state[parameter].items():
            assert torch.equal(found.optimizer[kind][name], tensor)


@pytest.mark.parametrize("way", WAYS)
def test_pruned_weights_and_all_their_state_are_exactly_zero_after_every_epoch(way):
    model = _model()
    masks = _masks(model)
    seen = []

    def check(progress):
        for name, mask in masks.items():
            assert not progress.model[name][~mask].any()
            assert progress.model[name][mask].all()
            for kind, held in progress.optimizer.items():
                assert kind == "step" or not held[name][~mask].any()
        seen.append(set(progress.optimizer))

    _train(model, _config(way), guard=Guard(model, "none", masks=masks), on_epoch=check)
    moments = {"exp_avg", "exp_avg_sq", "step"} | ({"max_exp_avg_sq"} if way == "amsgrad" else set())
    assert seen == [moments if "a" in way else {"momentum_buffer"}] * EPOCHS


@pytest.mark.parametrize("broken", [None, 2])
def test_levels_of_imp_begin_with_a_fresh_optimiser_and_are_resumed_within(broken):
    """Each level's training is one of its own from the rewound weights: nothing of the level before is left."""
    config = _config("adamw")

    def fit(model, guard):
        if broken is not None:
            half = copy.deepcopy(_train(model, config, guard=guard, stop_after=broken))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1.0)  # what is in memory is lost
            _train(model, config, guard=guard, progress=half)
            return
        start, masks = copy.deepcopy(model), dict(guard.masks)
        found = _train(model, config, guard=guard)
        assert found.optimizer["step"]["1.weight"] == 9
        alone = _train(start, config, guard=Guard(start, "none", masks=masks))
        assert _same(model.state_dict(), alone.model)

    model, ends = _model(), []
    for _ in imp(model, fit, levels=2, fraction=0.4, guard=Guard(model, "init")):
        ends.append(copy.deepcopy(model.state_dict()))
    whole = _model()
    for level, _ in enumerate(
        imp(
            whole, lambda m, guard: _train(m, config, guard=guard) and None, levels=2, fraction=0.4,
            guard=Guard(whole, "init"),
        )
    ):  # fmt: skip
        assert _same(whole.state_dict(), ends[level])


# ------------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_training_goes_on_from_a_checkpoint_to_the_same_bits(way, epoch, tmp_path):
    config, whole = _config(way), _model()
    masks = _masks(whole)
    ends = _train(whole, config, guard=Guard(whole, "none", masks=masks))
    first = _model()
    half = _train(first, config, guard=Guard(first, "none", masks=masks), stop_after=epoch)
    save_checkpoint(tmp_path, half, job="a", epochs=EPOCHS)
    other = _model(seed=7)
    resumed = _train(other, config, guard=Guard(other, "none", masks=masks), progress=load_checkpoint(tmp_path))
    assert _same(other.state_dict(), whole.state_dict())
    assert resumed.curve == ends.curve
    assert resumed.optimizer.keys() == ends.optimizer.keys()
    assert all(_same(resumed.optimizer[kind], held) for kind, held in ends.optimizer.items())


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path):
    """It held the state of SGD under another name."""
    config, whole, first = _config("sgd"), _model(), _model()
    _train(whole, config)
    half = _train(first, config, stop_after=1)
    save_checkpoint(tmp_path, half, job="a", epochs=EPOCHS)
    old = {f"model|{name}": tensor for name, tensor in half.model.items()}
    old |= {f"momentum|{name}": tensor for name, tensor in half.optimizer["momentum_buffer"].items()}
    curve = '[{"epoch": 1, "loss": 1.0, "accuracy": 0.5, "lr": 0.1}]'
    save_tensors(tmp_path / "checkpoint.safetensors", old, {"curve": curve, "seconds": "1.0"})
    other = _model(seed=7)
    _train(other, config, progress=load_checkpoint(tmp_path))
    assert _same(other.state_dict(), whole.state_dict())


# ----------------------------------------------------------------------------------------------- recorded steps, stacks


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", ["nesterov", "adamw", "amsgrad"])
def test_recorded_steps_train_the_same_and_are_resumed(way, device):
    config, (model, plain, again) = _config(way), (_model().to(device) for _ in range(3))
    masks = _masks(model)
    record = recordings_for("cuda", "graph", strict=True) if device == "cuda" else Recordings(lambda s: s, strict=True)
    found = _train(model, config, guard=Guard(model, "init", masks=masks), recordings=record)
    wanted = _train(plain, config, guard=Guard(plain, "init", masks=masks))
    for kind, held in {"model": plain.state_dict(), **wanted.optimizer}.items():
        mine = model.state_dict() if kind == "model" else found.optimizer[kind]
        for name, tensor in held.items():
            torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-4)
    guard = Guard(again, "init", masks=masks)
    half = copy.deepcopy(_train(again, config, guard=guard, recordings=record, stop_after=2))
    other = _model(seed=7).to(device)
    _train(other, config, guard=Guard(other, "init", masks=masks), recordings=record, progress=half)
    assert _same(other.state_dict(), model.state_dict())


@pytest.mark.parametrize("way", ["nesterov", "adam", "adamw", "amsgrad"])
def test_a_stack_trains_what_each_network_becomes_alone_and_is_resumed(way):
    """Each network is clipped by its own norm: one network has records a hundred times as large as the others'."""
    config = _config(way)
    x, y, normalisation = _records()
    x = np.concatenate([x, 100 * x])
    y = np.concatenate([y, y])
    members = np.stack([np.arange(N), np.arange(N, 2 * N), np.arange(N)])
    models, alone = [_model(seed) for seed in range(3)], [_model(seed) for seed in range(3)]
    masks = [_masks(models[0]), {}, _masks(models[0])]

    def stacked(models, **options):
        return train_stack(
            models, x, y, members, config, normalisation=normalisation, seeds=[0, 1, 2], masks=masks, **options
        )

    found = stacked(models)
    for k, model in enumerate(alone):
        guard = Guard(model, "none", masks=masks[k])
        wanted = train(model, x[members[k]], y[members[k]], config, normalisation=normalisation, seed=k, guard=guard)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(models[k].state_dict()[name], tensor, rtol=2e-3, atol=1e-4)
        assert found[k].optimizer.keys() == wanted.optimizer.keys()
        for name, mask in masks[k].items():
            assert not models[k].get_parameter(name)[~mask].any()
    half = copy.deepcopy(stacked(again := [_model(seed) for seed in range(3)], stop_after=2))
    with torch.no_grad():
        for model in again:
            for parameter in model.parameters():
                parameter.add_(1.0)  # what is in memory is lost
    ends = stacked(again, progress=half)
    for k, model in enumerate(models):
        assert _same(again[k].state_dict(), model.state_dict())
        assert all(_same(ends[k].optimizer[kind], held) for kind, held in found[k].optimizer.items())


@pytest.mark.parametrize("stacked", [False, True])
def test_dp_sgd_steps_by_the_optimiser_of_the_study(stacked):
    """Without noise, clipping far above every norm and all records in each batch, it is AdamW on the whole set."""
    config = _config("adamw", batch_size=N, clip_norm=0.0)
    x, y, normalisation = _records()
    model, wanted = _model(), _model()
    masks, trainer = _masks(model), PrivateSgd(0.0, 1e6)
    if stacked:
        all_of = np.arange(N)[None]
        train_stack(
            [model], x, y, all_of, config, normalisation=normalisation, seeds=[3], masks=[masks], trainer=trainer
        )
    else:
        _train(model, config, guard=Guard(model, "none", masks=masks), trainer=trainer)
    _train(wanted, config, guard=Guard(wanted, "none", masks=masks))
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)
    assert all(not model.get_parameter(name)[~mask].any() for name, mask in masks.items())


# ------------------------------------------------------------------------------------------------------------ schedules


def _torchs(steps, make):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    oracle = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    return rates


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(24, 60, 0.1), (5, 4, 0.0), (3, 7, 0.3), (1, 10, 0.9)])
def test_cosine_with_warm_up_equals_torchs(epochs, steps, warmup):
    config, all_of = Train(epochs=epochs, lr=0.3, schedule="cosine", warmup=warmup), epochs * steps
    rising = round(warmup * all_of)

    def make(optimizer):
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, all_of - rising)
        if not rising:
            return falling
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / rising, total_iters=rising - 1)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, falling], [rising])

    found = [lr_at(config, step, steps) for step in range(all_of)]
    assert found == pytest.approx(_torchs(all_of, make), rel=1e-6, abs=1e-12)
    assert max(found) == pytest.approx(0.3)
    assert found[-1] > 0


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_a_warm_up_rises_linearly_to_the_rate_of_the_other_schedules(schedule):
    plain, warm = (Train(epochs=10, lr=0.3, schedule=schedule, warmup=share) for share in (0.0, 0.2))
    for step in range(40):
        rise = (step + 1) / 8 if step < 8 else 1.0
        assert lr_at(warm, step, 4) == pytest.approx(rise * lr_at(plain, step, 4))
