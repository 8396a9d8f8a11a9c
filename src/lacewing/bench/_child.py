"""One training process of ``lacewing bench train``, which starts it with ``START``.

It trains two passes over its images as warm-up, says "ready", reads when the common window starts and ends, and prints
the images of the passes that it finished inside it and the seconds that they took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lacewing import data, models
from lacewing.config import Model, Train
from lacewing.training.loop import train
from lacewing.training.replay import recordings_for

LR = 0.01
SIZES = {"cpu": (128, 512), "cuda": (256, 15_000)}  # batch, and images of a pass, which is short beside the window
WARM_UP = 2
START = "import sys; from lacewing.bench._child import main; main(*sys.argv[1:])"


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


def images(count: int, seed: int) -> tuple[Any, Any]:
    """Random uint8 images (N, 3, 32, 32) and labels (N,)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, count)


def settings(device: str, precision: str) -> Train:
    """What ours trains with."""
    fields = {"epochs": 100_000, "batch_size": SIZES[device][0], "lr": LR, "schedule": "constant"}
    return Train.model_validate({**fields, "augment": ("flip", "crop"), "precision": precision})


def ours(seed: int, device: str, way: str, precision: str, on_pass: Callable[[Any], None]) -> None:
    """Train as a worker of the local engine does: augmented batch by batch, channels last."""
    torch.set_num_threads(1)
    x, y = images(SIZES[device][1], seed)
    model = network(seed).to(device)
    train(
        model,
        x,
        y,
        settings(device, precision),
        normalisation=data.normalisation(x),
        seed=seed,
        on_epoch=on_pass,
        recordings=recordings_for(device, way, strict=True),
    )


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Images that are cropped, flipped and normalised one by one, as they are asked for."""

    def __init__(self, count: int) -> None:
        x, y = images(count, 0)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.mean, self.std = (torch.from_numpy(values).reshape(3, 1, 1) for values in data.normalisation(x))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        padded = F.pad(self.x[index], (4, 4, 4, 4))
        top, left = torch.randint(0, 9, (2,)).tolist()
        image = padded[:, top : top + 32, left : left + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        return (image.float() - self.mean) / self.std, self.y[index]


def plain(threads: int, device: str, way: str, on_pass: Callable[[Any], None]) -> None:
    """The loop that everybody writes first: fp32, contiguous, every core for one network.

    By ``way`` "loader", a DataLoader augments record by record in the same process, its default; by "ready", batches
    lie on the device, augmented and normalised once and for all, so that the loop does less than ours.
    """
    torch.set_num_threads(threads)
    batch, count = SIZES[device]
    loader: Any = DataLoader(Augmented(count), batch, shuffle=True)
    if way == "ready":
        loader = [(inputs.to(device), labels.to(device)) for inputs, labels in loader]
    model = network(0).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    while True:
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs.to(device)), labels.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss.item()  # an epoch's end waits for the device
        on_pass(None)


def network(seed: int) -> torch.nn.Module:
    """A fresh ResNet-20."""
    torch.manual_seed(seed)
    return models.build(Model(name="resnet20"), (3, 32, 32), 10)


def main(side: str, number: str, device: str, way: str, precision: str) -> None:
    """Train as "plain" with ``number`` threads or as "lacewing" with that seed, and print what was counted."""
    on_pass, times = after_each_pass()
    try:
        if side == "plain":
            plain(int(number), device, way, on_pass)
        else:
            ours(int(number), device, way, precision, on_pass)
    except WindowOver:
        print(json.dumps([SIZES[device][1] * (len(times) - 1), times[-1] - times[0]]), flush=True)
