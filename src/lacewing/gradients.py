"""The loss gradient of each record alone, and the state in which networks are measured."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.errors import UsageError

_MOST_AT_ONCE = 250  # records
_GRADIENT_FLOATS = 8_000_000  # largest number of per-record gradient entries held at once: 32 MB
# On a CPU 18 MB, or 16 records of ResNet-20, which fit its cache: 330 records a second on a core, 270 by 29 at once (in
# channels-last layout 260 and 220).
_CPU_GRADIENT_FLOATS = 4_500_000

Loss = Callable[[Tensor, Tensor], Tensor]
Tensors = dict[str, Tensor]  # by parameter name


def gradient_norms(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    masks: Mapping[str, Tensor] | None = None,
    batch_size: int | None = None,
    loss: Loss = nn.functional.cross_entropy,
) -> npt.NDArray[np.float32]:
    """L2 norms of each record's own loss gradient over (kept weights, pruned weights), shape (N, 2).

    The loss is ``loss`` at ``labels``; all floating-point parameters count, and those without a mask are
    kept. Evaluation mode, fp32. Vectorised over records where the model allows it (`torch.func.vmap`), else a loop.

    Args:
        model: on its device; its mode, gradients and buffers do not change.
        inputs: normalised inputs of the model.
        labels: (N,) the given labels, 0..C-1.
        masks: by parameter name, True for a kept weight.
        batch_size: most records at once, None: 250; fewer where their gradients would take more than 32 MB (18 MB on
            a CPU).
        loss: of the model's answer to one record, (1, ...), and its label, (1, ...): a number.

    Raises:
        UsageError: a mask that belongs to another model, or no parameter is a floating-point number (a quantised or
            frozen network).
    """

    def squares(gradient: Tensors, weights: Tensors, keep: Tensors) -> Tensor:
        """(2,) sums of squares over kept and pruned weights."""
        kept = [(g * keep[name] if name in keep else g).square().sum() for name, g in gradient.items()]
        pruned = [(g * ~keep[name]).square().sum() for name, g in gradient.items() if name in keep]
        none = torch.zeros((), device=device_of(model))
        return torch.stack([torch.stack(part).sum() if part else none for part in (kept, pruned)])

    found = of_gradients(model, inputs, labels, squares, masks=masks, batch_size=batch_size, loss=loss)
    return found.sqrt().cpu().numpy() if len(found) else np.empty((0, 2), np.float32)


def of_gradients(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    summary: Callable[[Tensors, Tensors, Tensors], Tensor],
    *,
    masks: Mapping[str, Tensor] | None = None,
    batch_size: int | None = None,
    loss: Loss = nn.functional.cross_entropy,
) -> Tensor:
    """(N, F) what ``summary`` says of each record's own loss gradient: arguments and errors as in `gradient_norms`.

    ``summary`` maps the gradient, the weights and the masks, each by parameter name, to F numbers by operations that
    `torch.func.vmap` knows.
    """
    device = device_of(model)
    weights = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.is_floating_point()}
    if not weights:
        raise UsageError("the model has no floating-point parameters to take gradients of (it is frozen or quantised).")
    keep = {name: mask.to(device) for name, mask in (masks or {}).items()}
    for name, mask in keep.items():
        if name not in weights or mask.shape != weights[name].shape:
            raise UsageError(f"the mask of '{name}' matches no parameter of the model; it belongs to another model.")
    state = {**{name: p.detach() for name, p in model.named_parameters()}, **dict(model.named_buffers())}

    def loss_at(parameters: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        answer = torch.func.functional_call(model, {**state, **parameters}, (record[None],))
        return loss(answer.float(), label[None])

    def told(gradient: Tensors) -> Tensor:
        return summary(gradient, weights, keep)

    def one(record: Tensor, label: Tensor) -> Tensor:
        return told(torch.func.grad(loss_at)(weights, record, label))

    most = _CPU_GRADIENT_FLOATS if device.type == "cpu" else _GRADIENT_FLOATS
    step = max(1, min(batch_size or _MOST_AT_ONCE, most // max(1, sum(w.numel() for w in weights.values()))))
    labels = labels.to(device)
    with (
        torch.enable_grad(),
        measuring(model),
        _computed_weights_kept(model),
        _backward_hooks_off(model),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # for operations with a slow vmap rule
        if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
            own = {name: p for name, p in model.named_parameters() if name in weights}
            with _requiring(own.values()):
                return _stacked(
                    _told_of(loss(model(record[None]).float(), label[None]), own, told)
                    for record, label in zip(inputs, labels, strict=True)
                )
        try:
            parts = [
                torch.func.vmap(one)(inputs[i : i + step], labels[i : i + step]) for i in range(0, len(inputs), step)
            ]
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # no vmap rule: a loop over records
            parts = [_looped(loss_at, weights, told, r, label) for r, label in zip(inputs, labels, strict=True)]
    return _stacked(parts)


def _stacked(parts: Iterable[Tensor]) -> Tensor:
    found = list(parts)
    return torch.cat(found) if found else torch.empty(0)


@contextmanager
def _computed_weights_kept(model: nn.Module) -> Iterator[None]:
    """Put back tensors that hooks compute in each forward pass, as torch's pruning does: those of vmap are not real."""
    before = [(module, {k: v for k, v in vars(module).items() if isinstance(v, Tensor)}) for module in model.modules()]
    try:
        yield
    finally:
        for module, tensors in before:
            vars(module).update(tensors)


def _looped(
    loss: Callable[[dict[str, Tensor], Tensor, Tensor], Tensor],
    weights: dict[str, Tensor],
    summary: Callable[[Tensors], Tensor],
    record: Tensor,
    label: Tensor,
) -> Tensor:
    """(1, F) the summary of one record's gradient by ordinary autograd."""
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
    return _told_of(loss(leaves, record, label), leaves, summary)


def _told_of(loss: Tensor, leaves: Mapping[str, Tensor], summary: Callable[[Tensors], Tensor]) -> Tensor:
    """(1, F) the summary of the gradient of one loss."""
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return summary({name: g for name, g in zip(leaves, found, strict=True) if g is not None})[None]


@contextmanager
def _requiring(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Parameters that require gradients, also those that were frozen; put back afterwards."""
    before = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


@contextmanager
def _backward_hooks_off(model: nn.Module) -> Iterator[None]:
    """Modules without hooks of the backward pass, as Opacus has them, which vmap and single records confuse."""
    names = ("_backward_hooks", "_backward_pre_hooks")
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    held = [(module, name, getattr(module, name)) for module in modules for name in names if getattr(module, name)]
    try:
        for module, name, _ in held:
            setattr(module, name, OrderedDict())
        yield
    finally:
        for module, name, hooks in held:
            setattr(module, name, hooks)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are; the CPU where it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, fp32: no autocast, no TF32. Modes and settings are restored afterwards."""
    with evaluation(model), torch.autocast(device_of(model).type, enabled=False), no_tf32():
        yield


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; modes are restored afterwards, and so are buffers, which some models change in that mode too."""
    modes = [(module, getattr(module, "training", None)) for module in model.modules()]  # None: of a frozen program
    buffers = [(module, _buffers(module)) for module in model.modules()]
    values = [{name: b.clone() for name, b in own.items() if b is not None} for _, own in buffers]
    try:
        _to_evaluation(model)
        yield
    finally:
        for module, training in modes:
            if training is None:
                vars(module).pop("training", None)
            else:
                module.training = training
        for (module, own), before in zip(buffers, values, strict=True):
            _put_back(module, own, before)


def _to_evaluation(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError:  # of an exported program, whose mode was fixed as it was exported
        for module in model.modules():
            module.training = False


def _buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """The buffers of a module itself."""
    if isinstance(module, torch.jit.ScriptModule):
        return dict(module.named_buffers(recurse=False))
    return dict(module._buffers)


@torch.no_grad()
def _put_back(module: nn.Module, own: Mapping[str, Tensor | None], before: Mapping[str, Tensor]) -> None:
    """The same tensors as buffers, with the values that they had."""
    if isinstance(module, torch.jit.ScriptModule):
        for name, buffer in _buffers(module).items():
            if buffer is not None and _differs(buffer, before[name]):
                setattr(module, name, before[name])
        return
    now = module._buffers
    if now.keys() != own.keys() or any(now[name] is not own[name] for name in own):
        now.clear()
        now.update(own)
    for name, value in before.items():
        buffer = own[name]
        if buffer is not None and not buffer.is_inference() and _differs(buffer, value):
            buffer.copy_(value)


def _differs(a: Tensor, b: Tensor) -> bool:
    try:
        return not torch.equal(a, b)
    except (RuntimeError, NotImplementedError):  # of sparse tensors, and of those without values
        return not a.is_meta


@contextmanager
def no_tf32() -> Iterator[None]:
    """Matrix products without TF32; the settings are restored afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
