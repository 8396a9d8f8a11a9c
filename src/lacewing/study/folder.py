"""A run folder as a whole: what study it is of, and from what is finished there, its results and report."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lacewing import attacks as registry
from lacewing import risk
from lacewing.attacks import Attack, Described
from lacewing.errors import FolderError, UsageError
from lacewing.methods import METHODS, look_of
from lacewing.methods import record as record_method
from lacewing.reporting import MostVulnerable, ReportData, Slice, write
from lacewing.results import AttackResult, Look, results_csv
from lacewing.study import jobs
from lacewing.study.declared import Study, recipes, recorded_study, to_toml
from lacewing.study.plan import AttackJob, Plan, make_plan
from lacewing.study.result import Result
from lacewing.study.store import Store
from lacewing.support.files import read_bounded, refuse_links, write_atomically
from lacewing.support.formats import JSON_BYTES, parse_sealed, read_sealed, read_toml, seal
from lacewing.tradeoff import History, Waiting, answers, as_json, tradeoffs
from lacewing.tradeoff.cautions import failures

if TYPE_CHECKING:
    from lacewing.attacks.selfchecks import SelfCheck

PLAN = "plan.json"  # what a folder is of; where it is, there is a run folder
SCHEMA = 1  # of run folders

_Count = Annotated[int, Field(ge=1, le=10**9)]


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
    families: list[str]
    recipes: int


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
    methods: dict[str, dict[str, Any]] = {}  # by the place of an entry, of methods that are not the package's
    looks: dict[Annotated[str, Field(max_length=200)], _Look] = {}  # of the same methods, by their names
    shape: Annotated[list[_Count], Field(min_length=1, max_length=8)]
    classes: _Count
    command: str
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
        plan = make_plan(study, data_digest=facts["data_digest"], models=models, attacks=_attacks(facts))
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
    if schema != SCHEMA:
        raise FolderError(f"{folder} has schema {schema} and this version writes {SCHEMA}; give --out another folder.")
    try:
        found = _Facts.model_validate(facts)
        study = recorded_study(found.study, found.methods)
    except (ValidationError, UsageError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise _unreadable(folder, what) from None
    return PlanFile(content, study, facts)


def _unreadable(folder: Path, why: str) -> FolderError:
    return FolderError(
        f"{folder / PLAN} holds no study that this version reads ({why}) Was it written by another version of lacewing?"
    )


def _attacks(facts: Mapping[str, Any]) -> dict[str, Attack]:
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


def assemble(folder: Path, known: Recorded, *, show_records: bool = False, elsewhere: Iterable[str] = ()) -> Result:
    """From what is finished: results.csv, tradeoff.json, figures, report, model card.

    Args:
        folder: the run folder.
        known: what it is of, as `recorded` reads it.
        show_records: let the report list ids and scores of the most vulnerable records, which are private data.
        elsewhere: damage in folders that this one was made from.

    Raises:
        FolderError: a link is in the folder; a finished job holds something else than what we write.
    """
    study, plan, facts = known
    store = Store(folder)
    done = [job for job in plan.networks if jobs.finished(store, job)]
    networks = [jobs.load_network(store, job) for job in done]
    damaged = (*elsewhere, *damage(store, study, plan))
    ran = [job for job in plan.attacks if jobs.attacked(store, job) and jobs.trained(store, job.target)]
    attacks = jobs.load_attacks(store, ran)
    halves = study.data.split == "random-halves"
    there = {job.key for job in ran}
    waiting = [Waiting(job.attack, job.target.family, job.target.kind) for job in plan.attacks if job.key not in there]
    unfinished = {each.attack for each in waiting}
    by_attack = tradeoffs(study.attacks.names, attacks, networks=networks, halves=halves, unfinished=unfinished)
    found = next(iter(by_attack.values()), None)
    history = _history(study, facts)
    declared = answers(study.tradeoff, attacks, networks, halves=halves, waiting=waiting, history=history)
    signs = failures(networks, attacks, found, classes=int(facts["classes"]), study=study.as_dict())
    failed = read_failed(folder)
    missing = len(plan.networks) - len(done) + len(plan.attacks) - len(attacks)
    write_atomically(folder / "results.csv", results_csv(networks, attacks), within=folder)
    if found or declared:
        document = as_json(found, declared, {name: each for name, each in by_attack.items() if each is not found})
        write_atomically(folder / "tradeoff.json", json.dumps(document, indent=1), within=folder)
    devices = sorted({str((store.read_job(job.key) or {}).get("device")) for job in done})
    if len(devices) > 1:
        signs = (*signs, f"The networks of this study were trained on different devices: {', '.join(devices)}.")
    parts = [result for result in attacks if found and result.attack == found.attack]
    write(
        folder,
        ReportData(
            study=study.as_dict(),
            networks=networks,
            attacks=attacks,
            tradeoff=found,
            failures=signs,
            environment=_environment(devices, facts.get("precision")),
            jobs_failed=failed,
            damaged=damaged,
            command=facts["command"],
            data_digest=facts["data_digest"],
            looks={method: Look(**look) for method, look in facts.get("looks", {}).items()},
            missing=len(plan.networks) - len(done),
            tradeoffs=by_attack,
            answers=declared,
            refused=plan.refused,
            registry=_attacks(facts),
            slices=_slices(parts),
            vulnerable=_vulnerable(parts, show_records),
            selfchecks=_selfchecks(store, ran, attacks),
            show_records=show_records,
        ),
    )
    return Result(
        folder,
        tuple(networks),
        tuple(attacks),
        found,
        tuple(signs),
        tuple(failed),
        damaged,
        missing,
        facts.get("precision"),
        declared,
    )


def declaration(study: Study, *, late: bool) -> dict[str, Any]:
    """What plan.json keeps of the time when the study's questions were declared."""
    networks = sorted({network.of_family for network in study.networks})
    return {"late": late, "seeds": list(study.run.seeds), "families": networks, "recipes": recipes(study.networks)}


def _history(study: Study, facts: Mapping[str, Any]) -> History:
    """Whether the questions came before the results, and whether the study was extended since."""
    then = facts.get("declaration")
    if then is None:
        return History()
    now = declaration(study, late=False)
    extended = any(sorted(now[name]) != sorted(then[name]) for name in ("seeds", "families"))
    extended |= now["recipes"] != then["recipes"]
    return History(bool(then["late"]), len(then["seeds"]) if extended else None)


def _slices(results: Sequence[AttackResult]) -> list[Slice]:
    """The first dense network by class, confidence and correctness; the canaries of every network of its seed."""
    if not results:
        return []
    first = results[0]
    named = {
        "class": risk.by_class(first, first.label_N),
        "confidence": risk.by_confidence(first, first.confidence_N),
        "answer": risk.by_correctness(first),
    }
    whose = (first.network.network, first.attack)
    found = [
        Slice(name, part.name.removeprefix(f"{name} "), part.n_members, part.n_nonmembers, part.auc, *whose)
        for name, parts in named.items()
        for part in parts
    ]
    for result in results:
        if result.network.seed == first.network.seed and result.canary_N.any():
            alone = risk.subset(result, result.record_N[result.canary_N])
            n, auc = (alone.n_members, alone.n_nonmembers), alone.metrics["auc"]
            found.append(Slice("canaries", "mislabelled", *n, auc, result.network.network, result.attack))
    return found


def _vulnerable(results: Sequence[AttackResult], show_records: bool) -> list[MostVulnerable]:
    """The most vulnerable 1 % of the dense network's records, ranked over its seeds."""
    dense = [r for r in results if r.network.network == results[0].network.network]
    if len(dense) < 2:
        return []
    table, again = risk.records(dense), risk.found_again(dense)
    top = risk.most_vulnerable(table)
    rest = table.member_R.sum() - top.member_R.sum()
    if again is None or not rest:
        return []
    listed = zip(top.record_R.tolist(), top.rank_R.tolist(), strict=True) if show_records else ()
    return [
        MostVulnerable(
            network=dense[0].network.network,
            attack=dense[0].attack,
            records=len(top),
            found=again.value,
            found_rest=float((table.found_R.sum() - top.found_R.sum()) / rest),
            audits=len(dense),
            listed=tuple(listed),
        )
    ]


def _selfchecks(store: Store, ran: Sequence[AttackJob], attacks: Sequence[AttackResult]) -> tuple[SelfCheck, ...]:
    """The audit's checks of itself, on the first attack of the study all of whose networks are there."""
    from lacewing.attacks.selfchecks import selfchecks

    able = (pair for pair in zip(ran, attacks, strict=True) if all(jobs.finished(store, n) for n in pair[0].networks))
    job, attack = next(able, (None, None))  # where a network that stands by is damaged, the next attack
    if job is None or attack is None:
        return ()
    return selfchecks(attack, [attack], jobs.gather(store, job), seed=0)


def _environment(devices: Sequence[str], precision: Mapping[str, Any] | None) -> dict[str, str]:
    versions = {name: metadata.version(name) for name in ("lacewing", "torch", "numpy", "scikit-learn")}
    return {
        **versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": ", ".join(devices),
        **({"precision": f"{precision['chosen']}, since {precision['why']}"} if precision else {}),
    }
