"""Choose the faster precision: for `precision = "auto"` a few training steps are timed in fp32 and bf16."""

from __future__ import annotations

import itertools
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
from lacewing.support.mapped import Stored
from lacewing.training.batches import Batch, Batches
from lacewing.training.loop import lay_out, train_step
from lacewing.training.optimizers import optimizer_of

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
LEAST_GAIN = 1.1  # bf16 is less accurate, so a smaller gain is not worth it
SECONDS = 1.0  # of timing, roughly
ROUNDS = 5
_FEW = 8  # records of the first, rough timing


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
    clock: Callable[[], float] = time.perf_counter,
) -> PrecisionChoice:
    """Choose the precision in which ``config`` is trained on this machine.

    A GPU uses bf16 where it multiplies it natively. On a CPU with bf16 instructions, training steps are timed for about
    a second on one thread, as in a worker; bf16 is chosen if it is at least 10 % faster. The random state and the
    number of threads of the caller do not change.

    Args:
        build: builds the network.
        x: raw records, (N, C, H, W) or (N, D).
        y: labels, (N,).
        config: batch size, augmentation, layout.
        normalisation: mean and standard deviation per channel or feature.
        device: "cpu" or "cuda".
        clock: returns seconds.
    """
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
            records = _records(_step(model, x, y, config, normalisation, _FEW), config.batch_size, len(y), clock)
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
    times = f"a training step takes {1e3 * fp32:.3g} ms in fp32 and {1e3 * bf16:.3g} ms in bf16 on one thread here"
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


    Args:
        step: does a training step in the given precision.
        seconds: for all windows; a longer step is done once per window.
        clock: returns seconds.
    """
    calls = {}
    for precision in PRECISIONS:
        step(precision)  # libraries choose their kernels
        begin = clock()
        step(precision)
        calls[precision] = max(1, int(seconds / ROUNDS / len(PRECISIONS) / max(clock() - begin, 1e-6)))
    windows: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS):
        for precision, count in calls.items():
            begin = clock()
            for _ in range(count):
                step(precision)
            windows[precision].append((clock() - begin) / count)
    return {precision: median(times) for precision, times in windows.items()}


def multiplies_bf16(device: str) -> bool:
    """Whether the hardware has instructions for bf16; without them it is emulated, about ten times slower."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # avx512_bf16 and amx_bf16 on Intel and AMD, bf16 and sve_bf16 on Arm
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def _records(step: Callable[[Precision], object], batch: int, records: int, clock: Callable[[], float]) -> int:
    """How many records a timed step has: a batch, or fewer where timing would take much more than a second."""
    step("fp32")
    begin = clock()
    step("fp32")
    each = (clock() - begin) / min(_FEW, batch, records)
    steps = len(PRECISIONS) * (ROUNDS + 2)
    return min(batch, records, max(_FEW, int(2 * SECONDS / steps / max(each, 1e-9))))


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
