"""What is there of the networks, and how many epochs are left to train."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from lacewing.study.plan import NetworkJob
from lacewing.study.store import Store

FILES = ("metrics.json", "signals.npz")  # what a trained network leaves for good


def trained(store: Store, job: NetworkJob) -> bool:
    """Whether a network's results are there, unaltered, and its weights too, unless these were dropped on purpose."""
    return store.whole(job.key, *FILES)


def finished(store: Store, job: NetworkJob) -> bool:
    """Whether a network is trained and was asked everything that the study's attacks need."""
    return trained(store, job) and all(store.done(probe, "probe.npz") for _, probe in job.probes)


def own_epochs(sequence: Sequence[NetworkJob], trained: Container[str]) -> dict[str, int]:
    """By key: the epochs that are trained for each network of a sequence, some of which are ``trained`` already.

    None for one that is stopped early, which is a state of its dense network on the way; unless that was trained before
    the stop was asked for: then it is trained again, up to the last stop that lacks.
    """
    epochs = {job.key: job.train.epochs if job.stop is None else 0 for job in sequence}
    missing = missing_stops(sequence, trained)
    if missing and sequence[0].key in trained:
        epochs[missing[-1].key] = missing[-1].last_epoch
    return epochs


def missing_stops(sequence: Iterable[NetworkJob], trained: Container[str]) -> list[NetworkJob]:
    """The networks of a sequence that are stopped early and not ``trained``, in the order of their epochs."""
    missing = (job for job in sequence if job.stop is not None and job.key not in trained)
    return sorted(missing, key=lambda job: job.last_epoch)


def reached(
    sequences: Iterable[Sequence[NetworkJob]],
    trained: Container[str],
    saved: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[int, int]]:
    """By key of a network: its epochs that are ``trained`` or ``saved``, and all that are to be trained for it."""
    found = {}
    for sequence in sequences:
        for key, epochs in own_epochs(sequence, trained).items():
            at = epochs if key in trained else int(saved.get(key, {}).get("epoch", 0))
            found[key] = min(at, epochs), epochs
    return found
