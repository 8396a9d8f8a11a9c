"""Estimates: counts against closed forms, the division among workers, and what cannot be timed."""

from __future__ import annotations

import json
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

import lacewing as lw
from lacewing.bench._measure import Moved
from lacewing.cli._study import run as run_command
from lacewing.errors import LacewingError, UsageError
from lacewing.study import estimate
from lacewing.study.declared import load_study
from lacewing.study.estimate import _calibrate, as_text, makespan
from lacewing.study.estimate._calibrate import Kind, _Bench, _peak, measure
from lacewing.study.estimate._machines import MACHINES, count, parse
from lacewing.study.estimate._storage import Storage
from lacewing.study.prepared import Prepared
from lacewing.training.private import PrivateSgd

STUDY: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "digits", "records": 240},
    "model": {"name": "mlp", "hidden": [16]},
    "train": {"epochs": 3, "batch_size": 20},
    "networks": [{"method": "dense"}, {"method": "imp", "levels": 2, "fraction": 0.5}],
    "run": {"seeds": [0]},
}


def test_flops_of_a_step_are_those_of_the_closed_form() -> None:
    batch, first, second = 20, 64 * 16, 16 * 10
    found = count(Kind("dense"), load_study(STUDY), (1, 8, 8), 10, batch)
    assert found.cost.flops == 2 * batch * (2 * first + 3 * second)  # nobody asks for the gradient of the records


def test_bf16_moves_fewer_bytes_than_fp32_and_computes_the_same() -> None:
    study = load_study({**STUDY, "model": {"name": "resnet8"}})
    full, half = (count(Kind("dense", precision=p), study, (3, 32, 32), 10, 64) for p in ("fp32", "bf16"))
    assert half.cost.flops == full.cost.flops
    assert 0.4 * full.cost.moved < half.cost.moved < 0.7 * full.cost.moved
    assert 0.4 * full.held < half.held < 0.7 * full.held


@pytest.mark.parametrize(
    ("train", "states"),
    [
        ({"momentum": 0.0}, 0),
        ({"momentum": 0.9, "optimizer_options": {"nesterov": True}}, 1),
        ({"optimizer": "adamw"}, 2),
        ({"optimizer": "adamw", "optimizer_options": {"amsgrad": True, "betas": [0.9, 0.99]}}, 3),
    ],
)
def test_what_a_training_holds_follows_momentum_and_options(train, states, tmp_path) -> None:
    fields = {**STUDY, "train": {**STUDY["train"], "lr": 0.001, **train}}
    prepared = Prepared(fields, out=tmp_path / "run")
    kind = Kind.of(prepared.plan.networks[0])
    assert Kind.from_dict(json.loads(json.dumps(kind.as_dict()))) == kind
    none = Kind("dense", momentum=0.0, batch_size=kind.batch_size, precision=kind.precision)
    study = prepared.study
    weights = 4 * sum(p.numel() for p in kind.build(study, (1, 8, 8), 10).parameters())
    held, least = (count(each, study, (1, 8, 8), 10, 20).held for each in (kind, none))
    assert states * weights <= held - least <= states * weights + 64  # a count of steps beside each weight


def test_adamw_moves_two_moments_more_than_sgd_one_momentum_and_holds_them() -> None:
    study = load_study(STUDY)
    sgd, adamw = (Kind("dense", optimizer=name) for name in ("sgd", "adamw"))
    weights = 4 * sum(p.numel() for p in sgd.build(study, (1, 8, 8), 10).parameters())
    found = [count(kind, study, (1, 8, 8), 10, 20) for kind in (sgd, adamw)]
    moved = [each.cost.moved for each in found]
    assert weights <= found[1].held - found[0].held <= weights + 4 * 8  # a count of steps beside each weight
    assert moved[1] - moved[0] >= 2 * weights  # the second moment is read and written
    rng = np.random.default_rng(0)
    x, normalisation = rng.random((20, 1, 8, 8), np.float32), (np.zeros(1, np.float32), np.ones(1, np.float32))
    bench = _Bench(study, x, np.zeros(20, np.int64), normalisation, 10, "cpu")
    assert _peak(bench, adamw, 20) - _peak(bench, sgd, 20) >= weights


def test_bytes_are_those_of_inputs_and_outputs_and_views_move_none() -> None:
    x, y = torch.zeros(10, 10), torch.zeros(10, 10)
    with Moved() as moved:
        (x + y).view(100).t()
    assert (moved.moved, moved.operations) == (3 * 400, 1)
    with Moved() as moved:
        x.add_(y)  # reads two, writes one
    assert (moved.moved, moved.operations) == (3 * 400, 1)


def test_workers_take_the_next_task_when_they_are_free() -> None:
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([5, 1, 1, 1], 2) == 5
    assert makespan([1.5, 2.5], 1) == 4
    assert makespan([1.5, 2.5], 64) == 2.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h10", "did you mean 'h100'?"),
        ("h100:0", "as in h100:8"),
        ("h100:", "as in h100:8"),
        ("h100:x", "as in h100:8"),
        ("h100@", "as in h100@2.5"),
        ("h100:8@-2", "as in h100:8@2.5"),
        ("h100:8@nan", "as in h100:8@2.5"),
        ("h100@2.5:8", "as in h100@2.5"),
    ],
)
def test_machines_that_there_are_not(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"--estimate {text}: .*") as error:
        parse(["l4", text])
    assert says in str(error.value)


def test_machines_and_how_many() -> None:
    assert parse(["h100:8", "l4", "l4:2@0.75", "a100@3"]) == [
        ("h100", 8, None),
        ("l4", 1, None),
        ("l4", 2, 0.75),
        ("a100", 1, 3.0),
    ]
    assert {"h100", "h200", "a100", "l4", "cpu-core"} == set(MACHINES)


def test_an_estimate_times_every_kind_and_writes_nothing(tmp_path: Path) -> None:
    found = lw.estimate(STUDY, out=tmp_path / "run", on=["cpu-core:2", "l4"], processes=2)
    assert (found["networks"], found["epochs"]) == (6, 18)
    here = found["here"]
    assert [(kind["name"], kind["networks"], kind["timed"]) for kind in here["kinds"]] == [
        ("dense", 2, True),
        ("pruned", 4, True),
    ]
    steps = sum(kind["networks"] * 3 * 3 * kind["step_seconds"] for kind in here["kinds"])
    assert here["seconds"] > steps / 2  # what is asked of networks and the start come to it
    weights = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert here["step_bytes"] > 3 * weights
    assert here["memory_bytes"] > 2 * 100 * 2**20  # two processes with torch
    core, l4 = found["on"]
    assert core["precision"] == ["fp32"]
    assert l4["precision"] == ["bf16"]
    assert core["seconds"] == [core["floor_seconds"] * times for times in core["times_floor"]]
    assert not list(tmp_path.iterdir())
    assert "on cpu-core x 2, fp32: at least" in as_text(found)


class Clock:
    """A clock that moves by what is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(_calibrate.time, "perf_counter", lambda: self.now)


def _measured(
    monkeypatch: pytest.MonkeyPatch, seconds_a_record: float, clock: Clock | None = None
) -> tuple[dict[str, Any], float]:
    """What is measured of two kinds whose steps take so long, on batches of 64, and the time that it takes."""
    clock = clock or Clock(monkeypatch)

    class Slow(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock.now += 0.0 if isinstance(x, FakeTensor) else seconds_a_record * len(x)
            return super().forward(x.flatten(1))

    class Built(Kind):
        def build(self, *_: Any) -> torch.nn.Module:
            return Slow(64, 10)

    x, y = np.zeros((128, 1, 8, 8), np.float32), np.arange(128) % 10
    normalisation = (np.zeros(1, np.float32), np.ones(1, np.float32))
    bench = _Bench(load_study(STUDY), x, y, normalisation, 10, "cpu")
    kinds = [Built("dense"), Built("pruned", built="x")]
    return measure(bench, kinds, [64, 64], 3.0), clock.now


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0])
def test_a_large_model_is_timed_for_a_bounded_time_and_scaled(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    found, took = _measured(monkeypatch, seconds)
    assert took < 20
    assert found["steps"][0] == pytest.approx(64 * seconds)
    assert found["records"][0] == 2
    assert found["forward"] == pytest.approx(seconds, rel=0.7)
    assert found["peak"] > 4 * 3 * (64 * 10 + 10)


def test_a_small_model_is_timed_at_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = _measured(monkeypatch, 1e-4)
    assert found["steps"] == [pytest.approx(64e-4), pytest.approx(64e-4)]
    assert found["records"] == [64, 64]


def test_what_torch_imports_for_its_first_optimiser_is_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, make = Clock(monkeypatch), torch.optim.SGD.__init__

    def slow_at_first(*args: Any, **options: Any) -> None:
        clock.now = max(clock.now, 30.0)
        make(*args, **options)

    monkeypatch.setattr(torch.optim.SGD, "__init__", slow_at_first)
    found, _ = _measured(monkeypatch, 1e-4, clock)
    assert found["steps"] == [pytest.approx(64e-4), pytest.approx(64e-4)]
    assert found["start"] >= 30


def test_a_plan_s_memory_holds_a_training_of_a_whole_batch_and_its_steps_are_told_in_seconds() -> None:
    answer = {"idle": 10**8, "resident": 3 * 10**8, "peak": 10**10}
    assert estimate._held(answer, "cpu") == 10**8 + 10**10  # few records were timed
    assert estimate._held({**answer, "peak": 10**7}, "cpu") == 3 * 10**8
    assert estimate._held({**answer, "resident": None, "idle": None}, "cpu") is None
    assert estimate._held(answer, "cuda") == 3 * 10**8  # the step is held by the GPU
    step = {"name": "dense", "step_seconds": 18.1, "timed": True, "step_records": 256, "timed_records": 2}
    here = {
        "device": "cpu", "processes": 2, "timed_at_once": 2, "seconds": 4e8, "memory_bytes": 2.2e10, "step_bytes": 1e10,
        "kinds": [step, {**step, "name": "pruned", "step_seconds": 0.0123, "timed_records": 256}],
    }  # fmt: skip
    storage = {"signals_each": 1, "signals": 1, "weights": 1, "attack": 1}
    found = {"networks": 2, "epochs": 4, "not_counted": "", "here": here, "on": [], "data_bytes": 1, "storage": storage}
    assert "about 12.7 years, 20.5 GiB of memory in all; a training takes at least 9.3 GiB of it" in as_text(found)
    assert "dense 18.1 s (scaled from a step of 2 records to the batch of 256), pruned 12.3 ms" in as_text(found)
    on_gpu = as_text({**found, "here": {**here, "device": "cuda"}})
    assert "20.5 GiB of memory in all; a training takes at least 9.3 GiB of the GPU's" in on_gpu


@pytest.mark.parametrize(("processes", "said"), [(1, "1 process took more"), (2, "2 processes took more")])
def test_processes_that_do_not_start_are_ended_and_the_sentence_says_so(
    processes: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.killed = threading.Event()

        def receive(self) -> None:
            assert self.killed.wait(10)

        def kill(self) -> None:
            self.killed.set()

        def end(self) -> str:
            return "signal 9"

        def close(self) -> None:
            assert self.killed.is_set()

    monkeypatch.setattr(estimate, "Child", Stuck)
    monkeypatch.setattr(estimate, "_START", 0.01)
    found = lw.estimate(STUDY, out=tmp_path / "run", processes=processes)
    assert found["here"]["error"] == f"{said} than 0 s to start"


def test_a_network_is_pruned_for_its_timing_though_most_of_its_weights_are_an_embedding() -> None:
    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = torch.nn.Embedding(100, 8), torch.nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.head(self.embed(x).mean(1))
            return answer

    class Built(Kind):
        def build(self, *_: Any) -> torch.nn.Module:
            return Words()

    bench = _Bench(load_study(STUDY), np.zeros((4, 3), np.int64), np.zeros(4, np.int64), (None, None), 2, "cpu")
    _, guard = bench.model(Built("pruned", pruned=True))
    assert guard is not None
    assert {name: int(mask.count_nonzero()) for name, mask in guard.masks.items()} == {"head.weight": 8}


@pytest.mark.slow
def test_steps_of_dp_sgd_are_timed_as_such_here_and_not_counted_on_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [{"method": "dp-sgd", "noise": 0.0}, {"method": "dp-sgd", "epsilon": 8.0, "delta": 1e-5}]
    study = {**STUDY, "networks": [{"method": "dense"}, *entries]}
    jobs = Prepared(study, out=tmp_path / "run").slice.networks
    kinds = {job.network: Kind.of(job) for job in jobs}
    assert {name: kind.private for name, kind in kinds.items()} == {
        "dense": "", "clipping": "clipping", "dp-sgd": "noise"
    }  # fmt: skip
    trained = list[PrivateSgd]()
    plain = PrivateSgd.epoch
    monkeypatch.setattr(PrivateSgd, "epoch", lambda *a: (trained.append(a[0]), plain(*a))[1])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40)
    bench = _Bench(load_study(study), x, y, (np.zeros(1, np.float32), np.ones(1, np.float32)), 10, "cpu")
    assert all(bench.step(kind, 40, 20, 0.0) > 0 for kind in kinds.values())
    assert {trainer.noise for trainer in trained} == {0.0, 1.0}
    found = lw.estimate(study, out=tmp_path / "run", on=["l4"], processes=1)
    assert [kind["name"] for kind in found["here"]["kinds"]] == ["dense", "clipping", "dp-sgd"]
    assert found["not_counted"].endswith(", on other machines what DP-SGD costs")


@pytest.mark.usefixtures("untimed")
def test_two_machines_halve_a_study_of_two_equal_sequences_in_the_precision_that_it_names(tmp_path: Path) -> None:
    study = {**STUDY, "train": {**STUDY["train"], "precision": "fp32"}}
    one, two = lw.estimate(study, out=tmp_path / "run", on=["h100", "h100:2"])["on"]
    assert two["floor_seconds"] == pytest.approx(one["floor_seconds"] / 2)
    assert one["precision"] == ["fp32"]


def test_what_a_step_holds_is_that_of_the_closed_form() -> None:
    batch, weights = 20, 64 * 16 + 16 + 16 * 10 + 10
    held = count(Kind("dense"), load_study(STUDY), (1, 8, 8), 10, batch).held
    activations = 4 * batch * (64 + 16 + 10) + 8 * batch + 4  # records, hidden, log-softmax; labels; sum of weights
    assert held == 4 * 3 * weights + activations  # parameters, gradients, momentum


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_here", lambda *_: {"error": "not timed"})


@pytest.mark.usefixtures("untimed")
def test_the_price_is_hours_times_machines_times_rate(tmp_path: Path) -> None:
    plain, priced = lw.estimate(STUDY, out=tmp_path / "run", on=["h100:8", "h100:8@2.5"])["on"]
    assert plain["price"] is None
    assert priced["busy"] == 2  # a target and a shadow: levels of pruning follow each other
    assert priced["price"] == [pytest.approx(seconds / 3600 * 8 * 2.5) for seconds in plain["seconds"]]
    assert priced["held_bytes"] < priced["memory_bytes"] == 80e9


@pytest.mark.usefixtures("untimed")
def test_a_training_that_does_not_fit_a_gpu_is_told(tmp_path: Path) -> None:
    found = lw.estimate(STUDY, out=tmp_path / "run", on=["l4"])
    assert "lower train.batch_size" not in as_text(found)
    found["on"][0]["held_bytes"] = 25e9
    assert "which has 22.4 GiB: lower train.batch_size" in as_text(found)


def on_disk(folder: Path, *names: str) -> int:
    """Bytes of all files of these names: arrays uncompressed, safetensors without their headers."""
    found = 0
    for path in (path for name in names for path in folder.glob(f"jobs/*/{name}")):
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as arrays:
                found += sum(one.file_size for one in arrays.infolist())
        else:
            content = path.read_bytes()
            found += len(content) - 8 - int.from_bytes(content[:8], "little")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "more"),
    [("four-way", ["label-boundary", "white-box-learned", "span-blind"]), ("random-halves", [])],
)
def test_storage_is_what_a_run_writes(split: str, more: list[str], tmp_path: Path) -> None:
    changed = {"split": split, "population": 0.2, "label_noise": 0.1, "canaries": 4}
    names = ["population", "label-augmentation", "label-noise", "gradient-norm"]
    study = {
        **STUDY,
        "data": {**STUDY["data"], **changed},
        "train": {"epochs": 2, "batch_size": 20, "precision": "fp32"},
        "networks": [*STUDY["networks"], {"method": "butterfly", "density": 0.5}],
        "attacks": {"names": names + more},
        "run": {"seeds": [0, 1, 2]},
    }
    out = tmp_path / "run"
    planned = Storage(Prepared(study, out=out)).as_dict()
    lw.run(study, out=out, quiet=True)
    assert planned["signals"] == on_disk(out, "signals.npz", "probe.npz")
    assert planned["weights"] == on_disk(out, "model.safetensors", "masks.safetensors", "rewind-*.safetensors")


def test_a_plan_for_declared_data_is_that_of_data_of_this_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (240, 3, 8, 8), dtype=np.uint8), np.arange(240) % 7
    np.savez(tmp_path / "real.npz", x=x, y=y)
    study = {
        **STUDY,
        "data": {"dataset": str(tmp_path / "real.npz"), "records": 200, "population": 0.1, "canaries": 3},
        "train": {"epochs": 3, "batch_size": 20, "precision": "fp32"},
        "attacks": {"names": ["loss", "population"]},
    }
    real = Prepared(study, out=tmp_path / "run")
    (tmp_path / "real.npz").unlink()
    plan = Prepared(study, out=tmp_path / "run", shape="240x3x8x8:7")
    assert plan.table() == real.table()
    assert Storage(plan).as_dict() == Storage(real).as_dict()
    assert estimate._data_bytes(plan, 50) == estimate._data_bytes(real, 50)


def test_a_plan_of_15_gigabytes_takes_little_memory(tmp_path: Path) -> None:
    study = {**STUDY, "data": {"dataset": "imagenet.npz"}, "train": {"epochs": 90, "precision": "bf16"}}
    study["networks"] = [{"method": "dense"}]
    tracemalloc.start()
    try:
        plan = Prepared(study, out=tmp_path / "run", shape="100000x3x224x224:1000")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert Storage(plan).as_dict()["signals_each"] == 100_000 * (15 + 2 * 1000) + 7 * 128
    in_file = Prepared({**study, "data": {"dataset": "x.npy"}}, out=tmp_path / "run", shape="100000x3x224x224:1000")
    assert estimate._data_bytes(in_file, 25_000) == 0
    assert estimate._data_bytes(plan, 25_000) == (100_000 + 2 * 25_000) * 3 * 224 * 224


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("1280000", "records x shape of one : classes"),
        ("1280000x3x224x224", "records x shape of one : classes"),
        ("1280000*3:10", "records x shape of one : classes"),
        ("240x8x8:10", "2 axes"),
        ("240x1x0x8:10", "0 numbers"),
        ("240x65536x65536x9:10", "numbers; give 1 to"),
        ("999999999999x4:10", "999,999,999,999 records"),
        ("240x64:1", "1 classes"),
        ("240x64:241", "241 classes"),
    ],
)
def test_shapes_that_no_data_set_has(shape: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--shape .*{says}"):
        Prepared(STUDY, out=tmp_path / "run", shape=shape)


@pytest.mark.parametrize(
    ("changed", "options", "says"),
    [
        ({"data": {"dataset": "digits", "groups": ["duplicates"]}}, {}, "data.groups"),
        ({"data": {"dataset": "own.csv", "target": "label"}}, {}, r"data\.target depends on the data themselves"),
        ({"data": {"dataset": "own.csv", "ignore": ["a"]}}, {}, r"data\.ignore depends on the data themselves"),
        ({"data": {"dataset": "own.csv", "categories": ["a"]}}, {}, r"data\.categories depends on the data"),
        ({"attribute": {"columns": [3]}}, {}, r"\[attribute\]"),
        ({}, {"reuse": "runs/other"}, "--reuse"),
        ({"data": {"dataset": "digits", "records": 241}}, {}, "data.records"),
    ],
)
def test_what_needs_the_data_themselves_is_refused_without_them(
    changed: dict[str, Any], options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(LacewingError, match=says):
        Prepared({**STUDY, **changed}, out=tmp_path / "run", shape="240x64:10", **options)


@pytest.mark.parametrize("option", [{"shape": "240x64:10"}, {"estimate": ["l4"]}])
def test_options_of_a_plan_need_one(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(option))} needs --dry-run"):
        run_command(**option)
