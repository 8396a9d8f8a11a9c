"""The networks of [property]: both worlds of each pair of shares, for every recipe and seed, and who is told apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lacewing.config import Property, canonical_key
from lacewing.property import VERSION
from lacewing.study.declared import Study
from lacewing.study.plan._jobs import KEYS, NetworkJob, PropertyJob, World


def worlds_of(declared: Property, *, poisoned: bool) -> list[World]:
    """The networks of one recipe, seed and role, in the order in which they are put into stacks."""
    if poisoned and not declared.poison:
        return []
    return [World(share, number, poisoned) for share in declared.worlds for number in range(declared.networks // 2)]


def world_config(declared: Property, world: World) -> dict[str, Any]:
    """What of [property] the key of a network depends on: its training records, and which records it is asked."""
    found = {
        "of": declared.of,
        "share": world.share,
        "number": world.number,
        "records": declared.records,
        "asked": declared.asked,
    }
    if world.poisoned:
        found["poison"] = {"share": declared.poison, "label": declared.poison_label}
    return found


def property_jobs(study: Study, sequences: Sequence[Sequence[NetworkJob]]) -> list[PropertyJob]:
    """For each recipe, seed and pair of shares the job that tells the two worlds apart; one more where they poison."""
    if study.property is None:
        return []
    found: dict[tuple[str, int, bool], list[NetworkJob]] = defaultdict(list)
    for job in (job for sequence in sequences for job in sequence):
        if job.world is not None:
            found[job.network, job.seed, job.world.poisoned].append(job)
    jobs = []
    for (_, seed, poisoned), networks in found.items():
        label = study.property.poison_label if poisoned else None
        for pair in study.property.shares:
            sides: Mapping[tuple[str, float], list[NetworkJob]] = defaultdict(list)
            for job in networks:
                assert job.world is not None
                sides[job.role, job.world.share].append(job)
            first, second = ((sides["shadow", share], sides["target", share]) for share in pair)
            config = {"schema": KEYS, "kind": "property", "version": VERSION, "shares": list(pair), "seed": seed}
            parts = (first[0], second[0], first[1], second[1])
            config["networks"] = [[job.key for job in part] for part in parts]
            own_first, own_second, attacked_first, attacked_second = (tuple(part) for part in parts)
            key = canonical_key(config)
            jobs.append(PropertyJob(key, seed, pair, own_first, own_second, attacked_first, attacked_second, label))
    return jobs
