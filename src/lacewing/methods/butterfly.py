"""Layers as products of butterfly factors, the paper's other way to a sparse network (section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lacewing.config import BadTogether, Model, at_most, distinct, no_longer_than
from lacewing.methods._base import Method, Step
from lacewing.models import largest_kernel
from lacewing.results import Look

if TYPE_CHECKING:
    from torch import nn

    from lacewing.sparsify import Replaced

_NAMED = 4  # layers that a note names for each reason
_SEGMENTS = 3
_LARGE = 1 << 17  # ``LARGE`` of lacewing.sparsify._rank_one, which needs torch


class Butterfly(Method):
    """Convolutions of the last ``segments`` replaced by chains of ``factors`` Kronecker-sparse factors.

    Or, with ``density``, every linear layer, convolution and input projection of attention but the last layer, as near
    to that density of the whole network as chains come without exceeding it: for models that have no segments, such as
    perceptrons and transformers.
    """

    look: ClassVar[Look] = Look("butterfly", "#d55e00", "^")
    reshapes: ClassVar[bool] = True

    method: str = "butterfly"
    segments: Annotated[int, Field(ge=1), at_most(100, "no model here has more")] = _SEGMENTS
    factors: Annotated[int, Field(ge=2), at_most(8, "to find a chain of more takes too long")] = 2
    columns: Literal["channel-first", "kernel-first"] = "channel-first"  # of a kernel: (C, kh, kw) or (kh, kw, C)
    density: Annotated[float, Field(gt=0, lt=1)] | None = None  # instead of segments: of all parameters, biases too
    layers: Literal["all", "linear", "conv"] = "all"  # with density: which kind is replaced
    ignore: Annotated[  # names of layers that stay dense, beside the last one; * matches anything
        tuple[Annotated[str, Field(min_length=1), no_longer_than(200, "it is a name")], ...],
        Field(strict=False),
        distinct("a layer"),
        no_longer_than(1000, "a pattern such as 'blocks.*.fc1' names many layers"),
    ] = ()

    @model_validator(mode="after")
    def _segments_or_density(self) -> Butterfly:
        if self.density is not None and "segments" in self.model_fields_set and self.segments != _SEGMENTS:
            raise BadTogether("density replaces every layer but the last, segments those of a ResNet; give one of them")
        if self.density is None and self.layers != "all":
            raise BadTogether(
                f"layers = '{self.layers}' goes with density: segments are of convolutions; give a density, or leave "
                "layers out"
            )
        return self

    def settings(self) -> dict[str, Any]:
        """The method's own fields; those that came later (density, layers, ignore) only where they are given."""
        found = super().settings()
        unused = {"density" if self.density is None else "segments"}
        unused |= {name for name in ("layers", "ignore") if name not in unused and found[name] in ("all", [])}
        return {name: value for name, value in found.items() if name not in unused}

    def default_name(self) -> str:
        """``butterfly-s3-l2``: three segments, two factors; ``butterfly-d30-l2-conv``: density 30 %, convolutions.

        Entries that ignore different layers need names of their own.
        """
        places = f"s{self.segments}" if self.density is None else f"d{100 * self.density:g}"
        kind = "" if self.layers == "all" else f"-{self.layers}"
        return f"butterfly-{places}-l{self.factors}{kind}"

    def arithmetic(self, model: Model) -> int:
        """2 where a kernel may be one that `lacewing.sparsify` composes without zeros: it once multiplied by them."""
        return 1 if largest_kernel(model) < _LARGE else 2

    def build(self, model: nn.Module) -> nn.Module:
        """The model with its last segments, or all layers but the last, replaced."""
        self._replace(model)
        return model

    def notes(self, model: nn.Module, step: Step) -> list[str]:
        """Which layers stay dense, and why; with segments only where these are most of the weights."""
        from torch import nn

        embeddings = {name: "embedding" for name, layer in model.named_modules() if isinstance(layer, nn.Embedding)}
        saved = any(hasattr(layer, "saved_parameters") for layer in model.modules())
        done = self._replace(model)
        dense = {name.removesuffix(".weight"): why for name, why in done.dense.items()}
        weights = {layer.name: layer.parameters for layer in done.summary.layers}
        left = sum(weights[name] for name in done.dense)
        if self.density is None and 2 * left <= sum(weights.values()):
            return []
        reasons: dict[str, list[str]] = {}
        for name, why in (dense | embeddings).items():
            reasons.setdefault(why, []).append(name)
        told = "; ".join(f"{_some(names)} ({why})" for why, names in reasons.items())
        layers = len(dense | embeddings) + len(done.chains)
        said = f"{len(done.chains)} of {layers} layers become butterfly. Dense layers: {told}."
        if saved and self.density is not None:
            said += (
                f" density = {self.density:g} counts what is butterfly already as the dense layers that it stands for."
            )
        return [said]

    def _replace(self, model: nn.Module) -> Replaced:
        from lacewing.sparsify import butterfly
        from lacewing.sparsify.masks import last_layer

        shared: dict[str, Any] = {"factors": self.factors, "columns": self.columns}
        if self.density is None:
            return butterfly(model, segments=self.segments, ignore=self.ignore, **shared)
        last = [] if (found := last_layer(model)) is None else [found]
        done = butterfly(model, density=self.density, layers=self.layers, ignore=[*last, *self.ignore], **shared)
        own = {name: "the last layer" for name in done.dense if name.removesuffix(".weight") in last}
        return replace(done, dense=done.dense | own)

    def export(self, model: nn.Module, dense: nn.Module) -> nn.Module:
        """The dense model, its convolutions the products of the factors."""
        from lacewing.sparsify import composed_state

        dense.load_state_dict(composed_state(model))
        return dense


def _some(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED:,} more"
