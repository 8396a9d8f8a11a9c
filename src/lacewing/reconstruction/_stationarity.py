"""Reconstruction from stationarity: candidates whose gradients add up to the weights of a two-layer network.

Haim, Vardi, Yehudai, Shamir and Irani, "Reconstructing training data from trained neural networks" (NeurIPS 2022, arXiv
2206.07758): a homogeneous network that is trained far beyond separation converges in direction to a point where
(section 3, equations 2 to 5)

    theta = sum_i lambda_i y_i grad f(x_i),   lambda_i >= 0,

and their attack (section 4, equations 6 to 8) searches for x_i and lambda_i. With weight decay the same holds at any
stationary point (Buzaglo et al., "Deconstructing data reconstruction", NeurIPS 2023, section 5.1). Only binary tasks, a
small initialisation of the first layer and few records come near such a point: `residual` says beforehand how near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.metrics import Floats

GATE = 0.15  # relative squared residual of the true records: .11 and less worked in trials, .18 and more did not
_SHARPEST = 150.0  # slope of the sigmoid in place of the derivative of ReLU, as in Haim et al., appendix B
_LEAST_LAMBDA = 0.05
_SECOND = 0.3  # of the usual initialisation: what is left of it is no gradient
_LOSS = 1e-12
_SPREAD = 0.3  # of pictures with values from 0 to 1, about their mean
_RATE = 0.1  # of gradient descent until all records are separated


class Network(NamedTuple):
    """f(x) = relu(first(x)) second: two layers for two classes."""

    first: nn.Module
    second_H: Tensor
    kept: Tensor | None = None  # mask of the weight of ``first``

    def parameters(self) -> dict[str, Tensor]:
        """The weights by name, apart from the graph."""
        return {**{name: p.detach() for name, p in self.first.named_parameters()}, "second": self.second_H.detach()}


def answer(network: Network, weights: dict[str, Tensor], x_ND: Tensor, slope: float | None = None) -> Tensor:
    """(N,) outputs; with ``slope`` the derivative of ReLU is that of a sigmoid, so that it has one itself."""
    first = {name: value for name, value in weights.items() if name != "second"}
    before = torch.func.functional_call(network.first, first, (x_ND,))
    active = torch.relu(before) if slope is None else before * torch.sigmoid(slope * before)
    return active @ weights["second"]


def train(
    first: nn.Module,
    x_ND: Tensor,
    sign_N: Tensor,
    *,
    seed: int,
    scale: float,
    decay: float = 0.0,
    kept: Tensor | None = None,
    steps: int = 4000,
) -> Network:
    """Train by full gradient descent with a growing step; with ``decay`` to a stationary point by L-BFGS.

    Args:
        first: the first layer, with H outputs; its parameters are multiplied with ``scale`` before.
        x_ND: records.
        sign_N: their labels, -1 or 1.
        seed: of the second layer.
        scale: of the first layer's initialisation.
        decay: half of it times the squared norm of all weights is added to the loss.
        kept: mask of ``first.weight``.
        steps: at most.
    """
    hidden = int(first(x_ND[:1]).shape[1])
    draw = torch.Generator().manual_seed(seed)
    second = _SECOND * torch.randn(hidden, generator=draw) * (2 / hidden) ** 0.5
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.mul_(scale)
        if kept is not None:
            first.weight.mul_(kept)  # type: ignore[operator]
    network = Network(first, second, kept)
    weights = {name: p.clone().requires_grad_() for name, p in network.parameters().items()}

    def loss() -> Tensor:
        value = nn.functional.softplus(-sign_N * answer(network, _masked(weights, kept), x_ND)).mean()
        return value + decay / 2 * sum(w.square().sum() for w in weights.values()) if decay else value

    if decay:
        _to_stationarity(weights, loss, steps)
    else:
        _far_beyond_separation(weights, loss, np.log(2) / len(x_ND), steps)
    with torch.no_grad():
        masked = _masked(weights, kept)
        for name, parameter in first.named_parameters():
            parameter.copy_(masked[name])
    return Network(first, masked["second"].detach(), kept)


def _masked(weights: dict[str, Tensor], kept: Tensor | None) -> dict[str, Tensor]:
    return weights if kept is None else {**weights, "weight": weights["weight"] * kept}


def _to_stationarity(weights: dict[str, Tensor], loss: Callable[[], Tensor], steps: int) -> None:
    optimizer = torch.optim.LBFGS(
        [*weights.values()], max_iter=steps, history_size=20, tolerance_grad=1e-9, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _far_beyond_separation(
    weights: dict[str, Tensor], loss: Callable[[], Tensor], separated: float, steps: int
) -> None:
    """Gradient descent whose step grows by 1 % from separation on, since gradients vanish with the loss.

    A step that raises the loss is undone. Before all records are separated the step stays small: a large one leaves
    units that no record activates, and records without a unit.
    """
    rate, before = _RATE, float("inf")
    there = {name: weight.detach().clone() for name, weight in weights.items()}
    for _ in range(steps):
        value = loss()
        now = float(value.detach())
        if not now <= 1.02 * before:  # NaN, too
            rate *= 0.5
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(there[name])
            continue
        rate, before = rate * (1.01 if now < separated else 1.0), now
        if now < _LOSS:
            return
        gradients = torch.autograd.grad(value, [*weights.values()])
        with torch.no_grad():
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                there[name].copy_(weight)
                weight -= rate * gradient


def residual(network: Network, x_ND: Tensor, sign_N: Tensor) -> tuple[float, Floats]:
    """min over lambda >= 0 of ||theta - sum lambda y grad f(x)||^2 / ||theta||^2 at the true records, and lambda.

    0: a stationary point; 1: the records explain nothing. It needs the training records, so it is the owner's gate,
    not the attacker's.
    """
    from scipy.optimize import nnls  # here: it takes longer to load than all of this package

    weights = {name: p.clone().requires_grad_() for name, p in network.parameters().items()}
    columns = []
    for x, sign in zip(x_ND, sign_N, strict=True):
        gradients = torch.autograd.grad(sign * answer(network, weights, x[None])[0], [*weights.values()])
        columns.append(_flat(dict(zip(weights, gradients, strict=True)), network.kept))
    matrix = torch.stack(columns, dim=1).double().numpy()
    theta = _flat({name: w.detach() for name, w in weights.items()}, network.kept).double().numpy()
    multipliers, distance = nnls(matrix, theta)
    return float(distance**2 / (theta @ theta)), np.asarray(multipliers)


def _flat(values: dict[str, Tensor], kept: Tensor | None) -> Tensor:
    return torch.cat([(v * kept if kept is not None and name == "weight" else v).ravel() for name, v in values.items()])


def reconstruct(
    network: Network,
    *,
    candidates: int,
    dimension: int,
    steps: int,
    seed: int,
    rows_RD: Tensor | None = None,
    spread: float = _SPREAD,
) -> tuple[Tensor, float]:
    """Candidates (M, D) that explain the weights best, half of each label, and their relative squared residual.

    Args:
        network: the attacked one.
        candidates: M, more than there are records.
        dimension: D.
        steps: of Adam.
        seed: of the start.
        rows_RD: orthonormal rows; candidates are searched in their span. None: everywhere.
        spread: root of the mean square of the entries of a record about the mean record.

    Raises:
        UsageError: M is not even, or below 2.
    """
    if candidates < 2 or candidates % 2:
        raise UsageError(f"candidates = {candidates}: give an even number from 2, half of each label.")
    draw = torch.Generator().manual_seed(seed)
    free = dimension if rows_RD is None else len(rows_RD)
    z = (spread * (dimension / free) ** 0.5 * torch.randn(candidates, free, generator=draw)).requires_grad_()
    share = (0.1 * torch.rand(candidates, generator=draw)).requires_grad_()
    sign = torch.ones(candidates)
    sign[1::2] = -1
    weights = {name: p.clone().requires_grad_() for name, p in network.parameters().items()}
    theta = _flat({name: w.detach() for name, w in weights.items()}, network.kept)
    square = float(theta.square().sum())
    steps_of: list[dict[str, Any]] = [{"params": [z], "lr": 0.02 * spread / _SPREAD}, {"params": [share], "lr": 0.02}]
    optimizer = torch.optim.Adam(steps_of)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.0 if k < 0.6 * steps else 0.1)
    for step in range(steps):
        x = z if rows_RD is None else z @ rows_RD
        slope = 20.0 + (_SHARPEST - 20.0) * step / steps
        total = (share * sign * answer(network, weights, x, slope)).sum()
        gradients = torch.autograd.grad(total, [*weights.values()], create_graph=True)
        apart = theta - _flat(dict(zip(weights, gradients, strict=True)), network.kept)
        stationarity = apart.square().sum()
        loss = stationarity / square * 100 + (_LEAST_LAMBDA - share).clamp_min(0).square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    x = z if rows_RD is None else z @ rows_RD
    return x.detach(), float(stationarity.detach()) / square


def row_space(network: Network, rank: int) -> Tensor:
    """(rank, D) the first right singular vectors of a fully connected first layer."""
    weight = network.first.get_parameter("weight").detach()
    rows: Tensor = torch.linalg.svd(weight, full_matrices=False)[2]
    return rows[:rank]


def similarity(rebuilt_MD: Floats, records_ND: Floats) -> Floats:
    """(N,) the largest cosine of each record with any reconstruction; both are centred by the caller."""

    def unit(values: Floats) -> Floats:
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray(np.divide(values, norms, out=np.zeros_like(values), where=norms > 0))

    return np.asarray((unit(records_ND) @ unit(rebuilt_MD).T).max(axis=1))
