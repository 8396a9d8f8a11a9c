"""The functions behind the commands: run or resume a study, status, report, merge, export."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lacewing import models
from lacewing.errors import BudgetSpent, FolderError, UsageError, about_folder, did_you_mean
from lacewing.study import jobs
from lacewing.study import status as _status
from lacewing.study.assemble import assemble
from lacewing.study.auto import apart
from lacewing.study.declared import difference
from lacewing.study.engine import local
from lacewing.study.engine._pool import Event, Outcome, Pool, stop_after
from lacewing.study.engine._progress import Progress, Scalars
from lacewing.study.folder import PLAN, Recorded, claim, damage, read_failed, recorded, unlike, write_failed
from lacewing.study.plan import NetworkJob, Plan
from lacewing.study.prepared import Device
from lacewing.study.prepared import Prepared as Prepared
from lacewing.study.result import Result
from lacewing.study.reuse import available, copy
from lacewing.study.store import Store
from lacewing.support import numbers
from lacewing.support.files import write_atomically
from lacewing.support.locks import hold
from lacewing.support.machine import termination_signals

LONGEST_BUDGET = 10 * 366 * 24 * 3600  # seconds


def run(
    study: str | Path | Mapping[str, Any] = "digits",
    *,
    out: str | Path | None = None,
    budget: float | None = None,
    only: Mapping[str, str] | None = None,
    reuse: str | Path | Iterable[str | Path] = (),
    keep: jobs.Keep = "all",
    device: Device = "auto",
    set: Iterable[str] = (),
    data_root: str | Path | None = None,
    processes: int | None = None,
    engine: Literal["local", "ray"] = "local",
    quiet: bool = False,
    show_records: bool = False,
    tensorboard: str | Path | None = None,
) -> Result:
    """Run a study, or continue it where its folder stands, and write results.csv, tradeoff.json and the report.

    Args:
        study: a built-in name, a TOML file, or a mapping with the same fields.
        out: the run folder; ``runs/<name>`` if not given.
        budget: seconds, at most ten years, after which work stops cleanly: training at an epoch's end, questions
            between networks.
        only: train a slice, e.g. ``{"role": "target", "seed": "0"}``.
        reuse: other run folders, from which finished networks and attacks of the same recipe are copied.
        keep: "signals" drops weights as soon as nothing planned needs them.
        device: "auto" takes a CUDA device if there is one.
        set: changes to the study, ``"train.epochs=10"``.
        data_root: where data sets lie.
        processes: workers; by default one a core, or as many as the cluster has room for.
        engine: "local", or "ray": workers on the cluster at the environment's ``RAY_ADDRESS``.
        quiet: no progress on standard error.
        show_records: let the report list ids and scores of the most vulnerable records, which are private data.
        tensorboard: a folder for loss and accuracy of every network and epoch, as TensorBoard reads them; needs the
            extra ``tensorboard``.

    Returns:
        Networks, attacks and trade-off; ``failed`` names what could not be done.

    Raises:
        UsageError: the study, the data or the folder is not right.
        BudgetSpent: the budget is spent, or SIGTERM came; call again to continue.
    """
    processes = numbers.processes(processes)
    budget = None if budget is None else numbers.number("budget", budget, 0, LONGEST_BUDGET, why="in seconds")
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine}: {did_you_mean(engine, ('local', 'ray'))}")
    scalars = Scalars(Path(tensorboard)) if tensorboard is not None else None
    elsewhere = engine == "ray"
    prepared = Prepared(
        study, out=out, only=only, reuse=reuse, device=device, set=set, data_root=data_root, elsewhere=elsewhere
    )
    folder = prepared.folder
    _writable(folder)
    with hold(folder) as token, about_folder(folder):
        prepared.claim()
        prepared.store.tidy()
        prepared.take_over(keep)
        listeners = [listener for listener in (None if quiet else _progress(prepared), scalars) if listener]
        pool = partial(_pool, prepared, token, engine, keep=keep, processes=processes)
        outcome, terminated = _do_jobs(prepared, pool, listeners, budget)
        if not outcome.stopped:
            _drop_stale(prepared)
        write_failed(folder, outcome.failed)
        result = assemble(folder, prepared.recorded, show_records=show_records)
        if outcome.stopped and result.missing:
            why = "SIGTERM" if terminated else "the budget is spent"
            raise BudgetSpent(f"{why}: the state is saved under {folder}; the same command continues.")
        return result


def _do_jobs(
    prepared: Prepared,
    pool: Callable[..., AbstractContextManager[Pool]],
    listeners: Sequence[Progress | Scalars],
    budget: float | None,
) -> tuple[Outcome, bool]:
    """Do the jobs that are not done; how that ended, and whether a signal asked for the end.

    Args:
        prepared: its folder is claimed.
        pool: from a function that takes events to the pool that calls it.
        listeners: take the notes and every event, and are closed at the end.
        budget: seconds until the pool is asked to stop.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped the jobs; their state is saved.
        BaseException: what ended the study, see ``Outcome.fatal``.
    """

    def on_event(event: Event) -> None:
        for listener in listeners:
            listener(event)

    for note in prepared.notes:
        on_event({"event": "note", "message": note, "jobs": []})
    try:
        with pool(on_event=on_event) as opened, _signals(opened.stop) as caught, stop_after(opened, budget):
            outcome = opened.run(prepared.slice)
    finally:
        for listener in listeners:
            listener.close()
    if outcome.failed or outcome.fatal is not None:  # a file that was cut short ends the processes that read it
        prepared.work.check_data()
    if outcome.fatal is not None:
        raise outcome.fatal
    if signal.SIGINT in caught:
        raise KeyboardInterrupt
    return outcome, bool(caught)


def _drop_stale(prepared: Prepared) -> None:
    """Remove saved states of finished networks, which a run that is killed as it publishes leaves behind."""
    for job in prepared.slice.networks:
        if jobs.finished(prepared.store, job):
            prepared.store.drop_work(job.key)


def _progress(prepared: Prepared) -> Progress:
    """The view of a run that starts, or goes on from what is finished and saved."""
    store, networks = prepared.store, prepared.slice.networks
    attacks = [job for job in prepared.slice.readers if not jobs.attacked(store, job)]
    trained = {job.key for job in networks if jobs.trained(store, job)}
    reached = jobs.reached(prepared.slice.sequences, trained, dict(store.unfinished()))
    begun = {job.id: reached[job.key][0] for job in networks}
    return Progress(sum(epochs for _, epochs in reached.values()), len(attacks), begun=begun)


@contextmanager
def _pool(
    prepared: Prepared,
    token: str,
    engine: str,
    *,
    keep: jobs.Keep,
    processes: int | None,
    on_event: Callable[[Event], None],
) -> Iterator[Pool]:
    common: dict[str, Any] = {"device": prepared.device, "keep": keep, "on_event": on_event}
    if engine == "local":
        count = processes or local.default_processes(prepared.device)
        yield local.pool(
            prepared.study,
            prepared.folder,
            token,
            handed=prepared.work.handed_on(),
            data_root=prepared.data_root,
            processes=count,
            **common,
        )
    else:
        from lacewing.study.engine import ray

        with ray.pool(
            prepared.study,
            prepared.folder,
            prepared.plan,
            handed=prepared.work.handed_on(),
            dataset=prepared.work.dataset,
            processes=processes,
            **common,
        ) as pool:
            yield pool


def plan_table(study: str | Path | Mapping[str, Any] = "digits", **options: Any) -> list[dict[str, Any]]:
    """What ``run`` with the same arguments would train: a dict per network, nothing written.

    Keys: name, method, role, seed, init, parameters, nonzero, density and density_prunable (exact, before any
    training), epochs, done.
    """
    prepared = Prepared(study, **options)
    prepared.check_folder()
    return prepared.table()


def status(folder: str | Path) -> dict[str, Any]:
    """How far a run folder is, also while a study runs there. Imports no user code.

    Keys: ``study``; ``running``, whether a run holds the folder; ``networks``, ``attacks``, ``epochs``, each
    ``{"planned", "done"}``; ``methods``, networks by method, likewise; ``in_work``, a dict per network with saved state
    (``job``, ``epoch``, ``epochs``, ``saved``, and ``age`` in seconds); ``seconds_to_go``, rough and of the networks
    alone, None before the first state is saved; ``failed``, a sentence per failed job;
    ``damaged``, the files that are lost or damaged.

    Raises:
        FolderError: there is no run folder, or of another schema.
    """
    return _status.status(Path(folder))


def report(folder: str | Path, *, show_records: bool = False) -> Result:
    """Write results.csv, tradeoff.json and the report of a run folder again. Imports no user code.

    ``show_records`` lets the report list ids and scores of the most vulnerable records, which are private data.
    """
    return assemble(Path(folder), recorded(Path(folder)), show_records=show_records)


def merge(out: str | Path, folders: Sequence[str | Path]) -> Result:
    """Join slices of one study into ``out``: every finished job, its digests checked, then results and report.

    Raises:
        FolderError: a folder is of another study.
        UsageError: no folder to join.
    """
    if not folders:
        raise UsageError("merge: name at least one folder to join, as in `lacewing merge OUT DIR DIR`.")
    target = Path(out)
    places = [Path(f) for f in folders] + ([target] if (target / PLAN).exists() else [])
    known = _common({place: recorded(place) for place in places})
    store, sources = Store(target), {place: Store(place) for place in places if place != target}
    with hold(target), about_folder(target):
        claim(target, known)
        store.tidy()
        failed = {sentence for place in places for sentence in read_failed(place)}
        copy(store, available(store, known.plan, [*sources.values()], weights=False))
        failed |= _run_attacks(store, known.plan, failed)
        write_failed(target, sorted(failed))
        lost = [
            f"{place}: {each}" for place, source in sources.items() for each in damage(source, known.study, known.plan)
        ]
        return assemble(target, known, elsewhere=lost)


def _common(slices: Mapping[Path, Recorded]) -> Recorded:
    """The study that all slices are of. Where one declared its questions late, so did the whole.

    Raises:
        FolderError: a folder is of another study than the first one.
    """
    (first, known), *others = slices.items()
    study, plan, facts = known
    for place, (other, _, other_facts) in others:
        found = (
            apart(study, other) or difference(study, other) or difference(other, study) or unlike(facts, other_facts)
        )
        if found:
            raise FolderError(f"{place} is not of the same study as {first}: {found}.")
        if (other_facts.get("declaration") or {}).get("late"):
            facts = {**facts, "declaration": other_facts["declaration"]}
    here = {name: value for name, value in facts.items() if name != "data_root"}  # of the machine of one slice
    return Recorded(study, plan, here)


def _run_attacks(store: Store, plan: Plan, before: Collection[str]) -> set[str]:
    """Run the attacks whose networks are in one folder only now.

    Returns:
        A sentence for each attack that fails, but for those about which ``before`` has one.
    """
    failed = set()
    for job in plan.readers:
        if not jobs.attacked(store, job) and all(jobs.finished(store, network) for network in job.networks):
            try:
                jobs.run_attack(store, job)
            except UsageError as error:
                if not any(sentence.startswith(f"{job.id}: ") for sentence in before):
                    failed.add(f"{job.id}: {error}")
    return failed


def export(folder: str | Path, network: str, to: str | Path) -> Path:
    """Write a network as an ordinary checkpoint or an ONNX model: zeros in place, butterfly layers composed.

    Both take standardised records, as in training: the run folder does not hold the mean and standard deviation. Of a
    study of token ids they take the ids, in ONNX as int64.

    Args:
        folder: the run folder.
        network: ``imp-03`` (target, lowest seed), ``imp-03/shadow/1`` or anything between.
        to: the file to write. ``.safetensors``: the weights, for the plain torch model. ``.onnx`` (needs the extra
            ``onnx``): the model in evaluation mode, from ``x`` float32 (batch, *shape of a record) to ``logits``.

    Raises:
        UsageError: no such network, it is not trained yet, or its weights were dropped; for ONNX: the extra is not
            installed, or torch cannot translate the model.
        FolderError: for ONNX: the source of the study's factory is not the one that the network was trained with.
    """
    path = Path(to)
    if path.suffix not in (".safetensors", ".onnx"):
        raise UsageError(f"--to {path}: the file must end in .safetensors or .onnx.")
    study, plan, facts = recorded(Path(folder))
    store = Store(Path(folder))
    job = _exportable(store, plan, network)
    shape, classes = tuple(facts["shape"]), int(facts["classes"])
    metadata = {"network": job.id, "study": study.name}
    if path.suffix == ".onnx":
        from lacewing.study.onnx import to_onnx

        trained_with = facts.get("models", {}).get(job.entry, facts["model"])
        if models.fingerprint(job.model) != {k: v for k, v in trained_with.items() if k != "fit"}:
            raise FolderError(
                f"the source of {models.field_of(job.model)} has changed since {job.id} was trained; restore it, or "
                "export to .safetensors."
            )
        metadata["inputs"] = "standardised: (x - mean) / std by channel or feature, over the study's records"
        if study.of_tokens():
            metadata["inputs"] = "token ids, int64"
        model = jobs.plain_model(store, job, shape=shape, classes=classes)
        content = to_onnx(model, shape, metadata, tokens=study.of_tokens())
    else:
        from safetensors.torch import save

        content = save(jobs.plain_state(store, job, shape=shape, classes=classes), metadata)
    write_atomically(path, content)
    return path


def _exportable(store: Store, plan: Plan, network: str) -> NetworkJob:
    """The network of that name, role and seed, the first of those that a shorter name leaves open.

    Raises:
        UsageError: there is no such network, it is not trained yet, or its weights are gone.
    """
    name, *place = network.split("/")
    found = [j for j in plan.audited if j.network == name and [j.role, j.repeat][: len(place)] == place]
    if not found or len(place) > 2:
        known = {j.network for j in plan.audited} if not place else {j.id for j in plan.audited}
        raise UsageError(f"no network '{network}' in {store.folder}; {did_you_mean(network, known)}")
    job = found[0]
    if not jobs.finished(store, job):
        raise UsageError(f"{job.id} is not trained yet; continue the study with `lacewing run`.")
    if store.file(job.key, "model.safetensors") is None:
        raise UsageError(f"the weights of {job.id} were dropped or altered; run the study again with --keep all.")
    return job


def _writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write into {folder}; give --out another folder.")


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[set[int]]:
    """SIGTERM and the first Ctrl-C stop cleanly; a second Ctrl-C interrupts at once. Yields what was caught."""
    caught: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def on_signal(number: int, _: object) -> None:
        if number in caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            print("stopping at the end of this epoch; Ctrl-C again to stop at once", file=sys.stderr)
        caught.add(number)
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, *termination_signals())}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
