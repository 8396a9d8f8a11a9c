"""The training loop against torch's own schedulers, a plain loop and naive augmentation; resuming is exact."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.config import Train
from lacewing.errors import DivergedError
from lacewing.training.batches import Batches
from lacewing.training.loop import TrainingState, lay_out, lr_at, stream, survives_channels_last, train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _records(n=22, channels=3, size=6, classes=3):
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (n, channels, size, size)).astype(np.uint8)
    y = rng.integers(0, classes, n)
    mean, std = (np.float32(f(x.astype(np.float64), axis=(0, 2, 3))) for f in (np.mean, np.std))
    return x, y, (mean, std)


def _network(dropout=0.3):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def _config(**fields):
    return Train(**{"epochs": 4, "batch_size": 8, "precision": "fp32", "augment": ("flip", "crop"), **fields})


def _trained(config, **options):
    x, y, normalisation = _records()
    model = options.pop("model", None) or _network()
    progress = train(model, x, y, config, normalisation=normalisation, seed=3, **options)
    return model, progress


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -------------------------------------------------------------------------------------------------------- learning rate


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.floats(1e-3, 2))
def test_one_cycle_equals_torchs(epochs, steps, lr):
    config = Train(epochs=epochs, lr=lr)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps, cycle_momentum=False)
    for step in range(epochs * steps):
        assert lr_at(config, step, steps) == pytest.approx(oracle.get_last_lr()[0], rel=1e-9, abs=1e-15)
        optimizer.step()
        if step + 1 < epochs * steps:
            oracle.step()


@pytest.mark.parametrize(
    ("epochs", "milestones"), [(300, (0.5, 0.75)), (30, (0.5, 0.75)), (10, (0.35, 0.6, 0.9)), (1, (0.5,))]
)
def test_step_schedule_equals_torchs(epochs, milestones):
    config = Train(epochs=epochs, lr=0.03, schedule="step", milestones=milestones, gamma=0.2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.03)
    drops = [math.floor(share * epochs) for share in milestones if math.floor(share * epochs) > 0]
    oracle = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.2)
    for epoch in range(epochs):
        if epochs > 1:  # a milestone before the first epoch ends is one that MultiStepLR never sees
            for step in (0, 3):
                assert lr_at(config, epoch * 4 + step, 4) == pytest.approx(oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()


def test_the_papers_schedule_divides_by_ten_at_epochs_150_and_225():
    config = Train(epochs=300, lr=0.03, schedule="step")
    rates = [lr_at(config, epoch * 59, 59) for epoch in (0, 149, 150, 224, 225, 299)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])


def test_a_constant_rate_is_constant():
    assert {lr_at(Train(schedule="constant", lr=0.7), step, 5) for step in range(150)} == {0.7}


# -------------------------------------------------------------------------------------------------------------- batches


def test_flip_and_crop_equal_a_naive_reference():
    x, y, (mean, std) = _records()
    batches = Batches(x, y, _config(), (mean, std), CPU)
    rng = np.random.default_rng(0)
    index = rng.permutation(len(x))[:9]
    top, left, flip = rng.integers(0, 9, 9), rng.integers(0, 9, 9), rng.random(9) < 0.5
    found = batches.gather(*(torch.from_numpy(a) for a in (index, top, left, flip)))
    for image, i, row, column, flipped in zip(found.numpy(), index, top, left, flip, strict=True):
        padded = np.pad(x[i], ((0, 0), (4, 4), (4, 4)))
        crop = padded[:, row : row + 6, column : column + 6]
        crop = crop[:, :, ::-1] if flipped else crop
        np.testing.assert_allclose(image, (crop - mean[:, None, None]) / std[:, None, None], rtol=1e-6)


@pytest.mark.parametrize(("augment", "flipped", "moved"), [((), 0, 0), (("flip",), 0.5, 0), (("crop",), 0, 80 / 81)])
def test_augmentations_are_drawn_for_each_image_and_only_as_configured(augment, flipped, moved):
    """Images of one bright pixel show where they were moved to."""
    n = 2000
    x = np.zeros((n, 1, 10, 10), np.uint8)
    x[:, :, 4, 5] = 1
    batches = Batches(
        x,
        np.zeros(n, int),
        _config(augment=augment, batch_size=n),
        (np.zeros(1, np.float32), np.ones(1, np.float32)),
        CPU,
    )
    ((image, *_),) = batches.epoch(0)
    place = [tuple(p) for p in image.nonzero()[:, 2:].tolist()]
    assert len(place) == n
    if "flip" in augment:
        assert set(place) == {(4, 4), (4, 5)}
        assert place.count((4, 4)) / n == pytest.approx(flipped, abs=0.05)
    else:
        assert sum(p != (4, 5) for p in place) / n == pytest.approx(moved, abs=0.02)
        assert len(set(place)) == (81 if moved else 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_each_epoch_is_a_permutation_whose_last_batch_is_kept(n, size, seed):
    x = np.arange(n, dtype=np.float32)[:, None]
    batches = Batches(
        x, np.arange(n), _config(batch_size=size, augment=()), (np.zeros(1, np.float32), np.ones(1, np.float32)), CPU
    )
    drawn = list(batches.epoch(seed))
    assert len(drawn) == len(batches) == math.ceil(n / size)
    assert [len(labels) for _, labels, _ in drawn] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert sorted(torch.cat([labels for _, labels, _ in drawn]).tolist()) == list(range(n))
    assert all(torch.equal(inputs[:, 0].long(), labels) for inputs, labels, _ in drawn)


def test_epochs_differ_and_repeat_by_seed():
    x, y, normalisation = _records()
    batches = Batches(x, y, _config(), normalisation, CPU)
    first, again, other = (torch.cat([batch.inputs for batch in batches.epoch(seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_streams_of_different_names_differ():
    names = [(0, 1, "model"), (0, 1, "batches"), (0, 2, "model"), (1, 1, "model"), (1, 2), (12,)]
    assert len({stream(*name) for name in names}) == len(names)
    assert all(0 <= stream(*name) < 2**63 for name in names)
    assert stream(0, 1, "model") == 2379603327390912137  # another value makes every network another


# ----------------------------------------------------------------------------------------------------------------- loop


@pytest.mark.parametrize("schedule", ["one-cycle", "step", "constant"])
def test_training_equals_a_plain_torch_loop(schedule):
    config = _config(schedule=schedule, weight_decay=1e-2, lr=0.2)
    model, progress = _trained(config, model=_network(dropout=0.0))

    x, y, normalisation = _records()
    plain = _network(dropout=0.0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-2)
    batches = Batches(x, y, config, normalisation, CPU)
    step, curve = 0, []
    for epoch in range(4):
        losses, right = [], 0
        for inputs, labels, _ in batches.epoch(stream(3, epoch, "batches")):
            optimizer.param_groups[0]["lr"] = lr_at(config, step, 3)
            optimizer.zero_grad()
            logits = plain(inputs)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(labels)
            right += int((logits.argmax(1) == labels).sum())
            step += 1
        curve.append((epoch + 1, np.mean(losses), right / len(y), lr_at(config, step - 1, 3)))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    for found, wanted in zip(progress.curve, curve, strict=True):
        assert (found.epoch, found.loss, found.accuracy, found.lr) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_resuming_after_any_epoch_gives_the_same_bits(epoch, momentum):
    """With dropout, batch norm, augmentation and a partial last batch; the checkpoint is a copy, as a file would be."""
    config = _config(momentum=momentum)
    kept = []
    model, whole = _trained(config, on_epoch=lambda progress: kept.append(copy.deepcopy(progress)))
    torch.manual_seed(99)
    again, resumed = _trained(config, progress=kept[epoch - 1])
    assert _same(again.state_dict(), model.state_dict())
    assert resumed.curve == whole.curve


def test_stopping_early_keeps_the_whole_schedule():
    config = _config()
    _, whole = _trained(config)
    _, half = _trained(config, stop_after=2)
    assert half.curve == whole.curve[:2]
    untouched, none = _trained(config, stop_after=0)
    assert none.curve == []
    assert _same(untouched.state_dict(), _network().state_dict())


def test_randomness_is_of_the_seed_alone_and_the_callers_is_left_alone():
    torch.manual_seed(1)
    first, _ = _trained(_config())
    model = _network()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, _ = _trained(_config(), model=model)
    assert torch.equal(torch.get_rng_state(), state)
    assert _same(first.state_dict(), second.state_dict())
    x, y, normalisation = _records()
    third = _network()
    train(third, x, y, _config(), normalisation=normalisation, seed=4)
    assert not _same(first.state_dict(), third.state_dict())


def test_the_callers_randomness_is_left_alone_when_training_is_broken_off():
    def stop(progress):
        raise KeyboardInterrupt

    model = _network()
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        _trained(_config(), model=model, on_epoch=stop)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverging_loss_names_the_epoch_and_the_mend(epoch, value):
    class Diverging(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) * (value if len(reached) == epoch - 1 else 1.0)

    reached = []
    with pytest.raises(DivergedError, match=rf"in epoch {epoch}; try a smaller train\.lr \(now 0\.1\)"):
        _trained(_config(), model=Diverging(108, 3), on_epoch=reached.append)
    assert len(reached) == epoch - 1


def test_a_far_too_large_rate_diverges_and_does_not_go_unseen():
    with pytest.raises(DivergedError):
        _trained(_config(lr=1e30, schedule="constant"))


def test_memory_layout_changes_nothing_but_rounding():
    on, off = (_trained(_config(channels_last=c), model=_network(dropout=0.0))[0].state_dict() for c in (True, False))
    for name in on:
        torch.testing.assert_close(on[name], off[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "stride", "safe"), [(4, 2, False), (15, 2, False), (16, 2, True), (4, 1, True)])
def test_a_layout_in_which_onednn_corrupts_memory_is_left(channels, width, stride, safe):
    """Strided 1x1 convolutions of few channels: trained in channels-last layout, the process dies."""
    x, y, normalisation = _records(channels=channels)
    model = nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.Conv2d(width, 4, 1, stride), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert survives_channels_last(model) == safe
    layouts = set()
    model[1].register_forward_pre_hook(lambda _, args: layouts.add(args[0].is_contiguous()))
    train(model, x, y, _config(), normalisation=normalisation, seed=3)
    assert layouts == {not safe}


@pytest.mark.parametrize(
    ("width", "dims", "asked", "last"),
    [(16, 4, True, True), (16, 4, False, False), (16, 2, True, False), (4, 4, True, False)],
)
def test_a_model_is_laid_out_as_asked_for_images_that_allow_it(width, dims, asked, last):
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, 4, 1, 2)).to(memory_format=torch.channels_last)
    weight = model[0].weight
    assert lay_out(model, dims, asked) == last
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
    assert weight.is_contiguous() != last


def test_bf16_trains_fp32_weights_to_nearly_the_same():
    half, full = (_trained(_config(precision=p, lr=0.01), model=_network(dropout=0.0))[0] for p in ("bf16", "fp32"))
    assert all(p.dtype == torch.float32 for p in half.parameters())
    changes = [abs(h - f).max().item() for h, f in zip(half.parameters(), full.parameters(), strict=True)]
    assert 0 < max(changes) < 0.02


def test_tabular_records_are_standardised_by_feature():
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 3, (20, 4)).astype(np.float32), rng.integers(0, 2, 20)
    mean, std = x.mean(0), x.std(0)
    batches = Batches(x, y, _config(augment=(), batch_size=20), (mean, std), CPU)
    ((inputs, *_),) = batches.epoch(0)
    np.testing.assert_allclose(inputs.mean(0), np.zeros(4), atol=1e-5)
    np.testing.assert_allclose(inputs.std(0, correction=0), np.ones(4), atol=1e-5)
    progress = train(nn.Linear(4, 2), x, y, _config(augment=(), epochs=30), normalisation=(mean, std), seed=0)
    assert isinstance(progress, TrainingState)
    assert progress.curve[-1].loss < progress.curve[0].loss
