"""What a run folder is of: plan.json, which holds the study and what the plan follows from, and what is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lacewing import attacks as registry
from lacewing.attacks import Attack, Described
from lacewing.errors import FolderError, UsageError
from lacewing.methods import METHODS, MethodRecord, look_of
from lacewing.methods import record as record_method
from lacewing.results import Look
from lacewing.study.declared import Study, recipes, recorded_study, to_toml
from lacewing.study.plan import Plan, make_plan
from lacewing.study.store import Store
from lacewing.support.files import read_bounded, refuse_links, write_atomically
from lacewing.support.formats import JSON_BYTES, parse_sealed, read_sealed, read_toml, seal

PLAN = "plan.json"  # what a folder is of; where it is, there is a run folder
SCHEMA = 2  # of run folders
_READ = (1, 2)  # schemas of folders that are read: those of schema 1 have one initialisation a seed

_Count = Annotated[int, Field(ge=1, le=10**9)]
_Whole = Annotated[int, Field(ge=0, le=2 * 10**9)]


class _Precision(BaseModel):
    """What `precision = "auto"` became, and why."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    chosen: Literal["fp32", "bf16"]
    why: Annotated[str, Field(max_length=1000)]
    step_seconds: dict[Literal["fp32", "bf16"], float]
    records: int | None


class _Declaration(BaseModel):
    """The study as it was when its questions were declared, and whether results were there already."""

    model_config = ConfigDict(strict=True, extra="forbid")

    late: bool
    seeds: list[Annotated[int, Field(ge=0)]]
    inits: Annotated[int, Field(ge=1)] = 1
    families: list[str]
    recipes: int


class _Records(BaseModel):
    """Counts of a study's records, see `lacewing.data.Facts`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    records: _Count
    copies: _Whole
    features: _Count
    constant: _Whole
    constant_first: Annotated[list[_Whole], Field(max_length=10)]
    classes: _Count
    rare: _Whole
    rare_first: Annotated[list[Annotated[list[_Whole], Field(min_length=2, max_length=2)]], Field(max_length=10)]
    images: bool
    across: Annotated[list[_Whole], Field(min_length=2, max_length=2)] | None
    groups: _Count | None


class _Look(BaseModel):
    """How the networks of a method appear, as the folder records it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    label: str
    colour: str
    marker: str
    sequence: bool

    @model_validator(mode="after")
    def _can_be_shown(self) -> _Look:
        Look(**self.model_dump())  # refuses what no figure can show
        return self


class _Facts(BaseModel):
    """plan.json: what a run folder is of. What later versions add is let through; the seal vouches for it."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    study: dict[str, Any]
    data_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    model: dict[str, Any]
    models: dict[str, dict[str, Any]] = {}  # by entry, of those that have their own
    methods: dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,4}$")], MethodRecord
    ] = {}  # by the place of an entry, of methods that are not the package's
    looks: dict[Annotated[str, Field(max_length=200)], _Look] = {}  # of the same methods, by their names
    shape: Annotated[list[_Count], Field(min_length=1, max_length=8)]
    classes: _Count
    command: str  # as others would run it: without folders of a machine
    attribute_places: Annotated[list[Annotated[list[_Whole], Field(min_length=1)]] | None, Field(max_length=10_000)] = (
        None  # of the columns that [attribute] calls by their names
    )
    data_root: str | None = None  # where the last run was told that data sets lie
    records: _Records | None = None  # None: of a version that did not count them
    precision: _Precision | None = None
    declaration: _Declaration | None = None
    attacks: Annotated[dict[str, Described], Field(max_length=200)] = {}  # the users' own among those of the study


def facts_of(study: Study, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What plan.json holds of a study's models and of methods that are not the package's own.

    Args:
        study: resolved.
        models: see `lacewing.study.plan.fingerprints`.
    """
    facts: dict[str, Any] = {"model": models[""]}
    if own := {name: found for name, found in models.items() if name}:
        facts["models"] = own
    if methods := _methods(study):
        facts["methods"] = methods
        theirs = (entry for entry in study.networks if entry.method not in METHODS)
        facts["looks"] = {entry.method: asdict(look_of(entry, entry.method)) for entry in theirs}
    return facts


def _methods(study: Study) -> dict[str, dict[str, Any]]:
    """By the place of an entry whose method is not the package's own: what plan.json holds of it."""
    theirs = ((place, entry) for place, entry in enumerate(study.networks) if entry.method not in METHODS)
    return {str(place): record_method(entry, study.train_of(entry)) for place, entry in theirs}


class PlanFile(NamedTuple):
    """What plan.json says of a run folder."""

    content: bytes  # of plan.json
    study: Study
    facts: dict[str, Any]


class Recorded(NamedTuple):
    """What a run folder is of: its study, the plan of it, and what plan.json says beside."""

    study: Study
    plan: Plan
    facts: dict[str, Any]


def recorded(folder: Path) -> Recorded:
    """The study, plan and facts of a run folder, from plan.json alone, without data, user code or torch.

    study.toml is there to be read by people; `damage` says where it is not what the run wrote.

    Raises:
        FolderError: there is no run folder, or of another schema; plan.json is damaged or was altered.
    """
    _, study, facts = read_plan_file(folder)
    try:
        models = {"": facts["model"], **facts.get("models", {})}
        plan = make_plan(
            study,
            data_digest=facts["data_digest"],
            models=models,
            attacks=attacks_of(facts),
            places=facts.get("attribute_places"),
        )
    except UsageError as error:
        raise _unreadable(folder, str(error)) from None
    return Recorded(study, plan, facts)


def read_plan_file(folder: Path, known: PlanFile | None = None) -> PlanFile:
    """The study and facts of a run folder, without its plan.

    Args:
        folder: the run folder.
        known: what was read there before; returned as it is where plan.json still has the same content.

    Raises:
        FolderError: see `recorded`.
    """
    path = folder / PLAN
    refuse_links(folder, path)
    if not path.is_file():
        raise FolderError(f"{folder} is no run folder (no {PLAN}); `lacewing run` makes one.")
    try:
        content = read_bounded(path, JSON_BYTES)
        if known is not None and known.content == content:
            return known
        facts = parse_sealed(content, str(path))
    except UsageError as error:
        raise FolderError(
            f"{error} Take {PLAN} from a copy of the folder, or run the study again with --out another folder."
        ) from None
    schema = facts.pop("schema", None)
    if schema not in _READ:
        raise FolderError(f"{folder} has schema {schema} and this version writes {SCHEMA}; give --out another folder.")
    try:
        found = _Facts.model_validate(facts)
        methods = facts.get("methods", {})
        study = recorded_study(found.study, methods)
        if methods.keys() != _methods(study).keys():
            raise UsageError("it records methods of other networks.")
    except (ValidationError, UsageError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise _unreadable(folder, what) from None
    return PlanFile(content, study, facts)


def _unreadable(folder: Path, why: str) -> FolderError:
    return FolderError(
        f"{folder / PLAN} holds no study that this version reads ({why}) Was it written by another version of lacewing?"
    )


def attacks_of(facts: Mapping[str, Any]) -> dict[str, Attack]:
    """The registry's attacks and the users' own that a run folder records, which are described and never run."""
    own = {name: Described.model_validate(record) for name, record in facts.get("attacks", {}).items()}
    return {**{name: registry.recorded(name, record) for name, record in own.items()}, **registry.ATTACKS}


def claim(folder: Path, known: Recorded) -> None:
    """Write down what a run folder is of, for `recorded`; the study also as TOML, to be read by people."""
    content = {**known.facts, "schema": SCHEMA, "study": known.study.as_dict()}
    write_atomically(folder / PLAN, seal(content), within=folder)
    write_atomically(folder / "study.toml", to_toml(known.study), within=folder)


def unlike(facts: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """How the data, or the code of the model or of attacks, of two run folders differ; None: they do not."""
    if facts["data_digest"] != others["data_digest"]:
        return "the data set has changed"
    models, theirs = ({"": f["model"], **f.get("models", {})} for f in (facts, others))
    for name in models.keys() & theirs.keys():  # `difference` compares the settings
        if models[name].get("fit") != theirs[name].get("fit"):
            return "the source of train.fit has changed"
        if models[name].get("source") != theirs[name].get("source"):
            field = "model.name" if models[name].get("factory") is None else "model.factory"
            return f"the source of {field} has changed"
    sources, there = ({e["entry"]: e["source"] for e in f.get("methods", {}).values()} for f in (facts, others))
    changed = sorted(name for name in sources.keys() & there.keys() if sources[name] != there[name])
    if changed:
        return f"the source of the method of network '{changed[0]}' has changed"
    own, known = facts.get("attacks", {}), others.get("attacks", {})
    edited = [name for name in own if name in known and own[name]["source"] != known[name]["source"]]
    return f"the source of the attack '{edited[0]}' has changed" if edited else None


def write_failed(folder: Path, failed: Iterable[str]) -> None:
    """Record the sentences of the jobs that failed in the last run."""
    write_atomically(folder / "failed.json", seal({"failed": list(failed)}), within=folder)


def read_failed(folder: Path) -> list[str]:
    """The sentences of the jobs that failed in the last run.

    Raises:
        FolderError: failed.json is damaged or was altered.
    """
    path = folder / "failed.json"
    refuse_links(folder, path)
    try:
        found = read_sealed(path).get("failed")
    except FileNotFoundError:
        return []
    except UsageError as error:
        raise FolderError(f"{error} Remove it; `lacewing run` writes it again.") from None
    if not isinstance(found, list) or not all(isinstance(sentence, str) for sentence in found):
        raise FolderError(f"{path} is no list of sentences. Remove it; `lacewing run` writes it again.")
    return found


def damage(store: Store, study: Study, plan: Plan) -> tuple[str, ...]:
    """What of a run folder is lost or damaged: paths in it, each with the job that it is of.

    A job that is not there yet is neither, nor is a file that was dropped on purpose, which its job.json records.
    """
    names = plan.names
    for key in names:
        store.whole(key)
    found = [f"{path} of {names[key]}" for key, path in sorted(store.damaged, key=lambda d: d[1]) if key in names]
    refuse_links(store.folder, store.folder / "study.toml")
    try:
        copy = recorded_study(read_toml(store.folder / "study.toml"), _methods(study))
        same = copy.as_dict() == study.as_dict()
    except (UsageError, FolderError, FileNotFoundError):
        same = False
    return tuple(found) if same else (*found, "study.toml, which the next run writes again from plan.json")


def declaration(study: Study, *, late: bool) -> dict[str, Any]:
    """What plan.json keeps of the time when the study's questions were declared."""
    networks = sorted({name for network in study.networks for name in network.families})
    return {
        "late": late,
        "seeds": list(study.run.seeds),
        "inits": study.run.inits,
        "families": networks,
        "recipes": recipes(study.networks),
    }
