"""The guard keeps pruned weights at exactly zero during training and rewinds the network to its rewind point."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lacewing.errors import UsageError
from lacewing.sparsify._averages import warn_of_dense_averages
from lacewing.sparsify._held import Held, leaves_zeros
from lacewing.sparsify._optimizers import check_held, unwrapped
from lacewing.sparsify.masks import Masks, apply_masks, check_masks

_T = TypeVar("_T")


@dataclass(frozen=True)
class Rewind:
    """What pruning rewinds: the remaining weights, and the place in the schedule where training continues.

    Args:
        weights: "point" returns them to the rewind point, "keep" leaves them as trained.
        schedule: "start" (the whole schedule again), "point" (from the rewind point on) or "end" (fine-tuning).
        unit, at: the rewind point, in epochs or optimiser steps of the first training.
    """

    weights: Literal["point", "keep"]
    schedule: Literal["start", "point", "end"]
    unit: Literal["epoch", "step"] = "step"
    at: int = 0

    def __str__(self) -> str:
        return f"{self.unit} {self.at}" if self.at else "the initialisation"

    @classmethod
    def parse(cls, text: str) -> Rewind:
        """Parse a rewind setting.

        - ``"init"``: weights to their initialisation (Frankle & Carbin 2019).
        - ``"epoch 1"``, ``"step 500"``: weights to that point of the first training, then the whole schedule again.
        - ``"epoch 1 resumed"``, ``"step 500 resumed"``: the schedule continues from that point too (Frankle et al.
          2020).
        - ``"learning-rate"``, ``"learning-rate epoch 10"``: weights stay, only the schedule is rewound (Renda,
          Frankle & Carbin 2020).
        - ``"none"``: weights stay and the schedule stays at its end: fine-tuning (Han et al. 2015).

        Raises:
            UsageError: anything else.
        """
        if text == "none":
            return cls("keep", "end")
        if text == "learning-rate":
            return cls("keep", "start")
        found = re.fullmatch(r"(learning-rate )?(?:init|(epoch|step) ([0-9]+)( resumed)?)", text)
        if found is None or (found[1] and (found[4] or not found[2])):
            raise UsageError(
                f"rewind {text!r} must be 'init', 'epoch K', 'step K' (each K also with ' resumed'), 'learning-rate', "
                "'learning-rate epoch K', 'learning-rate step K' or 'none'."
            )
        at = int(found[3] or 0)
        unit: Literal["epoch", "step"] = "epoch" if found[2] == "epoch" and at else "step"
        if found[1]:
            return cls("keep", "point" if at else "start", unit, at)
        return cls("point", "point" if found[4] and at else "start", unit, at)


class Guard:
    """Keeps weight, gradient and optimiser state of pruned weights at exactly zero, and remembers the rewind point.

    A training function calls ``attach(optimizer)`` once and ``epoch_end()`` after each epoch; nothing else. ``epoch``
    and ``step`` are the place in its schedule where it starts: 0, unless ``rewind`` says otherwise.

    Gradients are masked when they have been accumulated in ``grad``, so that clipping by norm and gradient scaling see
    only those of kept weights, and once more before a step. After each step weights and optimiser
    state of their shape (momentum, second moments) are zero, see ``lacewing.sparsify._held``. The model itself is not
    changed: no buffers, no renamed parameters, and hooks that ``deepcopy`` and pickling leave out.

    Args:
        model: the network that is trained; inside DistributedDataParallel, the one that was wrapped.
        rewind: see ``Rewind.parse``.
        masks: by parameter name, True for a kept weight.

    ``trained`` becomes True when an attached optimiser takes a step. A training function that loads a finished network
    of ``imp`` instead of training it sets it itself.

    To continue a sequence in another process, set ``masks``, ``origin`` (the state dict at the rewind point)
    and, for a schedule that is rewound to it, ``origin_at`` (its epoch and step); under "none", ``epoch`` and ``step``.
    Of a sequence that began with a sparse network set ``began`` too, how many prunable weights level 0 kept.
    """

    def __init__(
        self, model: nn.Module, rewind: str | Rewind = "epoch 1", *, masks: Mapping[str, Tensor] | None = None
    ) -> None:
        self.model = model
        self.point = Rewind.parse(rewind) if isinstance(rewind, str) else rewind
        self.epoch = 0
        self.step = 0
        self.origin: dict[str, Any] | None = None
        self._transient: dict[str, Tensor] = {}  # buffers that are not in the state dict
        self.origin_at: tuple[int, int] | None = None
        self.began: int | None = None  # None: level 0 was dense
        self.trained = False
        self.attached = False  # whether attach was ever called; imp resets it, too
        self.will_prune: tuple[str, ...] = ()  # weights that get masks later: an optimiser must hold them now
        self._averages: dict[int, int] = {}  # that were there at the last check
        self._optimizers: tuple[torch.optim.Optimizer, ...] = ()
        self._counts: torch.optim.Optimizer | None = None  # the one whose steps are counted
        self._step_hooks: list[RemovableHandle] = []
        self._gradient_hooks: list[RemovableHandle] = []
        self.held: list[tuple[nn.Parameter, Held]] = []  # while attached: parameters with masks
        self._masks: Masks = {}
        self.masks = dict(masks or {})
        self._keep_origin()

    @property
    def masks(self) -> Masks:
        """The masks by parameter name, True for a kept weight. Setting them prunes at once while an optimiser is
        attached.

        Raises:
            UsageError: masks of another model, or of a trainable weight that the attached optimisers do not hold.
        """
        return self._masks

    @masks.setter
    def masks(self, masks: Mapping[str, Tensor]) -> None:
        check_masks(self.model, masks)
        if self._optimizers:
            check_held(self.model, self._optimizers, masks)
        self._masks = dict(masks)
        if self._optimizers:
            self._watch()

    def attach(self, *optimizers: Any) -> None:
        """Zero the pruned weights now and after every step of the optimiser.

        With several optimisers the first one counts the steps. Optimisers attached before are detached. Wrappers that
        hold a torch optimiser as ``optimizer`` (accelerate), ``original_optimizer`` (Opacus) or ``base_optimizer``
        (SAM) are unwrapped, also one inside the other. Opacus clips the gradients of single records before the guard
        sees them, so that its norms include pruned weights.

        Args:
            optimizers: torch optimisers that hold every trainable weight that is pruned; without masks, at least one
                parameter of the model.

        Raises:
            UsageError: none, or something that is not an optimiser; an optimiser of other parameters.
        """
        if not optimizers:
            raise UsageError("attach needs the optimiser that trains the model: guard.attach(optimizer).")
        chains = [unwrapped(optimizer) for optimizer in optimizers]
        found = tuple(dict.fromkeys(optimizer for chain in chains for optimizer in chain))
        check_masks(self.model, self._masks)
        check_held(self.model, found, [*self._masks, *self.will_prune])
        self.detach()
        self.attached, self._optimizers, self._counts = True, found, chains[0][-1]
        for optimizer in found:
            self._step_hooks.append(optimizer.register_step_pre_hook(lambda stepping, *_: self._before_step(stepping)))
            self._step_hooks.append(optimizer.register_step_post_hook(self._after_step))
        self._watch()

    def detach(self) -> None:
        """Remove all hooks; pruned weights are no longer kept at zero."""
        for handle in (*self._step_hooks, *self._gradient_hooks):
            handle.remove()
        self._optimizers, self._counts, self._step_hooks, self._gradient_hooks, self.held = (), None, [], [], []

    def epoch_end(self) -> None:
        """Count an epoch; at the rewind point of the first training, save the state to rewind to.

        Raises:
            UsageError: parameters of the model were replaced, so that the attached optimisers do not hold them.
        """
        if self._optimizers:
            check_held(self.model, self._optimizers, [*self._masks, *self.will_prune])
        self.epoch += 1
        self._keep_origin()

    def rewind(self) -> None:
        """Rewind parameters, buffers and the place in the schedule; pruned weights are zero.

        Raises:
            UsageError: training ended before the rewind point was reached.
        """
        if self.point.weights == "point":
            self.model.load_state_dict(self._reached(self.origin))
            buffers = dict(self.model.named_buffers())
            for name, kept in self._transient.items():
                buffers[name].copy_(kept)
        apply_masks(self.model, self._masks)
        if self.point.schedule == "start":
            self.epoch = self.step = 0
        elif self.point.schedule == "point":
            self.epoch, self.step = self._reached(self.origin_at)

    def check(self) -> None:
        """Check after training that pruned weights are still zero. ``imp`` does it after each level.

        Averages of the weights (torch's ``AveragedModel``, a module named after EMA) that are kept beside the model and
        are not zero there are told in a warning.

        Raises:
            UsageError: weights were written after the last step, or no attached optimiser took a step.
        """
        for name, mask in self._masks.items():
            weight = self.model.get_parameter(name)
            if not weight.detach()[~mask.to(weight.device)].any():
                continue
            if self.trained:
                raise UsageError(
                    f"pruned weights of '{name}' are not zero: they were written after the last step of the attached "
                    "optimiser. A dense checkpoint or an average of weights (EMA, SWA) that began before pruning was "
                    "restored at the end of training; begin the average and the best checkpoint anew under these "
                    "masks, or use apply_masks on what is restored."
                )
            raise UsageError(
                f"training revived pruned weights of '{name}': fit must call guard.attach(optimizer) once."
            )
        warn_of_dense_averages(self.model, self._masks, self._averages)

    def _reached(self, kept: _T | None) -> _T:
        if kept is None:
            raise UsageError(
                f"the rewind point, {self.point}, was never reached: the training function must call "
                "guard.attach(optimizer) once and guard.epoch_end() after each epoch, and train at least that long."
            )
        return kept

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        trusted = leaves_zeros(optimizer)
        for parameter, held in self.held:
            held.before_step(parameter, self._states(parameter), trusted=trusted)

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.trained = True
        closure = any(callable(given) for given in (*args, *kwargs.values()))
        trusted = leaves_zeros(optimizer)
        for parameter, held in self.held:
            held.after_step(parameter, self._states(parameter), trusted=trusted, closure=closure)
        if optimizer is self._counts:
            self.step += 1
            self._keep_origin()

    def _states(self, parameter: nn.Parameter) -> list[dict[str, Any]]:
        return [optimizer.state.get(parameter, {}) for optimizer in self._optimizers]

    @torch.no_grad()
    def _watch(self) -> None:
        for handle in self._gradient_hooks:
            handle.remove()
        parameters = [(self.model.get_parameter(name), mask) for name, mask in self._masks.items()]
        self.held = [(parameter, Held(parameter, mask)) for parameter, mask in parameters]
        self._gradient_hooks = [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                torch.no_grad()(held.mask_gradient)
            )
            for parameter, held in self.held
            if parameter.requires_grad
        ]
        for parameter, held in self.held:
            held.zero(parameter, self._states(parameter))

    def _keep_origin(self) -> None:
        """Save the state when the rewind point is reached for the first time."""
        if self.origin_at is None and getattr(self, self.point.unit) == self.point.at:
            self.origin_at = self.epoch, self.step
            if self.point.weights == "point" and self.origin is None:
                self.origin = copy.deepcopy(dict(self.model.state_dict()))
                buffers = self.model.named_buffers()
                self._transient = {name: buffer.clone() for name, buffer in buffers if name not in self.origin}
