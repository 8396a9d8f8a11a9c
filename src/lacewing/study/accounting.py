"""Parameters and densities: what a network stores that is not zero, against the dense network of the study."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lacewing import models
from lacewing.config import Butterfly, Imp, Study, chain_settings
from lacewing.errors import UsageError, UserCodeError
from lacewing.sparsify import butterfly, remaining
from lacewing.sparsify.masks import prunable
from lacewing.study.plan import Plan


def dense_model(study: Study, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The study's dense model, without values where its factory needs none: what densities are counted against."""
    try:
        with torch.device("meta"):
            return models.build(study.model, shape, classes)
    except UserCodeError:
        with torch.random.fork_rng([]):
            return models.build(study.model, shape, classes)


def describe(model: nn.Module, dense: nn.Module, masks: dict[str, Tensor]) -> dict[str, Any]:
    """Parameters and densities of a network: entries of factors for butterfly layers, kept weights for masks."""
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    return _densities(sum(p.numel() for p in model.parameters()) - pruned, dense)


def _densities(nonzero: int, dense: nn.Module) -> dict[str, Any]:
    parameters, weights = _sizes(dense)
    return {
        "density": nonzero / parameters,
        "density_prunable": (nonzero - (parameters - weights)) / weights if weights else 1.0,
        "parameters": parameters,
        "nonzero": nonzero,
    }


def _sizes(dense: nn.Module) -> tuple[int, int]:
    """All parameters, and the prunable weights among them."""
    sizes = {name: p.numel() for name, p in dense.named_parameters()}
    return sum(sizes.values()), sum(sizes[name] for name in prunable(dense))


def count_networks(study: Study, plan: Plan, shape: tuple[int, ...], classes: int) -> dict[str, dict[str, Any]]:
    """By network name: parameters, nonzero, density, density_prunable, exact and before any training.

    Raises:
        UsageError: a network that the model cannot be made into.
    """
    dense = dense_model(study, shape, classes)
    parameters, weights = _sizes(dense)
    counts: dict[str, dict[str, Any]] = {}
    for job in plan.networks:
        if job.network in counts:
            continue
        nonzero = parameters
        if isinstance(job.spec, Imp):
            if not weights:
                raise UsageError(f"network '{job.network}': the model has no convolution or linear weight to prune.")
            left = remaining(weights, job.level, job.spec.fraction)
            if job.level and left == remaining(weights, job.level - 1, job.spec.fraction):
                raise UsageError(
                    f"network '{job.network}': {job.spec.fraction:g} of {left:,} weights is none, so this level would "
                    "prune nothing; lower levels, or raise fraction."
                )
            nonzero = parameters - weights + left
        elif isinstance(job.spec, Butterfly):
            model = dense_model(study, shape, classes)
            try:
                with torch.device("meta"):
                    butterfly(model, **chain_settings(job.spec))
            except UsageError as error:
                raise UsageError(f"network '{job.network}': {error}") from None
            nonzero = sum(p.numel() for p in model.parameters())
        counts[job.network] = _densities(nonzero, dense)
    return counts
