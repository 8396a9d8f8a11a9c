"""A study, the declared experiment: frozen pydantic models, read from TOML, changed with --set, hashed into keys."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lacewing.errors import UsageError, did_you_mean

SCHEMA = 1  # of studies, job keys and run folders; raised whenever an old run folder would mean something else

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Part(BaseModel):
    """Base of every part of a study: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


P = TypeVar("P", bound=Part)


class Data(Part):
    """Which records, and how they are cut into target and shadow sets."""

    dataset: str = "digits"  # a registry name or the path of an .npz with x and y
    labels: Literal["fine", "coarse"] = "fine"  # cifar100 only
    records: Annotated[int, Field(ge=1)] | None = None  # drawn at random before the split; None: all
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of labels redrawn once, before the split
    split: Literal["four-way", "random-halves"] = "four-way"
    population: Annotated[float, Field(ge=0, lt=0.9)] = 0.0  # share kept for nobody to train on; random-halves: 0.1
    canaries: Annotated[int, Field(ge=0)] = 0  # records given a wrong label on purpose, audited separately as well
    seed: Annotated[int, Field(ge=0)] = 0  # of the draw of records and of redrawn labels; the split follows run.seeds


class Model(Part):
    """The network: a registry name with options, or a user's own factory ``package.module:function``."""

    name: str | None = None
    factory: str | None = None  # called as factory(shape, classes)
    version: str = ""  # of a user's factory: change it when code outside its module changes what it builds
    width: Annotated[int, Field(ge=1)] | None = None  # ResNets: channels of the first segment
    hidden: tuple[Annotated[int, Field(ge=1)], ...] | None = None  # mlp: sizes of the hidden layers

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.name is None) == (self.factory is None):
            raise ValueError("give either name (a registry name) or factory ('package.module:function')")
        if self.factory is not None and not _FACTORY.fullmatch(self.factory):
            raise ValueError(f"factory {self.factory!r} is not of the form 'package.module:function'")
        if self.factory is not None and (self.width is not None or self.hidden is not None):
            raise ValueError("width and hidden are options of registry models; a factory sets its own sizes")
        return self


class Train(Part):
    """SGD with momentum, and everything else that changes what a network becomes."""

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["one-cycle", "step", "constant"] = "one-cycle"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)  # step: shares of the epochs
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1  # step: the factor at each milestone
    augment: tuple[Literal["flip", "crop"], ...] = ()
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the hardware gains from it
    channels_last: bool = True  # memory layout of images and convolutions
    holdout: Annotated[float, Field(ge=0, lt=0.9)] = 0.0  # share of the training records kept aside for tuning
    stack: Annotated[int, Field(ge=1, le=256)] = 1  # mlp: networks of so many seeds trained at once

    def identity(self) -> dict[str, Any]:
        """What keys of networks are made from. A field that came later counts only where it is not its default."""
        fields = self.model_dump(mode="json")
        return {name: value for name, value in fields.items() if name != "stack" or value > 1}


class Network(Part):
    """What networks of every method share: a name, and any field of [train] for this network only."""

    name: str | None = None
    train: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} must be lower-case letters, digits, '-' and '.'")
        return name


class Dense(Network):
    """The dense network, which every other is measured against."""

    method: Literal["dense"] = "dense"


class Imp(Network):
    """Iterative magnitude pruning: train, prune, rewind, train again; ``levels`` times."""

    method: Literal["imp"]
    levels: Annotated[int, Field(ge=1)]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the weights that remain, at each level
    rewind: str = "epoch 1"  # "init" or "epoch K"

    @field_validator("rewind")
    @classmethod
    def _point(cls, rewind: str) -> str:
        if rewind != "init" and not re.fullmatch(r"epoch [1-9]\d*", rewind):
            raise ValueError(f"{rewind!r} must be 'init' or 'epoch K' with K at least 1")
        return rewind

    @property
    def rewind_epoch(self) -> int:
        """The number of epochs after which the state was kept that pruned networks return to."""
        return 0 if self.rewind == "init" else int(self.rewind.split()[1])


class EarlyStopped(Network):
    """The dense network after fewer epochs of its schedule: what stopping early would have given, as a control."""

    method: Literal["early-stopped"]
    epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None  # None: see `stops`

    @field_validator("epochs")
    @classmethod
    def _ascending(cls, epochs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if epochs is not None and list(epochs) != sorted(set(epochs)):
            raise ValueError(f"{list(epochs)} must ascend, no epoch twice")
        return epochs

    def stops(self, train: Train) -> tuple[int, ...]:
        """The epochs after which the dense network is observed: its own, or about twenty, evenly spaced in log."""
        if self.epochs is not None:
            return self.epochs
        spaced = {round(train.epochs ** (i / 20)) for i in range(20)}
        return tuple(sorted(spaced - {train.epochs}))


class Butterfly(Network):
    """Convolutions of the last ``segments`` replaced by chains of ``factors`` Kronecker-sparse factors."""

    method: Literal["butterfly"]
    segments: Annotated[int, Field(ge=1)] = 3
    factors: Annotated[int, Field(ge=2)] = 2
    columns: Literal["channel-first", "kernel-first"] = "channel-first"  # of a kernel: (C, kh, kw) or (kh, kw, C)


KINDS: dict[str, type[Network]] = {
    "dense": Dense,
    "imp": Imp,
    "butterfly": Butterfly,
    "early-stopped": EarlyStopped,
}
AnyNetwork = Annotated[Dense | Imp | Butterfly | EarlyStopped, Field(discriminator="method")]


class Signals(Part):
    """What the attacker measures beside the outputs: the local sensitivity of the softmax, and what attacks ask for."""

    noise: Annotated[float, Field(gt=0)] = 1e-3  # e, in units of normalised inputs
    draws: Annotated[int, Field(ge=1)] = 5
    # The rest is measured only where a declared attack needs it.
    queries: Annotated[int, Field(ge=1)] = 4  # fixed queries of a record: itself, flipped, shifted ...
    noise_sizes: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.1, 0.2, 0.4, 0.8)
    noise_draws: Annotated[int, Field(ge=1)] = 2


class Attacks(Part):
    """Which attacks run on every target network; "all": every one that the study has what it takes for."""

    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("discriminator",)


class Run(Part):
    """Repeats: each seed redraws the split, the initialisation and the order of training."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)} names a seed twice; a report never counts a seed twice")
        return seeds


class Study(Part):
    """The whole declared experiment."""

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    name: str
    data: Data = Data()
    model: Model
    train: Train = Train()
    networks: Annotated[tuple[AnyNetwork, ...], Field(min_length=1)]
    signals: Signals = Signals()
    attacks: Attacks = Attacks()
    run: Run = Run()

    @model_validator(mode="before")
    @classmethod
    def _population_of_halves(cls, fields: Any) -> Any:
        """random-halves keeps a tenth as population where the study does not say how much."""
        drawn = fields.get("data") if isinstance(fields, dict) else None
        if isinstance(drawn, dict) and drawn.get("split") == "random-halves" and "population" not in drawn:
            return {**fields, "data": {**drawn, "population": 0.1}}
        return fields

    @field_validator("schema_")
    @classmethod
    def _known_schema(cls, schema: int) -> int:
        if schema != SCHEMA:
            raise ValueError(f"{schema} is not the schema of this version, which is {SCHEMA}")
        return schema

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} must be lower-case letters, digits, '-' and '.': it names a folder")
        return name

    @model_validator(mode="after")
    def _networks_fit(self) -> Study:
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
            recipe = network.model_dump_json(exclude={"name", "train", "levels", "epochs"}) + train.model_dump_json()
            other = recipes.setdefault(recipe, names[index])
            if other != names[index]:
                raise ValueError(f"networks: '{other}' and '{names[index]}' are made alike; remove one or change it")
        return self

    def _stops_fit(self, network: EarlyStopped, where: str, train: Train) -> None:
        if train.stack > 1:
            raise ValueError(
                f"{where}: networks in stacks cannot be stopped early; set train.stack to 1, or leave it out"
            )
        if max(network.stops(train), default=train.epochs) >= train.epochs:
            raise ValueError(
                f"{where}.epochs: all must be before the last one (train.epochs = {train.epochs}); stop earlier or "
                "train longer"
            )

    def train_of(self, network: Network, where: str = "train") -> Train:
        """[train] with the network's own fields laid over it.

        Raises:
            UsageError: an override names no field of [train], or has a wrong value.
        """
        return _validated(Train, {**self.train.model_dump(), **network.train}, where)

    def resolved(self, precision: Literal["fp32", "bf16"]) -> Study:
        """The study with ``precision = "auto"`` decided, as the run folder records it."""

        def settle(fields: dict[str, Any]) -> dict[str, Any]:
            decided = "fp32" if fields.get("stack", self.train.stack) > 1 else precision
            return {**fields, "precision": decided} if fields.get("precision") == "auto" else fields

        networks = tuple(n.model_copy(update={"train": settle(n.train)}) for n in self.networks)
        train = self.train.model_copy(update=settle(self.train.model_dump()))
        return self.model_copy(update={"train": train, "networks": networks})

    def as_dict(self) -> dict[str, Any]:
        """The study as plain JSON data, defaults included."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def network_name(network: Network) -> str:
    """The name of a [[networks]] entry: its own, or one made from its method and settings."""
    if network.name is not None:
        return network.name
    if isinstance(network, Butterfly):
        return f"butterfly-s{network.segments}-l{network.factors}"
    if isinstance(network, EarlyStopped):
        return "early"
    return "imp" if isinstance(network, Imp) else "dense"


def level_name(network: Imp, level: int) -> str:
    """The name of one level of an IMP sequence, e.g. ``imp-03``."""
    return f"{network_name(network)}-{level:02d}"


def stop_name(network: EarlyStopped, epoch: int) -> str:
    """The name of a dense network that was stopped early, e.g. ``early-050``."""
    return f"{network_name(network)}-{epoch:03d}"


def chain_settings(network: Butterfly) -> dict[str, Any]:
    """What `lacewing.sparsify.butterfly` is called with."""
    return network.model_dump(include={"segments", "factors", "columns"})


def canonical_key(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex, 64 digits) of a config in one canonical JSON form: sorted keys, no spaces, full float repr."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def builtin_studies() -> dict[str, str]:
    """The shipped studies: name -> TOML text."""
    folder = resources.files("lacewing") / "studies"
    return {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in folder.iterdir() if p.name.endswith(".toml")}


def load_study(study: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Study:
    """A study from a built-in name, a TOML file or a mapping, with ``a.b=c`` overrides applied.

    Raises:
        UsageError: no such study, a TOML error, an unknown field or a bad value; the message names it and the mend.
    """
    if isinstance(study, Mapping):
        fields, where = json.loads(json.dumps(study, default=str)), "study"  # str: a Path, a numpy number
    else:
        text, where = _study_text(str(study))
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{where} is not valid TOML: {error}.") from None
    for override in overrides:
        _set(fields, override)
    return _validated(Study, fields, where)


def _study_text(study: str) -> tuple[str, str]:
    builtin = builtin_studies()
    path = Path(study)
    if study in builtin:
        return builtin[study], f"study '{study}'"
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text("utf-8"), str(path)
        except FileNotFoundError:
            raise UsageError(f"no study file {path}; check the path.") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not a text file; a study is written in TOML.") from None
    raise UsageError(f"unknown study '{study}': {did_you_mean(study, builtin)} A study file ends in .toml.")


def _set(fields: dict[str, Any], override: str) -> None:
    """Apply one ``a.b=c`` to nested dicts and lists; the value is TOML, or a bare string."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {override!r} must read field=value, e.g. --set train.epochs=10.")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    here: Any = fields
    for step in parents:
        if isinstance(here, list):
            here = here[_index(here, step, override)]
        elif isinstance(here, dict):
            here = here.setdefault(step, {})
        else:
            raise UsageError(f"--set {override!r}: '{step}' is inside a plain value, not a table.")
    if isinstance(here, list):
        here[_index(here, last, override)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"--set {override!r}: '{last}' is inside a plain value, not a table.")


def _index(items: list[Any], step: str, override: str) -> int:
    if not step.isdecimal() or int(step) >= len(items):
        raise UsageError(f"--set {override!r}: '{step}' is not a position from 0 to {len(items) - 1} of that list.")
    return int(step)


def _validated(part: type[P], fields: Mapping[str, Any], where: str) -> P:
    try:
        return part.model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"{where}: {_sentence(error, part)}") from None


def _sentence(error: ValidationError, part: type[Part]) -> str:
    """The first problem in one sentence that names the field and, for an unknown field, the nearest known one."""
    problem = error.errors()[0]
    tags = set(KINDS)
    steps = [s for i, s in enumerate(problem["loc"]) if not (s in tags and i == 2)]  # drop the union's tag
    field = ".".join(str(s) for s in steps)
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{field}'; {did_you_mean(str(steps[-1]), _siblings(part, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"'{field}' is missing; add it."
    if problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        method = problem.get("ctx", {}).get("tag", "nothing")
        return f"{field}.method is {method!r}; {did_you_mean(str(method), tags)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}."
    return f"{field} = {problem['input']!r}: {message[0].lower()}{message[1:]}."


def _siblings(part: type[Part], loc: tuple[int | str, ...]) -> list[str]:
    here: type[Part] = part
    for step in loc:
        if isinstance(step, str) and step in KINDS:
            here = KINDS[step]
        elif isinstance(step, str) and step in here.model_fields:
            annotation = here.model_fields[step].annotation
            if isinstance(annotation, type) and issubclass(annotation, Part):
                here = annotation
    return [f.alias or name for name, f in here.model_fields.items()]


def to_toml(study: Study) -> str:
    """The study as TOML that ``load_study`` reads back to the same study."""
    fields = study.as_dict()
    tables = {key: fields.pop(key) for key in list(fields) if isinstance(fields[key], dict)}
    networks = fields.pop("networks")
    lines = [f"{key} = {_toml_value(value)}" for key, value in fields.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in table.items())]
    for network in networks:
        lines += ["", "[[networks]]", *(f"{key} = {_toml_value(value)}" for key, value in network.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_value(k)} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's, too, but for escaped surrogates and a bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def difference(old: Study, new: Study) -> str | None:
    """What keeps a run folder of ``old`` from being continued as ``new``; None where ``new`` only adds to it.

    Seeds, networks, IMP levels, epochs to stop early at and attacks may be added, and a population outside the four
    sets where there was none; nothing else may change.
    """
    before, after = old.as_dict(), new.as_dict()
    if old.data.split == new.data.split == "four-way" and not old.data.population:
        before["data"]["population"] = after["data"]["population"]  # no network depends on it
    for path in ("run.seeds", "attacks.names"):
        part, name = path.split(".")
        gone = [item for item in before[part].pop(name) if item not in after[part][name]]
        after[part].pop(name)
        if gone:
            return f"{path} lacks {gone[0]!r}, which the folder has"
    there = {network_name(n): n for n in new.networks}
    for network in old.networks:
        name = network_name(network)
        other = there.get(name)
        if other is None:
            return f"network '{name}' is missing, which the folder has"
        was, now = (n.model_dump(mode="json", exclude={"name"}) for n in (network, other))
        if isinstance(network, Imp) and was.pop("levels") > now.pop("levels", 0):
            return f"network '{name}' has fewer levels than the folder"
        if isinstance(network, EarlyStopped) and isinstance(other, EarlyStopped):
            if not set(network.stops(old.train_of(network))) <= set(other.stops(new.train_of(other))):
                return f"network '{name}' lacks epochs that the folder has"
            was["epochs"] = now["epochs"]
        changed = _first_difference(was, now)
        if changed:
            return f"network '{name}': {changed}"
    del before["networks"], after["networks"]
    return _first_difference(before, after)


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str | None:
    for key in sorted({*old, *new}):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            found = _first_difference(old[key], new[key], f"{path}{key}.")
            if found:
                return found
        elif old.get(key) != new.get(key):
            return f"{path}{key} is {new.get(key)!r} now and {old.get(key)!r} in the folder"
    return None
