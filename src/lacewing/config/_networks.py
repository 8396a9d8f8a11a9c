"""The [[networks]] of a study: a class for each method, and what their networks are called."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lacewing.config._bounds import BadTogether, ascending, at_most, folder_name, no_longer_than, shown
from lacewing.config._parts import Part, Train

_FEWEST = 1e-12  # share of the weights below which no network has one left
_FEW_STOPS = no_longer_than(1000, "each is observed and attacked like a network")


class Network(Part):
    """What networks of every method share: a name, a family, and any field of [train] for this network only."""

    name: Annotated[str, folder_name] | None = None
    family: Annotated[str, folder_name] | None = None  # recipes compared as one; its own name where left out
    train: dict[str, Any] = Field(default_factory=dict)


class Dense(Network):
    """The dense network, which every other is measured against."""

    method: Literal["dense"] = "dense"


class Imp(Network):
    """Iterative magnitude pruning: train, prune, rewind, train again; ``levels`` times."""

    method: Literal["imp"]
    levels: Annotated[int, Field(ge=1), at_most(200, "after that nothing is left to prune")]
    fraction: Annotated[float, Field(ge=1e-3, lt=1)] = 0.2  # of the weights that remain, at each level
    rewind: str = "epoch 1"  # "init" or "epoch K"

    @field_validator("rewind")
    @classmethod
    def _point(cls, rewind: str) -> str:
        if rewind != "init" and not re.fullmatch(r"epoch [1-9][0-9]{0,5}", rewind):
            raise ValueError(f"{shown(rewind)} must be 'init' or 'epoch K' with K from 1 to below train.epochs")
        return rewind

    @model_validator(mode="after")
    def _weights_are_left(self) -> Imp:
        most = math.floor(math.log(_FEWEST) / math.log1p(-self.fraction))
        if self.levels > most:
            raise BadTogether(
                f"levels = {self.levels}: at most {most:,} with fraction = {self.fraction:g}, since after that nothing "
                "is left to prune"
            )
        return self

    @property
    def rewind_epoch(self) -> int:
        """The number of epochs after which the state was kept that pruned networks return to."""
        return 0 if self.rewind == "init" else int(self.rewind.split()[1])


class EarlyStopped(Network):
    """The dense network after fewer epochs of its schedule: what stopping early would have given, as a control."""

    method: Literal["early-stopped"]
    epochs: (
        Annotated[
            tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, strict=False), ascending("epoch"), _FEW_STOPS
        ]
        | None
    ) = None
    shares: (  # of the epochs of training
        Annotated[
            tuple[Annotated[float, Field(gt=0, lt=1)], ...],
            Field(min_length=1, strict=False),
            ascending("share"),
            _FEW_STOPS,
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_of_both(self) -> EarlyStopped:
        if self.epochs is not None and self.shares is not None:
            raise ValueError("give either epochs or shares (of the epochs of training), not both")
        return self

    def stops(self, train: Train) -> tuple[int, ...]:
        """The epochs after which the dense network is observed, ascending.

        Its own ``epochs``; or ``shares`` of the epochs of training, rounded, at least 1 and before the last; or about
        twenty, evenly spaced in log. Empty where training takes one epoch.
        """
        if self.epochs is not None:
            return self.epochs
        if self.shares is not None:
            spaced = {min(max(round(share * train.epochs), 1), train.epochs - 1) for share in self.shares}
        else:
            spaced = {round(train.epochs ** (i / 20)) for i in range(20)}
        return tuple(sorted(spaced - {0, train.epochs}))


class Butterfly(Network):
    """Convolutions of the last ``segments`` replaced by chains of ``factors`` Kronecker-sparse factors."""

    method: Literal["butterfly"]
    segments: Annotated[int, Field(ge=1), at_most(100, "no model here has more")] = 3
    factors: Annotated[int, Field(ge=2), at_most(8, "to find a chain of more takes too long")] = 2
    columns: Literal["channel-first", "kernel-first"] = "channel-first"  # of a kernel: (C, kh, kw) or (kh, kw, C)


KINDS: dict[str, type[Network]] = {
    "dense": Dense,
    "imp": Imp,
    "butterfly": Butterfly,
    "early-stopped": EarlyStopped,
}
AnyNetwork = Annotated[Dense | Imp | Butterfly | EarlyStopped, Field(discriminator="method")]


def network_name(network: Network) -> str:
    """The name of a [[networks]] entry: its own, or one made from its method and settings."""
    if network.name is not None:
        return network.name
    if isinstance(network, Butterfly):
        return f"butterfly-s{network.segments}-l{network.factors}"
    if isinstance(network, EarlyStopped):
        return "early"
    return "imp" if isinstance(network, Imp) else "dense"


def family_name(network: Network) -> str:
    """The family that the networks of a [[networks]] entry belong to: the declared one, or the entry's name."""
    return network.family or network_name(network)


def level_name(network: Imp, level: int) -> str:
    """The name of one level of an IMP sequence, e.g. ``imp-03``."""
    return f"{network_name(network)}-{level:02d}"


def stop_name(network: EarlyStopped, epoch: int) -> str:
    """The name of a dense network that was stopped early, e.g. ``early-050``."""
    return f"{network_name(network)}-{epoch:03d}"


def chain_settings(network: Butterfly) -> dict[str, Any]:
    """What `lacewing.sparsify.butterfly` is called with."""
    return network.model_dump(include={"segments", "factors", "columns"})
