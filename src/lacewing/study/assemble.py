"""From what is finished in a run folder: its tables (CSV and JSON), the report and the model card."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lacewing import attribute, data, risk
from lacewing import mechanism as mechanisms
from lacewing import property as inference
from lacewing.attackers import as_json as attackers_json
from lacewing.attackers import gathered
from lacewing.reporting import MostVulnerable, ReportData, Runs, Slice, main_attack, write
from lacewing.results import AttackResult, Look, results_csv
from lacewing.study import jobs
from lacewing.study.columns import guessed
from lacewing.study.declared import Study
from lacewing.study.folder import Recorded, attacks_of, damage, declaration, read_failed
from lacewing.study.plan import AttackJob, Plan
from lacewing.study.properties import properties
from lacewing.study.result import Result
from lacewing.study.stability import stability
from lacewing.study.store import Store
from lacewing.study.why import mechanism
from lacewing.support.files import write_atomically
from lacewing.tradeoff import (
    History,
    Price,
    Waiting,
    answers,
    as_json,
    attacks_over_inits,
    networks_over_inits,
    tradeoffs,
)
from lacewing.tradeoff.cautions import failures
from lacewing.tradeoff.stability import as_json as stability_json

if TYPE_CHECKING:
    from lacewing.attacks.selfchecks import SelfCheck


def assemble(folder: Path, known: Recorded, *, show_records: bool = False, elsewhere: Iterable[str] = ()) -> Result:
    """From what is finished: results.csv, tradeoff.json, mechanism.csv and .json, stability.json, report, card.

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
    done = [job for job in plan.audited if jobs.finished(store, job)]
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
    grouped = done if study.data.groups else []  # whose attacks do not count records
    trained_on = {job.id: int(jobs.load_signals(store, job)["member_N"].sum()) for job in grouped}
    signs = failures(
        networks, attacks, found, classes=int(facts["classes"]), study=study.as_dict(), trained_on=trained_on
    )
    counted = data.Facts(**facts["records"]) if facts.get("records") else None
    if counted is not None:
        signs = (*data.signs(counted, study.data.groups or ()), *signs)
    failed = read_failed(folder)
    missing = len(plan.audited) - len(done) + len(plan.attacks) - len(attacks)
    missing += _missing_of_property(store, plan)
    write_atomically(folder / "results.csv", results_csv(networks, attacks), within=folder)
    others = {name: each for name, each in by_attack.items() if each is not found}
    _write(folder, "tradeoff.json", as_json(found, declared, others) if found or declared else None)
    why = mechanism(store, done, networks, ran, attacks, halves=halves)
    _write(folder, "mechanism.csv", None if isinstance(why, str) else mechanisms.as_csv(why))
    _write(folder, "mechanism.json", None if isinstance(why, str) else mechanisms.as_json(why))
    spread = stability(
        store,
        study,
        done,
        networks,
        attacks,
        attack=found.attack if found else main_attack(attacks),
        classes=int(facts["classes"]),
        failed=failed,
    )
    _write(folder, "stability.json", None if spread is None else stability_json(spread))
    told = properties(store, study, plan)
    _write(folder, "property.csv", None if told is None else inference.as_csv(told.seeds))
    _write(folder, "property.json", None if told is None else inference.as_json(told))
    columns = guessed(store, study, plan, done, networks)
    _write(folder, "attribute.csv", None if columns is None else attribute.as_csv(columns.seeds))
    _write(folder, "attribute.json", None if columns is None else attribute.as_json(columns))
    table = gathered(
        networks,
        attacks,
        told,
        columns,
        registry=attacks_of(facts),
        halves=halves,
        refused=plan.refused,
        waiting=[(j.target.network, j.attack) for j in plan.attacks if j.key not in there and j.target.stop is None],
    )
    _write(folder, "attackers.json", attackers_json(table) if len(table.ran) > 1 else None)
    devices = sorted({str((store.read_job(job.key) or {}).get("device")) for job in done})
    guarantees = {(n.network, n.privacy): None for n in networks if n.privacy is not None}
    signs = (*signs, *(f"The network '{network}' has {privacy}." for network, privacy in guarantees))
    if len(devices) > 1:
        signs = (*signs, f"The networks of this study were trained on different devices: {', '.join(devices)}.")
    parts = [result for result in attacks if found and result.attack == found.attack]
    prices = _prices(store, plan)
    write(
        folder,
        ReportData(
            study=study.as_dict(),
            networks=networks_over_inits(networks),
            attacks=attacks_over_inits(attacks),
            runs=Runs(networks, attacks),
            stability=spread,
            tradeoff=found,
            failures=signs,
            environment=_environment(devices, facts.get("precision")),
            jobs_failed=failed,
            damaged=damaged,
            command=facts["command"],
            again=_again(folder, study.name, facts, whole=not any(file.startswith("study.toml") for file in damaged)),
            data_digest=facts["data_digest"],
            looks={method: Look(**look) for method, look in facts.get("looks", {}).items()},
            missing=len(plan.audited) - len(done),
            tradeoffs=by_attack,
            answers=declared,
            refused=plan.refused,
            registry=attacks_of(facts),
            slices=_slices(parts),
            vulnerable=_vulnerable(parts, show_records),
            selfchecks=_selfchecks(store, ran, attacks),
            show_records=show_records,
            copies=counted.copies if counted is not None else None,
            mechanism=why,
            property=told,
            attribute=columns,
            attackers=table,
            prices=prices,
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
        None if isinstance(why, str) else why,
        prices,
        halves,
        spread,
        attribute=columns,
        attackers=table,
        property=told,
    )


def _write(folder: Path, name: str, content: str | Mapping[str, Any] | None) -> None:
    """Write a file of the run folder; None: remove the one of an earlier report, which had more results."""
    if content is None:
        (folder / name).unlink(missing_ok=True)
        return
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    write_atomically(folder / name, text, within=folder)


def _prices(store: Store, plan: Plan) -> dict[str, Price]:
    """By network name: what training takes until it is there; the seconds where all of it was measured."""
    measured: dict[str, list[float]] = {}
    for job in plan.audited:
        seconds = (store.read_job(job.key) or {}).get("seconds")
        if isinstance(seconds, int | float):
            measured.setdefault(job.network, []).append(float(seconds))
    own = {job.network: fmean(measured.get(job.network, [math.nan])) for job in plan.networks}
    seconds_of = plan.in_all(own)
    return {
        network: Price(epochs, None if math.isnan(seconds_of[network]) else seconds_of[network])
        for network, epochs in plan.epochs.items()
    }


def _missing_of_property(store: Store, plan: Plan) -> int:
    """Networks and attacks of [property] that are not done."""
    worlds = [job for job in plan.networks if job.world is not None and not jobs.trained(store, job)]
    return len(worlds) + sum(not jobs.attacked(store, job) for job in plan.properties)


def _again(folder: Path, name: str, facts: Mapping[str, Any], *, whole: bool) -> str:
    """The command that continues a run folder, from the directory that its path is relative to.

    It takes the study that the folder holds, so that nothing trains again whatever file, mapping and changes it came
    from; where that file is not ``whole`` it takes the one of the first command.
    """
    quoted = subprocess.list2cmdline if os.name == "nt" else shlex.join
    options = [] if folder == Path("runs") / name else ["--out", str(folder)]
    if (data_root := facts.get("data_root")) is not None:
        options += ["--data-root", data_root]
    begun = quoted(["lacewing", "run", str(folder / "study.toml")]) if whole else facts["command"]
    return f"{begun} {quoted(options)}".rstrip()


def _history(study: Study, facts: Mapping[str, Any]) -> History:
    """Whether the questions came before the results, and whether the study was extended since."""
    then = facts.get("declaration")
    if then is None:
        return History()
    now = declaration(study, late=False)
    extended = any(sorted(now[name]) != sorted(then[name]) for name in ("seeds", "families"))
    extended |= now["recipes"] != then["recipes"] or now["inits"] != then.get("inits", 1)
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
        same_training = (result.network.seed, result.network.init) == (first.network.seed, first.network.init)
        if same_training and (alone := risk.canaries(result)) is not None:
            n, what = (alone.n_members, alone.n_nonmembers), (result.network.network, result.attack)
            found.append(Slice("canaries", "mislabelled", *n, None, *what, found=alone.found, false=alone.false))
    return found


def _vulnerable(results: Sequence[AttackResult], show_records: bool) -> list[MostVulnerable]:
    """The most vulnerable 1 % of the dense network's records, ranked over its seeds."""
    dense = [r for r in results if r.network.network == results[0].network.network]
    if len({r.network.seed for r in dense}) < 2:
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
