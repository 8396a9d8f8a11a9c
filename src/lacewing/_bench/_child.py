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

from lacewing import data, models
from lacewing.config import Model, Train
from lacewing.train import best_precision, train

BATCH, IMAGES, LR = 128, 512, 0.01  # a pass of four batches: short beside the window
WARM_UP = 2
START = "import sys; from lacewing._bench._child import main; main(sys.argv[1], int(sys.argv[2]), sys.argv[3])"


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


def ours(seed: int, device: str, on_pass: Callable[[Any], None]) -> None:
    """Train as a worker of the local engine does: augmented batch by batch, channels last, precision "auto"."""
    torch.set_num_threads(1)
    x, y = images(seed)
    config = Train(
        epochs=1_000_000,
        batch_size=BATCH,
        lr=LR,
        schedule="constant",
        augment=("flip", "crop"),
        precision=best_precision(device),
    )
    torch.manual_seed(seed)
    model = models.build(Model(name="resnet20"), x.shape[1:], 10).to(device)
    train(model, x, y, config, normalisation=data.normalisation(x), seed=seed, on_epoch=on_pass)


def plain(threads: int, device: str, on_pass: Callable[[Any], None]) -> None:
    """The loop that everybody writes first: fp32, contiguous, no augmentation; images lie normalised on the device."""
    torch.set_num_threads(threads)
    x, y = images(0)
    mean, std = (values.reshape(1, 3, 1, 1) for values in data.normalisation(x))
    inputs, labels = torch.from_numpy((x - mean) / std).float().to(device), torch.from_numpy(y).to(device)
    torch.manual_seed(0)
    model = models.build(Model(name="resnet20"), x.shape[1:], 10).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    while True:
        for batch in range(0, IMAGES, BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[batch : batch + BATCH]), labels[batch : batch + BATCH])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss.item()  # an epoch's end waits for the device
        on_pass(None)


def main(side: str, number: int, device: str) -> None:
    """Train as "plain" with ``number`` threads or as "lacewing" with that seed, and print what was counted."""
    on_pass, times = after_each_pass()
    try:
        (ours if side == "lacewing" else plain)(number, device, on_pass)
    except WindowOver:
        print(json.dumps([IMAGES * (len(times) - 1), times[-1] - times[0]]), flush=True)
