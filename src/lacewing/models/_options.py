"""The options of built-in models that `[model] options` holds: their defaults, and what is refused, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lacewing.config import Model, shown
from lacewing.errors import UsageError, did_you_mean
from lacewing.support.mapped import Stored, blocks

_MOST_TOKENS = 4096
_STEMS = ("imagenet", "small")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: a whole number unless ``default`` is a float or a word. None: it has no default."""

    default: int | float | str | None
    least: float = 1
    most: float = 1
    words: tuple[str, ...] = ()
    needed: bool = False  # the study must give it

    def fits(self, value: object) -> bool:
        """Whether the option can have this value."""
        if self.words:
            return value in self.words
        numbers = (int, float) if isinstance(self.default, float) else (int,)
        return isinstance(value, numbers) and not isinstance(value, bool) and self.least <= value <= self.most

    def wanted(self) -> str:
        """The end of a sentence: what to give."""
        if self.words:
            return " or ".join(f"'{word}'" for word in self.words)
        kind = "number" if isinstance(self.default, float) else "whole number"
        return f"a {kind} from {self.least:,} to {self.most:,}"


_ENCODER = {"depth": Option(6, 1, 100), "heads": Option(3, 1, 256)}
_STEM = Option("imagenet", words=_STEMS)
OPTIONS: dict[str, dict[str, Option]] = {  # by model
    "vit": {"patch": Option(4, 1, 256), "width": Option(192, 1, 4096), **_ENCODER},
    "transformer": {
        "vocabulary": Option(None, 2, 2**20, needed=True),
        "padding": Option(None, 0, 2**20),
        "width": Option(64, 1, 4096),
        "depth": Option(2, 1, 100),
        "heads": Option(4, 1, 256),
    },
    "resnet50": {"stem": _STEM},
    "efficientnet-b0": {"width": Option(1.0, 0.05, 3.0), "depth": Option(1.0, 0.05, 3.5), "stem": _STEM},
}


def values(model: Model) -> dict[str, Any]:
    """All options of a built-in model, the defaults where the study says nothing."""
    assert model.name is not None
    return {name: option.default for name, option in OPTIONS[model.name].items()} | model.options


def check_options(model: Model, shape: tuple[int, ...]) -> None:
    """Refuse an option that a built-in model has not, or a value that it cannot have with records of ``shape``.

    Raises:
        UsageError: it names the option and the mend.
    """
    assert model.name is not None
    known = OPTIONS.get(model.name, {})
    for name, value in model.options.items():
        if name not in known:
            mend = did_you_mean(name, known) if known else "it takes none; leave them out."
            raise UsageError(f"model.options.{name}: '{model.name}' has no such option; {mend}")
        if not known[name].fits(value):
            raise UsageError(f"model.options.{name} = {shown(value)}: give {known[name].wanted()}.")
    for name, option in known.items():
        if option.needed and name not in model.options:
            raise UsageError(f"model.options.{name}: '{model.name}' needs it; give {option.wanted()}.")
    if model.name == "vit":
        _check_encoder(values(model))
        _check_patches(values(model)["patch"], *shape[1:])
    if model.name == "transformer":
        asked = values(model)
        _check_encoder(asked)
        if shape[0] > _MOST_TOKENS:
            raise UsageError(
                f"model.name: records of {shape[0]:,} tokens: 'transformer' takes at most {_MOST_TOKENS:,}, since each "
                "is compared with each; cut them."
            )
        if asked["padding"] is not None and asked["padding"] >= asked["vocabulary"]:
            raise UsageError(
                f"model.options.padding = {asked['padding']} is no id of a vocabulary of {asked['vocabulary']:,}, "
                "which are counted from 0; raise one or lower the other."
            )


def check_tokens(model: Model, x: Stored) -> None:
    """Refuse token ids (N, T) beyond the vocabulary of a 'transformer'. Raises `UsageError`."""
    vocabulary = int(values(model)["vocabulary"])
    largest = int(max(block.max() for block in blocks(x)))
    if largest >= vocabulary:
        raise UsageError(
            f"model.options.vocabulary = {vocabulary:,}: the data set holds the id {largest:,}, and ids are "
            f"counted from 0; set it to {largest + 1:,} or more."
        )


def _check_encoder(asked: dict[str, Any]) -> None:
    if asked["width"] % asked["heads"]:
        raise UsageError(
            f"model.options.heads = {asked['heads']} does not divide the width, {asked['width']}; "
            f"{_divisors(asked['width'])}"
        )


def _check_patches(patch: int, height: int, width: int) -> None:
    if height % patch or width % patch:
        raise UsageError(
            f"model.options.patch = {patch} does not divide images of {height} x {width} pixels; "
            f"{_divisors(math.gcd(height, width))}"
        )
    tokens = height * width // patch**2
    if tokens > _MOST_TOKENS:
        raise UsageError(
            f"model.options.patch = {patch} cuts an image of {height} x {width} pixels into {tokens:,} patches: at "
            f"most {_MOST_TOKENS:,}, since each is compared with each; make it larger."
        )


def _divisors(number: int) -> str:
    found = [str(n) for n in range(1, min(number, 64) + 1) if number % n == 0]
    return f"give {' or '.join([', '.join(found[:-1])] * (len(found) > 1) + found[-1:])}."
