"""What the loss gradient of a record does in each layer of a network, in few numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.gradients import Loss, Tensors, of_gradients

_FLOOR = 1e-20  # norms below are rounding of fp32


def layer_features(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    masks: Mapping[str, Tensor] | None = None,
    loss: Loss = nn.functional.cross_entropy,
) -> npt.NDArray[np.float32]:
    """(N, F) of each record's own loss gradient g, for each weight w of two axes or more, in the model's order.

    Three columns for a weight with a mask: log ||g_kept||, log ||g_pruned|| and the cosine between g_kept and w_kept;
    for one without a mask the first and the last. L2 norms, at least 1e-20. None depends on the order of neurons, so
    that they mean the same in networks of other initialisations.

    Args:
        model: on its device; its mode, gradients and buffers do not change. It is asked in evaluation mode and fp32.
        inputs: normalised inputs of the model.
        labels: (N,) the given labels, 0..C-1.
        masks: by parameter name, True for a kept weight.
        loss: see `lacewing.gradients.gradient_norms`.

    Raises:
        UsageError: a mask that belongs to another model.
    """
    masked = [
        name in (masks or {})
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and weight.is_floating_point()
    ]

    def summary(gradient: Tensors, weights: Tensors, keep: Tensors) -> Tensor:
        """(4 L,) of each weight: squares of g_kept and of g_pruned, g_kept . w_kept, squares of w_kept."""
        sums = []
        for name, weight in weights.items():
            if weight.ndim < 2:
                continue
            g = gradient.get(name, torch.zeros_like(weight))
            kept, w = (g * keep[name], weight * keep[name]) if name in keep else (g, weight)
            sums += [kept.square().sum(), (g - kept).square().sum(), (kept * w).sum(), w.square().sum()]
        return torch.stack(sums)

    found = of_gradients(model, inputs, labels, summary, masks=masks, loss=loss).double().cpu().numpy()
    columns = []
    for (kept, pruned, along, weight), has_mask in zip(
        found.reshape(len(inputs), -1, 4).transpose(1, 2, 0), masked, strict=True
    ):
        norm = np.maximum(np.sqrt(kept), _FLOOR)
        columns.append(np.log(norm))
        if has_mask:
            columns.append(np.log(np.maximum(np.sqrt(pruned), _FLOOR)))
        columns.append(along / (norm * np.maximum(np.sqrt(weight), _FLOOR)))
    return np.stack(columns, axis=1).astype(np.float32)
