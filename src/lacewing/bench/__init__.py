"""How fast this machine is: ``lacewing bench butterfly`` (layers, networks), ``lacewing bench train`` (training)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lacewing.bench import _linear, _networks, _page, _train
from lacewing.bench._machine import Machine, native_dtypes
from lacewing.bench._measure import DTYPES
from lacewing.errors import UsageError, did_you_mean
from lacewing.sparsify.chain import Chain
from lacewing.support import numbers
from lacewing.support.files import write_atomically
from lacewing.training.loop import choose_device
from lacewing.training.precision import PrecisionChoice

MOST_SIZE, MOST_BATCH, MOST_ENTRIES, MOST_SETTINGS = 16_384, 2**20, 2**28, 20
SIZES = (256, 1024, 4096)
BATCHES = {"cpu": (1, 64, 1024), "cuda": (1, 64, 1024, 16384)}


@dataclass(frozen=True)
class Benchmark:
    """Times of linear layers and of networks, on one machine in one run."""

    machine: Machine
    linear: Sequence[_linear.LayerRow]
    networks: Sequence[_networks.NetworkRow]

    def as_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            "schema": 1,
            "machine": asdict(self.machine),
            "linear": [asdict(row) for row in self.linear],
            "networks": [asdict(row) for row in self.networks],
        }

    def __str__(self) -> str:
        return _page.text(self.machine, self.linear, self.networks)


def butterfly(
    *,
    device: str = "auto",
    threads: int = 1,
    sizes: Sequence[int] = SIZES,
    batches: Sequence[int] | None = None,
    dtypes: Sequence[str] | None = None,
    seconds: float = 0.5,
    networks: bool = True,
    out: Path | None = None,
) -> Benchmark:
    """Time dense, butterfly and pruned linear layers, with every available multiplication, and the paper's network.

    Args:
        device: "auto", "cpu" or "cuda".
        threads: of the CPU.
        sizes: rows and columns of the layers.
        batches: records; by default 1, 64, 1024, on CUDA 16384 too.
        dtypes: "fp32", "bf16"; by default what the hardware multiplies.
        seconds: of timing for each way and setting.
        networks: whether to time ResNet-20 too.
        out: a folder for ``butterfly.json``, ``butterfly.txt`` and figures.

    Raises:
        UsageError: what is asked cannot be measured here.
        OSError: ``out`` cannot be written.
    """
    kind = choose_device(device)
    chosen = tuple(dtypes or native_dtypes(kind))
    _check(chosen, threads, seconds, sizes, batches or (1,))
    chains = {n: Chain.monarch(n, n) for n in sizes}  # refuses a prime size now
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        machine = Machine.measured(kind, threads, chosen)
        _tell(str(machine))
        settings = [
            _linear.Setting(n, batch, dtype, kind, chains[n])
            for dtype in chosen
            for n in sizes
            for batch in batches or BATCHES[kind]
        ]
        linear = []
        for rows in _linear.measure(machine, settings, seconds):
            _tell(f"n = {rows[0].n}, batch {rows[0].batch}, {rows[0].dtype}, {rows[0].passes}")
            linear += rows
        of_networks = []
        for network_rows in _networks.measure(machine, chosen, seconds) if networks else ():
            _tell(f"ResNet-20, {network_rows[0].dtype}, {network_rows[0].what}")
            of_networks += network_rows
    finally:
        torch.set_num_threads(before)
    found = Benchmark(machine, linear, of_networks)
    if out is not None:
        write_atomically(out / "butterfly.json", json.dumps(found.as_json(), indent=1) + "\n")
        for name, content in _page.files(machine, linear, of_networks).items():
            write_atomically(out / name, content)
    return found


@dataclass(frozen=True)
class TrainBenchmark:
    """Images/s of the routes through a training, and perceptrons in stacks, on one machine in one run."""

    machine: Machine
    routes: Sequence[_train.Route]
    auto: PrecisionChoice
    floors: Sequence[_train.Floor]
    stacks: Sequence[_train.StackRow]

    def as_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            "schema": 1,
            "machine": asdict(self.machine),
            "routes": [asdict(route) for route in self.routes],
            "auto": self.auto.as_dict(),
            "floors": [asdict(floor) for floor in self.floors],
            "stacks": [{**asdict(row), "ratio": row.ratio} for row in self.stacks],
        }

    def __str__(self) -> str:
        return _train.text(self.machine, self.routes, self.auto, self.floors, self.stacks)


def train(*, device: str = "auto", seconds: float = 10.0, repeats: int = 3, stacks: bool = True) -> TrainBenchmark:
    """Time the training of ResNet-20, ours and a plain loop, and of stacked perceptrons.

    Args:
        device: "auto", "cpu" or "cuda".
        seconds: of each window.
        repeats: windows of each route, in turns.
        stacks: whether to time perceptrons too.

    Raises:
        UsageError: what is asked cannot be measured here.
    """
    kind = choose_device(device)
    _check_seconds(seconds)
    numbers.whole("repeats", repeats, 1, 1_000)
    routes = []
    for route in _train.routes(kind, seconds, repeats):
        _tell(f"{route.name}: {route.rate:,.0f} images/s")
        routes.append(route)
    auto = _train.automatic(kind)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        dtypes = native_dtypes(kind)
        machine = Machine.measured(kind, 1, dtypes)
        floors = [_train.floor(machine, dtype) for dtype in dtypes]
        stacked = []
        for row in _train.stacks(seconds / 10) if stacks else ():
            _tell(f"perceptrons {row.hidden}, {row.networks} at once: {row.ratio:.2f} times faster stacked")
            stacked.append(row)
    finally:
        torch.set_num_threads(before)
    return TrainBenchmark(machine, routes, auto, floors, stacked)


def _check(dtypes: Sequence[str], threads: int, seconds: float, sizes: Sequence[int], batches: Sequence[int]) -> None:
    for name in dtypes:
        if name not in DTYPES:
            raise UsageError(f"--dtype {name}: {did_you_mean(name, DTYPES)}")
    numbers.whole("threads", threads, 1, 1_024)
    _check_seconds(seconds)
    for name, most, values in (("sizes", MOST_SIZE, sizes), ("batches", MOST_BATCH, batches)):
        if not 1 <= len(values) <= MOST_SETTINGS:
            raise UsageError(f"{name}: {len(values):,} are given; give 1 to {MOST_SETTINGS}.")
        for value in values:
            numbers.whole(name, value, 1, most, why="since matrices of it have to fit into memory")
    if max(sizes) * max(batches) > MOST_ENTRIES:
        raise UsageError(f"sizes and batches: the largest of both have a product above {MOST_ENTRIES:,}; lower one.")


def _check_seconds(seconds: float) -> None:
    if numbers.number("seconds", seconds, 0, 3_600, why="since each way is timed for so long") == 0:
        raise UsageError("seconds must be above 0.")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
