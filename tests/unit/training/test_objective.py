"""Label smoothing, mixup and dropout: torch's own loss, mixup by hand, the same bits after a break, exact zeros."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from lacewing import models
from lacewing.config import Model, Train
from lacewing.errors import UsageError
from lacewing.models.mlp import mlp
from lacewing.sparsify.guard import Guard
from lacewing.training import objective
from lacewing.training.batches import Batches, draw_mixup
from lacewing.training.loop import lr_at, stream, train
from lacewing.training.replay import Recordings
from lacewing.training.stack import train_stack

N, D, K, CLASSES = 75, 12, 3, 3
CPU = torch.device("cpu")
WAYS = [
    {"label_smoothing": 0.2},
    {"mixup": 0.4},
    {"dropout": 0.5},
    {"label_smoothing": 0.1, "mixup": 1.0, "dropout": 0.3},
]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _records():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1), (x.mean(0), x.std(0))


def _config(**fields):
    return Train(**{"epochs": 4, "batch_size": 16, "lr": 0.1, "precision": "fp32", **fields})  # the last batch has 11


def _mlp(config, seed=0):
    torch.manual_seed(seed)
    return mlp(D, CLASSES, (16, 8), config.dropout)


def _image_case(config, count=20):
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    torch.manual_seed(3)
    model = models.build(Model(name="resnet8", width=4), (3, 8, 8), CLASSES, config.dropout)
    return model, x, rng.integers(0, CLASSES, count), (np.full(3, 127, np.float32), np.full(3, 60, np.float32))


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _by_hand(logits, labels, smoothing, others=None, share=None):
    """The loss of each record from its definition, in float64: sum over classes of -q log p."""
    log_p = torch.log_softmax(logits.double(), 1)
    found = []
    for place, label in enumerate(labels.tolist()):
        q = torch.zeros(logits.shape[1], dtype=torch.float64)
        own = 1.0 if share is None else float(share[place])
        q[label] += own
        if others is not None:
            q[int(others[place])] += 1 - own
        q = (1 - smoothing) * q + smoothing / logits.shape[1]
        found.append(-(q * log_p[place]).sum())
    return torch.stack(found)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_loss_is_torchs_and_what_is_recorded_is_not_smoothed(smoothing):
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(9) % 4
    loss, recorded = objective.losses(logits, labels, smoothing=smoothing)
    assert torch.equal(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))
    assert torch.equal(recorded, F.cross_entropy(logits, labels))
    assert not recorded.requires_grad
    torch.testing.assert_close(loss.double(), _by_hand(logits, labels, smoothing).mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_mixed_labels_count_by_their_shares(smoothing):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    labels, others, share = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 0]), torch.linspace(0, 1, 6)
    mixed = objective.Mixed(others, share)
    loss, recorded = objective.losses(logits, labels, smoothing=smoothing, mixed=mixed, reduction="none")
    torch.testing.assert_close(loss.double(), _by_hand(logits, labels, smoothing, others, share), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(recorded.double(), _by_hand(logits, labels, 0.0, others, share), rtol=1e-5, atol=1e-6)
    found = logits.argmax(1)
    wanted = [
        float(s) * (f == a) + (1 - float(s)) * (f == b)
        for f, a, b, s in zip(found.tolist(), labels.tolist(), others.tolist(), share, strict=True)
    ]
    assert objective.right(logits, labels, mixed).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("channels_last", [False, True])
def test_mixup_equals_mixup_by_hand(channels_last):
    config = _config(mixup=0.7, augment=("flip", "crop"), batch_size=8)
    _, x, y, normalisation = _image_case(config)
    plain = Batches(x, y, config.model_copy(update={"mixup": 0.0}), normalisation, CPU, channels_last)
    partner, share = (t.numpy() for t in draw_mixup(5, len(y), 8, 0.7))
    batches = list(Batches(x, y, config, normalisation, CPU, channels_last).epoch(5))
    assert [len(batch.labels) for batch in batches] == [8, 8, 4]
    for number, (mixed, alone) in enumerate(zip(batches, plain.epoch(5), strict=True)):
        assert torch.equal(mixed.labels, alone.labels)
        shares = set(share[8 * number : 8 * number + 8].tolist())
        assert len(shares) == 1  # one of each batch
        assert mixed.mixed.share.tolist() == [*shares] * len(alone.labels)
        for place in range(len(alone.labels)):
            other, own = int(partner[8 * number + place]), float(share[8 * number + place])
            wanted = own * alone.inputs[place].double() + (1 - own) * alone.inputs[other].double()
            torch.testing.assert_close(mixed.inputs[place].double(), wanted, rtol=1e-5, atol=1e-6)
            assert int(mixed.mixed.labels[place]) == int(alone.labels[other])


@pytest.mark.parametrize("alpha", [1e-9, 0.2, 1.0, 1e3])
def test_shares_follow_the_beta_law_and_partners_are_a_permutation_of_each_batch(alpha):
    partner, share = draw_mixup(1, 4001, 2, alpha)
    pairs, of_each = partner[:-1].view(-1, 2), share[:-1].view(-1, 2)
    assert torch.equal(pairs.sort(1).values, torch.tensor([0, 1]).expand(2000, 2))
    assert 0.4 < (pairs[:, 0] == 1).double().mean() < 0.6
    assert int(partner[-1]) == 0  # the last batch has one record
    assert torch.equal(of_each[:, 0], of_each[:, 1])
    assert torch.isfinite(share).all()
    if alpha == 1e-9:
        assert set(of_each[:, 0].tolist()) == {0.0, 1.0}
    else:
        assert stats.kstest(of_each[:, 0].double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("fields", WAYS)
def test_training_equals_a_plain_loop(fields):
    config = _config(**fields)
    x, y, normalisation = _records()
    model, plain = _mlp(config), _mlp(config)
    found = train(model, x, y, config, normalisation=normalisation, seed=7)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    standard, step = torch.from_numpy((x - normalisation[0]) / normalisation[1]), 0
    for epoch in range(4):
        seed = stream(7, epoch, "batches")
        order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
        partner, share = draw_mixup(seed, N, 16, config.mixup) if config.mixup else (None, None)
        torch.manual_seed(stream(7, epoch, "model"))
        loss_sum, right = 0.0, 0.0
        for start in range(0, N, 16):
            index = order[start : start + 16]
            inputs, labels = standard[index], torch.from_numpy(y)[index]
            own, others = 1.0, labels
            if config.mixup:
                own, places = float(share[start]), partner[start : start + 16]
                inputs, others = own * inputs + (1 - own) * inputs[places], labels[places]
            optimizer.param_groups[0]["lr"] = lr_at(config, step, 5)
            logits = plain(inputs)
            each = [F.cross_entropy(logits, to, label_smoothing=config.label_smoothing) for to in (labels, others)]
            optimizer.zero_grad()
            (own * each[0] + (1 - own) * each[1]).backward()
            optimizer.step()
            logits = logits.detach()
            told = logits.argmax(1)
            loss_sum += len(index) * float(
                own * F.cross_entropy(logits, labels) + (1 - own) * F.cross_entropy(logits, others)
            )
            right += float(own * (told == labels).sum() + (1 - own) * (told == others).sum())
            step += 1
        assert found.curve[epoch].loss == pytest.approx(loss_sum / N, rel=1e-4)
        assert found.curve[epoch].accuracy == pytest.approx(right / N, abs=1e-4)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fields", WAYS)
def test_a_broken_off_training_ends_in_the_same_bits_and_keeps_exact_zeros(fields):
    config = _config(**fields)
    x, y, normalisation = _records()
    whole, again = _mlp(config), _mlp(config)
    mask = {"1.weight": torch.rand(16, D, generator=torch.Generator().manual_seed(4)) < 0.5}

    def run(model, **options):
        return train(
            model, x, y, config, normalisation=normalisation, seed=1, guard=Guard(model, "none", masks=mask), **options
        )

    wanted = run(whole)
    half = copy.deepcopy(run(again, stop_after=2))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)  # what is in memory is lost
    found = run(again, progress=half)
    assert _same(whole.state_dict(), again.state_dict())
    assert [asdict(epoch) for epoch in found.curve] == [asdict(epoch) for epoch in wanted.curve]
    assert not again.get_parameter("1.weight")[~mask["1.weight"]].any()
    other = _mlp(config)
    train(other, x, y, config, normalisation=normalisation, seed=2)
    assert not _same(whole.state_dict(), other.state_dict())


@pytest.mark.parametrize("fields", WAYS)
def test_an_image_network_trains_recorded_as_step_by_step(fields):
    config = _config(augment=("flip", "crop"), batch_size=8, epochs=2, **fields)
    model, x, y, normalisation = _image_case(config)
    recorded = copy.deepcopy(model)
    wanted = train(model, x, y, config, normalisation=normalisation, seed=1)
    found = train(recorded, x, y, config, normalisation=normalisation, seed=1, recordings=Recordings(lambda step: step))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(recorded.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(found.curve, wanted.curve, strict=True):
        assert (mine.loss, mine.accuracy) == pytest.approx((theirs.loss, theirs.accuracy), rel=1e-3)


@pytest.mark.parametrize("fields", WAYS)
def test_each_network_of_a_stack_becomes_what_it_would_alone(fields):
    config = _config(**fields)
    x, y, normalisation = _records()
    members = np.stack([np.random.default_rng(k).permutation(N)[:50] for k in range(K)])
    together, again, alone = ([_mlp(config, k) for k in range(K)] for _ in range(3))

    def run(models, **options):
        return train_stack(
            models, x, y, members, config, normalisation=normalisation, seeds=range(10, 10 + K), **options
        )

    found = run(together)
    run(again, progress=copy.deepcopy(run(again, stop_after=2)))
    for k, model in enumerate(alone):
        wanted = train(model, x[members[k]], y[members[k]], config, normalisation=normalisation, seed=10 + k)
        assert _same(together[k].state_dict(), again[k].state_dict())
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(together[k].state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(found[k].curve, wanted.curve, strict=True):
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
            assert mine.accuracy == pytest.approx(theirs.accuracy, abs=0.021)  # a record of 50 at a tie


def test_the_gradient_of_stacked_smoothed_losses_is_that_of_each_network():
    """The first step from rest is -lr times the gradient, which here comes from each network's own torch loss."""
    config = _config(label_smoothing=0.3, batch_size=N, epochs=1, momentum=0.0, weight_decay=0.0, schedule="constant")
    x, y, normalisation = _records()
    together, alone = ([_mlp(config, k) for k in range(K)] for _ in range(2))
    train_stack(together, x, y, np.tile(np.arange(N), (K, 1)), config, normalisation=normalisation, seeds=range(K))
    standard = torch.from_numpy((x - normalisation[0]) / normalisation[1])
    for stacked, model in zip(together, alone, strict=True):
        F.cross_entropy(model(standard), torch.from_numpy(y), label_smoothing=0.3).backward()
        for name, parameter in model.named_parameters():
            step = (parameter - stacked.get_parameter(name)) / 0.1
            torch.testing.assert_close(step.detach(), parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_stack_refuses_models_whose_dropout_is_not_that_of_the_training():
    x, y, normalisation = _records()
    for built, asked in ((0.0, 0.5), (0.3, 0.5), (0.3, 0.0)):
        networks = [_mlp(_config(dropout=built))] * 2
        with pytest.raises(UsageError, match=rf"train\.dropout = {asked:g}"):
            train_stack(
                networks,
                x,
                y,
                np.tile(np.arange(N), (2, 1)),
                _config(dropout=asked),
                normalisation=normalisation,
                seeds=(0, 1),
            )


@pytest.mark.parametrize(("name", "option"), [("mlp", {"hidden": (6, 5)}), ("resnet8", {"width": 2})])
def test_dropout_renames_no_weight_draws_no_other_and_is_off_in_evaluation(name, option):
    def build(dropout):
        torch.manual_seed(0)
        return models.build(Model(name=name, **option), (3, 8, 8), 4, dropout)

    plain, dropped = build(0.0), build(0.4)
    assert _same(plain.state_dict(), dropped.state_dict())
    places = [module for module in dropped.modules() if isinstance(module, nn.Dropout)]
    assert [place.p for place in places] == [0.4] * (2 if name == "mlp" else 3)
    x = torch.randn(5, 3, 8, 8)
    assert torch.equal(plain.eval()(x), dropped.eval()(x))
    assert not torch.equal(dropped.train()(x), dropped(x))


def test_smoothing_bounds_the_confidence_that_training_reaches():
    """The optimum of the smoothed loss is p = 1 - e + e / C of the label, which a separable problem reaches."""
    config = _config(label_smoothing=0.2, epochs=150, weight_decay=0.0, schedule="constant")
    x = np.eye(3, dtype=np.float32)
    model = _mlp(_config())
    model[1] = nn.Linear(3, 16)
    train(model, x, np.arange(3), config, normalisation=(np.zeros(3, np.float32), np.ones(3, np.float32)), seed=0)
    with torch.no_grad():
        found = torch.softmax(model(torch.from_numpy(x)), 1).diagonal()
    assert found.tolist() == pytest.approx([1 - 0.2 + 0.2 / 3] * 3, abs=0.01)
