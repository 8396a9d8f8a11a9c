"""Recorded steps: on the CPU, where a step is its own recording, they train what the plain loop trains."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.config import Train
from lacewing.errors import UsageError
from lacewing.sparsify.guard import Guard
from lacewing.training.loop import train
from lacewing.training.replay import KEPT, Recordings, recordings_for

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[NO_GPU, pytest.mark.gpu])]
CONFIG = Train(epochs=4, batch_size=16, lr=0.1, precision="fp32", augment=("flip", "crop"))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _model(width=4, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64 * width, 3))


def _masks(width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (width, 3, 3, 3), "4.weight": (3, 64 * width)}
    return {name: torch.rand(shape, generator=generator) < 0.4 for name, shape in shapes.items()}


def _train(model, config=CONFIG, count=40, data=0, **options):
    rng = np.random.default_rng(data)
    x = rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    y = (x[:, 0].mean((1, 2)) > 127).astype(np.int64) + (x[:, 1].mean((1, 2)) > 127)
    normalisation = (x.mean((0, 2, 3)).astype(np.float32), x.std((0, 2, 3)).astype(np.float32))
    return train(model, x, y, config, normalisation=normalisation, seed=1, **options)


def _recordings(device, made=None):
    """What a GPU uses; on the CPU the step itself, counted in ``made``."""
    if device == "cuda":
        return recordings_for("cuda", "graph", strict=True)

    def record(step):
        if made is not None:
            made.append(step)
        return step

    return Recordings(record)


def _close(found, wanted):
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [40, 32, 10])  # a last batch of 8, none, and nothing else
@pytest.mark.parametrize("pruned", [False, True])
def test_recorded_steps_train_what_the_plain_loop_trains(device, count, pruned):
    plain, recorded = _model().to(device), _model().to(device)
    masks = _masks() if pruned else {}
    guards = [Guard(model, "epoch 2", masks=masks) for model in (plain, recorded)]
    wanted = _train(plain, count=count, guard=guards[0])
    found = _train(recorded, count=count, guard=guards[1], recordings=_recordings(device))
    _close(recorded.state_dict(), plain.state_dict())
    for mine, theirs in zip(found.curve, wanted.curve, strict=True):
        assert (mine.epoch, mine.lr) == (theirs.epoch, theirs.lr)
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-3)
        assert mine.accuracy == pytest.approx(theirs.accuracy, abs=1.01 / count)
    assert (guards[1].epoch, guards[1].step) == (guards[0].epoch, guards[0].step)
    _close(guards[1].origin, guards[0].origin)
    for name, mask in masks.items():
        assert not recorded.get_parameter(name)[~mask].any()
        assert not found.optimizer["momentum_buffer"][name][~mask].any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_recording_trains_nothing_and_a_broken_off_training_goes_on_to_the_same_bits(device, momentum):
    config = CONFIG.model_copy(update={"momentum": momentum})
    whole, again = _model().to(device), _model().to(device)
    _train(whole, config, recordings=_recordings(device))
    half = copy.deepcopy(_train(again, config, recordings=_recordings(device), stop_after=2))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)  # what is in memory is lost
    _train(again, config, recordings=_recordings(device), progress=half)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pruned", [False, True])
def test_a_recording_serves_the_next_network_with_other_weights_records_and_masks(device, pruned):
    """To the bits that a recording of its own gives, whatever was trained before."""
    made, found, wanted = [], [], []
    shared = _recordings(device, made)
    for seed in range(3):
        masks = _masks(seed=seed) if pruned else {}
        for states, recordings in ((found, shared), (wanted, _recordings(device))):
            model = _model(seed=seed).to(device)
            guard = Guard(model, "init", masks=masks)
            progress = _train(model, data=seed, guard=guard, recordings=recordings)
            states.append((model, progress.model, progress.optimizer["momentum_buffer"]))
    assert len(shared.kept) == 1
    assert device == "cuda" or len(made) == 2  # full batches and the last one, of three networks
    for mine, theirs in zip(found, wanted, strict=True):  # after all of them were trained
        for name, tensor in theirs[0].state_dict().items():
            assert torch.equal(mine[0].state_dict()[name], tensor)
            assert torch.equal(mine[1][name], tensor)
        assert all(torch.equal(mine[2][name], buffer) for name, buffer in theirs[2].items())
    changed = found[0][0].state_dict()["0.weight"].clone()
    with torch.no_grad():
        for replay in shared.kept.values():
            replay.model.get_parameter("0.weight").fill_(7.0)
    assert torch.equal(found[0][0].state_dict()["0.weight"], changed)  # nothing is shared any more


@pytest.mark.parametrize(
    "change",
    [
        {"config": CONFIG.model_copy(update={"batch_size": 8})},
        {"config": CONFIG.model_copy(update={"momentum": 0.0})},
        {"config": CONFIG.model_copy(update={"weight_decay": 0.1})},
        {"config": CONFIG.model_copy(update={"augment": ()})},
        {"config": CONFIG.model_copy(update={"precision": "bf16"})},
        {"count": 41},
        {"width": 5},
        {"masks": {"0.weight": _masks()["0.weight"]}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_shape_gets_a_recording_of_its_own(change):
    recordings = _recordings("cpu")
    _train(_model(), recordings=recordings)
    model = _model(change.pop("width", 4))
    guard = Guard(model, "init", masks=change.pop("masks", {}))
    _train(model, guard=guard, recordings=recordings, **change)
    assert len(recordings.kept) == 2


def test_the_schedule_and_the_rate_are_no_part_of_the_shape():
    recordings = _recordings("cpu")
    plain, recorded = _model(), _model()
    other = CONFIG.model_copy(update={"lr": 0.01, "schedule": "step", "epochs": 6})
    _train(_model(), recordings=recordings)
    _train(recorded, other, recordings=recordings)
    _train(plain, other)
    assert len(recordings.kept) == 1
    _close(recorded.state_dict(), plain.state_dict())


def test_the_least_recently_used_recording_goes_first():
    recordings = _recordings("cpu")
    config = CONFIG.model_copy(update={"epochs": 1, "schedule": "constant"})
    for width in [1, 2, 3, 4, 1, *range(5, 4 + KEPT)]:
        _train(_model(width), config, recordings=recordings)
    widths = [replay.model.get_parameter("0.weight").shape[0] for replay in recordings.kept.values()]
    assert widths == [1, *range(5, 4 + KEPT)]


def test_an_error_in_an_epoch_gives_the_model_its_own_memory_back():
    def stop(_):
        raise KeyboardInterrupt

    model, recordings = _model(), _recordings("cpu")
    with pytest.raises(KeyboardInterrupt):
        _train(model, recordings=recordings, on_epoch=stop)
    (replay,) = recordings.kept.values()
    pointers = {tensor.data_ptr() for tensor in replay.model.state_dict().values()}
    assert not pointers & {tensor.data_ptr() for tensor in model.state_dict().values()}


def test_a_model_that_cannot_be_recorded_is_trained_one_by_one(capsys):
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain, other = _model(), _model()
    _train(plain)
    _train(other, recordings=Recordings(refuse))
    _close(other.state_dict(), plain.state_dict())
    assert "cannot be recorded (operation not permitted when stream is capturing); they run" in capsys.readouterr().err


def test_where_it_must_be_recorded_a_model_that_cannot_be_is_an_error():
    def refuse(step):
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        _train(_model(), recordings=Recordings(refuse, strict=True))


def test_every_size_of_batch_has_run_before_the_first_is_recorded():
    """A model that is compiled for each size can be compiled then, but not while it is recorded."""
    sizes, at_recording = [], []

    def prepare(model):
        def forward(inputs):
            sizes.append(len(inputs))
            return model(inputs)

        return forward

    def record(step):
        at_recording.append(set(sizes))
        return step

    _train(_model(), recordings=Recordings(record, prepare))
    assert at_recording == [{16, 8}, {16, 8}]


def test_a_rewind_point_within_an_epoch_is_met_by_running_one_by_one():
    model, recorded = _model(), []
    guard = Guard(model, "step 5")
    _train(model, guard=guard, recordings=_recordings("cpu", recorded))
    assert guard.origin_at == (1, 5)
    assert not recorded


def test_what_is_prepared_is_what_runs_and_shares_the_weights():
    """As torch.compile does: another module around the same parameters."""
    plain, prepared, calls = _model(), _model(), []

    def prepare(model):
        def forward(inputs):
            calls.append(len(inputs))
            return model(inputs)

        return forward

    _train(plain)
    _train(prepared, recordings=Recordings(lambda step: step, prepare))
    _close(prepared.state_dict(), plain.state_dict())
    assert set(calls) == {16, 8}


@pytest.mark.parametrize(
    ("device", "way", "said"),
    [
        ("cpu", "grpah", "did you mean 'graph'"),
        ("cpu", "graph", "needs a CUDA device"),
        ("cpu", "compiled-graph", "CUDA"),
    ],
)
def test_a_way_that_is_not_to_be_had_is_refused(device, way, said, monkeypatch):
    monkeypatch.setenv("LACEWING_STEPS", way)
    with pytest.raises(UsageError, match=said):
        recordings_for(device)


def test_steps_run_one_by_one_unless_asked(monkeypatch):
    monkeypatch.delenv("LACEWING_STEPS", raising=False)
    assert recordings_for("cuda") is None
    assert recordings_for("cpu", "eager") is None
    assert recordings_for("cpu", "compiled") is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("device", DEVICES)
def test_compiled_steps_train_what_the_plain_loop_trains(device):
    plain, compiled = _model().to(device), _model().to(device)
    _train(plain)
    _train(compiled, recordings=recordings_for(device, "compiled", strict=True))
    _close(compiled.state_dict(), plain.state_dict())


@NO_GPU
@pytest.mark.gpu
@pytest.mark.parametrize("way", ["eager", "graph", "compiled", "compiled-graph"])
def test_cpu_and_gpu_agree_epoch_by_epoch(way):
    """In fp32 without TF32: losses within 1e-4 for 12 steps, weights within 1e-3."""
    states = {}
    for device in ("cpu", "cuda"):
        losses = []
        model = _model().to(device)
        recordings = recordings_for(device, way, strict=True) if device == "cuda" else None
        note = lambda progress, losses=losses: losses.append(progress.curve[-1].loss)  # noqa: E731
        _train(model, recordings=recordings, on_epoch=note)
        states[device] = losses, {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    np.testing.assert_allclose(states["cuda"][0], states["cpu"][0], rtol=1e-4)
    for name, tensor in states["cpu"][1].items():
        torch.testing.assert_close(states["cuda"][1][name], tensor, rtol=1e-3, atol=1e-3)
