"""Convolutions as products of butterfly factors, the paper's other way to a sparse network (section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lacewing.config import at_most
from lacewing.methods._base import Method
from lacewing.results import Look

if TYPE_CHECKING:
    from torch import nn


class Butterfly(Method):
    """Convolutions of the last ``segments`` replaced by chains of ``factors`` Kronecker-sparse factors."""

    look: ClassVar[Look] = Look("butterfly", "#d55e00", "^")
    reshapes: ClassVar[bool] = True

    method: str = "butterfly"
    segments: Annotated[int, Field(ge=1), at_most(100, "no model here has more")] = 3
    factors: Annotated[int, Field(ge=2), at_most(8, "to find a chain of more takes too long")] = 2
    columns: Literal["channel-first", "kernel-first"] = "channel-first"  # of a kernel: (C, kh, kw) or (kh, kw, C)

    def default_name(self) -> str:
        """``butterfly-s3-l2``: three segments, two factors."""
        return f"butterfly-s{self.segments}-l{self.factors}"

    def build(self, model: nn.Module) -> nn.Module:
        """The model with its last segments replaced."""
        from lacewing.sparsify import butterfly

        butterfly(model, segments=self.segments, factors=self.factors, columns=self.columns)
        return model

    def export(self, model: nn.Module, dense: nn.Module) -> nn.Module:
        """The dense model, its convolutions the products of the factors."""
        from lacewing.sparsify import composed_state

        dense.load_state_dict(composed_state(model))
        return dense
