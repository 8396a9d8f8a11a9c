"""Batches of records: stored in their own dtype; shuffled, cropped, flipped and normalised on the training device.

Records that stay in a file are read batch by batch, and then treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lacewing.config import Train
from lacewing.inputs import network_inputs
from lacewing.support.mapped import Mapped, Stored


class Mixed(NamedTuple):
    """What each record of a batch was mixed with: the other's label (B,), and the record's own share (B,) in 0..1."""

    labels: Tensor
    share: Tensor


class Batch(NamedTuple):
    """Inputs (B, C, H, W) or (B, D), float32, or token ids (B, L), int64; labels (B,), int64; what mixup added."""

    inputs: Tensor
    labels: Tensor
    mixed: Mixed | None = None


class Batches:
    """Shuffled, augmented, normalised batches; the records stay on the device in their own dtype, or in their file.

    Flip and crop (padding 4, black) are drawn per image and applied by one gather per batch. Mixup comes after them.
    """

    def __init__(
        self,
        x: Stored,
        y: npt.NDArray[np.int64],
        config: Train,
        normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        device: torch.device,
        channels_last: bool = True,
    ) -> None:
        self.config, self.channels_last = config, channels_last
        self.image = x.ndim == 4
        self.padding = 4 if "crop" in config.augment else 0
        if self.image:
            self.size = x.shape[2], x.shape[3]
        self.x = x if isinstance(x, Mapped) else self._laid_out(x).to(device)
        self.y = torch.from_numpy(np.ascontiguousarray(y)).to(device)
        self.mean, self.std = (torch.from_numpy(a).to(device) for a in normalisation)

    def __len__(self) -> int:
        return math.ceil(len(self.y) / self.config.batch_size)

    def draw(self, seed: int) -> tuple[Tensor, ...]:
        """The random draws of one pass: the order of records, and the offsets from top and left and the flip of each.

        With mixup also those of `draw_mixup`. Drawn on the CPU, so that they are the same on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.y), generator=generator)
        top, left = (self._offsets(generator) for _ in range(2))
        flip = torch.rand(len(self.y), generator=generator) < (0.5 if "flip" in self.config.augment else 0.0)
        mixup = self.config.mixup
        return order, top, left, flip, *(draw_mixup(seed, len(self.y), self.config.batch_size, mixup) if mixup else ())

    def epoch(self, seed: int) -> Iterator[Batch]:
        """One pass in an order drawn from ``seed``; the last batch may be smaller."""
        drawn = [t.to(self.y.device) for t in self.draw(seed)]
        for parts in zip(*(torch.split(t, self.config.batch_size) for t in drawn), strict=True):
            yield self.batch(*parts)

    def batch(self, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, *mixup: Tensor) -> Batch:
        """The batch of these draws, each of (B,)."""
        inputs, labels = self.gather(index, top, left, flip), self.y[index]
        return mix(Batch(inputs, labels), *mixup) if mixup else Batch(inputs, labels)

    def _laid_out(self, x: npt.NDArray[np.generic]) -> Tensor:
        """Records as they are cropped: padded, and with channels last, the layout in which convolutions are fastest."""
        records = torch.from_numpy(np.ascontiguousarray(x))
        return F.pad(records, (self.padding,) * 4).permute(0, 2, 3, 1).contiguous() if self.image else records

    def _held(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Records on the device, as `_laid_out`, and the places of the records ``index`` in them."""
        if isinstance(self.x, Tensor):
            return self.x, index
        read = self._laid_out(self.x[index.cpu().numpy()]).to(index.device)
        return read, torch.arange(len(index), device=index.device)

    def _offsets(self, generator: torch.Generator) -> Tensor:
        return torch.randint(0, 2 * self.padding + 1, (len(self.y),), generator=generator)

    def gather(self, index: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
        """The records ``index``, cropped, flipped and normalised: (B, C, H, W) or (B, D), float32; ids as int64."""
        records, index = self._held(index)
        if not self.image:
            return network_inputs(records[index], self.mean, self.std)
        height, width = self.size
        rows = top[:, None] + torch.arange(height, device=index.device)
        columns = torch.arange(width, device=index.device).expand(len(index), width)
        columns = left[:, None] + torch.where(flip[:, None], columns.flip(1), columns)
        batch = records[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        batch = ((batch.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        # A copy: with one channel the strides fit both layouts, and contiguous() would keep those of channels last.
        return batch if self.channels_last else batch.clone(memory_format=torch.contiguous_format)


class Normalised:
    """Normalised records (N, D) of a file, indexed like a tensor; each indexing reads them.

    Args:
        x: the records.
        mean, std: of each feature, (D,), on the device to train on.
    """

    def __init__(self, x: Mapped, mean: Tensor, std: Tensor) -> None:
        self.x, self.mean, self.std, self.device = x, mean, std, mean.device

    def __getitem__(self, index: Tensor) -> Tensor:
        """The records ``index`` (...,), (..., D)."""
        read = torch.from_numpy(self.x[index.flatten().cpu().numpy()]).to(self.device)
        found = (read.flatten(1).float() - self.mean) / self.std
        return found.view(*index.shape, found.shape[1])


def draw_mixup(seed: int, count: int, batch_size: int, alpha: float) -> tuple[Tensor, Tensor]:
    """The draws of mixup for one pass over ``count`` records (Zhang et al. 2018, section 2, and their code).

    Each batch is mixed with a permutation of itself, in one share that is drawn from Beta(alpha, alpha).

    Args:
        seed: of the pass.
        count: N, of the records.
        batch_size: records of a batch; the last one may have fewer.
        alpha: above 0.

    Returns:
        For each record in the order of the pass, (N,): the place in its batch of the record that it is mixed with, and
        its own share.
    """
    rng = np.random.default_rng(seed)
    sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    partner = np.concatenate([rng.permutation(size) for size in sizes])
    share = np.repeat(rng.beta(alpha, alpha, len(sizes)), sizes).astype(np.float32)
    return torch.from_numpy(partner), torch.from_numpy(share)


def mix(batch: Batch, partner: Tensor, share: Tensor) -> Batch:
    """Each record of a batch mixed with its partner: share x + (1 - share) x[partner] (Zhang et al. 2018, eq. 1).

    ``partner`` and ``share`` are as `draw_mixup` gives them, for this batch: (B,).
    """
    own = share.view(-1, *[1] * (batch.inputs.ndim - 1))
    inputs = own * batch.inputs + (1 - own) * batch.inputs[partner]
    return Batch(inputs, batch.labels, Mixed(batch.labels[partner], share))
