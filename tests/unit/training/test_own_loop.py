"""A training loop of the user's own: what it gets, what must hold of the model afterwards, and what is refused."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.config import Train, validated
from lacewing.data._npz import layout
from lacewing.errors import BudgetSpent, DivergedError, UsageError, UserCodeError
from lacewing.models.mlp import mlp
from lacewing.sparsify import imp
from lacewing.sparsify.guard import Guard
from lacewing.support.mapped import Mapped
from lacewing.training.loop import train
from lacewing.training.own_code import load, source_of
from lacewing.training.own_loop import train_by

N, D, CLASSES = 44, 6, 3
NUMBER = itertools.count()
LOOP = '''
import math
import torch
import torch.nn.functional as F


def fit(model, x, y, *, guard, seed, on_epoch, epochs, batch_size, lr, momentum, weight_decay):
    """What the package's own loop does, written out: constant rate, its own order."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    guard.attach(optimizer)
    for epoch in range(epochs):
        loss_sum = right = 0.0
        drawn = torch.Generator().manual_seed(order(seed, epoch))
        for batch in torch.randperm(len(y), generator=drawn).split(batch_size):
            logits = model(x[batch])
            loss = F.cross_entropy(logits, y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
            right += (logits.argmax(1) == y[batch]).sum()
        on_epoch(loss_sum / len(y), right / len(y))


def order(seed, epoch):
    from lacewing.training.loop import stream

    return stream(seed, epoch, "batches")
'''


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the loop with texts replaced to a module of its own; gives what train.fit says."""
    monkeypatch.syspath_prepend(tmp_path)

    def module(*changes):
        source = LOOP
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        name = f"their_loop_{next(NUMBER)}"
        (tmp_path / f"{name}.py").write_text(source)
        return f"{name}:fit"

    return module


def _config(fit, **changes):
    fields = {"epochs": 3, "batch_size": 16, "precision": "fp32", "schedule": "constant", "lr": 0.05, **changes}
    return Train(**fields, fit=fit)


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


def _by(fit, model, config=None, **options):
    x, y, normalisation = _records()
    config = _config(fit, schedule="one-cycle") if config is None else config
    return train_by(model, x, y, config, normalisation=normalisation, seed=3, **options)


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --------------------------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize("pruned", [False, True])
def test_a_loop_that_does_what_ours_does_gives_the_same_bits_and_curve(write, pruned):
    x, y, normalisation = _records()
    theirs, ours = _model(), _model()
    masks = _masks(ours) if pruned else {}
    told = []
    guards = [Guard(model, "epoch 2", masks=masks) for model in (theirs, ours)]
    state = torch.get_rng_state()
    found = _by(write(), theirs, guard=guards[0], on_epoch=lambda progress: told.append(len(progress.curve)))
    assert torch.equal(torch.get_rng_state(), state)
    wanted = train(ours, x, y, _config(None), normalisation=normalisation, seed=3, guard=guards[1])
    assert _same(theirs.state_dict(), ours.state_dict())
    assert [(e.epoch, e.loss, e.accuracy) for e in found.curve] == [
        (e.epoch, pytest.approx(e.loss), pytest.approx(e.accuracy)) for e in wanted.curve
    ]
    assert told == [1, 2, 3]
    assert _same(guards[0].origin, guards[1].origin)
    assert (guards[0].epoch, guards[0].trained) == (3, True)
    for name, mask in masks.items():
        assert not theirs.get_parameter(name)[~mask].any()
        assert theirs.get_parameter(name)[mask].all()


def test_records_that_stay_in_their_file_give_the_same_bits(write, tmp_path):
    x, y, normalisation = _records()
    np.save(tmp_path / "x.npy", x)
    mapped = Mapped(tmp_path / "x.npy", partial(layout, where="x"), x.dtype).at(np.arange(N)[::-1])
    fit, models = write(), (_model(), _model())
    config = _config(fit, schedule="one-cycle")
    for model, records in zip(models, (x[::-1], mapped), strict=True):
        train_by(model, records, y[::-1].copy(), config, normalisation=normalisation, seed=3)
    assert _same(*(model.state_dict() for model in models))


def test_images_come_standardised_as_models_get_them(write):
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)
    mean, std = x.mean((0, 2, 3)).astype(np.float32), x.std((0, 2, 3)).astype(np.float32)
    fit = write(
        ("    optimizer = torch", '    torch.save((x, y), __file__ + ".pt")\n    optimizer = torch'),
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    y = np.arange(20) % 2
    train_by(model, x, y, _config(fit, schedule="one-cycle"), normalisation=(mean, std), seed=0)
    inputs, labels = torch.load(__import__(fit.partition(":")[0]).__file__ + ".pt")
    np.testing.assert_allclose(inputs, (x - mean[:, None, None]) / std[:, None, None], rtol=1e-5, atol=1e-5)
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous()
    assert labels.tolist() == y.tolist()


def test_what_observes_an_epoch_leaves_no_trace_in_the_training(write):
    """Modes of modules, gradients that are kept over epochs, and torch's random stream stay as they were."""
    fit = write(
        ("            optimizer.zero_grad()\n", ""),
        ("            optimizer.step()\n", "            optimizer.step()\n            optimizer.zero_grad()\n"),
        ("model(x[batch])", "model(x[batch] * (torch.rand(D) < 0.9))"),
        ("def order", "D = 6\n\n\ndef order"),
    )

    def disturb(progress):
        torch.rand(5)
        model.eval()
        nn.functional.cross_entropy(model(torch.ones(2, D)), torch.zeros(2, dtype=torch.int64)).backward()

    plain, model = _model(), _model()
    plain[2].eval()
    model[2].eval()
    _by(fit, plain)
    _by(fit, model, on_epoch=disturb)
    assert _same(plain.state_dict(), model.state_dict())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_training_ends_after_the_epoch_that_is_asked_for_as_it_was_then(write):
    fit, states = write(), []
    _by(fit, _model(), on_epoch=lambda progress: states.append(copy.deepcopy(progress.model)))
    model = _model()
    found = _by(fit, model, stop_after=2)
    assert len(found.curve) == 2
    assert _same(model.state_dict(), states[1])
    late = write(("        on_epoch", "        try:\n            on_epoch"), (
        "right / len(y))\n", "right / len(y))\n        finally:\n            torch.nn.init.ones_(model[1].weight)\n"
    ))  # fmt: skip
    model = _model()
    _by(late, model, stop_after=1)
    assert not (model[1].weight == 1).all()


def test_levels_of_imp_are_trained_by_it_from_rewound_weights(write):
    fit, model = write(), _model()
    starts = []

    def level(model, guard):
        starts.append(copy.deepcopy(model.state_dict()))
        _by(fit, model, guard=guard)

    levels = []
    for found in imp(model, level, levels=2, fraction=0.5, guard=Guard(model, "epoch 1")):
        levels.append(found.number)
        for name, mask in found.masks.items():
            assert not model.get_parameter(name)[~mask].any()
    assert levels == [0, 1, 2]
    first = _model()
    _by(fit, first, stop_after=1)
    for name, tensor in first.state_dict().items():
        assert torch.equal(starts[2][name], tensor * found.masks[name] if name in found.masks else tensor)


# --------------------------------------------------------------------------------------------- what ends it, and how


@pytest.mark.parametrize("handler", ["Exception", "BaseException"])
def test_our_own_errors_pass_through_the_loop_whatever_it_catches(write, handler):
    fit = write(("        on_epoch", "        try:\n            on_epoch"), (
        "right / len(y))\n", f"right / len(y))\n        except {handler}:\n            pass\n"
    ))  # fmt: skip
    reached = []

    def stop(progress):
        reached.append(len(progress.curve))
        raise BudgetSpent("stopped.")

    with pytest.raises(BudgetSpent, match=r"^stopped\.$"):
        _by(fit, _model(), on_epoch=stop)
    assert reached == [1]
    with pytest.raises(KeyboardInterrupt):
        _by(fit, _model(), on_epoch=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))


MODEL = "    for epoch in range(epochs):"
END = "        on_epoch(loss_sum / len(y), right / len(y))\n"
FAULTS = {
    "never tells": ((END, ""), UserCodeError, "called on_epoch 0 times, and train.epochs = 3; call it once after each"),
    "tells too rarely": (("range(epochs)", "range(2)"), UserCodeError, "called on_epoch 2 times"),
    "tells too often": (("range(epochs)", "range(4)"), UserCodeError, "calls on_epoch more than 3 times"),
    "tells nothing": (
        ("(loss_sum / len(y), right / len(y))", "()"),
        UserCodeError,
        "failed with TypeError: on_epoch()",
    ),
    "tells words": (("(loss_sum / len(y),", '("low",'), UserCodeError, "give two numbers: the mean loss and the accur"),
    "tells counts": (("right / len(y))", "right)"), UserCodeError, "with an accuracy of"),
    "tells NaN": (("(loss_sum / len(y),", "(math.nan,"), DivergedError, "the loss became nan in epoch 1"),
    "leaves NaN": ((END, END + "    model[1].bias.data[0] = math.nan\n"), DivergedError, "'1.bias' holds NaN"),
    "raises": ((MODEL, "    1 / 0\n" + MODEL), UserCodeError, "failed with ZeroDivisionError"),
    "exits": ((MODEL, "    raise SystemExit(3)\n" + MODEL), UserCodeError, "failed with SystemExit: 3"),
    "replaces": (
        (MODEL, "    model[1].weight = torch.nn.Parameter(model[1].weight.detach().clone())\n" + MODEL),
        UserCodeError,
        "replaces the parameter '1.weight' of the model",
    ),
    "adds": (
        (END, END + "    model.extra = torch.nn.Linear(1, 1)\n"),
        UserCodeError,
        "replaces the parameter 'extra.weight'",
    ),
    "converts": (
        (END, END + "    model.double()\n"),
        UserCodeError,
        "as float32 of shape (8, 6) on cpu and leaves it as float64 of shape (8, 6) on cpu",
    ),
    "moves away": ((END, END + "    model.to('meta')\n"), UserCodeError, "'1.weight'"),
    "returns another": ((END, END + "    return torch.nn.Linear(2, 2)\n"), UserCodeError, "returns another model"),
    "does not attach": (("    guard.attach(optimizer)\n", ""), UserCodeError, "did not call guard.attach(optimizer)"),
    "attaches another": (
        ("guard.attach(optimizer)", "guard.attach(torch.optim.SGD([torch.zeros(1)], lr=1.0))"),
        UserCodeError,
        "failed with UsageError: the optimiser holds no parameter of the guard's model",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_loop_does_wrong_is_one_sentence_that_names_it(write, fault):
    change, kind, said = FAULTS[fault]
    fit = write(change)
    with pytest.raises(kind) as caught:
        _by(fit, _model())
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert fit in str(caught.value)


def test_pruned_weights_that_it_revives_are_refused(write):
    fit = write((END, END + "    model[1].weight.data.fill_(1.0)\n"))
    model = _model()
    with pytest.raises(UserCodeError, match=r"pruned weights of '1\.weight' are not zero"):
        _by(fit, model, guard=Guard(model, "none", masks=_masks(model)))


def test_too_little_memory_is_told_as_that(write):
    fit = write((MODEL, "    raise MemoryError\n" + MODEL))
    with pytest.raises(MemoryError):
        _by(fit, _model())


# -------------------------------------------------------------------------------------------------------- its signature


@pytest.mark.parametrize(
    ("signature", "fields", "said"),
    [
        ("model, x, y, *, guard, on_epoch", {}, "has no parameter 'seed'; write def fit(model, x, y, *, guard, seed,"),
        ("model, x, *, guard, seed, on_epoch", {}, "takes no three arguments before its keywords"),
        ("*, model, x, y, guard, seed, on_epoch", {}, "takes no three arguments before its keywords"),
        ("model, x, y, *, guard, seed, on_epoch, warm", {}, "needs 'warm', which is no field of [train]"),
        ("model, x, y, *, guard, seed, on_epoch, lr=1e-3", {}, "has lr = 0.001 of its own, and train.lr is 0.1, its"),
        ("model, x, y, *, guard, seed, on_epoch", {"lr": 0.2}, "train.lr = 0.2: their_loop"),
        ("model, x, y, *, guard, seed, on_epoch", {"optimizer": "adamw"}, "train.optimizer = 'adamw': their_loop"),
        (
            "model, x, y, *, guard, seed, on_epoch",
            {"mixup": 0.2},
            "has no parameter 'mixup', so it would change nothing",
        ),
        ("model, x, y, *, guard, seed, on_epoch", {"augment": ["flip"]}, "train.augment = ('flip',): their_loop"),
        ("model, x, y, *, guard, seed, on_epoch", {"precision": "bf16"}, "train.precision = 'bf16': their_loop"),
        ("model, x, y, *, guard, seed, on_epoch, **rest", {"clip_norm": 1.0}, "train.clip_norm = 1.0: their_loop"),
    ],
)
def test_a_signature_that_does_not_fit_the_study_is_one_sentence(write, signature, fields, said):
    head = "model, x, y, *, guard, seed, on_epoch, epochs, batch_size, lr, momentum, weight_decay"
    with pytest.raises(UsageError) as caught:
        load(Train(fit=write((head, signature)), **fields))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("signature", "fields", "given"),
    [
        ("m, inputs, y, *, guard, seed, on_epoch", {"holdout": 0.1, "dropout": 0.2, "precision": "fp32"}, {}),
        ("model, x, y, guard, seed, on_epoch, *, lr, warm=3", {"lr": 0.2}, {"lr": 0.2}),
        ("model, x, y, *, lr=0.2, **rest", {"lr": 0.3}, {"lr": 0.3}),
        ("*args, guard, seed, on_epoch, mixup, augment", {"mixup": 0.1}, {"mixup": 0.1, "augment": ()}),
        (
            "model, x, y, *, guard, seed, on_epoch, optimizer, lr",
            {"optimizer": "adam"},
            {"optimizer": "adam", "lr": 1e-3},
        ),
    ],
)
def test_parameters_called_like_fields_get_their_values(write, signature, fields, given):
    head = "model, x, y, *, guard, seed, on_epoch, epochs, batch_size, lr, momentum, weight_decay"
    assert load(Train(fit=write((head, signature)), **fields))[1] == given


def test_the_source_of_its_module_is_its_identity(write):
    first, second, other = write(), write(), write(("written out", "spelt out"))
    sources = [source_of(Train(fit=fit, lr=0.2)) for fit in (first, second, other)]
    assert sources[0] == sources[1] != sources[2]
    with pytest.raises(UsageError, match=r"train\.fit: cannot import 'no_such_loop'"):
        source_of(Train(fit="no_such_loop:fit"))


def test_a_name_of_no_function_is_refused_and_an_empty_one_is_our_loop():
    assert validated(Train, {"fit": ""}) == Train()
    assert Train().identity() == Train(fit=None).identity()
    for bad in ("mine", "mine.py:fit ", "mine:fit()", ":fit"):
        with pytest.raises(UsageError, match=r"train\.fit: .* is not of the form 'package\.module:function'"):
            validated(Train, {"fit": bad}, field="train")
