"""What ``lacewing bench train`` trains: ResNet-20 on random images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lacewing import models
from lacewing.config import Model, Train

LR = 0.01
SIZES = {"cpu": (128, 512), "cuda": (256, 15_000)}  # batch, and images of a pass, which is short beside the window


def images(count: int, seed: int) -> tuple[Any, Any]:
    """Random uint8 images (N, 3, 32, 32) and labels (N,)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, count)


def settings(device: str, precision: str) -> Train:
    """What ours trains with."""
    fields = {"epochs": 100_000, "batch_size": SIZES[device][0], "lr": LR, "schedule": "constant"}
    return Train.model_validate({**fields, "augment": ("flip", "crop"), "precision": precision})


def network(seed: int) -> torch.nn.Module:
    """A fresh ResNet-20."""
    torch.manual_seed(seed)
    return models.build(Model(name="resnet20"), (3, 32, 32), 10)
