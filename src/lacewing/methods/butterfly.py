"""Layers as products of butterfly factors, the paper's other way to a sparse network (section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lacewing.config import BadTogether, at_most
from lacewing.methods._base import Method
from lacewing.results import Look

if TYPE_CHECKING:
    from torch import nn

_SEGMENTS = 3


class Butterfly(Method):
    """Convolutions of the last ``segments`` replaced by chains of ``factors`` Kronecker-sparse factors.

    Or, with ``density``, every layer but the last one, as near to that density of the whole network as chains come
    without exceeding it: for models that have no segments, such as perceptrons.
    """

    look: ClassVar[Look] = Look("butterfly", "#d55e00", "^")
    reshapes: ClassVar[bool] = True

    method: str = "butterfly"
    segments: Annotated[int, Field(ge=1), at_most(100, "no model here has more")] = _SEGMENTS
    factors: Annotated[int, Field(ge=2), at_most(8, "to find a chain of more takes too long")] = 2
    columns: Literal["channel-first", "kernel-first"] = "channel-first"  # of a kernel: (C, kh, kw) or (kh, kw, C)
    density: Annotated[float, Field(gt=0, lt=1)] | None = None  # instead of segments: of all parameters, biases too

    @model_validator(mode="after")
    def _segments_or_density(self) -> Butterfly:
        if self.density is not None and "segments" in self.model_fields_set and self.segments != _SEGMENTS:
            raise BadTogether("density replaces every layer but the last, segments those of a ResNet; give one of them")
        return self

    def settings(self) -> dict[str, Any]:
        """The method's own fields; a density, which came later, only where it is given."""
        found = super().settings()
        unused = "density" if self.density is None else "segments"
        return {name: value for name, value in found.items() if name != unused}

    def default_name(self) -> str:
        """``butterfly-s3-l2``: three segments, two factors; ``butterfly-d30-l2``: a density of 30 %."""
        places = f"s{self.segments}" if self.density is None else f"d{100 * self.density:g}"
        return f"butterfly-{places}-l{self.factors}"

    def build(self, model: nn.Module) -> nn.Module:
        """The model with its last segments, or all layers but the last, replaced."""
        from lacewing.sparsify import butterfly
        from lacewing.sparsify.masks import plain_weights

        if self.density is None:
            butterfly(model, segments=self.segments, factors=self.factors, columns=self.columns)
        else:
            last = [*plain_weights(model)][-1:]
            butterfly(
                model,
                density=self.density,
                factors=self.factors,
                ignore=[name.removesuffix(".weight") for name in last],
                columns=self.columns,
            )
        return model

    def export(self, model: nn.Module, dense: nn.Module) -> nn.Module:
        """The dense model, its convolutions the products of the factors."""
        from lacewing.sparsify import composed_state

        dense.load_state_dict(composed_state(model))
        return dense
