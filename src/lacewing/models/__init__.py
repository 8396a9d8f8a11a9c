"""The models: a registry, users' own factories ``package.module:function``, and those of installed packages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lacewing.config import Model, shown
from lacewing.errors import UsageError, did_you_mean
from lacewing.models._factory import arguments, package_of, parameters_of
from lacewing.models._options import OPTIONS, check_options, values
from lacewing.models._options import check_tokens as check_tokens
from lacewing.support.loading import MODELS, installed, load_function, load_users, refuse_ambiguous, source_digest
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from torch import nn

_DEPTHS = {f"resnet{depth}": depth for depth in (8, 14, 20, 32, 44, 56)}
SENTENCES = {  # of each model that is built in
    name: f"A ResNet of {depth} layers for small images (He et al. 2016); options width, norm."
    for name, depth in _DEPTHS.items()
} | {
    "resnet50": "ResNet-50, of bottlenecks (He et al. 2016); options width, norm, options.stem.",
    "efficientnet-b0": "EfficientNet-B0 (Tan & Le 2019); options.width, options.depth (factors), options.stem.",
    "vit": "A vision transformer (Dosovitskiy et al. 2021); options.patch, .width, .depth, .heads.",
    "transformer": "An encoder of token ids; options.vocabulary, .padding (an id), .width, .depth, .heads.",
    "mlp": "A multi-layer perceptron for records of any shape; option hidden.",
}
NAMES = tuple(SENTENCES)
READ_TOKENS = ("transformer",)  # models of ids alone; a factory may be one, too
WIDTH, HIDDEN = 16, (256, 256)  # of a small ResNet and of a perceptron whose study does not say
_BOTTLENECKS, _BOTTLENECK_WIDTH = (3, 4, 6, 3), 64
_RESNETS = {*_DEPTHS, "resnet50"}
MOST_WEIGHTS = 2**28


def check(model: Model, shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> None:
    """Refuse, without torch, a model of a name that does not exist, or cannot take records of ``shape`` or dropout.

    Raises:
        UsageError: unknown name, an option of another model or an impossible value, a model of images on records that
            are none, more weights than `MOST_WEIGHTS`, dropout for a perceptron without hidden layers or a factory that
            has no parameter for it, options that a factory does not take.
    """
    if model.factory is not None:
        _check_factory(model, shape, classes, dropout)
        return
    assert model.name is not None
    if model.name not in NAMES:
        there = installed(MODELS)
        if model.name not in there:
            known = (*NAMES, *there)
            raise UsageError(f"model.name: unknown model '{model.name}'; {did_you_mean(model.name, known)}")
        if model.width is not None or model.hidden is not None or model.norm is not None:
            raise UsageError(
                f"model.name: '{model.name}' of an installed package takes no width, hidden or norm, which are options "
                "of the models here; leave them out."
            )
        _check_factory(model, shape, classes, dropout)
        return
    if model.name not in (*_RESNETS, "mlp"):
        for field in ("width", "norm", "hidden"):
            if getattr(model, field) is not None:
                options = " and ".join(f"model.options.{name}" for name in OPTIONS[model.name])
                raise UsageError(f"model.{field} is no option of '{model.name}', which has {options}.")
    if model.name == "mlp" and model.width is not None:
        raise UsageError("model.width is an option of ResNets; for 'mlp' set model.hidden, e.g. [256, 256].")
    if model.name == "mlp" and model.norm is not None:
        raise UsageError("model.norm is an option of ResNets; 'mlp' has no norm, so leave it out.")
    if model.name in _RESNETS and model.hidden is not None:
        raise UsageError("model.hidden is an option of 'mlp'; for a ResNet set model.width, e.g. 16.")
    if model.name == "transformer":
        if len(shape) != 1:
            raise UsageError(f"model.name: 'transformer' needs rows of token ids, and records here have shape {shape}.")
    elif model.name != "mlp" and len(shape) != 3:
        raise UsageError(
            f"model.name: '{model.name}' needs images (C, H, W), and this data set has records of shape {shape}; "
            "use 'mlp' or a factory of your own."
        )
    check_options(model, shape)
    if dropout and model.hidden == ():
        raise UsageError(
            f"train.dropout = {dropout:g}: a perceptron without hidden layers has no place for it; set it to 0, or "
            "give model.hidden some layers."
        )
    weights = _count_weights(model, shape, classes)
    if weights > MOST_WEIGHTS:
        field = "hidden" if model.name == "mlp" else "width" if model.name in _RESNETS else "options.width"
        raise UsageError(
            f"model.{field}: '{model.name}' would have {weights:,} weights here: "
            f"at most {MOST_WEIGHTS:,}, since training holds four copies of them; make it smaller."
        )


def _check_factory(model: Model, shape: tuple[int, ...], classes: int, dropout: float) -> None:
    """Refuse options that a factory does not take, and dropout for one that has no parameter of this name."""
    if not dropout and not model.options:
        return
    factory = _own_factory(model)
    arguments(factory, named(model), model, shape, classes)
    if dropout and "dropout" not in parameters_of(factory):
        raise UsageError(
            f"train.dropout = {dropout:g}: {named(model)} has no parameter 'dropout'; give it one, as in build(shape, "
            "classes, dropout=0.0), or set train.dropout to 0."
        )


def takes_tokens(model: Model) -> bool:
    """Whether it reads token ids alone, which are not standardised and have no noisy or shifted copies."""
    return model.name in READ_TOKENS


def is_own(model: Model) -> bool:
    """Whether a user's code, or an installed package, builds the model."""
    return model.factory is not None or model.name not in NAMES


def field_of(model: Model) -> str:
    """The field of the study that names the model."""
    return "model.name" if model.factory is None else "model.factory"


def named(model: Model) -> str:
    """The field of the study that names the model, with what stands there: the begin of a sentence."""
    name = f"'{model.name}'" if model.factory is None else model.factory
    return f"{field_of(model)}: {name}"


def _own_factory(model: Model) -> Callable[..., Any]:
    if model.factory is not None:
        return load_function(model.factory, "model.factory")
    assert model.name is not None
    factory = load_users(model.name, MODELS, "model.name", built_in=NAMES)
    if not callable(factory):
        raise UsageError(f"{named(model)} of an installed package is not callable; upgrade the package.")
    return factory  # type: ignore[no-any-return]


def _count_weights(model: Model, shape: tuple[int, ...], classes: int) -> int:
    """Entries of the matrices and convolutions of a registry model, before there is one."""
    if model.name == "mlp":
        sizes = (math.prod(shape), *(HIDDEN if model.hidden is None else model.hidden), classes)
        return sum(a * b for a, b in itertools.pairwise(sizes))
    assert model.name is not None
    if model.name == "vit":
        asked = values(model)
        patch, width, depth = int(asked["patch"]), int(asked["width"]), int(asked["depth"])
        tokens = 1 + math.prod(shape[1:]) // patch**2
        return width * (shape[0] * patch**2 + 1 + tokens + 12 * width * depth + classes)
    if model.name == "transformer":
        asked = values(model)
        width, rows = int(asked["width"]), int(asked["vocabulary"]) + shape[0] + classes
        return width * (rows + 12 * width * int(asked["depth"]))
    if model.name == "resnet50":
        return _count_bottlenecks(model, shape[0], classes)
    if model.name == "efficientnet-b0":
        return 0  # its options are bounded so that it has fewer than `MOST_WEIGHTS`
    blocks, width = (_DEPTHS[model.name] - 2) // 6, model.width or WIDTH
    weights = 9 * width * (shape[0] + width)  # the stem, and the first convolution
    weights += 9 * width**2 * (2 * blocks - 1)
    for inputs, outputs in ((width, 2 * width), (2 * width, 4 * width)):
        weights += (9 + 1) * inputs * outputs + 9 * outputs**2 * (2 * blocks - 1)  # 1: the shortcut
    return weights + 4 * width * classes


def largest_kernel(model: Model) -> float:
    """How many entries a convolution of the model may have: a bound for images of up to 16 channels, or infinity."""
    if is_own(model) or model.name in ("resnet50", "efficientnet-b0"):
        return math.inf
    if model.name == "vit":
        asked = values(model)
        return int(asked["width"]) * 16 * int(asked["patch"]) ** 2
    return 9 * (4 * (model.width or WIDTH)) ** 2 if model.name in _RESNETS else 0


def _count_bottlenecks(model: Model, channels: int, classes: int) -> int:
    width, side = model.width or _BOTTLENECK_WIDTH, 7 if values(model)["stem"] == "imagenet" else 3
    weights, inputs = side**2 * channels * width, width
    for index, blocks in enumerate(_BOTTLENECKS):
        inner = width << index
        weights += 4 * inputs * inner  # the shortcut
        for _ in range(blocks):
            weights += inner * (inputs + 9 * inner + 4 * inner)
            inputs = 4 * inner
    return weights + inputs * classes


def build(model: Model, shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> nn.Module:
    """A fresh network with torch's default initialisation, from the ambient torch seed.

    Args:
        model: registry name and options, or a factory.
        shape: of one record, (C, H, W) or (D,).
        classes: number of outputs.
        dropout: after each hidden layer of a perceptron, between the convolutions of each block of a ResNet (before
            the last of a bottleneck), in each block of a transformer, before the classifier of an EfficientNet; a
            factory is called with it where it is not 0. The weights of our models have the same names with and without.

    Raises:
        UsageError: see ``check``; or the factory cannot be imported, fails, or returns no ``torch.nn.Module``.
    """
    from torch import nn

    check(model, shape, classes, dropout)
    if is_own(model):
        factory = _own_factory(model)
        places, options = arguments(factory, named(model), model, shape, classes)
        options |= {"dropout": dropout} if dropout else {}
        told = [f"shape={shape}", f"classes={classes}"] if places else []
        told += [f"{name}={shown(value)}" for name, value in options.items()]
        with user_code(
            f"{named(model)}({', '.join(told)})",
            "; it must accept the shape of a record and the number of classes" if places else "; see model.options",
        ):
            network = factory(*places, **options)
        if not isinstance(network, nn.Module):
            raise UsageError(f"{named(model)} returned a {type(network).__name__}; it must return a torch.nn.Module.")
        return network
    if model.name == "mlp":
        from lacewing.models.mlp import mlp

        return mlp(math.prod(shape), classes, HIDDEN if model.hidden is None else model.hidden, dropout)
    if model.name == "vit":
        from lacewing.models.transformer import VisionTransformer

        return VisionTransformer(shape[1:], classes, channels=shape[0], dropout=dropout, **values(model))  # type: ignore[arg-type]
    if model.name == "transformer":
        from lacewing.models.transformer import TokenTransformer

        return TokenTransformer(shape[0], classes=classes, dropout=dropout, **values(model))
    if model.name == "efficientnet-b0":
        from lacewing.models.efficientnet import EfficientNet

        return EfficientNet(classes, channels=shape[0], dropout=dropout, **values(model))
    if model.name == "resnet50":
        from lacewing.models.bottleneck import BottleneckResNet

        return BottleneckResNet(
            classes,
            channels=shape[0],
            width=model.width or _BOTTLENECK_WIDTH,
            blocks=_BOTTLENECKS,
            dropout=dropout,
            norm=model.norm or "batch",
            **values(model),
        )
    from lacewing.models.resnet import ResNet

    assert model.name is not None
    depth, width = _DEPTHS[model.name], model.width or WIDTH
    return ResNet(depth, classes, channels=shape[0], width=width, dropout=dropout, norm=model.norm or "batch")


def fingerprint(model: Model) -> dict[str, Any]:
    """What identifies the model in a job's key: its settings and, where it is no model of ours, the hash of its source.

    A field that came later counts only where it is not its default.

    Raises:
        UsageError: the factory's module has no source to hash, so its networks could not be told apart from older ones;
            or an installed package adds a model of the same name.
    """
    settings = model.model_dump(mode="json")
    settings = {name: value for name, value in settings.items() if name not in ("norm", "options") or value}
    if not is_own(model):
        refuse_ambiguous([str(model.name)], MODELS, "model.name", built_in=NAMES)
        return settings
    factory = _own_factory(model)
    return {**settings, **package_of(factory), "source": source_digest(factory, field_of(model))}
