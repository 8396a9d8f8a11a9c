"""Train several perceptrons at once, with one batched product instead of one small product per model.

At batch 32 a step of a small perceptron is mostly overhead, which a stack shares. The bytes of a network depend on its
own records and seed, and on its place in the stack and the size of the stack, but not on the other networks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.config import Train
from lacewing.errors import UsageError
from lacewing.results import Epoch
from lacewing.sparsify.masks import Masks
from lacewing.support.mapped import Mapped, Stored
from lacewing.training import objective
from lacewing.training.batches import Batch, Normalised, draw_mixup, mix
from lacewing.training.loop import TrainingState, lr_at, stream
from lacewing.training.optimizers import State, optimizer_of, tensors_of

_PLAIN = (nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout)
_SHARED = "step"  # what an optimiser holds of all networks of a stack at once: the number of steps


@runtime_checkable
class StackTrainer(Protocol):
    """Another way to train an epoch of a stack, see `lacewing.training.loop.Trainer`."""

    def stack_epoch(
        self,
        stack: Stack,
        optimizer: torch.optim.Optimizer,
        records: Tensor | Normalised,
        labels: Tensor,
        members: Tensor,
        config: Train,
        seeds: Sequence[int],
        rates: Sequence[float],
    ) -> Tensor:
        """Train K networks in place; (2, K): their mean losses and accuracies.

        Args:
            stack: the networks.
            optimizer: that of ``config`` over the parameters of the stack.
            records: normalised, (N, D), indexed by tensors of rows.
            labels: (N,).
            members: the records of each network, (K, M).
            config: the networks' [train].
            seeds: K, of what an epoch of each draws.
            rates: the learning rate of each step.
        """


def train_stack(
    models: Sequence[nn.Sequential],
    x: Stored,
    y: npt.NDArray[np.int64],
    members_KM: npt.NDArray[np.int64],
    config: Train,
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    seeds: Sequence[int],
    masks: Sequence[Masks] | None = None,
    progress: Sequence[TrainingState] | None = None,
    on_epoch: Callable[[list[TrainingState]], None] = lambda _: None,
    stop_after: int | None = None,
    trainer: StackTrainer | None = None,
) -> list[TrainingState]:
    """Train K perceptrons of one shape in place, each as ``train`` would: the same order of records, up to rounding.

    A network whose loss becomes NaN continues beside the others; its curve shows it.

    Args:
        models: K sequences of Flatten, Linear, ReLU and Dropout, as from ``models.mlp``.
        x: raw records of all networks, (N, D).
        y: labels, (N,).
        members_KM: the records that each network trains on, rows of ``x``.
        config: epochs, batch size, optimiser, schedule, clipping of each network, label smoothing, mixup; in fp32,
            without augmentation. The dropout of the models is ``config.dropout``; its draws are those of ``train`` on
            the CPU.
        normalisation: mean and standard deviation per feature.
        seeds: K, of the order, mixup and dropout.
        masks: K, of pruned weights.
        progress: K, from checkpoints of the same epoch: training continues after it, with the same bits.
        on_epoch: called after each epoch with the K states; an exception that it raises ends training.
        stop_after: train only this many epochs of the schedule.
        trainer: trains each epoch in another way.

    Returns:
        K states.

    Raises:
        UsageError: models or settings that cannot be stacked.
    """
    _check(models, config)
    device = next(models[0].parameters()).device
    mean, std = (torch.from_numpy(a).to(device).flatten() for a in normalisation)
    records = (
        Normalised(x, mean, std)
        if isinstance(x, Mapped)
        else (torch.from_numpy(np.ascontiguousarray(x)).to(device).flatten(1).float() - mean) / std
    )
    labels, members = torch.from_numpy(y).to(device), torch.from_numpy(members_KM).to(device)
    count = members.shape[1]
    states = list(progress) if progress is not None else [TrainingState() for _ in models]
    for model, state in zip(models, states, strict=True):
        if state.curve:
            model.load_state_dict(state.model)
    stack = Stack(models, masks or [{} for _ in models])
    optimizer = optimizer_of(stack.parameters, config, fused=True)
    stack.load_state(optimizer, states)
    first, steps = len(states[0].curve), math.ceil(count / config.batch_size)
    begun = time.monotonic() - len(models) * states[0].seconds
    for epoch in range(first, config.epochs if stop_after is None else stop_after):
        rates = [lr_at(config, epoch * steps + step, steps) for step in range(steps)]
        passes = [stream(seed, epoch, "batches") for seed in seeds]
        stack.reseed([stream(seed, epoch, "model") for seed in seeds])
        if trainer is None:
            means = stack.train_epoch(optimizer, records, labels, members, config, passes, rates)
        else:
            means = trainer.stack_epoch(stack, optimizer, records, labels, members, config, passes, rates)
        stack.unload(models)
        for k, (mean_loss, accuracy) in enumerate(means.T.tolist()):
            states[k].curve.append(Epoch(epoch + 1, mean_loss, accuracy, rates[-1]))
            states[k].seconds = (time.monotonic() - begun) / len(models)
            states[k].model = models[k].state_dict()
            states[k].optimizer = stack.state(optimizer, k)
        on_epoch(states)
    return states


def _check(models: Sequence[nn.Sequential], config: Train) -> None:
    for model in models:
        if not isinstance(model, nn.Sequential) or not all(isinstance(layer, _PLAIN) for layer in model):
            raise UsageError('train.stack is for perceptrons (model.name = "mlp"); set it to 1 for other models.')
    if any(layer.p != config.dropout for model in models for layer in model if isinstance(layer, nn.Dropout)):
        raise UsageError(f"train.stack: the models have another dropout than train.dropout = {config.dropout:g}.")
    if config.dropout and not all(any(isinstance(layer, nn.Dropout) for layer in model) for model in models):
        raise UsageError(f"train.stack: the models have no dropout, and train.dropout = {config.dropout:g}.")
    if len({tuple(p.shape for p in model.parameters()) for model in models}) > 1:
        raise UsageError("train.stack: the models have different shapes; stack models of one shape.")
    if config.precision == "bf16" or config.augment:
        raise UsageError(
            'train.stack needs train.precision = "fp32" and no train.augment; change them, or set it to 1.'
        )


def _batches(members: Tensor, config: Train, seeds: Sequence[int]) -> Iterator[tuple[Tensor, ...]]:
    """The batches of one pass, as ``Batches`` draws them: indices and, with mixup, partners and shares; each (K, B)."""
    count = members.shape[1]
    orders = [torch.randperm(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    drawn = [members.gather(1, torch.stack(orders).to(members.device))]
    if config.mixup:
        mixed = [draw_mixup(seed, count, config.batch_size, config.mixup) for seed in seeds]
        drawn += [torch.stack(each).to(members.device) for each in zip(*mixed, strict=True)]
    return zip(*(torch.split(each, config.batch_size, dim=1) for each in drawn), strict=True)


class Stack:
    """Weights (K, inputs, outputs), the faster order for batched products, and biases."""

    def __init__(self, models: Sequence[nn.Sequential], masks: Sequence[Masks]) -> None:
        self.layers = list(models[0])
        self.names = [name for name, _ in models[0].named_parameters()]
        columns = zip(*(model.parameters() for model in models), strict=True)
        self.parameters = [_stacked([p.detach() for p in column]).requires_grad_() for column in columns]
        self.generators = [torch.Generator(self.parameters[0].device) for _ in models]
        self.pruned: dict[int, Tensor] = {}
        for place, name in enumerate(self.names):
            if any(name in mask for mask in masks):
                whole = torch.ones_like(models[0].get_parameter(name), dtype=torch.bool)
                self.pruned[place] = ~_stacked([mask.get(name, whole).to(whole.device) for mask in masks])
        with torch.no_grad():
            for place, pruned in self.pruned.items():
                self.parameters[place].masked_fill_(pruned, 0)

    def reseed(self, seeds: Sequence[int]) -> None:
        """Begin the networks' own random streams, those of dropout."""
        for generator, seed in zip(self.generators, seeds, strict=True):
            generator.manual_seed(seed)

    @property
    def linear(self) -> list[nn.Linear]:
        """The linear layers of one network, in their order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor, seen: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """(K, N, features) to (K, N, classes), in training mode; in ``seen`` goes what linear layers get and give."""
        parameters = iter(self.parameters)
        for layer in self.layers:
            if isinstance(layer, nn.ReLU):
                x = x.relu()
            elif isinstance(layer, nn.Dropout):
                kept = [torch.empty_like(own).bernoulli_(1 - layer.p, generator=g) for own, g in self._own(x)]
                x = x * torch.stack(kept).div_(1 - layer.p)
            elif isinstance(layer, nn.Linear):
                weight, got = next(parameters), x
                x = torch.bmm(x, weight) if layer.bias is None else torch.baddbmm(next(parameters)[:, None], x, weight)
                if seen is not None:
                    seen.append((got, x))
        return x

    def train_epoch(
        self,
        optimizer: torch.optim.Optimizer,
        records: Tensor | Normalised,
        labels: Tensor,
        members: Tensor,
        config: Train,
        seeds: Sequence[int],
        rates: Sequence[float],
        penalty: objective.Penalty | None = None,
    ) -> Tensor:
        """Plain steps on shuffled batches, see `StackTrainer.stack_epoch`; (2, K) mean losses and accuracies."""
        sums, smoothing = torch.zeros(2, len(seeds), device=records.device), config.label_smoothing
        for (index, *mixup), lr in zip(_batches(members, config, seeds), rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr
            inputs, wanted, mixed = _flat(records[index], labels[index], *mixup)
            answers = self.forward(inputs.view(*index.shape, -1))
            logits = answers.flatten(0, 1)
            losses, recorded = objective.losses(logits, wanted, smoothing=smoothing, mixed=mixed, reduction="none")
            loss = losses.view(index.shape).mean(1)
            if penalty is not None:
                loss = loss + penalty(answers)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            self.mask_gradients()
            self.clip(config)
            optimizer.step()
            found = [recorded, objective.right(logits, wanted, mixed)]
            sums += torch.stack([each.view(index.shape).sum(1) for each in found])
        return sums / members.shape[1]

    def _own(self, x: Tensor) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Each network's part of (K, N, features), with its random stream."""
        return zip(x.detach(), self.generators, strict=True)

    def mask_gradients(self) -> None:
        """With weight and state of the optimiser at zero, a zero gradient keeps both there."""
        for place, pruned in self.pruned.items():
            gradient = self.parameters[place].grad
            assert gradient is not None
            gradient.masked_fill_(pruned, 0)

    def clip(self, config: Train) -> None:
        """Scale down the gradient of each network whose norm is above ``config.clip_norm``, as torch does; 0: none."""
        if not config.clip_norm:
            return
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(each.flatten(1), dim=1) for each in gradients])
        factors = (config.clip_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_max(1.0)
        for each in gradients:
            each.mul_(factors.view(-1, *[1] * (each.ndim - 1)))

    def unload(self, models: Sequence[nn.Sequential]) -> None:
        """Copy the weights back into their models."""
        with torch.no_grad():
            for k, model in enumerate(models):
                for parameter, stacked in zip(model.parameters(), self.parameters, strict=True):
                    parameter.copy_(_turned(stacked[k]))

    def state(self, optimizer: torch.optim.Optimizer, k: int) -> State:
        """What the optimiser holds of one network, see `lacewing.training.optimizers.state_of`."""
        found: State = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for kind, tensor in tensors_of(optimizer, parameter).items():
                own = tensor if kind == _SHARED else _turned(tensor[k])
                found.setdefault(kind, {})[name] = own.clone()
        return found

    def load_state(self, optimizer: torch.optim.Optimizer, states: Sequence[TrainingState]) -> None:
        """From checkpoints of one epoch, where there are any."""
        for kind, first in states[0].optimizer.items():
            for name, parameter in zip(self.names, self.parameters, strict=True):
                if name in first:
                    each = [state.optimizer[kind][name].to(parameter.device) for state in states]
                    held = each[0].clone() if kind == _SHARED else _stacked(each)
                    optimizer.state[parameter][kind] = held


def _flat(inputs: Tensor, labels: Tensor, *mixup: Tensor) -> Batch:
    """The batches of K networks, (K, B, D) and (K, B), as one of K B records; each is mixed within itself."""
    networks, size = labels.shape
    batch = Batch(inputs.flatten(0, 1), labels.flatten())
    if not mixup:
        return batch
    partner, share = mixup
    first = size * torch.arange(networks, device=partner.device)[:, None]
    return mix(batch, (first + partner).flatten(), share.flatten())


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([_turned(tensor) for tensor in tensors]).contiguous()


def _turned(tensor: Tensor) -> Tensor:
    return tensor.t() if tensor.ndim == 2 else tensor
