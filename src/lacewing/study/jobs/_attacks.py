"""Attack one network: gather what its attacker holds from the store, attack, publish. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks import Evidence, FirstLayer, Observed, Population, References, perform
from lacewing.study.jobs._stored import POPULATION, SCORES, load_network, load_probe, load_signals
from lacewing.study.jobs._worlds import tell_apart
from lacewing.study.plan import AttackJob, NetworkJob, PropertyJob, Side, asked
from lacewing.study.store import Store

FILES = ("metrics.json", "scores.npz")  # what an attack leaves


def run_attack(store: Store, job: AttackJob | PropertyJob) -> None:
    """Run an attack on the stored signals of its target and the networks beside it, and publish metrics and scores."""
    if isinstance(job, PropertyJob):
        return tell_apart(store, job)
    target = load_network(store, job.target)
    result = perform(job.entry, gather(store, job), target, seed=job.seed)
    seen = load_signals(store, job.target)
    if "canary_N" in seen:
        canaries = seen["record_N"][seen["canary_N"]]  # whole groups are canaries, and a record stands for its group
        result = dataclasses.replace(result, canary_N=np.isin(result.record_N, canaries))
    plain = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    arrays = {name: plain.pop(name) for name in SCORES}
    del plain["network"]

    def write(folder: Path) -> None:
        np.savez_compressed(folder / "scores.npz", **arrays)
        (folder / "metrics.json").write_text(json.dumps(plain, indent=1, default=_plain), encoding="utf-8")

    store.publish(job.key, {"job": job.id, "finished": time.time()}, write)


def gather(store: Store, job: AttackJob) -> Evidence:
    """What the attacker of ``job`` holds, from the signals and probes of the networks that the plan gives it."""
    kinds = asked(job.entry) - {"population"}
    population = "population" in job.entry.needs

    def evidence(side: Side, **more: Any) -> Evidence:
        return Evidence(
            observed=_observed(store, side.network, kinds=kinds),
            references=_references(store, side) if side.references else None,
            population=_population(store, side.network, side.references) if population else None,
            related=tuple(_observed(store, network, kinds=kinds) for network in side.related),
            trained_queries=job.trained_queries,
            **more,
        )

    return evidence(
        job.side,
        shadow=evidence(job.shadow) if job.shadow is not None else None,
        other_shadows={kind: evidence(Side(network)) for kind, network in job.other_shadows},
    )


def attacked(store: Store, job: AttackJob | PropertyJob) -> bool:
    """Whether an attack's results are there, unaltered."""
    return store.done(job.key, *FILES)


def _observed(store: Store, network: NetworkJob, *, kinds: Collection[str]) -> Observed:
    seen = load_signals(store, network)
    rows = seen["audited_N"]
    answers = {name: values for kind in kinds for name, values in load_probe(store, network, kind).items()}
    layer = {name: answers.pop(name) for name in ("weights_HD", "kept_HD", "initial_HD") if name in answers}
    return Observed(
        logits_NC=seen["logits_NC"][rows],
        label_N=seen["label_N"][rows],
        member_N=seen["member_N"][rows],
        sensitivity_N=seen["sensitivity_N"][rows],
        record_N=seen["record_N"][rows],
        group_N=seen["group_N"][rows] if "group_N" in seen else None,
        **{name: values[rows] for name, values in answers.items()},
        first_layer=FirstLayer(records=int(seen["member_N"].sum()), **layer) if layer else None,
    )


def _references(store: Store, side: Side) -> References:
    """Other networks' answers on the records that ``side.network`` is audited on."""
    rows = load_signals(store, side.network)["audited_N"]
    seen = [load_signals(store, reference) for reference in side.references]
    return References(
        logits_KNC=np.stack([one["logits_NC"][rows] for one in seen]),
        in_KN=np.stack([one["member_N"][rows] for one in seen]),
        name_K=tuple(reference.id for reference in side.references),
        phi_KNQ=np.stack([load_probe(store, one, "queries")["phi_NQ"][rows] for one in side.references]),
    )


def _population(store: Store, network: NetworkJob, references: Sequence[NetworkJob]) -> Population:
    """Records that no network trained on: set aside under random halves, from outside under the four-way split."""

    def answers(of: NetworkJob) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        seen = load_signals(store, of)
        rows = seen["part_N"] == POPULATION
        if rows.any():
            return seen["logits_NC"][rows], seen["label_N"][rows]
        answers = load_probe(store, of, "population")
        return answers["population_logits_ZC"], answers["population_label_Z"]

    logits, label = answers(network)
    others = np.stack([answers(reference)[0] for reference in references]) if references else None
    return Population(logits, label, others)


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else value.item()
