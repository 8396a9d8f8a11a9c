"""What a benchmark measures with: a machine's peaks, time by rounds, allocated memory."""

from __future__ import annotations

import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lacewing.support.machine import usable_cores
from lacewing.training.precision import PRECISIONS, multiplies_bf16

ROUNDS = 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Function = Callable[[], Any]


@dataclass(frozen=True)
class Machine:
    """What was measured on, and how fast it multiplies and copies at best.

    Attributes:
        flops: peak by dtype, of a large matrix product, in flop/s.
        bandwidth: of a copy that no cache holds, read and written, in bytes/s.
    """

    device: str
    name: str
    threads: int
    torch: str
    system: str
    flops: Mapping[str, float]
    bandwidth: float

    @classmethod
    def measured(cls, device: str, threads: int, dtypes: tuple[str, ...]) -> Machine:
        """Measure the peaks; a second or two on a CPU."""
        size, copied = (2048, 2**28) if device == "cpu" else (8192, 2**31)
        flops = {}
        for name in dtypes:
            matrix = torch.randn(size, size, device=device, dtype=DTYPES[name])
            flops[name] = 2 * size**3 / min(_seconds(partial(torch.matmul, matrix, matrix), device, 0.1))
        source = torch.ones(copied, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
        bandwidth = 2 * copied / min(_seconds(lambda: target.copy_(source), device, 0.1))
        name = torch.cuda.get_device_name() if device == "cuda" else processor()
        system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return cls(device, name, threads, torch.__version__, system, flops, bandwidth)

    def floor(self, flops: float, moved: float, dtype: str) -> float:
        """Seconds below which so many flops and bytes cannot go: the roofline."""
        return max(flops / self.flops[dtype], moved / self.bandwidth)

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        peaks = ", ".join(f"{name} {flops / 1e9:,.0f} Gflop/s" for name, flops in self.flops.items())
        return (
            f"{self.name}{threads}, torch {self.torch}; peaks measured here: {peaks}, {self.bandwidth / 1e9:,.1f} GB/s"
        )


@dataclass(frozen=True)
class Time:
    """Seconds a call: the median, the least and the greatest of ``ROUNDS`` rounds."""

    median: float
    low: float
    high: float


def interleaved(functions: Mapping[str, Function], device: str, seconds: float) -> dict[str, Time]:
    """Time functions side by side: every round runs each of them, so that what slows the machine slows them all.

    Args:
        functions: by name; each warms up first.
        seconds: for each function, over all rounds; a call that takes longer runs once a round.
    """
    calls = {}
    for name, function in functions.items():
        once = min(_seconds(function, device, 0.0, rounds=3))  # the first warm up
        calls[name] = max(1, int(seconds / ROUNDS / once))
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            found[name].append(_mean(function, device, calls[name]))
    return {name: Time(median(times), min(times), max(times)) for name, times in found.items()}


def _seconds(function: Function, device: str, seconds: float, rounds: int = ROUNDS) -> list[float]:
    once = _mean(function, device, 1)
    return [_mean(function, device, max(1, int(seconds / once))) for _ in range(rounds)]


def _mean(function: Function, device: str, calls: int) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(function: Function, device: str) -> int:
    """The most memory that a call holds beyond what was there before: its outputs, and what lies between.

    On the CPU that of torch's and numpy's allocations; what libraries take for themselves is not seen.
    """
    if device == "cuda":
        function()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    tracemalloc.start()
    try:
        function()
        of_numpy = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with silent(), torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    kineto = profile.profiler.kineto_results if profile.profiler else None
    events = [event for event in kineto.events() if event.name() == "[memory]"] if kineto else []
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    of_torch = max(accumulate(changes), default=0)
    return of_torch + (of_numpy if of_numpy > 2**16 else 0)  # below: Python's own small objects


def sgd(model: nn.Module, *, foreach: bool | None = None) -> torch.optim.SGD:
    """SGD as studies train with it, at a rate that moves next to nothing; ``foreach``: as a GPU does it."""
    return torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, foreach=foreach)


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor, precision: str
) -> Function:
    """A step as training does it: forward, backward, optimiser."""
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(inputs)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


@contextmanager
def silent() -> Iterator[None]:
    """Without what libraries, in C++ too, write to standard error."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def counted(function: Function) -> tuple[float, float]:
    """Flops of a call's products, and the bytes that move if each of its operations reads and writes its tensors."""
    with FlopCounterMode(display=False) as flops, Moved() as moved:
        function()
    return float(flops.get_total_flops()), float(moved.moved)


class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of every operation's inputs and outputs, as an eager run moves them; views move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved, self.operations = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        aliases = [r.alias_info for r in returns if r.alias_info is not None]
        views = bool(aliases) and all(not alias.is_write for alias in aliases)
        if func.namespace != "prim" and not views:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            self.moved += bytes_of(*tensors)
            self.operations += bool(tensors)
        return out


def native_dtypes(device: str) -> tuple[str, ...]:
    """fp32, and bf16 where the hardware multiplies it."""
    return PRECISIONS if multiplies_bf16(device) else PRECISIONS[:1]


def processor() -> str:
    """The CPU's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {usable_cores()} cores"


def bytes_of(*tensors: Tensor) -> int:
    """What these tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
