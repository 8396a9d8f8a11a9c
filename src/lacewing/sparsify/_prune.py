"""Pruning as three choices: how weights are scored, whether they are ranked globally or per layer, how many stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Literal

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify._schedules import Sizes
from lacewing.sparsify.effective import pruned_already
from lacewing.sparsify.masks import NOTHING, Ignore, Masks, check_masks, check_values, inputs_first, prunable

Score = Callable[[nn.Module, Sequence[str]], Mapping[str, Tensor]]
Scope = Literal["global", "per-layer", "erk"]
_WEIGHTS = "Give masks=sparsify.masks_from_zeros(model) to say so, or masks={} if they are weights like others."


def magnitude(model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    """Score |w| (Han et al. 2015)."""
    return {name: model.get_parameter(name).detach().abs() for name in names}


def random(seed: int) -> Score:
    """Random scores, the same at every call, so that the masks of a sequence are nested."""

    def score(model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(model.get_parameter(name).shape, generator=generator) for name in names}

    return score


def gradient(loss: Callable[[nn.Module], Tensor]) -> Score:
    """Score |gradient x weight|: how much the loss would change without the weight (SNIP, Lee et al. 2019).

    Args:
        loss: the loss of the model on a batch of your data. Buffers that it changes (batch norm) are restored.

    Raises:
        UsageError: a weight is frozen (raised when the score is called).
    """

    def score(model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        weights = [model.get_parameter(name) for name in names]
        for name, weight in zip(names, weights, strict=True):
            if not weight.requires_grad:
                raise UsageError(
                    f"'{name}' is frozen and has no gradient to score it by; unfreeze or ignore its layer."
                )
        try:
            with torch.enable_grad():
                gradients = torch.autograd.grad(loss(model), weights, allow_unused=True)
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
        pairs = zip(names, weights, gradients, strict=True)
        return {name: torch.zeros_like(w) if g is None else (g * w).detach().abs() for name, w, g in pairs}

    return score


def prune(
    model: nn.Module,
    masks: Mapping[str, Tensor] | None = None,
    fraction: float | None = None,
    *,
    density: float | None = None,
    keep: int | None = None,
    score: Score = magnitude,
    scope: Scope = "global",
    ignore: Ignore = (),
) -> Masks:
    """Masks that prune the weights with the lowest scores in addition to ``masks``; the model itself is not changed.

    The requested number is kept exactly. Ties are broken by parameter order, then position: earlier ones go first.

    Args:
        model: the network.
        masks: earlier masks; a prunable weight without a mask is unpruned. None: those of a network that is sparse
            already (at least one in a hundred prunable weights is zero): its zeros are pruned, stay so, and do not
            count as remaining, which a warning says. ``{}``: nothing is pruned yet, zeros are weights like others.
        fraction: prune floor(fraction x remaining) weights, 0 < fraction < 1.
        density: or: prune until this share of ALL parameters of the dense network remains, including biases and
            batch norm.
        keep: or: prune until this many prunable weights remain.
        score: ``magnitude``, ``random(seed)``, ``gradient(loss)``, or a function from the model and names of weights to
            a score for each weight.
        scope: how weights are ranked: "global", all together; "per-layer", every layer keeps the same share; "erk",
            a layer's share is proportional to the sum of its sizes over their product (Evci et al. 2020), so that
            small layers stay denser. Under the last two, shares refer to the whole layer, up to what remains of it.
        ignore: see ``prunable``; ignored weights are not pruned.

    Returns:
        A mask for each prunable weight, on the weight's device.

    Raises:
        UsageError: not exactly one of fraction, density and keep, or a value out of range (the message names the
            reachable range); a NaN or infinite score; masks of another model; nothing to prune.
    """
    names = prunable(model, ignore)
    if not names:
        raise UsageError(NOTHING)
    check_values(model, names)
    current = whole(model, names, pruned_already(model, names, mend=_WEIGHTS) if masks is None else masks)
    alive = sum(int(torch.count_nonzero(mask)) for mask in current.values())
    kept = _to_keep(model, current, alive, fraction, density, keep)
    scores = _scores(model, score, names)
    if scope == "global":
        return _keep_best(scores, current, kept)
    shapes = [model.get_parameter(name).shape for name in names]
    if scope == "erk":
        shares = [sum(shape) for shape in shapes]
    elif scope == "per-layer":
        shares = [math.prod(shape) for shape in shapes]
    else:
        raise UsageError(f"scope {scope!r} must be 'global', 'per-layer' or 'erk'.")
    quotas = apportion(kept, shares, [int(current[name].sum()) for name in names])
    found: Masks = {}
    for name, quota in zip(names, quotas, strict=True):
        found |= _keep_best({name: scores[name]}, {name: current[name]}, quota)
    return found


def n_of_m(
    model: nn.Module,
    n: int,
    m: int,
    *,
    score: Score = magnitude,
    ignore: Ignore = (),
) -> Masks:
    """Masks that keep the best ``n`` of every ``m`` consecutive weights along the inputs (2:4 runs on tensor cores).

    Args:
        model, score, ignore: see ``prune``.
        n, m: 1 <= n < m.

    Raises:
        UsageError: the inputs of a layer that is not ignored are not a multiple of ``m``; n or m out of range.
    """
    if not 1 <= n < m:
        raise UsageError(f"pattern {n}:{m} must keep at least one and fewer than all of {m} weights.")
    names = prunable(model, ignore)
    if not names:
        raise UsageError(NOTHING)
    check_values(model, names)
    masks: Masks = {}
    for name, values in _scores(model, score, names).items():
        path = name.rpartition(".")[0]
        layer = model.get_submodule(path)
        if values.ndim < 2:
            raise UsageError(f"weight '{name}' has no input dimension; leave it out: ignore=['{name}'].")
        axis, inputs = 1, values.shape[1]
        if inputs_first(layer):
            axis, inputs = 0, values.shape[0] // int(getattr(layer, "groups", 1))  # one group after another
        elif isinstance(layer, nn.ParameterList):  # of a butterfly layer: factors (a, b, c, d) with their inputs in c
            axis, inputs = 2, values.shape[2]
        if inputs % m:
            raise UsageError(
                f"weight '{name}' has {inputs} inputs, not a multiple of {m}; leave it out: ignore=['{path}']."
            )
        inputs_last = values.movedim(axis, -1)
        groups = inputs_last.reshape(-1, m)
        best = torch.sort(groups, dim=1, descending=True, stable=True).indices[:, :n]
        chosen = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True)
        masks[name] = chosen.view(inputs_last.shape).movedim(-1, axis).contiguous()
    return masks


def apportion(total: int, shares: Sequence[int], caps: Sequence[int]) -> list[int]:
    """Whole numbers that sum to ``total``, in proportion to ``shares``, none above its cap; largest remainders first.

    What exceeds a cap is divided among the others, again in proportion.
    """
    quotas = list(caps)
    free = [i for i in range(len(shares)) if shares[i] > 0]
    while free:
        left = total - sum(quotas[i] for i in range(len(shares)) if i not in free)
        whole = sum(shares[i] for i in free)
        within = [i for i in free if shares[i] * left < caps[i] * whole]
        if len(within) == len(free):
            for i in free:
                quotas[i] = shares[i] * left // whole
            by_remainder = sorted(free, key=lambda i: shares[i] * left % whole, reverse=True)
            for i in by_remainder[: total - sum(quotas)]:
                quotas[i] += 1
            break
        free = within  # the others have reached their caps
    return quotas


def whole(model: nn.Module, names: Sequence[str], masks: Mapping[str, Tensor]) -> Masks:
    """A mask for each name: the given one, or one that keeps everything.

    Raises:
        UsageError: masks of another model, or a mask of a weight that is not among the names.
    """
    check_masks(model, masks)
    for name in masks:
        if name not in names:
            raise UsageError(f"there is a mask for '{name}', which is not prunable or is ignored; remove that mask.")
    found: Masks = {}
    for name in names:
        weight = model.get_parameter(name)
        found[name] = masks[name].to(weight.device) if name in masks else torch.ones_like(weight, dtype=torch.bool)
    return found


def _to_keep(
    model: nn.Module, current: Masks, alive: int, fraction: float | None, density: float | None, keep: int | None
) -> int:
    """The number of weights to keep."""
    if sum(value is not None for value in (fraction, density, keep)) != 1:
        raise UsageError("give exactly one of fraction, density and keep.")
    for name, value in (("fraction", fraction), ("density", density)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise UsageError(f"{name} = {value!r} must be a number between 0 and 1.")
    if fraction is not None:
        if not 0 < fraction < 1:
            raise UsageError(f"fraction = {fraction} is not between 0 and 1.")
        return alive - math.floor(fraction * alive)
    if density is not None:
        return round(Sizes.of(model, list(current)).weights_at(density, alive))
    assert keep is not None
    if isinstance(keep, bool) or not isinstance(keep, Integral):
        raise UsageError(f"keep = {keep!r} must be a whole number of weights; a share is given as density or fraction.")
    if not 0 <= keep <= alive:
        raise UsageError(f"keep = {keep} is not between 0 and the {alive} remaining weights.")
    return keep


def _scores(model: nn.Module, score: Score, names: Sequence[str]) -> dict[str, Tensor]:
    if not callable(score):
        raise UsageError(f"score is a {type(score).__name__}: give a function, such as magnitude.")
    scores = score(model, names)
    found: dict[str, Tensor] = {}
    for name in names:
        weight = model.get_parameter(name)
        if not _finite(weight):
            raise UsageError(f"weight '{name}' holds NaN or infinity, so its magnitudes cannot be ranked.")
        if name not in scores or scores[name].shape != weight.shape:
            raise UsageError(f"the score function must return a score of shape {tuple(weight.shape)} for '{name}'.")
        found[name] = scores[name].detach().to(weight.device, torch.uint8 if scores[name].dtype == torch.bool else None)
        if not _finite(found[name]):
            raise UsageError(f"the scores of '{name}' hold NaN or infinity and cannot be ranked; check the loss.")
    return found


def _finite(tensor: Tensor) -> bool:
    if not tensor.numel() or not tensor.dtype.is_floating_point:
        return bool(torch.isfinite(tensor).all())
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())  # NaN passes through; one pass, no copy


def _keep_best(scores: Mapping[str, Tensor], current: Mapping[str, Tensor], kept: int) -> Masks:
    """Masks of the ``kept`` best remaining weights over all given layers together."""
    whole = {name: bool(current[name].all()) for name in scores}
    values = torch.cat([scores[name].flatten() if whole[name] else scores[name][current[name]] for name in scores])
    if kept == len(values):
        return {name: current[name].clone(memory_format=torch.contiguous_format) for name in scores}
    last_out = _smallest(values, len(values) - kept)
    del values
    found = {name: (score > last_out).contiguous() for name, score in scores.items()}
    for name, mask in found.items():
        if not whole[name]:
            mask &= current[name]
    missing = kept - sum(int(torch.count_nonzero(mask)) for mask in found.values())
    for name in reversed(list(scores) if missing else []):  # of those that equal it the last are kept
        tied = ((scores[name] == last_out) & current[name]).flatten().nonzero().squeeze(1)
        tied = tied[max(0, len(tied) - missing) :]
        found[name].view(-1)[tied] = True
        missing -= len(tied)
    return found


def _smallest(values: Tensor, count: int) -> float:
    """The ``count``-th smallest value, from 1; the values may be reordered."""
    if values.device.type != "cpu":
        return values.kthvalue(count).values.item()
    values = values.float() if values.dtype.itemsize == 2 and values.dtype.is_floating_point else values
    array = values.numpy()  # numpy selects in a fifth of kthvalue's time, and makes no indices
    array.partition(count - 1)
    return array[count - 1].item()  # type: ignore[no-any-return]
