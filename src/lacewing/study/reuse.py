"""Take over from other run folders what a plan has in common with them, or join slices of one study."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from lacewing.study import jobs
from lacewing.study.plan import NetworkJob, Plan
from lacewing.study.store import Store, write_files


def available(store: Store, plan: Plan, sources: Sequence[Store], *, weights: bool) -> dict[str, Store]:
    """By key of a job of the plan that is not done here: the first of the sources from which it can be copied.

    What a network answered, and attacks on it, are taken only where they are of the very training that is here or is
    copied: a network that was trained on two machines may be two.

    Args:
        weights: whether a network that something planned still needs the weights of is left where they were dropped.
    """
    if not sources:
        return {}  # before any digest is computed
    found: dict[str, Store] = {}
    for chain in plan.chains:
        for source in sources:
            every = not weights or all(jobs.finished(store, job) or jobs.finished(source, job) for job in chain)
            for job in chain:
                if jobs.trained(store, job) or job.key in found or not jobs.trained(source, job):
                    continue
                if every or source.file(job.key, "model.safetensors") is not None:
                    found[job.key] = source

    def same(source: Store, networks: Iterable[NetworkJob]) -> bool:
        return all(_training(found.get(job.key, store), job) == (_training(source, job) or "none") for job in networks)

    further: list[tuple[str, tuple[str, ...], tuple[NetworkJob, ...]]] = []
    further += [(probe, ("probe.npz",), (job,)) for job in plan.networks for _, probe in job.probes]
    further += [(job.key, jobs.ATTACK_FILES, job.networks) for job in plan.attacks]
    for key, files, networks in further:
        if not store.done(key, *files):
            able = (source for source in sources if source.done(key, *files) and same(source, networks))
            found.update((key, source) for source in itertools.islice(able, 1))
    return found


def _training(store: Store, network: NetworkJob) -> str | None:
    """The digest of what a finished network answered; None: it is not there."""
    facts = store.read_job(network.key)
    return None if facts is None else str(facts["files"].get("signals.npz"))


def copy(store: Store, found: Mapping[str, Store]) -> None:
    """Copy finished jobs: the files that their job.json names and that have their digests, and nothing else."""
    for key, source in found.items():
        facts, files = source.contents(key)
        store.publish(key, facts, partial(write_files, files=files))
        store.drop_work(key)
