"""What a benchmark measures with: time by rounds, allocated memory, operations counted."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

ROUNDS = 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Function = Callable[[], Any]


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
        once = min(seconds_of(function, device, 0.0, rounds=3))  # the first warm up
        calls[name] = max(1, int(seconds / ROUNDS / once))
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            found[name].append(_mean(function, device, calls[name]))
    return {name: Time(median(times), min(times), max(times)) for name, times in found.items()}


def seconds_of(function: Function, device: str, seconds: float, rounds: int = ROUNDS) -> list[float]:
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


def sgd(model: nn.Module) -> torch.optim.SGD:
    """SGD as studies train with it, at a rate that moves next to nothing."""
    return torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)


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


def held_bytes(step: Function, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The bytes that a step of ``training_step`` holds as its backward pass begins; it is done once.

    These are parameters, a gradient of each, the optimiser's state, buffers, and what is saved for the backward pass:
    a floor, without what kernels take for themselves.
    """
    saved: dict[int, int] = {}  # by storage, all of which live until the backward pass

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    parameters, buffers = [*model.parameters()], [*model.buffers()]
    own = {tensor.untyped_storage()._cdata for tensor in (*parameters, *buffers)}
    activations = sum(size for storage, size in saved.items() if storage not in own)
    return activations + 2 * bytes_of(*parameters) + bytes_of(*states, *buffers)


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


@dataclass(frozen=True)
class Cost:
    """What a call does: floating-point operations of its products, bytes moved, operations started.

    The bytes are those that move if each operation reads and writes its tensors.
    """

    flops: float
    moved: float
    operations: int


def counted(function: Function) -> Cost:
    """What a call does."""
    with FlopCounterMode(display=False) as flops, Moved() as moved:
        function()
    return Cost(flops.get_total_flops(), moved.moved, moved.operations)


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


def bytes_of(*tensors: Tensor) -> int:
    """What these tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
