"""Slices of a plan."""

from __future__ import annotations

from collections.abc import Container, Mapping

from lacewing.errors import UsageError, did_you_mean
from lacewing.study.plan._jobs import NetworkJob, Plan


def only(plan: Plan, terms: Mapping[str, str]) -> Plan:
    """The slice of a plan that ``--only`` asks for; an attack is in it when all networks that it reads are.

    Args:
        plan: the whole plan.
        terms: field -> wanted value, over ``role``, ``seed``, ``init``, ``method``, ``network``. A pruned network
            brings the networks that its sequence needs, a stacked one those of its stack, and one that takes the mask
            of another network that one.

    Raises:
        UsageError: an unknown field, or nothing fits.
    """
    fields = ("role", "seed", "init", "method", "network")
    for term in terms:
        if term not in fields:
            raise UsageError(f"--only: unknown field '{term}'; {did_you_mean(term, fields)}")

    terms = {term: str(value) for term, value in terms.items()}  # a seed is a number in Python

    def wanted(job: NetworkJob) -> bool:
        return all(str(getattr(job, term)) == value for term, value in terms.items())

    asked = {job.key for job in plan.networks if wanted(job)}
    sequences = _sequences(plan, asked)
    while taken := {job.mask.key for c in sequences for job in c if job.mask is not None and not job.imposed} - asked:
        asked |= taken
        sequences = _sequences(plan, asked)
    if not sequences:
        told = ",".join(f"{k}={v[:40]}" for k, v in terms.items())
        raise UsageError(f"--only {told}: no network of the study fits; `lacewing run ... --dry-run` lists them.")
    keys = {job.key for sequence in sequences for job in sequence}
    # A slice needs nothing of others: a mask to impose comes from a network of its own or the network waits.
    sequences = [c for c in sequences if not c[0].imposed or {job.key for job in c[0].needs} <= keys]
    keys = {job.key for sequence in sequences for job in sequence}
    attacks = tuple(a for a in plan.attacks if all(job.key in keys for job in a.networks))
    properties = tuple(p for p in plan.properties if all(job.key in keys for job in p.networks))
    return Plan(tuple(sequences), attacks, properties=properties)


def _sequences(plan: Plan, asked: Container[str]) -> list[tuple[NetworkJob, ...]]:
    """The plan's sequences up to the networks of these keys, with all of their stacks."""
    highest: dict[str, dict[str, int]] = {}  # of each entry in a sequence or stack, the highest level asked for
    for sequence in plan.sequences:
        for job in (job for job in sequence if job.key in asked):
            last = highest.setdefault(sequence[0].stack or sequence[0].key, {})
            last[job.spec.entry] = max(job.level, last.get(job.spec.entry, 0))
    found = []
    for sequence in plan.sequences:
        if levels := highest.get(sequence[0].stack or sequence[0].key):
            found.append(tuple(j for j in sequence if j.level == 0 or j.level <= levels.get(j.spec.entry, 0)))
    return found
