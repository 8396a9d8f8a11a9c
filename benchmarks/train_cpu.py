"""ResNet-20 training on this machine's CPU: images/s of Lacewing's training against a plain fp32 loop, in one run.

    python benchmarks/train_cpu.py [--repeats 3] [--seconds 20] [--threads 2] [--workers N]

- plain: one process with ``--threads`` threads, fp32, contiguous tensors that already lie normalised in memory, no
  augmentation, no DataLoader: zero_grad, forward, backward, SGD step.
- lacewing: ``lacewing.train.train`` as a study runs it on the local engine: one worker process per core, each with one
  thread and the environment of the engine's workers, its own network, uint8 images normalised, flipped and cropped
  batch by batch, channels last, precision "auto". Its figure is the sum over the workers.

Both train the same ResNet-20 in batches of 128 on random images. Every process trains two passes over its images as
warm-up and waits; then all of a side train through one common window of ``--seconds``, and each counts the images of
the passes that it finished inside it. The sides alternate, fresh processes each time. Leave the machine alone
meanwhile.

Below stands the fp32 roof: the images/s of a training step that did nothing but its multiplications (counted by torch,
forward and backward), all at the rate of a large matrix product on all cores. Without bf16 in hardware no direct
convolution passes it; what it leaves between the plain loop and itself is all that there is to gain.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lacewing import data, models
from lacewing.config import Model, Train
from lacewing.engine.local import WORKER_ENVIRONMENT, default_processes
from lacewing.train import best_precision, train

BATCH, IMAGES, LR = 128, 512, 0.01  # a pass of four batches: short beside the window
WARM_UP = 2


class WindowOver(Exception):
    """The window has ended."""


def after_each_pass() -> tuple[Callable[[Any], None], list[float]]:
    """What to call at the end of each pass over the images; and the window's start, then the end of each pass in it.

    After the warm-up it says so and waits for the window; at the first end behind the window it raises WindowOver.
    """
    times: list[float] = []
    passes, close = 0, 0.0

    def call(_: Any = None) -> None:
        nonlocal passes, close
        passes += 1
        if passes < WARM_UP:
            return
        if passes == WARM_UP:
            print("ready", flush=True)
            start, close = json.loads(sys.stdin.readline())
            time.sleep(max(0.0, start - time.monotonic()))  # the clock is the same for all processes
        if (now := time.monotonic()) > close:
            raise WindowOver
        times.append(now)

    return call, times


def images(seed: int) -> tuple[Any, Any]:
    """Random uint8 images (N, 3, 32, 32) and labels (N,)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, IMAGES)


def ours(seed: int, on_pass: Callable[[Any], None]) -> None:
    """Train as a worker of the local engine does."""
    torch.set_num_threads(1)
    x, y = images(seed)
    config = Train(
        epochs=1_000_000,
        batch_size=BATCH,
        lr=LR,
        schedule="constant",
        augment=("flip", "crop"),
        precision=best_precision("cpu"),  # what "auto" is resolved to
    )
    torch.manual_seed(seed)
    model = models.build(Model(name="resnet20"), x.shape[1:], 10)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(model, x, y, config, normalisation=data.normalisation(x), seed=seed, on_epoch=on_pass)


def plain(threads: int, on_pass: Callable[[Any], None]) -> None:
    """The loop that everybody writes first."""
    torch.set_num_threads(threads)
    x, y = images(0)
    mean, std = (values.reshape(1, 3, 1, 1) for values in data.normalisation(x))
    inputs, labels = torch.from_numpy((x - mean) / std).float(), torch.from_numpy(y)
    torch.manual_seed(0)
    model = models.build(Model(name="resnet20"), x.shape[1:], 10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    while True:
        for batch in range(0, IMAGES, BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[batch : batch + BATCH]), labels[batch : batch + BATCH])
            loss.backward()
            optimizer.step()
        on_pass(None)


def child(side: str, number: int) -> None:
    """One training process: prints "ready", reads the window, prints its images and the seconds that they took."""
    on_pass, times = after_each_pass()
    try:
        ours(number, on_pass) if side == "lacewing" else plain(number, on_pass)
    except WindowOver:
        print(json.dumps([IMAGES * (len(times) - 1), times[-1] - times[0]]), flush=True)


def measure(side: str, numbers: list[int], environment: Mapping[str, str], seconds: float) -> float:
    """Images/s of a side: the sum over its processes, one for each of ``numbers``, in one window."""
    path = os.pathsep.join(p for p in sys.path if p)
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", side, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": path},
        )
        for number in numbers
    ]
    try:
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit(f"a process of the side '{side}' ended in its warm-up; its message stands above.")
        start = time.monotonic() + 0.1
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps([start, start + seconds]) + "\n")
            process.stdin.flush()
        counts = [json.loads(process.communicate()[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if not all(count for count, _ in counts):
        raise SystemExit(f"{side}: {seconds:g} seconds hold no whole pass over {IMAGES} images here; raise --seconds.")
    return sum(count / took for count, took in counts)


def fp32_roof(seconds: float = 3.0, size: int = 1536) -> float:
    """Images/s at which the multiplications of a training step fill this machine's fp32 units."""
    from torch.utils.flop_counter import FlopCounterMode

    model = models.build(Model(name="resnet20"), (3, 32, 32), 10).train()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(BATCH, 3, 32, 32)).sum().backward()
    torch.set_num_threads(default_processes("cpu"))
    a, b = torch.randn(2, size, size)
    best = min(_timed(lambda: a @ b) for _ in range(max(3, int(seconds / _timed(lambda: a @ b)))))
    return 2 * size**3 / best / (counter.get_total_flops() / BATCH)


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def machine() -> str:
    """CPU, cores, and what torch makes of them."""
    name = "unknown CPU"
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    found = torch.cpu.get_capabilities()
    bf16 = [kind for kind in ("avx512_bf16", "amx_bf16") if found.get(kind)]
    return (
        f"{name}, {default_processes('cpu')} cores; torch {torch.__version__}, capability "
        f"{torch.backends.cpu.get_cpu_capability()}, bf16 in hardware: {', '.join(bf16) or 'no'}"
    )


def row(name: str, values: list[float], digits: int = 0) -> str:
    """Median, minimum and maximum."""
    shown = (statistics.median(values), min(values), max(values))
    return f"{name:<66}" + "".join(f"{value:>10,.{digits}f}" for value in shown)


def main() -> None:
    """Parse, measure, print one table."""
    parser = argparse.ArgumentParser(description="ResNet-20 images/s: lacewing against a plain fp32 loop.")
    parser.add_argument("--repeats", type=int, default=3, help="of each side, alternating (default 3)")
    parser.add_argument("--seconds", type=float, default=20, help="length of each window (default 20)")
    parser.add_argument("--threads", type=int, default=2, help="of the plain loop (default 2)")
    parser.add_argument("--workers", type=int, default=default_processes("cpu"), help="of lacewing (default: cores)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], int(given.child[1]))
        return
    if min(given.repeats, given.seconds, given.threads, given.workers) <= 0:
        parser.error("--repeats, --seconds, --threads and --workers must be above 0")

    threads = {name: str(given.threads) for name in WORKER_ENVIRONMENT if name.endswith("_NUM_THREADS")}
    sides: dict[str, list[float]] = {"plain": [], "lacewing": []}
    for repeat in range(given.repeats):
        sides["plain"].append(measure("plain", [given.threads], threads, given.seconds))
        workers = list(range(given.workers))
        sides["lacewing"].append(measure("lacewing", workers, {**WORKER_ENVIRONMENT}, given.seconds))
        shown = ", ".join(f"{side} {values[-1]:,.0f}" for side, values in sides.items())
        print(f"repeat {repeat + 1} of {given.repeats}: {shown} images/s", file=sys.stderr)

    plain_name = f"plain loop: 1 process, threads: {given.threads}, fp32, contiguous"
    our_name = f"lacewing: workers: {given.workers}, 1 thread each, {best_precision('cpu')}, channels last, augmented"
    ratios = [b / a for a, b in zip(sides["plain"], sides["lacewing"], strict=True)]
    print(machine())
    print(f"ResNet-20, batch {BATCH}; {given.repeats} x {given.seconds:g} s each, alternating\n")
    print(f"{'images/s, whole machine':<66}{'median':>10}{'min':>10}{'max':>10}")
    print(row(plain_name, sides["plain"]))
    print(row(our_name, sides["lacewing"]))
    print(row("ratio of each repeat", ratios, 2))
    roof = fp32_roof()
    print(f"fp32 roof: {roof:,.0f} images/s, {roof / statistics.median(sides['plain']):.2f} x the plain loop")


if __name__ == "__main__":
    main()
