"""The last layer of a network as softmax regression on the features before it, for the informed adversary.

Balle, Cherubin and Hayes, "Reconstructing training data with informed adversaries" (IEEE S&P 2022, arXiv 2201.04845),
section IV, have generalised linear models. Where the rest of the network is known and the last layer is at a stationary
point of its own loss, it is such a model on features, and the missing record's features follow. Ours: the use on the
last layer of a network, the gate, and the inversion of features. Axes: N records, D features, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.gradients import measuring
from lacewing.metrics import Bools, Floats
from lacewing.reconstruction._informed import Solved

LAST_GATE = 0.5  # what is left of the gradient, beside the share of the median record
_BATCH = 250


class LastLayer(NamedTuple):
    """A fully connected last layer; of one logit there are two classes, and the weights of class 0 are no weights."""

    name: str  # of the module
    weights_DC: Floats
    intercept_C: Floats
    kept_DC: Bools  # False: pruned, or of class 0 beside one logit


class Stationary(NamedTuple):
    """How near the last layer is to a stationary point of mean cross-entropy + l2 / 2 ||weights||^2."""

    solved: Solved  # its gradient is the largest entry of the intercept's, from which labels and errors come
    l2: float
    l2_intercept: float  # l2 where weight decay is on the intercept as well, else 0
    gate: float  # norm of the gradient / norm of the median record's share of it; 0: stationary


def last_layer(model: nn.Module, records: Tensor) -> LastLayer:
    """The fully connected layer whose outputs are the model's answers.

    Args:
        model: its mode does not change.
        records: a few, as the model takes them.

    Raises:
        UsageError: there is no such layer, it has no intercept, or what it sees is no row a record.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> object:
        return lambda _, inputs, output: seen.update({name: (inputs[0].detach(), output.detach())})

    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    hooks = [module.register_forward_hook(keep(name)) for name, module in linear.items()]  # type: ignore[arg-type]
    try:
        with torch.no_grad(), measuring(model):
            answer = model(records)
    finally:
        for hook in hooks:
            hook.remove()
    answer = answer.reshape(len(records), -1)
    found = [name for name, (_, out) in seen.items() if out.shape == answer.shape and torch.equal(out, answer)]
    if not found:
        raise UsageError("no torch.nn.Linear gives its answers, logits as they are, so that it has no last layer.")
    name = found[-1]
    layer = linear[name]
    if layer.bias is None:
        raise UsageError(f"its last layer '{name}' has no intercept, which tells the missing record's error.")
    if seen[name][0].ndim != 2:
        raise UsageError(f"its last layer '{name}' sees {tuple(seen[name][0].shape[1:])} values a record: one row is.")
    weights = layer.weight.detach().double().cpu().numpy().T
    intercept = layer.bias.detach().double().cpu().numpy()
    kept = weights != 0
    if weights.shape[1] == 1:
        weights, kept = (np.concatenate([np.zeros_like(values), values], axis=1) for values in (weights, kept))
        intercept = np.concatenate([[0.0], intercept])
    return LastLayer(name, weights, intercept, kept)


def features(model: nn.Module, name: str, records: Tensor) -> Floats:
    """(N, D) what the layer ``name`` sees of the records."""
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad(), measuring(model):
            for start in range(0, len(records), _BATCH):
                model(records[start : start + _BATCH])
    finally:
        hook.remove()
    found: Floats = torch.cat(seen).double().cpu().numpy()
    return found


def stationary(layer: LastLayer, x_ND: Floats, y_N: npt.NDArray[np.integer], l2: float | None = None) -> Stationary:
    """Whether the last layer is at a stationary point for these training records, as the owner can tell.

    Args:
        layer: of the network.
        x_ND: features of all its training records.
        y_N: their labels.
        l2: weight decay of the training. None: that which leaves the smallest gradient. Whether it is on the
            intercept, too, is told by the same.
    """
    n = len(x_ND)
    errors = softmax(x_ND @ layer.weights_DC + layer.intercept_C, axis=1) - np.eye(len(layer.intercept_C))[y_N]
    loss_DC = (x_ND.T @ errors / n)[layer.kept_DC]
    loss_C, kept = errors.mean(axis=0), layer.weights_DC[layer.kept_DC]
    best: tuple[float, float, float] | None = None
    for on_intercept in (0.0, 1.0):
        square = float(kept @ kept + on_intercept * layer.intercept_C @ layer.intercept_C)
        along = float(loss_DC @ kept + on_intercept * loss_C @ layer.intercept_C)
        decay = l2 if l2 is not None else max(0.0, -along / square) if square else 0.0
        left = float(np.linalg.norm(np.r_[loss_DC + decay * kept, loss_C + on_intercept * decay * layer.intercept_C]))
        if best is None or left < best[0]:
            best = left, decay, on_intercept * decay
    assert best is not None
    left, decay, on_intercept = best
    share = np.sqrt(((x_ND**2 @ layer.kept_DC) * errors**2 + errors**2).sum(axis=1)) / n
    median = float(np.median(share))
    gradient = float(np.abs(loss_C + on_intercept * layer.intercept_C).max())
    solved = Solved(layer.weights_DC, layer.intercept_C, gradient)
    return Stationary(solved, decay, on_intercept, left / median if median else np.inf)


def invert_features(
    model: nn.Module, name: str, wanted_MD: Floats, found_MD: Bools, start: Tensor, *, steps: int = 300
) -> Tensor:
    """(M, ...) inputs whose features come near the wanted ones, from ``start``, by Adam; unknown features are free."""
    kept, device = torch.from_numpy(found_MD), start.device
    wanted = torch.from_numpy(np.where(found_MD, wanted_MD, 0.0)).to(device, start.dtype)
    x = start.clone().requires_grad_()
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    optimizer = torch.optim.Adam([x], lr=0.03)
    try:
        with measuring(model):
            for _ in range(steps):
                seen.clear()
                model(x)
                loss = ((seen[0] - wanted).square() * kept.to(device)).sum()
                (x.grad,) = torch.autograd.grad(loss, x)
                optimizer.step()
    finally:
        hook.remove()
    return x.detach()
