"""What a training step costs on another machine: counted flops and bytes against published peaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lacewing.bench._machine import Peaks
from lacewing.bench._measure import Cost, counted, held_bytes, training_step
from lacewing.errors import UsageError, did_you_mean
from lacewing.study.declared import Study
from lacewing.study.estimate._calibrate import Kind
from lacewing.training.optimizers import optimizer_of


class Asked(NamedTuple):
    """Machines that an estimate is asked for; ``rate``: what one costs an hour, in any currency, None: not told."""

    kind: str
    number: int
    rate: float | None = None


class Counted(NamedTuple):
    """A training step, counted: its cost, and the bytes that it holds, see `held_bytes`."""

    cost: Cost
    held: int


class Published(NamedTuple):
    """A kind of machine, by its data sheet.

    ``memory``: bytes of the GPU, None of a core. ``eager``: how many times its floor a step takes in eager PyTorch,
    from and to.
    """

    peaks: Peaks
    memory: float | None = None
    eager: tuple[float, float] = (2.0, 6.0)  # a rule of thumb, until it is measured


# Dense peaks of the makers' data sheets: NVIDIA H100 (SXM5), H200 (SXM), A100 (SXM4, 80 GB), L4 Tensor Core GPU. The
# sheets give bf16 of H100, H200 and L4 with 2:4 sparsity; this is half of it. fp32 is that of the CUDA cores. To start
# a kernel from Python takes some 4 microseconds on any of them: a rule of thumb, too.
# A core: AVX-512 with two FMA units at 3 GHz (2 x 16 lanes x 2 flop); 40 GB/s is what one core draws when it is alone.
MACHINES = {
    "h100": Published(Peaks({"bf16": 989e12, "fp32": 67e12}, 3.35e12, 4e-6), 80e9),
    "h200": Published(Peaks({"bf16": 989e12, "fp32": 67e12}, 4.8e12, 4e-6), 141e9),
    "a100": Published(Peaks({"bf16": 312e12, "fp32": 19.5e12}, 2.04e12, 4e-6), 80e9),
    "l4": Published(Peaks({"bf16": 121e12, "fp32": 30.3e12}, 0.3e12, 4e-6), 24e9),
    "cpu-core": Published(
        Peaks({"fp32": 192e9}, 40e9, 1e-6), eager=(1.2, 4.0)
    ),  # ResNet-20 took 1.4 times on an idle core
}


def parse(texts: Iterable[str]) -> list[Asked]:
    """``h100:8@2.5`` to eight of the kind "h100" at 2.5 an hour each; ``l4`` to one "l4".

    Raises:
        UsageError: an unknown kind, no number, or no rate.
    """
    found = []
    for text in texts:
        machines, at, price = text.partition("@")
        kind, colon, number = machines.partition(":")
        if kind not in MACHINES:
            raise UsageError(f"--estimate {text}: {did_you_mean(kind, MACHINES)}")
        if colon and not re.fullmatch(r"[1-9]\d{0,5}", number):
            raise UsageError(f"--estimate {text}: give the number of machines after the colon, as in {kind}:8.")
        if at and not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", price):
            raise UsageError(
                f"--estimate {text}: give what one costs an hour after the @, in any currency, as in {machines}@2.5."
            )
        found.append(Asked(kind, int(number or 1), float(price) if at else None))
    return found


def count(kind: Kind, study: Study, shape: Sequence[int], classes: int, batch: int) -> Counted:
    """Of one training step, counted without computing it. Masks of pruned networks are not counted.

    Args:
        kind: of the network; its ``precision`` is that of the machine.
        study: names the model.
        shape: of a record.
        classes: outputs of the model.
        batch: records of the step.
    """
    with FakeTensorMode():
        model: nn.Module = kind.build(study, shape, classes)
        labels = torch.zeros(batch, dtype=torch.int64)
        inputs = torch.zeros(batch, *shape, dtype=torch.int64 if study.of_tokens() else torch.float32)
        optimizer = optimizer_of(model.parameters(), kind.train(batch, batch), foreach=True)
        step = training_step(model, optimizer, inputs, labels, kind.precision)
        held = held_bytes(step, model, optimizer)  # the optimiser's state is there from now on
        return Counted(counted(step), held)
