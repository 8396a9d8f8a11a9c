"""Choose the faster precision: for `precision = "auto"` a few training steps are timed in fp32 and bf16."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lacewing.config import Train
from lacewing.support.durations import step_time
from lacewing.support.mapped import Stored
from lacewing.training.batches import Batch, Batches
from lacewing.training.loop import lay_out, train_step
from lacewing.training.optimizers import optimizer_of

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
LEAST_GAIN = 1.1  # bf16 is less accurate, so a smaller gain is not worth it
SECONDS = 2.0  # of timing at most, roughly
ROUNDS = 15  # at most, of long steps fewer
SURE = 5  # rounds after which it is decided, if each of them says the same
LONGEST = 6.0  # seconds on the wall after which a round ends with one step more of each precision
TOO_SLOW = 1.0  # seconds of a step of the fewest records, above which nothing is compared
_FEW = 2  # records of the first, rough timing
_FEWEST_STEPS = 10  # of both precisions: how many a batch must allow, else fewer records are timed
_FINE = 1e-3  # seconds; Windows counts the time on the processor in ticks of 16 ms


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision, and why it was chosen.

    Attributes:
        chosen: "fp32" or "bf16".
        why: the end of a sentence, such as "a training step takes 12 ms in fp32 and 9 ms in bf16".
        step_seconds: seconds of a training step by precision; empty where nothing was timed.
        records: number of records of the timed step.
    """

    chosen: Precision
    why: str
    step_seconds: Mapping[str, float]
    records: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.chosen}, since {self.why}"


def choose(
    build: Callable[[], nn.Module],
    x: Stored,
    y: npt.NDArray[np.int64],
    config: Train,
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    device: str,
    clock: Callable[[], float] | None = None,
) -> PrecisionChoice:
    """Choose the precision in which ``config`` is trained on this machine.

    A GPU uses bf16 where it multiplies it natively. On a CPU with bf16 instructions, training steps are timed for up to
    about two seconds on one thread, as in a worker; bf16 is chosen if it is at least 10 % faster. What counts is the
    time that the processor spends, so that other work on the machine hardly changes the choice. The random state and
    the number of threads of the caller do not change.

    Args:
        build: builds the network.
        x: raw records, (N, C, H, W) or (N, D).
        y: labels, (N,).
        config: batch size, augmentation, layout.
        normalisation: mean and standard deviation per channel or feature.
        device: "cpu" or "cuda".
        clock: returns seconds; None: those of this thread on the processor.
    """
    clock = clock or _processor_clock()
    if not multiplies_bf16(device):
        return PrecisionChoice(
            "fp32", f"this {'GPU' if device == 'cuda' else 'processor'} has no instructions for bf16", {}
        )
    if device == "cuda":
        return PrecisionChoice("bf16", "this GPU multiplies bf16 natively (not timed)", {})
    with _one_thread(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = build()
        try:
            few = min(_FEW, config.batch_size, len(y))
            each = _seconds_a_record(_step(model, x, y, config, normalisation, few), few, clock)
            if each * few > TOO_SLOW:
                slow = f"a training step of {few} records takes {step_time(each * few)} here, too long to compare"
                return PrecisionChoice("fp32", f"{slow} it with bf16", {})
            records = min(config.batch_size, len(y), max(_FEW, _whole_power(SECONDS / _FEWEST_STEPS / max(each, 1e-9))))
            found = timed(_step(model, x, y, config, normalisation, records), clock=clock)
        except (Exception, SystemExit) as error:
            # A model that fails in fp32 as well is refused by the trial that follows.
            return PrecisionChoice(
                "fp32", f"a step of this model fails in bf16 or in both ({type(error).__name__})", {}
            )
    return decide(found, records)


def decide(step_seconds: Mapping[str, float], records: int) -> PrecisionChoice:
    """bf16 if its step is faster by at least 10 %, else fp32."""
    fp32, bf16 = (step_seconds[name] for name in PRECISIONS)
    faster = fp32 >= LEAST_GAIN * bf16
    times = (
        f"a training step of {records} records takes {step_time(fp32)} in fp32 and {step_time(bf16)} in bf16 "
        "on one thread here"
    )
    return PrecisionChoice(
        "bf16" if faster else "fp32",
        times if faster else f"{times}, and bf16 must be at least 10 % faster",
        dict(step_seconds),
        records,
    )


def timed(
    step: Callable[[Precision], object],
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds of a step in each precision: the median over alternating windows, so that disturbances affect both.

    A third of the time is enough where each round says the same of bf16; all of it is taken where that is close.

    Args:
        step: does a training step in the given precision.
        seconds: for all windows; a longer step is done once per window, and there are fewer of them.
        clock: returns seconds.
    """
    calls = {}
    for precision in PRECISIONS:
        step(precision)  # libraries choose their kernels
        begin = clock()
        step(precision)
        calls[precision] = max(1, int(seconds / ROUNDS / len(PRECISIONS) / max(clock() - begin, 1e-6)))
    windows: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    late = time.perf_counter() + LONGEST
    for done in range(ROUNDS):
        faster = {fp32 >= LEAST_GAIN * bf16 for fp32, bf16 in zip(*windows.values(), strict=True)}
        spent = sum(done * count * median(windows[name]) for name, count in calls.items()) if done else 0.0
        if spent >= 1.5 * seconds or time.perf_counter() > late or (done >= SURE and len(faster) == 1):
            break
        for precision, count in calls.items():
            begin, taken = clock(), 0
            while taken < count and not (taken and time.perf_counter() > late):  # ``clock`` sees this thread alone
                step(precision)
                taken += 1
            windows[precision].append((clock() - begin) / taken)
    return {precision: median(times) for precision, times in windows.items()}


def multiplies_bf16(device: str) -> bool:
    """Whether the hardware has instructions for bf16; without them it is emulated, about ten times slower."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # avx512_bf16 and amx_bf16 on Intel and AMD, bf16 and sve_bf16 on Arm
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def _seconds_a_record(step: Callable[[Precision], object], records: int, clock: Callable[[], float]) -> float:
    """Of a step of so many records in fp32: the least of two after the first, of one where it takes long."""
    step("fp32")
    least = math.inf
    for _ in range(2):
        begin = clock()
        step("fp32")
        least = min(least, clock() - begin)
        if least > TOO_SLOW:
            break
    return least / records


def _whole_power(number: float) -> int:
    """The greatest power of two up to ``number``: that a rough timing differs a little seldom changes it."""
    return 1 << max(0, math.floor(math.log2(number)))


def _processor_clock() -> Callable[[], float]:
    """Seconds of this thread on the processor; where the system counts them coarsely, those on the wall."""
    fine = time.get_clock_info("thread_time").resolution < _FINE
    return time.thread_time if fine else time.perf_counter


def _step(
    model: nn.Module,
    x: Stored,
    y: npt.NDArray[np.int64],
    config: Train,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    records: int,
) -> Callable[[Precision], object]:
    """Training steps of ``records`` records, as in training but with a learning rate near zero."""
    config = config.model_copy(update={"batch_size": min(records, len(y)), "lr": 1e-9})
    whole = min(len(y) // config.batch_size, 4) * config.batch_size  # every batch is full
    channels_last = lay_out(model, x.ndim, config.channels_last)
    batches = Batches(x[:whole], y[:whole], config, normalisation, torch.device("cpu"), channels_last)
    optimizer = optimizer_of(model.parameters(), config)
    configs = {precision: config.model_copy(update={"precision": precision}) for precision in PRECISIONS}
    model.train()

    def drawn() -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from batches.epoch(epoch)

    supply = drawn()

    def step(precision: Precision) -> None:
        train_step(model, next(supply), optimizer, configs[precision])

    return step


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
