"""The whole declared experiment, and the key of whatever follows from a part of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lacewing.config._bounds import folder_name, no_longer_than, shown
from lacewing.config._checked import validated
from lacewing.config._networks import AnyNetwork, Dense, EarlyStopped, Imp, Network, level_name, network_name, stop_name
from lacewing.config._parts import Attacks, Data, Model, Part, Run, Signals, Train
from lacewing.config._tradeoff import Tradeoff, check_declared, check_families

MOST_NETWORKS, MOST_PAIRS = 10_000, 300_000
SCHEMA = 1  # of studies, job keys and run folders; raised whenever an old run folder would mean something else


class Study(Part):
    """The whole declared experiment."""

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    name: Annotated[str, folder_name]
    data: Data = Data()
    model: Model
    train: Train = Train()
    networks: Annotated[
        tuple[AnyNetwork, ...],
        Field(min_length=1, strict=False),
        no_longer_than(1000, "every entry is at least one network for each seed"),
    ]
    signals: Signals = Signals()
    attacks: Attacks = Attacks()
    tradeoff: Tradeoff = Tradeoff()
    run: Run = Run()

    @model_validator(mode="before")
    @classmethod
    def _population_of_halves(cls, fields: Any) -> Any:
        """random-halves keeps a tenth as population where the study does not say how much."""
        drawn = fields.get("data") if isinstance(fields, dict) else None
        if isinstance(drawn, dict) and drawn.get("split") == "random-halves" and "population" not in drawn:
            return {**fields, "data": {**drawn, "population": 0.1}}
        return fields

    @model_validator(mode="before")
    @classmethod
    def _rewind_of_one_epoch(cls, fields: Any) -> Any:
        """IMP returns to the initialisation where the study does not say otherwise and trains for a single epoch.

        Its usual point of return, the end of epoch 1, would be the end of the training.
        """
        if not isinstance(fields, dict) or not isinstance(fields.get("networks"), list | tuple):
            return fields

        def settled(network: Any) -> Any:
            if not isinstance(network, dict) or network.get("method") != "imp" or "rewind" in network:
                return network
            trains = [train for train in (fields.get("train"), network.get("train")) if isinstance(train, dict)]
            epochs = [train["epochs"] for train in trains if "epochs" in train]
            return {**network, "rewind": "init"} if epochs and epochs[-1] == 1 else network

        return {**fields, "networks": [settled(network) for network in fields["networks"]]}

    @field_validator("schema_")
    @classmethod
    def _known_schema(cls, schema: int) -> int:
        if schema != SCHEMA:
            raise ValueError(f"{shown(schema)} is not the schema of this version, which is {SCHEMA}")
        return schema

    @model_validator(mode="after")
    def _networks_fit(self) -> Study:
        self._plan_fits()
        names = [network_name(network) for network in self.networks]
        names += [level_name(n, level) for n in self.networks if isinstance(n, Imp) for level in range(n.levels + 1)]
        for index, n in enumerate(self.networks):
            if isinstance(n, EarlyStopped):
                train = self.train_of(n, where=f"networks.{index}.train")
                names += [stop_name(n, epoch) for epoch in {*n.stops(train), train.epochs}]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"networks: two are called '{name}'; give one of the entries another name")
        recipes: dict[str, str] = {}
        for index, network in enumerate(self.networks):
            train = self.train_of(network, where=f"networks.{index}.train")
            if train.stack > 1 and (self.model.name != "mlp" or train.precision == "bf16" or train.augment):
                raise ValueError(
                    f"train.stack = {train.stack} needs model.name = 'mlp', fp32 and no train.augment; set it to 1"
                )
            if isinstance(network, Imp) and network.rewind_epoch >= train.epochs:
                raise ValueError(
                    f"networks.{index}.rewind: '{network.rewind}' is not before the end of training "
                    f"(train.epochs = {train.epochs}); rewind earlier or train longer"
                )
            if isinstance(network, EarlyStopped):
                self._stops_fit(network, f"networks.{index}", train)
            rest = {"name", "family", "train", "levels", "epochs", "shares"}
            recipe = network.model_dump_json(exclude=rest) + train.model_dump_json()
            other = recipes.setdefault(recipe, names[index])
            if other != names[index]:
                raise ValueError(f"networks: '{other}' and '{names[index]}' are made alike; remove one or change it")
        check_families(self)
        check_declared(self)
        return self

    def _plan_fits(self) -> None:
        """Refuse, before a plan is made, one of more networks than any study has."""
        each = 0
        for index, n in enumerate(self.networks):
            stops = n.stops(self.train_of(n, where=f"networks.{index}.train")) if isinstance(n, EarlyStopped) else ()
            each += n.levels + 1 if isinstance(n, Imp) else len(stops) + 1
        seeds = len(self.run.seeds)
        planned = each * seeds * (2 if self.data.split == "four-way" else 1)
        if planned > MOST_NETWORKS:
            raise ValueError(
                f"networks and run.seeds make {planned:,} networks: at most {MOST_NETWORKS:,}, since a study is "
                "planned and reported as a whole; split it into several"
            )
        if planned * seeds > MOST_PAIRS:
            raise ValueError(
                f"run.seeds: {planned:,} networks of {seeds:,} seeds make {planned * seeds:,} pairs of a network and "
                f"a reference: at most {MOST_PAIRS:,}, since attacks read them all; name fewer seeds"
            )

    def _stops_fit(self, network: EarlyStopped, where: str, train: Train) -> None:
        if train.stack > 1:
            raise ValueError(
                f"{where}: networks in stacks cannot be stopped early; set train.stack to 1, or leave it out"
            )
        if network.epochs is not None and network.epochs[-1] >= train.epochs:
            raise ValueError(
                f"{where}.epochs: all must be before the last one (train.epochs = {train.epochs}); stop earlier, train "
                "longer, or give shares of the training instead of epochs"
            )

    def train_of(self, network: Network, where: str = "train") -> Train:
        """[train] with the network's own fields laid over it.

        Raises:
            UsageError: an override names no field of [train], or has a wrong value.
        """
        return validated(Train, {**self.train.model_dump(), **network.train}, where)

    def undecided(self) -> tuple[str, ...]:
        """The fields, as ``--set`` names them, whose ``precision = "auto"`` must be decided; stacks train in fp32."""
        asked = {}
        for index, network in enumerate(self.networks):
            train = self.train_of(network)
            if train.precision == "auto" and train.stack == 1:
                own = "precision" in network.train
                asked[f"networks.{index}.train.precision" if own else "train.precision"] = True
        return tuple(asked)

    def resolved(self, precision: Literal["fp32", "bf16"]) -> Study:
        """The study with ``precision = "auto"`` decided, as the run folder records it; a stack trains in fp32.

        Raises:
            UsageError: two networks are made alike now.
        """
        train = self.train
        if train.precision == "auto":
            train = train.model_copy(update={"precision": "fp32" if train.stack > 1 else precision})

        def settle(network: AnyNetwork) -> dict[str, Any]:
            asked = self.train_of(network)
            decided = "fp32" if asked.stack > 1 else precision
            if asked.precision != "auto" or ("precision" not in network.train and decided == train.precision):
                return network.train
            return {**network.train, "precision": decided}

        networks = tuple(n.model_copy(update={"train": settle(n)}) for n in self.networks)
        decided = self.model_copy(update={"train": train, "networks": networks})
        return validated(Study, decided.as_dict(), "study")

    def as_dict(self) -> dict[str, Any]:
        """The study as plain JSON data, defaults included."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def kind_of(study: Study, network: Network) -> Literal["dense", "sparse", "control"]:
    """What a [[networks]] entry is for: the dense network that others are measured against, sparse, or a control.

    The dense one is that called "dense", or the study's only entry of that method.
    """
    if not isinstance(network, Dense | EarlyStopped):
        return "sparse"
    kin = [each for each in study.networks if isinstance(each, Dense)]
    if isinstance(network, Dense) and (network_name(network) == "dense" or kin == [network]):
        return "dense"
    return "control"


def canonical_key(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex, 64 digits) of a config in one canonical JSON form: sorted keys, no spaces, full float repr."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
