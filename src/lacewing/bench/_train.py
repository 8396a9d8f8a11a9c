"""How fast networks train here: ResNet-20 against a plain loop in one window, perceptrons in stacks against a loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lacewing import data, models
from lacewing.bench import _resnet
from lacewing.bench._machine import Machine, native_dtypes
from lacewing.bench._measure import ROUNDS, counted, interleaved
from lacewing.config import Model, Train
from lacewing.errors import UsageError
from lacewing.support.child import THREADS, WORKER_ENVIRONMENT, Child
from lacewing.support.machine import usable_cores
from lacewing.support.text import say
from lacewing.training.loop import train
from lacewing.training.precision import PrecisionChoice, choose
from lacewing.training.replay import WAYS
from lacewing.training.stack import train_stack

PLAIN = {"loader": "plain loop, fp32, DataLoader", "ready": "plain loop, fp32, batches ready"}
STACKS = (1, 4, 16)
SHAPES = ((16,), (64,), (128,), (256, 256))  # hidden layers
FEATURES, CLASSES, RECORDS, STACK_BATCH = 446, 30, 1600, 32  # as Location-30 has them


@dataclass(frozen=True)
class Route:
    """A way to train ResNet-20; the first of a benchmark is the plain loop that the others are held against.

    Attributes:
        networks: trained at once.
        rate, low, high: images/s of the whole machine: median, least, greatest of the repeats.
        ratio: of the rate to that of the plain loop, the median of the repeats.
        step: milliseconds a step and network.
    """

    name: str
    networks: int
    rate: float
    low: float
    high: float
    ratio: float
    step: float


@dataclass(frozen=True)
class StackRow:
    """Perceptrons in a stack, and one after another: milliseconds a step and network, medians."""

    hidden: tuple[int, ...]
    networks: int
    loop: float
    stack: float

    @property
    def ratio(self) -> float:
        """How many times faster the stack is."""
        return self.loop / self.stack


@dataclass(frozen=True)
class Floor:
    """A step of ResNet-20, counted: what its arithmetic and its memory traffic take at the machine's peaks, in ms."""

    dtype: str
    flops: float
    moved: float
    arithmetic: float
    memory: float


def routes(device: str, seconds: float, repeats: int) -> Iterator[Route]:
    """Time the plain loop and ours, in turns, each in processes of its own.

    Raises:
        UsageError: a process ended, or no pass fitted into ``seconds``.
    """
    sides = _sides(device, usable_cores())
    rates: dict[_Side, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            try:
                rates[side].append(_window(side, device, seconds))
            except UsageError as error:  # on a GPU, where what can be compiled and recorded is the machine's affair
                if side.way not in WAYS[1:]:
                    raise
                say(f"{side.name(device)}: left out: {error}", file=sys.stderr)
    plain = rates[sides[0]]
    for side in (each for each in sides if len(rates[each]) == repeats):
        yield _route(side.name(device), side.networks, rates[side], plain, _resnet.SIZES[device][0])


class _Side(NamedTuple):
    """A way to train: whose loop, how its steps run, how many networks at once, in which precision."""

    loop: Literal["plain", "lacewing"]
    way: str
    networks: int
    precision: str
    threads: int

    def name(self, device: str) -> str:
        if self.loop == "plain":
            return PLAIN[self.way]
        how = "" if device == "cpu" else f"{self.way}, "
        return f"lacewing, {self.precision}, {how}{self.networks} network{'s' * (self.networks > 1)} at once"


def _sides(device: str, cores: int) -> list[_Side]:
    sides = [_Side("plain", way, 1, "fp32", cores) for way in PLAIN]
    ways, counts = (["eager"], sorted({1, cores, 2 * cores})) if device == "cpu" else (WAYS, [1, 2, 4])
    for precision in native_dtypes(device):
        sides += [_Side("lacewing", way, count, precision, 1) for way in ways for count in counts]
    return sides


def automatic(device: str) -> PrecisionChoice:
    """The precision that a study of ResNet-20 with ``precision = "auto"`` is trained in here."""
    x, y = _resnet.images(_resnet.SIZES["cpu"][1], 0)
    config = _resnet.settings(device, "auto")
    return choose(partial(_resnet.network, 0), x, y, config, normalisation=data.normalisation(x), device=device)


def _route(name: str, networks: int, rates: Sequence[float], plain: Sequence[float], batch: int) -> Route:
    ratio = median(rate / base for rate, base in zip(rates, plain, strict=True))
    return Route(name, networks, median(rates), min(rates), max(rates), ratio, 1000 * batch * networks / median(rates))


def _window(side: _Side, device: str, seconds: float) -> float:
    """Images/s of a side: the sum over its processes, one for each network, in one common window."""
    plain = side.loop == "plain"
    setup = {
        "side": side.loop,
        "device": device,
        "way": side.way,
        "precision": side.precision,
        "threads": side.threads,
    }
    environment = dict.fromkeys(THREADS, str(side.threads)) if plain else WORKER_ENVIRONMENT
    children = [
        Child("lacewing.bench._child", {**setup, "seed": seed}, environment=environment)
        for seed in range(side.networks)
    ]
    try:
        for child in children:
            if child.receive() is None:
                raise UsageError(
                    f"bench train: a process of '{side.loop}' ended in its warm-up with {child.end()}; its message "
                    "stands above."
                )
        start = time.monotonic() + 0.1
        for child in children:
            child.send({"start": start, "end": start + seconds})
        counts = [child.receive() or {"images": 0, "seconds": 1} for child in children]
    finally:
        for child in children:
            child.kill()
            child.close()
    if not all(count["images"] for count in counts):
        raise UsageError(
            f"--seconds {seconds:g}: no process finished a pass over {_resnet.SIZES[device][1]:,} images in that time; "
            "give more."
        )
    return float(sum(count["images"] / count["seconds"] for count in counts))


def floor(machine: Machine, dtype: str) -> Floor:
    """What a training step of ResNet-20 cannot go below on this machine, in eager torch; counted on the CPU."""
    model = models.build(Model(name="resnet20"), (3, 32, 32), 10).train()
    images = torch.zeros(_resnet.SIZES[machine.device][0], 3, 32, 32)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(images)
        logits.float().sum().backward()

    cost = counted(step)
    arithmetic, memory = cost.flops / machine.flops[dtype], cost.moved / machine.bandwidth
    return Floor(dtype, float(cost.flops), float(cost.moved), 1000 * arithmetic, 1000 * memory)


def stacks(seconds: float) -> Iterator[StackRow]:
    """Epochs of perceptrons on the CPU, one thread: ``train`` for each in turn, ``train_stack`` for all at once."""
    rng = np.random.default_rng(0)
    x = (rng.random((RECORDS, FEATURES)) < 0.3).astype(np.float32)
    y = rng.integers(0, CLASSES, RECORDS)
    config = Train(epochs=1, batch_size=STACK_BATCH, schedule="constant", lr=0.01, precision="fp32")
    normalisation = (x.mean(0), x.std(0) + 1e-3)
    for hidden in SHAPES:
        for count in STACKS:
            built: Any = [models.build(Model(name="mlp", hidden=hidden), (FEATURES,), CLASSES) for _ in range(count)]

            def loop(built: Any = built) -> None:
                for seed, model in enumerate(built):
                    train(model, x, y, config, normalisation=normalisation, seed=seed)

            members = np.tile(np.arange(RECORDS), (count, 1))
            together = partial(
                train_stack, built, x, y, members, config, normalisation=normalisation, seeds=range(count)
            )
            times = interleaved({"loop": loop, "stack": together}, "cpu", seconds)
            steps = RECORDS / STACK_BATCH * count / 1000
            yield StackRow(hidden, count, times["loop"].median / steps, times["stack"].median / steps)


def text(
    machine: Machine,
    found: Sequence[Route],
    auto: PrecisionChoice,
    floors: Sequence[Floor],
    stacked: Sequence[StackRow],
) -> str:
    """The tables that ``lacewing bench train`` prints."""
    width = max(len(route.name) for route in found) + 2
    lines = [
        str(machine),
        "",
        f"ResNet-20, batch {_resnet.SIZES[machine.device][0]}; images/s of the whole machine, windows in turns",
        f"{'':<{width}}{'images/s':>10}{'least':>10}{'greatest':>10}{'/ plain':>9}{'ms a step':>11}",
    ]
    for route in found:
        rates = "".join(f"{rate:>10,.0f}" for rate in (route.rate, route.low, route.high))
        lines.append(f"{route.name:<{width}}{rates}{route.ratio:>9.2f}{route.step:>11.1f}")
    lines.append(f'precision = "auto" takes {auto}')
    for one in floors:
        lines.append(
            f"floor of a step on one {'core' if machine.device == 'cpu' else 'GPU'}, {one.dtype}: arithmetic "
            f"{one.arithmetic:.1f} ms ({one.flops / 1e9:.1f} Gflop); memory {one.memory:.1f} ms "
            f"({one.moved / 1e9:.2f} GB, if every operation reads and writes through it)"
        )
    if stacked:
        lines += [
            "",
            f"perceptrons of {FEATURES} features, {CLASSES} classes, batch {STACK_BATCH}, one thread: ms a step and "
            f"network, medians of {ROUNDS} rounds",
            f"{'hidden':<12}{'networks':>9}{'loop':>9}{'stack':>9}{'times faster':>14}",
        ]
    for row in stacked:
        hidden = ", ".join(map(str, row.hidden))
        lines.append(f"{hidden:<12}{row.networks:>9}{row.loop:>9.3f}{row.stack:>9.3f}{row.ratio:>14.2f}")
    return "\n".join(lines)
