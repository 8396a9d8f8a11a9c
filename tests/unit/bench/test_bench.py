"""Benchmarks: what they count and report is right; how fast a machine is, no test can say."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lacewing.bench import _child, _linear, _machine, _measure, _networks, _train
from lacewing.bench._machine import Machine, Peaks
from lacewing.bench._measure import Cost, interleaved, peak_bytes
from lacewing.errors import UsageError
from lacewing.sparsify.chain import Chain

MACHINE = Machine("cpu", "a machine", 1, "2", "system", {"fp32": 1e11, "bf16": 4e11}, 1e10)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _setting(chain, batch=5):
    return _linear.Setting(chain.shape[0], batch, "fp32", "cpu", chain)


def test_the_roofline_is_the_slower_of_arithmetic_and_memory():
    peaks = MACHINE.peaks
    assert peaks.floor(Cost(10**11, 10**9, 5), "fp32") == (1.0, "arithmetic")
    assert peaks.floor(Cost(10**11, 10**9, 5), "bf16") == (0.25, "arithmetic")
    assert peaks.floor(Cost(10**9, 10**10, 5), "fp32") == (1.0, "memory")
    assert Peaks({"fp32": 1e9}, 1e8, 1e-3).floor(Cost(10**9, 10**8, 4000), "fp32") == (4.0, "the starts of kernels")


@pytest.mark.parametrize("chain", [Chain.monarch(64, 64), Chain.butterfly(32), Chain.cheapest(48, 48, 3)])
@pytest.mark.parametrize("way", ["dense", "butterfly: factor by factor", "butterfly: composed"])
def test_flops_are_those_that_torch_counts(way, chain):
    made = _linear.WAYS[way].make(_setting(chain))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made.multiply(made.x)
    assert made.flops == counter.get_total_flops()


@pytest.mark.parametrize("way", ["pruned: torch CSR", "pruned: torch BSR, 16 x 16", "pruned: scipy CSR"])
def test_pruned_weights_have_the_density_of_the_chain(way):
    setting = _setting(Chain.monarch(64, 64))
    made = _linear.WAYS[way].make(setting)
    kept = int((made.matrix != 0).sum())
    assert kept == setting.chain.nnz
    assert made.flops == 2 * 5 * kept


def test_a_way_that_computes_something_else_is_not_timed():
    setting = _setting(Chain.monarch(16, 16))
    made = _linear.WAYS["dense"].make(setting)
    wrong = _linear.Way(made.multiply, made.x, [], 1.01 * made.matrix, 1, 1, 1)
    _linear._check("dense", made)
    with pytest.raises(UsageError, match=r"'dense' is off by .* its time would say nothing"):
        _linear._check("dense", wrong)


@pytest.mark.parametrize("x", [np.ones(2**18, np.float32), torch.ones(2**18)], ids=["numpy", "torch"])
def test_peak_memory_is_what_is_held_at_once(x):
    megabyte = x.nbytes
    assert peak_bytes(lambda: x + 1, "cpu") == pytest.approx(megabyte, rel=0.02)

    def chained():
        y = x + 1
        z = y + 1  # both are held
        del y
        return z + 1

    assert peak_bytes(chained, "cpu") == pytest.approx(2 * megabyte, rel=0.02)


def test_functions_take_turns():
    calls = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, "cpu", 1e-9)
    assert "".join(calls[-2 * _measure.ROUNDS :]) == "ab" * _measure.ROUNDS
    assert all(0 < time.low <= time.median <= time.high for time in times.values())


def test_the_networks_are_the_papers_and_their_sizes_what_they_store():
    rows = [row for part in _networks.measure(MACHINE, ("fp32",), 1e-9, batch=2) for row in part]
    assert len({row.what for row in rows}) == 3
    of = {row.network: row for row in rows}
    assert of["dense"].density == 1.0
    assert of["butterfly S = 3, L = 2"].density == pytest.approx(0.118, abs=5e-4)
    assert of["butterfly S = 3, L = 3"].density == pytest.approx(0.085, abs=5e-4)
    assert all(row.ratio == 1 for row in rows if row.network == "dense")
    pruned = of["pruned, masks held by a guard"]
    pruned_away = round((1 - pruned.density) * 272_474)
    assert pruned.density == pytest.approx(of["butterfly S = 3, L = 3"].density, abs=1e-5)
    bits = 270_896 / 8
    masks = {"pruned, masks held by a guard": bits, "pruned, torch.nn.utils.prune": 4 * (270_896 + pruned_away)}
    for row in rows:
        stored = 4 * row.density * 272_474 + masks.get(row.network, 0)
        assert stored < row.disk_bytes < stored + 25_000  # names, shapes, statistics of batch norm


def _bench(*options):
    command = [sys.executable, "-m", "lacewing", "bench", "butterfly", "--threads", "1", "--seconds", "1e-6", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_every_way_in_every_setting(tmp_path):
    options = ["--sizes", "16,64", "--batches", "1,3", "--dtype", "fp32", "--no-networks"]
    done = _bench(*options, "--device", "cpu", "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert json.loads((tmp_path / "butterfly.json").read_text()) == found
    rows = found["linear"]
    assert len(rows) == 2 * 2 * 2 * len(_linear.WAYS)
    for row in rows:
        if row["missing"] is None:
            assert 0 < row["low"] <= row["median"] <= row["high"]
            assert row["of_roofline"] > 0
            assert row["weights_bytes"] > 0
        else:
            assert row["median"] is None
            assert row["missing"] in ("CUDA only", "no gradient", "needs CUDA 8.0") or "BSR" in row["way"]
    assert {row["ratio"] for row in rows if row["way"] == "dense"} == {1.0}
    monarch = {row["weights_bytes"] for row in rows if (row["way"], row["n"]) == ("butterfly: factor by factor", 64)}
    assert monarch == {4 * 2 * 64 * math.isqrt(64)}
    text = (tmp_path / "butterfly.txt").read_text()
    assert "fp32, forward: time / dense" in text
    assert (tmp_path / "linear-fp32.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sizes", "251"], "no Monarch chain makes a 251 x 251 matrix"),
        (["--sizes", "16,x"], "--sizes '16,x' must be whole numbers"),
        (["--dtype", "fp16"], "--dtype fp16: did you mean"),
        (["--device", "gpu"], "--device gpu: "),
        (["--seconds", "0"], "seconds must be above 0"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence(options, said):
    done = _bench(*options)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_bytes_are_those_of_inputs_and_outputs_of_each_operation():
    x, w = torch.ones(8, 4), torch.ones(4, 6)
    cost = _measure.counted(lambda: (x @ w).t().relu())
    assert cost.flops == 2 * 8 * 4 * 6
    assert cost.moved == 4 * (8 * 4 + 4 * 6 + 8 * 6) + 4 * 2 * 8 * 6  # the product; relu of a view, in and out


def test_routes_and_stacks_are_reported_per_network():
    machine = Machine("cpu", "a machine", 1, "2", "system", {"fp32": 1e11}, 1e10)
    floor = _train.floor(machine, "fp32")
    assert floor.flops == pytest.approx(31.2e9, rel=0.01)  # 62.5 Gflop at batch 256
    assert floor.arithmetic == pytest.approx(1000 * floor.flops / 1e11)
    route = _train._route("ours", 2, [100.0, 400.0, 200.0], [50.0, 100.0, 200.0], 128)
    assert (route.rate, route.low, route.high, route.ratio) == (200.0, 100.0, 400.0, 2.0)
    assert route.step == 1000 * 128 * 2 / 200.0


def test_the_plain_loop_augments_as_training_does():
    """Each image a shift of at most 4 of its own, mirrored half of the time, black outside."""
    records = _child.Augmented(64)
    padded = torch.nn.functional.pad(records.x, (4, 4, 4, 4)).float()
    flips, places = 0, set()
    for index in range(64):
        image, label = records[index]
        raw = (image * records.std + records.mean).round()
        crops = {
            (top, left): padded[index, :, top : top + 32, left : left + 32] for top in range(9) for left in range(9)
        }
        found = [(at, m) for at, c in crops.items() for m in (0, 1) if torch.equal(raw, c.flip(-1) if m else c)]
        assert len(found) == 1
        assert label == records.y[index]
        flips += found[0][1]
        places.add(found[0][0])
    assert 16 < flips < 48
    assert len(places) > 30


@pytest.mark.slow
def test_the_train_command_prints_its_routes_and_runs_no_file_of_the_working_directory(tmp_path):
    for name in ("dill", "cuda", "typing_extensions", "numpy"):
        (tmp_path / f"{name}.py").write_text("open(__file__ + '.was-run', 'w').close()\n")
    command = [
        sys.executable,
        "-m",
        "lacewing",
        "bench",
        "train",
        "--device",
        "cpu",
        "--repeats",
        "1",
        "--seconds",
        "20",
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("*.was-run"))
    found = json.loads(done.stdout)
    assert [route["name"] for route in found["routes"][:2]] == list(_train.PLAIN.values())
    assert found["routes"][0]["ratio"] == 1.0
    counts = sorted({1, os.cpu_count(), 2 * os.cpu_count()})
    assert [route["networks"] for route in found["routes"][2:]] == counts * len(_machine.native_dtypes("cpu"))
    assert found["auto"]["chosen"] in _machine.native_dtypes("cpu")
    assert set(found["auto"]["step_seconds"]) in (set(), {"fp32", "bf16"})
    assert len(found["stacks"]) == len(_train.SHAPES) * len(_train.STACKS)
    assert all(row["ratio"] == pytest.approx(row["loop"] / row["stack"]) for row in found["stacks"])
