"""Train a network by the user's own loop: normalised tensors go in, and what comes back is checked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.config import Train, shown
from lacewing.errors import DivergedError, UsageError, UserCodeError
from lacewing.results import Epoch
from lacewing.sparsify.guard import Guard
from lacewing.support.mapped import Stored
from lacewing.support.user_code import user_code
from lacewing.training.batches import Batches
from lacewing.training.loop import TrainingState, lay_out, stream
from lacewing.training.own_code import load, place_of

_MEMORY = (MemoryError, torch.OutOfMemoryError)  # the pool of workers knows what to do
_AT_ONCE = 1024  # records that are normalised at once


class _Ended(BaseException):
    """Leaves the user's loop; not an `Exception`, so that no handler takes it for a failure."""


def train_by(
    model: nn.Module,
    x: Stored,
    y: npt.NDArray[np.int64],
    config: Train,
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    seed: int,
    guard: Guard | None = None,
    on_epoch: Callable[[TrainingState], None] = lambda _: None,
    stop_after: int | None = None,
) -> TrainingState:
    """Train ``model`` in place by ``config.fit``, see docs/study.md. It begins at the first epoch each time.

    What the loop changes of torch's settings of the process (default dtype and device, gradient mode, deterministic
    algorithms, threads) is put back at its end, and does not reach what ``on_epoch`` does.

    Args:
        model, x, y, config, normalisation, seed, on_epoch: as of `lacewing.training.loop.train`.
        guard: of pruned weights; without one the loop gets one that has no masks.
        stop_after: end the loop after this epoch; the model is then as it was at its end.

    Raises:
        UserCodeError: the loop fails, does not call what it has to, or leaves another model than it was given.
        DivergedError: a loss or a weight became NaN or infinite.
    """
    function, fields = load(config)
    place, device = place_of(config), next(model.parameters()).device
    lay_out(model, x.ndim, config.channels_last)
    inputs, labels = _tensors(x, y, config, normalisation, device)
    guard = Guard(model, "none") if guard is None else guard
    guard.epoch = guard.step = 0
    progress, begun = TrainingState(), time.monotonic()
    ended: BaseException | None = None
    given, state, settings = dict(model.named_parameters()), _shapes(model), _Settings.now()

    def told(loss: Any, accuracy: Any) -> None:
        nonlocal ended
        if ended is not None:
            raise _Ended
        try:
            progress.curve.append(_epoch(place, config, len(progress.curve) + 1, loss, accuracy))
            if guard.epoch < len(progress.curve):  # a loop for `lacewing.sparsify.imp` counts the epochs itself
                guard.epoch_end()
            progress.seconds, progress.model = time.monotonic() - begun, model.state_dict()
            _undisturbed(model, settings, lambda: on_epoch(progress))
            if len(progress.curve) == stop_after:
                progress.model = {name: tensor.clone() for name, tensor in progress.model.items()}
                raise _Ended
        except BaseException as error:
            ended = error
            raise _Ended from None

    told.__name__ = told.__qualname__ = "on_epoch"  # as a traceback shows it
    returned = None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream(seed, "model"))
        model.train()
        try:
            with user_code(place):
                returned = function(model, inputs, labels, guard=guard, seed=seed, on_epoch=told, **fields)
        except UserCodeError as error:
            if ended is None and isinstance(error.__cause__, _MEMORY):
                raise error.__cause__ from None
            if ended is None:
                raise
        finally:
            settings.restore()
    if isinstance(ended, _Ended):
        _check_model(place, model, returned, given, state)
        model.load_state_dict(progress.model)
    elif ended is not None:
        raise ended
    else:
        _check_model(place, model, returned, given, state)
        _check_end(place, model, config, guard, progress)
    if not guard.attached:
        raise UserCodeError(f"{place} did not call guard.attach(optimizer); call it once, before the first step.")
    model.zero_grad(set_to_none=True)
    lay_out(model, x.ndim, config.channels_last)
    progress.model = model.state_dict()
    return progress


def _tensors(
    x: Stored,
    y: npt.NDArray[np.int64],
    config: Train,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """The records as the package's own loop gives them to the model, in their order, and their labels."""
    plain = config.model_copy(update={"augment": (), "mixup": 0.0})
    batches = Batches(x, y, plain, normalisation, device, False)
    parts = []
    for index in torch.split(torch.arange(len(y), device=device), _AT_ONCE):
        none = torch.zeros_like(index)
        parts.append(batches.batch(index, none, none, none.bool()).inputs)
    return torch.cat(parts), batches.y.clone()


def _epoch(place: str, config: Train, number: int, loss: Any, accuracy: Any) -> Epoch:
    """What the loop tells of an epoch."""
    if number > config.epochs:
        raise UserCodeError(
            f"{place} calls on_epoch more than {config.epochs:,} times, and train.epochs = {config.epochs}; call it "
            "once after each epoch, or set train.epochs."
        )
    try:
        mean_loss, share = (float(n.detach() if isinstance(n, Tensor) else n) for n in (loss, accuracy))
    except (TypeError, ValueError, RuntimeError):
        raise UserCodeError(
            f"{place} calls on_epoch({shown(loss)}, {shown(accuracy)}); give two numbers: the mean loss and the "
            "accuracy of the epoch."
        ) from None
    if not math.isfinite(mean_loss):
        raise DivergedError(f"the loss became {mean_loss} in epoch {number} of {config.fit}; train more gently.")
    if not 0 <= share <= 1:
        raise UserCodeError(f"{place} calls on_epoch with an accuracy of {share:g}; give a share from 0 to 1.")
    return Epoch(number, mean_loss, share, config.lr)


class _Settings(NamedTuple):
    """What torch keeps for the whole process, or thread."""

    dtype: torch.dtype
    device: torch.device
    gradients: bool
    deterministic: tuple[bool, bool]  # and whether it only warns
    threads: int

    @classmethod
    def now(cls) -> _Settings:
        deterministic = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
        return cls(torch.get_default_dtype(), torch.get_default_device(), gradients, deterministic, threads)

    def restore(self) -> None:
        torch.set_default_dtype(self.dtype)
        if torch.get_default_device() != self.device:  # None is the CPU, without a mode that slows every call
            torch.set_default_device(None if self.device.type == "cpu" else self.device)
        torch.set_grad_enabled(self.gradients)
        torch.use_deterministic_algorithms(self.deterministic[0], warn_only=self.deterministic[1])
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)


def _undisturbed(model: nn.Module, settings: _Settings, action: Callable[[], None]) -> None:
    """Run what observes the model under ``settings``, without a trace in modes, gradients or torch's random stream."""
    theirs = _Settings.now()
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    cuda = [parameter.device for parameter, _ in gradients[:1] if parameter.device.type == "cuda"]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        settings.restore()
        elsewhere = torch.get_default_device() != settings.device  # in a `with` of theirs
        with torch.random.fork_rng(cuda), torch.enable_grad(), settings.device if elsewhere else nullcontext():
            action()
    finally:
        theirs.restore()
        for module, training in modes:
            module.training = training
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _shapes(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    return {name: (t.dtype, str(t.device), tuple(t.shape)) for name, t in model.state_dict().items()}


def _check_model(
    place: str, model: nn.Module, returned: object, given: dict[str, nn.Parameter], state: dict[str, tuple[Any, ...]]
) -> None:
    """Refuse a model that is not the one that the loop was given, where it was given."""
    if isinstance(returned, nn.Module) and returned is not model:
        raise UserCodeError(f"{place} returns another model; train the one that it was given, in place.")
    now = dict(model.named_parameters())
    replaced = [name for name in {**given, **now} if given.get(name) is not now.get(name)]
    if replaced:
        raise UserCodeError(
            f"{place} replaces the parameter '{replaced[0]}' of the model; train the parameters that it has."
        )
    shapes = _shapes(model)
    changed = [name for name in {**state, **shapes} if state.get(name) != shapes.get(name)]
    if changed:
        told = [_tensor(each.get(changed[0])) for each in (state, shapes)]
        raise UserCodeError(
            f"{place} was given '{changed[0]}' of the model as {told[0]} and leaves it as {told[1]}; leave the model "
            "as it was given, where it was given."
        )


def _tensor(found: tuple[Any, ...] | None) -> str:
    if found is None:
        return "nothing"
    dtype, device, shape = found
    return f"{str(dtype).removeprefix('torch.')} of shape {shape} on {device}"


def _check_end(place: str, model: nn.Module, config: Train, guard: Guard, progress: TrainingState) -> None:
    """Refuse a training that ended early, or without numbers, or with pruned weights that are not zero."""
    if len(progress.curve) != config.epochs:
        raise UserCodeError(
            f"{place} called on_epoch {len(progress.curve)} times, and train.epochs = {config.epochs}; call it once "
            "after each epoch, or set train.epochs."
        )
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise DivergedError(f"'{name}' holds NaN or infinite values at the end of {config.fit}; train more gently.")
    try:
        guard.check()
    except UsageError as error:
        raise UserCodeError(f"{place}: {error}") from None
