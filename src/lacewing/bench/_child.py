"""One training process of ``lacewing bench train``.

It is told whose loop, "plain" or "lacewing", and how to train. It trains two passes
over its images as warm-up, says that it is ready, receives when the common window starts and ends, and sends the images
of the passes that it finished inside it and the seconds that they took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lacewing import data
from lacewing.bench._resnet import LR, SIZES, images, network, settings
from lacewing.support.child import Parent
from lacewing.training.loop import train
from lacewing.training.replay import recordings_for

WARM_UP = 2


class WindowOver(Exception):
    """The window has ended."""


def after_each_pass(parent: Parent) -> tuple[Callable[[Any], None], list[float]]:
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
            parent.send({"ready": True})
            window = parent.receive()
            start, close = window["start"], window["end"]
            time.sleep(max(0.0, start - time.monotonic()))  # the clock is the same for all processes
        if (now := time.monotonic()) > close:
            raise WindowOver
        times.append(now)

    return call, times


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


def serve() -> None:
    """Train as the setup says, and send what was counted."""
    parent = Parent()
    setup = parent.receive()
    device, way = setup["device"], setup["way"]
    on_pass, times = after_each_pass(parent)
    try:
        if setup["side"] == "plain":
            plain(setup["threads"], device, way, on_pass)
        else:
            ours(setup["seed"], device, way, setup["precision"], on_pass)
    except WindowOver:
        parent.send({"images": SIZES[device][1] * (len(times) - 1), "seconds": times[-1] - times[0]})


if __name__ == "__main__":
    serve()
