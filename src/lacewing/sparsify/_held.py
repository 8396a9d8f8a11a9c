"""What holds a pruned parameter at zero while optimisers train it, at the cost of little more than one pass a step.

A pruned weight is set to zero by an AND with integers that have all bits set for a kept one. This makes zeros of NaN
and infinity, changes no bit of what is kept, and takes a fraction of the time of ``masked_fill_``. Gradients are masked
when they have been accumulated and before a step, weights after it, always: writes through ``data`` leave no trace.
Torch's own elementwise optimisers leave zeros in their state where they find zeros in weight, gradient and state (see
``leaves_zeros``), so that the state of a large weight needs no pass after each step. It gets one after a step with a
closure, which may write to gradients; where others wrote to weight or state since the last step, which torch counts;
and, for writes to the state through ``data``, where one of some hundred pruned places, drawn at random, is
not zero after a step.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LARGE = 1 << 14  # weights of a parameter from which a pass over its state after each step is worth sparing
_PLACES = 256  # pruned ones of a large parameter, whose state is looked at after each step
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
# Not Rprop and Adamax, whose state is not zero where gradients are, nor Adafactor, which mixes the entries of a row.
_ELEMENTWISE = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adadelta,
    torch.optim.Adagrad, torch.optim.ASGD, torch.optim.RMSprop,
)  # fmt: skip
_NUMBERS = ("lr", "weight_decay", "momentum", "dampening")

_Mark = tuple["weakref.ref[Tensor]", int, int]  # a tensor, its memory, and how often it had been written to


def leaves_zeros(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step leaves zeros where weight, gradient and state are zero.

    True of torch's own elementwise optimisers, not of classes derived from them, with an ``eps`` that 16 bits do not
    round to zero (0 / 0 is NaN), and finite numbers (0 x infinity is NaN).
    """
    return type(optimizer) in _ELEMENTWISE and all(_is_tame(group) for group in optimizer.param_groups)


def _is_tame(group: dict[str, Any]) -> bool:
    dtypes = {parameter.dtype for parameter in group["params"]}
    numbers = [group.get(name, 0) for name in _NUMBERS]
    least = max((torch.finfo(dtype).tiny for dtype in dtypes if dtype.is_floating_point), default=0.0)
    return (
        all(not isinstance(n, Tensor) or (n.device.type == "cpu" and n.numel() == 1) for n in numbers)
        and all(abs(float(n)) < 1e6 for n in numbers)
        and ("eps" not in group or float(group["eps"]) >= least)
        and not group.get("differentiable")
    )


class Held:
    """A mask of a parameter, and what is known of the parameter's zeros. It does not refer to the parameter.

    Args:
        parameter: of a model.
        mask: of its shape, True for a kept weight.
    """

    def __init__(self, parameter: nn.Parameter, mask: Tensor) -> None:
        sized = parameter.dtype.is_floating_point and parameter.dtype.itemsize in _INTEGERS
        self.keep = torch.empty_like(
            parameter, dtype=_INTEGERS[parameter.dtype.itemsize] if sized else torch.bool, requires_grad=False
        )  # in the layout of the parameter
        self.set(mask)

    def set(self, mask: Tensor) -> None:
        """Take another mask, in the memory of the last one."""
        self.keep.copy_(mask)
        if self.keep.dtype is not torch.bool:
            self.keep.neg_()  # all bits of -1 are set
        self._places: Tensor | None = None  # pruned ones, where it suffices to look at some
        if mask.numel() >= LARGE and self.keep.device.type == "cpu":
            self._places = _drawn(self.keep)
        self._masked: _Mark | None = None  # the gradient that was masked last
        self._left: list[_Mark] = []  # weight and state when they were zero where pruned

    def mask_gradient(self, parameter: Tensor) -> None:
        """Zero the pruned entries of the gradient, unless nothing wrote to it since this was done."""
        gradient = parameter.grad
        if gradient is None or _unwritten([gradient], [self._masked] if self._masked else []):
            return
        if gradient.requires_grad:  # of backward(create_graph=True), to be differentiated once more
            with torch.enable_grad():
                parameter.grad = gradient = gradient.masked_fill(self.keep == 0, 0)
        else:
            if any(size > 1 and not step for size, step in zip(gradient.shape, gradient.stride(), strict=True)):
                parameter.grad = gradient = gradient.clone()  # entries of an expanded one share memory
            self._zero(gradient)
        self._masked = _mark(gradient)

    def before_step(self, parameter: Tensor, states: Iterable[dict[str, Any]], *, trusted: bool) -> None:
        """Mask the gradient, and what others than the optimiser wrote to since the last step.

        Args:
            parameter: whose mask this is.
            states: of the optimisers, for this parameter.
            trusted: whether the optimiser that is about to step ``leaves_zeros``.
        """
        if trusted and self._places is not None and not _unwritten(self._shaped(parameter, states), self._left):
            self.zero(parameter, states)
        self._masked = None  # a write through ``data`` is not counted
        self.mask_gradient(parameter)

    def after_step(
        self, parameter: Tensor, states: Iterable[dict[str, Any]], *, trusted: bool, closure: bool = False
    ) -> None:
        """Leave zeros in weight, gradient and state; arguments as for ``before_step``.

        ``closure``: whether the step called one, which computes gradients and may write to them.
        """
        shaped = self._shaped(parameter, states)
        if (
            trusted
            and not closure
            and self._places is not None
            and _same(shaped, self._left)
            and not any(torch.take(tensor, self._places).any() for tensor in shaped[1:])
        ):
            self.mask_gradient(parameter)
            self._zero(parameter)
            self._left = [_mark(tensor) for tensor in shaped]
        else:
            self.zero(parameter, states)

    def zero(self, parameter: Tensor, states: Iterable[dict[str, Any]]) -> None:
        """Zero the pruned entries of weight, gradient and state, whatever is known of them."""
        self._masked = None
        self.mask_gradient(parameter)
        shaped = self._shaped(parameter, states)
        for tensor in shaped:
            self._zero(tensor)
        self._left = [_mark(tensor) for tensor in shaped]

    def _shaped(self, parameter: Tensor, states: Iterable[dict[str, Any]]) -> list[Tensor]:
        held = [parameter, *(value for state in states for value in state.values())]
        return [tensor for tensor in held if isinstance(tensor, Tensor) and tensor.shape == self.keep.shape]

    def _zero(self, tensor: Tensor) -> None:
        # Never multiplied: 0 x infinity is NaN, and a pruned weight stays zero even after a divergence.
        bits = self.keep.dtype
        if bits is not torch.bool and tensor.dtype.is_floating_point and tensor.dtype.itemsize == bits.itemsize:
            tensor.detach().view(bits).bitwise_and_(self.keep)
        else:
            tensor.masked_fill_(self.keep == 0, 0)


def _drawn(keep: Tensor) -> Tensor | None:
    """Flat places of pruned entries, None where there are none. At random: evenly spread ones may share a column."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(keep.numel(), (16 * _PLACES,), generator=generator)
    places = drawn[torch.take(keep, drawn) == 0]
    if len(places) < _PLACES:  # few are pruned
        pruned = (keep.flatten() == 0).nonzero().flatten()
        places = pruned[torch.randperm(len(pruned), generator=generator)]
    return places[:_PLACES] if len(places) else None


def _mark(tensor: Tensor) -> _Mark:
    return weakref.ref(tensor), tensor.data_ptr(), tensor._version


def _same(tensors: list[Tensor], marks: list[_Mark]) -> bool:
    """Whether these are the tensors that were marked, in the same memory."""
    return len(tensors) == len(marks) and all(
        kept() is tensor and place == tensor.data_ptr() for tensor, (kept, place, _) in zip(tensors, marks, strict=True)
    )


def _unwritten(tensors: list[Tensor], marks: list[_Mark]) -> bool:
    """Whether these are the tensors that were marked, and nothing wrote to them since."""
    return _same(tensors, marks) and all(
        count == tensor._version for tensor, (*_, count) in zip(tensors, marks, strict=True)
    )
