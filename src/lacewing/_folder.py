"""A run folder as a whole: what study it is of, and from what is finished there, its results and report."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lacewing import jobs, risk
from lacewing._files import write_atomically
from lacewing._report import MostVulnerable, ReportData, SelfCheck, Slice, write
from lacewing._result import Result
from lacewing.cautions import failures
from lacewing.config import SCHEMA, Study, load_study
from lacewing.errors import FolderError, UsageError
from lacewing.plan import AttackJob, Plan, make_plan, refusals
from lacewing.results import AttackResult, results_csv
from lacewing.store import Store
from lacewing.tradeoff import as_json, tradeoff


def read_study(folder: Path) -> Study:
    try:
        return load_study(folder / "study.toml")
    except UsageError as error:
        raise FolderError(
            f"{folder} holds no study that this version reads ({error}) Was it written by another version of lacewing?"
        ) from None


def recorded(folder: Path) -> tuple[Study, Plan, dict[str, Any]]:
    """The study, plan and facts of a run folder, without data, user code or torch.

    Raises:
        FolderError: there is no run folder, or of another schema.
    """
    if not (folder / "study.toml").is_file() or not (folder / "plan.json").is_file():
        raise FolderError(f"{folder} is no run folder (no study.toml and plan.json); `lacewing run` makes one.")
    try:
        facts = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        schema = facts["schema"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise FolderError(f"{folder}/plan.json is damaged; run the study again with --out another folder.") from None
    if schema != SCHEMA:
        raise FolderError(f"{folder} has schema {schema} and this version writes {SCHEMA}; give --out another folder.")
    study = read_study(folder)
    return study, make_plan(study, data_digest=facts["data_digest"], model=facts["model"]), facts


def unlike(facts: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """How the data or the model's code of two run folders differ; None: they do not."""
    if facts["data_digest"] != others["data_digest"]:
        return "the data set's content is another"
    return "the source of model.factory has changed" if facts["model"] != others["model"] else None


def read_failed(folder: Path) -> list[str]:
    try:
        return list(json.loads((folder / "failed.json").read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError):
        return []


def assemble(folder: Path, *, show_records: bool = False) -> Result:
    """From what is finished: results.csv, tradeoff.json, figures, report, model card."""
    study, plan, facts = recorded(folder)
    store = Store(folder)
    done = [job for job in plan.networks if jobs.finished(store, job)]
    networks = [jobs.load_network(store, job) for job in done]
    ran = [job for job in plan.attacks if jobs.attacked(store, job)]
    attacks = jobs.load_attacks(store, ran)
    tradeoffs = {name: tradeoff(attacks, attack=name) for name in _decided(study, attacks)}
    found = next(iter(tradeoffs.values()), None)
    signs = failures(networks, attacks, found, classes=int(facts["classes"]), study=study.as_dict())
    failed = read_failed(folder)
    missing = len(plan.networks) - len(done) + len(plan.attacks) - len(attacks)
    write_atomically(folder / "results.csv", results_csv(networks, attacks))
    if found:
        others = {name: as_json(each) for name, each in tradeoffs.items() if each is not found}
        document = as_json(found) | ({"other_attacks": others} if others else {})
        write_atomically(folder / "tradeoff.json", json.dumps(document, indent=1))
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
            environment=_environment(devices),
            jobs_failed=failed,
            command=facts["command"],
            data_digest=facts["data_digest"],
            missing=len(plan.networks) - len(done),
            tradeoffs=tradeoffs,
            refused=refusals(study),
            slices=_slices(parts),
            vulnerable=_vulnerable(parts, show_records),
            selfchecks=_selfchecks(store, ran, attacks),
            show_records=show_records,
        ),
    )
    return Result(folder, tuple(networks), tuple(attacks), found, tuple(signs), tuple(failed), missing)


def _decided(study: Study, attacks: Sequence[AttackResult]) -> list[str]:
    """The attacks that say of each record whether it is a member, in the study's order: they have a trade-off."""
    ran = {name: [a for a in attacks if a.attack == name] for name in study.attacks.names}
    return [name for name, of in ran.items() if of and all(a.metrics["balanced_accuracy"] is not None for a in of)]


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
    """The audit's checks of itself, on the first network and attack of the study."""
    from lacewing._audit._selfchecks import selfchecks

    if not attacks:
        return ()
    return selfchecks(attacks[0], attacks[:1], jobs.gather(store, ran[0]), seed=0)


def _environment(devices: Sequence[str]) -> dict[str, str]:
    versions = {name: metadata.version(name) for name in ("lacewing", "torch", "numpy", "scikit-learn")}
    return {
        **versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": ", ".join(devices),
    }
