"""Factories that build a user's model, or that of an installed package, and how each is called."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lacewing.config import Model
from lacewing.errors import UsageError, did_you_mean

_FIRST = {"model_name", "pretrained", "weights", "progress", "num_classes", "in_chans", "img_size"}
_OF_THE_STUDY = {"shape": "data", "classes": "data", "num_classes": "data", "in_chans": "data", "dropout": "train"}


def parameters_of(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Its parameters; none where nothing says which it has."""
    try:
        return inspect.signature(factory).parameters
    except ValueError:
        return {}


def takes_names(factory: Callable[..., Any]) -> bool:
    """Whether it is called as ``factory(num_classes=...)``, as those of timm and torchvision are.

    Such a factory takes ``num_classes``, or any keyword, and its first positional parameter is none of a shape, or it
    has none. Others are called as ``factory(shape, classes)``.
    """
    parameters = parameters_of(factory)
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds or not (
        "num_classes" in parameters or inspect.Parameter.VAR_KEYWORD in kinds
    ):
        return False
    positional = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    return not positional or positional[0] in _FIRST


def arguments(
    factory: Callable[..., Any], named: str, model: Model, shape: tuple[int, ...], classes: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a factory is called with, positionally and by name, but for dropout.

    Args:
        factory: the function.
        named: the field of the study that names it, with what stands there: the begin of a sentence.
        model: its options.
        shape: of one record.
        classes: number of outputs.

    Raises:
        UsageError: an option that the study sets, or that the factory does not take; one that it cannot do without;
            images with other channels than three for a factory that cannot be told how many there are.
    """
    parameters, by_name = parameters_of(factory), takes_names(factory)
    for name in model.options:
        if name in _OF_THE_STUDY:
            raise UsageError(f"model.options.{name}: [{_OF_THE_STUDY[name]}] of the study says that; leave it out.")
    given: dict[str, Any] = {}
    if by_name:
        given["num_classes"] = classes
        given |= _of_images(parameters, named, shape)
    known = {name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    everything = len(known) < len(parameters) or not parameters
    positional = [name for name in parameters if not by_name][:2]  # shape and classes, by whatever names
    for name in model.options:
        if not everything and (name not in known or name in positional):
            free = known - {*positional, "dropout"}
            raise UsageError(
                f"model.options.{name}: {named.partition(': ')[2]} takes no such argument; "
                f"{did_you_mean(name, free) if free else 'it takes no options, so leave it out.'}"
            )
    given |= model.options
    missing = [n for n, p in parameters.items() if by_name and p.default is p.empty and p.kind in _NAMED]
    for name in missing:
        if name not in given:
            example = ', such as "vit_tiny_patch16_224"' if name == "model_name" else ""
            raise UsageError(f"{named} needs '{name}': set model.options.{name}{example}.")
    return (() if by_name else (shape, classes)), given


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _of_images(parameters: Mapping[str, inspect.Parameter], named: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """``in_chans`` and ``img_size``, where the factory takes them: timm's do, also where they name no parameter."""
    if len(shape) != 3:
        raise UsageError(
            f"{named} is called with num_classes, as a model of images, and records of this data set have shape "
            f"{shape}; name a function of (shape, classes)."
        )
    found: dict[str, Any] = {}
    if "img_size" in parameters:
        found["img_size"] = shape[1] if shape[1] == shape[2] else shape[1:]
    if "in_chans" in parameters or {"pretrained", "model_name"} & {*parameters}:
        found["in_chans"] = shape[0]
    elif shape[0] != 3:
        raise UsageError(
            f"{named} takes no in_chans, and so images of 3 channels; those of this data set have {shape[0]}. Name a "
            "function of (shape, classes) that builds the model for them."
        )
    return found


def package_of(factory: Callable[..., Any]) -> dict[str, str]:
    """The version of the package of a factory that is called by names, whose module builds with code of others."""
    top = getattr(factory, "__module__", "").partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", None)
    return {"package": f"{top} {version}"} if takes_names(factory) and isinstance(version, str) else {}
