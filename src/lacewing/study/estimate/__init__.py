"""How long a study will take and how much memory: timed here, and counted for other machines."""

from __future__ import annotations

import heapq
import math
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacewing.study import jobs
from lacewing.study.declared import Study, load_study
from lacewing.study.engine import local
from lacewing.study.estimate._text import as_text as as_text
from lacewing.study.plan import NetworkJob, probe_settings
from lacewing.study.prepared import Prepared
from lacewing.support import numbers
from lacewing.support.child import Child
from lacewing.support.mapped import held_bytes

if TYPE_CHECKING:
    from lacewing.study.estimate._calibrate import Kind
    from lacewing.study.estimate._machines import Asked, Counted

SECONDS = 3.0  # of timing, roughly
AT_ONCE = 4  # processes that are timed side by side at most: cores that share caches slow each other
_START = 120.0  # seconds for the processes to start
_PATIENCE = 40.0  # seconds for the timing, which should end after ``_calibrate.LONGEST``
_GRADIENT = 5  # a record's own gradient, in answers of the network


def estimate(
    study: str | Path | Mapping[str, Any] = "digits",
    *,
    on: Iterable[str] = (),
    processes: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """How long ``run`` with the same arguments would take, and how much memory; nothing is written.

    Args:
        study: as for ``run``.
        on: other machines, as ``"h100:8"``: h100, h200, a100, l4 or cpu-core, and how many; ``"h100:8@2.5"`` with what
            one costs an hour.
        processes: workers on this machine.
        options: ``out``, ``only``, ``reuse``, ``device``, ``set``, ``data_root``, as for ``run``. ``shape``, as
            ``"1280000x3x224x224:1000"``: records x shape of one : classes, for data that are not here.

    Returns:
        ``networks``, ``epochs``: still to be trained. ``here``: ``seconds``, ``memory_bytes`` of all ``processes``,
        ``step_bytes`` (parameters, optimiser, gradients and activations of one training), and ``kinds``, of each kind
        of network the ``step_seconds`` of ``step_records``, scaled from a step of ``timed_records``; or ``error``, why
        this machine could not be timed. ``on``: for each machine asked for ``floor_seconds``, which it cannot beat,
        ``seconds`` (from, to), what ``binds``,
        ``held_bytes`` (what a training needs at least of the GPU's memory, ``memory_bytes``), and where a rate is given
        the ``price`` (from, to) of all machines. ``data_bytes``: of the records that each worker holds. ``storage``:
        bytes, see `lacewing.study.estimate._storage.Storage.as_dict`. The time of attacks is not counted.

    Raises:
        UsageError: the study, the data, or the name of a machine is not right.
    """
    return planned(study, on=on, processes=processes, **options)[1]


def planned(
    study: str | Path | Mapping[str, Any],
    *,
    on: Iterable[str] = (),
    processes: int | None = None,
    **options: Any,
) -> tuple[Prepared, dict[str, Any]]:
    """The plan, and its estimate; see ``estimate``."""
    from lacewing.study.estimate._machines import parse
    from lacewing.study.estimate._storage import Storage

    processes = numbers.processes(processes)
    named = parse(on)  # refuses what is unknown before anything is read
    options["set"] = tuple(options.get("set", ()))
    begin = time.perf_counter()
    prepared = Prepared(study, planned=True, **options)
    prepared.check_folder()
    opened = time.perf_counter() - begin
    left = _left(prepared)
    found: dict[str, Any] = {
        "networks": sum(job.key in left and job.stop is None for job in prepared.slice.networks),
        "epochs": sum(left.values()),
        "not_counted": "attacks, the report"
        + ", what train.fit does otherwise than our loop" * any(job.train.fit for job in prepared.slice.networks)
        + ", what stacking saves" * any(job.stack is not None for job in prepared.slice.networks)
        + ", on other machines what DP-SGD costs"
        * any(named and job.spec.accounted for job in prepared.slice.networks),
        "data_bytes": _data_bytes(prepared, _members(prepared)),
        "storage": Storage(prepared).as_dict(),
        "here": None,
        "on": [],
    }
    if not left:
        return prepared, found
    found["here"] = _here(prepared, left, processes or local.default_processes(prepared.device), opened)
    declared = load_study(study, options["set"])
    costs: dict[Kind, Counted] = {}
    found["on"] = [_there(prepared, declared, left, costs, asked) for asked in named]
    return prepared, found


def _left(prepared: Prepared) -> dict[str, int]:
    """By key of a network that is not finished: the epochs that are neither trained nor saved."""
    trained = {job.key for job in prepared.slice.networks if prepared.trained(job)}
    saved = dict(prepared.store.unfinished())
    reached = jobs.reached(prepared.slice.sequences, trained, saved)
    return {key: epochs - done for key, (done, epochs) in reached.items() if key not in trained}


def _here(prepared: Prepared, left: Mapping[str, int], processes: int, opened: float) -> dict[str, Any]:
    """Timed on this machine; ``opened``: seconds in which the data were read, as each worker does."""
    from lacewing.study.estimate._calibrate import Kind

    members = _members(prepared)
    used = Counter[Kind]()
    for job in prepared.slice.networks:
        if job.key in left:
            used[Kind.of(job)] += job.stop is None  # a dense network and its early stops are one training
    kinds = sorted(
        used, key=lambda kind: (bool(kind.built), kind.private, kind.pruned, -used[kind])
    )  # the dense ones first
    batches = [min(kind.batch_size, members) for kind in kinds]
    workers = min(processes, len(_tasks(prepared, left)))
    answers = _timed(prepared, kinds, batches, min(workers, AT_ONCE), members)
    if errors := [answer["error"] for answer in answers if "error" in answer]:
        return {"error": errors[0]}
    steps: list[float | None] = [
        sum(times) / len(times) if all(times) else None for times in zip(*(a["steps"] for a in answers), strict=True)
    ]
    step_of: dict[Kind, float] = {  # a kind that was not timed costs as the dense one, by the record
        kind: step or (steps[0] or 0.0) / batches[0] * batch
        for kind, step, batch in zip(kinds, steps, batches, strict=True)
    }
    seconds = _seconds_here(prepared, left, step_of, sum(answer["forward"] for answer in answers) / len(answers))
    start = opened + max(answer["start"] for answer in answers)
    held = [_held(answer, prepared.device) for answer in answers]
    peaks = [answer["peak"] for answer in answers if answer["peak"] is not None]
    return {
        "device": prepared.device,
        "processes": workers,
        "timed_at_once": len(answers),
        "seconds": round(start + _makespan(prepared, left, seconds, workers), 1),
        "memory_bytes": None if None in held else (max(filter(None, held)) + _data_bytes(prepared, members)) * workers,
        "step_bytes": max(peaks, default=None),
        "kinds": [
            {
                **kind.as_dict(),
                "networks": used[kind],
                "step_seconds": step_of[kind],
                "timed": step is not None,
                "step_records": batch,
                "timed_records": records,
            }
            for kind, step, batch, records in zip(kinds, steps, batches, answers[0]["records"], strict=True)
        ],
    }


def _held(answer: Mapping[str, Any], device: str) -> int | None:
    """What a worker holds without its records: what the timing held, or what a step of a whole batch must hold.

    On a GPU a step holds memory of that, which is not counted here.
    """
    if device != "cpu":
        return None if answer["resident"] is None else int(answer["resident"])
    if answer["resident"] is None or answer["peak"] is None:
        return None
    return max(int(answer["resident"]), int(answer["idle"]) + int(answer["peak"]))


def _seconds_here(
    prepared: Prepared, left: Mapping[str, int], step_of: Mapping[Kind, float], forward: float
) -> Callable[[NetworkJob], float]:
    """From a network to the seconds that it takes here: its training, and its answers at ``forward`` seconds each."""
    from lacewing.study.estimate._calibrate import Kind

    asked = _asked(prepared)

    def seconds(job: NetworkJob) -> float:
        kind, members = Kind.of(job), _members(prepared, job)
        steps = math.ceil(members * (1 - job.train.holdout) / kind.batch_size)
        answers = asked if job.world is None else members + _asked_of_worlds(prepared)
        return left[job.key] * steps * step_of[kind] + answers * forward

    return seconds


def _there(
    prepared: Prepared,
    declared: Study,
    left: Mapping[str, int],
    costs: dict[Kind, Counted],
    asked: Asked,
) -> dict[str, Any]:
    """The floor on some machines of a kind, each training one network at a time; ``costs`` are kept."""
    from lacewing.study.estimate import _machines
    from lacewing.study.estimate._calibrate import Kind

    name, count, rate = asked
    machine, facts = _machines.MACHINES[name], prepared.facts
    met: dict[Kind, tuple[float, str]] = {}

    def precision(job: NetworkJob) -> str:
        asked = declared.train_of(job.spec).precision
        return "bf16" if asked != "fp32" and job.train.stack == 1 and "bf16" in machine.peaks.flops else "fp32"

    def seconds(job: NetworkJob) -> float:
        plain = replace(Kind.of(job), pruned=False, private="")
        kind, members = replace(plain, precision=precision(job)), _members(prepared, job)
        batch = min(kind.batch_size, members)
        if kind not in costs:
            costs[kind] = _machines.count(kind, prepared.study, facts["shape"], facts["classes"], batch)
        met[kind] = machine.peaks.floor(costs[kind].cost, kind.precision)
        return left[job.key] * math.ceil(members * (1 - job.train.holdout) / batch) * met[kind][0]

    try:
        floor = _makespan(prepared, left, seconds, count)
    except Exception as error:  # a model that cannot be run without values
        return {"machine": name, "count": count, "error": " ".join(f"{type(error).__name__}: {error}".split())}
    hours = [floor * times / 3600 for times in machine.eager]
    return {
        "machine": name,
        "count": count,
        "busy": min(count, len(_tasks(prepared, left))),
        "rate": rate,
        "price": None if rate is None else [each * count * rate for each in hours],
        "held_bytes": max(costs[kind].held for kind in met),
        "memory_bytes": machine.memory,
        "precision": sorted({kind.precision for kind in met}),
        "floor_seconds": floor,
        "seconds": [floor * times for times in machine.eager],
        "times_floor": list(machine.eager),
        "binds": Counter(binds for _, binds in met.values()).most_common(1)[0][0],
    }


def _members(prepared: Prepared, job: NetworkJob | None = None) -> int:
    """The records that a network is trained on, those held out for tuning with them; None: one of the study's split."""
    declared = prepared.study.property
    if job is not None and job.world is not None and declared is not None:
        return declared.records
    first = prepared.slice.networks[0]
    return len(prepared.work.split(first.seed).members(first.role))


def _asked_of_worlds(prepared: Prepared) -> int:
    """How many records a network of [property] is asked that none of its seed is trained on."""
    declared = prepared.study.property
    return 0 if declared is None else round(declared.asked * len(prepared.work.records))


def _asked(prepared: Prepared) -> int:
    """How many answers of a trained network are recorded: outputs, local sensitivity, further queries."""
    study, records = prepared.study, len(prepared.work.records)
    audited = 2 * _members(prepared)
    answers = records + study.signals.draws * audited
    kinds, signals = probe_settings(study, prepared.work.attacks), study.signals
    noisy = len(signals.noise_sizes) * signals.noise_draws * ("noise" in kinds)
    answers += prepared.study.queries() * records * ("queries" in kinds)
    noisy += signals.boundary_queries * ("boundary" in kinds)
    answers += (noisy + _GRADIENT * len({"gradients", "layers"} & {*kinds})) * audited
    return answers + len(prepared.work.population) * ("population" in kinds)


def _tasks(prepared: Prepared, left: Mapping[str, int]) -> list[list[NetworkJob]]:
    """What workers do without a break: the unfinished networks of each sequence, or of a stack of sequences."""
    tasks: dict[str, list[NetworkJob]] = {}
    for sequence in prepared.slice.sequences:
        if missing := [job for job in sequence if job.key in left]:
            tasks.setdefault(sequence[0].stack or sequence[0].key, []).extend(missing)
    return list(tasks.values())


def _makespan(
    prepared: Prepared, left: Mapping[str, int], seconds: Callable[[NetworkJob], float], workers: int
) -> float:
    """Seconds until the last of the workers is done, each taking the longest task that is left."""
    costs = sorted((sum(map(seconds, task)) for task in _tasks(prepared, left)), reverse=True)
    return makespan(costs, workers)


def makespan(costs: Sequence[float], workers: int) -> float:
    """When the last worker ends, if tasks are taken in this order by whoever is free."""
    ends = [0.0] * max(1, min(workers, len(costs)))
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost)
    return max(ends)


def _data_bytes(prepared: Prepared, members: int) -> int:
    """What a worker holds of the data: the data set, the records drawn from it, and those of a network twice.

    Records that stay in their file are not held.
    """
    dataset, records = prepared.work.dataset, prepared.work.records
    if dataset.declared and Path(dataset.name).suffix.lower() == ".npy":
        return 0
    drawn = 0 if records.x is dataset.x else held_bytes(records.x)
    return held_bytes(dataset.x) + drawn + 2 * members * (held_bytes(records.x) // len(records))


def _timed(
    prepared: Prepared, kinds: Sequence[Kind], batches: Sequence[int], count: int, members: int
) -> list[dict[str, Any]]:
    """The answers of ``count`` processes that time the same at the same time."""
    import numpy as np

    work = prepared.work
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample.npz"
        some = slice(0, min(members, max(4 * max(batches), 256)))
        mean, std = work.normalisation
        np.savez(sample, x=work.records.x[some], y=work.records.y[some], mean=mean, std=std)
        setup = {
            "study": prepared.study.as_dict(),
            "sample": str(sample),
            "classes": work.dataset.classes,
            "device": prepared.device,
            "kinds": [kind.as_dict() for kind in kinds],
            "batches": list(batches),
            "seconds": SECONDS,
        }
        begin = time.perf_counter()
        children = [Child("lacewing.study.estimate._calibrate", setup, quiet=True) for _ in range(count)]
        late = threading.Event()
        try:
            with _patience(_START, children, late):
                answers = [_answer(child) for child in children]
            if late.is_set():
                return [{"error": f"{count} process{'es' * (count > 1)} took more than {_START:.0f} s to start"}]
            started = time.perf_counter() - begin
            if not any("error" in answer for answer in answers):
                with _patience(_PATIENCE, children, late):
                    answers = _ask(children, {"go": True})  # now that all have loaded what they need
            if late.is_set():
                return [{"error": f"a step of a few records took more than {_PATIENCE:.0f} s"}]
            return [
                answer if "error" in answer else answer | {"start": answer["start"] + started} for answer in answers
            ]
        finally:
            _kill(children)
            for child in children:
                child.close()


@contextmanager
def _patience(seconds: float, children: Sequence[Child], late: threading.Event) -> Iterator[None]:
    """End the processes after so many seconds, and say so."""

    def give_up() -> None:
        late.set()
        _kill(children)

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill(children: Sequence[Child]) -> None:
    for child in children:
        child.kill()


def _ask(children: Sequence[Child], message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Send a message to all, then wait for the answer of each."""
    for child in children:
        with suppress(BrokenPipeError):  # it ended: its answer says so
            child.send(message)
    return [_answer(child) for child in children]


def _answer(child: Child) -> dict[str, Any]:
    return child.receive() or {"error": f"the process that timed it ended with {child.end()}"}
