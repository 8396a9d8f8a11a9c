"""The optimiser that [train] names, its state in checkpoints, and clipping by the norm of the whole gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.config import Train

# The state of an optimiser by the names of torch's tensors, then of parameters: {"exp_avg": {"0.weight": ...}, ...}.
State = dict[str, dict[str, Tensor]]


def optimizer_of(
    parameters: Iterable[Tensor],
    config: Train,
    *,
    lr: float | Tensor | None = None,
    fused: bool | None = None,
    foreach: bool | None = None,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """The optimiser of ``config`` over these parameters, all with the same settings.

    Args:
        parameters: of a network or of a stack.
        config: ``optimizer``, ``optimizer_options``, ``lr``, ``momentum``, ``weight_decay``.
        lr: instead of the one of ``config``.
        fused, foreach: as torch's.
        capturable: whether steps are recorded as CUDA graphs.
    """
    rate = config.lr if lr is None else lr
    if config.optimizer == "sgd":
        assert config.momentum is not None
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
            foreach=foreach,
            **config.optimizer_options,
        )
    of_torch = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    options: dict[str, Any] = {name: _as_torchs(value) for name, value in config.optimizer_options.items()}
    return of_torch(
        parameters,
        lr=rate,
        weight_decay=config.weight_decay,
        fused=fused,
        foreach=foreach,
        capturable=capturable,
        **options,
    )


def _as_torchs(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def clip(parameters: Iterable[Tensor], config: Train) -> None:
    """Scale the gradients of one network down to the norm ``config.clip_norm``, where theirs is larger; 0: never."""
    if config.clip_norm:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)


def tensors_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What the optimiser holds of a parameter, by torch's names; empty before its first step."""
    held: Mapping[str, Any] = optimizer.state.get(parameter, {})
    return {kind: tensor for kind, tensor in held.items() if isinstance(tensor, Tensor)}


def state_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> State:
    """The whole state, which shares the memory of the optimiser."""
    found: State = {}
    for name, parameter in model.named_parameters():
        for kind, tensor in tensors_of(optimizer, parameter).items():
            found.setdefault(kind, {})[name] = tensor
    return found


def load_state(optimizer: torch.optim.Optimizer, model: nn.Module, state: State) -> None:
    """Continue with a state from a checkpoint."""
    for kind, tensors in state.items():
        for name, parameter in model.named_parameters():
            if name in tensors:
                optimizer.state[parameter][kind] = _like(kind, tensors[name], parameter, optimizer)


def _like(kind: str, tensor: Tensor, parameter: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """A copy where torch keeps it: a count of steps on the CPU unless steps are fused, all else as the parameter."""
    if kind != "step":
        return torch.empty_like(parameter).copy_(tensor).detach()
    fused = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    return tensor.to(parameter.device if fused else "cpu").clone()
