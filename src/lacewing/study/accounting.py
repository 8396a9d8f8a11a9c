"""Parameters and densities: what a network stores that is not zero, against the dense network of the study."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lacewing import models
from lacewing.config import Model
from lacewing.errors import UsageError, UserCodeError
from lacewing.methods import Method
from lacewing.sparsify.masks import plain_weights
from lacewing.study.declared import Study
from lacewing.study.plan import NetworkJob, Plan
from lacewing.support.user_code import user_code


def dense_model(model: Model, shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> nn.Module:
    """A dense model, without values where its factory needs none: what densities are counted against."""
    try:
        with torch.device("meta"), torch.no_grad():  # or torch's older weight norm could not be copied
            return models.build(model, shape, classes, dropout)
    except UserCodeError:
        with torch.random.fork_rng([]), torch.no_grad():
            return models.build(model, shape, classes, dropout)


def describe(model: nn.Module, dense: nn.Module, own: nn.Module, masks: dict[str, Tensor]) -> dict[str, Any]:
    """Parameters and densities of a network: entries of factors for butterfly layers, kept weights for masks.

    Args:
        model: the network.
        dense: the study's dense model.
        own: the dense model that the network was made from, which the study's entry may override.
        masks: of the network.
    """
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    return _densities(sum(p.numel() for p in model.parameters()) - pruned, dense, own)


def _densities(nonzero: int, dense: nn.Module, own: nn.Module) -> dict[str, Any]:
    parameters, weights = _sizes(dense)
    own_parameters, own_weights = _sizes(own)
    return {
        "density": nonzero / parameters,
        "density_prunable": (nonzero - (own_parameters - own_weights)) / weights if weights else 1.0,
        "parameters": parameters,
        "nonzero": nonzero,
    }


def _sizes(dense: nn.Module) -> tuple[int, int]:
    """All parameters, and the plain prunable weights among them."""
    weights = sum(dense.get_parameter(name).numel() for name in plain_weights(dense))
    return sum(p.numel() for p in dense.parameters()), weights


def count_networks(study: Study, plan: Plan, shape: tuple[int, ...], classes: int) -> dict[str, dict[str, Any]]:
    """By network name: parameters, nonzero, density, density_prunable, exact and before any training.

    Raises:
        UsageError: a network that the model cannot be made into.
    """
    dense = dense_model(study.model, shape, classes)
    made = {(study.model.model_dump_json(), 0.0): dense}

    def of(job: NetworkJob) -> nn.Module:
        known = job.model.model_dump_json(), job.train.dropout
        try:
            return made.get(known) or made.setdefault(known, dense_model(job.model, shape, classes, job.train.dropout))
        except UsageError as error:
            raise type(error)(f"network '{job.network}': {error}") from error.__cause__

    counts: dict[str, dict[str, Any]] = {}
    for job in plan.networks:
        if job.network not in counts:
            own = of(job)
            if job.mask is not None:
                _check_same_weights(job.network, own, job.mask.network, of(job.mask))
            found = _densities(nonzero(job, copy.deepcopy(own)), dense, own)
            if found["nonzero"] > found["parameters"]:
                raise UsageError(
                    f"network '{job.network}' has {found['nonzero']:,} parameters that are not zero, more than the "
                    f"study's model ({found['parameters']:,}), which densities are relative to; make [model] the "
                    "widest."
                )
            counts[job.network] = found
    return counts


def notes(plan: Plan, shape: tuple[int, ...], classes: int) -> list[str]:
    """What methods have to tell of their networks before any training, a sentence each with the network's name.

    Raises:
        UserCodeError: a user's method fails, or tells something else than sentences.
    """
    found: list[str] = []
    for job in {job.network: job for job in plan.networks}.values():
        if type(job.spec).notes is Method.notes:
            continue
        place = f"networks: '{job.network}': notes() of method {job.method}"
        model = dense_model(job.model, shape, classes, job.train.dropout)
        with user_code(place, own_frames=True), _device_of(model):
            told = job.spec.notes(model, job.step)
        if not (isinstance(told, list) and all(isinstance(each, str) for each in told)):
            raise UserCodeError(f"{place} returns {told!r:.60}; it must return a list of sentences.")
        found += [f"{job.network}: {each}" for each in told]
    return found


def _check_same_weights(network: str, model: nn.Module, other: str, its: nn.Module) -> None:
    """Refuse a network whose model has not the weights of the one whose mask it takes."""
    mine, theirs = (
        {name: model_.get_parameter(name).shape for name in plain_weights(model_)} for model_ in (model, its)
    )
    for name in {**mine, **theirs}:
        if mine.get(name) != theirs.get(name):
            told = [f"of shape {tuple(found[name])}" if name in found else "missing" for found in (mine, theirs)]
            raise UsageError(
                f"network '{network}' takes the mask of '{other}', and their models differ: '{name}' is {told[0]} in "
                f"'{network}' and {told[1]} in '{other}'; give both the same model."
            )


def nonzero(job: NetworkJob, model: nn.Module) -> int:
    """What the method of a network counts as its parameters that are not zero, before any training.

    ``model`` is the network's dense model, see `dense_model`; the method may change it.

    Raises:
        UsageError: the model cannot be made into such a network.
    """
    owner = job
    while owner.mask is not None:  # what takes another's mask keeps as many weights
        owner = owner.mask
    try:
        with user_code(f"networks: counting with method {owner.method}", own_frames=True), _device_of(model):
            found = owner.spec.count(model, owner.step)
    except UserCodeError:
        raise
    except UsageError as error:
        raise UsageError(f"network '{job.network}': {error}") from None
    if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        raise UserCodeError(
            f"network '{job.network}': count() of method {owner.method} returns {found!r:.60}; it must return how many "
            "parameters are not zero, a whole number above 0."
        )
    return found


def _device_of(model: nn.Module) -> torch.device:
    """That of the model, as a context: what is made within is there, too."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
