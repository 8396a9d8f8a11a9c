"""The training loop. Its randomness is a function of (seed, epoch), so that resuming after an epoch is exact."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.config import Train
from lacewing.errors import DivergedError, UsageError, did_you_mean
from lacewing.results import Epoch
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import Masks
from lacewing.support.mapped import Mapped, Stored
from lacewing.support.text import say
from lacewing.training import objective
from lacewing.training.batches import Batch, Batches
from lacewing.training.optimizers import State, clip, load_state, optimizer_of, state_of
from lacewing.training.replay import Recordings, Replay


@dataclass
class TrainingState:
    """The state of a training, as in a checkpoint: weights, what the optimiser holds, ``seconds`` spent so far."""

    curve: list[Epoch] = field(default_factory=list)
    model: dict[str, Tensor] = field(default_factory=dict)
    optimizer: State = field(default_factory=dict)
    seconds: float = 0.0


class Trainer(Protocol):
    """Another way to train an epoch than plain steps on shuffled batches, see `lacewing.methods.Method.trainer`."""

    def epoch(
        self,
        model: nn.Module,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        seed: int,
        rates: Sequence[float],
        masks: Masks,
    ) -> Tensor:
        """Train ``model`` in place; (2,): the mean loss and the accuracy over the records that it was trained on.

        Args:
            model: in training mode; torch's own random stream is set.
            batches: the records; ``batches.config`` is the network's [train].
            optimizer: that of ``batches.config`` over the model's parameters.
            seed: of everything that the epoch draws, so that it is the same after a break.
            rates: the learning rate of each step.
            masks: of pruned weights, which stay zero whatever the gradients are.
        """


def train(
    model: nn.Module,
    x: Stored,
    y: npt.NDArray[np.int64],
    config: Train,
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    seed: int,
    guard: Guard | None = None,
    progress: TrainingState | None = None,
    on_epoch: Callable[[TrainingState], None] = lambda _: None,
    stop_after: int | None = None,
    recordings: Recordings | None = None,
    trainer: Trainer | None = None,
) -> TrainingState:
    """Train ``model`` in place on cross-entropy, with the optimiser and the whole schedule of ``config``.

    The curve holds the mean cross-entropy of the labels without smoothing, and the share of right answers, over the
    batches as they are trained on: augmented, with dropout, and under mixup of mixed records, whose two labels count by
    their shares. All three make the curve's accuracy lower than that of the trained network on the same records.

    Args:
        model: on the device to train on.
        x: raw records, (N, C, H, W) or (N, D).
        y: labels, (N,).
        config: epochs, batch size, optimiser, schedule, clipping, augmentation, label smoothing, mixup, precision.
            Dropout is the model's own, see ``lacewing.models.build``.
        normalisation: mean and standard deviation per channel or feature.
        seed: of the order, the augmentation, mixup, and the model's own randomness (dropout).
        guard: masks of pruned weights.
        progress: from a checkpoint: training continues after its last epoch, with the same bits as without the break.
        on_epoch: called after each epoch; an exception that it raises ends training.
        stop_after: train only this many epochs of the schedule.
        recordings: of steps, see ``lacewing.training.replay``; without them, and where the model cannot be recorded,
            steps run one operation after another.
        trainer: trains each epoch in another way; its steps are not recorded.

    Raises:
        DivergedError: the loss became NaN or infinite; the message names the epoch.
    """
    device = next(model.parameters()).device
    channels_last = lay_out(model, x.ndim, config.channels_last)
    batches = Batches(x, y, config, normalisation, device, channels_last)
    recorded = recordings is not None and device.type == "cuda"
    optimizer = optimizer_of(model.parameters(), config, fused=True if recorded else None, capturable=recorded)
    progress = _restore(progress or TrainingState(), model, optimizer)
    if guard is not None:
        guard.attach(optimizer)
    model.train()
    begun = time.monotonic() - progress.seconds
    devices = [device] if device.type == "cuda" else []
    replay, masks = None, guard.masks if guard is not None else {}
    if (
        trainer is None
        and recordings is not None
        and not isinstance(batches.x, Mapped)  # whose records are no tensor that a recording could read
        and (guard is None or guard.point.unit == "epoch" or guard.origin_at is not None)
    ):
        with torch.random.fork_rng(devices):
            replay = _replay(recordings, model, batches, masks)
    if guard is not None:
        guard.epoch, guard.step = len(progress.curve), len(progress.curve) * len(batches)
    with (
        torch.random.fork_rng(devices),  # the caller's random state does not change
        replay.lent_to(model, optimizer, batches, masks) if replay is not None else nullcontext(),
    ):
        for epoch in range(len(progress.curve), config.epochs if stop_after is None else stop_after):
            progress.curve.append(_train_epoch(model, batches, optimizer, config, seed, epoch, replay, trainer, masks))
            if guard is not None:
                if replay is not None:
                    guard.step = (epoch + 1) * len(batches)  # replayed steps do not count themselves
                guard.epoch_end()
            progress.seconds = time.monotonic() - begun
            _keep(progress, model, optimizer)
            on_epoch(progress)
    if guard is not None:
        guard.trained = bool(progress.curve)  # also by steps that were replayed, or taken before a break
    if replay is not None:  # the next network will be trained in its memory
        _keep(progress, model, optimizer)
    return progress


def _train_epoch(
    model: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    config: Train,
    seed: int,
    epoch: int,
    replay: Replay | None,
    trainer: Trainer | None,
    masks: Masks,
) -> Epoch:
    """Train epoch ``epoch`` (from 0). Raises `DivergedError` where its loss is not finite."""
    torch.manual_seed(stream(seed, epoch, "model"))
    rates = [lr_at(config, epoch * len(batches) + step, len(batches)) for step in range(len(batches))]
    drawn = stream(seed, epoch, "batches")
    if trainer is not None:
        means = trainer.epoch(model, batches, optimizer, drawn, rates, masks)
    elif replay is None:
        means = torch.stack(one_by_one(model, batches, optimizer, config, drawn, rates)) / len(batches.y)
    else:
        means = torch.stack(replay.epoch(drawn, rates)) / len(batches.y)
    mean_loss, accuracy = means.tolist()
    if not math.isfinite(mean_loss):
        raise DivergedError(
            f"the loss became {mean_loss} in epoch {epoch + 1}; "
            f"try a smaller train.lr (now {config.lr:g}) or, on noisy labels, a larger train.batch_size."
        )
    return Epoch(epoch + 1, mean_loss, accuracy, rates[-1])


def _keep(progress: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Store the current state; its tensors are shared with the model and the optimiser."""
    progress.model = model.state_dict()
    progress.optimizer = state_of(optimizer, model)


def one_by_one(
    model: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    config: Train,
    seed: int,
    rates: Sequence[float],
    penalty: objective.Penalty | None = None,
) -> tuple[Tensor, Tensor]:
    """Train an epoch; the sum of losses over records and the number of correct answers, on the device."""
    device = batches.y.device
    loss_sum, right = torch.zeros((), device=device), torch.zeros((), device=device)
    for lr, batch in zip(rates, batches.epoch(seed), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss, correct = train_step(model, batch, optimizer, config, penalty)
        loss_sum += loss * len(batch.labels)
        right += correct
    return loss_sum, right


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: Train,
    penalty: objective.Penalty | None = None,
) -> tuple[Tensor, Tensor]:
    """Forward, backward, clipping, optimiser; the mean loss to record and the number of right answers (`objective`)."""
    inputs, labels, mixed = batch
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        logits: Tensor = model(inputs)
    loss, recorded = objective.losses(logits.float(), labels, smoothing=config.label_smoothing, mixed=mixed)
    if penalty is not None:
        loss = loss + penalty(logits.float())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    clip(model.parameters(), config)
    optimizer.step()
    return recorded, objective.right(logits, labels, mixed).sum()


def _replay(recordings: Recordings, model: nn.Module, batches: Batches, masks: Masks) -> Replay | None:
    try:
        return recordings.of(model, batches, masks)
    except (RuntimeError, TypeError) as error:
        if recordings.strict:
            raise
        why = str(error).splitlines()[0]
        say(f"lacewing: this model's steps cannot be recorded ({why}); they run one by one.", file=sys.stderr)
        return None


def _restore(progress: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
    if progress.curve:
        model.load_state_dict(progress.model)
        load_state(optimizer, model, progress.optimizer)
    return progress


def lr_at(config: Train, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0: the rate of the schedule, less in the first steps of a warm-up.

    One cycle (Smith & Topin 2019) in cosine form rises from lr/25 to lr over the first 30 % of the steps and falls to
    lr/250,000 at the last one. The others may have a warm-up of W steps, the share ``warmup`` of all S: step k has
    (k + 1) / W of its rate. Cosine (Loshchilov & Hutter 2017, without restarts) then falls as half a cosine over the
    steps W to S, and would be 0 at step S. Step and constant do not depend on W.
    """
    steps = config.epochs * steps_per_epoch
    if config.schedule == "one-cycle":
        return _one_cycle(config.lr, step, steps)
    rising = round(config.warmup * steps)
    rise = min(1.0, (step + 1) / rising) if rising else 1.0
    if config.schedule == "constant":
        return config.lr * rise
    if config.schedule == "step":
        epoch = step // steps_per_epoch
        passed = sum(epoch >= math.floor(share * config.epochs) for share in config.milestones)
        return config.lr * config.gamma**passed * rise
    return config.lr * rise if step < rising else _cosine(config.lr, 0.0, (step - rising) / (steps - rising))


def _one_cycle(lr: float, step: int, steps: int) -> float:
    last = steps - 1
    peak = 0.3 * (last + 1) - 1
    first, final = lr / 25, lr / 25e4
    if step <= peak:
        return _cosine(first, lr, step / peak)
    return _cosine(lr, final, (step - peak) / (last - peak))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def stream(seed: int, *names: object) -> int:
    """A 63-bit seed for the random stream of these names; streams of different names are independent."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def lay_out(model: nn.Module, dims: int, channels_last: bool) -> bool:
    """Put a model into its memory layout for training on records of ``dims`` dimensions, including N.

    Channels-last where ``channels_last`` is set, the records are images (``dims`` 4) and `survives_channels_last`; else
    contiguous. Returns whether it is channels-last.
    """
    chosen = channels_last and dims == 4 and survives_channels_last(model)
    model.to(memory_format=torch.channels_last if chosen else torch.contiguous_format)  # type: ignore[call-overload]
    return chosen


def survives_channels_last(model: nn.Module) -> bool:
    """Whether oneDNN can train the model in channels-last layout without writing past its workspace.

    Strided 1x1 convolutions of fewer than 16 channels corrupt memory in the backward pass on the CPU (oneDNN issue
    6035, seen with torch 2.13 on AVX2); a model with such a convolution is trained in the contiguous layout, on every
    device.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return all(c.in_channels >= 16 or c.kernel_size != (1, 1) or c.stride == (1, 1) for c in convolutions)


def choose_device(device: str) -> Literal["cpu", "cuda"]:
    """Resolve "auto", "cpu" or "cuda" to the device of this machine.

    Raises:
        UsageError: an unknown name, or CUDA without a CUDA device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: {did_you_mean(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu.")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
