"""Copy finished jobs from other run folders: those that a plan has in common with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from lacewing.study import jobs
from lacewing.study.plan import NetworkJob, Plan
from lacewing.study.store import Store, write_files


def available(store: Store, plan: Plan, sources: Sequence[Store], *, weights: bool) -> dict[str, Store]:
    """By key of a job of the plan that is not done here: the first of the sources from which it can be copied.

    The answers of a network, and attacks on it, are copied only where they are of the same training as the network
    that is here or is copied: a network that was trained on two machines may differ between them.

    Args:
        store: of the folder that jobs are copied to.
        plan: what is to be done there.
        sources: other folders, the preferred one first.
        weights: leave out a network whose weights were dropped in the source where something planned needs them.
    """
    if not sources:
        return {}  # before any digest is computed
    found = _available_networks(store, plan, sources, weights=weights)
    further: list[tuple[str, tuple[str, ...], tuple[NetworkJob, ...]]] = []
    further += [(probe, ("probe.npz",), (job,)) for job in plan.networks for _, probe in job.probes]
    further += [(job.key, jobs.ATTACK_FILES, job.networks) for job in plan.readers]
    for key, files, networks in further:
        if store.done(key, *files):
            continue
        for source in sources:
            if source.done(key, *files) and _same_training(store, found, source, networks):
                found[key] = source
                break
    return found


def _available_networks(store: Store, plan: Plan, sources: Sequence[Store], *, weights: bool) -> dict[str, Store]:
    found: dict[str, Store] = {}
    taken: dict[str, list[NetworkJob]] = {}  # by key of a network: those that take its mask
    for job in plan.networks:
        if job.mask is not None:
            taken.setdefault(job.mask.key, []).append(job)
    for sequence in plan.sequences:
        for source in sources:

            def whole(job: NetworkJob, source: Store = source) -> bool:
                """Whether a network of the source lacks no mask that another network is still to take from it."""
                takers = taken.get(job.key, ())
                done = all(jobs.trained(store, taker) or jobs.trained(source, taker) for taker in takers)
                return done or source.file(job.key, "masks.safetensors") is not None

            any_will_do = not weights or all(
                jobs.finished(store, job) or (jobs.finished(source, job) and whole(job)) for job in sequence
            )
            for job in sequence:
                if jobs.trained(store, job) or job.key in found or not jobs.trained(source, job):
                    continue
                if any_will_do or (source.file(job.key, "model.safetensors") is not None and whole(job)):
                    found[job.key] = source
    return found


def _same_training(store: Store, found: Mapping[str, Store], source: Store, networks: Iterable[NetworkJob]) -> bool:
    """Whether the networks of ``source`` are those that are here or will be copied."""
    return all(_training(found.get(job.key, store), job) == (_training(source, job) or "none") for job in networks)


def _training(store: Store, network: NetworkJob) -> str | None:
    """The digest of a finished network's answers; None: it is not there."""
    facts = store.read_job(network.key)
    return None if facts is None else str(facts["files"].get("signals.npz"))


def copy(store: Store, found: Mapping[str, Store]) -> None:
    """Copy finished jobs: the files that their job.json names and that have their digests, and nothing else."""
    for key, source in found.items():
        facts, files = source.contents(key)
        store.publish(key, facts, partial(write_files, files=files))
        store.drop_work(key)
