"""The whole declared experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, SerializeAsAny, ValidationInfo, field_validator, model_validator

from lacewing.config import (
    Attacks,
    Attribute,
    BadField,
    Data,
    Model,
    Part,
    Property,
    Run,
    Signals,
    Tradeoff,
    Train,
    folder_name,
    no_longer_than,
    shown,
    validated,
)
from lacewing.errors import UsageError, UserCodeError
from lacewing.methods import SHARED, Method, RecordedMethod, check_own, of_entry
from lacewing.models import READ_TOKENS
from lacewing.results import Kind
from lacewing.study.declared._masks import check_taken
from lacewing.study.declared._questions import check_declared, check_families

MOST_NETWORKS, MOST_PAIRS = 10_000, 300_000
SCHEMA = 1  # of study files


class Study(Part):
    """The whole declared experiment."""

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    name: Annotated[str, folder_name]
    data: Data = Data()
    model: Model
    train: Train = Train()
    networks: Annotated[
        tuple[SerializeAsAny[Method], ...],
        Field(min_length=1, strict=False),
        no_longer_than(1000, "every entry is at least one network for each seed"),
    ]
    signals: Signals = Signals()
    attacks: Attacks = Attacks()
    tradeoff: Tradeoff = Tradeoff()
    property: Property | None = None
    attribute: Attribute | None = None
    run: Run = Run()
    _places: tuple[int, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _population_of_halves(cls, fields: Any) -> Any:
        """random-halves keeps a tenth as population where the study does not say how much."""
        drawn = fields.get("data") if isinstance(fields, dict) else None
        if isinstance(drawn, dict) and drawn.get("split") == "random-halves" and "population" not in drawn:
            return {**fields, "data": {**drawn, "population": 0.1}}
        return fields

    @field_validator("networks", mode="before")
    @classmethod
    def _methods(cls, entries: Any, info: ValidationInfo) -> Any:
        """Each entry as its method; what a run folder records of user's methods is in the context."""
        if not isinstance(entries, list | tuple):
            return entries
        recorded, places = (info.context or {}).get("methods"), _places(info)
        train = info.data["train"].model_dump() if "train" in info.data else {}
        made = []
        for index, entry in enumerate(entries):
            place = places[index] if places else index
            if isinstance(entry, Method):
                made.append(entry)
            elif not isinstance(entry, Mapping):
                raise BadField(f"networks.{place} = {shown(entry)}: give a table of fields.")
            else:
                made.append(_method(place, entry, train, recorded))
        return made

    @field_validator("schema_")
    @classmethod
    def _known_schema(cls, schema: int) -> int:
        if schema != SCHEMA:
            raise ValueError(f"{shown(schema)} is not the schema of this version, which is {SCHEMA}")
        return schema

    @model_validator(mode="after")
    def _networks_fit(self, info: ValidationInfo) -> Study:
        self._places = _places(info)
        names, planned = Counter[str](), 0
        for index, network in enumerate(self.networks):
            where = f"networks.{self.place(index)}"
            train = self.train_of(network, where=f"{where}.train")
            if network.source is not None and not isinstance(network, RecordedMethod):
                check_own(network, train, where)
            steps = network.steps(train)
            names.update({network.entry, *(step.network for step in steps)})
            planned += len(steps)
        self._plan_fits(planned)
        for name, count in names.items():
            if count > 1:
                raise ValueError(f"networks: two are called '{name}'; give one of the entries another name")
        check_taken(self)
        recipes: dict[str, str] = {}
        for index, network in enumerate(self.networks):
            train, model = self._network_fits(network, f"networks.{self.place(index)}")
            made = network.model_dump_json(exclude={*SHARED, *network.adds})
            other = recipes.setdefault(made + train.model_dump_json() + model.model_dump_json(), network.entry)
            if other != network.entry:
                raise ValueError(f"networks: '{other}' and '{network.entry}' are made alike; remove one or change it")
        check_families(self.networks)
        halves = self.data.split == "random-halves"
        check_declared(self.tradeoff, self.networks, self.run.seeds, self.attacks.names, halves=halves)
        return self

    def _network_fits(self, network: Method, where: str) -> tuple[Train, Model]:
        """An entry's training and model. Refuses one that does not fit them."""
        train, model = self.train_of(network), self.model_of(network, where=f"{where}.model")
        if train.fit is not None:
            _loop_fits(network, train, where)
        if train.stack > 1:
            if not network.stackable or network.source is not None:
                raise ValueError(
                    f"{where}: networks of method '{network.method}' cannot be trained in stacks; set train.stack to "
                    "1, or leave it out"
                )
            if model.name != "mlp" or train.precision == "bf16" or train.augment:
                raise ValueError(
                    f"train.stack = {train.stack} needs model.name = 'mlp', fp32 and no train.augment; set it to 1"
                )
            if self.data.groups:
                raise ValueError(
                    f"train.stack = {train.stack} needs networks with as many records each, and data.groups makes "
                    "their numbers differ; set train.stack to 1, or leave data.groups out"
                )
        self._worlds_stack(network, train, model, where)
        if network.level_families and "levels" not in network.traits:
            raise ValueError(
                f"{where}.level_families: networks of method '{network.method}' have no levels; leave it out"
            )
        try:
            network.check(train)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
        return train, model

    def _plan_fits(self, each: int) -> None:
        """Refuse, before a plan is made, one of more networks than any study has; ``each``: of a seed and a role."""
        seeds = len(self.run.seeds)
        planned = each * seeds * self.run.inits * (2 if self.data.split == "four-way" else 1)
        self._worlds_fit(planned, each)
        if planned > MOST_NETWORKS:
            repeats = "run.seeds" if self.run.inits == 1 else "run.seeds and run.inits"
            raise ValueError(
                f"networks and {repeats} make {planned:,} networks: at most {MOST_NETWORKS:,}, since a study is "
                "planned and reported as a whole; split it into several"
            )
        if planned * seeds > MOST_PAIRS:
            raise ValueError(
                f"run.seeds: {planned:,} networks of {seeds:,} seeds make {planned * seeds:,} pairs of a network and "
                f"a reference: at most {MOST_PAIRS:,}, since attacks read them all; name fewer seeds"
            )

    def _worlds_fit(self, planned: int, each: int) -> None:
        """Refuse worlds of more networks than any study has, or that cannot be drawn."""
        found = self.property
        if found is None:
            return
        worlds = each * len(self.run.seeds) * len(found.worlds) * found.networks * (1 + bool(found.poison))
        if planned + worlds > MOST_NETWORKS:
            raise ValueError(
                f"property.networks: {worlds:,} networks ({found.networks} of each of {len(found.worlds)} worlds, seed "
                f"and recipe) beside {planned:,} others: at most {MOST_NETWORKS:,}; lower it, or name fewer shares, "
                "seeds or networks"
            )
        if self.data.groups:
            raise ValueError(
                "property: training sets of a given share are drawn record by record, and data.groups keeps records "
                "together; leave one of them out"
            )

    def _worlds_stack(self, network: Method, train: Train, model: Model, where: str) -> None:
        """Refuse stacks of networks of [property] that this entry's training does not allow."""
        asked = self.property.stack if self.property is not None else None
        if asked is None or asked == 1 or not network.stackable:
            return
        if network.source is not None or model.name != "mlp" or train.precision == "bf16" or train.augment:
            raise ValueError(
                f"property.stack = {asked} needs model.name = 'mlp', fp32 and no train.augment, which {where} has not; "
                "leave it out"
            )

    def of_tokens(self) -> bool:
        """Whether records are token ids: [data] says so, or a model reads nothing else."""
        own = (network.model.get("name") for network in self.networks)
        return self.data.tokens or not {self.model.name, *own}.isdisjoint(READ_TOKENS)

    def queries(self) -> int:
        """How many fixed queries of a record there are: of token ids, without changed copies, one."""
        return 1 if self.of_tokens() else self.signals.queries

    def model_of(self, network: Method, where: str = "model") -> Model:
        """[model] with the network's own fields laid over it, and its options over those of [model].

        One that names another model takes nothing of [model].

        Raises:
            UsageError: an override names no field of [model], or has a wrong value.
        """
        kept = {} if {"name", "factory"} & {*network.model} else self.model.model_dump(exclude_none=True)
        fields = {**kept, **network.model}
        if isinstance(own := network.model.get("options"), Mapping):
            fields["options"] = {**kept.get("options", {}), **own}
        return validated(Model, fields, where)

    def train_of(self, network: Method, where: str = "train") -> Train:
        """[train] with the network's own fields laid over it.

        Raises:
            UsageError: an override names no field of [train], or has a wrong value.
        """
        return validated(Train, self.train.overlaid(network.train), where)

    def undecided(self) -> tuple[str, ...]:
        """The fields, as ``--set`` names them, whose ``precision = "auto"`` must be decided.

        Stacks and loops of users train in fp32.
        """
        asked = {}
        for index, network in enumerate(self.networks):
            train = self.train_of(network)
            if train.precision == "auto" and train.stack == 1 and train.fit is None:
                own = "precision" in network.train
                asked[f"networks.{self.place(index)}.train.precision" if own else "train.precision"] = True
        return tuple(asked)

    def resolved(self, precision: Literal["fp32", "bf16"]) -> Study:
        """The study with ``precision = "auto"`` decided, as the run folder records it, see `undecided`.

        Raises:
            UsageError: two networks are made alike now.
        """
        train = self.train
        if train.precision == "auto":
            train = train.model_copy(update={"precision": _decided(train, precision)})

        def settle(network: Method) -> dict[str, Any]:
            asked = self.train_of(network)
            decided = _decided(asked, precision)
            if asked.precision != "auto" or ("precision" not in network.train and decided == train.precision):
                return network.train
            return {**network.train, "precision": decided}

        networks = tuple(n.model_copy(update={"train": settle(n)}) for n in self.networks)
        decided = self.model_copy(update={"train": train, "networks": networks})
        return validated(Study, decided.as_dict(), "study", context={"places": self._places})

    def place(self, index: int) -> int:
        """Where a network's entry stands in the study that was read, where `vary` may make several of one."""
        return self._places[index] if self._places else index

    def as_dict(self) -> dict[str, Any]:
        """The study as plain JSON data, defaults included."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _decided(train: Train, precision: Literal["fp32", "bf16"]) -> Literal["fp32", "bf16"]:
    return "fp32" if train.stack > 1 or train.fit is not None else precision


def _loop_fits(network: Method, train: Train, where: str) -> None:
    """Refuse a loop of the user's for networks that are trained by a loop of their method's own, or at once."""
    if type(network).trainer is not Method.trainer:
        raise ValueError(
            f"{where}: networks of method '{network.method}' are trained by a loop of their own, which train.fit = "
            f"'{train.fit}' cannot be; set fit to '' in this entry's train"
        )
    if train.stack > 1:
        raise ValueError(
            f"train.stack = {train.stack}: train.fit trains one network at a time; set train.stack to 1, or leave fit "
            "out"
        )


def kind_of(study: Study, network: Method) -> Kind:
    """What a [[networks]] entry is for: the dense network that others are measured against, sparse, or a control.

    The dense one is that called "dense", or the study's only entry of that method.
    """
    if network.role != "dense":
        return network.role
    kin = [each for each in study.networks if each.role == "dense"]
    return "dense" if network.entry == "dense" or kin == [network] else "control"


def _places(info: ValidationInfo) -> tuple[int, ...]:
    """For each network the place of its entry as it was read; empty: `vary` made none of them."""
    return tuple((info.context or {}).get("places", ()))


def _method(
    place: int, entry: Mapping[str, Any], train: Mapping[str, Any], recorded: Mapping[str, Any] | None
) -> Method:
    own = entry.get("train")
    try:
        return of_entry(entry, place, {**train, **own} if isinstance(own, Mapping) else train, recorded)
    except UserCodeError:
        raise
    except UsageError as error:
        raise BadField(str(error)) from error.__cause__
