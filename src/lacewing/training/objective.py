"""What training minimises, and what its curve records: cross-entropy, with smoothed labels and mixed records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lacewing.training.batches import Mixed

# What a method adds to the mean loss of a batch, from logits (..., B, C) of one network or of several: (...).
Penalty = Callable[[Tensor], Tensor]


def losses(
    logits: Tensor,
    labels: Tensor,
    *,
    smoothing: float = 0.0,
    mixed: Mixed | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> tuple[Tensor, Tensor]:
    """The loss to minimise, and the loss to record, which has no gradient.

    The first is torch's cross_entropy with ``label_smoothing``; of mixed records the label of each of the two counts by
    its share. The second is the same without smoothing, so that curves of different smoothing can be compared.

    Args:
        logits: (B, C), float32.
        labels: (B,).
        smoothing: 0 to below 1.
        mixed: what the records were mixed with.
        reduction: "mean" gives the means over the batch, "none" the losses of its records, (B,).
    """
    target = labels if mixed is None else _shares(logits, labels, mixed)
    loss = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction=reduction)
    return loss, F.cross_entropy(logits.detach(), target, reduction=reduction) if smoothing else loss.detach()


def right(logits: Tensor, labels: Tensor, mixed: Mixed | None = None) -> Tensor:
    """1 for each record whose largest logit is that of its label, else 0; (..., C) and (...) to (...).

    Of a mixed record: the share of the label that has the largest logit.
    """
    found = logits.detach().argmax(-1)
    if mixed is None:
        return found == labels
    return mixed.share * (found == labels) + (1 - mixed.share) * (found == mixed.labels)


def _shares(logits: Tensor, labels: Tensor, mixed: Mixed) -> Tensor:
    """The shares of the classes in mixed records, (B, C)."""
    own = mixed.share[:, None]
    wanted = torch.zeros_like(logits, requires_grad=False)
    return wanted.scatter_add_(1, labels[:, None], own).scatter_add_(1, mixed.labels[:, None], 1 - own)
