"""A machine at its best, and the floor below which it cannot go: measured here, or from a data sheet."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lacewing.bench._measure import DTYPES, Cost, seconds_of
from lacewing.support.machine import usable_cores
from lacewing.training.precision import PRECISIONS, multiplies_bf16


@dataclass(frozen=True)
class Peaks:
    """How fast a machine computes, moves and starts operations at best.

    Attributes:
        flops: dense peak by dtype, in flop/s.
        bandwidth: of memory, in bytes/s.
        launch: seconds to start an operation.
    """

    flops: Mapping[str, float]
    bandwidth: float
    launch: float = 0.0

    def floor(self, cost: Cost, dtype: str) -> tuple[float, str]:
        """Seconds below which the machine cannot go, and what binds it: the roofline."""
        parts = {
            "arithmetic": cost.flops / self.flops[dtype],
            "memory": cost.moved / self.bandwidth,
            "the starts of kernels": cost.operations * self.launch,
        }
        binds = max(parts, key=lambda name: parts[name])
        return parts[binds], binds


@dataclass(frozen=True)
class Machine:
    """This machine, and how fast it multiplies and copies at best.

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
            flops[name] = 2 * size**3 / min(seconds_of(partial(torch.matmul, matrix, matrix), device, 0.1))
        source = torch.ones(copied, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
        bandwidth = 2 * copied / min(seconds_of(lambda: target.copy_(source), device, 0.1))
        name = torch.cuda.get_device_name() if device == "cuda" else processor()
        system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return cls(device, name, threads, torch.__version__, system, flops, bandwidth)

    @property
    def peaks(self) -> Peaks:
        """What its floor follows from."""
        return Peaks(self.flops, self.bandwidth)

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        peaks = ", ".join(f"{name} {flops / 1e9:,.0f} Gflop/s" for name, flops in self.flops.items())
        return (
            f"{self.name}{threads}, torch {self.torch}; peaks measured here: {peaks}, {self.bandwidth / 1e9:,.1f} GB/s"
        )


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
