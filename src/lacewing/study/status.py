"""How far a run folder is, while a study runs or after. Reads names and small files; runs no user code."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lacewing.results import SCHEMA
from lacewing.study import jobs
from lacewing.study.folder import read_failed, recorded
from lacewing.study.plan import NetworkJob
from lacewing.study.result import lost_or_damaged
from lacewing.study.store import Store
from lacewing.support.durations import duration
from lacewing.support.locks import under_way
from lacewing.support.text import entry

Span = tuple[float, float]


def status(folder: Path) -> dict[str, Any]:
    """See ``lacewing.status``.

    Checks the digests of what it counts, and leaves those of weights to ``run`` and ``report``: a study may have
    thousands of networks, and this is asked while they train.

    Raises:
        FolderError: there is no run folder, or of another schema; a file that says how far it is was altered.
    """
    study, plan, _ = recorded(folder)
    names = plan.names
    store = Store(folder)
    published = _published(store)
    facts = {job.key: store.read_job(job.key) for job in plan.networks if job.key in published}
    trained = {key: found for key, found in facts.items() if found and store.done(key, *jobs.NETWORK_FILES)}
    asked = {
        probe for j in plan.networks for _, probe in j.probes if probe in published and store.done(probe, "probe.npz")
    }
    done = [j for j in plan.networks if j.key in trained and all(probe in asked for _, probe in j.probes)]
    attacked = [job for job in plan.readers if job.key in published and store.done(job.key, *jobs.ATTACK_FILES)]
    saved = {key: progress for key, progress in store.unfinished() if key not in trained}
    running = under_way(folder)
    reached = jobs.reached(plan.sequences, trained, saved)
    epochs_done, epochs_planned = (sum(each) for each in zip(*reached.values(), strict=True))
    return {
        "schema": SCHEMA,
        "study": study.name,
        "running": running,
        "networks": {"planned": len(plan.networks), "done": len(done)},
        "attacks": {"planned": len(plan.readers), "done": len(attacked)},
        "epochs": {"planned": epochs_planned, "done": epochs_done},
        "methods": _by_method(plan.networks, done),
        "in_work": [{**progress, "age": _age(progress)} for progress in saved.values()],
        "seconds_to_go": _seconds_to_go(plan.networks, trained, saved if running else {}, reached),
        "failed": read_failed(folder),
        "damaged": sorted(f"{path} of {names[key]}" for key, path in store.damaged if key in names),
    }


def _published(store: Store) -> set[str]:
    """Keys of finished jobs: each appears in the folder by one rename, complete."""
    try:
        return {path.name for path in (store.folder / "jobs").iterdir()}
    except FileNotFoundError:
        return set()


def _by_method(planned: Iterable[NetworkJob], done: Iterable[NetworkJob]) -> dict[str, dict[str, int]]:
    ready = Counter(job.method for job in done)
    return {
        method: {"planned": count, "done": ready[method]}
        for method, count in Counter(job.method for job in planned).items()
    }


def _age(progress: Mapping[str, Any]) -> float | None:
    """Seconds since the state was saved; None if it does not say when."""
    saved = progress.get("saved")
    return max(0.0, round(time.time() - saved, 1)) if isinstance(saved, int | float) else None


def _is_timed(facts: Mapping[str, Any]) -> bool:
    """Whether job.json tells when a network was finished, and what it took: any digest may be written by a forger."""
    values = [facts.get("seconds"), facts.get("finished")]
    return all(isinstance(value, int | float) and 0 <= value < 1e12 for value in values)


def _seconds_to_go(
    planned: Sequence[NetworkJob],
    trained: Mapping[str, dict[str, Any]],
    in_work: Mapping[str, dict[str, Any]],
    reached: Mapping[str, tuple[int, int]],
) -> float | None:
    """Of the networks alone, roughly: seconds an epoch of each method so far, shared by as many as run at once.

    A method of which no network is finished takes as long as the mean of all. Before any is finished those in work
    tell; None before any state is saved.
    """
    timed = [
        (job, found) for job in planned if job.stop is None and (found := trained.get(job.key)) and _is_timed(found)
    ]
    if not timed:
        spent = sum(progress.get("seconds", 0.0) for progress in in_work.values())
        done = sum(progress["epoch"] for progress in in_work.values())
        epochs_left = sum(epochs - at for at, epochs in reached.values())
        return round(spent / done * epochs_left / len(in_work), 1) if spent and done else None
    seconds, epochs = Counter[str](), Counter[str]()
    for job, found in timed:
        for name in (job.method, ""):  # "": of all
            seconds[name] += found["seconds"]
            epochs[name] += job.train.epochs
    pace = {name: seconds[name] / epochs[name] for name in seconds}
    left = sum(pace.get(job.method, pace[""]) * (reached[job.key][1] - reached[job.key][0]) for job in planned)
    at_once = max(
        len(in_work), at_once_before([(found["finished"] - found["seconds"], found["finished"]) for _, found in timed])
    )
    return round(left / at_once, 1)


def at_once_before(spans: Sequence[Span]) -> float:
    """How many networks trained at once, on average over the time in which any did; spans are (start, end)."""
    busy, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return max(1.0, sum(end - start for start, end in spans) / busy) if busy else 1.0


def as_text(found: Mapping[str, Any]) -> str:
    """The status as lines to print."""
    state = "a run is under way" if found["running"] else "no run is under way"
    epochs, methods = found["epochs"], found["methods"]
    by_method = ", ".join(f"{name} {of['done']} of {of['planned']}" for name, of in methods.items())
    lines = [
        f"study {found['study']}: {state}",
        f"networks: {found['networks']['done']} of {found['networks']['planned']} done ({by_method})",
        f"attacks: {found['attacks']['done']} of {found['attacks']['planned']} done",
        f"epochs: {epochs['done']} of {epochs['planned']}, {epochs['done'] / max(epochs['planned'], 1):.0%}",
    ]
    left = found["seconds_to_go"]
    if left is None:
        lines.append("to go: not known before the first state is saved")
    elif left:
        lines.append(f"to go: roughly {duration(left)} for the networks, by those that are finished")
    for item in found["in_work"]:
        age = "" if item["age"] is None else f", saved {duration(item['age'])} ago"
        lines.append(f"in work: {entry(str(item['job']))}, epoch {item['epoch']} of {item['epochs']}{age}")
    lines += [f"FAILED: {entry(sentence)}" for sentence in found["failed"]]
    return "\n".join([*lines, *lost_or_damaged(found["damaged"])])
