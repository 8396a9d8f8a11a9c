"""Masks by parameter name, and the guard that keeps pruned weights at exactly zero.

Masks live outside the module: its state_dict keys, ``deepcopy`` and pickling stay what they were. True keeps a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lacewing.errors import UsageError

Masks = dict[str, Tensor]


def prunable(model: nn.Module) -> list[str]:
    """Names of the weights that pruning may touch: those of convolutions and linear layers, in module order.

    Batch norm and biases are never pruned.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return [f"{name}.weight" if name else "weight" for name, m in model.named_modules() if isinstance(m, kinds)]


def prune(model: nn.Module, masks: Mapping[str, Tensor], fraction: float) -> Masks:
    """Masks with ``floor(fraction x remaining)`` more weights pruned: the smallest by magnitude over all layers.

    Ties are broken by parameter order, then position, so that the count is exact and the choice deterministic.

    Args:
        model: the trained network.
        masks: what was pruned before; a prunable weight without a mask is whole.
        fraction: of the weights that remain, in (0, 1).

    Raises:
        UsageError: a weight is NaN or infinite, a mask is of another model, fraction is out of range, or nothing can
            be pruned.
    """
    parameters = dict(model.named_parameters())
    names = prunable(model)
    if not names:
        raise UsageError("the model has no convolution or linear weight to prune.")
    if not 0 < fraction < 1:
        raise UsageError(f"fraction = {fraction} is not between 0 and 1.")
    for name in masks:
        if name not in names:
            raise UsageError(f"a mask is of '{name}', which is no prunable weight; it belongs to another model.")
    weights = {name: parameters[name].detach() for name in names}
    current = {
        name: masks[name].to(w.device) if name in masks else torch.ones_like(w, dtype=torch.bool)
        for name, w in weights.items()
    }
    for name, weight in weights.items():
        if current[name].shape != weight.shape:
            raise UsageError(
                f"the mask of '{name}' has shape {tuple(current[name].shape)} and the weight {tuple(weight.shape)}; "
                "it belongs to another model."
            )
        if not torch.isfinite(weight).all():
            raise UsageError(f"weight '{name}' holds NaN or infinity, so its magnitudes cannot be ranked.")
    keep = torch.cat([current[name].flatten() for name in names])
    magnitude = torch.cat([weights[name].abs().flatten() for name in names])
    remaining = keep.nonzero().squeeze(1)
    order = torch.sort(magnitude[remaining], stable=True).indices
    count = int(fraction * len(remaining))
    keep = keep.clone()
    keep[remaining[order[:count]]] = False
    pieces = torch.split(keep, [weights[name].numel() for name in names])
    return {name: piece.view(weights[name].shape) for name, piece in zip(names, pieces, strict=True)}


def pack(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks as tensors for a safetensors file: eight weights a byte, and each shape beside its bits."""
    packed: dict[str, Tensor] = {}
    for name, mask in masks.items():
        packed[f"{name}|bits"] = torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))
        packed[f"{name}|shape"] = torch.tensor(mask.shape, dtype=torch.int64)
    return packed


def unpack(packed: Mapping[str, Tensor]) -> Masks:
    """The inverse of ``pack``."""
    masks: Masks = {}
    for key in packed:
        name, _, kind = key.rpartition("|")
        if kind == "bits":
            shape = tuple(packed[f"{name}|shape"].tolist())
            bits = np.unpackbits(packed[key].numpy(), count=int(np.prod(shape)))
            masks[name] = torch.from_numpy(bits.astype(bool)).view(shape)
    return masks


class Guard:
    """Keeps weight, gradient and optimiser state of pruned weights at exactly zero, and remembers the rewind point.

    A training function calls ``attach(optimizer)`` once and ``epoch_end()`` after each epoch; nothing else.

    Args:
        model: the network that is trained.
        rewind_epoch: after how many epochs of the first training the state is kept; 0 keeps the initialisation.
    """

    def __init__(self, model: nn.Module, rewind_epoch: int = 1) -> None:
        self.model = model
        self.masks: Masks = {}
        self.rewind_epoch = rewind_epoch
        self.epoch = 0
        self.origin: dict[str, Tensor] | None = None  # the rewind point: all parameters and buffers
        if rewind_epoch == 0:
            self._keep_origin()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what is pruned now, and after every step of ``optimizer`` from here on."""
        parameters = dict(self.model.named_parameters())
        pruned = [(parameters[name], mask.to(parameters[name].device)) for name, mask in self.masks.items()]
        if not pruned:
            return

        def before(*_: Any) -> None:  # so that gradient norms, momentum and second moments never see pruned weights
            pairs = [(p.grad, mask) for p, mask in pruned if p.grad is not None]
            if pairs:  # torch refuses empty lists
                torch._foreach_mul_([g for g, _ in pairs], [m for _, m in pairs])

        def after(*_: Any) -> None:
            weights: list[Tensor] = []
            masks: list[Tensor] = []
            for parameter, mask in pruned:
                state = optimizer.state.get(parameter, {}).values()
                like = [t for t in state if isinstance(t, Tensor) and t.shape == parameter.shape]
                for tensor in (parameter, *like):
                    weights.append(tensor)
                    masks.append(mask)
            with torch.no_grad():
                torch._foreach_mul_(weights, masks)

        after()
        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def epoch_end(self) -> None:
        """Count an epoch; at the rewind point of the first training, keep the state to return to."""
        self.epoch += 1
        if self.origin is None and self.epoch == self.rewind_epoch:
            self._keep_origin()

    def rewind(self) -> None:
        """Return parameters and buffers to the rewind point, with what is pruned at zero.

        Raises:
            UsageError: training ended before the rewind point was reached.
        """
        if self.origin is None:
            raise UsageError(
                f"the rewind point, the end of epoch {self.rewind_epoch}, was never reached: the training function "
                "must call guard.epoch_end() after each epoch and train at least that long."
            )
        self.model.load_state_dict(self.origin)
        self.epoch = 0
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, mask in self.masks.items():
                parameters[name].mul_(mask.to(parameters[name].device))

    def _keep_origin(self) -> None:
        self.origin = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
