"""Memory and time of an audit of more images than memory holds, by attacks without references.

    python benchmarks/stream.py [--records 1000000] [--attacks loss,gap,population] [--map FILE] [--quick]

Half of the images are members. They are made when they are asked for, uniform noise of 3 x 32 x 32 (12 kB as float32,
so that a million take 12 GB), or read from ``--map``, a .npy that is written first where it is absent, as uint8. The
model is a small convolutional network with random weights, which knows no record: the audit must find nothing. Printed
are the largest RssAnon and RssFile of the process, which `/proc/self/status` tells twice a second, and the seconds.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import lacewing as lw

SHAPE, CLASSES = (3, 32, 32), 10


class Images(torch.utils.data.Dataset[Any]):
    """Images that are made when they are asked for, each by its number."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        number = self.first + index
        raw = np.random.Philox(key=number).random_raw(int(np.prod(SHAPE)) // 8).view(np.uint8)
        return torch.from_numpy(raw.reshape(SHAPE).astype(np.float32) / 255), number % CLASSES


def mapped(path: Path, count: int) -> Any:
    """``count`` images as a memory-mapped file, which is written where it is absent."""
    if not path.exists():
        made = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
        for start in range(0, count, 10_000):
            stop = min(count, start + 10_000)
            made[start:stop] = np.random.default_rng(start).integers(0, 256, (stop - start, *SHAPE), np.uint8)
        made.flush()
        del made
    return np.load(path, mmap_mode="r")


def watch(most: dict[str, int], done: threading.Event) -> None:
    """Note the largest RssAnon and RssFile, in kB, until ``done``."""
    while not done.wait(0.5):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], int(value.split()[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--attacks", default="loss,gap,population")
    parser.add_argument("--map", type=Path)
    parser.add_argument("--quick", action="store_true", help="2,000 records")
    given = parser.parse_args()
    if given.quick:
        given.records = 2000
    half = given.records // 2
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, CLASSES))
    sides: list[Any] = [Images(0, half), Images(half, half)]
    if given.map is not None:
        x = mapped(given.map, given.records)
        y = np.arange(given.records) % CLASSES
        sides = [(x[:half], y[:half]), (x[half:], y[half:])]
    most, done = {"RssAnon": 0, "RssFile": 0}, threading.Event()
    watcher = threading.Thread(target=watch, args=(most, done))
    watcher.start()
    started = time.perf_counter()
    try:
        found = lw.audit(model, *sides, attacks=given.attacks.split(","))
    finally:
        done.set()
        watcher.join()
    print(found)
    print(f"{given.records:,} records, {given.records * int(np.prod(SHAPE)) * 4 / 1e9:.1f} GB as float32")
    print(f"largest RssAnon {most['RssAnon'] / 1e6:.2f} GB, RssFile {most['RssFile'] / 1e6:.2f} GB")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
